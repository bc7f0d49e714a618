"""How much memory this machine has, and the refusal of what can never fit into it, before it is built."""

import re
from pathlib import Path

from gptmodel.errors import UserError

FACTS = Path("/proc/meminfo")  # Linux only


def present() -> int | None:
    """Return the bytes of memory and swap; None where the system does not say."""
    if not FACTS.exists():
        return None
    facts = re.findall(r"^(?:MemTotal|SwapTotal): +(\d+) kB", FACTS.read_text(encoding="utf-8"), re.MULTILINE)
    return 1024 * sum(map(int, facts)) or None


def require(needed: int, present: int | None, what: str, remedy: str) -> None:
    """Refuse `what` if the bytes that it needs at least are more than there are; nothing is refused for None."""
    if present is not None and needed > present:
        raise UserError(
            f"params.yaml: {what} needs at least {gigabytes(needed)} GB of memory, and there are "
            f"{gigabytes(present)} GB: {remedy}"
        )


def gigabytes(amount: int) -> str:
    """Return bytes in GB, with as many digits as are of use.

    >>> gigabytes(123_400_000_000), gigabytes(250_000_000)
    ('123', '0.25')
    """
    return f"{amount / 1e9:,.0f}" if amount >= 1e10 else f"{amount / 1e9:.2g}"
