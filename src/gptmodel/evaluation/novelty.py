"""Is it French? Is it new? What a model wrote, beside text that its author wrote and it has never seen.

A figure of a sample says little alone: short texts repeat less, and every author repeats his own phrases. So the same
figures are taken of held-out excerpts, one for each sample, as long as it and spread evenly over the held-out text
(they overlap if that is short). The figures of several texts are pooled: their counts are added, then divided.

Only what the model continued counts: the prompt is not looked at, and a copy starts with the first character after it
at the earliest. What stands before an excerpt is treated like a prompt. Words that may be cut at either end are left
out, except from the copied characters.

Left out on purpose: whether the text makes sense; judging needs a reader.
Sources: McCoy et al. (2023), "How Much Do Language Models Copy From Their Training Data?" (novelty beside held-out
text); Welleck et al. (2020), "Neural Text Generation With Unlikelihood Training" (repetition).
"""

import re
from dataclasses import astuple, dataclass
from itertools import chain
from typing import Any

from gptmodel.decoding.samples import Sample
from gptmodel.evaluation import lexicon, memorization

COPIED_WORDS = 8  # a sequence as long as this is hardly met twice: see copies
REPEATED_WORDS = 4
# A person is warned of what is so many times what held-out text does, and so much above it as authors hardly ever are:
# of 23,600 excerpts of nine books (Hugo, Verne, Shakespeare), 300 or 900 characters long, 1 in 1,500 repeats more than
# 10 % of its 4-word sequences; of 400 groups of nine such excerpts none shares more than 2 % of its 8-word sequences
# with the other volumes or the rest of its book.
CLEARLY = 1.5
REPEATED_MORE = 0.10
COPIED_MORE = 0.02
_WHOLE = re.compile(r"\s(?:.*\s)?", re.DOTALL)


@dataclass(frozen=True)
class Part:
    """A stretch of text and what stands before it (a prompt)."""

    before: str
    text: str

    @property
    def whole_words(self) -> str:
        """The text without a word that is cut at its start or may be cut at its end.

        >>> Part("Il éta", "it une fois un r").whole_words.strip()
        'une fois un'
        """
        cut = self.before and not self.before[-1].isspace()
        whole = _WHOLE.search(self.text if cut else " " + self.text)
        return whole[0] if whole else ""


@dataclass(frozen=True)
class Counts:
    """What is counted in a text, and the longest of its spans that the training text holds."""

    longest: str
    words: int
    in_training: int
    in_lexicon: int
    known: int
    distinct: int
    runs: int  # sequences of REPEATED_WORDS
    repeated: int
    sequences: int  # of COPIED_WORDS
    copied: int

    def figures(self, lexicon_exists: bool) -> dict[str, Any]:
        """Return the FIGURES for novelty.json; a share of nothing is 0, the lexicon's is None without a lexicon."""
        return {
            "words": self.words,
            "words_in_training": _share(self.in_training, self.words),
            "words_in_lexicon": _share(self.in_lexicon, self.words) if lexicon_exists else None,
            "words_known": _share(self.known, self.words),
            "distinct_words": _share(self.distinct, self.words),
            "repetition": _share(self.repeated, self.runs),
            "longest_copy_characters": len(self.longest),
            "longest_copy_text": self.longest,
            "copied_8_word_sequences": _share(self.copied, self.sequences),
        }


def assess(samples: list[Sample], train: str, held_out: str, language: str | None) -> dict[str, Any]:
    """Return novelty.json: the figures of the samples, together and each alone, of held-out text, and warnings.

    At least one sample; `held_out` has text. `language` is that of the texts ("fr", "en") or None. No warning is good
    news; each is a sentence.
    """
    parts = [Part(sample.prompt, sample.text) for sample in samples]
    beside = excerpts(held_out, [len(part.text) for part in parts])
    knows = lexicon.load(language)
    everything = parts + beside
    spans = memorization.copied_spans([part.text for part in everything], train)
    counted = _count(everything, spans, train, language, knows)
    exists = knows is not None
    of_samples, of_held_out = (_pool(some).figures(exists) for some in (counted[: len(parts)], counted[len(parts) :]))
    per_sample = [
        {
            "prompt": sample.prompt,
            "temperature": sample.temperature,
            "seed": sample.seed,
            "copies": _listed(sample.text, of_text, train),
            **counts.figures(exists),
        }
        for sample, of_text, counts in zip(samples, spans, counted, strict=False)
    ]
    return {
        "samples": of_samples,
        "held_out": of_held_out,
        "per_sample": per_sample,
        "warnings": warnings(of_samples, of_held_out, per_sample),
    }


