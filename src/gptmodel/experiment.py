"""One training as something that has a name: what goes into it, and a fingerprint of all that decides its weights."""

from gptmodel import batches, bigram, evaluation, gpt, networks, optim, training
from gptmodel.checkpoint import Meta
from gptmodel.corpus import CleanCorpus
from gptmodel.dataset import Dataset
from gptmodel.params import Params
from gptmodel.provenance import fingerprint

CODE = [batches, bigram, evaluation, gpt, networks, optim, training]  # what determines the weights, beside the values


def describe(name: str, settings: Params, data: Dataset, corpus: CleanCorpus) -> Meta:
    """Return the meta of the training of model `name` on `data`; its fingerprint holds parameters, data and code."""
    config, hashes = settings.variant(name), data.hashes()
    values = {"model": config.model_dump(mode="json"), "seed": settings.seed, "data": hashes}
    return Meta(
        variant=name,
        level=config.tokenizer,
        network=config.architecture(),
        vocab_size=data.tokenizer.vocab_size,
        tokenizer_sha256=hashes["tokenizer.json"],
        corpus=corpus.model_dump(mode="json"),
        fingerprint=fingerprint(values, CODE),
        seed=settings.seed,
    )
