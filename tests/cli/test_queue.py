"""`gptmodel queue` checks what DVC would queue; that it then queues it stands in tests/stages/test_experiments.py."""

from pathlib import Path

import pytest

from gptmodel.cli.queue import check
from gptmodel.errors import UserError
from tests.support.closure import ROOT


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["seed=1,2,3"],
        ["models.gpt-char.n_layer=2,4", "models.gpt-char.learning_rate=1e-3"],
        ["~models.gpt-bpe", "params.yaml:seed=7"],
        ["other.yaml:a=1"],  # DVC's own matter
    ],
    ids=str,
)
def test_possible_values_pass_and_params_yaml_stays_as_it_is(project: Path, overrides: list[str]) -> None:
    check(overrides)
    assert (project / "params.yaml").read_bytes() == (ROOT / "params.yaml").read_bytes()
    assert [path.name for path in project.iterdir()] == ["params.yaml"]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("models.gpt-char.steps=100,20", ["with models.gpt-char.steps=20", "warmup_steps (20) must be below steps"]),
        ("models.gpt-char.nlayer=3", ["-S models.gpt-char.nlayer=3", "Could not override", "docs/parameters.md"]),
        ("models.gpt-char.n_layer=100000000", ["models.gpt-char.n_layer", "100000000"]),
        ("+models.gpt-char.colour=red", ["models.gpt-char.colour", "unknown key"]),
        ("~models", ["models: missing"]),
        ("models=1", ["models: input should be", "not 1"]),
        ("seed=${nothing}", ["-S seed=${nothing}", "nothing"]),
        ("seed=[", ["-S seed=["]),
        ("seed", ["-S seed"]),
        ("", ["-S"]),
    ],
)
def test_impossible_values_are_one_line(project: Path, override: str, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        check([override])
    assert str(caught.value).isprintable()
    for word in words:
        assert word in str(caught.value)


def test_a_params_yaml_that_is_wrong_already_is_named(project: Path) -> None:
    (project / "params.yaml").write_text("seed: [1\n")
    with pytest.raises(UserError, match=r"^params\.yaml, line 2: not valid YAML"):
        check(["seed=1"])
