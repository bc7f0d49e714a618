"""Text that a model writes for people to look at, as data and as Markdown."""

from dataclasses import asdict, dataclass

from gptmodel import generation
from gptmodel.decoding import Decoder, Sampling
from gptmodel.params import Samples
from gptmodel.tokenizer import Tokenizer


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

    def markdown(self) -> str:
        """Return how it was made, then prompt (bold) and text as a quotation.

        >>> print(Sample("Il était", " une fois\\nun roi", 0.8, 1).markdown())
        temperature 0.8, seed 1
        <BLANKLINE>
        > **Il était** une fois\\
        > un roi
        <BLANKLINE>
        """
        opening = self.prompt.rstrip()
        continued = (self.prompt[len(opening) :] + self.text).rstrip()
        lines = (f"**{opening}**{continued}" if opening else continued).splitlines()
        quoted = "\\\n".join(f"> {line}" for line in lines if line.strip())
        return f"temperature {self.temperature}, seed {self.seed}\n\n{quoted}\n"


def write(
    decoder: Decoder,
    tokenizer: Tokenizer,
    settings: Samples,
    seed: int,
    prompts: list[str],
    temperatures: list[float],
    max_new_tokens: int,
) -> list[Sample]:
    """Return one sample of each prompt at each temperature."""
    samples = []
    for temperature in temperatures:
        sampling = Sampling(temperature, settings.top_k, settings.top_p)
        how = generation.Settings(max_new_tokens, sampling, seed)
        for done in generation.complete(decoder, tokenizer, prompts, how):
            samples.append(Sample(done.prompt, done.text, temperature, seed))
    return samples
