"""What a digital edition adds around a book, cut away: Project Gutenberg's frame and tables of contents.

These rules look at the whole file, before its lines are joined. Each returns the text and how many lines it cut.
Left out on purpose: prefaces, dedications and notes at the end, which are the book's own.
"""

import re
from collections.abc import Iterator

_START = re.compile(
    r"^[^\S\n]*(?:\*\*\* ?START OF (?:TH(?:E|IS) )?PROJECT GUTENBERG[^*]{0,300}\*\*\*|\*END\*? ?THE SMALL PRINT).*\n?",
    re.MULTILINE | re.IGNORECASE,
)
_END = re.compile(
    r"^[^\S\n]*(?:\*\*\* ?END OF (?:TH(?:E|IS) )?PROJECT GUTENBERG"
    r"|End of (?:the |this )?Project Gutenberg|Fin d[eu].{0,40} Project Gutenberg)",
    re.MULTILINE | re.IGNORECASE,
)
_PARAGRAPH = re.compile(r"\S(?:.*\n[^\S\n]*(?=\S))*.*")
_EDITION = re.compile(  # credits and metadata that stand between the frame and the title page
    r"(?:produced|prepared|transcribed|digitized) by|e-?text (?:prepared|produced)|this e-?(?:text|book)"
    r"|(?:title|author|encoding|source|language|release date|posting date|credits|character set)\s*:",
    re.IGNORECASE,
)
_OPENING = re.compile(  # the first heading that belongs to the text, or a table of contents
    r"(?:livre|chapitre|pr[ée]face|avant-propos|introduction|prologue|(?:premi[èe]re )?partie|acte|sc[èe]ne"
    r"|chapter|book|part|preface|foreword|table)\b|(?:I|1)(?:[.\s—–-]|$)",
    re.IGNORECASE,
)
_PROSE = 200  # a paragraph of this many characters is text, not a title page
_TITLE_PAGE = 5000  # characters within which a title page must end

_ROMAN = r"(?=[IVXLC])C{0,3}(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})"
_NUMBER = r"(?:[ivxlc]+|\d+|premi\w+|deuxi\w+|second\w*|troisi\w+|quatri\w+|\w+i[èe]me|one|first|the \w+)"
_ENTRY = re.compile(
    rf"\s*(?:(?i:chapitre|livre|partie|acte|chapter|book|part)\s+(?i:{_NUMBER})\b[\s.:—–-]*\w.*"
    rf"|{_ROMAN}(?:[.)]|\s*(?:--|—|–)|(?=\s+[A-ZÀ-Þ«]))\s*\S.*|\S.*(?:\.{{3,}}|…|\s{{3,}})\s*\d+\s*)$"
)
_CONTENTS = re.compile(
    r"\s*(?:T(?i:able(?: des (?:mati[èe]res|chapitres)| of contents)?)|S(?i:ommaire)|C(?i:ontents))\s*$"
)
_CONTINUATION = 100  # characters; a longer line is text, not the rest of an entry
_CONTINUATIONS = 2  # lines
_FEWEST_ENTRIES = 5  # without a heading that says so
_HEAD = 200  # lines within which a table without a heading must begin


def gutenberg(text: str) -> tuple[str, int]:
    """Cut Project Gutenberg's header, credits, title page and licence; several books in one file are all kept.

    >>> gutenberg("*** START OF THE PROJECT GUTENBERG EBOOK ***\\nProduced by X\\n\\nI\\n\\nIl dort.\\n")
    ('I\\n\\nIl dort.\\n', 3)
    """
    if "gutenberg" not in text.lower() and "SMALL PRINT" not in text:
        return text, 0
    kept = "".join(_books(text))
    return (kept, text.count("\n") - kept.count("\n")) if kept != text else (text, 0)


def _books(text: str) -> Iterator[str]:
    start, end = _START.search(text), _END.search(text)
    if end and (start is None or end.start() < start.start()):
        yield text[: end.start()].rstrip() + "\n"
    elif start is None:
        yield text
    while start:
        end = _END.search(text, start.end())
        yield text[_body(text, start.end()) : end.start() if end else len(text)].rstrip() + "\n"
        start = _START.search(text, end.end()) if end else None


def _body(text: str, start: int) -> int:
    """Return where the text begins after credits and title page; just behind them if nothing looks like a text."""
    past_credits = start
    for paragraph in _PARAGRAPH.finditer(text, start, start + _TITLE_PAGE):
        if _EDITION.match(paragraph[0]):
            past_credits = paragraph.end() + 1
        elif _OPENING.match(paragraph[0]) or len(paragraph[0]) >= _PROSE:
            return paragraph.start()
    return min(past_credits, len(text))


def contents(text: str) -> tuple[str, int]:
    """Cut tables of contents: one that a heading announces, anywhere; one without a heading, at the start.

    The body begins at the first entry that was listed already.

    >>> contents("TABLE\\n\\nI. La mer\\nII. Le port\\n\\nI. La mer\\n\\nIl pleut.\\n")
    ('I. La mer\\n\\nIl pleut.\\n', 5)
    """
    lines = text.split("\n")
    kept: list[str] = []
    done = 0
    for first, last in _tables(lines):
        if first >= done:
            kept += lines[done:first]
            done = last + 1
            while done < len(lines) and not lines[done].strip():
                done += 1
    return ("\n".join(kept + lines[done:]), len(lines) - len(kept) - len(lines[done:])) if done else (text, 0)


def _tables(lines: list[str]) -> Iterator[tuple[int, int]]:
    """Yield the first and last line of each table of contents."""
    first_entry = next((number for number, line in enumerate(lines[:_HEAD]) if _is_entry(line)), None)
    for number, line in enumerate(lines):
        if number == first_entry:
            last = _last_entry(lines, number, _FEWEST_ENTRIES)
        elif len(line) < 40 and _CONTENTS.match(line):
            last = _last_entry(lines, number + 1, fewest=2)
        else:
            continue
        if last is not None:
            yield number, last


def _is_entry(line: str) -> bool:
    return len(line) < 2 * _CONTINUATION and _ENTRY.match(line) is not None


def _last_entry(lines: list[str], first: int, fewest: int) -> int | None:
    """Return the number of the last line of the table whose entries begin at or after line `first`, or None."""
    listed, entry, last = set[str](), first, None
    for number in range(first, len(lines)):
        line = lines[number].strip()
        if not line:
            continue
        if _is_entry(line):
            if line in listed:
                break
            listed.add(line)
            entry = last = number
        elif last == number - 1 and number - entry <= _CONTINUATIONS and len(line) <= _CONTINUATION:
            last = number
        else:
            break
    return last if len(listed) >= fewest else None
