"""What a name means to `compare`: on real files, a real Git + DVC repository and a real MLflow store."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gptmodel import layout
from gptmodel.errors import UserError
from gptmodel.evaluation.surprisal import FILE, CharacterCosts
from gptmodel.layout import ModelFolder
from gptmodel.results.bundle import Origin
from gptmodel.tracking import runs, sources, store
from gptmodel.tracking.runs import Identity
from tests.support.stores import repository

pytestmark = pytest.mark.slow

NATS = np.random.default_rng(0).exponential(1.5, 600)


def costs(extra_nats: float) -> CharacterCosts:
    """Return costs of a model that pays `extra_nats` per character over the common ones."""
    nats = NATS + extra_nats
    return CharacterCosts.of({"validation": nats[:100], "test": nats}, {"validation": "v" * 100, "test": "a" * 600})


def write(folder: Path, extra_nats: float) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    costs(extra_nats).write(folder / FILE)
    return folder


def mean(name: str) -> float:
    """Return the nats per character over the common ones that a name's model pays."""
    return round(float(sources.read(name).nats["test"].mean() - NATS.mean()), 3)


def fails(name: str) -> str:
    with pytest.raises(UserError) as caught:
        sources.read(name)
    return str(caught.value)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with two models and the baselines; it is the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    write(ModelFolder("good").details, 0.0)
    write(ModelFolder("bad").details, 0.5)
    write(layout.BASELINES, 1.0)
    return tmp_path


# The workspace


def test_a_folder_stands_for_itself_and_a_name_for_the_workspace(root: Path) -> None:
    write(root / "elsewhere" / "deep", 0.25)
    write(root / "good", 9.0)  # models/good comes first
    write(root / "[red]:e-mail:", 0.125)
    names = ["good", "elsewhere/deep", "[red]:e-mail:", "baselines"]
    assert [mean(name) for name in names] == [0.0, 0.25, 0.125, 1.0]
    assert list(sources.read_all(names)) == names


def test_what_a_name_may_be_is_said(root: Path) -> None:
    assert "goood is no model: give a name under models/ (bad, good), baselines, a folder with" in fails("goood")
    assert fails("ladder").startswith("ladder is no model")  # as the baselines were called
    ModelFolder("new").training.mkdir(parents=True)
    assert fails("new").startswith(
        f"models/new/evaluation/details/{FILE} does not exist: run `dvc repro`, or `dvc pull`"
    )
    (root / "empty").mkdir()
    assert fails("empty").startswith(f"empty/{FILE} does not exist")
    (layout.BASELINES / FILE).unlink()
    assert fails("baselines").startswith(f"data/baselines/{FILE} does not exist")
    (ModelFolder("bad").details / FILE).write_bytes(b"x")
    assert f"models/bad/evaluation/details/{FILE} is damaged" in fails("bad")


def test_two_different_models_are_asked_for(root: Path) -> None:
    with pytest.raises(UserError, match="name two models or more, for example: gptmodel compare gpt-char baselines"):
        sources.read_all(["good"])
    with pytest.raises(UserError, match="good is named twice: name each model once"):
        sources.read_all(["good", "bad", "good"])


def test_a_missing_package_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "find_spec", lambda _: None)
    for package, name in (("dvc", "HEAD:good"), ("mlflow", "run:f00d")):
        assert fails(name) == f"{package} is not installed: pip install 'gptmodel[pipeline]'"


# A revision


