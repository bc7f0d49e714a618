"""Any bytes in place of params.yaml give parameters or one line, soon, and the line can be shown on a terminal."""

import copy
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gptmodel import params, strict
from gptmodel.errors import UserError
from gptmodel.params import Params
from tests.support.closure import ROOT

REAL = (ROOT / "params.yaml").read_bytes()
SMALL = (ROOT / "recipes" / "nanogpt-cpu.yaml").read_bytes()
VALUES: dict[str, Any] = strict.read_yaml(ROOT / "recipes" / "nanogpt-cpu.yaml")
LONGEST_LINE = 1000  # characters
LONGEST_WAIT = 60.0  # seconds, on a busy machine; the slowest takes 2 on an idle one
LAUGHS = b"a: &a [x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (98 + i, 98 + i, b", ".join([b"*%c" % (97 + i)] * 9)) for i in range(9)
)


def refusal(load: Callable[[], Params]) -> str:
    """Return the one line that something is refused with, "" if it is parameters, which can then be written."""
    started = time.monotonic()
    line = ""
    try:
        loaded = load()
        json.dumps(loaded.model_dump(mode="json"), allow_nan=False, ensure_ascii=False).encode()
    except UserError as error:
        line = str(error)
    assert time.monotonic() - started < LONGEST_WAIT
    assert line.isprintable()
    assert len(line) < LONGEST_LINE
    return line


def refusal_of(data: bytes, folder: Path) -> str:
    path = folder / "params.yaml"
    path.write_bytes(data)
    return refusal(lambda: params.load(path))


CASES = {
    "a NUL": (b"device: cpu\nseed: \0", ["line 2", r"'\x00'"]),
    "a control byte": (b"seed: \x07", ["line 1", r"'\x07'"]),
    "an impossible date": (b"seed: 2024-13-45", ["line 1", "'2024-13-45'", "timestamp"]),
    "half a number": (b"seed: 0x_", ["line 1", "'0x_'", "int"]),
    "5,000 digits": (b"seed: 1" + b"0" * 5000, ["line 1", "int"]),
    "5,000 digits of base 16": (b"seed: 0x1" + b"0" * 5000, ["line 1", "int"]),
    "no number": (b"seed: !!int abc", ["'abc'", "int"]),
    "an empty number": (b'seed: !!float ""', ["''", "float"]),
    "no time": (b"seed: !!timestamp foo", ["'foo'", "timestamp"]),
    "no truth": (b"seed: !!bool maybe", ["'maybe'", "bool"]),
    "a Python tag": (b"!!python/object/apply:os.system [ls]", ["not valid YAML", "os.system"]),
    "3,000 brackets": (b"[" * 3000 + b"]" * 3000, ["line 1", "levels"]),
    "100,000 brackets": (b"[" * 100_000 + b"]" * 100_000, ["line 1", "levels"]),
    "50,000 dashes": (b"- " * 50_000, ["line 1", "levels"]),
    "20,000 keys": (b"".join(b"k%d: 1\n" % number for number in range(20_000)), ["k0", "unknown key"]),
    "120,000 keys": (b"{" + b"a," * 120_000, ["line 1", "50,000 values"]),
    "a billion laughs": (LAUGHS, ["line 5", "50,000 values"]),
    "an alias in itself": (b"seed: &a [*a]", ["line 1", "alias"]),
    "an alias in its own text": (b"seed: &a !!str {=: *a}", ["line 1", "alias"]),
    "a merge key": (b"a: &a {b: 1}\nc: {<<: *a}", ["line 2", "<<"]),
    "a key twice": (b"device: cpu\nseed: 1\nseed: 2", ["line 3", "'seed'", "twice"]),
    "a list as a key": (b"? [a]\n: 1", ["line 1", "unhashable"]),
    "escapes for the terminal": (b'"\\e[31m": 1', [r"'\x1b[31m'", "unknown key"]),
    "not UTF-8": (b"corpus: \xe9", ["byte 8"]),
    "a novel": (b"Il " * 100_000, ["larger than"]),
    "two documents": (b"---\n---\n", ["line 2", "another document"]),
}


@pytest.mark.parametrize(("data", "words"), CASES.values(), ids=CASES)
def test_a_file_that_is_no_params_file_is_one_line(tmp_path: Path, data: bytes, words: list[str]) -> None:
    line = refusal_of(data, tmp_path)
    for word in ["params.yaml", *words]:
        assert word in line


