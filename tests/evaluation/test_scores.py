"""The figures of the evaluate stage: each is what its own function gives, over the whole text."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from gptmodel.data.dataset import Dataset
from gptmodel.data.fitting import fit_bpe, fit_char
from gptmodel.data.tokenizer import naming_nats
from gptmodel.errors import UserError
from gptmodel.evaluation import ngram, scores
from gptmodel.evaluation.bootstrap import interval
from gptmodel.evaluation.contamination import shared_text
from gptmodel.evaluation.dynamic_evaluation import dynamic_nats
from gptmodel.evaluation.surprisal import FILE, CharacterCosts
from gptmodel.model.loss import sliding_nats, total_nats
from gptmodel.model.networks import LanguageModel, count_parameters
from gptmodel.results.corpus import SplitName
from gptmodel.results.evaluation import Breakdown, Metrics, Scored
from tests.support import records
from tests.support.bundles import random_network
from tests.support.datasets import in_memory

CPU, RATE = torch.device("cpu"), 0.01
BOOK = "Il était une fois un chat, l'ami d'un vieux meunier.\nOù vas-tu ? dit-il ; « Là-bas », répondit le chat.\n" * 3
TEXTS: dict[SplitName, str] = {
    "train": BOOK,
    "validation": "Le chat dit : « Où vas-tu, vieux meunier ? »\n",
    "test": BOOK[:60] + "Un Ω inconnu.\n",
}
TOKENIZERS = {"char": fit_char(BOOK, 1), "bpe": fit_bpe(BOOK, 300)}


def given(kind: str, level: str, texts: dict[SplitName, str] = TEXTS) -> tuple[LanguageModel, Dataset]:
    return random_network(kind, TOKENIZERS[level]), in_memory(TOKENIZERS[level], texts)


@pytest.mark.parametrize("kind", ["bigram", "classic", "modern"])
@pytest.mark.parametrize("level", list(TOKENIZERS))
def test_every_figure_counts_every_character(kind: str, level: str) -> None:
    network, data = given(kind, level)
    scored = scores.score(network, data, TEXTS, CPU, RATE, records.meta("gpt").model_copy(update={"best_step": 7}))
    assert (scored.metrics.best_step, scored.metrics.parameters) == (7, count_parameters(network))
    vocab_size, train = data.tokenizer.vocab_size, data.ids["train"]
    for split, score in scored.metrics.splits.items():
        ids, text = data.ids[split], TEXTS[split]
        naming = float(naming_nats(ids, data.tokenizer.unknown_id).sum())

        def bits(nats: float, naming: float = naming, text: str = text) -> float:
            return (nats + naming) / math.log(2) / len(text)

        assert score.bits_per_char == pytest.approx(bits(total_nats(network, ids, CPU)), rel=1e-6)
        assert score.sliding_bits_per_char == pytest.approx(bits(sliding_nats(network, ids, CPU)))
        assert score.dynamic_bits_per_char == pytest.approx(bits(dynamic_nats(network, ids, CPU, RATE)))
        assert score.unigram_bits_per_char == pytest.approx(bits(ngram.unigram_nats(train, ids, vocab_size)))
        assert score.bigram_bits_per_char == pytest.approx(bits(ngram.bigram_nats(train, ids, vocab_size)))
        assert score.loss_nats * len(ids) == pytest.approx(score.bits_per_char * math.log(2) * len(text))
        assert score.bits_per_byte * len(text.encode()) == pytest.approx(score.bits_per_char * len(text))
        assert (score.tokens, score.characters) == (len(ids), len(text))
        assert score.lines_in_training == shared_text(BOOK, text)
        costs = scored.costs.nats[split]
        assert costs.sum(dtype=float) / math.log(2) == pytest.approx(score.bits_per_char * len(text), rel=1e-5)
        _, low, high = interval(costs)
        assert (score.bits_per_char_low, score.bits_per_char_high) == pytest.approx((low, high), rel=1e-5)


def test_an_unknown_character_costs_its_name_in_every_protocol() -> None:
    network, data = given("modern", "char")
    without: dict[SplitName, str] = {**TEXTS, "test": TEXTS["test"].replace("Ω", "c")}
    test = scores.score(
        network, data, TEXTS, CPU, RATE, records.meta("gpt").model_copy(update={"best_step": 0})
    ).metrics.test
    known = scores.score(
        network,
        in_memory(data.tokenizer, without),
        without,
        CPU,
        RATE,
        records.meta("gpt").model_copy(update={"best_step": 0}),
    ).metrics.test
    assert test is not None
    assert known is not None
    name = math.log2(1_112_064) / len(TEXTS["test"])
    for figure in ("bits_per_char", "sliding_bits_per_char", "dynamic_bits_per_char", "unigram_bits_per_char"):
        assert getattr(test, figure) - getattr(known, figure) > name / 2


@pytest.mark.parametrize(("test", "main"), [(TEXTS["test"], "test"), ("", "validation")])
def test_the_breakdown_is_that_of_the_main_split_and_the_files_come_back(
    test: str, main: Scored, tmp_path: Path
) -> None:
    texts: dict[SplitName, str] = {**TEXTS, "test": test}
    network, data = given("modern", "bpe", texts)
    scored = scores.score(network, data, texts, CPU, RATE, records.meta("gpt").model_copy(update={"best_step": 3}))
    assert scored.metrics.main_split == scored.breakdown.split == main
    assert sum(part.characters for part in scored.breakdown.by_class) == len(texts[main])
    assert set(scored.costs.nats) == set(scored.metrics.splits)
    scored.write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.json", "breakdown.json", FILE}
    assert Metrics.read(tmp_path / "metrics.json") == scored.metrics
    assert Breakdown.read(tmp_path / "breakdown.json") == scored.breakdown
    assert np.array_equal(CharacterCosts.read(tmp_path / FILE).nats[main], scored.costs.nats[main])


def test_tokens_of_another_text_are_refused() -> None:
    network, data = given("bigram", "char")
    with pytest.raises(UserError, match="run `dvc repro` from encode on"):
        scores.score(
            network,
            data,
            {**TEXTS, "test": "un autre texte"},
            CPU,
            RATE,
            records.meta("gpt").model_copy(update={"best_step": 0}),
        )
