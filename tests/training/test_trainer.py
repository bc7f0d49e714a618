"""Laws of the training loop: the same bytes every time, stopped or not, and nothing that is not finite gets in."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from gptmodel.errors import UserError
from gptmodel.model import networks
from gptmodel.params import BigramNetwork
from gptmodel.training.batches import Windows
from gptmodel.training.distributed import World
from gptmodel.training.step import MicroBatch, Step
from gptmodel.training.trainer import Evaluation, Trainer
from tests.support.networks import CONTEXT, GPT_KINDS, VOCAB_SIZE
from tests.support.training import MUON, SPLITS, Stop, Stopper, contents, saved, trainer, weights

TRAIN, VALIDATION = SPLITS["train"], SPLITS["validation"]


def run(kind: str = "modern", **changes: Any) -> tuple[list[Evaluation], bytes]:
    trained = trainer(kind, **changes)
    evaluations = list(trained.run())
    return evaluations, weights(trained)


def timeless(evaluations: list[Evaluation]) -> str:
    """Return the evaluations without their speeds, for comparison (NaN equals itself)."""
    return repr([replace(evaluation, tokens_per_second=0) for evaluation in evaluations])


@pytest.mark.parametrize("muon", [0.0, MUON])
def test_the_same_seed_gives_the_same_bytes(muon: float) -> None:
    (first, first_weights), (again, again_weights) = run(muon_learning_rate=muon), run(muon_learning_rate=muon)
    assert first_weights == again_weights
    assert timeless(first) == timeless(again)


def test_how_often_one_evaluates_leaves_the_weights_identical() -> None:
    assert run(evaluate_every=20)[1] == run(evaluate_every=7)[1]


def test_evaluations_come_at_the_start_at_every_interval_and_at_the_end() -> None:
    evaluations, _ = run(evaluate_every=15)
    assert [e.step for e in evaluations] == [0, 15, 30, 40]
    assert [e.tokens for e in evaluations] == [step * 8 * CONTEXT for step in (0, 15, 30, 40)]
    assert [math.isnan(e.train_loss_nats) for e in evaluations] == [True, False, False, False]
    lowest = math.inf
    for e in evaluations:
        assert e.is_best == (e.validation_nats < lowest)
        lowest = min(lowest, e.validation_nats)


def test_the_training_loss_is_the_mean_over_the_steps_since_the_evaluation_before() -> None:
    each = [e.train_loss_nats for e in run(evaluate_every=1)[0][1:]]
    some = [e.train_loss_nats for e in run(evaluate_every=10)[0][1:]]
    assert some == pytest.approx(np.reshape(each, (4, 10)).mean(axis=1).tolist(), rel=1e-6)


@pytest.mark.parametrize(
    ("kind", "init", "muon"),
    [*((kind, "gpt2", muon) for kind in GPT_KINDS for muon in (0.0, MUON)), ("modern", "zero", MUON)],
)
def test_every_network_learns(kind: str, init: str, muon: float) -> None:
    evaluations, _ = run(kind, dropout=0.0, learning_rate=1e-2, muon_learning_rate=muon, init=init)
    assert evaluations[0].validation_nats / len(VALIDATION) == pytest.approx(math.log(VOCAB_SIZE), abs=0.1)
    assert evaluations[-1].validation_nats < 0.75 * evaluations[0].validation_nats


@pytest.mark.parametrize("windows", ["shuffled", "random"])
def test_the_trained_bigram_lands_on_the_counted_one(windows: str) -> None:
    trained = trainer("bigram", steps=400, learning_rate=0.1, batch_size=64, weight_decay=0.0, windows=windows)
    assert isinstance(trained.network.config, BigramNetwork)
    list(trained.run())
    counts = np.zeros((VOCAB_SIZE, VOCAB_SIZE))
    np.add.at(counts, (TRAIN[:-1], TRAIN[1:]), 1)
    counted = -np.log((counts[TRAIN[:-1], TRAIN[1:]]) / counts.sum(1)[TRAIN[:-1]]).mean()
    with torch.inference_mode():
        logits, _ = trained.network(torch.from_numpy(TRAIN[:-1].astype(np.int64)).unsqueeze(0))
        learned = torch.nn.functional.cross_entropy(logits[0], torch.from_numpy(TRAIN[1:].astype(np.int64)))
    assert float(learned) == pytest.approx(counted, abs=0.02)


@pytest.mark.parametrize(("step", "muon"), [(20, MUON), (40, 0.0)])
def test_a_training_that_is_stopped_in_an_evaluation_goes_on_to_the_same_bytes(step: int, muon: float) -> None:
    values: dict[str, Any] = {"muon_learning_rate": muon, "evaluate_every": 5}
    whole = trainer(**values)
    expected = list(whole.run())
    stopped = trainer(**values)
    evaluations = list(until_stopped(stopped.run(Stopper(step, in_evaluation=True))))
    assert evaluations[-1].step == step - 5
    tensors, facts = saved(stopped)
    resumed = trainer(**values)
    resumed.load(tensors, facts)
    assert saved(resumed)[1] == facts
    evaluations += resumed.run()
    assert timeless(evaluations) == timeless(expected)
    assert contents(saved(resumed)[0]) == contents(saved(whole)[0])


def until_stopped(evaluations: Iterator[Evaluation]) -> Iterator[Evaluation]:
    """Yield what comes before the stop, which must come."""
    with pytest.raises(Stop):
        yield from evaluations


def poison(trained: Trainer, step: int) -> None:
    """Make one gradient of one step infinite."""
    parameter = next(trained.network.parameters())
    parameter.register_hook(lambda g: g * math.inf if trained.step == step else g)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("muon", [0.0, MUON])
def test_a_gradient_that_is_not_finite_never_reaches_the_weights(muon: float) -> None:
    before = trainer(muon_learning_rate=muon)
    with pytest.raises(Stop):
        list(before.run(Stopper(7)))
    hit = trainer(muon_learning_rate=muon)
    poison(hit, 7)
    with pytest.raises(UserError, match=r"^step 7: .*not finite; the weights were not touched: lower learning_rate"):
        list(hit.run())
    assert contents(saved(hit)[0]) == contents(saved(before)[0])


def test_a_step_can_be_skipped_and_is_named() -> None:
    said: list[str] = []
    trained = trainer(skip=True, said=said, muon_learning_rate=MUON, dropout=0.0)
    poison(trained, 7)
    evaluations = list(trained.run())
    assert said == ["step 7 skipped: its gradient is not finite"]
    assert evaluations[-1].validation_nats < 0.9 * evaluations[0].validation_nats


@pytest.mark.parametrize("muon", [0.0, 1e30])
def test_a_training_that_diverges_stops_with_one_line(muon: float) -> None:
    with pytest.raises(UserError, match=r"lower learning_rate") as caught:
        run(learning_rate=1e30, muon_learning_rate=muon, gradient_clip=1e30, weight_decay=0.0)
    assert "\n" not in str(caught.value)


def out_of_memory_above(windows: int, monkeypatch: pytest.MonkeyPatch, error: RuntimeError) -> None:
    """Let a backward pass fail on more than these windows, after it has left a part of a gradient."""
    real = Step.backward

    def backward(step: Step, starts: torch.Tensor) -> None:
        real(step, starts[:windows])
        if len(starts) > windows:
            raise error

    monkeypatch.setattr(Step, "backward", backward)


def test_what_a_failed_pass_left_behind_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU, whose allocator has no error class of its own."""
    values: dict[str, Any] = {"dtype": torch.float64, "dropout": 0.0, "batch_size": 7, "muon_learning_rate": MUON}
    whole = trainer(**values)
    expected = list(whole.run())
    said: list[str] = []
    halved = trainer(**values, said=said)
    out_of_memory_above(2, monkeypatch, RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"))
    found = list(halved.run())
    assert [line.split(":")[1].split(" at")[0] for line in said] == [" 4 windows", " 2 windows"]
    assert [e.train_loss_nats for e in found[1:]] == pytest.approx([e.train_loss_nats for e in expected[1:]], abs=1e-10)
    for name, tensor in networks.weights(whole.network).items():
        torch.testing.assert_close(networks.weights(halved.network)[name], tensor, rtol=0, atol=1e-10)


def test_the_state_that_rank_0_saves_fits_every_rank() -> None:
    facts = [saved(trainer(batch_size=7, world=World(rank, 2, rank)))[1] for rank in (0, 1)]
    assert facts[0] == facts[1] == saved(trainer(batch_size=7))[1]


def test_too_little_memory_for_one_window_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    out_of_memory_above(0, monkeypatch, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(UserError, match="out of memory with a single window: lower context"):
        run()


def test_another_error_is_not_taken_for_a_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    out_of_memory_above(2, monkeypatch, RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        run()


def test_windows_and_dropout_of_a_step_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, seeds = [], []
    real = Step.take

    def take(step: Step, number: int, batches: list[MicroBatch], rate: float) -> None:
        [batch] = batches
        taken.append(batch.starts.tolist())
        seeds.append(batch.seed)
        real(step, number, batches, rate)

    monkeypatch.setattr(Step, "take", take)
    run(steps=6, batch_size=50, windows="shuffled")
    windows = Windows(len(TRAIN), CONTEXT, batch_size=50, seed=5, order="shuffled")
    assert taken == [windows.starts(step).tolist() for step in range(6)]
    assert len(set(seeds)) == 6
