"""What a stage writes to: an MLflow run that never fails its stage, or nothing at all.

When the store breaks down in the middle (server killed, disk full, database locked or read-only), one line on standard
error says so, and the rest of the stage goes on without it. What a run already holds is not written again, so that a
stage, a resumed stage and `sync` can all log the same things.

Left out on purpose: MLflow's own monitor of the machine, a thread that asks the store every ten seconds; here the
machine is looked at when a curve gets a point.
Source: https://mlflow.org/docs/latest/ml/tracking
"""

import functools
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, Concatenate, ParamSpec

from gptmodel.files import sha256
from gptmodel.results.corpus import CleanCorpus
from gptmodel.tracking.curves import MAX_METRICS, Curves, now_ms
from gptmodel.tracking.figures import SECONDS
from gptmodel.tracking.store import brief, failures
from gptmodel.tracking.values import as_text, batches, flatten, numbers, valid_name

MAX_TAGS = 100  # or parameters, of one log_batch; this and the next two are limits of MLflow
MAX_PARAM = 6000  # characters
MAX_TAG = 8000
MAX_COMPARED = 1 << 20  # bytes; of larger artifacts only the size is compared with what the run holds
NOTE = "mlflow.note.content"  # what the UI shows as the description
TABLES = "mlflow.loggedArtifacts"  # names the tables that the UI can lay beside each other for several runs
STATES = {"finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}

P = ParamSpec("P")


def _harmless(method: Callable[Concatenate["Run", P], None]) -> Callable[Concatenate["Run", P], None]:
    """Do nothing on a run that is off; when the store fails, say so once and turn the run off."""

    @functools.wraps(method)
    def wrapper(run: "Run", /, *args: P.args, **kwargs: P.kwargs) -> None:
        if run.client is None:
            return
        try:
            method(run, *args, **kwargs)
        except failures() as error:
            run.stop(error)

    return wrapper


class Run:
    """One MLflow run. With `client` None (tracking is off, or has failed) every method does nothing.

    The part of a metric's name before "/" is its group in the UI's charts. `id` is MLflow's, "" when off; `written`
    counts the parameters, figures, points of curves, tags and files that this object has added.
    """

    def __init__(self, client: Any = None, entity: Any = None) -> None:
        self.client = client
        self.id = ""
        self.written = 0
        if client is None:
            return
        self.id = entity.info.run_id
        self._info = entity.info
        self._tags: dict[str, str] = dict(entity.data.tags)
        self._params: dict[str, str] = dict(entity.data.params)
        self._figures: dict[str, float] = dict(entity.data.metrics)
        self._curves = Curves(client, entity)

    def stop(self, error: Exception) -> None:
        """Turn the run off and say why in one line."""
        self.client = None
        say(f"stopped; the rest of this stage is not tracked ({brief(error)})")

    @_harmless
    def log_params(self, params: Mapping[str, object]) -> None:
        """Log a nested dict of parameters, names joined by dots.

        MLflow keeps a parameter's first value for ever; when a stage comes back with another value, the newest one
        is the tag `param.NAME`.
        """
        from mlflow.entities import Param

        new = {valid_name(key): as_text(value)[:MAX_PARAM] for key, value in flatten(params, ".")}
        self._log_batches("params", [Param(key, value) for key, value in new.items() if key not in self._params])
        self._write_tags({f"param.{key}": text for key, text in new.items() if self._params.get(key, text) != text})
        self._params = {**new, **self._params}

    @_harmless
    def log_history(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Log rows of curves: `step`, and numbers by the names of their metrics. Buffered for a few seconds.

        Rows of steps that the run already has are skipped; None and NaN (an empty cell) leave no point. Beside them
        stands how busy the machine is (`system/...`, a page of its own in the UI).
        """
        self.written += self._curves.add(rows)

    @_harmless
    def restore_history(self, rows: Sequence[Mapping[str, Any]], seconds: float) -> None:
        """Log the points of a curve that the run lacks, spread evenly over the `seconds` that it took in all."""
        self.written += self._curves.restore(rows, seconds)

    @_harmless
    def log_metrics(self, metrics: Mapping[str, object]) -> None:
        """Log final figures: a nested dict, names joined by "/" once, then by dots. What is no number is left out."""
        from mlflow.entities import Metric

        now = now_ms()
        named = {valid_name(key.replace(".", "/", 1)): value for key, value in numbers(metrics)}
        new = {key: value for key, value in named.items() if self._figures.get(key) != value}
        self._log_batches("metrics", [Metric(key, value, now, 0) for key, value in new.items()])
        self._figures.update(new)

    @_harmless
    def log_text(self, text: str, name: str) -> None:
        """Keep `text` as the artifact `name` ("samples/step_000100.md"), unless the run holds the same."""
        self._keep_text(text, name)

    @_harmless
    def log_table(self, rows: Sequence[Mapping[str, object]], name: str) -> None:
        """Keep rows with the same keys as the artifact `name` ("samples.json"), as `mlflow.log_table` would."""
        table = {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}
        self._keep_text(json.dumps(table, ensure_ascii=False), name)
        tables = json.loads(self._tags.get(TABLES, "[]"))
        this = {"path": name, "type": "table"}
        self._write_tags({TABLES: json.dumps(tables if this in tables else [*tables, this])})

    @_harmless
    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Keep a copy of a file as an artifact, in `folder` or at the top, unless the run holds the same."""
        self._keep_file(path, folder or ".")

    @_harmless
    def log_folder(self, path: Path, folder: str) -> None:
        """Keep a copy of what is in a folder as artifacts in `folder`, unless the run holds the same."""
        files = [file for file in path.rglob("*") if file.is_file()]
        new = [file for file in files if not self._holds(file, PurePosixPath(folder, file.relative_to(path)))]
        if new:
            self.client.log_artifacts(self.id, str(path), folder)
        self.written += len(new)

    @_harmless
    def log_corpus(self, corpus: CleanCorpus) -> None:
        """Say which text the run used: a dataset for each split, named `corpus/split`.

        MLflow's digest holds 36 characters, so it is the beginning of the hash; the whole of it is in the profile.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = []
        origin = json.dumps({"uri": corpus.source}, ensure_ascii=False)
        for split, text in corpus.splits.items():
            profile = json.dumps({"num_characters": text.characters, "sha256": text.sha256})
            data = Dataset(f"{corpus.name}/{split}", text.sha256[:16], "local", origin, profile=profile)
            inputs.append(DatasetInput(data, [InputTag("mlflow.data.context", split)]))
        self.client.log_inputs(self.id, inputs)

    @_harmless
    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Set tags, a nested dict, names joined by dots; a tag that was there takes the new value."""
        self._write_tags({key: as_text(value) for key, value in flatten(tags, ".")})

    @_harmless
    def set_note(self, markdown: str) -> None:
        """Set the text that the UI shows as the run's description (cut at 8000 characters)."""
        self._write_tags({NOTE: markdown})

    @_harmless
    def close(self, stage: str, state: str, seconds: float) -> None:
        """Write what is buffered and end the run for now: `state` is finished, failed or killed."""
        self.written += self._curves.flush()
        self._write_tags({f"stage.{stage}": state, f"stage.{stage}.seconds": as_text(round(seconds, 1))})
        self.client.set_terminated(self.id, STATES[state], self._end())

    @_harmless
    def complete(self, stages: Iterable[str]) -> None:
        """Note that these stages have their outputs, whatever became of the processes that tracked them."""
        self._write_tags({f"stage.{stage}": "finished" for stage in stages})
        if (self._info.status, self._info.end_time) != (STATES["finished"], self._end()):
            self.client.set_terminated(self.id, STATES["finished"], self._end())

    def _end(self) -> int | None:
        """Return when the run ended: a run lasts as long as its training; None, now, before that is known."""
        seconds = self._figures.get(SECONDS)
        return None if seconds is None else self._info.start_time + round(seconds * 1000)

    def _write_tags(self, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        cut = {valid_name(key): value[:MAX_TAG] for key, value in tags.items()}
        new = {key: value for key, value in cut.items() if self._tags.get(key) != value}
        self._log_batches("tags", [RunTag(key, value) for key, value in new.items()])
        self._tags.update(new)

    def _log_batches(self, kind: str, entities: Sequence[Any]) -> None:
        """Write `metrics`, `params` or `tags`, as many at a time as MLflow takes."""
        for batch in batches(entities, MAX_METRICS if kind == "metrics" else MAX_TAGS):
            self.client.log_batch(self.id, **{kind: batch})
            self.written += len(batch)

    def _keep_text(self, text: str, name: str) -> None:
        path = PurePosixPath(name)
        with TemporaryDirectory() as scratch:
            file = Path(scratch) / path.name
            file.write_bytes(text.encode())
            self._keep_file(file, str(path.parent))

    def _keep_file(self, file: Path, folder: str) -> None:
        """Copy a file to the artifacts in `folder` ("." is the top), unless the run holds the same."""
        if not self._holds(file, PurePosixPath(folder, file.name)):
            self.client.log_artifact(self.id, str(file), None if folder == "." else folder)
            self.written += 1

    def _holds(self, file: Path, artifact: PurePosixPath) -> bool:
        above = str(artifact.parent).strip(".")
        sizes = {entry.path: entry.file_size for entry in self.client.list_artifacts(self.id, above)}
        if sizes.get(str(artifact)) != file.stat().st_size:
            return False
        if file.stat().st_size > MAX_COMPARED:
            return True
        with TemporaryDirectory() as scratch:
            return sha256(Path(self.client.download_artifacts(self.id, str(artifact), scratch))) == sha256(file)


def say(message: str) -> None:
    """Write one line on standard error."""
    sys.stderr.write(f"tracking: {' '.join(message.split())}\n")
    sys.stderr.flush()
