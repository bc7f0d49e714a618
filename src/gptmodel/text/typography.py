"""One French typography for all sources, rule by rule; each rule sees whole lines and never crosses a line end.

The choice: plain spaces everywhere; `« x »`; one space before `; : ! ?`; `— ` opens a line of dialogue and ` — ` stands
inside sentences; `…`; `'`. Quotation marks are told by what stands beside them, never by counting pairs. Web
addresses, times, ratios and runs such as `?!` stay whole. Each rule returns the text and how many changes it made.
Left out on purpose: the ligature oe, capitals without accents, spelling.
"""

import re

_ADDRESS = r"(?:https?://|ftp://|www\.)[^\s«»\"<>]+"  # http://a.fr/x_y--z?q=1
_GAP = r"[^\S\n]"  # white space inside a line

# The examples are what a pattern finds, in > <. A look-behind stands after the mark that it judges and repeats it: the
# engine then searches for the mark itself, which is fast.
_NOTE_TEXT = r"\[(?:(?:Notes?|Footnote|Illustration)\b[^\[\]\n]*|\d{1,3})\]"  # [Note : un voleur], [Illustration], [12]
_NOTE = re.compile(
    rf"""
    ^{_NOTE_TEXT}{_GAP}*  # with the gap after it, where it opens a line
    | {_GAP}*{_NOTE_TEXT}  # else with the gap before it: l'arbre> [22]<.
    """,
    re.VERBOSE | re.MULTILINE,
)
_ITALIC = re.compile(
    r"""
    (?<!_)(?:
        __  # >__<18>__<32
        | (?<![^\W_])_  # l'>_<Orion
        | _(?![^\W_])  # Orion>_<, but snake_case
    )(?!_)  # but ____
    """,
    re.VERBOSE,
)
_SPACED_DOTS = re.compile(r"\.(?: \.){2,}")  # >. . .<
_DOTS = re.compile(
    r"""
    \.{3,}…*  # >...<
    | …+[.…]+  # >….<
    | \.{1,2}…[.…]*  # >..…<, but ../notes
    """,
    re.VERBOSE,
)
_OPENING = re.compile(
    r"""
    \"(?<![^\s(\[—–'«-]\")  # il dit >"<Hu, l'>"<Orion
    (?=[^\s.,;:!?)\]»])  # but a " alone
    """,
    re.VERBOSE,
)
_CLOSING = re.compile(
    r"""
    \"(?<=[^\s(\[—«]\")  # Hu!>"<
    (?<!['°]\d\")(?<!['°]\d\d\")(?<!['°][ ]\d\")(?<!['°][ ]\d\d\")  # but the seconds of an angle: 57' 12"
    (?!\w)
    """,
    re.VERBOSE,
)
_ENGLISH_OPENING = re.compile(rf"[“„‟]{_GAP}*")  # >“ <Oui
_ENGLISH_CLOSING = re.compile(rf"{_GAP}*”")  # Oui> ”<
_DOUBLE_HYPHEN = re.compile(
    r"""
    --(?<!---)-?(?![->])  # dit-il.>--<Peut-être, but ---- and -->
    (?!(?<=\d--)\d)  # but 1815--1816
    """,
    re.VERBOSE,
)
_OTHER_DASH = re.compile(
    r"""
    –(?<!\S–)  # >–<Oui
    | –(?!\S)  # Oui >–< ou, but 1914–1918
    | ―
    | ——+  # >———<
    """,
    re.VERBOSE,
)
_DIALOGUE_HYPHEN = re.compile(
    rf"""
    ^{_GAP}*-(?={_GAP}*[A-ZÀ-ÖØ-ÞŒ«…\"'])  # >-< Oui, dit-elle, but -5 degrés
    (?!.*{_GAP}-{_GAP}*$)  # but a page number or heading: - I -
    """,
    re.VERBOSE | re.MULTILINE,
)
_RIGHT_OF_DASH = re.compile(
    r"""
    —(?=[^\s,.)\]—])  # >—<Oui, but —, and —.
    (?!(?<=\d—)\d)  # but 1815—1816
    """,
    re.VERBOSE,
)
_LEFT_OF_DASH = re.compile(
    r"""
    —(?<=[^\s(\[—]—)  # Oui>—<, but (— and [—
    (?!(?<=\d—)\d)  # but 1815—1816
    """,
    re.VERBOSE,
)
_NO_BREAK = re.compile("[\u00a0\u2000-\u200a\u202f]")
_RIGHT_OF_OPENING = re.compile(r"«(?=\S)")  # >«<Oui
_LEFT_OF_CLOSING = re.compile(r"»(?<=\S»)")  # Oui>»<
_PUNCTUATION = re.compile(
    r"""
    [;:!?](?<=[^\s;:!?(\[][;:!?])  # Quoi>?<, but (?) and [!]
    [;:!?]*  # Quoi>?!<
    (?![\w/=\\@;:!?])  # but 12:30 and a.fr?q=1
    """,
    re.VERBOSE,
)
_LINE_END = re.compile(rf"{_GAP}+\n\s*|\n\s+")  # Il dort.> \n\n<Puis
_WIDE_GAP = re.compile(rf"{_GAP}{{2,}}|[^\S\n ]")  # Puis>  <rien


