"""What a network pays for each split, beside the counts of the same tokens: the floors that it must beat."""

from pathlib import Path
from typing import Any

import torch

from gptmodel import ngram
from gptmodel.dataset import Dataset
from gptmodel.evaluation import Score, total_nats, unknown_nats
from gptmodel.networks import LanguageModel, count_parameters

SCORED = ("validation", "test")


def score(network: LanguageModel, data: Dataset, texts: Path, device: torch.device) -> dict[str, Any]:
    """Return the figures for metrics.json: the network's size and, by split that has text, what it pays.

    `texts` is the folder of validation.txt and test.txt, the texts of `data`.
    """
    metrics: dict[str, Any] = {"parameters": count_parameters(network)}
    for split in SCORED:
        if len(data.ids[split]):
            text = (texts / f"{split}.txt").read_bytes().decode("utf-8")
            metrics[split] = score_split(network, data, split, text, device)
    return metrics


def score_split(network: LanguageModel, data: Dataset, split: str, text: str, device: torch.device) -> dict[str, float]:
    """Return the network's figures for one split, then bits per character of the counts.

    The counts are fitted on the training split with the same tokenizer and charged for the same characters.
    """
    ids, train, vocab_size = data.ids[split], data.ids["train"], data.tokenizer.vocab_size
    naming = unknown_nats(ids, data.tokenizer.unknown_id)

    def score(nats: float) -> Score:
        return Score.of(nats + naming, len(ids), text)

    return {
        **score(total_nats(network, ids, device)).as_dict(),
        "unigram_bits_per_char": score(ngram.unigram_nats(train, ids, vocab_size)).bits_per_char,
        "bigram_bits_per_char": score(ngram.bigram_nats(train, ids, vocab_size)).bits_per_char,
    }


def summary(metrics: dict[str, Any]) -> str:
    """Return the main figures in a few words.

    >>> summary({"validation": {"bits_per_char": 2.0871}, "test": {"bits_per_char": 2.081}})
    'bits per character: validation 2.087, test 2.081'
    """
    scored = [f"{split} {metrics[split]['bits_per_char']:.3f}" for split in SCORED if split in metrics]
    return f"bits per character: {', '.join(scored)}"
