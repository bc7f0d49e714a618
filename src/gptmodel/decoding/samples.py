"""Text that a model writes for people to look at."""

from collections.abc import Iterable, Sequence

from gptmodel.data.tokenizer import Tokenizer
from gptmodel.decoding import generation
from gptmodel.decoding.engine import Decoder
from gptmodel.decoding.sampling import Sampling
from gptmodel.decoding.sequence import Settings
from gptmodel.results.samples import Sample, Samples


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
    samples: list[Sample] = []
    for sampling in samplings:
        samples += write(decoder, tokenizer, prompts, sampling, max_new_tokens, seed)
    return Samples(samples=samples)
