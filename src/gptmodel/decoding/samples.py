"""Text that a model writes for people to look at, as data and as Markdown."""

from dataclasses import asdict, dataclass

from gptmodel.data.tokenizer import Tokenizer
from gptmodel.decoding import generation
from gptmodel.decoding.engine import Decoder
from gptmodel.decoding.sampling import Sampling
from gptmodel.params import Samples


@dataclass(frozen=True)
class Sample:
    """One continuation and how it was made."""

    prompt: str
    text: str
    temperature: float
    seed: int

    def as_dict(self) -> dict[str, object]:
        """Return the fields for samples.json."""
        return asdict(self)

    def markdown(self, characters: int | None = None) -> str:
        """Return how it was made, then prompt (bold) and text as a quotation, cut after `characters` of it.

        >>> print(Sample("Il était", " une fois\\nun roi", 0.8, 1).markdown())
        temperature 0.8, seed 1
        <BLANKLINE>
        > **Il était** une fois\\
        > un roi
        <BLANKLINE>
        """
        opening = self.prompt.rstrip()
        text = self.text
        if characters is not None and len(text) > characters:
            text = f"{text[:characters].rstrip()} […]"
        continued = (self.prompt[len(opening) :] + text).rstrip()
        lines = (f"**{opening}**{continued}" if opening else continued).splitlines()
        quoted = "\\\n".join(f"> {line}" for line in lines if line.strip())
        return f"temperature {self.temperature}, seed {self.seed}\n\n{quoted}\n"


def write(
    decoder: Decoder, tokenizer: Tokenizer, prompts: list[str], sampling: Sampling, max_new_tokens: int, seed: int
) -> list[Sample]:
    """Return one sample of each prompt."""
    how = generation.Settings(max_new_tokens, sampling, seed)
    done = generation.complete(decoder, tokenizer, prompts, how)
    return [Sample(one.prompt, one.text, sampling.temperature, seed) for one in done]


def write_all(decoder: Decoder, tokenizer: Tokenizer, settings: Samples, seed: int) -> list[Sample]:
    """Return a sample of each prompt at each temperature."""
    samples = []
    for temperature in settings.temperatures:
        sampling = Sampling(temperature, settings.top_k, settings.top_p)
        samples += write(decoder, tokenizer, settings.prompts, sampling, settings.max_new_tokens, seed)
    return samples
