"""The whole DAG on fixture text, with real DVC, a real MLflow store and real ONNX Runtime, driven as a user would."""

import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gptmodel.evaluation.surprisal import CharacterCosts
from tests.support.closure import ROOT
from tests.support.places import edit_params
from tests.support.watch import STRACE, Watch, inherited

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

MODELS = ["bigram-char", "classic-char", "gpt-word", "gpt-bpe"]


class Project:
    """A scratch copy of this repository."""

    def __init__(self, root: Path, watch: Watch | None = None) -> None:
        self.root = root
        self.watch = watch

    def run(self, *command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the project's root, with this Python's environment first on the PATH."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        own = {**inherited(), "PATH": path, **environment}
        done = subprocess.run(
            self.watch.command(command) if self.watch else command,
            cwd=self.root,
            env=self.watch.environment(own) if self.watch else own,
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
        )
        if check and done.returncode:
            raise AssertionError(
                f"{' '.join(command)}: exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            )
        return done

    def edit_params(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change params.yaml."""
        edit_params(self.root, change)

    def json(self, path: str) -> Any:
        return json.loads((self.root / path).read_text(encoding="utf-8"))

    def would_run(self) -> set[str]:
        """Return the stages that `dvc repro` would run now."""
        return stages_run(self.run("dvc", "repro", "--dry").stdout)


def stages_run(output: str) -> set[str]:
    """Return the stages that `dvc repro` says it runs."""
    return {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage '")}


def scratch_copy(root: Path, watch: Watch | None = None) -> Project:
    for name in ("pipelines", "src", ".dvc", "data"):
        ignore = shutil.ignore_patterns(
            "__pycache__", "*.egg-info", "cache", "tmp", "raw", "clean", "tokens", "baselines"
        )
        shutil.copytree(ROOT / name, root / name, ignore=ignore)
    for name in ("dvc.yaml", "params.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, root / name)
    project = Project(root, watch)
    shutil.copy(ROOT / "tests" / "fixtures" / "roman.txt", root / "data" / "own" / "roman.txt")
    project.edit_params(small)
    project.run("git", "init", "-q")
    project.run("git", "add", "-A")
    project.run("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "start")
    return project


def small(values: dict[str, Any]) -> None:
    """Make every part of the pipeline take a second or two, nothing else."""
    values["corpus"] = "data/own/roman.txt"
    values["split"] = {"train": 0.7, "validation": 0.15, "test": 0.15, "boundary": "line"}
    values["tokenizers"]["word"] = {"vocab_size": 900, "min_count": 2}
    values["tokenizers"]["bpe"]["vocab_size"] = 350
    values["models"] = {name: values["models"][name] for name in MODELS}
    for model in values["models"].values():
        model.update(steps=40, evaluate_every=20, warmup_steps=4, context=32, batch_size=8)
        if model["network"] == "gpt":
            model.update(n_layer=2, n_head=2, n_embd=32, n_hidden=64, learning_rate=0.01, dropout=0.0)
    values["models"]["bigram-char"]["steps"] = 200
    values["samples"].update(prompts=["Le ", "— Où ☃ "], temperatures=[0.8, 0], max_new_tokens=40)
    values["engine"]["precision"] = "float32"  # the same on every processor
    values["timeline"].update(max_new_tokens=10)
    values["benchmark"] = {"prompt_tokens": 8, "new_tokens": 8, "batch_sizes": [1, 2], "repeats": 2}


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The scratch copy after one `dvc repro`; whom it talks to is watched."""
    project = scratch_copy(tmp_path_factory.mktemp("project"), Watch(tmp_path_factory.mktemp("watched")))
    project.run("dvc", "repro")
    return project


def test_every_output_is_there_and_git_sees_only_what_it_should(project: Project) -> None:
    for name in MODELS:
        folder = project.root / "models" / name
        folders = {"training", "evaluation", "inspection", "bundle", "hf", "benchmark"}
        assert {path.name for path in folder.iterdir()} == folders
        inside = {"checkpoint", "history.csv", "timeline.json", "timeline.md", "speed.json"}
        assert {path.name for path in (folder / "training").iterdir()} == inside
        assert {path.name for path in (folder / "evaluation").iterdir()} == {"metrics.json", "details"}
        details = {"surprisal.safetensors", "breakdown.json", "novelty.json", "samples.json", "samples.md"}
        assert {path.name for path in (folder / "evaluation" / "details").iterdir()} == details
        assert {path.name for path in (folder / "bundle").iterdir()} >= {"model.onnx", "tokenizer.json", "bundle.json"}
    seen = project.run("git", "status", "--porcelain", "-uall").stdout.split()[1::2]
    assert set(seen) == {*(f"models/{name}/evaluation/metrics.json" for name in MODELS), "dvc.lock"}


def test_a_finished_training_leaves_its_speed_and_no_state(project: Project) -> None:
    for name in MODELS:
        speed = project.json(f"models/{name}/training/speed.json")
        assert speed["processes"] == 1
        assert (speed["precision"], speed["execution"]) == ("float32", "eager")
        assert speed["seconds"] > 0
        assert speed["tokens_per_second"] > 0
        assert (speed["share_of_matrix_rate"] > 0) == (name != "bigram-char")  # a table has no matrix products
        assert "tokens_per_second" not in pd.read_csv(project.root / "models" / name / "training" / "history.csv")
    assert list((project.root / ".resume").iterdir()) == []
    project.run("git", "check-ignore", ".resume")
    table = (project.root / "reports" / "comparison.md").read_text(encoding="utf-8")
    assert "trained in" in table.splitlines()[0]


def test_the_networks_learned_and_every_character_counts(project: Project) -> None:
    for name in MODELS:
        metrics, history = (
            project.json(f"models/{name}/evaluation/metrics.json"),
            pd.read_csv(project.root / "models" / name / "training" / "history.csv"),
        )
        for split in ("validation", "test"):
            text = (project.root / "data" / "clean" / "text" / f"{split}.txt").read_text(encoding="utf-8")
            assert metrics[split]["characters"] == len(text)
            bits = metrics[split]["loss_nats"] * metrics[split]["tokens"] / np.log(2)
            assert metrics[split]["bits_per_char"] == pytest.approx(bits / len(text))
            assert metrics[split]["bits_per_byte"] == pytest.approx(bits / len(text.encode()))
        first, last = history.iloc[0], history.iloc[-1]
        assert last["validation_bits_per_char"] < first["validation_bits_per_char"]
        best = history["validation_bits_per_char"].min()
        assert metrics["validation"]["bits_per_char"] == pytest.approx(best, rel=1e-4)
        assert metrics["best_step"] == history["step"].iloc[history["validation_bits_per_char"].argmin()]
    trained = project.json("models/bigram-char/evaluation/metrics.json")["validation"]
    assert trained["bits_per_char"] < trained["unigram_bits_per_char"]


def test_the_parts_of_the_evaluation_are_those_of_the_whole(project: Project) -> None:
    counted = project.json("data/baselines/baselines.json")
    assert min(counted["splits"]["validation"], key=lambda row: row["bits_per_char"])["name"] == counted["best"]
    for name in MODELS:
        metrics = project.json(f"models/{name}/evaluation/metrics.json")["test"]
        costs = CharacterCosts.read(project.root / "models" / name / "evaluation" / "details" / "surprisal.safetensors")
        assert costs.nats["test"].sum(dtype=float) / np.log(2) / metrics["characters"] == pytest.approx(
            metrics["bits_per_char"], rel=1e-5
        )
        assert metrics["bits_per_char_low"] < metrics["bits_per_char"] < metrics["bits_per_char_high"]
        parts = project.json(f"models/{name}/evaluation/details/breakdown.json")
        assert parts["split"] == "test"
        assert sum(part["share_of_bits"] for part in parts["by_class"]) == pytest.approx(1)
        written = project.json(f"models/{name}/evaluation/details/novelty.json")
        assert len(written["per_sample"]) == len(
            project.json(f"models/{name}/evaluation/details/samples.json")["samples"]
        )
        assert written["samples"]["words"] > 0


def test_the_page_holds_every_model_and_asks_for_nothing(project: Project) -> None:
    page = (project.root / "reports" / "index.html").read_text(encoding="utf-8")
    assert len(page) < 3_000_000
    assert all(f'"name":"{name}"' in page.replace('": "', '":"') for name in MODELS)
    assert not re.search(r"https?://|url\(|@import", page.replace("http://www.w3.org/2000/svg", ""))


def test_two_models_are_compared_from_the_command_line(project: Project) -> None:
    told = project.run("gptmodel", "compare", MODELS[0], "baselines", "--json").stdout
    better = json.loads(told)["pairs"][0]
    assert {better["a"], better["b"]} == {MODELS[0], "baselines"}
    assert better["low"] <= better["bits_per_char"] <= better["high"]


def test_the_splits_are_the_cleaned_text(project: Project) -> None:
    parts = [
        (project.root / "data" / "clean" / "text" / f"{split}.txt").read_text(encoding="utf-8")
        for split in ("train", "validation", "test")
    ]
    assert "".join(parts) == (ROOT / "tests" / "fixtures" / "roman.txt").read_text(encoding="utf-8")
    assert all(parts)


def test_the_bundles_are_proven_equal_to_torch(project: Project) -> None:
    for name in MODELS:
        manifest = project.json(f"models/{name}/bundle/bundle.json")
        graphs = manifest["graphs"]
        assert set(graphs) == ({"portable"} if name == "bigram-char" else {"portable", "fp32", "int8", "fp16"})
        for graph in {"portable", "fp32"} & set(graphs):
            differences = [value for key, value in graphs[graph].items() if key.endswith("difference")]
            assert len(differences) == 3
            assert max(differences) <= 1e-4
            assert graphs[graph]["positions"] > 18_000  # 20,000, or every window of a short text
        for graph, limit in {"int8": 5e-3, "fp16": 1e-3}.items():
            assert graph not in graphs or graphs[graph]["change"] <= limit
        assert manifest["corpus"]["name"] == "roman"
        assert manifest["example_prompt"] == "Le "
        first = project.json(f"models/{name}/training/timeline.json")["entries"][0]
        assert first["sample"]["prompt"] == project.json("data/clean/text/text.json")["prompts"][0]  # auto


def test_a_second_repro_does_nothing(project: Project) -> None:
    done = project.run("dvc", "repro")
    assert "Data and pipelines are up to date." in done.stdout
    assert "Running stage" not in done.stdout


@pytest.mark.parametrize(
    ("file", "first"),
    [
        ("tracking/outputs.py", set()),
        ("progress.py", set()),
        ("errors.py", set()),
        ("report/page.py", {"report"}),
        ("training/optim.py", {f"train@{name}" for name in MODELS}),
        ("text/cleaning.py", {"fetch", "clean"}),
    ],
)
def test_a_comment_reruns_the_stages_of_its_room_only(project: Project, file: str, first: set[str]) -> None:
    """What follows from new outputs, only a run can tell: `dvc status` names the stages whose dependencies changed."""
    path = project.root / "src" / "gptmodel" / file
    before = path.read_bytes()
    path.write_bytes(before + b"\n# edited\n")
    changed = json.loads(project.run("dvc", "status", "--json").stdout)
    path.write_bytes(before)
    assert set(changed) == first


def test_another_licence_or_title_retrains_nothing(project: Project) -> None:
    path = project.root / "data" / "clean" / "corpus.json"
    before = path.read_bytes()
    described = json.loads(before)
    path.write_text(json.dumps(described | {"title": "Autre titre", "licence": "another"}), encoding="utf-8")
    changed = json.loads(project.run("dvc", "status", "--json").stdout)
    path.write_bytes(before)
    assert {stage.partition("@")[0] for stage in changed} == {"clean", "export", "report"}


def test_another_vocabulary_of_words_leaves_the_models_of_characters_alone(project: Project) -> None:
    before = (project.root / "params.yaml").read_bytes()
    project.edit_params(lambda values: values["tokenizers"]["word"].update(vocab_size=901))
    changed = json.loads(project.run("dvc", "status", "--json").stdout)
    (project.root / "params.yaml").write_bytes(before)
    assert set(changed) == {"encode@word"}


def test_one_model_can_be_reproduced_alone(project: Project) -> None:
    stages = stages_run(project.run("dvc", "repro", "--dry", "--force", "export@gpt-word").stdout)
    counted = {"fetch", "clean", "encode@char", "baselines"}  # the model card names them
    assert stages == {*counted, "encode@word", "train@gpt-word", "evaluate@gpt-word", "export@gpt-word"}


def test_dvc_shows_metrics_plots_and_parameters(project: Project) -> None:
    metrics = json.loads(project.run("dvc", "metrics", "show", "--json").stdout)
    assert metrics[""]["data"]["models/gpt-word/evaluation/metrics.json"]["data"]["test"]["bits_per_char"] > 0
    project.run("dvc", "plots", "show", "-o", "plots-for-test")
    page = (project.root / "plots-for-test" / "index.html").read_text(encoding="utf-8")
    shutil.rmtree(project.root / "plots-for-test")
    for name in MODELS:
        assert name in page
    before = (project.root / "params.yaml").read_bytes()
    project.edit_params(lambda values: values["models"]["gpt-word"].update(n_layer=7))
    diff = json.loads(project.run("dvc", "params", "diff", "--json").stdout)
    (project.root / "params.yaml").write_bytes(before)
    assert {"old": 2, "new": 7}.items() <= diff["params.yaml"]["models.gpt-word.n_layer"].items()


def test_mlflow_has_one_finished_run_per_model(project: Project) -> None:
    with sqlite3.connect(project.root / "mlflow.db") as store:
        runs = dict(store.execute("select name, run_uuid from runs where status = 'FINISHED'").fetchall())
        assert sorted(runs) == sorted(MODELS)
        for name, run in runs.items():
            tags = dict(store.execute("select key, value from tags where run_uuid = ?", [run]).fetchall())
            for stage in ("train", "evaluate", "inspect", "export", "benchmark", "report"):
                assert tags[f"stage.{stage}"] == "finished"
            assert tags["fingerprint"] == project.json(f"models/{name}/training/checkpoint/meta.json")["fingerprint"]
            latest = dict(store.execute("select key, value from latest_metrics where run_uuid = ?", [run]).fetchall())
            assert (
                latest["test/bits_per_char"]
                == project.json(f"models/{name}/evaluation/metrics.json")["test"]["bits_per_char"]
            )
            steps = store.execute(
                "select step from metrics where run_uuid = ? and key = 'curves/validation_bits_per_char'", [run]
            ).fetchall()
            history = pd.read_csv(project.root / "models" / name / "training" / "history.csv")
            assert sorted(step for (step,) in steps) == list(history["step"])
            (uri,) = store.execute("select artifact_uri from runs where run_uuid = ?", [run]).fetchone()
            files = {path.relative_to(uri).as_posix() for path in Path(uri).rglob("*") if path.is_file()}
            assert files >= {
                "bundle/model.onnx",
                "evaluation/details/samples.md",
                "report/curves.png",
                "training/timeline.md",
                "training/history.csv",
            }


def test_mlflow_is_rebuilt_from_the_outputs(project: Project) -> None:
    told = project.run("gptmodel", "sync").stdout.splitlines()
    assert sorted(told) == sorted(f"{name}: up to date" for name in MODELS)
    kept = project.root / "kept"
    kept.mkdir()
    for name in ("mlflow.db", "mlartifacts"):
        (project.root / name).rename(kept / name)
    rebuilt = project.run("gptmodel", "sync", MODELS[0]).stdout
    assert rebuilt.startswith(f"{MODELS[0]}: created")
    with sqlite3.connect(project.root / "mlflow.db") as store:
        figures = dict(store.execute("select key, value from latest_metrics").fetchall())
    assert (
        figures["test/bits_per_char"]
        == project.json(f"models/{MODELS[0]}/evaluation/metrics.json")["test"]["bits_per_char"]
    )
    for name in ("mlflow.db", "mlartifacts"):
        place = project.root / name
        shutil.rmtree(place) if place.is_dir() else place.unlink()
        (kept / name).rename(place)
    kept.rmdir()


def test_a_bundle_writes_text_far_from_the_repository(project: Project, tmp_path: Path) -> None:
    shutil.copytree(project.root / "models" / "gpt-word" / "bundle", tmp_path / "bundle")
    command = [
        sys.executable,
        "-m",
        "gptmodel",
        "generate",
        "bundle",
        "Le ",
        "--max-new-tokens",
        "60",
        "--seed",
        "3",
    ]
    environment = {**os.environ, "PYTHONPATH": str(project.root / "src")}
    done = [
        subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert done[0].stdout == done[1].stdout
    assert len(done[0].stdout) > 30


def train(project: Project, **environment: str) -> subprocess.CompletedProcess[str]:
    return project.run(
        "python", "-m", "pipelines.train", "bigram-char", check=False, GPTMODEL_TRACKING="off", **environment
    )


def test_a_server_that_is_down_stops_nothing(project: Project, tmp_path: Path) -> None:
    folder = project.root / "models" / "bigram-char"
    shutil.copytree(folder, tmp_path / "before")
    done = project.run("python", "-m", "pipelines.train", "bigram-char", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    weights = (folder / "training" / "checkpoint" / "model.safetensors").read_bytes()
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "before", folder)
    assert done.stderr.count("127.0.0.1:9") == 1
    assert "Traceback" not in done.stderr
    assert weights == (folder / "training" / "checkpoint" / "model.safetensors").read_bytes()


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Assert one clear line, exit code 2, no traceback."""
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2, done.stderr
    assert len(errors) == 1
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in errors[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: p["models"]["bigram-char"].update(n_layrs=3), ["models.bigram-char.n_layrs", "unknown key"]),
        (lambda p: p["models"]["bigram-char"].update(context=100_000), ["bigram-char.context", "split"]),
        (lambda p: p["models"].pop("bigram-char"), ["bigram-char", "models:"]),
    ],
)
def test_bad_parameters_are_refused_and_nothing_is_lost(project: Project, change: Any, words: list[str]) -> None:
    before = (project.root / "params.yaml").read_bytes()
    files = sorted((project.root / "models").rglob("*"))
    project.edit_params(change)
    done = train(project)
    (project.root / "params.yaml").write_bytes(before)
    refused(done, *words)
    assert sorted((project.root / "models").rglob("*")) == files


def test_a_missing_or_damaged_tokenizer_is_refused(project: Project) -> None:
    path = project.root / "data" / "tokens" / "char" / "tokenizer.json"
    whole = path.read_bytes()
    path.unlink()
    refused(train(project), "tokenizer.json")
    path.write_bytes(whole[: len(whole) // 2])
    refused(train(project), "tokenizer.json")
    path.write_bytes(whole)


def contents(project: Project) -> dict[Path, bytes]:
    """Return all files that stages write."""
    folders = [project.root / "data", project.root / "models"]
    return {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files, which only POSIX can")
@pytest.mark.parametrize(
    ("stage", "limit"),
    [("clean", 4_000), ("encode char", 4_000), ("train bigram-char", 4_000), ("export gpt-word", 9_000)],
)
def test_a_full_disk_is_one_line_and_nothing_is_lost(project: Project, stage: str, limit: int) -> None:
    """The kernel refuses to write a file past a limit, as it would on a full disk."""
    before = contents(project)
    name, *arguments = stage.split()
    code = (
        f"import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        f"sys.argv = {[name, *arguments]}; runpy.run_module('pipelines.{name}', run_name='__main__')"
    )
    done = project.run("python", "-c", code, check=False, GPTMODEL_TRACKING="off", PYTHONDONTWRITEBYTECODE="1")
    refused(done, "no room left on the disk")
    assert contents(project) == before


SERVE = """
gptmodel serve {bundle} --port {port} & server=$!
python -c '
import time, urllib.request
for wait in range(200):
    try:
        urllib.request.urlopen("http://127.0.0.1:{port}/health").read()
        break
    except OSError:
        time.sleep(0.1)
request = urllib.request.Request(
    "http://127.0.0.1:{port}/v1/completions",
    b"{{\\"prompt\\": \\"Le \\", \\"max_tokens\\": 5}}",
    {{"Content-Type": "application/json"}},
)
print(urllib.request.urlopen(request).read())
'
kill -TERM $server
wait $server
"""


@pytest.mark.skipif(not STRACE, reason="strace is not installed")
def test_nothing_leaves_this_machine(project: Project) -> None:
    """Every stage, every command that ran above, and those that did not: no address was asked for.

    `gptmodel ui` is watched in tests/tracking/test_ui.py.
    """
    bundle = "models/gpt-word/bundle"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    project.run("gptmodel", "doctor")
    project.run("gptmodel", "info", bundle)
    project.run("gptmodel", "generate", bundle, "Le ", "--max-new-tokens", "20")
    project.run("gptmodel", "register", "gpt-word")
    project.run("gptmodel", "queue", "-S", "models.gpt-word.n_layer=0", check=False)
    served = project.run("sh", "-c", SERVE.format(bundle=bundle, port=port))
    assert "text_completion" in served.stdout
    code = f"import gptmodel; model = gptmodel.load({bundle!r}); print(model.generate('Le '), model.score('Le jour'))"
    project.run("python", "-c", code)
    assert project.watch
    assert project.watch.elsewhere() == []
    assert project.watch.identities() == []


def test_a_models_parameter_reruns_its_own_stages_only(project: Project) -> None:
    """Last of those that use the project: it stays changed."""
    project.edit_params(lambda values: values["models"]["gpt-word"].update(n_layer=1))
    assert project.would_run() == {
        "train@gpt-word",
        "report",
    }  # what follows from new outputs, only a run can tell
    ran = stages_run(project.run("dvc", "repro").stdout)
    assert ran == {
        *(f"{stage}@gpt-word" for stage in ("train", "evaluate", "inspect", "export", "benchmark")),
        "report",
    }


@pytest.mark.parametrize(
    ("content", "stage", "words"),
    [
        (b"", "clean", ["own.txt"]),
        (b"  \n\n ", "clean", ["own.txt"]),
        (bytes(range(256)) * 50, "clean", ["own.txt"]),
        ("Trois cents caractères ne font pas un roman. ".encode() * 7, "clean", ["characters"]),
    ],
)
def test_a_text_that_cannot_be_used_is_refused(tmp_path: Path, content: bytes, stage: str, words: list[str]) -> None:
    """Whichever of fetch and clean sees it first; what an earlier run left stays."""
    project = Project(tmp_path)
    shutil.copytree(ROOT / "pipelines", tmp_path / "pipelines")
    (tmp_path / "src").symlink_to(ROOT / "src")
    (tmp_path / "data").mkdir()
    shutil.copy(ROOT / "data" / "catalog.yaml", tmp_path / "data" / "catalog.yaml")
    shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")
    (tmp_path / "own.txt").write_bytes(content)
    project.edit_params(lambda values: values.update(corpus="own.txt"))
    done = project.run("python", "-m", "pipelines.fetch", check=False)
    if stage == "clean" and done.returncode == 0:
        done = project.run("python", "-m", "pipelines.clean", check=False)
    refused(done, *words)
    assert not (tmp_path / "data" / "clean").exists()
