"""Which words of a text exist: in the training text, or in a lexicon of the language.

The lexicon is the word list of pyspellchecker (MIT, pure Python, no dependencies), with conjugated forms. Others were
tried: wordfreq lists what people mistype, and simplemma lacks words that are never inflected (dont, temps). Names that
the training text lacks count as unknown. A compound is known if its parts are.
"""

import re
from collections.abc import Callable, Collection

from gptmodel.data.pretokenizer import blocks, units

LANGUAGES = ("fr", "en")
_WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")
_CLITIC = re.compile(r"^-(?:t-)?")

Knows = Callable[[str], bool]


def words(text: str, language: str | None) -> list[str]:
    """Return the words of `text` in lower case, without numbers.

    French is cut into the units of the word level: elisions (l' qu') and inversions (-il, -t-il) are words of their
    own. Other languages keep what stands between apostrophes and hyphens together.

    >>> words("L'homme, dit-il, a peut-être 30 ans.", "fr")
    ["l'", 'homme', 'dit', 'il', 'a', 'peut-être', 'ans']
    >>> words("Don't be long-winded.", "en")
    ["don't", 'be', 'long-winded']
    """
    text = text.lower().replace("’", "'")
    if language != "fr":
        return _WORD.findall(text)
    found = (_CLITIC.sub("", unit.strip()) for unit in units(text))
    return [word for word in found if any(character.isalpha() for character in word)]


def vocabulary(text: str, language: str | None) -> set[str]:
    """Return the different `words` of a long text. What white space separates is cut once: no word reaches across."""
    different = {separate for block in blocks(text) for separate in block.split()}
    return set(words(" ".join(different), language))


def load(language: str | None) -> Knows | None:
    """Return the test whether a word (as `words` gives it) is in the lexicon of `language`.

    None if there is no lexicon for it, or if pyspellchecker is not installed.
    """
    if language not in LANGUAGES:
        return None
    try:
        from spellchecker import SpellChecker
    except ModuleNotFoundError:
        return None
    forms = SpellChecker(language=language).word_frequency.dictionary
    return lambda word: knows(word, forms)


def knows(word: str, forms: Collection[str]) -> bool:
    """Return whether the word, or each part of a compound, is among `forms`: as it is, with oe for œ, without 's.

    >>> knows("demi-cœur", {"demi", "coeur"}), knows("king's", {"king"}), knows("demi-xyz", {"demi", "coeur"})
    (True, True, False)
    """
    plain = word.replace("œ", "oe").replace("æ", "ae")
    if any(form in forms for form in (word, plain, plain.removesuffix("'s"))):
        return True
    parts = plain.split("-")
    return len(parts) > 1 and all(part in forms for part in parts)
