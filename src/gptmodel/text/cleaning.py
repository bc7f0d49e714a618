"""Raw text to the text the networks learn from: a table of named rules, each a switch in params.yaml.

`clean` is a pure function from text to text. The rules run in the order of the table, and again until nothing changes
any more: so clean(clean(x)) == clean(x) for every x. Rules that judge a whole file come first; all others work inside
lines, so that a large text is cleaned block by block with the same result.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from gptmodel.params import Clean, CleanRules
from gptmodel.results.cleaning import CleanedFile
from gptmodel.results.corpus import FetchedCorpus, Language, Typography
from gptmodel.text import boilerplate, paragraphs, typography
from gptmodel.text.textfiles import read_text, require_enough

BLOCK = 1 << 18  # characters; a block ends at the next line end
SAMPLES = 5  # before/after pairs kept per rule

_INVISIBLE = re.compile("[\x00-\x08\x0e-\x1f\x7f\u00ad\u200b\u2060\ufeff]")
_LINE_END = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_WORD = re.compile(r"[^\W\d_]+")
_GUESSED_FROM = 100_000  # characters
_COMMON = {
    "fr": re.compile(r"\b(?:les|des|est|une|dans|pour|pas|qui|et|il|elle|du|au|avec|mais|nous|vous|ne|sur)\b"),
    "en": re.compile(r"\b(?:the|and|of|to|in|was|he|that|it|his|her|with|as|had|for|you|not|is|but|at)\b"),
}
_COMMON_SHARE = 0.08  # prose of the language has about twice as many of these words, prose of the other has none


def characters(text: str) -> tuple[str, int]:
    """Line ends to LF, Unicode to NFC; drop the byte-order mark, soft hyphens and other invisible characters.

    >>> characters("\\ufeffl'e\\u0301te\\u0301\\r\\n")
    ("l'été\\n", 4)
    """
    text, invisible = _INVISIBLE.subn("", text)
    text, ends = _LINE_END.subn("\n", text)
    if unicodedata.is_normalized("NFC", text):
        return text, invisible + ends
    composed = unicodedata.normalize("NFC", text)
    return composed, invisible + ends + max(1, len(text) - len(composed))


class Rule(NamedTuple):
    """One rule: its switch in params.yaml, its function (text -> text, changes), and where it applies."""

    name: str
    apply: Callable[[str], tuple[str, int]]
    whole_file: bool
    french_only: bool


RULES = (
    Rule("characters", characters, whole_file=True, french_only=False),
    Rule("gutenberg", boilerplate.gutenberg, whole_file=True, french_only=False),
    Rule("contents", boilerplate.contents, whole_file=True, french_only=False),
    Rule("unwrap", paragraphs.unwrap, whole_file=True, french_only=False),
    Rule("notes", typography.notes, whole_file=False, french_only=False),
    Rule("italics", typography.italics, whole_file=False, french_only=False),
    Rule("apostrophes", typography.apostrophes, whole_file=False, french_only=True),
    Rule("ellipses", typography.ellipses, whole_file=False, french_only=True),
    Rule("quotes", typography.quotes, whole_file=False, french_only=True),
    Rule("dashes", typography.dashes, whole_file=False, french_only=True),
    Rule("spacing", typography.spacing, whole_file=False, french_only=True),
    Rule("blanks", typography.blanks, whole_file=False, french_only=True),
)


class Sample(NamedTuple):
    """A piece of text before and after one rule."""

    before: str
    after: str


@dataclass
class Tally:
    """What one rule did, over all files."""

    on: bool
    changes: int = 0
    length_change: int = 0  # characters; negative: the text became shorter
    samples: tuple[Sample, ...] = ()


def tallies(rules: CleanRules, language: Typography) -> dict[str, Tally]:
    """Return an empty tally per rule; a rule is on if its switch is and it applies to the language."""
    return {
        rule.name: Tally(on=getattr(rules, rule.name) and (language == "fr" or not rule.french_only)) for rule in RULES
    }


def clean(text: str, rules: CleanRules, language: Typography) -> str:
    """Return the text with every rule applied that is switched on and meant for the language."""
    return clean_counting(text, tallies(rules, language))


def clean_counting(text: str, counts: dict[str, Tally]) -> str:
    """Clean as `clean` does with the rules that are on in `counts`, and add to `counts` what they did."""
    while True:
        cleaned = _one_pass(text, counts)
        if cleaned == text:
            return text
        text = cleaned


def _one_pass(text: str, counts: dict[str, Tally]) -> str:
    active = [rule for rule in RULES if counts[rule.name].on]
    for rule in active:
        if rule.whole_file:
            text = _apply(rule, text, counts[rule.name])
    cleaned = []
    for block in _blocks(text):
        for rule in active:
            if not rule.whole_file:
                block = _apply(rule, block, counts[rule.name])
        cleaned.append(block)
    return "".join(cleaned)


def _blocks(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = text.find("\n", start + BLOCK) + 1 or len(text)
        yield text[start:end]
        start = end


def _apply(rule: Rule, text: str, tally: Tally) -> str:
    cleaned, changes = rule.apply(text)
    if cleaned == text:
        return text
    tally.changes += changes
    tally.length_change += len(cleaned) - len(text)
    if not tally.samples:
        tally.samples = _cut_samples(text, cleaned) if rule.whole_file else _line_samples(rule, text)
    return cleaned


def _cut_samples(before: str, after: str) -> tuple[Sample, ...]:
    """Return the text around the first difference."""
    low, high = 0, min(len(before), len(after))
    while low < high:  # the longest common beginning, by halving
        middle = (low + high + 1) // 2
        if before[:middle] == after[:middle]:
            low = middle
        else:
            high = middle - 1
    return (Sample(before[max(0, low - 60) : low + 160], after[max(0, low - 60) : low + 160]),)


def _line_samples(rule: Rule, block: str) -> tuple[Sample, ...]:
    """Return some changed lines, spread over the block."""
    pairs = [(line, rule.apply(line)[0].rstrip("\n")) for line in block.split("\n")]
    changed = [Sample(before, after) for before, after in pairs if before != after]
    return tuple(changed[:: -(-len(changed) // SAMPLES) or 1])


def guess_language(text: str) -> Language | None:
    """Return `fr` or `en` if its commonest words have their usual share of the first pages, else None.

    >>> guess_language("Il ne savait pas qui frappait à la porte.")
    'fr'
    """
    start = text[:_GUESSED_FROM].lower()
    counts = {language: len(words.findall(start)) for language, words in _COMMON.items()}
    likeliest = max(counts, key=counts.__getitem__)
    return likeliest if counts[likeliest] > _COMMON_SHARE * len(_WORD.findall(start)) else None


def _language(asked: Literal["auto", "fr", "other"], text: str) -> Language | None:
    """Return the language of a text of which nobody gave it, as far as params.yaml or the text itself tells."""
    if asked == "auto":
        return guess_language(text)
    return "fr" if asked == "fr" else None


class CleanedCorpus(NamedTuple):
    """The whole cleaned text and how it came about."""

    text: str
    language: Language | None
    typography: Typography
    files: tuple[CleanedFile, ...]
    counts: dict[str, Tally]


def clean_corpus(corpus: FetchedCorpus, folder: Path, params: Clean) -> CleanedCorpus:
    """Read the raw files of a corpus from `folder`, clean each on its own and put them one after the other.

    `UserError` if a file is not text, or the cleaned text is too short to train on.
    """
    decoded = [read_text(folder / file.name, file.name) for file in corpus.files]
    beginnings = "\n".join(file.text[:_GUESSED_FROM] for file in decoded)
    language = corpus.language or _language(params.language, beginnings)
    decides = language if params.language == "auto" else params.language
    typography: Typography = "fr" if decides == "fr" else "other"
    counts = tallies(params.rules, typography)
    texts, files = [], []
    for file, (raw, encoding) in zip(corpus.files, decoded, strict=True):
        text = clean_counting(raw, counts)
        files.append(
            CleanedFile(name=file.name, encoding=encoding, characters_before=len(raw), characters_after=len(text))
        )
        texts.append(text if text.endswith("\n") or file is corpus.files[-1] else text + "\n")
    whole = "".join(texts)
    name = corpus.files[0].name if len(corpus.files) == 1 else corpus.name
    require_enough(len(whole.strip()), f"{name} (after cleaning)")
    return CleanedCorpus(whole, language, typography, tuple(files), counts)
