import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from gptmodel import networks, optim
from gptmodel.batches import batch, check_context
from gptmodel.errors import UserError
from gptmodel.params import BigramNetwork, Training
from gptmodel.training import Evaluation, train
from tests.networks_for_tests import CONFIGS, CONTEXT, VOCAB_SIZE

CPU = torch.device("cpu")
CONFIG = Training(
    steps=40,
    batch_size=8,
    learning_rate=3e-3,
    warmup_steps=4,
    final_learning_rate=3e-4,
    weight_decay=0.1,
    beta2=0.99,
    gradient_clip=1.0,
    evaluate_every=20,
)
IDS = (np.cumsum(np.random.default_rng(0).integers(1, 4, 3000)) % VOCAB_SIZE).astype(np.uint16)
TRAIN, VALIDATION = IDS[:2500], IDS[2500:]
SPLITS = {"train": TRAIN, "validation": VALIDATION}


def run(kind: str = "modern", dropout: float = 0.2, **changes: Any) -> tuple[list[Evaluation], bytes]:
    config = CONFIG.model_copy(update=changes)
    torch.manual_seed(5)
    network = networks.build(CONFIGS[kind].model_copy(update={"dropout": dropout}), VOCAB_SIZE)
    evaluations = list(train(network, SPLITS, config, seed=5, device=CPU))
    weights = networks.weights(network)
    return evaluations, b"".join(weights[name].numpy().tobytes() for name in sorted(weights))


def test_the_same_seed_gives_the_same_bytes() -> None:
    (first, first_weights), (again, again_weights) = run(), run()
    assert first_weights == again_weights
    assert [replace(e, tokens_per_second=0) for e in first[1:]] == [replace(e, tokens_per_second=0) for e in again[1:]]


def test_how_often_one_evaluates_leaves_the_weights_identical() -> None:
    assert run(evaluate_every=20)[1] == run(evaluate_every=7)[1]


def test_evaluations_come_at_the_start_at_every_interval_and_at_the_end() -> None:
    evaluations, _ = run(evaluate_every=15)
    assert [e.step for e in evaluations] == [0, 15, 30, 40]
    assert [e.tokens for e in evaluations] == [step * 8 * CONTEXT for step in (0, 15, 30, 40)]
    lowest = math.inf
    for e in evaluations:
        assert e.is_best == (e.validation_nats < lowest)
        lowest = min(lowest, e.validation_nats)


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_every_network_learns(kind: str) -> None:
    evaluations, _ = run(kind, dropout=0.0, learning_rate=1e-2) if kind != "bigram" else run_bigram(60)
    assert evaluations[0].validation_nats / len(VALIDATION) == pytest.approx(math.log(VOCAB_SIZE), abs=0.1)
    assert evaluations[-1].validation_nats < 0.75 * evaluations[0].validation_nats


def run_bigram(steps: int) -> tuple[list[Evaluation], networks.LanguageModel]:
    config = CONFIG.model_copy(update={"steps": steps, "learning_rate": 0.1, "batch_size": 64, "weight_decay": 0.0})
    network = networks.build(BigramNetwork(network="bigram", context=CONTEXT), VOCAB_SIZE)
    return list(train(network, SPLITS, config, seed=1, device=CPU)), network


def test_the_trained_bigram_lands_on_the_counted_one() -> None:
    _, network = run_bigram(400)
    counts = np.zeros((VOCAB_SIZE, VOCAB_SIZE))
    np.add.at(counts, (TRAIN[:-1], TRAIN[1:]), 1)
    counted = -np.log((counts[TRAIN[:-1], TRAIN[1:]]) / counts.sum(1)[TRAIN[:-1]]).mean()
    with torch.inference_mode():
        logits, _ = network(torch.from_numpy(TRAIN[:-1].astype(np.int64)).unsqueeze(0))
        learned = torch.nn.functional.cross_entropy(logits[0], torch.from_numpy(TRAIN[1:].astype(np.int64)))
    assert float(learned) == pytest.approx(counted, abs=0.02)


def test_a_training_that_diverges_stops_with_one_line() -> None:
    with pytest.raises(UserError, match=r"diverged.*lower learning_rate"):
        run(learning_rate=1e30, gradient_clip=1e30, weight_decay=0.0)


def test_a_batch_is_a_pure_function_of_seed_and_step() -> None:
    def draw(seed: int, step: int) -> bytes:
        return batch(TRAIN, seed, step, 4, CONTEXT)[0].tobytes()

    assert draw(1, 2) == draw(1, 2)
    assert len({draw(1, 2), draw(1, 3), draw(2, 2), draw(2, 1)}) == 4


def test_batches_are_windows_of_the_text_that_reach_both_ends() -> None:
    ids = np.arange(CONTEXT + 3, dtype=np.uint16)
    starts = set()
    for step in range(50):
        x, y = batch(ids, 0, step, 4, CONTEXT)
        assert (np.diff(x) == 1).all()
        assert (y == x + 1).all()
        starts.update(x[:, 0].tolist())
    assert starts == {0, 1, 2}


def test_a_context_longer_than_a_split_is_refused_by_name() -> None:
    check_context(CONTEXT, {"train": TRAIN, "test": TRAIN[:0]}, "gpt-char")  # an empty split is not used
    with pytest.raises(UserError, match=r"models.gpt-char.context: 12 .* validation split \(12 tokens\)"):
        check_context(CONTEXT, {"train": TRAIN, "validation": TRAIN[:12]}, "gpt-char")


def test_learning_rate_rises_then_falls_to_its_final_value() -> None:
    rates = [optim.learning_rate(step, CONFIG) for step in range(CONFIG.steps)]
    assert rates.index(max(rates)) == CONFIG.warmup_steps
    assert max(rates) == pytest.approx(CONFIG.learning_rate)
    assert rates[-1] == pytest.approx(CONFIG.final_learning_rate)
    assert all(a < b for a, b in pairwise(rates[:5]))
    assert all(a > b for a, b in pairwise(rates[4:]))


def test_only_matrices_decay() -> None:
    network = networks.build(CONFIGS["classic"], VOCAB_SIZE)
    decayed, kept = optim.adamw(network, CONFIG).param_groups
    assert decayed["weight_decay"] == CONFIG.weight_decay
    assert kept["weight_decay"] == 0
    assert all(p.dim() == 2 for p in decayed["params"])
    assert all(p.dim() == 1 for p in kept["params"])
    assert len(decayed["params"]) + len(kept["params"]) == len(list(network.parameters()))
