"""What the stage encode says about the splits of a level: stats.json."""

from pydantic import Field

from gptmodel.params import Level
from gptmodel.results.corpus import SplitName
from gptmodel.results.record import Record


class SplitStatistics(Record):
    """The figures of one split, counted over the whole of it."""

    characters: int
    bytes: int = Field(description="in UTF-8")
    tokens: int
    characters_per_token: float = Field(description="0 for an empty split")
    words: int = Field(description="separated by white space")
    spelled_share: float = Field(description="of the units, spelled as the vocabulary lacks them; 0 at char and bpe")
    unknown_characters: int = Field(description="how many became the unknown token; char level only")
    unknown_distinct: str = Field(description="which ones, sorted")


class TokenStatistics(Record):
    """stats.json."""

    level: Level
    vocab_size: int
    splits: dict[SplitName, SplitStatistics]
