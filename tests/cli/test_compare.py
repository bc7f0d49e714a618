"""`gptmodel compare`: what it prints, and how it refuses its input."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from typer import Typer
from typer.testing import CliRunner, Result

from gptmodel import layout
from gptmodel.cli.compare import compare
from gptmodel.evaluation.surprisal import FILE, CharacterCosts
from gptmodel.layout import ModelFolder

LN2 = np.log(2)
COMMON = np.random.default_rng(0).exponential(2.0, 6000)  # bits: what is hard for one model is hard for all
OWN = np.random.default_rng(1).standard_normal((9, 6000))
OWN -= OWN.mean(axis=1, keepdims=True)

app = Typer()
app.command()(compare)


def costs(extra_bits: float, model: int = 0, text: str = "a" * 6000) -> CharacterCosts:
    """Return costs of a `model` that pays `extra_bits` per character over the common ones, noisily."""
    bits = COMMON + extra_bits + 0.3 * OWN[model]
    return CharacterCosts.of({"validation": bits[:100] * LN2, "test": bits * LN2}, {"validation": "v", "test": text})


def write(folder: Path, written: CharacterCosts) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    written.write(folder / FILE)
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def fails(*arguments: object) -> str:
    """Return the one line with which a command refuses its input."""
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line.removeprefix("error: ")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with three models and the baselines; it is the current folder."""
    monkeypatch.chdir(tmp_path)
    write(ModelFolder("good").details, costs(0.0, 0))
    write(ModelFolder("alike").details, costs(0.001, 1))
    write(ModelFolder("bad").details, costs(0.05, 2))
    write(layout.BASELINES, costs(0.5, 3))
    return tmp_path


def test_the_best_comes_first_with_its_interval_and_every_pair_is_judged(root: Path) -> None:
    result = run("baselines", "bad", "good", "alike")
    assert result.exit_code == 0, result.stderr
    text, _, header, *rest = result.stdout.splitlines()
    assert text == f"test: 6,000 characters, sha256 {hashlib.sha256(b'a' * 6000).hexdigest()[:12]}"
    assert header.split() == ["model", "bits/char", "95", "%", "interval"]
    assert [line.split()[0] for line in rest[:4]] == ["good", "alike", "bad", "baselines"]
    assert [line.split()[1] for line in rest[:4]] == [f"{COMMON.mean() + extra:.3f}" for extra in (0, 0.001, 0.05, 0.5)]
    said = rest[5:]
    assert len(said) == 6
    assert said[0].startswith("no real difference between good and alike: 0.001 (-0.")
    assert said[1].startswith("good is better than bad by 0.050 bits/char (0.0")
    assert said[2].startswith("good is better than baselines by 0.500 bits/char (0.4")
    assert said[5].startswith("bad is better than baselines by 0.450 bits/char (0.4")
    assert all(line.endswith(", certain") for line in said[1:])


def test_json_holds_the_same_figures_unrounded(root: Path) -> None:
    found = json.loads(run("bad", "good", "--json").stdout)
    assert {key: found[key] for key in ("split", "characters")} == {"split": "test", "characters": 6000}
    assert found["sha256"] == hashlib.sha256(b"a" * 6000).hexdigest()
    assert [row["name"] for row in found["models"]] == ["good", "bad"]
    assert all(row["low"] < row["bits_per_char"] < row["high"] for row in found["models"])
    (pair,) = found["pairs"]
    assert (pair["a"], pair["b"]) == ("good", "bad")
    good, bad = (row["bits_per_char"] for row in found["models"])
    assert pair["bits_per_char"] == pytest.approx(good - bad)
    assert pair["low"] < pair["bits_per_char"] < pair["high"] < 0
    assert pair["certainty"] == 1


def test_the_other_split_can_be_compared(root: Path) -> None:
    result = run("good", "bad", "--split", "validation")
    assert result.stdout.startswith("validation: 100 characters")


def test_names_are_no_markup(root: Path) -> None:
    elsewhere = write(root / "elsewhere" / "deep", costs(0.3, 4))
    write(root / "[red]:e-mail:", costs(0.1, 5))
    table = run("good", elsewhere.relative_to(root), "[red]:e-mail:").stdout
    assert [line.split()[0] for line in table.splitlines()[3:6]] == ["good", "[red]:e-mail:", "elsewhere/deep"]


def test_bad_input_is_one_line_that_names_it(root: Path) -> None:
    write(ModelFolder("other").details, costs(0.0, 0, "b" * 6000))
    said = fails("good", "bad", "other")
    first, second = (hashlib.sha256(letter * 6000).hexdigest()[:12] for letter in (b"a", b"b"))
    assert f"good on {first} (6,000 characters) and other on {second} (6,000 characters)" in said
    assert fails("good").startswith("name two models or more")
    assert fails("good", "bad", "good") == "good is named twice: name each model once"
    assert "goood is no model: give a name under models/ (alike, bad, good, other)" in fails("good", "goood")
    write(ModelFolder("new").details, CharacterCosts.of({"validation": OWN[0]}, {"validation": "v"}))
    assert fails("good", "new").startswith("new was scored on validation, not on test")
