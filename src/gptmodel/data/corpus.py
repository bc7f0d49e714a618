"""A corpus on disk: what data/raw and data/clean hold, read and written.

`text.catalog` fills data/raw, `text.cleaning` makes the text of data/clean. The splits lie apart from the title page,
so that another licence or title changes nothing that a model is made of.
"""

import hashlib
from pathlib import Path

from gptmodel.errors import UserError
from gptmodel.files import write_text
from gptmodel.results.corpus import CleanCorpus, FetchedCorpus, SplitName, SplitText, TextFacts, Typography

DESCRIPTION, FACTS, TEXT = "corpus.json", "text.json", "text"
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


def read_fetched(folder: Path) -> FetchedCorpus:
    """Read data/raw/corpus.json; `UserError` if the fetch stage has not run."""
    return FetchedCorpus.read(folder / DESCRIPTION, "run the fetch stage (python -m pipelines.fetch)")


def read_clean(folder: Path) -> CleanCorpus:
    """Read data/clean/corpus.json; `UserError` if the clean stage has not run."""
    return CleanCorpus.read(folder / DESCRIPTION, "run the clean stage (python -m pipelines.clean)")


def write_clean(
    folder: Path, corpus: FetchedCorpus, typography: Typography, splits: dict[SplitName, str], prompts: list[str]
) -> CleanCorpus:
    """Write corpus.json, and in text/ each split as NAME.txt (an empty one too) and text.json.

    `corpus` has the language that was found.
    """
    described = {
        name: SplitText(characters=len(text), sha256=hashlib.sha256(text.encode()).hexdigest())
        for name, text in splits.items()
    }
    clean = CleanCorpus(
        **dict(corpus), typography=typography, characters=sum(map(len, splits.values())), splits=described
    )
    facts = TextFacts(
        name=corpus.name, language=corpus.language, typography=typography, prompts=prompts, splits=described
    )
    for name, text in splits.items():
        write_text(folder / TEXT / f"{name}.txt", text)
    facts.write(folder / TEXT / FACTS)
    clean.write(folder / DESCRIPTION)
    return clean


def read_facts(folder: Path) -> TextFacts:
    """Read text.json, of data/clean/text or of a level's tokens."""
    return TextFacts.read(folder / FACTS, "run `dvc repro` from clean on")


def read_splits(folder: Path) -> dict[SplitName, str]:
    """Return the texts of data/clean/text with their line ends untouched, each checked against its SHA-256."""
    facts, texts = read_facts(folder), dict[SplitName, str]()
    for split in SPLITS:
        path = folder / f"{split}.txt"
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise UserError(f"{path} does not exist: run the clean stage first (dvc repro clean)") from None
        if hashlib.sha256(data).hexdigest() != facts.splits[split].sha256:
            raise UserError(f"{path} was altered (its SHA-256 differs from {FACTS}): run the clean stage again")
        texts[split] = data.decode("utf-8")
    return texts
