"""What a prompt becomes before the model sees it.

- It is put into Unicode NFC (é as one character), as cleaning does with the training text.
- A character that a char-level vocabulary lacks is replaced by its closest plain form that the vocabulary has (œ by oe,
  Ñ by N, a no-break space by a space), else it is left out; `unknown_characters` names what is left out.
- An empty prompt starts from a line break, or from the first token of a vocabulary without one; it is not shown.
- At word and bpe level a space belongs to the word after it. So the last space of a prompt is handed to the first
  generated token, which then must begin with a space; it is not shown twice.
- Of a long prompt the model sees the end only (`engine.window_start`).
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from gptmodel.arrays import Mask
from gptmodel.data.tokenizer import Tokenizer

OPENING_QUOTE = r"(?<![^\s(\[—–'’-])\""  # a " at the beginning or after one of these; any other one closes

# What Unicode does not tell: letters that stand for others, and what else a mark may be written as, the closest first.
LETTERS = str.maketrans(
    {"œ": "oe", "Œ": "OE", "æ": "ae", "Æ": "AE", "ß": "ss", "ẞ": "SS", "þ": "th", "Þ": "Th"}
    | dict(zip("øØđĐðÐłŁħĦŧŦı", "oOdDdDlLhHtTi", strict=True))
    | {"⁄": "/"}  # as in ½
)
MARKS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys("'’‘ʼ‛′´`‹›", ("'", "’")),
    **dict.fromkeys("“„‟", ("« ", '"', "'", "’")),
    **dict.fromkeys('”"', ("”", " »", '"', "'", "’")),
    "«": ("“", '"'),
    "»": ("”", '"'),
    **dict.fromkeys("—–―", ("—", "–", "-")),
    "−": ("-",),
    "×": ("x",),
    **dict.fromkeys("\t\n\x85\u2028\u2029", (" ",)),
    "\r": ("",),
}


class Start(NamedTuple):
    """The token ids of a prompt, at least one, and whether the first generated token must begin with its last space."""

    ids: list[int]
    owes_space: bool


def start(tokenizer: Tokenizer, prompt: str) -> Start:
    """Return what the model reads of a prompt; `UserError` as `tokenizer.encode`."""
    seen = known_text(tokenizer, prompt)
    owes_space = tokenizer.level != "char" and len(seen) > 1 and seen.endswith(" ")
    ids = tokenizer.encode(seen[:-1] if owes_space else seen).tolist()
    if not ids and not tokenizer.unknown_characters("\n"):
        ids = tokenizer.encode("\n").tolist()
    known = (token for token in range(tokenizer.vocab_size) if token != tokenizer.unknown_id)
    return Start(ids or [next(known)], owes_space)


def begins_with_space(tokenizer: Tokenizer) -> Mask:
    """Return which tokens begin with a space, shape (V,)."""
    return np.array([token.startswith(b" ") for token in tokenizer.token_bytes])


def known_text(tokenizer: Tokenizer, prompt: str) -> str:
    """Return a prompt in NFC, its unknown characters replaced by their plain forms or left out."""
    text = unicodedata.normalize("NFC", prompt)
    unknown = tokenizer.unknown_characters(text)
    if '"' in unknown:
        text = re.sub(OPENING_QUOTE, "“", text).replace('"', "”")
        unknown = tokenizer.unknown_characters(text)
    return text.translate({ord(character): plain_form(tokenizer, character) for character in unknown})


def unknown_characters(tokenizer: Tokenizer, prompts: Iterable[str]) -> list[str]:
    """Return the distinct characters that are left out of the prompts: neither they nor a plain form are known."""
    unknown = tokenizer.unknown_characters("".join(unicodedata.normalize("NFC", prompt) for prompt in prompts))
    return [character for character in unknown if plain_form(tokenizer, character) is None]


def plain_form(tokenizer: Tokenizer, character: str) -> str | None:
    """Return the closest plain form of a character that the vocabulary has, None if it has none."""
    return next((form for form in plain_forms(character) if not tokenizer.unknown_characters(form)), None)


def plain_forms(character: str) -> list[str]:
    """Return what a character may be written as, the closest first: as another mark, without accents, in other case.

    An accent alone, and what is not seen (a soft hyphen, a joiner), may be left out.

    >>> plain_forms("Œ")
    ['Œ', 'Œ', 'Œ', 'OE', 'œ', 'œ', 'œ', 'oe']
    """
    decomposed = unicodedata.normalize("NFKD", character)
    bare = "".join(
        part for part in decomposed if not unicodedata.combining(part) and unicodedata.category(part) != "Cf"
    )
    forms = [character, *MARKS.get(character, ()), decomposed, bare, bare.translate(LETTERS)]
    return forms + [form.swapcase() for form in forms]


def notes(tokenizer: Tokenizer, prompts: Sequence[str], context: int) -> Iterator[str]:
    """Yield what a person should know of the prompts before reading what the model makes of them, a line each."""
    if left_out := unknown_characters(tokenizer, prompts):
        yield f"left out of the prompts, as the model has never seen them: {' '.join(map(repr, left_out))}"
    if "" in prompts:
        yield "an empty prompt starts from a line break"
    longest = max(len(tokenizer.encode(known_text(tokenizer, prompt))) for prompt in prompts)
    if longest > context > 1:
        yield f"the longest prompt has {longest:,} tokens: the model sees the last {context:,} at most"
