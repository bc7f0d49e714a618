"""Text that a model writes for people to look at."""

from gptmodel import params
from gptmodel.data.tokenizer import Tokenizer
from gptmodel.decoding import generation
from gptmodel.decoding.engine import Decoder
from gptmodel.decoding.sampling import Sampling
from gptmodel.decoding.sequence import Settings
from gptmodel.results.samples import Sample, Samples


def write(
    decoder: Decoder, tokenizer: Tokenizer, prompts: list[str], sampling: Sampling, max_new_tokens: int, seed: int
) -> list[Sample]:
    """Return one sample of each prompt."""
    finished = generation.complete(decoder, tokenizer, prompts, Settings(max_new_tokens, sampling, seed))
    return [
        Sample(prompt=written.prompt, text=written.text, temperature=sampling.temperature, seed=seed)
        for written in finished
    ]


def write_all(decoder: Decoder, tokenizer: Tokenizer, settings: params.Samples, seed: int) -> Samples:
    """Return a sample of each prompt at each temperature."""
    samples = []
    for temperature in settings.temperatures:
        sampling = Sampling(temperature, settings.top_k, settings.top_p)
        samples += write(decoder, tokenizer, settings.prompts, sampling, settings.max_new_tokens, seed)
    return Samples(samples=samples)
