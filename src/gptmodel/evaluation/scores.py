"""How well a network predicts each split, how sure that is, and where its bits go.

The main figure is `bits_per_char`: exact, every character counted, in windows that do not overlap. The other protocols
stand apart: `sliding` (windows that overlap, so that no token has a short past) and `dynamic` (the network learns while
it reads). Beside them stand counts of the same tokens; counts of characters are in `baselines`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch

from gptmodel.arrays import Floats, Ids
from gptmodel.data.dataset import Dataset
from gptmodel.data.tokenizer import naming_nats
from gptmodel.evaluation import bootstrap, breakdown, surprisal
from gptmodel.evaluation.contamination import shared_text
from gptmodel.evaluation.dynamic_evaluation import dynamic_nats
from gptmodel.evaluation.ngram import Counts
from gptmodel.evaluation.surprisal import CharacterCosts, character_nats
from gptmodel.model.loss import Score, sliding_nats, token_nats
from gptmodel.model.networks import LanguageModel, count_parameters
from gptmodel.results.corpus import SplitName
from gptmodel.results.evaluation import SCORED, Breakdown, Metrics, Scored, SplitScore
from gptmodel.results.training import Meta


@dataclass(frozen=True)
class Scores:
    """What the evaluate stage finds out about a network's predictions."""

    metrics: Metrics
    costs: CharacterCosts
    breakdown: Breakdown  # of the main split

    def write(self, folder: Path) -> None:
        """Write metrics.json, and in details/ breakdown.json and the cost of every character."""
        self.metrics.write(folder / "metrics.json")
        self.breakdown.write(folder / "details" / "breakdown.json")
        self.costs.write(folder / "details" / surprisal.FILE)


@dataclass(frozen=True)
class EncodedText:
    """The text of one split, its tokens, and what naming the unknown characters among them costs."""

    ids: Ids  # (tokens,)
    text: str
    naming: Floats  # (tokens,), nats

    @classmethod
    def of(cls, data: Dataset, texts: Mapping[SplitName, str], split: Scored) -> Self:
        """Return a split of `data`, whose text is in `texts`."""
        ids = data.ids[split]
        return cls(ids, texts[split], naming_nats(ids, data.tokenizer.unknown_id))

    def bits_per_char(self, nats: float) -> float:
        """Return what a character costs, where all the tokens cost `nats` without the names of unknown characters."""
        return Score.of(nats + float(self.naming.sum()), len(self.ids), self.text).bits_per_char


def score(
    network: LanguageModel,
    data: Dataset,
    texts: Mapping[SplitName, str],
    device: torch.device,
    dynamic_rate: float,
    meta: Meta,
) -> Scores:
    """Score the network on validation and, where there is text, on test; `texts` are those of `data`, by split.

    `dynamic_rate` is that of `dynamic_evaluation`; `meta` is that of the network's checkpoint.
    `UserError` if the tokens of `data` are not those of `texts`.
    """
    counts = Counts.fit(data.ids["train"], data.tokenizer.vocab_size)
    scored: dict[Scored, SplitScore] = {}
    costs: dict[Scored, Floats] = {}
    breakdowns: dict[Scored, Breakdown] = {}
    for split in (split for split in SCORED if len(data.ids[split])):
        part = EncodedText.of(data, texts, split)
        nats = token_nats(network, part.ids, device) + part.naming
        costs[split] = character_nats(data.tokenizer, part.ids, nats, part.text)
        breakdowns[split] = breakdown.breakdown(
            split, data.tokenizer, part.ids, nats, part.text, network.context, meta.fingerprint
        )
        exact = Score.of(float(nats.sum()), len(part.ids), part.text)
        interval = bootstrap.interval(costs[split])
        scored[split] = SplitScore(
            loss_nats=exact.loss_nats,
            bits_per_char=exact.bits_per_char,
            bits_per_byte=exact.bits_per_byte,
            word_perplexity=exact.word_perplexity,
            tokens=exact.tokens,
            characters=exact.characters,
            bits_per_char_low=interval.low,
            bits_per_char_high=interval.high,
            sliding_bits_per_char=part.bits_per_char(sliding_nats(network, part.ids, device)),
            dynamic_bits_per_char=part.bits_per_char(dynamic_nats(network, part.ids, device, dynamic_rate)),
            unigram_bits_per_char=part.bits_per_char(counts.unigram_nats(part.ids)),
            bigram_bits_per_char=part.bits_per_char(counts.bigram_nats(part.ids)),
            lines_in_training=shared_text(texts["train"], part.text),
        )
    metrics = Metrics(best_step=meta.best_step, parameters=count_parameters(network), **scored)
    return Scores(metrics, CharacterCosts.of(costs, texts), breakdowns[metrics.main_split])
