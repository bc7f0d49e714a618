"""Runs the notebooks and keeps what they show, so that a reader on the web sees the figures.

    python notebooks/execute.py [NAME.ipynb ...]     default: all of them, on the text of `make repro`

A notebook that was run carries the hash of its code: the tests notice code that was changed afterwards.
Left out on purpose: what goes to standard error, times and machine names, which differ from run to run.
"""

import hashlib
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

HERE = Path(__file__).resolve().parent
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def read(path: Path) -> NotebookNode:
    """Return a notebook, checked against the format."""
    notebook: NotebookNode = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def run(notebook: NotebookNode, folder: Path, timeout_seconds: int = 1200) -> NotebookNode:
    """Execute all cells in a fresh kernel whose working directory is `folder`; an error in a cell is raised."""
    client = NotebookClient(
        notebook,
        timeout=timeout_seconds,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--log-level=ERROR"],  # not that messages to a kernel of this machine are not encrypted
    )
    client.execute()
    return notebook


def code_sha256(notebook: NotebookNode) -> str:
    """Return the hash of the code cells as they were written; prose may be edited without running anything."""
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\n\n".join(cells).encode()).hexdigest()


def tidy(notebook: NotebookNode) -> None:
    """Drop what differs between machines and runs, and note which code the outputs belong to."""
    for cell in notebook.cells:
        cell.metadata = NotebookNode()
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    notebook.metadata = nbformat.from_dict(METADATA | {"code_sha256": code_sha256(notebook)})


def main() -> None:
    """Execute the named notebooks, or all, in place."""
    for path in [HERE / name for name in sys.argv[1:]] or sorted(HERE.glob("*.ipynb")):
        notebook = run(read(path), HERE)
        tidy(notebook)
        nbformat.write(notebook, path)
        print(f"{path.name}: {path.stat().st_size // 1000} KB")


if __name__ == "__main__":
    main()
