"""Text that a model writes for people to look at, as data and as Markdown."""

from gptmodel.data.tokenizer import Tokenizer
from gptmodel.decoding import generation
from gptmodel.decoding.engine import Decoder
from gptmodel.decoding.sampling import Sampling
from gptmodel.params import Samples
from gptmodel.results.samples import Sample


def write(
    decoder: Decoder, tokenizer: Tokenizer, prompts: list[str], sampling: Sampling, max_new_tokens: int, seed: int
) -> list[Sample]:
    """Return one sample of each prompt."""
    how = generation.Settings(max_new_tokens, sampling, seed)
    done = generation.complete(decoder, tokenizer, prompts, how)
    return [Sample(prompt=one.prompt, text=one.text, temperature=sampling.temperature, seed=seed) for one in done]


def write_all(decoder: Decoder, tokenizer: Tokenizer, settings: Samples, seed: int) -> list[Sample]:
    """Return a sample of each prompt at each temperature."""
    samples = []
    for temperature in settings.temperatures:
        sampling = Sampling(temperature, settings.top_k, settings.top_p)
        samples += write(decoder, tokenizer, settings.prompts, sampling, settings.max_new_tokens, seed)
    return samples
