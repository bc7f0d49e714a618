"""What a Git + DVC project says of itself: whether its code is the commit's, and its plots, without a network."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.sync_api import Page, sync_playwright

from gptmodel.tracking import runs
from tests.support.closure import ROOT

pytestmark = pytest.mark.slow

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MODELS = ["gpt-char", "<i>bigram</i>"]
STAGE = """
import json, pathlib, uuid
from gptmodel.tracking import runs
folder = pathlib.Path("models/tiny/evaluation")
folder.mkdir(parents=True, exist_ok=True)
(folder / "metrics.json").write_text(json.dumps({"never the same": uuid.uuid4().hex}))
pathlib.Path("dirty.txt").write_text(str(runs.is_dirty()))
"""
DAG: dict[str, Any] = {
    "stages": {
        "evaluate": {
            "cmd": "python pipelines/evaluate.py",
            "deps": ["pipelines"],
            "params": ["seed"],
            "outs": ["dirty.txt"],
            "metrics": [{"models/tiny/evaluation/metrics.json": {"cache": False}}],
        }
    },
    "plots": yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["plots"],
}


def shell(root: Path, *command: str) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def write_tables(root: Path, bits: float) -> None:
    """Write what the plots of dvc.yaml show: two points a line."""
    for name, x, y in (
        ("reports/curves.csv", "characters", "validation_bits_per_char"),
        ("reports/positions.csv", "tokens_seen", "bits_per_char"),
    ):
        rows = [f"{model},{step},{bits + 1 / step}" for model in MODELS for step in (1, 20)]
        write(root / name, "\n".join([f"model,{x},{y}", *rows, ""]))
    write(root / "data/baselines/baselines.csv", f"order,validation_bits_per_char\n0,6.5\n1,{bits}\n")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with this one's settings of DVC, one stage and the tables of its plots; committed."""
    root = tmp_path_factory.mktemp("projet")
    shutil.copytree(ROOT / ".dvc", root / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp", "config.local"))
    write(root / "pipelines" / "evaluate.py", STAGE)
    write(root / "dvc.yaml", yaml.safe_dump(DAG))
    write(root / "params.yaml", "seed: 1\n")
    write(root / "README.md", "A project.\n")
    write(root / ".gitignore", "/dvc_plots/\n")
    write_tables(root, 2.0)
    for command in ("init -q", "config user.name t", "config user.email t@example.org"):
        shell(root, "git", *command.split())
    shell(root, "dvc", "repro")
    shell(root, "git", "add", "-A")
    shell(root, "git", "commit", "-qm", "all")
    return root


def test_a_run_on_a_fresh_clone_is_the_commits_and_any_change_of_code_or_parameters_is_not(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = tmp_path / "clone"
    shell(tmp_path, "git", "clone", "-q", str(project), str(clone))
    shell(clone, "dvc", "repro")
    assert "metrics.json" in shell(clone, "git", "status", "--porcelain")  # DVC has written what Git tracks
    assert (clone / "dirty.txt").read_text() == "False"
    monkeypatch.chdir(clone)
    write(clone / "README.md", "Another text.\n")
    assert not runs.is_dirty()
    for name in ("params.yaml", "dvc.yaml", "pipelines/evaluate.py", "src/new.py", "data/catalog.yaml"):
        write(clone / name, "# changed\n")
        assert runs.is_dirty(), name
        shell(clone, "git", "checkout", "-q", "pipelines", "params.yaml", "dvc.yaml")
        shell(clone, "git", "clean", "-fdq", "src", "data")
        assert not runs.is_dirty()


@pytest.fixture
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=BROWSER, args=arguments)
        yield browser.new_page()
        browser.close()


@pytest.mark.browser
@pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome here")
def test_plots_are_drawn_without_a_network(project: Path, page: Page) -> None:
    asked: list[str] = []
    wrong: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))

    def lines(*command: str) -> list[int]:
        """Return how many lines each figure of a page of plots has."""
        address = shell(project, "dvc", "plots", *command).splitlines()[-1]
        page.goto(address)
        assert (asked, wrong) == ([address], [])
        asked.clear()
        return [figure.locator("svg path.line").count() for figure in page.locator("figure").all()]

    assert lines("show") == [1, 2, 2]
    assert page.locator("figcaption").all_text_contents()[2] == "Validation loss"
    assert page.locator(".legend").nth(2).inner_text().split() == [
        "gpt-char,",
        "workspace",
        "<i>bigram</i>,",
        "workspace",
    ]
    assert page.locator("circle").first.locator("title").text_content() == (
        "workspace\ncharacters of the longest n-grams: 0\nbits per character: 6.5"
    )
    write_tables(project, 3.0)
    assert lines("diff", "HEAD") == [2, 4, 4]
    table = "reports/positions.csv"
    plain = ("--targets", table, "-x", "tokens_seen", "-y", "bits_per_char")
    assert lines("diff", "HEAD", *plain) == [2]
    assert lines("show", table, "-x", "model", "-y", "bits_per_char", "--template", "confusion") == [0]
    assert "No line to draw here" in page.locator("figure").inner_text()
