from pathlib import Path

import pytest

from gptmodel import machine

INTEL = "processor\t: 0\nmodel name\t: Xeon Gold 6\nflags\t\t: fpu avx2 amx_int8\n\nprocessor\t: 1\n"


@pytest.mark.parametrize(
    ("text", "name", "flags"),
    [
        (INTEL, "Xeon Gold 6", {"fpu", "avx2", "amx_int8"}),
        ("processor\t: 0\nBogoMIPS\t: 2.0\nFeatures\t: asimd bf16\n", None, {"asimd", "bf16"}),
        (None, None, set()),
    ],
)
def test_the_processor_is_what_the_system_says_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, name: str | None, flags: set[str]
) -> None:
    facts = tmp_path / "cpuinfo"
    if text:
        facts.write_text(text)
    monkeypatch.setattr(machine, "CPU_FACTS", facts)
    found = machine.processor()
    assert found.name == (name or found.name) != ""
    assert found.flags == flags
