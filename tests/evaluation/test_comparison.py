"""Which model is better, on real files, a real Git + DVC repository and a real MLflow store."""

import hashlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from gptmodel.cli.app import app
from gptmodel.errors import UserError
from gptmodel.evaluation import comparison
from gptmodel.evaluation.surprisal import CharacterCosts
from gptmodel.tracking import runs

LN2 = np.log(2)
COMMON = np.random.default_rng(0).exponential(2.0, 6000)  # bits: what is hard for one model is hard for all
OWN = np.random.default_rng(1).standard_normal((9, 6000))
OWN -= OWN.mean(axis=1, keepdims=True)


def costs(extra_bits: float, model: int = 0, text: str = "a" * 6000) -> CharacterCosts:
    """Return costs of a `model` that pays `extra_bits` per character over the common ones, noisily."""
    bits = COMMON + extra_bits + 0.3 * OWN[model]
    return CharacterCosts.of({"validation": bits[:100] * LN2, "test": bits * LN2}, {"validation": "v", "test": text})


def write(folder: Path, one: CharacterCosts) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    one.write(folder / comparison.FILE)
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


def fails(*arguments: object) -> str:
    """Return the one line with which a command refuses its input."""
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line.removeprefix("error: ")


def shell(root: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with three models and the ladder; it is the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    write(tmp_path / "models" / "good", costs(0.0, 0))
    write(tmp_path / "models" / "alike", costs(0.001, 1))
    write(tmp_path / "models" / "bad", costs(0.05, 2))
    write(tmp_path / "data" / "ladder", costs(0.5, 3))
    return tmp_path


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Git + DVC repository: HEAD pays 0.5 bits more than the workspace, HEAD~1 and the experiment `essai` 2.5.

    The tag `none` is older than the file; what `lost` names is not in the cache, what `damaged` names holds no costs.
    """
    root = tmp_path_factory.mktemp("dépôt")
    path = f"models/x/{comparison.FILE}"
    for command in ("init -q", "config user.name t", "config user.email t@example.org"):
        shell(root, "git", *command.split())
    dvc = (sys.executable, "-m", "dvc")
    shell(root, *dvc, "init", "-q")
    shell(root, *dvc, "config", "core.analytics", "false")
    shell(root, "git", "add", "-A")
    shell(root, "git", "commit", "-qm", "none")
    shell(root, "git", "tag", "none")
    write(root / "models" / "x", costs(2.5))
    shell(root, *dvc, "add", "-q", path)
    for tag, extra in (("damaged", 1.0), ("lost", 1.5), ("first", 2.5), ("second", 0.5)):
        content = write(root / "models" / "x", costs(extra)) / comparison.FILE
        if tag == "damaged":
            content.write_bytes(b"no costs")
        digest = hashlib.md5(content.read_bytes()).hexdigest()
        cached = root / ".dvc" / "cache" / "files" / "md5" / digest[:2] / digest[2:]
        cached.parent.mkdir(parents=True, exist_ok=True)
        if tag != "lost":
            cached.write_bytes(content.read_bytes())
        pointer = {"outs": [{"md5": digest, "size": content.stat().st_size, "hash": "md5", "path": comparison.FILE}]}
        (root / f"{path}.dvc").write_text(json.dumps(pointer))
        shell(root, "git", "add", "-A")
        shell(root, "git", "commit", "-qm", tag)
        shell(root, "git", "tag", tag)
    head = shell(root, "git", "rev-parse", "HEAD")
    shell(root, "git", "update-ref", f"refs/exps/{head[:2]}/{head[2:]}/essai", "first")
    write(root / "models" / "x", costs(0.0))
    return root


def test_the_best_comes_first_with_its_interval_and_every_pair_is_judged(root: Path) -> None:
    result = run("ladder", "bad", "good", "alike")
    assert result.exit_code == 0, result.stderr
    text, _, header, *rest = result.stdout.splitlines()
    assert text == f"test: 6,000 characters, sha256 {hashlib.sha256(b'a' * 6000).hexdigest()[:12]}"
    assert header.split() == ["model", "bits/char", "95", "%", "interval"]
    assert [line.split()[0] for line in rest[:4]] == ["good", "alike", "bad", "ladder"]
    assert [line.split()[1] for line in rest[:4]] == [f"{COMMON.mean() + extra:.3f}" for extra in (0, 0.001, 0.05, 0.5)]
    said = rest[5:]
    assert len(said) == 6
    assert said[0].startswith("no real difference between good and alike: 0.001 (-0.")
    assert said[1].startswith("good is better than bad by 0.050 bits/char (0.0")
    assert said[2].startswith("good is better than ladder by 0.500 bits/char (0.4")
    assert said[5].startswith("bad is better than ladder by 0.450 bits/char (0.4")
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


def test_pairs_are_ordered_by_cost_whatever_the_order_of_the_models() -> None:
    given = {"c": costs(0.2, 0), "a": costs(0.1, 1), "b": costs(0.0, 2)}
    found = comparison.pairs(given, "test")
    assert [(pair["a"], pair["b"]) for pair in found] == [("b", "a"), ("b", "c"), ("a", "c")]
    assert all(set(pair) == {"a", "b", "bits_per_char", "low", "high", "certainty"} for pair in found)
    assert found == comparison.pairs(dict(reversed(given.items())), "test")
    assert comparison.pairs({"c": given["c"]}, "test") == []


def test_the_other_split_can_be_compared(root: Path) -> None:
    result = run("good", "bad", "--split", "validation")
    assert result.stdout.startswith("validation: 100 characters")


def test_a_folder_stands_for_itself_and_a_name_for_the_workspace(root: Path) -> None:
    elsewhere = write(root / "elsewhere" / "deep", costs(0.3, 4))
    write(root / "good", costs(9.0))  # models/good comes first
    write(root / "[red]:e-mail:", costs(0.1, 5))  # names are no markup
    table = run("good", elsewhere.relative_to(root), "[red]:e-mail:").stdout
    assert [line.split()[0] for line in table.splitlines()[3:6]] == ["good", "[red]:e-mail:", "elsewhere/deep"]


def test_different_texts_are_refused_by_name(root: Path) -> None:
    write(root / "models" / "other", costs(0.0, 0, "b" * 6000))
    said = fails("good", "bad", "other")
    first, second = (hashlib.sha256(letter * 6000).hexdigest()[:12] for letter in (b"a", b"b"))
    assert f"good on {first} (6,000 characters) and other on {second} (6,000 characters)" in said
    assert "bad" not in said


def test_bad_input_is_one_line_that_names_it(root: Path) -> None:
    assert fails("good").startswith("name two models or more")
    assert fails("good", "bad", "good") == "good is named twice: name each model once"
    assert "goood is no model: give a name under models/ (alike, bad, good)" in fails("good", "goood")
    (root / "models" / "new").mkdir()
    assert fails("good", "new").startswith(f"models/new/{comparison.FILE} does not exist")
    (root / "models" / "bad" / comparison.FILE).write_bytes(b"x")
    assert "models/bad/surprisal.npz is damaged" in fails("good", "bad")
    only = CharacterCosts.of({"validation": OWN[0]}, {"validation": "v"})
    write(root / "models" / "new", only)
    assert fails("good", "new").startswith("new was measured on validation, not on test")
    assert "no mlflow.db here" in fails("good", "run:f00d")
    assert not (root / "mlflow.db").exists()


def test_a_revision_comes_out_of_dvcs_cache(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    found = json.loads(run("essai:x", "HEAD:x", "x", "HEAD~1:x", "--json").stdout)
    means = {row["name"]: row["bits_per_char"] for row in found["models"]}
    assert means["HEAD:x"] - means["x"] == pytest.approx(0.5)
    assert means["HEAD~1:x"] - means["x"] == pytest.approx(2.5)
    assert means["essai:x"] == means["HEAD~1:x"]
    same = found["pairs"][-1]
    assert (same["bits_per_char"], same["certainty"]) == (0, 0.5)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere:x", "nowhere is no Git revision or DVC experiment here"),
        ("none:x", "none has no models/x/surprisal.npz"),
        ("damaged:x", "surprisal.npz of damaged:x is damaged or of another kind"),
        ("lost:x", "models/x/surprisal.npz of lost is not in DVC's cache: get it with `dvc fetch`"),
    ],
)
def test_what_dvc_cannot_get_is_said_in_one_line(
    repository: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.chdir(repository)
    assert fails("x", name).startswith(said)


def test_a_missing_package_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for tool, name in (("dvc", "HEAD:good"), ("mlflow", "run:f00d")):
        (root / "mlflow.db").touch()
        monkeypatch.setattr(comparison, "find_spec", lambda _: None)
        assert fails("bad", name) == f"{tool} is not installed: pip install 'gptmodel[pipeline]'"


def test_what_another_program_says_is_one_line_without_a_password(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(root)
    program = root / "unhappy.py"
    program.write_text("import sys; sys.exit('first\\nno answer from https://me:secret@example.org/a\\n\\n')")
    assert comparison._run("unhappy") == "no answer from https://example.org/a"
    program.write_text("import sys; sys.exit(3)")
    assert comparison._run("unhappy") == "exit code 3"
    program.write_text("import os, sys; sys.exit(sys.argv[1:] != ['a'] or os.environ['PLACE'] != 'b')")
    assert comparison._run("unhappy", "a", PLACE="b") is None


def test_an_mlflow_run_brings_its_artifact(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DVC_ROOT", "DVC_EXP_NAME", "GPTMODEL_TRACKING"):
        monkeypatch.delenv(name, raising=False)
    ids = []
    for name in ("bad", "new"):
        who = {"fingerprint": name, "variant": name, "corpus": {"name": "essai"}, "level": "char"}
        with runs.run(**who, stage="evaluate") as opened:
            if name == "bad":
                opened.log_file(root / "models" / "bad" / comparison.FILE)
            ids.append(str(opened.id))
    full, empty = ids
    with ThreadPoolExecutor() as together:  # each starts MLflow: seconds
        found, *refused = together.map(read_or_error, (f"run:{full}", f"run:{empty}", "run:f00d"))
    assert isinstance(found, CharacterCosts)
    assert np.array_equal(found.nats["test"], comparison.read("bad").nats["test"])
    assert found.sha256 == comparison.read("bad").sha256
    assert refused == [
        f"the MLflow run {empty} has no artifact surprisal.npz: evaluate its model again (dvc repro)",
        "MLflow has no run f00d: copy the run ID from its page in `make ui`",
    ]


def read_or_error(name: str) -> CharacterCosts | str:
    try:
        return comparison.read(name)
    except UserError as error:
        return str(error)
