"""How the sentences of a text begin: the prompts of a model that was trained on it, where params.yaml says `auto`."""

import re
from collections import Counter

AUTO_PROMPTS = 3
_READ = 1_000_000  # characters, from the beginning
_OPENING = re.compile(
    r"""
    (?:^|(?<=[.!?…][ ]))  # where a line or a sentence begins
    (?=[^\w\s]*[ ]?[^\W\d_])  # with a letter, behind a dash or a quotation mark at most
    (?:\S{1,20}[ ]){2}(?=\S)  # two words and their spaces, but not the whole line
    """,
    re.VERBOSE | re.MULTILINE,
)
_LETTER = re.compile(r"[^\W\d_]")
_LINE_BEGINNING = re.compile(r"^\S.{0,7}", re.MULTILINE)  # of a text that puts no spaces between words


def openings(text: str) -> list[str]:
    """Return the commonest ways in which its sentences begin, at most `AUTO_PROMPTS`, no two with the same first word.

    Names in capitals (the speakers of a play) are left out, and what begins in lower case, unless all of them are.

    >>> openings("Il dort bien. Il dort mal. Elle rit, dit-on.\\n— Ah ! dit-il.\\nLE ROI RIT.\\n")
    ['Il dort ', 'Elle rit, ', '— Ah ']
    """
    text = text[:_READ]
    counted = [opening for opening, _ in Counter(_OPENING.findall(text)).most_common()]
    proper = [opening for opening in counted if not opening.isupper() and not _begins_small(opening)]
    found = dict[str, str]()
    for opening in proper or counted or _LINE_BEGINNING.findall(text) or ["\n"]:
        found.setdefault(opening.split(" ")[0], opening)
    return list(found.values())[:AUTO_PROMPTS]


def _begins_small(opening: str) -> bool:
    letter = _LETTER.search(opening)
    return letter is not None and letter[0].islower()
