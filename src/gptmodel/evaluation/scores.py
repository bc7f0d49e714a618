"""What a network pays for each split, how sure that is, and where its bits go.

The main figure is `bits_per_char`: exact, every character charged, in windows that do not overlap. `sliding` (windows
that overlap, so that no token has a short past) and `dynamic` (the network learns while it reads) answer other
questions and stand apart. The counts of the same tokens stand beside them; those of characters are the `ladder`'s.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from gptmodel.arrays import Floats
from gptmodel.data.dataset import Dataset
from gptmodel.data.tokenizer import naming_nats
from gptmodel.evaluation import bootstrap, breakdown, ngram
from gptmodel.evaluation.contamination import shared_text
from gptmodel.evaluation.dynamic_evaluation import dynamic_nats
from gptmodel.evaluation.surprisal import CharacterCosts, character_nats
from gptmodel.model.checkpoint import Meta
from gptmodel.model.loss import Score, sliding_nats, token_nats
from gptmodel.model.networks import LanguageModel, count_parameters

SCORED = ("validation", "test")


@dataclass(frozen=True)
class Scores:
    """What the evaluate stage writes about a network's figures."""

    metrics: dict[str, Any]  # metrics.json
    costs: CharacterCosts  # surprisal.npz
    breakdown: dict[str, Any]  # breakdown.json, of the last split that has text


def score(
    network: LanguageModel, data: Dataset, texts: Mapping[str, str], device: torch.device, dynamic_rate: float
) -> Scores:
    """Charge the network for each split of `SCORED` that has text; `texts` are those of `data`, by split."""
    metrics: dict[str, Any] = {"parameters": count_parameters(network)}
    costs, parts = dict[str, Floats](), dict[str, Any]()
    for split in (split for split in SCORED if len(data.ids[split])):
        ids, text = data.ids[split], texts[split]
        naming = naming_nats(ids, data.tokenizer.unknown_id)
        nats = token_nats(network, ids, device) + naming
        costs[split] = character_nats(data.tokenizer, ids, nats, text)
        parts = breakdown.breakdown(split, data.tokenizer, ids, nats, text, network.context)
        _, low, high = bootstrap.interval(costs[split])

        def bits(total: float, ids: Any = ids, text: str = text, naming: float = naming.sum()) -> float:
            return Score.of(total + naming, len(ids), text).bits_per_char

        train, vocab_size = data.ids["train"], data.tokenizer.vocab_size
        metrics[split] = {
            **Score.of(float(nats.sum()), len(ids), text).as_dict(),
            "bits_per_char_low": low,
            "bits_per_char_high": high,
            "sliding_bits_per_char": bits(sliding_nats(network, ids, device)),
            "dynamic_bits_per_char": bits(dynamic_nats(network, ids, device, dynamic_rate)),
            "unigram_bits_per_char": bits(ngram.unigram_nats(train, ids, vocab_size)),
            "bigram_bits_per_char": bits(ngram.bigram_nats(train, ids, vocab_size)),
            "lines_in_training": shared_text(texts["train"], text),
        }
    return Scores(metrics, CharacterCosts.of(costs, dict(texts)), parts)


def summary(meta: Meta, metrics: Mapping[str, Any]) -> str:
    """Return what was learned and the main figures, in a line: those of `metrics.json`."""
    scored = [
        f"{split} {of['bits_per_char']:.3f} ({of['bits_per_char_low']:.3f} to {of['bits_per_char_high']:.3f})"
        for split, of in metrics.items()
        if split in SCORED
    ]
    return f"{meta.corpus['title']}, {meta.level} level: bits per character: {', '.join(scored)}"