def test_a_folder_in_its_place_and_a_file_without_permission_are_one_line(tmp_path: Path) -> None:
    assert "Is a directory" in refusal(lambda: params.load(tmp_path))
    (tmp_path / "params.yaml").write_bytes(REAL)
    loop = tmp_path / "loop.yaml"
    loop.symlink_to(loop)
    assert "cannot be read" in refusal(lambda: params.load(loop))


@pytest.mark.parametrize(("data", "code"), [(REAL, 0), (b"seed: \0", 2), (b"[" * 100_000, 2)])
def test_the_command_ends_in_a_line_and_an_exit_code(tmp_path: Path, data: bytes, code: int) -> None:
    (tmp_path / "params.yaml").write_bytes(data)
    command = [sys.executable, "-m", "gptmodel.params", "params.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert len(done.stderr.splitlines()) == (1 if code else 0)
    assert done.stderr.startswith("error: params.yaml" if code else "")


YAML_TEXT = st.text(alphabet=st.sampled_from("ab01.-+eE:_ \n\t'\"[]{},&*!|>%@#?<=~\\x\u2028é")).map(str.encode)
EXTREMES = [
    10**9 + 1,
    2**63 - 1,
    2**63,
    -(2**64),
    10**400,
    0,
    -1,
    1e-320,
    1e31,
    -0.0,
    "",
    " ",
    "\0",
    "\ud800",
    "é" * 99,
]
SCALARS = st.one_of(
    st.sampled_from(EXTREMES), st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.dates(), st.binary()
)
ANY_VALUE = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
)


def places(values: Any) -> list[tuple[Any, ...]]:
    """Return the path of every value, the inner ones too."""
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else []
    return [(key, *rest) for key, value in items for rest in [(), *places(value)]]


@st.composite
def damaged_bytes(draw: st.DrawFn) -> bytes:
    """Return a real file with a few bytes overwritten, cut out or put in."""
    data = bytearray(SMALL)
    for _ in range(draw(st.integers(1, 3))):
        first = draw(st.integers(0, len(data)))
        data[first : first + draw(st.integers(0, 20))] = draw(st.binary(max_size=8) | YAML_TEXT)
    return bytes(data)


@st.composite
def damaged_values(draw: st.DrawFn) -> Any:
    """Return the values of a real file with some replaced, added or taken away."""
    values = copy.deepcopy(VALUES)
    for path in draw(st.lists(st.sampled_from(places(VALUES)), min_size=1, max_size=3)):
        section = values
        try:
            for key in path[:-1]:
                section = section[key]
            section[path[-1]] = draw(ANY_VALUE)
            if draw(st.integers(0, 5)) == 0:
                del section[path[-1]]
        except (KeyError, IndexError, TypeError):
            continue  # its section is gone
    return values


few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
many = settings(few, max_examples=5000)


@few
@given(data=st.binary(max_size=200) | YAML_TEXT | damaged_bytes())
def test_any_bytes_are_parameters_or_one_line(tmp_path: Path, data: bytes) -> None:
    refusal_of(data, tmp_path)


@settings(few, max_examples=100)
@given(values=damaged_values())
def test_any_values_are_parameters_or_one_line(values: Any) -> None:
    refusal(lambda: strict.parse(Params, values, Path("params.yaml")))


@pytest.mark.long
@many
@given(data=st.binary(max_size=2000) | YAML_TEXT | damaged_bytes())
def test_many_bytes_are_parameters_or_one_line(tmp_path: Path, data: bytes) -> None:
    refusal_of(data, tmp_path)


@pytest.mark.long
@settings(many, max_examples=10_000)
@given(values=damaged_values() | ANY_VALUE)
def test_many_values_are_parameters_or_one_line(values: Any) -> None:
    refusal(lambda: strict.parse(Params, values, Path("params.yaml")))


@pytest.mark.long
@many
@given(values=damaged_values())
def test_what_yaml_itself_writes_is_read_or_one_line(tmp_path: Path, values: Any) -> None:
    refusal_of(yaml.safe_dump(values, allow_unicode=True).encode("utf-8", "surrogatepass"), tmp_path)
