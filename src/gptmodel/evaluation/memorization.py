"""What of a text stands word for word in the training text: exact, by characters and by sequences of words.

The texts that are asked about are short (samples, an excerpt), the training text is long. So the short ones become a
suffix automaton, and the training text streams past it once: time is linear in both, whatever they repeat, memory
grows with the short texts only, and all positions are in characters. Near copies, which differ in a letter, are not
found; `in_training` forgives capitals and punctuation.

Sources: Blumer et al. (1985), "The smallest automaton recognizing the subwords of a text"; the 8-word sequences follow
Radford et al. (2019), "Language Models are Unsupervised Multitask Learners", section 4.
"""

import re
from array import array
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import NamedTuple

SHORTEST_COPY = 40  # characters: of 200 excerpts of held-out text, one shares as many with its training text
_WORD = re.compile(r"\w(?:\S*\w)?")

Run = tuple[str, ...]  # consecutive words


@dataclass(frozen=True)
class Span:
    """Characters `start` to `end` (not included) of a text."""

    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start


class _Automaton(NamedTuple):
    """The substrings of a sequence: a state stands for those that end at the same places; state 0 is the empty one."""

    after: list[dict[Hashable, int]]  # the state one symbol on
    shorter: list[int]  # the state of the longest suffix that ends at more places; -1 for state 0
    length: list[int]  # of the state's longest substring
    path: list[int]  # the state after each symbol of the sequence


def copied_spans(texts: Sequence[str], train: str) -> list[list[Span]]:
    """Return for each text its maximal copied spans, in order: `train` holds them, and no longer ones around them.

    Spans of a text may overlap. Those of one character count too: filter by `len`.

    >>> copied_spans(["abcde"], "cd, abc, e")
    [[Span(start=0, end=3), Span(start=2, end=4), Span(start=4, end=5)]]
    """
    lengths = longest_ending(texts, train)
    return [
        [
            Span(end - length, end)
            for end, (length, following) in enumerate(zip_longest(of_text, of_text[1:], fillvalue=0), start=1)
            if length and following <= length
        ]
        for of_text in lengths
    ]


def longest_ending(texts: Sequence[str], train: str) -> list[list[int]]:
    """Return for each text and each of its characters the length of the longest copied span that ends with it.

    >>> longest_ending(["xabcab"], "bca")
    [[0, 1, 1, 2, 3, 1]]
    """
    automaton = _automaton(chain.from_iterable((*text, None) for text in texts))  # None: no span reaches across
    found = _stream(automaton, train)
    lengths = iter(_read(automaton, found))
    return [[next(lengths) for _ in (*text, None)][:-1] for text in texts]


def _automaton(symbols: Iterable[Hashable]) -> _Automaton:
    """Build the automaton of `symbols`, one at a time."""
    after: list[dict[Hashable, int]] = [{}]
    shorter = [-1]
    length = [0]
    path: list[int] = []
    last = 0
    for symbol in symbols:
        new = len(length)
        state = last
        after.append({})
        shorter.append(0)
        length.append(length[last] + 1)
        while state >= 0 and symbol not in after[state]:
            after[state][symbol] = new
            state = shorter[state]
        if state >= 0:
            target = after[state][symbol]
            if length[target] > length[state] + 1:  # only its shorter substrings end here too: they become a state
                part = len(length)
                after.append(dict(after[target]))
                shorter.append(shorter[target])
                length.append(length[state] + 1)
                while state >= 0 and after[state].get(symbol) == target:
                    after[state][symbol] = part
                    state = shorter[state]
                shorter[target] = target = part
            shorter[new] = target
        path.append(new)
        last = new
    return _Automaton(after, shorter, length, path)


def _stream(automaton: _Automaton, train: str) -> list[int]:
    """Return for each state how long a substring of it `train` holds; 0: none."""
    after, shorter, length, _ = automaton
    found = [0] * len(length)
    state = matched = 0
    for character in train:
        onward = after[state]
        while state and character not in onward:
            state = shorter[state]
            matched = length[state]
            onward = after[state]
        if character in onward:
            state = onward[character]
            matched += 1
            if matched > found[state]:
                found[state] = matched
    return found


def _read(automaton: _Automaton, found: list[int]) -> list[int]:
    """Return the length of the longest copied span that ends with each symbol that made the automaton."""
    _, shorter, length, path = automaton
    for state in sorted(range(1, len(length)), key=length.__getitem__, reverse=True):
        if found[state]:  # then `train` holds all its suffixes
            found[shorter[state]] = length[shorter[state]]
    lengths = []
    for state in path:
        while state and not found[state]:
            state = shorter[state]
        lengths.append(found[state] if state else 0)
    return lengths


def words(text: str) -> list[str]:
    """Return what stands between white space, without capitals and outer punctuation; lone marks are no words.

    >>> words("— L'homme dit : « Peut-être… »")
    ["l'homme", 'dit', 'peut-être']
    """
    return _WORD.findall(text.casefold())


def sequences(text_words: Sequence[str], count: int) -> list[Run]:
    """Return the runs of `count` words, one from each word on that has enough after it.

    >>> sequences(["a", "b", "c"], 2)
    [('a', 'b'), ('b', 'c')]
    """
    return list(zip(*(text_words[k:] for k in range(count)), strict=False))


def in_training(wanted: Iterable[Run], train: str) -> set[Run]:
    """Return those of the sequences of `words`, all of one length, that occur in `train`."""
    known = set(wanted)
    if not known:
        return set()
    number = {word: k for k, word in enumerate({word for sequence in known for word in sequence})}
    numbered = {tuple(number[word] for word in sequence): sequence for sequence in known}
    train_words = array("q", (number.get(match[0], -1) for match in _WORD.finditer(train.casefold())))
    view = memoryview(train_words)
    count = len(next(iter(known)))
    return {numbered[run] for run in zip(*(view[k:] for k in range(count)), strict=False) if run in numbered}
