import math
from typing import Any

import numpy as np
import pytest
import torch

from gptmodel.data import fitting
from gptmodel.data.tokenizer import naming_nats
from gptmodel.errors import UserError
from gptmodel.evaluation import internals
from gptmodel.evaluation.internals import Internals, read_ids
from gptmodel.model.gpt import GPT, Attention, Block
from gptmodel.model.loss import total_nats
from tests.support.bundles import TEXT, chain, char_tokenizer, random_network
from tests.support.networks import CONFIGS, CONTEXT, GPT_KINDS

KINDS = list(CONFIGS)
LETTERS = char_tokenizer()
EXCERPT = "Où vas-tu ?"


def gpt(kind: str) -> GPT:
    network = random_network(kind, LETTERS)
    assert isinstance(network, GPT)
    return network


def seen(kind: str, text: str = EXCERPT) -> Internals:
    return internals.read(random_network(kind, LETTERS), LETTERS, text)


@torch.no_grad()
def what_the_parts_gave(network: GPT, text: str, part: type) -> list[Any]:
    """The outputs of every attention or every block in one forward pass, in order."""
    given: list[Any] = []

    def keep(_: Any, inputs: Any, output: Any) -> None:
        given.append(output)

    hooks = [module.register_forward_hook(keep) for module in network.modules() if isinstance(module, part)]
    network(torch.from_numpy(LETTERS.encode(text))[None])
    for hook in hooks:
        hook.remove()
    return given


