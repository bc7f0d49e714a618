"""MLflow stores for tests: a migrated database to copy (making one takes seconds), and a real server."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from gptmodel.tracking.store import open_store

VARIABLES = ("MLFLOW_TRACKING_URI", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "DVC_STAGE", "GPTMODEL_TRACKING")


@cache
def migrated() -> bytes:
    """Return an empty MLflow database."""
    before = {name: os.environ.get(name) for name in ("DVC_ROOT", "MLFLOW_TRACKING_URI")}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        open_store()
        os.environ.update({name: value for name, value in before.items() if value})
        if not before["MLFLOW_TRACKING_URI"]:
            del os.environ["MLFLOW_TRACKING_URI"]
        return (Path(folder) / "mlflow.db").read_bytes()


def repository(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make `folder` the current one and a repository's root with an empty store; DVC's and MLflow's variables go."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that what MLflow sets by itself is undone, too
        monkeypatch.delenv(name)
    monkeypatch.setenv("DVC_ROOT", str(folder))
    monkeypatch.chdir(folder)
    (folder / "mlflow.db").write_bytes(migrated())
    return folder


def runs(name: str = "essai") -> list[Any]:
    """Return all runs of an experiment, oldest first."""
    client = open_store().client
    found = client.get_experiment_by_name(name)
    return list(client.search_runs([found.experiment_id], order_by=["attributes.start_time ASC"])) if found else []


@contextmanager
def serving(root: Path, served: Path | None = None) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """Run a real MLflow server over the database in `root`, in its own process group.

    It keeps artifacts in `served`; without that they go past it.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", address.rpartition(":")[2]]
    command += ["--backend-store-uri", f"sqlite:///{root}/mlflow.db"]
    past_it = ["--no-serve-artifacts", "--default-artifact-root", f"{root}/mlartifacts"]
    command += ["--artifacts-destination", str(served)] if served else past_it
    running = subprocess.Popen(
        command, env=environment, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{address}/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.2)
        yield address, running
    finally:
        kill(running)


def kill(running: "subprocess.Popen[bytes]") -> None:
    """End a server and its workers at once."""
    if running.poll() is None:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()


def files_of(run_id: str, folder: str = "") -> dict[str, int]:
    """Return the sizes of a run's artifacts by path."""
    found: dict[str, int] = {}
    for entry in open_store().client.list_artifacts(run_id, folder or None):
        found |= files_of(run_id, entry.path) if entry.is_dir else {entry.path: entry.file_size}
    return found


def points_of(run: Any) -> dict[str, list[tuple[int, float, int]]]:
    """Return every point (step, value, time) of every metric of a run."""
    client = open_store().client
    return {
        key: sorted(
            (point.step, point.value, point.timestamp) for point in client.get_metric_history(run.info.run_id, key)
        )
        for key in run.data.metrics
    }