def shell(root: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def forget(root: Path, revision: str) -> None:
    """Delete what a revision's cache holds of the model x, its list of files included."""
    name = f"{revision}:models/x/evaluation/details.dvc"
    listed = shell(root, "git", "show", name).partition("md5: ")[2].split()[0]
    cache = root / ".dvc" / "cache" / "files" / "md5"
    for digest in (listed, content_hash(cache / listed[:2] / listed[2:])):
        (cache / digest[:2] / digest[2:]).unlink()


def content_hash(listing: Path) -> str:
    return listing.read_text().partition('"md5": "')[2].partition('"')[0]


@pytest.fixture(scope="module")
def revisions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Git + DVC repository: `second` (HEAD) pays 0.5 nats more than the workspace, `first` and `essai` 2.5.

    The tag `none` is older than the file; of `lost` nothing is in the cache, of `half` the file alone is not; what
    `damaged` names holds no costs.
    """
    root = tmp_path_factory.mktemp("dépôt")
    for command in ("init -q", "config user.name t", "config user.email t@example.org"):
        shell(root, "git", *command.split())
    dvc = (sys.executable, "-m", "dvc")
    shell(root, *dvc, "init", "-q")
    shell(root, *dvc, "config", "core.analytics", "false")
    folder = ModelFolder("x", root / layout.MODELS).details
    for tag, extra in (("none", 0.0), ("damaged", 1.0), ("lost", 1.5), ("half", 2.0), ("first", 2.5), ("second", 0.5)):
        if tag != "none":
            write(folder, extra)
            if tag == "damaged":
                (folder / FILE).write_bytes(b"no costs")
            shell(root, *dvc, "add", "-q", "models/x/evaluation/details")
        shell(root, "git", "add", "-A")
        shell(root, "git", "commit", "-qm", tag)
        shell(root, "git", "tag", tag)
    forget(root, "lost")
    half = root / ".dvc" / "cache" / "files" / "md5"
    listed = shell(root, "git", "show", "half:models/x/evaluation/details.dvc").partition("md5: ")[2].split()[0]
    digest = content_hash(half / listed[:2] / listed[2:])
    (half / digest[:2] / digest[2:]).unlink()
    head = shell(root, "git", "rev-parse", "HEAD")
    shell(root, "git", "update-ref", f"refs/exps/{head[:2]}/{head[2:]}/essai", "first")
    write(folder, 0.0)
    return root


def test_a_revision_comes_out_of_dvcs_cache(revisions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(revisions)
    assert [mean(name) for name in ("x", "HEAD:x", "HEAD~1:x", "essai:x")] == [0.0, 0.5, 2.5, 2.5]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere:x", "nowhere is no Git revision or DVC experiment here: see `git log`"),
        ("none:x", f"none has no models/x/evaluation/details/{FILE}: it knows no such model"),
        ("HEAD:y", f"HEAD has no models/y/evaluation/details/{FILE}: it knows no such model"),
        ("HEAD:baselines", f"HEAD has no data/baselines/{FILE}: it knows no such model"),
        ("damaged:x", f"{FILE} of damaged:x is damaged or of another kind"),
        ("half:x", f"models/x/evaluation/details/{FILE} of half is not in DVC's cache: get it with `dvc fetch`"),
        ("lost:x", f"models/x/evaluation/details/{FILE} of lost is not in DVC's cache: get it with `dvc fetch`"),
    ],
)
def test_what_dvc_cannot_get_is_said_in_one_line(
    revisions: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.chdir(revisions)
    assert fails(name).startswith(said)


def test_outside_of_a_repository_dvc_says_so(root: Path) -> None:
    said = fails("HEAD:x")
    assert said.startswith(f"dvc cannot get models/x/evaluation/details/{FILE} of HEAD (")
    assert said.endswith("): run this in the root of a Git and DVC repository")


# An MLflow run


def test_no_store_is_made_to_read_a_run(root: Path) -> None:
    assert fails("run:f00d").startswith("there is no mlflow.db here: run this in the repository's root or set")
    assert not (root / "mlflow.db").exists()


def test_an_mlflow_run_brings_its_artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository(tmp_path, monkeypatch)
    folder = write(ModelFolder("bad").details, 0.5)
    page = Origin(name="essai", title="Un essai", author=None, year=None, language=None, licence="MIT")
    ids = []
    for name in ("bad", "new"):
        with runs.run(Identity(name, name, "char", page), "evaluate") as opened:
            if name == "bad":
                opened.log_folder(folder, sources.STAGE)
            ids.append(opened.id)
    full, empty = ids
    found = sources.read(f"run:{full}")
    assert np.array_equal(found.nats["test"], sources.read("bad").nats["test"])
    assert found.sha256 == sources.read("bad").sha256
    missing = f"the MLflow run {empty} has no artifact evaluation/details/{FILE}: evaluate its model again (dvc repro)"
    assert fails(f"run:{empty}") == missing
    assert fails("run:f00d") == "MLflow has no run f00d: copy the run ID from its page in `make ui`"


def test_a_server_that_is_down_is_one_line_without_a_password(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    said = fails("run:f00d")
    assert said.startswith("no MLflow server answers at http://127.0.0.1:9")
    assert "secret" not in said
