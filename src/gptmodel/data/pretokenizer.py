"""Units of French text, which the word and bpe levels are built on: one regular expression that loses nothing.

- One space before a unit belongs to it, as in GPT-2; a run of line feeds is a unit; other white space stands alone.
- Elisions end after the apostrophe (l' d' qu'); words that hold one inside stay whole (aujourd'hui, quelqu'un).
- Inversions are units of their own (-il, -t-il, -vous, -ce, -là); other compounds stay whole (peut-être).
- Digits and punctuation marks, guillemets and dashes are single.

Left out on purpose: a lexicon. So the noun rendez-vous is cut like the verb, and m'sieur after its apostrophe.
"""

import re
from collections.abc import Iterator

from tokenizers import Regex, pre_tokenizers

BLOCK_CHARACTERS = 1 << 16

# Onigmo's syntax. Every repetition is bounded, so that no text takes quadratic time.
_L = r"[\p{L}\p{M}]"
_LETTERS = _L + "{1,32}"
_END = rf"(?!{_L}|-{_L})"
_CLITIC = r"-(?i:t-(?:ils?|elles?|on|en|y)|je|tu|ils?|elles?|on|nous|vous|ce|moi|toi|lui|leur|les?|la|y|en|là|ci)"
_ELIDED_CLITIC = rf"-(?i:[tml])['’](?={_L})"  # va-t'en, donne-m'en
_BEFORE_CLITIC = rf"(?:{_CLITIC}){{1,4}}{_END}|{_ELIDED_CLITIC}"
UNIT = "|".join(
    [
        # words with an apostrophe inside
        rf" ?(?i:aujourd['’]hui|quelqu['’]une?|presqu['’][iî]les?|(?:grand|entr|prud)['’]{_LETTERS})(?!{_L})",
        rf" ?{_LETTERS}-(?i:d)['’]{_LETTERS}(?!{_L})",  # chef-d'oeuvre
        # elisions end after the apostrophe: l' d' qu' jusqu'
        rf" ?{_LETTERS}['’](?={_L})",
        r" ?(?i:[cdjlmnst]|(?:jus|lors|puis|quoi)?qu)['’]",
        # inversions: dit-il is dit + -il, donne-le-moi is donne + -le + -moi
        rf"(?<={_L})(?:{_CLITIC}(?=(?:{_CLITIC}){{0,3}}{_END})|{_ELIDED_CLITIC})",
        # words; compounds stay whole: peut-être, arc-en-ciel
        rf" ?{_LETTERS}(?:(?!{_BEFORE_CLITIC})-{_LETTERS}){{0,7}}",
        # one digit; one mark; a run of line feeds; any other white space
        r" ?\p{N}",
        r" ?[^\s\p{L}\p{M}\p{N}]",
        r"\n{1,8}",
        r"\s",
    ]
)
_CUT = re.compile(r"(?<=\n)(?!\n)|(?= )")  # no unit reaches across, and none looks further


def units(text: str) -> list[str]:
    """Cut `text` into the units that the word and bpe levels build on; joined, they are `text` again.

    >>> units("Aujourd'hui, dit-il, l'arc-en-ciel !")
    ["Aujourd'hui", ',', ' dit', '-il', ',', " l'", 'arc-en-ciel', ' !']
    """
    return [unit for unit, _ in unit_splitter().pre_tokenize_str(text)]


def blocks(text: str, characters: int = BLOCK_CHARACTERS) -> Iterator[str]:
    """Cut `text` into blocks of at least `characters`, so that the ids of the blocks, joined, are the ids of `text`.

    A block ends after a run of line feeds or before a space, where no unit reaches across.

    >>> list(blocks("un deux\\n\\ntrois", 1))
    ['un', ' deux\\n\\n', 'trois']
    """
    start = 0
    while start < len(text):
        cut = _CUT.search(text, start + characters)
        end = cut.start() if cut else len(text)
        yield text[start:end]
        start = end


def unit_splitter() -> pre_tokenizers.Split:
    """Return the cut into units as the `tokenizers` library applies it."""
    return pre_tokenizers.Split(Regex(UNIT), "isolated")
