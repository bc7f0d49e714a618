import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gptmodel.data.tokenizer import naming_nats
from gptmodel.model import loss
from gptmodel.model.loss import Score, sliding_nats, token_nats, total_nats
from tests.support.networks import CONFIGS, CONTEXT, VOCAB_SIZE, build

CPU = torch.device("cpu")
IDS = np.random.default_rng(2).integers(VOCAB_SIZE, size=200).astype(np.uint16)


@pytest.mark.parametrize("kind", list(CONFIGS))
@pytest.mark.parametrize("length", [1, 2, CONTEXT, CONTEXT + 1, CONTEXT + 2, 5 * CONTEXT, 200])
def test_every_token_is_scored_exactly_once(kind: str, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a loop that asks for one token at a time; in several batches, so that their seams are covered too."""
    monkeypatch.setattr(loss, "LOGITS_PER_BATCH", 3 * CONTEXT * VOCAB_SIZE)
    network, ids = build(kind), torch.from_numpy(IDS[:length].astype(np.int64))
    by_hand = math.log(VOCAB_SIZE)
    with torch.inference_mode():
        for place in range(1, length):
            start = (place - 1) // CONTEXT * CONTEXT
            logits, _ = network(ids[start:place].unsqueeze(0))
            by_hand -= float(logits[0, -1].log_softmax(-1)[ids[place]])
    assert total_nats(network, IDS[:length], CPU) == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("kind", list(CONFIGS))
@pytest.mark.parametrize("length", [1, 2, CONTEXT, CONTEXT + 1, CONTEXT + 2, 3 * CONTEXT + 4, 50])
@pytest.mark.parametrize("stride", [None, 1, 5, CONTEXT // 2, CONTEXT])
def test_each_token_costs_what_its_window_says(
    kind: str, length: int, stride: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a loop over tokens: each is predicted in the first window that reaches it."""
    monkeypatch.setattr(loss, "LOGITS_PER_BATCH", 3 * CONTEXT * VOCAB_SIZE)
    network, ids = build(kind).train(), torch.from_numpy(IDS[:length].astype(np.int64))
    apart, by_hand = stride or CONTEXT, [math.log(VOCAB_SIZE)]
    with torch.inference_mode():
        for place in range(1, length):
            start = next(start for start in range(0, length, apart) if place <= start + CONTEXT)
            assert place - start > (CONTEXT - apart if place > CONTEXT else 0)
            logits, _ = network.eval()(ids[start:place].unsqueeze(0))
            by_hand.append(-float(logits[0, -1].log_softmax(-1)[ids[place]]))
    network.train()
    costs = token_nats(network, IDS[:length], CPU, stride)
    assert network.training
    assert costs.dtype == np.float64
    assert costs == pytest.approx(by_hand, rel=1e-4, abs=1e-5)
    if stride is None:
        assert costs.sum() == pytest.approx(total_nats(network, IDS[:length], CPU), rel=1e-12)
    if stride == CONTEXT // 2:
        assert costs.sum() == sliding_nats(network, IDS[:length], CPU)


@settings(max_examples=25, deadline=None)
@given(length=st.integers(1, 200), parts=st.integers(1, 9), windows=st.integers(1, 5))
def test_the_shares_together_cost_the_whole(length: int, parts: int, windows: int) -> None:
    network = build("bigram")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loss, "LOGITS_PER_BATCH", windows * CONTEXT * VOCAB_SIZE)
        shares = [total_nats(network, IDS[:length], CPU, (part, parts)) for part in range(parts)]
    assert sum(shares) == pytest.approx(total_nats(network, IDS[:length], CPU), rel=1e-5)


def test_an_evaluation_can_be_ended_between_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "LOGITS_PER_BATCH", 3 * CONTEXT * VOCAB_SIZE)
    network, calls = build("modern").train(), []

    def between() -> None:
        calls.append(network.training)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        total_nats(network, IDS, CPU, between=between)
    assert calls == [False] * 3
    assert network.training


def test_evaluation_restores_the_mode_and_draws_no_dropout() -> None:
    network = build("modern")
    network.train()
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    assert total_nats(network, IDS, CPU) == total_nats(network, IDS, CPU)
    assert network.training


def test_unknown_characters_cost_a_choice_among_all_characters() -> None:
    ids = np.array([0, 3, 0, 5], dtype=np.uint16)
    assert naming_nats(ids, None).tolist() == [0] * 4
    assert naming_nats(ids, 0) == pytest.approx([math.log(1_112_064), 0, math.log(1_112_064), 0])


def test_levels_compare_by_the_text_not_by_the_token() -> None:
    text = "Où va-t-il ?\n"
    coarse, fine = Score.of(20.0, 4, text), Score.of(20.0, 13, text)
    assert coarse.loss_nats != fine.loss_nats
    assert coarse.bits_per_char == fine.bits_per_char == pytest.approx(20 / math.log(2) / 13)
    assert coarse.bits_per_byte == pytest.approx(20 / math.log(2) / 14)  # ù has two bytes
    assert coarse.word_perplexity == pytest.approx(math.exp(20 / 3))
    assert coarse.word_perplexity == pytest.approx(2 ** (coarse.bits_per_char * len(text) / 3))


def test_a_text_without_spaces_has_a_finite_word_perplexity() -> None:
    assert math.isfinite(Score.of(1e6, 1000, "雨" * 1000).word_perplexity)
