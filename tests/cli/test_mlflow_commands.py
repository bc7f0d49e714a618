"""`gptmodel sync` and `gptmodel register`: a line for each model; `gptmodel ui` where there is a server. In process."""

from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner, Result

from gptmodel.cli.register import register
from gptmodel.cli.sync import sync
from gptmodel.cli.ui import ui
from gptmodel.layout import ModelFolder
from gptmodel.tracking import store
from tests.support import bundles, outputs, records
from tests.support.stores import repository, runs

pytestmark = pytest.mark.slow

app = Typer()
app.command()(sync)
app.command()(register)
app.command()(ui)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return repository(tmp_path, monkeypatch)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def fails(*arguments: str) -> str:
    """Return the one line with which a command refuses its input."""
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    return line.removeprefix("error: ")


def test_sync_says_what_it_did_for_each_model(root: Path) -> None:
    assert fails("sync") == "models/ holds no trained model: run `dvc repro`, or `dvc pull`"
    outputs.write_corpus()
    outputs.write_model("petit", "f00d")
    outputs.write_model("autre", "beef")
    first, second = run("sync").stdout.splitlines()
    assert first.startswith("autre: created, ")
    assert second.startswith("petit: created, ")
    assert run("sync", "petit").stdout == "petit: up to date\n"
    assert fails("sync", "none").startswith("models/none/training/checkpoint/meta.json does not exist: train the model")
    assert len(runs()) == 2


def test_register_says_what_each_bundle_is_now(root: Path) -> None:
    assert fails("register") == "models/ holds no bundle: run `dvc repro`, or `dvc pull`"
    words = bundles.char_tokenizer()
    for name, bits in (("bad", 2.5), ("good", 2.25)):
        network = bundles.random_network("bigram", words)
        bundles.write(ModelFolder(name).bundle, network, words, model=name, metrics=records.metrics(bits))
    registered = "bad: gptmodel-essai-char version 1\ngood: gptmodel-essai-char version 2 (champion)\n"
    assert run("register").stdout == registered
    assert run("register", "good").stdout == registered.splitlines(keepends=True)[1]


def test_ui_refuses_a_server_that_is_down_and_a_port_that_is_none(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fails("ui", "--port", "0") == "--port must be between 1 and 65535, not 0"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert fails("ui").startswith("no MLflow server answers at http://127.0.0.1:9")


@pytest.mark.parametrize("command", ["sync", "register", "ui"])
def test_without_mlflow_one_line_names_the_remedy(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setattr(store, "find_spec", lambda _: None)
    assert fails(command) == "mlflow is not installed: pip install 'gptmodel[pipeline]'"
