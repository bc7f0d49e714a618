"""Laws of the optimizers and of the learning rate."""

import copy
import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gptmodel.model import networks
from gptmodel.model.gpt import GPT
from gptmodel.params import Training
from gptmodel.training import optim
from gptmodel.training.optim import Muon, Optimizer, orthogonalise
from tests.support.networks import CONFIGS, GPT_KINDS, VOCAB_SIZE
from tests.support.training import CONFIG, MUON, contents

ONE, NONE = torch.tensor(1.0), torch.tensor(0.0)
CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"))


@st.composite
def schedules(draw: st.DrawFn) -> Training:
    steps = draw(st.integers(1, 300))
    return CONFIG.model_copy(
        update={
            "steps": steps,
            "warmup_steps": draw(st.integers(0, steps - 1)),
            "warmdown": draw(st.floats(0.001, 1)),
            "schedule": draw(st.sampled_from(["linear", "cosine"])),
            "final_rate": draw(st.floats(0, 0.99)),
        }
    )


@settings(max_examples=200, deadline=None)
@given(config=schedules())
def test_the_rate_rises_stays_and_falls(config: Training) -> None:
    rates = [optim.rate(step, config) for step in range(config.steps)]
    assert all(0 < rate <= 1 for rate in rates)
    warm, begin = config.warmup_steps, round(config.steps * (1 - config.warmdown))
    assert all(a < b for a, b in pairwise(rates[:warm]))
    assert all(rate == 1 for rate in rates[warm : begin + 1])
    falling = rates[max(warm, begin) :]
    assert all(a >= b for a, b in pairwise(falling))
    assert all(a > b for a, b in pairwise(falling[1:]))
    assert all(rate >= config.final_rate for rate in falling)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_rate_ends_near_the_final_one(schedule: str) -> None:
    changes = {"steps": 1000, "warmdown": 0.6, "final_rate": 0.05, "schedule": schedule}
    config = CONFIG.model_copy(update=changes)
    assert optim.rate(999, config) == pytest.approx(0.05, abs=0.002)
    assert optim.rate(700, config) == pytest.approx(0.525)  # half of the fall, in both shapes
    quarter = 0.2875 if schedule == "linear" else 0.05 + 0.95 * (1 - math.sqrt(0.5)) / 2
    assert optim.rate(850, config) == pytest.approx(quarter)


def test_a_cosine_over_all_steps_is_nanogpts() -> None:
    """As in karpathy/nanoGPT `train.py`, get_lr, with lr_decay_iters = max_iters."""
    config = CONFIG.model_copy(update={"steps": 200, "warmup_steps": 10, "warmdown": 1.0, "schedule": "cosine"})
    peak, lowest = 6e-4, 6e-5
    for step in range(200):
        if step < 10:
            expected = peak * (step + 1) / (10 + 1)
        else:
            expected = lowest + 0.5 * (1.0 + math.cos(math.pi * (step - 10) / (200 - 10))) * (peak - lowest)
        assert peak * optim.rate(step, config) == pytest.approx(expected, rel=1e-12)


SHAPES = {"wide": (16, 40), "tall": (40, 16), "tall.too": (40, 16), "square": (24, 24), "row": (1, 8)}


def matrices(shapes: dict[str, tuple[int, int]]) -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return {name: nn.Parameter(torch.randn(shape, generator=generator)) for name, shape in shapes.items()}


def give_gradients(parameters: Any, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator).to(parameter.device)


@torch.no_grad()
def test_muon_is_torchs_muon() -> None:
    ours, theirs = matrices(SHAPES), matrices(SHAPES)
    our_muon = Muon(ours, 0.3, torch.bfloat16)
    their_muon = torch.optim.Muon(theirs.values(), lr=0.02, weight_decay=0.3, momentum=0.95)
    for step in range(8):
        for side in (ours, theirs):
            give_gradients(side.values(), step)
        our_muon.step(torch.tensor(0.02), NONE)
        their_muon.step()  # type: ignore[no-untyped-call]
        for name in SHAPES:
            torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-6)


@torch.no_grad()
def test_query_key_and_value_are_three_matrices() -> None:
    fused = matrices({"blocks.0.attention.qkv.weight": (48, 16), "blocks.0.mlp.up.weight": (48, 16)})
    qkv, up = fused.values()
    separate = {
        **{f"part {part}": nn.Parameter(piece.clone()) for part, piece in enumerate(qkv.chunk(3))},
        "up": nn.Parameter(up.clone()),
    }
    muons = Muon(fused, 0.1, torch.float32), Muon(separate, 0.1, torch.float32)
    for step in range(3):
        give_gradients(fused.values(), step)
        assert qkv.grad is not None
        assert up.grad is not None
        for parameter, gradient in zip(separate.values(), [*qkv.grad.chunk(3), up.grad], strict=True):
            parameter.grad = gradient.clone()
        for muon in muons:
            muon.step(torch.tensor(0.02), NONE)
    *parts, alone = separate.values()
    torch.testing.assert_close(qkv, torch.cat([*map(Tensor.detach, parts)]), rtol=0, atol=1e-6)
    torch.testing.assert_close(up, alone, rtol=0, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    seed=st.integers(0, 2**32),
    scale=st.floats(1e-3, 1e3),
    dtype=st.sampled_from([torch.bfloat16, torch.float32, torch.float64]),
)
def test_orthogonalised_singular_values_are_near_one(
    shape: tuple[int, int], seed: int, scale: float, dtype: torch.dtype
) -> None:
    """Those that are not tiny: above a hundredth of the matrix's norm; the others never grow beyond the rest."""
    matrix = scale * torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonalise(matrix.to(dtype))
    assert (found.shape, found.dtype) == (matrix.shape, dtype)
    along = torch.diagonal(left.mT @ found.double() @ right.mT, dim1=-2, dim2=-1)
    large = values > 0.01 * values.norm(dim=-1, keepdim=True)
    assert float(along[large].min()) > 0.6
    assert float(torch.linalg.svdvals(found.double()).max()) < 1.3


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
