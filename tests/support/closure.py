"""Which files of the project a module imports, directly or through others, and dvc.yaml's `deps:` kept equal to that.

    python tests/closure.py --check    exit 1 if a stage's code dependencies differ from its import closure
    python tests/closure.py --write    renew them

Imports are read from the source (also those inside functions), so nothing is run.
"""

import ast
import sys
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
PLACES = {"gptmodel": ROOT / "src" / "gptmodel", "pipelines": ROOT / "pipelines"}


def module_file(name: str) -> Path | None:
    """Return the file of a module of the project, else None."""
    package, *rest = name.split(".")
    if package not in PLACES or len(rest) > 1:
        return None
    file = PLACES[package] / f"{rest[0] if rest else '__init__'}.py"
    return file if file.exists() else None


def imports(file: Path) -> set[str]:
    """Return the dotted names that a file imports; `from a import b` counts as both `a` and `a.b`."""
    names = set[str]()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def closure(file: Path) -> set[Path]:
    """Return the project's files that running `file` as a module can import, itself and the packages included."""
    found: set[Path] = set()
    todo = [file]
    while todo:
        current = todo.pop()
        if current in found:
            continue
        found.add(current)
        names = {*imports(current), current.parent.name}
        names |= {name.split(".")[0] for name in names}
        todo.extend(imported for name in names if (imported := module_file(name)))
    return found


def code_deps(stage: str) -> list[str]:
    """Return the closure of a stage's module as paths from the repository's root, in order."""
    return sorted(path.relative_to(ROOT).as_posix() for path in closure(PLACES["pipelines"] / f"{stage}.py"))


def is_code(path: str) -> bool:
    """Tell code dependencies from data dependencies."""
    return path.endswith(".py")


def main() -> None:
    """Compare or renew, as the argument says."""
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 4096
    dvc_yaml = ROOT / "dvc.yaml"
    pipeline = yaml.load(dvc_yaml)
    stale = []
    for name, entry in pipeline["stages"].items():
        stage = entry.get("do", entry)
        data = [dep for dep in stage["deps"] if not is_code(dep)]
        if [dep for dep in stage["deps"] if is_code(dep)] != code_deps(name):
            stale.append(name)
            stage["deps"][:] = data + code_deps(name)
    if stale and "--write" in sys.argv:
        yaml.dump(pipeline, dvc_yaml)
    elif stale:
        sys.exit(f"dvc.yaml: code dependencies differ from the imports: {', '.join(stale)} (make fix renews them)")


if __name__ == "__main__":
    main()
