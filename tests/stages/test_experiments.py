"""DVC experiments and data versioning on a scratch copy with one tiny model, driven as docs/ tells users to."""

import json
import re
import shlex
import shutil
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from tests.stages.test_pipeline import Project, scratch_copy, stages_run
from tests.support.closure import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

MODEL = "gpt-word"
FOLDER = f"models/{MODEL}"
OTHER_METRICS = "models/another/evaluation/metrics.json"  # so that DVC has to be told which model is meant
LEFT_OUT = {"inspect", "benchmark", "report"}  # of the DAG: they only take time here
STEPS = 20
SWEEP = {"layers-1": 1, "layers-2": 2}  # experiments, and their n_layer; the baseline has 1
EDIT = '\nprint("code in", __file__)\n'
STOPPED_TRAINING = f"""
import sys
from tests.support import stage
stage.lay({{"at": ["gptmodel.training.trainer:Trainer._advance"], "call": 30, "signal": 15}})
sys.argv = ["train", "{MODEL}"]
stage.stage.main()
"""


def tiny(values: dict[str, Any]) -> None:
    """Leave one model that trains in no time."""
    model = values["models"][MODEL]
    model.update(n_layer=1, n_head=1, n_embd=32, n_hidden=32, steps=STEPS, evaluate_every=STEPS // 2)
    values["models"] = {MODEL: model}
    values["samples"].update(prompts=["Le "], temperatures=[0.8], max_new_tokens=10)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files under a folder, by name."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@dataclass(frozen=True)
class Tracked:
    """A run of the MLflow store."""

    id: str
    status: str
    artifacts: Path
    tags: dict[str, str]
    params: dict[str, str]
    figures: list[tuple[Any, ...]]


def tracked(project: Project) -> dict[str, Tracked]:
    """Return the runs of the workspace's store, by name; no name comes twice."""
    found = {}
    with sqlite3.connect(project.root / "mlflow.db") as store:
        for run, name, status, uri in store.execute("select run_uuid, name, status, artifact_uri from runs").fetchall():
            assert name not in found
            tags, params, figures = (
                store.execute(f"select {columns} where run_uuid = ? order by 1, 2", [run]).fetchall()
                for columns in ("key, value from tags", "key, value from params", "key, step, value from metrics")
            )
            found[name] = Tracked(run, status, Path(uri), dict(tags), dict(params), figures)
    return found


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy whose own text is versioned and whose model is trained, evaluated and exported; committed and pushed."""
    folder = tmp_path_factory.mktemp("experiments")
    (folder / "project").mkdir()  # DVC's queue fails below a folder whose name is not ASCII
    project = scratch_copy(folder / "project")
    for key, value in {"user.name": "t", "user.email": "t@example.org"}.items():
        project.run("git", "config", key, value)
    project.edit_params(tiny)
    dag = project.root / "dvc.yaml"
    stages = yaml.safe_load(dag.read_text(encoding="utf-8"))["stages"]
    kept = {name: stage for name, stage in stages.items() if name not in LEFT_OUT}
    dag.write_text(yaml.safe_dump({"stages": kept, "metrics": [OTHER_METRICS]}), encoding="utf-8")
    other = project.root / OTHER_METRICS
    other.parent.mkdir(parents=True)
    scores = {split: {"bits_per_char": 3.0} for split in ("validation", "test")}
    other.write_text(json.dumps(scores), encoding="utf-8")
    project.run("dvc", "add", "data/own/roman.txt")
    project.run("dvc", "repro")
    project.run("dvc", "remote", "add", "--default", "storage", str(folder / "remote"))
    project.run("git", "add", "-A")
    project.run("git", "commit", "-qm", "baseline")
    project.run("dvc", "push")
    return project


def ended(project: Project) -> set[str]:
    """Return the experiments that have succeeded (their names in Git: `dvc queue status` takes most of a second)."""
    return {
        Path(name).name
        for name in project.run("git", "for-each-ref", "--format=%(refname)", "refs/exps").stdout.split()
    }


@dataclass(frozen=True)
class Sweep:
    """What was there before some experiments ran from the queue, and what they said."""

    project: Project
    run_before: Tracked
    models_before: dict[str, bytes]
    state_before: dict[str, bytes]  # of a training that was stopped in the workspace
    logs: dict[str, str]


@pytest.fixture(scope="module")
def sweep(baseline: Project) -> Sweep:
    """Two experiments side by side, queued with an edit of the library that is taken back before they start."""
    parameters, models = (baseline.root / "params.yaml").read_bytes(), contents(baseline.root / "models")
    baseline.edit_params(lambda values: values["models"][MODEL].update(steps=100))
    stopped = baseline.run(
        "python", "-c", STOPPED_TRAINING, check=False, GPTMODEL_TRACKING="off", PYTHONPATH=f".:{ROOT}"
    )
    assert "stopped at step" in stopped.stderr, stopped.stderr
    (baseline.root / "params.yaml").write_bytes(parameters)
    before = tracked(baseline)[MODEL], models, contents(baseline.root / ".resume")

    file = baseline.root / "src" / "gptmodel" / "training" / "session.py"
    code = file.read_text(encoding="utf-8")
    file.write_text(code + EDIT, encoding="utf-8")
    values = ",".join(str(layers) for layers in SWEEP.values())
    baseline.run(
        "gptmodel",
        "queue",
        "--name",
        "layers",
        "-S",
        f"models.{MODEL}.n_layer={values}",
        f"evaluate@{MODEL}",
    )
    file.write_text(code, encoding="utf-8")
    baseline.run("dvc", "queue", "start", "--jobs", "2")
    deadline = time.monotonic() + 200
    while not SWEEP.keys() <= ended(baseline):
        assert time.monotonic() < deadline, baseline.run("dvc", "queue", "status").stdout
        time.sleep(0.5)
    return Sweep(baseline, *before, {name: baseline.run("dvc", "queue", "logs", name).stdout for name in SWEEP})


def test_impossible_parameters_are_refused_when_they_are_queued(baseline: Project) -> None:
    before = baseline.run("git", "for-each-ref", "refs/exps").stdout
    values = f"models.{MODEL}.steps={STEPS},4"  # as many as warmup_steps
    refused = baseline.run("gptmodel", "queue", "-n", "no", "-S", values, f"evaluate@{MODEL}", check=False)
    assert refused.returncode == 2
    assert refused.stdout == ""
    [line] = refused.stderr.splitlines()
    assert line == (
        f"error: params.yaml with models.{MODEL}.steps=4: models.{MODEL}: warmup_steps (4) must be below steps (4)"
    )
    assert baseline.run("git", "for-each-ref", "refs/exps").stdout == before
    assert baseline.run("git", "status", "--porcelain").stdout == ""


def test_experiments_run_the_code_of_their_snapshot(sweep: Sweep) -> None:
    for log in sweep.logs.values():
        (line,) = {line for line in log.splitlines() if line.startswith("code in")}
        assert f"{sweep.project.root}/.dvc/tmp/exps/" in line
    for log in sweep.logs.values():  # other code is another training, even with the same weights
        assert stages_run(log) == {f"train@{MODEL}", f"evaluate@{MODEL}"}
    assert contents(sweep.project.root / "models") == sweep.models_before
    assert sweep.project.run("git", "status", "--porcelain").stdout == ""


def test_experiments_train_every_step_and_leave_a_stopped_training_alone(sweep: Sweep) -> None:
    state = contents(sweep.project.root / ".resume")
    assert {name for name in sweep.state_before if "/step-" in name}
    assert {name: state.get(name) for name in sweep.state_before} == sweep.state_before
    assert state.keys() == sweep.state_before.keys()
    for log in sweep.logs.values():
        assert "going on from" not in log
        assert f"{STEPS}/{STEPS} steps" in log


def test_experiments_are_shown_with_their_parameters_and_figures(sweep: Sweep) -> None:
    _, commit = json.loads(sweep.project.run("dvc", "exp", "show", "--json").stdout)
    shown = {each["name"]: each["revs"][0]["data"] for each in commit["experiments"]}
    found = {}
    for name, data in shown.items():
        assert data["params"]["params.yaml"]["data"]["models"][MODEL]["n_layer"] == SWEEP[name]
        found[name] = data["metrics"][f"{FOLDER}/evaluation/metrics.json"]["data"]
    assert found.keys() == SWEEP.keys()
    assert found["layers-1"] == sweep.project.json(f"{FOLDER}/evaluation/metrics.json")  # the baseline's parameters
    assert found["layers-2"]["parameters"] > found["layers-1"]["parameters"]
    told = sweep.project.run("gptmodel", "compare", f"layers-2:{MODEL}", MODEL, "--json").stdout
    figures = {model["name"]: model["bits_per_char"] for model in json.loads(told)["models"]}
    assert figures[f"layers-2:{MODEL}"] == pytest.approx(found["layers-2"]["test"]["bits_per_char"], rel=1e-5)


def documented(heading: str) -> dict[str, list[str]]:
    """Return the command lines below a heading of docs/experiments.md by their first words, with our model's name."""
    section = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8").partition(f"## {heading}\n")[2]
    code = re.findall(r"^ {4}(\S.*)$", section.partition("\n## ")[0].replace("\\\n", " "), re.MULTILINE)
    lines = [shlex.split(line.replace("gpt-char", MODEL), comments=True) for line in code]
    return {" ".join(words[:3]): words for words in lines}


def test_the_documented_lines_say_which_experiment_was_best(sweep: Sweep) -> None:
    lines = documented("Which was best")
    shown = sweep.project.run(*lines["dvc exp show"]).stdout
    heads, *rows = (re.split(r"\s{2,}", row.strip()) for row in shown.splitlines() if re.search(r"\w", row))
    assert len(heads) == len(rows[-1]) == 4, shown  # the experiment, its layers, its two figures
    scored = {row[0].split()[-1].strip("[]"): row for row in rows}
    _, commit = json.loads(sweep.project.run("dvc", "exp", "show", "--json").stdout)
    figures = {
        each["name"]: each["revs"][0]["data"]["metrics"][f"{FOLDER}/evaluation/metrics.json"]["data"]["validation"]
        for each in commit["experiments"]
    }
    best_first = sorted(SWEEP, key=lambda name: float(figures[name]["bits_per_char"]))
    assert [name for name in scored if name in SWEEP] == best_first, shown
    sweep.project.run(*lines["dvc exp diff"])
    drawn = sweep.project.run(*lines["dvc plots diff"]).stdout.splitlines()[-1]
    assert Path(drawn.removeprefix("file://")).is_file()


def test_experiments_have_runs_of_their_own_in_the_workspaces_store(sweep: Sweep) -> None:
    runs = tracked(sweep.project)
    assert runs.pop(MODEL) == sweep.run_before
    assert set(runs) >= {f"{MODEL} [{name}]" for name in SWEEP}
    for name, layers in SWEEP.items():
        run = runs[f"{MODEL} [{name}]"]
        assert (run.status, run.params["n_layer"], run.tags["dvc.exp_name"]) == ("FINISHED", str(layers), name)
        assert (run.tags["stage.train"], run.tags["git.dirty"]) == ("finished", "true")  # the edit
        steps = [step for key, step, _ in run.figures if key == "curves/validation_bits_per_char"]
        assert steps == [0, STEPS // 2, STEPS]
        assert run.artifacts.is_relative_to(sweep.project.root / "mlartifacts")
        assert (run.artifacts / "training" / "history.csv").is_file()


def test_an_applied_experiment_is_the_workspace(sweep: Sweep) -> None:
    project = sweep.project
    project.run("dvc", "exp", "apply", "layers-2")
    try:
        assert EDIT in (project.root / "src" / "gptmodel" / "training" / "session.py").read_text(encoding="utf-8")
        assert project.json(f"{FOLDER}/training/checkpoint/meta.json")["model"]["n_layer"] == 2
        assert pd.read_csv(project.root / FOLDER / "training" / "history.csv")["step"].max() == STEPS
        assert stages_run(project.run("dvc", "repro", "--dry").stdout) == {f"export@{MODEL}"}
    finally:
        project.run("git", "checkout", "-q", ".")
        project.run("dvc", "checkout", "-q")
    assert contents(project.root / "models") == sweep.models_before


def test_an_evaluation_in_a_temporary_folder_has_a_run_below_the_baselines(baseline: Project) -> None:
    before, models = tracked(baseline)[MODEL], contents(baseline.root / "models")
    told = baseline.run(
        "dvc", "exp", "run", "--temp", "-n", "dynamic", "-S", "evaluation.dynamic_rate=0.01", f"evaluate@{MODEL}"
    )
    assert stages_run(told.stdout) == {f"evaluate@{MODEL}"}
    assert contents(baseline.root / "models") == models
    runs = tracked(baseline)
    assert runs[MODEL] == before
    child = runs[f"{MODEL} [dynamic]"]
    assert child.tags["mlflow.parentRunId"] == before.id
    figures = {key: value for key, _, value in child.figures}
    assert figures["test/dynamic_bits_per_char"] not in {value for _, _, value in before.figures}


@pytest.fixture
def clone(baseline: Project, tmp_path: Path) -> Project:
    """What a colleague gets from Git."""
    baseline.run("git", "clone", "-q", ".", str(tmp_path / "clone"))
    return Project(tmp_path / "clone")


def test_a_clone_pulls_and_writes_without_training(baseline: Project, clone: Project) -> None:
    clone.run("dvc", "pull")
    assert contents(clone.root / FOLDER) == contents(baseline.root / FOLDER)
    assert (clone.root / "data" / "own" / "roman.txt").is_file()
    written = clone.run("gptmodel", "generate", f"{FOLDER}/bundle", "Le ", "--max-new-tokens", "5", "--seed", "1")
    assert written.stdout.startswith("Le ")


def test_a_clone_reproduces_by_pulling(baseline: Project, clone: Project) -> None:
    told = clone.run("dvc", "repro", "--pull")
    assert not stages_run(told.stdout)
    assert contents(clone.root / FOLDER) == contents(baseline.root / FOLDER)
    assert clone.run("git", "status", "--porcelain").stdout == ""


def test_a_file_that_the_remote_lost_is_named(baseline: Project, clone: Project, tmp_path: Path) -> None:
    remote = tmp_path / "remote"
    shutil.copytree(baseline.root.parent / "remote", remote)
    clone.run("dvc", "remote", "modify", "--local", "storage", "url", str(remote))
    graph = (baseline.root / FOLDER / "bundle" / "model.onnx").read_bytes()
    (lost,) = (path for path in remote.rglob("*") if path.is_file() and path.read_bytes() == graph)
    lost.unlink()
    done = clone.run("dvc", "pull", f"{FOLDER}/bundle", check=False)
    assert done.returncode
    assert str(lost) in done.stderr
    assert "Traceback" not in done.stderr
    assert not (clone.root / FOLDER / "bundle").exists()
