from pathlib import Path

import pytest

from gptmodel import memory
from gptmodel.errors import UserError


def test_what_is_present_is_memory_and_swap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "FACTS", tmp_path / "meminfo")
    assert memory.present() is None
    memory.FACTS.write_text("MemTotal:       24000 kB\nMemFree:  99 kB\nSwapTotal:       1000 kB\n")
    assert memory.present() == 25_000 * 1024


def test_what_does_not_fit_is_refused_and_nothing_where_nobody_knows() -> None:
    memory.require(100, 100, "this", "less")
    memory.require(10**30, None, "this", "less")
    with pytest.raises(UserError, match=r"^params\.yaml: this needs at least 320 GB of memory.* 24 GB: less$"):
        memory.require(320 * 10**9, 24 * 10**9, "this", "less")
