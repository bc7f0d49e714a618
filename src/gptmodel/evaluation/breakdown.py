"""Where a model's bits go: by position in the window, by class of character, and the passages that cost most and least.

Numpy only. Every figure is a sum of the costs that `model.loss.token_nats` gives, so the parts add up to the whole.
"""

import itertools
import math
import re
import unicodedata
from functools import cache

import numpy as np

from gptmodel.arrays import Floats, Ids
from gptmodel.data.tokenizer import Tokenizer
from gptmodel.evaluation.surprisal import character_nats, characters_per_token
from gptmodel.results.evaluation import Breakdown, ClassShare, Passage, PositionBin, Scored

CLASSES = ("letters", "capitals", "accents", "spaces", "line breaks", "punctuation", "digits", "other")
PASSAGE_CHARACTERS = 120  # two lines of a book
EXTREMES = 3  # passages shown of either kind
_PASSAGE = re.compile(rf".{{,{PASSAGE_CHARACTERS - 1}}}(?:\s|.\Z)|.{{1,{PASSAGE_CHARACTERS}}}", re.DOTALL)
_LINE_BREAKS = frozenset("\n\r\v\f\x85\u2028\u2029")


def breakdown(
    split: Scored, tokenizer: Tokenizer, ids: Ids, token_nats: Floats, text: str, context: int, fingerprint: str
) -> Breakdown:
    """Return where the bits of `text` go; its tokens are `ids` and cost `token_nats` (tokens,).

    The costs are those of windows of `context` tokens that do not overlap, with the names of unknown characters;
    `fingerprint` is that of the training. `UserError` if `ids` are not those of `text`.
    """
    costs = character_nats(tokenizer, ids, token_nats, text)
    ranked = sorted(passages(text, costs), key=lambda passage: passage.bits_per_char)
    return Breakdown(
        fingerprint=fingerprint,
        split=split,
        by_position=by_position(token_nats, characters_per_token(tokenizer, ids, text), context),
        by_class=by_class(text, costs),
        worst=ranked[::-1][:EXTREMES],
        best=ranked[:EXTREMES],
    )


def by_position(token_nats: Floats, characters: Floats, context: int) -> list[PositionBin]:
    """Return the mean cost by the number of tokens that the prediction saw, 1 to `context`; `characters` is (tokens,).

    The first token of the text, which saw none, is left out. The bins grow, two for each doubling of the context (1, 2,
    3, 4, 5-6, 7-8, 9-12, 13-16, ..), since another token brings the less the more there are.

    >>> [bin.nats_per_token for bin in by_position(np.array([9, 4, 2, 6, 2]), np.ones(5), context=2)]
    [5.0, 2.0]
    """
    seen = np.arange(len(token_nats) - 1) % context + 1
    ends = _ends(context)
    number = np.searchsorted(ends, seen)
    tokens = np.bincount(number, minlength=len(ends))
    nats = np.bincount(number, token_nats[1:], minlength=len(ends))
    length = np.bincount(number, characters[1:], minlength=len(ends))
    firsts = [1, *(end + 1 for end in ends)]
    return [
        PositionBin(
            first=firsts[k],
            last=ends[k],
            tokens_seen=math.sqrt(firsts[k] * ends[k]),
            tokens=int(tokens[k]),
            nats_per_token=float(nats[k] / tokens[k]),
            bits_per_char=float(nats[k] / math.log(2) / length[k]),
        )
        for k in np.flatnonzero(tokens)
    ]


def by_class(text: str, costs: Floats) -> list[ClassShare]:
    """Return what each class of characters costs, classes without characters left out; `costs` is (characters,) nats.

    >>> [(part.name, part.share_of_bits) for part in by_class("Été", np.array([6.0, 1.0, 1.0]))]
    [('letters', 0.125), ('capitals', 0.75), ('accents', 0.125)]
    """
    number = np.array([CLASSES.index(character_class(character)) for character in text])
    characters = np.bincount(number, minlength=len(CLASSES))
    nats = np.bincount(number, costs, minlength=len(CLASSES))
    return [
        ClassShare(
            name=CLASSES[k],
            characters=int(characters[k]),
            share=float(characters[k] / len(text)),
            bits_per_char=float(nats[k] / math.log(2) / characters[k]),
            share_of_bits=float(nats[k] / costs.sum()),
        )
        for k in np.flatnonzero(characters)
    ]


@cache
def character_class(character: str) -> str:
    """Return one of `CLASSES`; letters are lower-case and plain, accents lower-case and accented.

    >>> [character_class(character) for character in "aÉéœ «7+"]
    ['letters', 'capitals', 'accents', 'letters', 'spaces', 'punctuation', 'digits', 'other']
    """
    if character in _LINE_BREAKS:
        return "line breaks"
    if character.isspace():
        return "spaces"
    match unicodedata.category(character)[0], unicodedata.category(character)[1]:
        case "L", "u" | "t":
            return "capitals"
        case "L", _:
            return "letters" if len(unicodedata.normalize("NFD", character)) == 1 else "accents"
        case "M", _:  # an accent by itself
            return "accents"
        case "P", _:
            return "punctuation"
        case "N", _:
            return "digits"
        case _:
            return "other"


def passages(text: str, costs: Floats) -> list[Passage]:
    """Cut `text` into passages of at most 120 characters that end at white space; `costs` is (characters,) nats.

    A word that is longer is cut. A rest of less than half a passage at the end is left out, if it is not all there is.
    """
    cut = [match.span() for match in _PASSAGE.finditer(text)]
    if len(cut) > 1 and cut[-1][1] - cut[-1][0] < PASSAGE_CHARACTERS // 2:
        del cut[-1]
    return [
        Passage(start=start, text=text[start:end], bits_per_char=float(costs[start:end].mean() / math.log(2)))
        for start, end in cut
    ]


def _ends(context: int) -> list[int]:
    """Return the last number of tokens of each bin.

    >>> _ends(16), _ends(20)
    ([1, 2, 3, 4, 6, 8, 12, 16], [1, 2, 3, 4, 6, 8, 12, 16, 20])
    """
    doubling = itertools.chain.from_iterable((2**k, 3 * 2**k // 2) for k in range(context.bit_length()))
    return [*sorted({end for end in doubling if end < context}), context]
