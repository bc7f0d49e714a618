"""What a network pays for a split, beside the counts of the same tokens: the floors that it must beat."""

import torch

from gptmodel import ngram
from gptmodel.dataset import Dataset
from gptmodel.evaluation import Score, total_nats, unknown_nats
from gptmodel.networks import LanguageModel


def score_split(network: LanguageModel, data: Dataset, split: str, text: str, device: torch.device) -> dict[str, float]:
    """Return the figures of `split` for metrics.json: the network's, then bits per character of the counts.

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
