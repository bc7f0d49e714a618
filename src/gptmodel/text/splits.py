"""Train, validation and test text: three pieces of one text, in this order, nothing in two of them.

Left out on purpose: shuffling. Pieces by position are the honest test of a language model: sentences of one page
never stand on both sides.
"""

from typing import NamedTuple

from gptmodel.errors import UserError
from gptmodel.params import Split
from gptmodel.results.corpus import SplitName


class Splits(NamedTuple):
    """The three texts; `test` is empty if its share is 0. Put together they are the whole text."""

    train: str
    validation: str
    test: str

    def named(self) -> dict[SplitName, str]:
        """Return the texts by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


def split(text: str, params: Split) -> Splits:
    """Cut the text by position; with `boundary: line` each cut moves on to the next beginning of a line.

    With `boundary: character` the training text is exactly int(n x share) characters, as in nanoGPT
    (karpathy/nanoGPT, data/shakespeare_char/prepare.py).

    `UserError` if a split whose share is not 0 would be empty.

    >>> split("un\\ndeux\\ntrois\\n", Split(train=0.5, validation=0.5, test=0.0, boundary="line"))
    Splits(train='un\\ndeux\\n', validation='trois\\n', test='')
    """
    by_line = params.boundary == "line"
    first = _cut(text, params.train, by_line)
    second = _cut(text, params.train + params.validation, by_line) if params.test else len(text)
    splits = Splits(text[:first], text[first:second], text[second:])
    for name, piece in splits.named().items():
        if not piece and getattr(params, name):
            raise UserError(
                f"split.{name}: {getattr(params, name):g} of {len(text):,} characters leaves it empty: "
                "give it a larger share, use a longer text, or set split.boundary: character"
            )
    return splits


def _cut(text: str, share: float, by_line: bool) -> int:
    position = int(len(text) * share)
    if not by_line or position == 0:
        return position
    return text.find("\n", position - 1) + 1 or len(text)
