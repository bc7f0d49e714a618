"""Files of a stage as artifacts of a run: copied, unless the run holds the same already.

Every function returns how many files it has copied. Errors of the store pass through (see `run.Run`).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from gptmodel.files import sha256

MAX_COMPARED = 1 << 20  # bytes; of larger artifacts only the size is compared with what the run holds


def keep_file(client: Any, run_id: str, file: Path, folder: str | None) -> int:
    """Copy a file to the artifacts, into `folder` or to the top."""
    if _holds(client, run_id, file, f"{folder}/{file.name}" if folder else file.name):
        return 0
    client.log_artifact(run_id, str(file), folder)
    return 1


def keep_folder(client: Any, run_id: str, path: Path, folder: str | None) -> int:
    """Copy what is in the folder `path` to the artifacts, into `folder` or to the top."""
    files = [file for file in sorted(path.rglob("*")) if file.is_file()]
    names = [file.relative_to(path).as_posix() for file in files]
    artifacts = [f"{folder}/{name}" if folder else name for name in names]
    new = [file for file, name in zip(files, artifacts, strict=True) if not _holds(client, run_id, file, name)]
    if new:
        client.log_artifacts(run_id, str(path), folder)
    return len(new)


def keep_table(client: Any, run_id: str, rows: Sequence[Mapping[str, object]], name: str) -> int:
    """Write rows with the same keys as the artifact `name`, in the format of `mlflow.log_table`."""
    place = PurePosixPath(name)
    table = {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}
    with TemporaryDirectory() as scratch:
        file = Path(scratch) / place.name
        file.write_text(json.dumps(table, ensure_ascii=False), encoding="utf-8")
        return keep_file(client, run_id, file, None if place.parent.name == "" else str(place.parent))


def _holds(client: Any, run_id: str, file: Path, name: str) -> bool:
    """Tell whether the run's artifact `name` is the same as a file."""
    above = str(PurePosixPath(name).parent)
    sizes = {entry.path: entry.file_size for entry in client.list_artifacts(run_id, above.strip("."))}
    if sizes.get(name) != file.stat().st_size:
        return False
    if file.stat().st_size > MAX_COMPARED:
        return True
    with TemporaryDirectory() as scratch:
        return sha256(Path(client.download_artifacts(run_id, name, scratch))) == sha256(file)
