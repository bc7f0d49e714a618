"""Small bundles for tests: a character tokenizer of our own text, and networks of every kind."""

from pathlib import Path
from typing import Any

import torch

from gptmodel import files
from gptmodel.data import fitting
from gptmodel.data.tokenizer import Tokenizer
from gptmodel.export import bundle_writer
from gptmodel.model import networks
from gptmodel.model.bigram import Bigram
from gptmodel.params import BigramNetwork
from gptmodel.results.bundle import BundleInfo, Cost, FileEntry, Origin, Parity
from gptmodel.results.evaluation import Metrics, SplitScore
from gptmodel.runtime import bundle
from gptmodel.runtime.graphs import GRAPHS
from tests.support.networks import CONFIGS

TEXT = "— Où vas-tu ? demanda l'enfant.\nLe vieil homme rêvait d'une île, là-bas.\n"


def char_tokenizer() -> Tokenizer:
    """Return a tokenizer of the characters of `TEXT`."""
    return fitting.fit_char(TEXT, min_count=1)


def chain(words: Tokenizer, text: str) -> Bigram:
    """Return a bigram that can only recite `text`, whose tokens must all differ, over and over."""
    ids = words.encode(text).tolist()
    assert len(set(ids)) == len(ids)
    network = Bigram(BigramNetwork(network="bigram", context=8), words.vocab_size).eval()
    with torch.no_grad():
        for here, there in zip(ids, ids[1:] + ids[:1], strict=True):
            network.table.weight[here, there] = 1000.0
    return network


PARITY = Parity(
    tolerance=1e-4,
    positions=20_000,
    windows_difference=1e-6,
    ragged_difference=1e-6,
    stepwise_difference=1e-6,
    greedy_tokens=500,
    greedy_tokens_equal=500,
)
COST = Cost(limit=0.005, tokens=1234, torch_nats=2000.0, nats=2001.0, change=0.0005)
SCORE = SplitScore(
    loss_nats=1.7,
    bits_per_char=2.5,
    bits_per_byte=2.4,
    word_perplexity=3000.0,
    tokens=1234,
    characters=1234,
    bits_per_char_low=2.4,
    bits_per_char_high=2.6,
    sliding_bits_per_char=2.4,
    dynamic_bits_per_char=2.3,
    unigram_bits_per_char=4.4,
    bigram_bits_per_char=3.5,
    lines_in_training=0.0,
)


def info(network: networks.LanguageModel, files: dict[str, FileEntry], **changes: Any) -> BundleInfo:
    """Return a description of a network that nobody trained."""
    specs = [spec for spec in GRAPHS.values() if spec.every_network or not isinstance(network, Bigram)]
    values: dict[str, Any] = {
        "model": "essai",
        "level": "char",
        "context": 1 if isinstance(network, Bigram) else network.context,
        "vocab_size": network.vocab_size,
        "network": network.config,
        "parameters": networks.count_parameters(network),
        "corpus": Origin(name="essai", title="Un essai", author="nous", year=2026, language="fr", licence="MIT"),
        "example_prompt": "L'île ",
        "metrics": Metrics(best_step=3, parameters=1, validation=SCORE, test=SCORE),
        "graphs": {spec.name: PARITY if spec.gate == "parity" else COST for spec in specs},
        "versions": {"gptmodel": "0"},
        "best_step": 3,
        "fingerprint": "f" * 64,
        "files": files,
    }
    return BundleInfo(**(values | changes))


def write(folder: Path, network: networks.LanguageModel, words: Tokenizer, **changes: Any) -> Path:
    """Write a bundle and return its folder."""
    with files.whole_folder(folder) as partial:
        words.save(partial / bundle.TOKENIZER)
        bundle_writer.write_graphs(partial, network, words.encode(TEXT))
        info(network, bundle.list_files(partial), **changes).write(partial / bundle.INFO)
    return folder


def random_network(kind: str, words: Tokenizer) -> networks.LanguageModel:
    """Return a network of a kind for a tokenizer, its weights spread enough that texts differ."""
    torch.manual_seed(7)
    network = networks.build(CONFIGS[kind], words.vocab_size).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return network
