"""What the stages fetch and clean say about a text: its title page, its files, and its splits."""

from typing import Annotated, Literal

from pydantic import Field

from gptmodel.results.record import Record

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]  # ISO 639: fr, en
SplitName = Literal["train", "validation", "test"]
Typography = Literal["fr", "other"]

OWN_TEXT = "your own text"  # the licence of a text that the user brought


class Work(Record):
    """What a text is, who wrote it, and under which licence it may be used."""

    title: str = Field(description="as on the title page")
    author: str | None = Field(description="null if not known")
    year: int | None = Field(description="of the first publication")
    language: Language | None = Field(description="null if not known; the clean stage then tells French and English")
    licence: str = Field(description="of the text and of its digital edition")
    source: str = Field(description="where the text comes from")


class TextFile(Record):
    """One file of a corpus."""

    name: str = Field(description="path inside the corpus folder, with /")
    bytes: int = Field(ge=0)
    sha256: Sha256


class FetchedCorpus(Work):
    """data/raw/corpus.json."""

    name: str = Field(description="of the corpus: its key in the catalog, or the name of your own file or folder")
    files: list[TextFile]


class SplitText(Record):
    """One split of the cleaned text: file NAME.txt."""

    characters: int = Field(ge=0)
    sha256: Sha256


class TextFacts(Record):
    """data/clean/text/text.json: what of a corpus reaches the models. No title page: a new licence retrains nothing."""

    name: str = Field(description="of the corpus")
    language: Language | None = Field(
        description="as given, in the catalog, or as cleaning found it; null if not known"
    )
    typography: Typography = Field(description="fr: French typography was applied")
    prompts: list[str] = Field(
        default=["\n"], description="how the training text's sentences begin: what `auto` stands for"
    )
    splits: dict[SplitName, SplitText]


class CleanCorpus(FetchedCorpus):
    """data/clean/corpus.json: the title page and the splits."""

    typography: Typography = Field(description="fr: French typography was applied")
    characters: int = Field(description="of the cleaned text; the sum of the splits")
    splits: dict[SplitName, SplitText]