@torch.no_grad()
@pytest.mark.parametrize("kind", GPT_KINDS)
def test_the_weights_explain_what_each_layer_gave(kind: str) -> None:
    """The values mixed by the weights, through the layer's own projection, are its output: no other weights did it."""
    network = gpt(kind)
    attention_LHTT = internals.read(network, LETTERS, EXCERPT).attention_LHTT
    given = what_the_parts_gave(network, EXCERPT, Attention)
    assert attention_LHTT is not None
    for weights_HTT, block, output in zip(attention_LHTT, network.blocks, given, strict=True):
        assert isinstance(block, Block)
        mixed_TC = (weights_HTT @ output.v_BHSD[0]).transpose(0, 1).flatten(-2)
        torch.testing.assert_close(block.attention.out(mixed_TC), output.y_BTC[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", GPT_KINDS)
def test_each_token_reads_itself_and_those_before_and_nothing_else(kind: str) -> None:
    attention_LHTT = seen(kind).attention_LHTT
    assert attention_LHTT is not None
    assert attention_LHTT.shape == (2, 2, len(EXCERPT), len(EXCERPT))
    torch.testing.assert_close(attention_LHTT.sum(-1), torch.ones(2, 2, len(EXCERPT)), rtol=0, atol=1e-6)
    assert torch.equal(attention_LHTT, attention_LHTT.tril())
    assert (attention_LHTT.diagonal(dim1=-2, dim2=-1) > 0).all()


def test_a_query_reads_more_where_its_key_agrees() -> None:
    """By hand: with q = k = x and orthogonal unit vectors the scores are 1 / sqrt(16) for itself and 0."""
    layer = Attention(CONFIGS["classic-relu-untied"].model_copy(update={"n_embd": 16, "n_head": 1}))  # type: ignore[arg-type]
    with torch.no_grad():
        layer.qkv.weight.copy_(torch.eye(16).repeat(3, 1))
    x_BTC = torch.eye(16)[None, :2]
    weights = internals.attention_weights(layer, x_BTC, None, x_BTC[:, None])
    itself = math.exp(0.25) / (1 + math.exp(0.25))
    torch.testing.assert_close(weights[0, 0], torch.tensor([[1.0, 0.0], [1 - itself, itself]]))


@torch.no_grad()
@pytest.mark.parametrize("kind", GPT_KINDS)
def test_the_residual_stream_grows_by_what_each_block_adds(kind: str) -> None:
    network = gpt(kind)
    residual_LTC = internals.read(network, LETTERS, EXCERPT).residual_LTC
    assert residual_LTC is not None
    ids_T = torch.from_numpy(LETTERS.encode(EXCERPT))
    embedding_TC = network.token_embedding(ids_T)
    if network.position_embedding is not None:
        embedding_TC = embedding_TC + network.position_embedding.weight[: len(ids_T)]
    assert torch.equal(residual_LTC[0], embedding_TC)
    mixed = what_the_parts_gave(network, EXCERPT, Attention)
    for layer, block in enumerate(network.blocks):
        assert isinstance(block, Block)
        after_attention_TC = residual_LTC[layer] + mixed[layer].y_BTC[0]
        added_TC = mixed[layer].y_BTC[0] + block.mlp(block.mlp_norm(after_attention_TC))
        torch.testing.assert_close(residual_LTC[layer + 1] - residual_LTC[layer], added_TC, rtol=0, atol=1e-5)
    outputs = what_the_parts_gave(network, EXCERPT, Block)
    assert torch.equal(residual_LTC[1:], torch.cat([output.x_BTC for output in outputs]))


@torch.no_grad()
@pytest.mark.parametrize("kind", GPT_KINDS)
def test_the_last_lens_is_the_network(kind: str) -> None:
    network = gpt(kind)
    inside = internals.read(network, LETTERS, EXCERPT)
    logits_BTV, _ = network(torch.from_numpy(LETTERS.encode(EXCERPT))[None])
    assert inside.lens_LTV is not None
    assert inside.residual_LTC is not None
    assert torch.equal(inside.logits_TV, logits_BTV[0])
    assert torch.equal(inside.lens_LTV[-1], inside.logits_TV)
    for logits_TV, x_TC in zip(inside.lens_LTV, inside.residual_LTC, strict=True):
        torch.testing.assert_close(logits_TV, network.head(network.final_norm(x_TC)), rtol=0, atol=1e-5)
    assert not torch.allclose(inside.lens_LTV[0], inside.lens_LTV[-1], atol=1e-2)


def test_a_bigram_has_neither_attention_nor_lens_and_reads_any_length() -> None:
    network, text = random_network("bigram", LETTERS), TEXT
    assert len(text) > CONTEXT
    inside = internals.read(network, LETTERS, text)
    assert inside.attention_LHTT is None
    assert inside.residual_LTC is None
    assert inside.lens_LTV is None
    assert torch.equal(inside.logits_TV, network.state_dict()["table.weight"][LETTERS.encode(text)])


@pytest.mark.parametrize("kind", KINDS)
def test_the_nats_are_those_of_the_evaluation_unknown_characters_too(kind: str) -> None:
    network, text = random_network(kind, LETTERS), "vas, Ω ?"
    ids = LETTERS.encode(text)
    inside = internals.read(network, LETTERS, text)
    exact = total_nats(network, ids, torch.device("cpu")) + naming_nats(ids, LETTERS.unknown_id).sum()
    assert float(inside.nats_T.sum()) == pytest.approx(exact, rel=1e-5)
    assert float(inside.nats_T[0]) == pytest.approx(math.log(LETTERS.vocab_size), rel=1e-6)
    assert inside.tokens == list(text.replace("Ω", "\N{REPLACEMENT CHARACTER}"))


def test_the_candidates_stand_in_the_place_of_the_token() -> None:
    """A chain that recites knows each token but the first, and the candidates are those before the token was read."""
    inside = internals.read(chain(LETTERS, "demanv"), LETTERS, "deman")
    assert [candidates[0] for candidates in inside.top(1)[1:]] == [(letter, 1.0) for letter in "eman"]
    assert inside.top(2)[0][1][1] == pytest.approx(1 / LETTERS.vocab_size)
    assert inside.following(1) == [("v", 1.0)]
    assert inside.nats_T[1:].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_candidates_are_the_likeliest_and_all_of_them_are_certain(kind: str) -> None:
    inside = seen(kind)
    for place, candidates in enumerate(inside.top(LETTERS.vocab_size + 1)):
        shares = [p for _, p in candidates]
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) == pytest.approx(1, abs=1e-5)
        assert dict(candidates)[EXCERPT[place]] == pytest.approx(math.exp(-float(inside.nats_T[place])), rel=1e-4)
        assert inside.top(3)[place] == candidates[:3]


@pytest.mark.parametrize(
    ("text", "message"), [("", "is empty"), ("a" * (CONTEXT + 1), f"has {CONTEXT + 1} tokens.*back on {CONTEXT} ")]
)
def test_a_text_that_cannot_be_read_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        seen("modern", text)
    seen("modern", "a" * CONTEXT)


@pytest.mark.parametrize("kind", KINDS)
def test_the_network_is_left_as_it_was(kind: str) -> None:
    """No hooks stay, even after an error; its mode comes back; dropout plays no part."""
    network = random_network(kind, LETTERS).train()
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    first, second = (internals.read(network, LETTERS, EXCERPT).logits_TV for _ in range(2))
    assert torch.equal(first, second)
    with pytest.raises(IndexError):
        read_ids(network, LETTERS, np.array([LETTERS.vocab_size]))
    assert network.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_tokens_can_be_read_even_where_they_cut_a_character() -> None:
    pieces = fitting.fit_bpe("un chat\n", vocab_size=260)
    shown = [internals.readable(pieces, token) for token in pieces.encode(" un é\n")]
    assert shown == [" ", "un", " ", r"\xc3", r"\xa9", "\n"]
    assert internals.readable(LETTERS, 0) == "\N{REPLACEMENT CHARACTER}"
