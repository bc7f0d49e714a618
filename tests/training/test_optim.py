"""Laws of the optimizer of a training."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from gptmodel.model import networks
from gptmodel.model.gpt import GPT
from gptmodel.training.optim import Optimizer
from tests.support.networks import CONFIGS, GPT_KINDS, VOCAB_SIZE
from tests.support.training import CONFIG, MUON, contents, give_gradients

ONE, NONE = torch.tensor(1.0), torch.tensor(0.0)
CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"))


def optimizer(kind: str, device: str = "cpu", **changes: Any) -> tuple[networks.LanguageModel, Optimizer]:
    torch.manual_seed(0)
    network = networks.build(CONFIGS[kind], VOCAB_SIZE).to(device)
    return network, Optimizer(network, CONFIG.model_copy(update=changes), torch.float32)


def everything(network: networks.LanguageModel, both: Optimizer) -> bytes:
    return contents({**networks.weights(network), **{f"state/{name}": t for name, t in both.state().items()}})


@pytest.mark.parametrize("muon", [0.0, MUON])
@pytest.mark.parametrize("bad", [math.nan, math.inf, 1.0])
@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_a_skipped_step_changes_no_bit(muon: float, bad: float, device: str) -> None:
    network, both = optimizer("modern", device, muon_learning_rate=muon)
    one, none = ONE.to(device), NONE.to(device)
    for step in range(3):
        give_gradients(network.parameters(), step)
        both.step(one, none)
    before = everything(network, both)
    give_gradients(network.parameters(), 99)
    for parameter in network.parameters():
        assert parameter.grad is not None
        parameter.grad[..., 0] = bad
    both.step(one, one)
    assert everything(network, both) == before
    give_gradients(network.parameters(), 3)
    both.step(one, none)
    assert everything(network, both) != before


@pytest.mark.parametrize("muon", [0.0, MUON])
def test_a_first_step_that_is_skipped_changes_no_weight(muon: float) -> None:
    network, both = optimizer("modern", muon_learning_rate=muon)
    before = contents(networks.weights(network))
    give_gradients(network.parameters(), 0)
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, math.nan)
    both.step(ONE, ONE)
    assert contents(networks.weights(network)) == before
    assert all(not tensor.any() for tensor in both.state().values())


def shrunk_by(kind: str, **changes: Any) -> dict[str, float]:
    """Return by how much one step without any gradient shrinks each parameter: decay and nothing else."""
    network, both = optimizer(kind, weight_decay=0.5, learning_rate=1e-2, **changes)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    both.step(torch.tensor(0.5), NONE)
    return {
        name: 1 - float(parameter.detach().norm() / before[name].norm())
        for name, parameter in network.named_parameters()
        if before[name].any()
    }


@pytest.mark.parametrize("kind", GPT_KINDS)
def test_adamw_decays_matrices_only(kind: str) -> None:
    matrices = {name for name, parameter in optimizer(kind)[0].named_parameters() if parameter.dim() == 2}
    for name, share in shrunk_by(kind).items():
        assert share == pytest.approx(0.5 * 0.5 * 1e-2 if name in matrices else 0, abs=1e-6), name


@pytest.mark.parametrize("kind", ["classic", "modern"])
def test_muon_takes_the_blocks_matrices_and_the_rest_is_undecayed(kind: str) -> None:
    network, both = optimizer(kind, muon_learning_rate=MUON)
    hidden = {name for name, p in network.named_parameters() if name.startswith("blocks.") and p.dim() == 2}
    for name, share in shrunk_by(kind, muon_learning_rate=MUON).items():
        assert share == pytest.approx(0.5 * 0.5 * MUON if name in hidden else 0, abs=1e-6), name
    give_gradients(network.parameters(), 0)
    both.step(ONE, NONE)
    names = both.state().keys()
    assert {name.removeprefix("muon/") for name in names if name.startswith("muon/")} == hidden
    rest = {name for name, _ in network.named_parameters()} - hidden
    assert {name.split("/")[1] for name in names if name.startswith("adamw/")} == rest
    assert {"token_embedding.weight", "final_norm.weight"} <= rest


@pytest.mark.parametrize("listed", [0, 2], ids=["left out", "twice"])
def test_every_parameter_has_exactly_one_optimizer(listed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A matrix that the network lists without having it, or lists twice, is a mistake in the network."""
    network, _ = optimizer("modern")
    first, *rest = networks.hidden_matrices(network)
    stranger = first._replace(weight=torch.nn.Parameter(torch.ones(2, 2)))
    monkeypatch.setattr(
        networks, "hidden_matrices", lambda network: [first] * listed + rest + [stranger] * (not listed)
    )
    with pytest.raises(AssertionError, match="optimizer"):
        Optimizer(network, CONFIG.model_copy(update={"muon_learning_rate": MUON}), torch.float32)


@pytest.mark.parametrize("muon", [0.0, MUON])
def test_a_loaded_state_goes_on_as_the_saved_one(muon: float) -> None:
    network, both = optimizer("modern", muon_learning_rate=muon)
    for step in range(3):
        give_gradients(network.parameters(), step)
        both.step(ONE, NONE)
    other, fresh = optimizer("modern", muon_learning_rate=muon)
    other.load_state_dict(network.state_dict())
    fresh.load({name: tensor.clone() for name, tensor in both.state().items()})
    assert everything(other, fresh) == everything(network, both)
    for each, steps in ((network, both), (other, fresh)):
        give_gradients(each.parameters(), 3)
        steps.step(torch.tensor(0.3), NONE)
    assert everything(other, fresh) == everything(network, both)


def test_adamw_is_torchs_adamw_with_the_scheduled_rate() -> None:
    network, both = optimizer("classic-relu-untied", weight_decay=0.0)
    assert isinstance(network, GPT)
    twin = copy.deepcopy(network)
    theirs = torch.optim.AdamW(twin.parameters(), lr=0.0, betas=(0.9, CONFIG.beta2), weight_decay=0.0)
    for step, rate in enumerate([0.2, 1.0, 0.5]):
        theirs.param_groups[0]["lr"] = rate * CONFIG.learning_rate
        for each in (network, twin):
            give_gradients(each.parameters(), step)
        both.step(torch.tensor(rate), NONE)
        theirs.step()
    expected: dict[str, Tensor] = dict(twin.named_parameters())
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter, expected[name], rtol=0, atol=1e-7)
