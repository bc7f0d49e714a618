"""What is installed and what CI runs is named exactly: by version, by hash, by commit."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.support.closure import ROOT
from tools.lock import LOCKS, OF_TORCH

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def named(line: str) -> str:
    """Return the normal form of a requirement's name."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[=<>;! ]", line, maxsplit=1)[0]).lower()


def versions(path: Path) -> dict[str, str]:
    """Return the pinned versions of a requirements file."""
    pins = re.findall(r"^([\w.-]+)==([\w.+-]+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {named(name): version for name, version in pins}


PINNED = versions(ROOT / "constraints.txt")


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_the_pinned_versions_with_hashes_and_every_direct_dependency(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
    locked = versions(ROOT / "requirements" / name)
    assert {package: PINNED.get(package, version) for package, version in locked.items()} == locked
    assert all("--hash=sha256:" in package for package in re.split(r"\n(?=[\w])", text)[1:])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    if not LOCKS[name]:
        assert [f"{package}=={version}" for package, version in locked.items()] == project["build-system"]["requires"]
        return
    extras, asked = project["project"]["optional-dependencies"], set(project["project"]["dependencies"])
    wanted = list(LOCKS[name])
    for extra in wanted:  # an extra may name other extras
        asked |= set(extras[extra])
        wanted += [more for line in extras[extra] if line.startswith("gptmodel[") for more in line[9:-1].split(",")]
    assert {named(line) for line in asked} - {"gptmodel", "torch"} <= set(locked)


def test_every_pinned_package_is_locked() -> None:
    locked = {package for name in LOCKS for package in versions(ROOT / "requirements" / name)}
    assert {package for package in PINNED if not OF_TORCH.match(f"{package}==")} <= locked


def test_make_installs_nothing_without_its_hash_but_torch_and_this_project() -> None:
    installs = re.findall(r"^\t\$\(PIP\) (.+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(installs) > 3
    unchecked = [line for line in installs if "--require-hashes" not in line]
    assert unchecked == ["-c constraints.txt torch", "--no-deps --no-build-isolation -e ."]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_names_commits_and_may_only_read(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert yaml.safe_load(text)["permissions"] == {"contents": "read"}
    uses = re.findall(r"uses: (.+)", text)
    assert uses
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line) for line in uses)


@pytest.mark.slow
def test_the_same_source_gives_the_same_wheel(tmp_path: Path) -> None:
    """Whoever builds the commit of a release gets the file whose hash was published."""
    built = []
    for name in ("one", "two"):
        source = tmp_path / name
        subprocess.run(["git", "clone", "-q", "--depth", "1", ROOT.as_uri(), str(source)], check=True)
        command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(source / "dist")]
        environment = os.environ | {"SOURCE_DATE_EPOCH": "1700000000"}
        subprocess.run(command, cwd=source, env=environment, capture_output=True, check=True)
        (wheel,) = (source / "dist").iterdir()
        built.append(wheel.read_bytes())
    assert built[0] == built[1]
