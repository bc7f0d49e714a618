"""A training that goes on from a state on disk ends in the bytes of one that never stopped, whatever happened before.

test_training.py proves the loop itself; here are its state and the events that a state must remember.
"""

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gptmodel.errors import UserError
from gptmodel.model import networks
from gptmodel.training import step as steps
from gptmodel.training.saved_states import Store
from gptmodel.training.trainer import Evaluation, Trainer, Unwatched
from tests.support.training import MUON, Stop, Stopper, contents, trainer

STEPS = 24
VALUES: dict[str, Any] = {"steps": STEPS, "evaluate_every": 8}
NAMED = r"^step 12: the gradient is not finite"


class Keeper(Unwatched):
    """A watcher that saves the state at some steps, as the stage does."""

    def __init__(self, store: Store, at: Iterable[int]) -> None:
        self._store, self._at = store, set(at)

    def stepped(self, trainer: Trainer, note: str) -> None:
        if trainer.step in self._at:
            self._store.save(trainer.step, *trainer.state())


def store(folder: Path) -> Store:
    return Store(folder, 100, pytest.fail)


def end(trained: Trainer) -> tuple[bytes, dict[str, Any]]:
    """Return all that a trained network, its optimizer and its counters are, but for times."""
    tensors, facts = trained.state()
    return contents(tensors), {name: value for name, value in facts.items() if name != "seconds"}


def timeless(evaluations: Iterable[Evaluation]) -> str:
    """Return evaluations without their speeds, for comparison (NaN equals itself)."""
    return repr([replace(evaluation, tokens_per_second=0) for evaluation in evaluations])


def go_on(folder: Path, step: int, **values: Any) -> Trainer:
    """Return a trainer, whose network was drawn differently, at a saved state."""
    fresh = trainer(**values)
    with torch.no_grad():
        for parameter in fresh.network.parameters():
            parameter.add_(1.0)
    for path in folder.glob("step-*.safetensors"):
        if int(path.stem.removeprefix("step-")) > step:
            path.unlink()
    state = store(folder).load()
    assert state is not None
    assert state.step == step
    fresh.load(state.tensors, state.facts)
    return fresh


@pytest.mark.parametrize(
    ("kind", "muon", "windows"),
    [
        ("bigram", 0.0, "shuffled"),
        ("classic", 0.0, "random"),
        ("modern", 0.0, "shuffled"),
        ("classic", MUON, "shuffled"),
        ("classic-relu-untied", MUON, "random"),
        ("modern", MUON, "random"),
        ("modern-plain-tied", MUON, "shuffled"),
    ],
)
def test_a_state_on_disk_is_all_that_the_rest_of_a_training_depends_on(
    tmp_path: Path, kind: str, muon: float, windows: str
) -> None:
    """Before the first step, in the warm-up, before an evaluation, in the middle, after the last step."""
    values = {**VALUES, "kind": kind, "muon_learning_rate": muon, "windows": windows}
    moments = [0, 1, 8, 15, STEPS]
    whole = trainer(**values)
    store(tmp_path).save(0, *whole.state())
    evaluations = list(whole.run(Keeper(store(tmp_path), moments)))
    for step in reversed(moments):
        resumed = go_on(tmp_path, step, **values)
        assert timeless(resumed.run()) == timeless(e for e in evaluations if e.step >= step)
        assert end(resumed) == end(whole)


def poison(network: nn.Module, trained: Trainer, step: int, factor: float) -> None:
    """Make the last parameter's gradient of one step NaN or infinite."""
    *_, parameter = network.parameters()
    parameter.register_hook(lambda g: g * factor if trained.step == step else g)  # type: ignore[no-untyped-call]


def poisoned(step: int, factor: float = math.nan, **values: Any) -> Trainer:
    trained = trainer(**values)
    poison(trained.network, trained, step, factor)
    return trained


def of(trained: Trainer, *prefixes: str) -> dict[str, Tensor]:
    tensors, _ = trained.state()
    return {name: tensor.clone() for name, tensor in tensors.items() if name.startswith(prefixes)}


