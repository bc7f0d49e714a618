"""Text that a model wrote for people to look at."""

from pydantic import Field

from gptmodel.results.record import Record


class Sample(Record):
    """One continuation and how it was made."""

    prompt: str
    text: str = Field(description="without the prompt")
    temperature: float
    seed: int

    def markdown(self, characters: int | None = None) -> str:
        """Return how it was made, then prompt (bold) and text as a quotation, cut after `characters` of it.

        >>> print(Sample(prompt="Il était", text=" une fois\\nun roi", temperature=0.8, seed=1).markdown())
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


class Samples(Record):
    """samples.json: each prompt at each temperature."""

    samples: list[Sample] = Field(min_length=1)

    def markdown(self) -> str:
        """Return samples.md."""
        return "\n".join(sample.markdown() for sample in self.samples)
