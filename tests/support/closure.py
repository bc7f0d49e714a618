"""Which files of the project a module imports, directly or through others, and what a stage depends on by them.

Imports are read from the source (also those inside functions), so nothing is run.
"""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLACES = {"gptmodel": ROOT / "src" / "gptmodel", "pipelines": ROOT / "pipelines"}
# What cannot change a byte of an output: it names, checks, reports or watches.
NEUTRAL = {
    f"src/gptmodel/{name}.py" for name in ("arrays", "errors", "layout", "memory", "params", "progress", "strict")
}
NEUTRAL |= {"src/gptmodel/__init__.py", "src/gptmodel/tracking", "pipelines/arguments.py"}


def module_file(name: str) -> Path | None:
    """Return the file of a module or package of the project by its dotted name, else None."""
    package, *rest = name.split(".")
    if package not in PLACES:
        return None
    path = PLACES[package].joinpath(*rest)
    candidates = [path / "__init__.py", path.with_suffix(".py")]
    return next((file for file in candidates if file.is_file()), None)


@cache
def imports(file: Path) -> frozenset[str]:
    """Return the dotted names that a file imports; `from a import b` counts as both `a` and `a.b`."""
    names = set[str]()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(names)


def dependency(file: Path) -> str:
    """Return what a stage names in order to depend on a file: its room, or the file itself (the ground, results)."""
    path = file.relative_to(ROOT)
    is_ground = len(path.parts) <= 3 or path.parts[2] == "results"
    return path.as_posix() if is_ground else Path(*path.parts[:3]).as_posix()


def closure(file: Path) -> set[Path]:
    """Return the project's files that running `file` as a module can import, itself included, but nothing neutral."""
    found = {file}
    todo = [file]
    while todo:
        reached = {imported for name in imports(todo.pop()) if (imported := module_file(name))}
        new = {path for path in reached if dependency(path) not in NEUTRAL} - found
        found |= new
        todo += new
    return found


def code_deps(stage: str) -> list[str]:
    """Return what a stage depends on by the imports of its entry point, sorted; an `__init__` is only a docstring."""
    files = closure(PLACES["pipelines"] / f"{stage}.py")
    return sorted({dependency(file) for file in files if file.name != "__init__.py"})
