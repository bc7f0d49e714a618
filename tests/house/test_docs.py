"""The documents say only what is there: links, files, commands with their options, parameters, dependencies."""

import re
import shlex
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, get_args

import click
import pytest
import typer
import yaml
from pydantic import BaseModel

from gptmodel import params
from gptmodel.cli.app import app
from tests.support.closure import PLACES, ROOT

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
VALUES = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
WRITTEN = ["_", "*", "NAME", "MODEL", "LEVEL", "NEW"]  # what stands for a name
YOURS = "mine"  # what a reader calls a file of their own
LINK = re.compile(r"!?\[[^]]*\]\(([^)\s]+)\)")
FOLDERS = ["src", "pipelines", "tests", "benchmarks", "recipes", "examples", "notebooks", "docs", "tools", ".ci"]
FILE = re.compile(
    rf"(?<![\w/.-])(?:{'|'.join(map(re.escape, FOLDERS))})/[\w./-]*\w\.(?:py|md|sh|yaml|mjs|ipynb|json|png)\b"
)
KEY = re.compile(r"[a-z_]+(?:\.[A-Za-z0-9_*-]+)+")
STAGE = re.compile(r"\b([a-z]+)@([A-Za-z0-9_{},-]+)")
NO_KEY = re.compile(r"\.(?:py|md|json|yaml|csv|html|png|npz|onnx|txt|db|lock|safetensors)$|^models\.\.\.$")
each_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())


@cache
def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def prose(path: Path) -> str:
    """Return a document without its blocks of code."""
    return re.sub(r"^```(?s:.*?)^```|^ {4}.*$", "", text(path), flags=re.MULTILINE)


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub gives a document's headings."""
    found: set[str] = set()
    for title in re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text(path), flags=re.M | re.S), re.MULTILINE):
        plain = LINK.sub(lambda link: link[0][1 : link[0].index("]")], title.strip()).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        found.add(slug if slug not in found else f"{slug}-{len(found)}")
    return found


def commands(path: Path) -> list[str]:
    """Return the command lines of a document: those of its blocks of code, and the inline ones, comments removed."""
    blocks = re.findall(r"^```(?:bash|sh|console)?\n(.*?)^```", text(path), re.MULTILINE | re.DOTALL)
    lines = "\n".join([*blocks, *re.findall(r"^ {4}(.*)$", text(path), re.MULTILINE)]).replace("\\\n", " ").splitlines()
    inline = re.findall(r"`([^`\n]+)`", prose(path))
    split = [part for line in [*lines, *inline] for part in re.split(r"\s\|\s|&&|;\s", line)]
    return [re.sub(r"\s#.*$", "", part).strip() for part in split]


def words(command: str) -> list[str]:
    try:
        return [re.sub(r"^\$\(|^\.venv/bin/|[)]$", "", word) for word in shlex.split(command)]
    except ValueError:  # an apostrophe: prose
        return []


def after(program: str, path: Path) -> list[list[str]]:
    """Return the arguments of every call of a program in a document; variables may be set before it."""
    start = program.split()
    found = []
    for parts in map(words, commands(path)):
        while parts and re.match(r"[A-Z_]+=", parts[0]):
            parts = parts[1:]
        if parts[: len(start)] == start:
            found.append(parts[len(start) :])
    return found


@each_document
def test_links_lead_somewhere(path: Path) -> None:
    for link in LINK.findall(prose(path)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), f"{link}: there is no {target}"
        if anchor:
            assert anchor in anchors(target), f"{link}: {target.name} has {sorted(anchors(target))}"


@each_document
def test_files_that_are_named_exist(path: Path) -> None:
    for name in FILE.findall(text(path)):
        assert (ROOT / name).exists() or Path(name).stem == YOURS, name


def problem(arguments: list[str], group: click.Group) -> str:
    """Return what is wrong with the arguments of a call of `gptmodel`, "" if nothing."""
    if not arguments or arguments[0].startswith("-"):
        return ""
    command = group.commands.get(arguments[0])
    if command is None:
        return f"there is no command {arguments[0]}"
    known = {option for parameter in command.params for option in [*parameter.opts, *parameter.secondary_opts]}
    given = {argument.partition("=")[0] for argument in arguments[1:] if argument.startswith("--")} - {"--help"}
    return f"gptmodel {arguments[0]} has no {', '.join(sorted(given - known))}" if given - known else ""


@each_document
def test_commands_and_options_exist(path: Path) -> None:
    group: Any = typer.main.get_command(app)
    for arguments in after("gptmodel", path):
        assert not problem(arguments, group)


