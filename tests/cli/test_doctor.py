import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import gptmodel
from gptmodel.cli import checks
from gptmodel.cli.checks import Problem, Section, examine, report
from gptmodel.cli.doctor import doctor
from gptmodel.errors import UserError
from tests.support.bundles import char_tokenizer, random_network, write

pytestmark = pytest.mark.slow

APP = typer.Typer()
APP.command()(doctor)
TITLES = ["packages", "machine", "inference", "training", "tracking", "versioning"]
TRAINING = ("torch", "mlflow", "dvc", "yaml", "pandas", "safetensors")  # pydantic comes with typer


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is no repository."""
    for name in ("MLFLOW_TRACKING_URI", "GPTMODEL_TRACKING", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def problems(check: Callable[[Section], None]) -> list[Problem]:
    return examine(check).problems


def test_it_looks_at_everything_and_changes_nothing(elsewhere: Path) -> None:
    done = CliRunner().invoke(APP, ["--json"])
    found = json.loads(done.stdout)
    assert list(found) == [*TITLES, "problems"]
    assert done.exit_code == int(any(problem["stops"] for problem in found["problems"]))
    assert found["training"]["device"] in ("cpu", "cuda", "mps")
    assert found["tracking"]["state"].startswith("not there yet")
    assert found["versioning"] == {"repository": "none here (a bundle needs none)"}
    assert not list(elsewhere.iterdir())


def test_the_report_names_every_fact_and_the_remedy() -> None:
    section = Section("engine", {"oil": "low"})
    section.wrong("no oil:\n  add some", stops=True)
    assert report([section]) == "engine\n  oil  low\n\nproblems\n  stops work: no oil: add some\n"
    assert report([Section("engine")]) == "engine\n\nproblems\n  none\n"


def test_whatever_a_check_raises_is_a_problem() -> None:
    def broken(section: Section) -> None:
        section.facts["before"] = "kept"
        raise OSError("libcuda.so.1: bad magic")

    def wrong(section: Section) -> None:
        raise UserError("params.yaml: seed: missing: give it a value")

    section = examine(broken)
    assert section.facts == {"before": "kept"}
    assert ["libcuda.so.1" in problem.text and not problem.stops for problem in section.problems] == [True]
    assert problems(wrong) == [Problem("params.yaml: seed: missing: give it a value", stops=True)]


def test_both_runtimes_are_a_conflict() -> None:
    assert checks.conflicts({"onnxruntime", "numpy"}) == checks.conflicts({"onnxruntime-gpu"}) == []
    (text,) = checks.conflicts(["numpy", "onnxruntime-gpu", "onnxruntime"])
    assert "pip uninstall onnxruntime onnxruntime-gpu" in text


def test_a_full_disk_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not any("are free" in problem.text for problem in problems(checks.machine))
    monkeypatch.setattr(checks, "ROOM_BYTES", 1 << 62)
    (text,) = [problem.text for problem in problems(checks.machine) if "are free" in problem.text]
    assert "dvc gc" in text


def test_bundles_are_opened_and_a_damaged_one_stops_work(elsewhere: Path) -> None:
    write(elsewhere / "models" / "good" / "bundle", random_network("modern", char_tokenizer()), char_tokenizer())
    bad = write(elsewhere / "models" / "bad" / "bundle", random_network("modern", char_tokenizer()), char_tokenizer())
    (bad / "model.onnx").write_bytes(b"x")
    section = examine(checks.inference)
    assert section.facts["models/good/bundle"].split(" on ")[0] in ("int8", "fp16")
    assert "models/bad/bundle" not in section.facts
    assert [problem.stops for problem in section.problems if "bad/bundle/model.onnx" in problem.text] == [True]


@pytest.mark.parametrize("hardware", ["amx_bf16", None])
def test_it_says_why_auto_takes_a_precision(monkeypatch: pytest.MonkeyPatch, hardware: str | None) -> None:
    from gptmodel.training import precision

    monkeypatch.setattr(precision, "bfloat16_hardware", lambda device: hardware)
    said = examine(checks.training).facts["precision"]
    if hardware:
        assert said == "bfloat16 (amx_bf16 multiplies bfloat16)"
    else:
        assert said == "float32 (nothing here is known to multiply bfloat16 in hardware)"


def test_a_wrong_parameter_stops_work(elsewhere: Path) -> None:
    (elsewhere / "params.yaml").write_text("sed: 1\n", encoding="utf-8")
    done = CliRunner().invoke(APP)
    assert done.exit_code == 1
    assert "stops work: params.yaml: sed: unknown key: did you mean seed?" in done.stdout


def test_a_server_that_is_down_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    section = examine(checks.tracking)
    assert section.facts == {"store": "http://127.0.0.1:9", "state": "does not answer"}
    (problem,) = section.problems
    assert not problem.stops
    assert "start the server" in problem.text
    assert "secret" not in problem.text
    monkeypatch.setenv("GPTMODEL_TRACKING", "off")
    assert examine(checks.tracking).facts["state"].startswith("off")


def test_graphics_cards_as_the_driver_lists_them(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = elsewhere / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H100, 550.54, 81559 MiB, 80000 MiB'\necho 'a warning'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(elsewhere), prepend=os.pathsep)
    assert checks.gpus() == ["NVIDIA H100, driver 550.54, 81559 MiB (80000 MiB free)"]
    program.write_text("#!/bin/sh\necho 'driver mismatch, really, very, bad'\nexit 9\n")
    assert checks.gpus() == []


def without(packages: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Run the command where importing `packages` fails, as in the base install."""
    code = f"import sys; sys.modules.update(dict.fromkeys({packages})); from gptmodel.cli.app import main; main()"
    command = [sys.executable, "-c", code, "doctor"]
    environment = {**os.environ, "PYTHONPATH": str(Path(gptmodel.__file__).parents[1])}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_the_base_install_is_healthy_alone_and_not_in_a_repository(elsewhere: Path) -> None:
    alone = without(TRAINING)
    assert (alone.returncode, alone.stderr) == (0, "")
    assert "torch  not installed (pip install 'gptmodel[train]')" in alone.stdout
    (elsewhere / "dvc.yaml").write_text("stages: {}\n")
    inside = without(TRAINING)
    assert (inside.returncode, inside.stderr) == (1, "")
    assert "stops work: torch is not installed, so `dvc repro` cannot run" in inside.stdout
    none = without((*TRAINING, "onnxruntime"))
    assert "stops work: ONNX Runtime is not installed" in none.stdout


def test_a_repository_tells_its_stages_and_remotes(elsewhere: Path) -> None:
    def run(*command: str) -> None:
        subprocess.run(command, check=True, capture_output=True)

    run("git", "init", "-q")
    run(sys.executable, "-m", "dvc", "init", "-q")
    (elsewhere / ".dvc" / "config").write_text("['remote \"shelf\"']\n    url = /nowhere\n")
    (elsewhere / "dvc.yaml").write_text("stages:\n  one:\n    cmd: echo > out\n    outs: [out]\n")
    facts = examine(checks.versioning).facts
    assert facts == {"git": "no commit", "remotes": "shelf", "stages": "`dvc repro` would look at one"}
    (elsewhere / "dvc.yaml").write_text("stages: [\n")
    section = examine(checks.versioning)
    assert [problem.stops for problem in section.problems] == [True]
    assert "dvc status" in section.problems[0].text
