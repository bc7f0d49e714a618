"""The import rules of the house, read from the sources; and dvc.yaml's code dependencies equal to the imports."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from gptmodel.evaluation import comparison
from pipelines import layout
from tests.support.closure import PLACES, ROOT, closure, code_deps, imports, is_code

LIBRARY = sorted(PLACES["gptmodel"].glob("*.py"))
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
RUNTIME = {"numpy", "tokenizers", "typer", "rich", "onnxruntime"}
TORCH_FREE = ["tokenizer", "cleaning", "catalog", "splits", "decoding", "generation", "bundle", "cli", "latency"]
TORCH_FREE += ["onnx_session", "onnx_decoder", "fast_decoder", "device_decoder", "variants"]
TORCH_FREE += ["doctor", "server", "web", "service", "completions", "scheduler", "slots", "meters"]
TORCH_FREE += ["surprisal", "bootstrap", "breakdown", "ladder", "copies", "lexicon", "novelty", "compare", "page"]
ASSETS = "src/gptmodel/page_assets"  # what the report stage reads beside its code


def outside(file: Path) -> set[str]:
    """Return the packages that a file and its closure import from outside the project and the standard library."""
    names = {name.split(".")[0] for member in closure(file) for name in imports(member)}
    return names - set(PLACES) - set(sys.stdlib_module_names)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stages_code_dependencies_are_exactly_its_import_closure(stage: str) -> None:
    deps = STAGES[stage].get("do", STAGES[stage])["deps"]
    assert [dep for dep in deps if is_code(dep)] == code_deps(stage)


def test_every_stage_has_an_entry_point_and_the_other_way_round() -> None:
    entry_points = {path.stem for path in PLACES["pipelines"].glob("*.py")} - {"__init__", "layout"}
    assert entry_points == set(STAGES)


def test_the_closure_follows_indirect_and_inner_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {"a": "from gptmodel import b", "b": "def f():\n    import gptmodel.c", "c": "", "d": ""}.items():
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "__init__.py").write_text("")
    monkeypatch.setitem(PLACES, "gptmodel", tmp_path)
    assert {path.stem for path in closure(tmp_path / "a.py")} >= {"a", "b", "c"}
    assert "d" not in {path.stem for path in closure(tmp_path / "a.py")}


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.stem)
def test_the_library_never_imports_the_pipelines(path: Path) -> None:
    assert not any(name.split(".")[0] == "pipelines" for name in imports(path))


@pytest.mark.parametrize("path", sorted(PLACES["pipelines"].glob("*.py")), ids=lambda path: path.stem)
def test_pipelines_are_thin_and_do_not_import_each_other(path: Path) -> None:
    inside = {name for name in imports(path) if name.startswith("pipelines.")}
    assert inside <= {"pipelines.layout"}
    body = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    assert len(body) <= 40


@pytest.mark.parametrize("name", ["gpt", "bigram"])
def test_networks_know_torch_and_their_configuration_only(name: str) -> None:
    file = PLACES["gptmodel"] / f"{name}.py"
    assert {m.split(".")[0] for m in imports(file)} - set(sys.stdlib_module_names) <= {"torch", "gptmodel"}
    assert {m for m in imports(file) if m.startswith("gptmodel.")} <= {
        "gptmodel.params",
        "gptmodel.params.GPTNetwork",
        "gptmodel.params.BigramNetwork",
    }


@pytest.mark.parametrize("name", TORCH_FREE)
def test_what_must_not_need_torch_does_not(name: str) -> None:
    assert "torch" not in outside(PLACES["gptmodel"] / f"{name}.py")


def test_the_runtime_needs_the_base_install_only() -> None:
    assert outside(PLACES["gptmodel"] / "cli.py") <= RUNTIME


@pytest.mark.parametrize(
    ("package", "home"),
    [("mlflow", {"tracking", "mlflow_run", "mlflow_store", "registry", "pyfunc"}), ("matplotlib", {"report"})],
)
def test_some_packages_have_one_home(package: str, home: set[str]) -> None:
    users = {path.stem for path in LIBRARY if any(name.split(".")[0] == package for name in imports(path))}
    assert users == home


def test_help_loads_no_heavy_package() -> None:
    code = (
        "import sys; from gptmodel.cli.main import main; sys.argv = ['gptmodel', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'onnxruntime', 'pandas', 'mlflow', 'numpy', 'tokenizers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.stem)
def test_nothing_hides_an_error_and_nothing_is_pickled(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None
        if isinstance(node, ast.Import | ast.ImportFrom):
            assert "pickle" not in {alias.name for alias in node.names}


def test_the_stages_paths_are_those_of_dvc_yaml() -> None:
    named = [layout.PARAMS, layout.CATALOG, layout.RAW, layout.CLEAN, layout.TOKENS]
    named += [layout.LADDER, layout.MODELS, layout.REPORTS]
    written = set()
    for entry in STAGES.values():
        stage = entry.get("do", entry)
        paths = [*stage["deps"], *stage.get("outs", []), *stage.get("metrics", [])]
        written |= {path if isinstance(path, str) else next(iter(path)) for path in paths}
    data = {path for path in written if not is_code(path)} - {"data/own", ASSETS}
    assert all(any(Path(path).is_relative_to(place) for place in named) for path in data)
    for place in set(named) - {layout.PARAMS}:  # DVC reads params.yaml by itself
        assert any(Path(path).is_relative_to(place) for path in data)


def test_the_command_line_looks_where_the_stages_write() -> None:
    assert comparison.MODELS == layout.MODELS
    assert comparison.LADDER == layout.LADDER
