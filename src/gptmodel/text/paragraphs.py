"""Wrapped text to one line per paragraph; verse, lists and headings keep their lines.

A file is wrapped when blank lines part its paragraphs and, inside them, most lines are full and most continue with a
small letter. Measured on eight French volumes and tinyshakespeare: wrapped files have 89-93% small letters and 96-99%
full lines; a file with one paragraph per line 0% and 5%; tinyshakespeare's verse 8% and 21%. The result has no blank
lines, so it is not wrapped: the rule does nothing to its own result. Left out on purpose: wrapped files whose
paragraphs are parted by indentation only.
"""

from collections.abc import Iterator
from itertools import pairwise

_MOST = 0.5  # of the line breaks inside paragraphs, for each of the two signs
_SLACK = 3  # characters by which editors break a line early


def unwrap(text: str) -> tuple[str, int]:
    """Join the lines of each paragraph of a wrapped file; return the text and how many breaks were joined.

    >>> unwrap("Il regardait la mer grise\\net le port endormi sous la\\npluie.\\n\\nPuis il rentra.\\n")
    ('Il regardait la mer grise et le port endormi sous la pluie.\\nPuis il rentra.\\n', 2)
    """
    lines = text.split("\n")
    width = _width(lines)
    if not _is_wrapped(lines, width):
        return text, 0
    joined: list[str] = []
    breaks = 0
    previous = ""
    for line in lines:
        if not line.strip():
            previous = ""
            continue
        if previous and _joins(previous, line, width):
            hyphenated = len(previous) > 1 and previous[-1] == "-" and previous[-2].isalpha() and line[0].isalpha()
            joined[-1] += ("" if hyphenated else " ") + line.strip()
            breaks += 1
        else:
            joined.append(line.rstrip())
        previous = line.rstrip()
    return "\n".join(joined) + "\n", breaks


def _width(lines: list[str]) -> int:
    """Return the length that 95% of the lines with text do not pass."""
    lengths = sorted(len(line) for line in lines if line.strip())
    return lengths[int(0.95 * len(lengths))] if lengths else 0


def _pairs(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the lines on both sides of each break inside a paragraph, indented lines (verse, tables) left out."""
    for line, following in pairwise(lines):
        if line.strip() and following.strip() and not line[0].isspace() and not following[0].isspace():
            yield line, following


def _is_wrapped(lines: list[str], width: int) -> bool:
    if all(line.strip() for line in lines[:-1]):
        return False
    breaks = small = full = 0
    for line, following in _pairs(lines):
        breaks += 1
        small += following[0].islower()
        full += _is_full(line, following, width)
    return breaks > 0 and small > _MOST * breaks and full > _MOST * breaks


def _is_full(line: str, following: str, width: int) -> bool:
    """Return whether the first word of the following line had no room left on this one."""
    return len(line) + 1 + len(following.split(None, 1)[0]) > width - _SLACK


def _joins(line: str, following: str, width: int) -> bool:
    if following[0].isspace() or (line[-1] == following[0] == "_"):  # verse; a list whose entries are in italics
        return False
    return following[0].islower() or (not line[0].isspace() and _is_full(line, following, width))