def test_a_wrong_command_would_be_found() -> None:
    group: Any = typer.main.get_command(app)
    assert problem(["generate", "bundle", "--seed", "1", "--top-p=0.9"], group) == ""
    assert problem(["sing"], group) == "there is no command sing"
    assert problem(["info", "bundle", "--loud"], group) == "gptmodel info has no --loud"


@each_document
def test_modules_that_are_run_can_be(path: Path) -> None:
    for arguments in [*after("python -m", path), *after("python3 -m", path)]:
        package, _, name = arguments[0].partition(".")
        if package not in PLACES:
            continue
        source = text(PLACES[package].joinpath(*name.split(".")).with_suffix(".py"))
        assert '__name__ == "__main__"' in source, arguments
        for option in (argument for argument in arguments[1:] if argument.startswith("--")):
            assert f'"{option}"' in source or option[2:].replace("-", "_") in source, arguments


@each_document
def test_make_has_the_targets(path: Path) -> None:
    for arguments in after("make", path):
        for word in arguments:
            if re.fullmatch(r"[a-z-]+", word):
                assert word in TARGETS, word


@each_document
def test_stages_exist(path: Path) -> None:
    for stage, name in STAGE.findall(text(path)):
        if stage in STAGES:
            names = re.findall(r"[\w-]+", name)
            over = VALUES["tokenizers"] if stage == "encode" else VALUES["models"]
            assert all(known in over or known in WRITTEN for known in names), f"{stage}@{name}"


def has_key(section: type[BaseModel], keys: list[str]) -> bool:
    """Tell whether params.yaml can have a key: `models.NAME.n_layer` has one for any NAME."""
    key, *rest = keys
    if section is params.Params and key == "models":
        known = [*VALUES["models"], *WRITTEN]
        fields = set(params.GPTModel.model_fields) | set(params.BigramModel.model_fields)
        return not rest or ((rest[0] in known or rest[0].startswith("my-")) and set(rest[1:]) <= {*fields, "*"})
    if key not in section.model_fields:
        return False
    inner = section.model_fields[key].annotation
    inside = [kind for kind in [inner, *get_args(inner)] if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return not rest or any(has_key(kind, rest) for kind in inside)


def keys(path: Path) -> set[str]:
    """Return what a document names as keys of params.yaml: in backticks, and after -S or --set-param."""
    named = {re.split(r"[:=\s]", code)[0] for code in re.findall(r"`([^`\n]+)`", prose(path))}
    named |= set(re.findall(r"(?:-S|--set-param)[ =]'?\"?([\w.*-]+)=", text(path)))
    full = {key for key in named if KEY.fullmatch(key) and not NO_KEY.search(key)}
    return {key for key in full if key.partition(".")[0] in params.Params.model_fields}


@each_document
def test_parameters_exist(path: Path) -> None:
    for key in keys(path):
        assert has_key(params.Params, key.split(".")), key


def test_a_wrong_parameter_would_be_found() -> None:
    for right in ("evaluation.dynamic_rate", "models.NAME.n_layer", "models.gpt-char.steps", "clean.rules.unwrap"):
        assert has_key(params.Params, right.split(".")), right
    for wrong in ("evaluation.rate", "models.NAME.layers", "models.gpt-chat.steps", "clean.rules.wrap", "seed.x"):
        assert not has_key(params.Params, wrong.split(".")), wrong


def declared() -> dict[str, set[str]]:
    """Return the direct dependencies of pyproject.toml with the extras that bring them."""
    groups = {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
    found: dict[str, set[str]] = {}
    for extra, requirements in groups.items():
        for requirement in requirements:
            name = re.split(r"[^\w.-]", requirement)[0]
            if name != "gptmodel":
                found.setdefault(name, set()).add(extra)
    return found


def test_every_dependency_is_justified_in_one_line() -> None:
    rows = re.findall(r"^\| `([\w.-]+)` \| ([^|]*)\| (.+) \|$", text(ROOT / "docs" / "dependencies.md"), re.MULTILINE)
    assert {name: {extra.strip() for extra in extras.split(",")} for name, extras, _ in rows} == declared()
    assert all(len(why) > 10 for _, _, why in rows)
    assert len(rows) == len(declared())


def test_every_dependency_is_pinned() -> None:
    pins = re.findall(r"^([\w.-]+)==", text(ROOT / "constraints.txt"), re.MULTILINE)
    plain = {re.sub(r"[-_.]+", "-", name).lower() for name in pins}
    assert {re.sub(r"[-_.]+", "-", name).lower() for name in declared()} <= plain
