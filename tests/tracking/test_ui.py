"""`gptmodel ui`: the address that it says shows the validation curves at once."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import sync_playwright

from gptmodel.errors import UserError
from gptmodel.results.bundle import Origin
from gptmodel.tracking import figures, runs, ui
from gptmodel.tracking.runs import Identity
from tests.support import records
from tests.support.closure import ROOT
from tests.support.stores import repository
from tests.support.watch import Watch

pytestmark = pytest.mark.slow

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return repository(tmp_path, monkeypatch)


def train(corpus: str) -> str:
    """Log a run of a corpus; return the id of its experiment."""
    page = Origin(name=corpus, title="Un essai", author=None, year=None, language="fr", licence="MIT")
    with runs.run(Identity("f00d", "petit", "char", page), "train") as run:
        run.log_history([{**figures.curve(point), figures.LIVE: 100.0} for point in records.history()])
        run.log_metrics(figures.training(records.speed()))
        run.log_metrics(figures.scores(records.metrics()))
    return str(run.client.get_run(run.id).info.experiment_id)


def test_the_address_is_that_of_the_newest_run(root: Path) -> None:
    assert ui.page("http://here") == "http://here/#/experiments?workflowType=machine_learning"
    for corpus in ("essai", "autre", "essai"):
        experiment = train(corpus)
        assert f"/#/experiments/{experiment}/runs?" in ui.page("http://here")


def test_the_address_of_a_server_hides_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert ui.server() == ""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@example.org/mlflow/")
    assert ui.server() == "https://example.org/mlflow"


def test_a_port_that_is_taken_costs_one_line(root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"cannot listen on port {port} .*make ui PORT="), ui.serving(port):
            pass


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.mark.browser
@pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome here")
def test_the_page_begins_with_the_validation_curves_and_sigterm_ends_the_server(root: Path) -> None:
    train("essai")
    port = free_port()
    command = [sys.executable, "-m", "gptmodel.cli.app", "ui", "--port", str(port)]
    watch = Watch(root / "watched")
    environment = watch.environment({**os.environ, "PYTHONPATH": str(ROOT / "src")})
    command = watch.command(command, gets_signals=True)
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        try:
            assert running.stdout
            address = running.stdout.readline().decode().strip()
            with sync_playwright() as playwright:
                arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
                browser = playwright.chromium.launch(executable_path=BROWSER, args=arguments)
                page = browser.new_page(viewport={"width": 1440, "height": 1000})
                hosts = set()
                page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
                page.goto(address)
                page.get_by_text("curves/validation_loss_nats").first.wait_for(timeout=60_000)
                titles = re.findall(r"^\w+/\w+$", page.inner_text("body"), re.MULTILINE)
                assert hosts - {""} == {f"127.0.0.1:{port}"}  # "": data: addresses
                browser.close()
        finally:
            running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=60) == 0
    assert watch.elsewhere() == []
    assert titles[:2] == ["curves/validation_bits_per_char", "curves/validation_loss_nats"]
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2)
