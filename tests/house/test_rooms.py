"""A stage depends on the code that it reaches and on the parameters that it reads: dvc.yaml, proven from the sources.

The order of the rooms, and which room may use which package, are contracts in pyproject.toml (`make check`).
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gptmodel import layout
from gptmodel.params import Params
from gptmodel.training import experiment
from tests.support.closure import NEUTRAL, PLACES, ROOT, closure, code_deps, imports

LIBRARY = sorted(PLACES["gptmodel"].rglob("*.py"))
ENTRY_POINTS = sorted(set(PLACES["pipelines"].glob("*.py")) - {PLACES["pipelines"] / "__init__.py"})
STAGES: dict[str, dict[str, Any]] = {
    name: entry.get("do", entry)
    for name, entry in yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"].items()
}
RUNTIME = {"numpy", "tokenizers", "typer", "rich", "pydantic", "yaml", "onnxruntime"}
# Where and on how many threads a stage runs, and when a training saves. A training names what changes its digits.
NEUTRAL_PARAMETERS = {"device", "threads", "resume"}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def is_code(path: str) -> bool:
    return path.startswith(("pipelines/", "src/"))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stages_code_dependencies_are_the_rooms_it_reaches(stage: str) -> None:
    assert sorted(filter(is_code, STAGES[stage]["deps"])) == code_deps(stage)


def test_a_training_is_made_by_the_rooms_of_its_stage() -> None:
    rooms = {Path(path).name for path in code_deps("train") if (ROOT / path).is_dir()}
    assert set(experiment.CODE) == rooms


@pytest.mark.parametrize("path", sorted(PLACES["gptmodel"].glob("*/__init__.py")), ids=relative)
def test_a_room_s_init_holds_its_docstring_only(path: Path) -> None:
    [docstring] = ast.parse(path.read_text(encoding="utf-8")).body
    assert isinstance(docstring, ast.Expr)


def test_neutral_files_exist() -> None:
    assert all((ROOT / path).exists() for path in NEUTRAL)


def read_by(stage: str) -> set[str]:
    """Return the top keys of params.yaml that a stage reads, in its entry point or in what it hands a `Params` to."""
    found = set[str]()
    for file in closure(PLACES["pipelines"] / f"{stage}.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        names = set(named_params(tree))
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and (is_load(node.value) or identifier(node.value) in names):
                found.add("models" if node.attr == "model" else node.attr)
    return found & set(Params.model_fields)


def is_load(node: ast.AST) -> bool:
    """Tell whether an expression is `load(layout.PARAMS)` or `params.load(layout.PARAMS)`."""
    return isinstance(node, ast.Call) and ast.unparse(node) in {"load(layout.PARAMS)", "params.load(layout.PARAMS)"}


def identifier(node: ast.AST | None) -> str:
    """Return the name in `name` and `self.name`, "" of anything else."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def named_params(tree: ast.AST) -> Iterator[str]:
    """Yield the names that hold the whole of params.yaml: assigned from `params.load(...)`, or annotated `Params`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and node.annotation and ast.unparse(node.annotation).endswith("Params"):
            yield node.arg
        elif isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation).endswith("Params"):
            yield identifier(node.target)
        elif isinstance(node, ast.Assign) and is_load(node.value):
            yield from map(identifier, node.targets)
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
            [target] = node.targets
            pairs = zip(target.elts, node.value.elts, strict=True) if isinstance(target, ast.Tuple) else []
            yield from (identifier(name) for name, value in pairs if is_load(value))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stages_parameters_are_those_it_reads(stage: str) -> None:
    declared = {key.split(".")[0] for key in STAGES[stage].get("params", [])}
    assert declared - NEUTRAL_PARAMETERS == read_by(stage) - NEUTRAL_PARAMETERS


def test_every_stage_has_an_entry_point_and_the_other_way_round() -> None:
    assert {path.stem for path in ENTRY_POINTS} - {"arguments"} == set(STAGES)


def test_the_closure_follows_indirect_and_inner_imports_into_rooms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "src" / "gptmodel"
    sources = {"a": "from gptmodel import room", "room/b": "def f():\n    import gptmodel.results.c", "results/c": ""}
    sources |= {"room/__init__": "import gptmodel.room.b", "results/__init__": "", "d": "", "room/e": ""}
    for name, text in sources.items():
        (library / name).parent.mkdir(parents=True, exist_ok=True)
        (library / f"{name}.py").write_text(text)
    monkeypatch.setitem(PLACES, "gptmodel", library)
    monkeypatch.setattr("tests.support.closure.ROOT", tmp_path)
    assert {path.stem for path in closure(library / "a.py")} == {"a", "b", "c", "__init__"}


@pytest.mark.parametrize("path", ENTRY_POINTS, ids=lambda path: path.stem)
def test_pipelines_are_thin_and_do_not_import_each_other(path: Path) -> None:
    inside = {name for name in imports(path) if name.startswith("pipelines.")}
    assert inside <= {"pipelines.arguments"}
    body = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    assert len(body) <= 40


@pytest.mark.parametrize("name", ["gpt", "bigram"])
def test_networks_know_torch_and_their_configuration_only(name: str) -> None:
    names = imports(PLACES["gptmodel"] / "model" / f"{name}.py")
    outside = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names)
    assert outside <= {"torch", "gptmodel"}
    inside = {name for name in names if name.startswith("gptmodel.")}
    assert inside <= {"gptmodel.params", "gptmodel.params.GPTNetwork", "gptmodel.params.BigramNetwork"}


@pytest.mark.parametrize("room", ["decoding", "runtime"])
def test_a_bundle_needs_the_base_install_only(room: str) -> None:
    files = set[Path]().union(*(closure(path) for path in (PLACES["gptmodel"] / room).glob("*.py")))
    outside = {name.split(".")[0] for file in files for name in imports(file)}
    assert outside - set(PLACES) - set(sys.stdlib_module_names) <= RUNTIME


def test_help_loads_no_heavy_package() -> None:
    code = (
        "import sys; from gptmodel.cli.app import main; sys.argv = ['gptmodel', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'onnxruntime', 'pandas', 'mlflow', 'numpy', 'tokenizers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("path", LIBRARY, ids=relative)
def test_nothing_hides_an_error_and_nothing_is_pickled(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None
        if isinstance(node, ast.Import | ast.ImportFrom):
            assert "pickle" not in {alias.name for alias in node.names}


def test_the_stages_paths_are_those_of_the_layout() -> None:
    model = layout.ModelFolder("${key}")
    places = {layout.CATALOG, layout.RAW, layout.CLEAN, layout.TOKENS, layout.BASELINES, layout.REPORTS}
    places |= {layout.MODELS, *(value for value in vars(model).values() if value != model.path)}
    written = set[str]()
    for stage in STAGES.values():
        paths = [*stage["deps"], *stage.get("outs", []), *stage.get("metrics", [])]
        written |= {path if isinstance(path, str) else next(iter(path)) for path in paths}
    data = {Path(path) for path in written if not is_code(path)} - {Path("data/own")}
    for path in data:
        assert any(path.is_relative_to(place) for place in places - {layout.MODELS}) or path == layout.MODELS, path
    for place in places - {model.checkpoint, layout.MODELS}:
        assert any(path.is_relative_to(place) for path in data), place
