"""What cleaning changed, for a person to check: figures per rule, and pieces of text before and after."""

import re

from gptmodel.results.cleaning import Cleaning, RuleFigures
from gptmodel.text.cleaning import CleanedCorpus, Sample

_SHOWN_CHARACTERS = 150
_CONTEXT_CHARACTERS = 60
_HIDDEN = re.compile("[\x00-\x09\x0b-\x1f\x7f\x85\u00a0\u00ad\u2000-\u200b\u2028\u2029\u202f\u2060\ufeff]| +(?=\n|$)")


def figures(cleaned: CleanedCorpus) -> Cleaning:
    """Return the content of cleaning.json: typography, encoding and size per file, figures per rule."""
    return Cleaning(
        typography=cleaned.typography,
        characters_before=sum(file.characters_before for file in cleaned.files),
        characters_after=len(cleaned.text),
        files=list(cleaned.files),
        rules={
            name: RuleFigures(on=tally.on, changes=tally.changes, length_change=tally.length_change)
            for name, tally in cleaned.counts.items()
        },
    )


def summary(cleaned: CleanedCorpus) -> str:
    """Return a few lines for the terminal."""
    before = sum(file.characters_before for file in cleaned.files)
    encodings = ", ".join(sorted({file.encoding for file in cleaned.files}))
    done = ", ".join(f"{name} {tally.changes:,}" for name, tally in cleaned.counts.items() if tally.changes)
    return (
        f"typography {cleaned.typography}, encoding {encodings}: {before:,} -> {len(cleaned.text):,} characters\n"
        f"changes: {done or 'none'}"
    )


def samples(cleaned: CleanedCorpus) -> str:
    """Return the content of cleaning_samples.md: per rule, some pieces of text before and after it.

    Characters that cannot be seen are written as names: `<U+00A0>`, `<TAB>`; `<END>` ends a line with spaces.
    """
    parts = ["# What cleaning changed\n"]
    for name, tally in cleaned.counts.items():
        state = f"{tally.changes:,} changes, {tally.length_change:+,} characters" if tally.on else "off"
        parts.append(f"## {name}: {state}\n")
        for sample in tally.samples:
            before, after = (_shown(piece) for piece in _around_change(sample))
            lines = [f"- {line}" for line in before.split("\n")] + [f"+ {line}" for line in after.split("\n")]
            parts.append("```diff\n" + "\n".join(lines) + "\n```\n")
    return "\n".join(parts)


def _around_change(sample: Sample) -> Sample:
    """Return the part of both pieces that begins shortly before they differ.

    >>> _around_change(Sample("x" * 100 + "a", "x" * 100 + "b")) == Sample("x" * 60 + "a", "x" * 60 + "b")
    True
    """
    pairs = zip(sample.before, sample.after, strict=False)
    same = next((number for number, (left, right) in enumerate(pairs) if left != right), len(sample.after))
    start = max(0, min(same, len(sample.before)) - _CONTEXT_CHARACTERS)
    end = start + _SHOWN_CHARACTERS
    return Sample(*(piece[start:end] + "…" * (len(piece) > end) for piece in sample))


def _shown(text: str) -> str:
    def name(match: re.Match[str]) -> str:
        if match[0].startswith(" "):
            return match[0] + "<END>"
        return {"\t": "<TAB>", "\r": "<CR>"}.get(match[0], f"<U+{ord(match[0][0]):04X}>")

    return _HIDDEN.sub(name, text)