def _replace(pattern: re.Pattern[str], replacement: str, text: str) -> tuple[str, int]:
    """Replace as `subn` does, but in no web address; `replacement` may use `\\g<0>` only."""
    if "://" not in text and "www." not in text:
        return pattern.subn(replacement, text)
    changes = 0

    def change(match: re.Match[str]) -> str:
        nonlocal changes
        if match["address"]:
            return match[0]
        changes += 1
        return replacement.replace(r"\g<0>", match[0])

    return re.sub(f"(?P<address>{_ADDRESS})|(?:{pattern.pattern})", change, text, flags=pattern.flags), changes


def _in_turn(text: str, *steps: tuple[re.Pattern[str], str]) -> tuple[str, int]:
    total = 0
    for pattern, replacement in steps:
        text, changes = _replace(pattern, replacement, text)
        total += changes
    return text, total


def notes(text: str) -> tuple[str, int]:
    """Remove `[Note : ...]`, `[Illustration]` and note calls such as `[12]`.

    >>> notes("l'arbre [22]. Un grinche [Note : Un voleur.] rit.")
    ("l'arbre. Un grinche rit.", 2)
    """
    return _NOTE.subn("", text) if "[" in text else (text, 0)


def italics(text: str) -> tuple[str, int]:
    """Remove the `_` marks around italics; `snake_case` and `____` stay.

    >>> italics("le _quid obscurum_, l'_Orion_")
    ("le quid obscurum, l'Orion", 4)
    """
    return _replace(_ITALIC, "", text) if "_" in text else (text, 0)


def apostrophes(text: str) -> tuple[str, int]:
    """Make typographic apostrophes and single quotes straight."""
    marks = "’‘ʼ‛"
    changes = sum(text.count(mark) for mark in marks)
    return (text.translate(dict.fromkeys(map(ord, marks), "'")), changes) if changes else (text, 0)


def ellipses(text: str) -> tuple[str, int]:
    """Make three dots or more one character.

    >>> ellipses("Oui... non.... . . . peut-être…. Le dossier ../notes")
    ('Oui… non… peut-être… Le dossier ../notes', 4)
    """
    return _in_turn(text, (_SPACED_DOTS, "…"), (_DOTS, "…"))


def quotes(text: str) -> tuple[str, int]:
    """Make straight and English double quotes guillemets, by context; a quote that could be either stays.

    >>> print(*quotes("Il dit : \\"Hu!\\" à l'\\"Orion\\", par 43° 57' 12\\"."))
    Il dit : « Hu! » à l'« Orion », par 43° 57' 12". 4
    """
    if not any(mark in text for mark in '"“”„‟'):
        return text, 0
    steps = ((_OPENING, "« "), (_CLOSING, " »"), (_ENGLISH_OPENING, "« "), (_ENGLISH_CLOSING, " »"))
    return _in_turn(text, *steps)


def dashes(text: str) -> tuple[str, int]:
    """Make `--`, spaced en dashes and dialogue hyphens em dashes with one space on each side.

    >>> dashes("--Oui, dit-il.--Peut-être. En 1815-1816, Livre premier--Un juste")
    ('— Oui, dit-il. — Peut-être. En 1815-1816, Livre premier — Un juste', 8)
    """
    steps = ((_DOUBLE_HYPHEN, "—"), (_OTHER_DASH, "—"), (_DIALOGUE_HYPHEN, "—"))
    return _in_turn(text, *steps, (_RIGHT_OF_DASH, "— "), (_LEFT_OF_DASH, " —"))


def spacing(text: str) -> tuple[str, int]:
    """One plain space inside `« »` and before `; : ! ?`.

    >>> spacing("«Quoi?!» Il est 12:30; voir http://a.fr/?q=1!")
    ('« Quoi ?! » Il est 12:30 ; voir http://a.fr/?q=1!', 4)
    """
    steps = ((_NO_BREAK, " "), (_RIGHT_OF_OPENING, "« "), (_LEFT_OF_CLOSING, " »"), (_PUNCTUATION, r" \g<0>"))
    return _in_turn(text, *steps)


def blanks(text: str) -> tuple[str, int]:
    """No white space at either end of a line, no double spaces, no blank lines: a line is a paragraph or a verse.

    >>> blanks("  Il dort. \\n\\n\\nPuis  rien.")
    ('Il dort.\\nPuis rien.\\n', 3)
    """
    text, ends = _LINE_END.subn("\n", text)
    trimmed = text.strip()
    whole, gaps = _WIDE_GAP.subn(" ", trimmed + "\n" if trimmed else "")
    return whole, ends + gaps + (trimmed != text.removesuffix("\n"))
