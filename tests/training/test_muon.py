"""Laws of Muon: torch's own, each part of a fused matrix for itself, singular values near one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gptmodel.model import networks
from gptmodel.model.networks import HiddenMatrix
from gptmodel.training.muon import Muon, orthogonalise
from tests.support.networks import GPT_KINDS, build
from tests.support.training import give_gradients

NONE = torch.tensor(0.0)
SHAPES = {"wide": (16, 40), "tall": (40, 16), "tall.too": (40, 16), "square": (24, 24), "row": (1, 8)}


def matrices(shapes: dict[str, tuple[int, int]]) -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return {name: nn.Parameter(torch.randn(shape, generator=generator)) for name, shape in shapes.items()}


def whole(weights: dict[str, nn.Parameter]) -> list[HiddenMatrix]:
    return [HiddenMatrix(name, weight, parts=1) for name, weight in weights.items()]


@torch.no_grad()
def test_muon_is_torchs_muon() -> None:
    ours, theirs = matrices(SHAPES), matrices(SHAPES)
    our_muon = Muon(whole(ours), 0.3, torch.bfloat16)
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
    qkv, up = matrices({"qkv": (48, 16), "up": (48, 16)}).values()
    separate = {f"part {part}": nn.Parameter(piece.clone()) for part, piece in enumerate(qkv.chunk(3))}
    separate["up"] = nn.Parameter(up.clone())
    fused_muon = Muon([HiddenMatrix("qkv", qkv, parts=3), HiddenMatrix("up", up, parts=1)], 0.1, torch.float32)
    muons = fused_muon, Muon(whole(separate), 0.1, torch.float32)
    for step in range(3):
        give_gradients([qkv, up], step)
        assert qkv.grad is not None
        assert up.grad is not None
        for parameter, gradient in zip(separate.values(), [*qkv.grad.chunk(3), up.grad], strict=True):
            parameter.grad = gradient.clone()
        for muon in muons:
            muon.step(torch.tensor(0.02), NONE)
    *parts, alone = separate.values()
    torch.testing.assert_close(qkv, torch.cat([*map(Tensor.detach, parts)]), rtol=0, atol=1e-6)
    torch.testing.assert_close(up, alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", GPT_KINDS)
def test_a_network_names_its_matrices_and_those_that_are_three(kind: str) -> None:
    network = build(kind)
    found = networks.hidden_matrices(network)
    named = dict(network.named_parameters())
    assert [matrix.name for matrix in found] == [
        name for name, parameter in named.items() if name.startswith("blocks.") and parameter.dim() == 2
    ]
    assert all(matrix.weight is named[matrix.name] for matrix in found)
    assert {matrix.name.split(".")[-2] for matrix in found if matrix.parts == 3} == {"qkv"}
    assert all(matrix.parts in (1, 3) for matrix in found)


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