@pytest.mark.parametrize("factor", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("muon", [0.0, MUON])
def test_a_skipped_step_changes_no_weight_and_no_moment(muon: float, factor: float) -> None:
    values = {**VALUES, "muon_learning_rate": muon, "skip": True}
    before = trainer(**values)
    with pytest.raises(Stop):
        list(before.run(Stopper(12)))
    after = poisoned(12, factor, **values)
    with pytest.raises(Stop):
        list(after.run(Stopper(13)))
    names = ("network/", "optimizer/")
    assert contents(of(before, *names)) == contents(of(after, *names))
    evaluations = list(after.run())
    assert all(torch.isfinite(tensor).all() for tensor in of(after, *names).values())
    assert math.isfinite(evaluations[-1].validation_nats)


def test_a_skipped_step_does_not_count_in_the_training_loss() -> None:
    each = [e.train_loss_nats for e in poisoned(12, **VALUES | {"evaluate_every": 1}, skip=True).run()]
    some = [e.train_loss_nats for e in poisoned(12, **VALUES, skip=True).run()]
    assert math.isnan(each[13])  # of step 12 alone
    taken = [loss for loss in each[9:17] if not math.isnan(loss)]
    assert some[2] == pytest.approx(sum(taken) / 7, rel=1e-6)


def test_a_training_with_a_skipped_step_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    values = {**VALUES, "muon_learning_rate": MUON, "skip": True}
    whole = poisoned(12, **values)
    list(whole.run(Keeper(store(tmp_path), [14])))
    resumed = go_on(tmp_path, 14, **values)
    list(resumed.run())
    assert end(resumed) == end(whole)


def test_a_bad_step_that_nobody_looked_at_before_the_save_still_stops_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU one looks every few steps; a kill in between must not turn `stop` into `skip`."""
    monkeypatch.setattr(Trainer, "_is_time_to_look", lambda self: self.step % 10 == 0)
    hit = poisoned(12, **VALUES)
    with pytest.raises(UserError, match=NAMED):
        list(hit.run(Keeper(store(tmp_path), [14])))
    assert hit.step == 20
    with pytest.raises(UserError, match=NAMED):
        list(go_on(tmp_path, 14, **VALUES).run())


class Memory:
    """Lets a forward pass of trainers made from now on fail on more than so many windows."""

    def __init__(self, windows: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.windows, self._real = windows, steps.window_loss
        monkeypatch.setattr(steps, "window_loss", self.window_loss)

    def window_loss(self, network: networks.LanguageModel, x_BT: Tensor, *rest: Any) -> Tensor:
        if len(x_BT) > self.windows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return self._real(network, x_BT, *rest)


@pytest.mark.parametrize(("dtype", "muon", "tolerance"), [(torch.float32, 0.0, 1e-5), (torch.float64, MUON, 1e-10)])
def test_smaller_pieces_are_the_same_training(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, muon: float, tolerance: float
) -> None:
    values = {**VALUES, "dtype": dtype, "dropout": 0.0, "muon_learning_rate": muon}
    whole = trainer(**values)
    list(whole.run())
    Memory(3, monkeypatch)
    said: list[str] = []
    pieces = trainer(**values, said=said)
    list(pieces.run())
    assert said == [
        f"out of memory: {windows} windows at a time from step 0 on, same batch per step" for windows in (4, 2)
    ]
    for name, tensor in of(whole, "network/").items():
        torch.testing.assert_close(of(pieces, name)[name], tensor, rtol=0, atol=tolerance)


def test_the_size_of_the_pieces_survives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With dropout, whose masks depend on the pieces; and nobody runs out of memory again to find that out."""
    said: list[str] = []
    memory = Memory(8, monkeypatch)
    whole = trainer(**VALUES, said=said)
    for _ in whole.run(Keeper(store(tmp_path), [16])):
        memory.windows = 8 if whole.step == 0 else 2  # something else takes the memory at step 8
    assert [line.split(" from ")[1][:6] for line in said] == ["step 8", "step 8"]
    resumed = go_on(tmp_path, 16, **VALUES, said=said)
    assert resumed.micro_batch == 2
    list(resumed.run())
    assert len(said) == 2
    assert end(resumed) == end(whole)
