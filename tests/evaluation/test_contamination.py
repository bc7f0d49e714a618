import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gptmodel.errors import UserError
from gptmodel.evaluation import contamination
from gptmodel.evaluation.contamination import check_causal, shared_text
from gptmodel.model.bigram import Bigram
from gptmodel.model.gpt import GPT, Attention, AttentionOutput, Block
from gptmodel.model.networks import LanguageModel
from gptmodel.params import BigramNetwork
from tests.support.networks import CONFIGS, CONTEXT, GPT_KINDS, VOCAB_SIZE, build

CPU = torch.device("cpu")
IDS = np.random.default_rng(2).integers(VOCAB_SIZE, size=200).astype(np.uint16)


class Peeking(Attention):
    """Attention that sees `ahead` tokens more than it should."""

    ahead = CONTEXT

    def forward(
        self,
        x_BTC: Tensor,
        rotary: tuple[Tensor, Tensor] | None,
        past: tuple[Tensor, Tensor] | None,
        mask_B1TS: Tensor | None,
    ) -> AttentionOutput:
        length = x_BTC.shape[1]
        seen_B1TS = torch.ones(1, 1, length, length, dtype=torch.bool).tril(self.ahead)
        return super().forward(x_BTC, rotary, past, seen_B1TS)


class OneAhead(Bigram):
    """A bigram that looks up the token it has to predict."""

    def forward(self, ids_BT: Tensor, cache: object = None) -> tuple[Tensor, None]:
        return self.table(ids_BT.roll(-1, dims=1)), None


class NormOverTime(nn.Module):
    """A normalisation over the wrong axis."""

    def forward(self, x_BTC: Tensor) -> Tensor:
        return x_BTC / x_BTC.std(dim=1, keepdim=True)


def peeking(kind: str, ahead: int, layers: slice) -> GPT:
    """A GPT in which the attention of some layers sees too much."""
    network = build(kind)
    assert isinstance(network, GPT)
    for block in list(network.blocks)[layers]:
        assert isinstance(block, Block)
        block.attention.__class__ = Peeking
        assert isinstance(block.attention, Peeking)
        block.attention.ahead = ahead
    return network


@pytest.mark.parametrize("kind", list(CONFIGS))
@pytest.mark.parametrize("length", [1, 2, 3, CONTEXT, 200])
def test_every_kind_of_network_passes_without_any_difference(
    kind: str, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contamination, "TOLERANCE", 0.0)  # what is masked is multiplied by an exact 0
    check_causal(build(kind), IDS[:length], CPU)


@pytest.mark.parametrize("kind", GPT_KINDS)
@pytest.mark.parametrize("ahead", [1, 5, CONTEXT])
@pytest.mark.parametrize("layers", [slice(0, 1), slice(1, 2), slice(0, 2)])
def test_attention_that_peeks_is_caught(kind: str, ahead: int, layers: slice) -> None:
    with pytest.raises(UserError, match=r"the network sees the future: .* make it causal"):
        check_causal(peeking(kind, ahead, layers), IDS, CPU)


def test_attention_that_peeks_nowhere_passes() -> None:
    check_causal(peeking("modern", 0, slice(0, 2)), IDS, CPU)  # the way it is built above changes nothing else


@pytest.mark.parametrize("length", [2, 3, CONTEXT, 200])
def test_a_bigram_that_looks_one_ahead_is_caught(length: int) -> None:
    network = OneAhead(BigramNetwork(network="bigram", context=CONTEXT), VOCAB_SIZE)
    check_causal(network, IDS[:length], CPU)  # a table of zeros says nothing yet, wherever it is looked up
    nn.init.normal_(network.table.weight)
    with pytest.raises(UserError, match="the network sees the future"):
        check_causal(network, IDS[:length], CPU)


def test_a_normalisation_over_time_is_caught() -> None:
    network = build("modern")
    network.final_norm = NormOverTime()
    with pytest.raises(UserError, match="the network sees the future"):
        check_causal(network, IDS, CPU)


@pytest.mark.parametrize("peeks", [False, True])
def test_the_check_draws_no_dropout_and_restores_the_mode(peeks: bool) -> None:
    network: LanguageModel = peeking("modern", CONTEXT, slice(0, 2)) if peeks else build("modern")
    network.train()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5
    if peeks:
        with pytest.raises(UserError):
            check_causal(network, IDS, CPU)
    else:
        check_causal(network, IDS, CPU)
    assert network.training


def test_shared_lines_counted_by_hand() -> None:
    line = "x" * 20 + "y" * 20
    assert shared_text(f"a{line}b", line) == 1
    assert shared_text(f"a{line}b", f"{line}\n{line}!\n{line[1:]}\n") == 0.5  # the second goes on; the third is short
    assert shared_text(line, "court\n" * 5) == 0
    assert shared_text("", line) == 0
    assert shared_text(line, "") == 0


@settings(max_examples=100, deadline=None)
@given(train=st.text("ab\n", max_size=30), text=st.text("ab\n", max_size=30))
def test_the_shared_lines_are_those_that_a_plain_search_finds(train: str, text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contamination, "LONG_LINE", 3)
        found = [line in train for line in text.split("\n") if len(line) >= 3]
        assert shared_text(train, text) == (sum(found) / len(found) if found else 0)
