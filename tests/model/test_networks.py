import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gptmodel.model import networks
from gptmodel.model.gpt import GPT, attend, rotary_table, rotate
from tests.support.networks import CONFIGS, CONTEXT, GPT_KINDS, VOCAB_SIZE, build

KINDS = list(CONFIGS)


def random_ids(rows: int, length: int, seed: int = 1) -> Tensor:
    return torch.randint(VOCAB_SIZE, (rows, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", KINDS)
def test_a_future_token_changes_no_earlier_logit(kind: str) -> None:
    network, ids = build(kind), random_ids(3, CONTEXT)
    before, _ = network(ids)
    for place in range(CONTEXT):
        altered = ids.clone()
        altered[:, place] = (altered[:, place] + 1) % VOCAB_SIZE
        after, _ = network(altered)
        torch.testing.assert_close(after[:, :place], before[:, :place], rtol=0, atol=1e-5)
        assert not torch.allclose(after[:, place], before[:, place])


@pytest.mark.parametrize("kind", GPT_KINDS)
def test_every_earlier_token_can_matter(kind: str) -> None:
    network, ids = build(kind), random_ids(1, CONTEXT)
    before, _ = network(ids)
    for place in range(CONTEXT):
        altered = ids.clone()
        altered[:, place] = (altered[:, place] + 1) % VOCAB_SIZE
        assert not torch.equal(network(altered)[0][:, -1], before[:, -1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [[CONTEXT], [1] * CONTEXT, [5, 1, 4, 2]])
def test_cached_equals_uncached(kind: str, steps: list[int]) -> None:
    network, ids = build(kind), random_ids(2, CONTEXT)
    whole, _ = network(ids)
    cache = network.empty_cache(torch.zeros(2, dtype=torch.int64))
    parts = []
    for piece in torch.split(ids, steps, dim=1):
        logits, cache = network(piece, cache)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_left_padding_changes_nothing(kind: str) -> None:
    network, ids = build(kind), random_ids(1, 7)
    alone, _ = network(ids)
    for pad in (1, 5):
        filler = random_ids(1, pad, seed=pad)
        cache = network.empty_cache(torch.tensor([pad]))
        first, cache = network(torch.cat((filler, ids[:, :4]), dim=1), cache)
        rest, _ = network(ids[:, 4:], cache)
        torch.testing.assert_close(torch.cat((first[:, pad:], rest), dim=1), alone, rtol=0, atol=1e-5)
        assert torch.isfinite(first).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_tiny_batch_can_be_learned_by_heart(kind: str) -> None:
    torch.manual_seed(0)
    network = networks.build(CONFIGS[kind], VOCAB_SIZE)
    ids = torch.randperm(VOCAB_SIZE, generator=torch.Generator().manual_seed(3))[:CONTEXT].unsqueeze(0)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(300):
        loss = F.cross_entropy(network(ids[:, :-1])[0].flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert float(loss.detach()) < 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_an_untrained_network_is_close_to_uniform(kind: str) -> None:
    torch.manual_seed(0)
    network = networks.build(CONFIGS[kind], VOCAB_SIZE)
    loss = F.cross_entropy(network(random_ids(8, CONTEXT))[0].flatten(0, 1), random_ids(8, CONTEXT, 2).flatten())
    assert abs(float(loss.detach()) - math.log(VOCAB_SIZE)) < 0.05


def test_attention_is_the_papers_equation() -> None:
    """softmax(Q K^T / sqrt(d)) V with a causal mask, computed by hand from the first block's weights."""
    network = build("classic")
    assert isinstance(network, GPT)
    attention, head = network.layers[0].attention, network.head_size
    x_TC = torch.randn(5, 32, generator=torch.Generator().manual_seed(4))
    q, k, v = torch.split(x_TC @ attention.qkv.weight.T + attention.qkv.bias, 32, dim=-1)
    heads = []
    for h in range(2):
        part = slice(h * head, (h + 1) * head)
        scores = q[:, part] @ k[:, part].T / math.sqrt(head)
        scores = scores.masked_fill(torch.triu(torch.ones(5, 5, dtype=torch.bool), 1), -math.inf)
        heads.append(scores.softmax(-1) @ v[:, part])
    by_hand = torch.cat(heads, dim=-1) @ attention.out.weight.T + attention.out.bias
    computed = attention(x_TC.unsqueeze(0), None, None, None).y_BTC
    torch.testing.assert_close(computed[0], by_hand, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 3, 7, 16), (1, 1, 1, 32)])
def test_attention_written_out_is_torchs(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    q, k, v = parts
    ours, theirs = attend(q, k, v), F.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    weight = torch.randn(shape, generator=generator, dtype=torch.float64)
    for own, other in zip(
        torch.autograd.grad((ours * weight).sum(), parts),
        torch.autograd.grad((theirs * weight).sum(), parts),
        strict=True,
    ):
        torch.testing.assert_close(own, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", GPT_KINDS)
def test_the_network_that_trains_is_the_one_that_is_used(kind: str) -> None:
    """With gradients the attention is written out, without it is torch's."""
    network, ids = build(kind).double(), random_ids(2, CONTEXT)
    trained, _ = network(ids)
    assert trained.requires_grad
    with torch.inference_mode():
        used, _ = network(ids)
    torch.testing.assert_close(trained.detach(), used, rtol=0, atol=1e-12)


def zero_init(kind: str, tie_embeddings: bool) -> GPT:
    torch.manual_seed(0)
    changes = {"init": "zero", "tie_embeddings": tie_embeddings}
    network = networks.build(CONFIGS[kind].model_copy(update=changes), VOCAB_SIZE)
    assert isinstance(network, GPT)
    return network


@pytest.mark.parametrize("tie_embeddings", [False, True])
@pytest.mark.parametrize("kind", GPT_KINDS)
def test_from_zero_every_block_begins_as_the_identity(kind: str, tie_embeddings: bool) -> None:
    network = zero_init(kind, tie_embeddings)
    x_BTC = torch.randn(2, CONTEXT, 32, generator=torch.Generator().manual_seed(1))
    rotary = tuple(table.unsqueeze(0) for table in rotary_table(16, CONTEXT)) if kind.startswith("modern") else None
    for block in network.layers:
        assert torch.equal(block(x_BTC, rotary, None, None).x_BTC, x_BTC)


@pytest.mark.parametrize("kind", GPT_KINDS)
def test_from_zero_every_token_is_exactly_as_likely(kind: str) -> None:
    logits, _ = zero_init(kind, tie_embeddings=False)(random_ids(2, CONTEXT))
    assert torch.equal(logits, torch.zeros(2, CONTEXT, VOCAB_SIZE))


@pytest.mark.parametrize(
    ("init", "tied", "into_stream", "inside", "embedding"),
    [("gpt2", False, 0.01, 0.02, 0.02), ("zero", False, 0, 32**-0.5, 1), ("zero", True, 0, 32**-0.5, 0.02)],
)
def test_the_first_weights_have_the_size_that_was_asked_for(
    init: str, tied: bool, into_stream: float, inside: float, embedding: float
) -> None:
    torch.manual_seed(0)
    changes = {"init": init, "tie_embeddings": tied}
    network = networks.build(CONFIGS["modern"].model_copy(update=changes), VOCAB_SIZE)
    expected = {"out": into_stream, "qkv": inside, "gate": inside, "token_embedding": embedding}
    for name, parameter in network.named_parameters():
        if (part := name.split(".")[-2]) in expected:
            assert float(parameter.detach().std()) == pytest.approx(expected[part], rel=0.1), name


@pytest.mark.parametrize("init", ["gpt2", "zero"])
@pytest.mark.parametrize("kind", GPT_KINDS)
def test_matrices_that_are_not_zero_learn_from_the_second_step_on(kind: str, init: str) -> None:
    """Zeros must not be a trap: after one step of the zero matrices every parameter has a gradient."""
    torch.manual_seed(0)
    network = networks.build(CONFIGS[kind].model_copy(update={"init": init}), VOCAB_SIZE)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        loss = F.cross_entropy(network(random_ids(8, CONTEXT))[0].flatten(0, 1), random_ids(8, CONTEXT, 2).flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())


def test_rotation_keeps_lengths_and_depends_on_distance_only() -> None:
    cos, sin = rotary_table(16, 40)
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(16, generator=generator), torch.randn(16, generator=generator)

    def turned(x: Tensor, place: int) -> Tensor:
        return rotate(x.view(1, 1, 1, 16), cos[place].view(1, 1, -1), sin[place].view(1, 1, -1)).flatten()

    torch.testing.assert_close(turned(q, 33).norm(), q.norm())
    torch.testing.assert_close(turned(q, 7) @ turned(k, 4), turned(q, 36) @ turned(k, 33), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(turned(q, 0), q)


@pytest.mark.parametrize("kind", KINDS)
def test_loaded_weights_are_those_that_were_given_and_a_tied_head_follows(kind: str) -> None:
    network, other = build(kind, seed=1), build(kind, seed=2)
    networks.load_weights(network, networks.weights(other))
    expected = other.state_dict()
    assert network.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in network.state_dict().items())
    if isinstance(network, GPT) and network.config.tie_embeddings:
        assert network.head.weight is network.token_embedding.weight


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_do_not_fit_are_named(kind: str) -> None:
    network, weights = build(kind), networks.weights(build(kind))
    first = next(iter(weights))
    for wrong in (
        {name: tensor for name, tensor in weights.items() if name != first},
        {**weights, "stranger": torch.ones(1)},
        {**weights, first: torch.ones(1, 2, 3)},
    ):
        with pytest.raises(RuntimeError, match="stranger" if "stranger" in wrong else first):
            networks.load_weights(network, wrong)


def test_parameters_are_counted_once() -> None:
    d, f, v = 32, 48, VOCAB_SIZE
    assert networks.count_parameters(build("bigram")) == v * v
    qk_gains = 2 * 16
    per_block = 3 * d * d + d * d + 3 * d * f + 2 * d + qk_gains
    assert networks.count_parameters(build("modern")) == 2 * per_block + 2 * v * d + d
    classic_block = (3 * d * d + 3 * d) + (d * d + d) + (d * f + f) + (f * d + d) + 4 * d
    assert networks.count_parameters(build("classic")) == 2 * classic_block + v * d + CONTEXT * d + 2 * d


def test_operations_are_counted_by_the_matrices_and_the_attention() -> None:
    d, f, v = 32, 48, VOCAB_SIZE
    attention = 2 * CONTEXT * d  # of 2 layers
    assert networks.flops_per_token(build("bigram")) == 0
    assert networks.flops_per_token(build("modern")) == 6 * (2 * (4 * d * d + 3 * d * f) + v * d + attention)
    assert networks.flops_per_token(build("classic")) == 6 * (2 * (4 * d * d + 2 * d * f) + v * d + attention)
