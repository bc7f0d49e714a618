"""Which of several models is better on the same text: what `gptmodel compare --json` prints and the report shows."""

from pydantic import Field

from gptmodel.results.corpus import Sha256
from gptmodel.results.evaluation import Scored
from gptmodel.results.record import Record


class ModelScore(Record):
    """The score of one model with the ends of its 95 % interval, in bits per character."""

    name: str = Field(description="of a model or a baseline")
    bits_per_char: float
    low: float
    high: float


class Pair(Record):
    """The difference of two models on the same characters, a minus b, in bits per character."""

    a: str = Field(description="the better one")
    b: str
    bits_per_char: float = Field(description="a minus b: 0 or less")
    low: float = Field(description="lower end of the 95 % interval of the difference")
    high: float = Field(description="upper end of it")
    certainty: float = Field(description="share of the resampled texts on which the difference has the same sign")
    is_real: bool = Field(description="whether the interval excludes 0, so that chance alone does not explain it")


class Comparison(Record):
    """Several models on one text."""

    split: Scored
    characters: int
    sha256: Sha256 = Field(description="of the text")
    models: list[ModelScore] = Field(description="the best first")
    pairs: list[Pair] = Field(description="every two of them, the better one as a")
