"""Is it French? Is it new? What a model wrote, beside text by the same author that the model has never seen.

A figure of a sample says little alone: short texts repeat less, and every author repeats his own phrases. So the same
figures are taken of held-out excerpts, one for each sample, as long as it and spread evenly over the held-out text
(they overlap if that is short). The figures of several texts are pooled: their counts are added, then divided.

Only what the model continued counts: the prompt is not looked at, and a copy starts with the first character after it
at the earliest. What stands before an excerpt is treated like a prompt. Words that may be cut at either end are left
out, except from the copied characters. Whether the text makes sense is not judged: that needs a reader.

Sources: McCoy et al. (2023), "How Much Do Language Models Copy From Their Training Data?" (novelty beside held-out
text); Welleck et al. (2020), "Neural Text Generation With Unlikelihood Training" (repetition).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import chain

from gptmodel.evaluation import lexicon, memorization
from gptmodel.results.evaluation import Copy, Novelty, NoveltyFigures, SampleNovelty
from gptmodel.results.samples import Samples

COPIED_WORDS = 8  # a sequence as long as this is hardly met twice: see memorization
REPEATED_WORDS = 4
# A person is warned of a share that is so many times that of held-out text, and so much above it as authors hardly
# ever are: in nine books (Hugo, Verne, Shakespeare) 1 excerpt in 1,500 repeats more, and no group of excerpts shares
# more with the rest of its book.
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
    runs: int  # sequences of REPEATED_WORDS words
    repeated: int
    sequences: int  # of COPIED_WORDS words
    copied: int

    def figures(self, lexicon_exists: bool) -> NoveltyFigures:
        """Return the figures; a share of nothing is 0, the lexicon's is None without a lexicon."""
        return NoveltyFigures(
            words=self.words,
            words_in_training=_share(self.in_training, self.words),
            words_in_lexicon=_share(self.in_lexicon, self.words) if lexicon_exists else None,
            words_known=_share(self.known, self.words),
            distinct_words=_share(self.distinct, self.words),
            repetition=_share(self.repeated, self.runs),
            longest_copy_characters=len(self.longest),
            longest_copy_text=self.longest,
            copied_8_word_sequences=_share(self.copied, self.sequences),
        )


def assess(written: Samples, train: str, held_out: str, language: str | None) -> Novelty:
    """Return the figures of the samples, together and each alone, of held-out text, and warnings.

    `held_out` has text. `language` is that of the texts ("fr", "en") or None.
    """
    samples = written.samples
    parts = [Part(sample.prompt, sample.text) for sample in samples]
    everything = parts + excerpts(held_out, [len(part.text) for part in parts])
    knows = lexicon.load(language)
    spans = memorization.copied_spans([part.text for part in everything], train)
    counted = _count(everything, spans, train, language, knows)
    of_samples = _pool(counted[: len(parts)]).figures(knows is not None)
    of_held_out = _pool(counted[len(parts) :]).figures(knows is not None)
    per_sample = [
        SampleNovelty(
            prompt=sample.prompt,
            temperature=sample.temperature,
            seed=sample.seed,
            copies=_listed(sample.text, copied, train),
            **dict(counts.figures(knows is not None)),
        )
        for sample, copied, counts in zip(samples, spans, counted, strict=False)
    ]
    found = warnings(of_samples, of_held_out, per_sample)
    return Novelty(samples=of_samples, held_out=of_held_out, per_sample=per_sample, warnings=found)


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


def warnings(of_samples: NoveltyFigures, of_held_out: NoveltyFigures, per_sample: Sequence[SampleNovelty]) -> list[str]:
    """Return a sentence for each sample with a long copy or much repetition, and one for copied words on the whole."""
    found = []
    usual_copy, usual_repetition = of_held_out.longest_copy_characters, of_held_out.repetition
    for sample in per_sample:
        which = f"(temperature {sample.temperature}, prompt {sample.prompt!r})"
        if sample.longest_copy_characters > CLEARLY * max(usual_copy, memorization.SHORTEST_COPY):
            found.append(
                f"A sample copies {sample.longest_copy_characters} characters verbatim from the training text "
                f"{which}; held-out text shares at most {usual_copy}."
            )
        if _clearly_above(sample.repetition, usual_repetition, REPEATED_MORE):
            found.append(
                f"A sample repeats itself {which}: {sample.repetition:.0%} of its {REPEATED_WORDS}-word sequences "
                f"stood in it before; in held-out text {usual_repetition:.1%}."
            )
    copied, usual_copied = of_samples.copied_8_word_sequences, of_held_out.copied_8_word_sequences
    if _clearly_above(copied, usual_copied, COPIED_MORE):
        found.append(
            f"{copied:.0%} of the samples' {COPIED_WORDS}-word sequences stand in the training text; "
            f"of held-out text's {usual_copied:.1%}."
        )
    return found


def _clearly_above(share: float, usual: float, more: float) -> bool:
    return share > max(CLEARLY * usual, usual + more)


def _listed(text: str, spans: list[memorization.Span], train: str) -> list[Copy]:
    """Return the spans that are long enough to show, and where each first stands in `train`."""
    return [
        Copy(start=span.start, end=span.end, train_start=train.index(text[span.start : span.end]))
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
    sequences = [memorization.sequences(words, COPIED_WORDS) for words in plain]
    copied = memorization.in_training(chain.from_iterable(sequences), train)
    counted = []
    for k, part in enumerate(parts):
        words = lexicon.words(part.whole_words, language)
        listed = [knows is not None and knows(word) for word in words]
        runs = memorization.sequences(plain[k], REPEATED_WORDS)
        longest = max(spans[k], key=len, default=memorization.Span(0, 0))
        counted.append(
            Counts(
                longest=part.text[longest.start : longest.end],
                words=len(words),
                in_training=sum(word in vocabulary for word in words),
                in_lexicon=sum(listed),
                known=sum(word in vocabulary or is_listed for word, is_listed in zip(words, listed, strict=True)),
                distinct=len(set(words)),
                runs=len(runs),
                repeated=len(runs) - len(set(runs)),
                sequences=len(sequences[k]),
                copied=sum(sequence in copied for sequence in sequences[k]),
            )
        )
    return counted


def _pool(counted: Sequence[Counts]) -> Counts:
    """Return the sums of the counts, and the longest of the copies."""
    numbers = [field.name for field in fields(Counts) if field.name != "longest"]
    sums = {name: sum(getattr(counts, name) for counts in counted) for name in numbers}
    return Counts(longest=max((counts.longest for counts in counted), key=len), **sums)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
