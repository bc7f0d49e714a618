"""What the system says about this machine, and how much of it a stage may take."""

import platform
import re
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator

MOST_THREADS = 1024
CPU_FACTS = Path("/proc/cpuinfo")  # Linux only


def _auto_or_count(value: Any) -> Any:
    if value != "auto" and not (type(value) is int and 1 <= value <= MOST_THREADS):
        raise ValueError(f"must be auto or a whole number from 1 to {MOST_THREADS}")
    return value


Threads = Annotated[Literal["auto"] | int, BeforeValidator(_auto_or_count)]


class Processor(NamedTuple):
    """The processor's name, and its instruction sets where the system names them."""

    name: str
    flags: frozenset[str]


def processor() -> Processor:
    """Return what is known of the processor; its name is at least that of the architecture."""
    if not CPU_FACTS.exists():
        return Processor(platform.processor() or platform.machine(), frozenset())
    facts = dict(re.findall(r"^(.*?)\s*:[ \t]*(.*)$", CPU_FACTS.read_text(encoding="utf-8"), re.MULTILINE))
    flags = facts.get("flags", "") or facts.get("Features", "")  # the name on ARM
    return Processor(facts.get("model name", platform.machine()), frozenset(flags.split()))
