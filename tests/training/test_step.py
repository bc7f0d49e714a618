"""Laws of one optimizer step, eager, compiled and as a CUDA graph."""

import math
import shutil
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gptmodel.model import networks
from gptmodel.training.precision import COMPILERS, Numerics
from gptmodel.training.step import MicroBatch, Step, window_loss
from gptmodel.training.trainer import ALONE
from tests.support.networks import CONTEXT, build
from tests.support.training import CONFIG, EAGER, MUON, SPLITS, contents, saved, trainer, weights

TEXT = torch.from_numpy(SPLITS["train"].astype(np.int32))


def step(kind: str = "modern", **changes: Any) -> tuple[networks.LanguageModel, Step]:
    network = build(kind).double().train()
    return network, Step(network, TEXT, CONFIG.model_copy(update=changes), EAGER, ALONE)


def test_the_loss_is_the_mean_over_the_global_batch() -> None:
    network = build("modern").requires_grad_(False)
    x_BT, y_BT = TEXT[:24].view(2, 12).long(), TEXT[1:25].view(2, 12).long()
    mean = F.cross_entropy(network(x_BT)[0].flatten(0, 1), y_BT.flatten())
    assert float(window_loss(network, x_BT, y_BT, EAGER, tokens=24)) == pytest.approx(float(mean))
    parts = [float(window_loss(network, x_BT[row : row + 1], y_BT[row : row + 1], EAGER, 24)) for row in (0, 1)]
    assert sum(parts) == pytest.approx(float(mean))


def test_pieces_of_a_batch_give_the_gradient_of_the_batch() -> None:
    starts = np.array([0, 500, 7, 1000, 40], dtype=np.int64)
    (whole_network, whole), (pieces_network, pieces) = step(), step()
    for number in range(3):
        whole.take(number, [MicroBatch(starts + number, 1)], rate=1.0)
        pieces.take(number, [MicroBatch(starts[:2] + number, 1), MicroBatch(starts[2:] + number, 2)], rate=1.0)
        assert pieces.last_loss() == pytest.approx(whole.last_loss(), abs=1e-12)
    expected = networks.weights(whole_network)
    for name, tensor in networks.weights(pieces_network).items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-10)
    assert whole.pop_loss() == pytest.approx(pieces.pop_loss())


def test_a_long_gradient_is_cut_to_its_length() -> None:
    starts = np.arange(8, dtype=np.int64) * CONTEXT
    network, one = step(gradient_clip=0.01)
    one.take(0, [MicroBatch(starts, 1)], rate=1.0)
    assert sum(float(p.grad.square().sum()) for p in network.parameters() if p.grad is not None) ** 0.5 == (
        pytest.approx(0.01, rel=1e-3)
    )


def test_the_first_bad_step_is_told_once() -> None:
    network, one = step()
    batch = MicroBatch(np.arange(8, dtype=np.int64), 1)
    one.take(3, [batch], rate=1.0)
    one.take(3, [batch], rate=1.0)
    assert one.pop_bad_step() is None
    good = contents(networks.weights(network))
    hook = next(network.parameters()).register_hook(lambda g: g * torch.nan)  # type: ignore[no-untyped-call]
    for number in (4, 5):
        one.take(number, [batch], rate=1.0)
    assert one.pop_bad_step() == 4
    assert one.pop_bad_step() is None
    assert contents(networks.weights(network)) == good
    hook.remove()
    one.take(6, [batch], rate=1.0)
    assert one.pop_bad_step() is None
    assert contents(networks.weights(network)) != good


def test_the_loss_of_the_steps_since_the_last_look_is_told_once_without_skipped_ones() -> None:
    network, one = step()
    batch = MicroBatch(np.arange(8, dtype=np.int64), 1)
    assert math.isnan(one.pop_loss())
    taken = []
    for number in range(2):
        one.take(number, [batch], rate=1.0)
        taken.append(one.last_loss())
    next(network.parameters()).register_hook(lambda g: g * torch.nan)  # type: ignore[no-untyped-call]
    one.take(2, [batch], rate=1.0)
    assert one.pop_loss() == pytest.approx(sum(taken) / 2, rel=1e-12)
    assert math.isnan(one.pop_loss())


def test_dropout_is_a_function_of_its_seed() -> None:
    starts = np.arange(8, dtype=np.int64)

    def after(seed: int) -> bytes:
        trained = trainer(dropout=0.5)
        torch.manual_seed(99)
        trained.network.train()
        trained._stepper.take(0, [MicroBatch(starts, seed)], rate=1.0)
        return weights(trained)

    assert after(1) == after(1)
    assert after(1) != after(2)


@pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason="needs a C++ compiler")
def test_a_compiled_training_is_the_eager_one_and_goes_on_in_the_same_bytes() -> None:
    """One compilation, of 10 to 20 s the first time on a machine."""
    values: dict[str, Any] = {
        "steps": 12,
        "evaluate_every": 6,
        "muon_learning_rate": MUON,
        "dropout": 0.0,
        "n_layer": 1,
    }
    eager = trainer(**values)
    expected = list(eager.run())
    compiled = trainer(**values, numerics=Numerics("cpu", "float32", "compile", threads=1))
    evaluations, states = [], []
    for evaluation in compiled.run():
        evaluations.append(evaluation)
        states.append(saved(compiled))
    for found, wanted in zip(evaluations, expected, strict=True):
        assert found.validation_nats == pytest.approx(wanted.validation_nats, rel=1e-3)
    assert weights(compiled) != weights(eager)  # it did not fall back
    end = contents(states[-1][0])
    compiled.load(*states[1])
    list(compiled.run())
    assert contents(saved(compiled)[0]) == end


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("muon", [0.0, MUON])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_cuda_graph_is_the_eager_training(muon: float, dropout: float) -> None:
    values: dict[str, Any] = {"dropout": dropout, "muon_learning_rate": muon, "device": "cuda"}
    eager = trainer(**values, numerics=Numerics("cuda", "bfloat16", "eager", threads=1))
    graph = trainer(**values, numerics=Numerics("cuda", "bfloat16", "graph", threads=1))
    expected, found = list(eager.run()), list(graph.run())
    for one, other in zip(found, expected, strict=True):
        assert one.validation_nats == pytest.approx(other.validation_nats, rel=2e-2)