def excerpts(text: str, lengths: list[int]) -> list[Part]:
    """Return excerpts of these lengths (or all of a shorter text), the first at its start, the last at its end.

    >>> [part.text for part in excerpts("abcdefghij", [2, 2, 4])]
    ['ab', 'ef', 'ghij']
    """
    found = []
    for k, length in enumerate(lengths):
        start = max(0, len(text) - length) * k // max(1, len(lengths) - 1)
        found.append(Part(text[max(0, start - 1) : start], text[start : start + length]))
    return found


def warnings(of_samples: dict[str, Any], of_held_out: dict[str, Any], per_sample: list[dict[str, Any]]) -> list[str]:
    """Return a sentence for each sample with a long copy or much repetition, and one for copied words on the whole."""
    said = []
    held_out_copy, repetition = of_held_out["longest_copy_characters"], of_held_out["repetition"]
    for sample in per_sample:
        how = f"(temperature {sample['temperature']}, prompt {sample['prompt']!r})"
        if sample["longest_copy_characters"] > CLEARLY * max(held_out_copy, memorization.SHORTEST_COPY):
            said.append(
                f"A sample copies {sample['longest_copy_characters']} characters verbatim from the training text "
                f"{how}; held-out text shares at most {held_out_copy}."
            )
        if _clearly_above(sample["repetition"], repetition, REPEATED_MORE):
            said.append(
                f"A sample repeats itself {how}: {sample['repetition']:.0%} of its {REPEATED_WORDS}-word sequences "
                f"stood in it before; in held-out text {repetition:.1%}."
            )
    copied, usual = (figures["copied_8_word_sequences"] for figures in (of_samples, of_held_out))
    if _clearly_above(copied, usual, COPIED_MORE):
        said.append(
            f"{copied:.0%} of the samples' {COPIED_WORDS}-word sequences stand in the training text; "
            f"of held-out text's {usual:.1%}."
        )
    return said


def _clearly_above(share: float, usual: float, more: float) -> bool:
    return share > max(CLEARLY * usual, usual + more)


def _listed(text: str, spans: list[memorization.Span], train: str) -> list[dict[str, int]]:
    """Return the spans that are long enough to show, and where each first stands in `train`."""
    return [
        {"start": span.start, "end": span.end, "train_start": train.index(text[span.start : span.end])}
        for span in spans
        if len(span) >= memorization.SHORTEST_COPY
    ]


def _count(
    parts: list[Part],
    spans: list[list[memorization.Span]],
    train: str,
    language: str | None,
    knows: lexicon.Knows | None,
) -> list[Counts]:
    """Return the counts of each part; the long training text is read once for all."""
    vocabulary = lexicon.vocabulary(train, language)
    plain = [memorization.words(part.whole_words) for part in parts]
    sequences = [memorization.sequences(some, COPIED_WORDS) for some in plain]
    copied = memorization.in_training(chain.from_iterable(sequences), train)
    counted = []
    for k, part in enumerate(parts):
        words = lexicon.words(part.whole_words, language)
        trained = [word in vocabulary for word in words]
        listed = [knows is not None and knows(word) for word in words]
        runs = memorization.sequences(plain[k], REPEATED_WORDS)
        longest = max(spans[k], key=len, default=memorization.Span(0, 0))
        counted.append(
            Counts(
                longest=part.text[longest.start : longest.end],
                words=len(words),
                in_training=sum(trained),
                in_lexicon=sum(listed),
                known=sum(map(max, trained, listed)),
                distinct=len(set(words)),
                runs=len(runs),
                repeated=len(runs) - len(set(runs)),
                sequences=len(sequences[k]),
                copied=sum(sequence in copied for sequence in sequences[k]),
            )
        )
    return counted


def _pool(counted: list[Counts]) -> Counts:
    """Return the sums of the counts, and the longest of the copies."""
    longest, *numbers = zip(*map(astuple, counted), strict=True)
    return Counts(max(longest, key=len), *map(sum, numbers))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
