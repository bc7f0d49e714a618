"""What an examination finds: facts and problems by section, and how they are shown.

A check that breaks is itself a finding, never a traceback.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from gptmodel.errors import UserError


@dataclass(frozen=True)
class Problem:
    """What is wrong and what mends it, in one line."""

    text: str
    stops: bool  # whether a command would fail until it is mended


@dataclass
class Section:
    """What was found out about one thing."""

    title: str
    facts: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def wrong(self, text: str, stops: bool = False) -> None:
        """Add a problem."""
        self.problems.append(Problem(" ".join(text.split()), stops))


def examine(check: Callable[[Section], None]) -> Section:
    """Run one check; what it raises is a problem of its section."""
    section = Section(check.__name__)
    try:
        check(section)
    except UserError as error:
        section.wrong(str(error), stops=True)
    except Exception as error:  # a broken driver or package may raise anything, and saying so is what a doctor is for
        section.wrong(f"{section.title} cannot be examined ({type(error).__name__}: {error}): reinstall what it names")
    return section


def report(sections: list[Section]) -> str:
    """Return the findings as text: the facts by section, then the problems."""
    lines = []
    for section in sections:
        width = max(map(len, section.facts), default=0)
        lines += ["", section.title, *(f"  {name:<{width}}  {value}" for name, value in section.facts.items())]
    problems = [problem for section in sections for problem in section.problems]
    lines += ["", "problems", *(f"  {'stops work' if p.stops else 'note'}: {p.text}" for p in problems)]
    return "\n".join(lines[1:] + ([] if problems else ["  none"])) + "\n"


def as_dict(sections: list[Section]) -> dict[str, Any]:
    """Return the findings for JSON."""
    problems = [asdict(problem) for section in sections for problem in section.problems]
    return {**{section.title: section.facts for section in sections}, "problems": problems}
