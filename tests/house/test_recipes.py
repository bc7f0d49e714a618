import subprocess
import sys
from pathlib import Path

import pytest

from gptmodel import params
from gptmodel.errors import UserError
from recipes import apply as recipe
from tests.support.closure import ROOT

NAMES = [path.stem for path in sorted((ROOT / "recipes").glob("*.yaml"))]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "recipes").mkdir()
    for name in NAMES:
        (tmp_path / "recipes" / f"{name}.yaml").write_bytes((ROOT / "recipes" / f"{name}.yaml").read_bytes())
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_issue_s_recipes_are_there_and_the_default_is_one_of_them() -> None:
    wanted = {"hugo", "tinyshakespeare-cpu", "tinyshakespeare-gpu", "miserables-cpu", "miserables-gpu", "nanogpt-cpu"}
    assert wanted <= set(NAMES)
    assert (ROOT / "params.yaml").read_bytes() == (ROOT / "recipes" / "hugo.yaml").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_is_complete_and_can_be_applied(project: Path, name: str) -> None:
    recipe.apply(name)
    assert (project / "params.yaml").read_bytes() == (ROOT / "recipes" / f"{name}.yaml").read_bytes()
    assert params.load(project / "params.yaml").models
    assert recipe.titles()[name]


def test_changes_that_stand_nowhere_else_are_not_lost(project: Path) -> None:
    own = (project / "params.yaml").read_text().replace("seed: 1337", "seed: 7")
    (project / "params.yaml").write_text(own)
    with pytest.raises(UserError, match=r"cp params\.yaml"):
        recipe.apply("nanogpt-cpu")
    assert (project / "params.yaml").read_text() == own
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "params.yaml"], ["commit", "-qm", "own"]):
        subprocess.run([*git, *command], check=True)
    recipe.apply("nanogpt-cpu")  # git has them
    (project / "params.yaml").write_text(own.replace("seed: 7", "seed: 8"))
    recipe.apply("nanogpt-cpu", force=True)
    assert (project / "params.yaml").read_bytes() == (project / "recipes" / "nanogpt-cpu.yaml").read_bytes()


def test_an_unknown_or_broken_recipe_changes_nothing(project: Path) -> None:
    before = (project / "params.yaml").read_bytes()
    with pytest.raises(UserError, match="did you mean nanogpt-cpu"):
        recipe.apply("nanogpt-gpu-cpu")
    (project / "recipes" / "bad.yaml").write_text("seed: many\n")
    with pytest.raises(UserError, match=r"recipes/bad\.yaml"):
        recipe.apply("bad")
    assert (project / "params.yaml").read_bytes() == before


def test_the_command_lists_and_applies(project: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "recipes" / "apply.py"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    listed = run()
    assert all(name in listed.stdout for name in NAMES)
    assert run("nanogpt-cpu").returncode == 0
    refused = run("nothing")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: unknown recipe")
