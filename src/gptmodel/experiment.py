"""One training as something that has a name: what goes into it, and a fingerprint of all that decides its weights."""

from dataclasses import dataclass
from typing import Any

from gptmodel import batches, bigram, evaluation, gpt, networks, numerics, optim, processes, steps, training
from gptmodel.checkpoint import Meta
from gptmodel.corpus import CleanCorpus
from gptmodel.dataset import Dataset
from gptmodel.params import Params, Variant
from gptmodel.provenance import fingerprint

# what determines the weights, beside the values
CODE = [batches, bigram, evaluation, gpt, networks, numerics, optim, processes, steps, training]


@dataclass(frozen=True)
class Experiment:
    """A training before it begins."""

    config: Variant
    data: Dataset
    meta: Meta
    identity: dict[str, Any]  # the values that the fingerprint is made of, by name; data files by hash


def describe(name: str, settings: Params, data: Dataset, corpus: CleanCorpus, device: str) -> Experiment:
    """Return the training of model `name` on `data`; its fingerprint holds parameters, data, device and code."""
    config, hashes = settings.variant(name), data.hashes()
    identity = {
        "variant": name,
        "model": config.model_dump(mode="json"),
        "seed": settings.seed,
        "engine": settings.engine.model_dump(mode="json"),
        "device": device,
        "data": hashes,
    }
    meta = Meta(
        variant=name,
        level=config.tokenizer,
        network=config.architecture(),
        vocab_size=data.tokenizer.vocab_size,
        tokenizer_sha256=hashes["tokenizer.json"],
        corpus=corpus.model_dump(mode="json"),
        fingerprint=fingerprint(identity, CODE),
        seed=settings.seed,
    )
    return Experiment(config, data, meta, identity)
