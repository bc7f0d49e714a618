"""Text that a model writes for people to look at."""

from collections.abc import Iterable, Sequence
from itertools import chain

from gptmodel.data.tokenizer import Tokenizer
from gptmodel.decoding import generation
from gptmodel.decoding.engine import Decoder
from gptmodel.decoding.sampling import Sampling
from gptmodel.decoding.sequence import Settings
from gptmodel.results.corpus import TextFacts
from gptmodel.results.samples import Sample, Samples

AUTO = "auto"


def prompts(asked: Sequence[str], text: TextFacts) -> list[str]:
    """Return the prompts of params.yaml; the word `auto` stands for those that were taken from the training text."""
    return list(chain.from_iterable(text.prompts if prompt == AUTO else [prompt] for prompt in asked))


def write(
    decoder: Decoder, tokenizer: Tokenizer, prompts: Sequence[str], sampling: Sampling, max_new_tokens: int, seed: int
) -> list[Sample]:
    """Return one sample of each prompt."""
    settings = Settings(max_new_tokens, sampling, seed)
    return [
        Sample(prompt=written.prompt, text=written.text, temperature=sampling.temperature, seed=seed)
        for written in generation.complete(decoder, tokenizer, prompts, settings)
    ]


def write_all(
    decoder: Decoder,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    samplings: Iterable[Sampling],
    max_new_tokens: int,
    seed: int,
) -> Samples:
    """Return a sample of each prompt, drawn in each of the ways of `samplings`."""
    written = (write(decoder, tokenizer, prompts, sampling, max_new_tokens, seed) for sampling in samplings)
    return Samples(samples=list(chain.from_iterable(written)))
