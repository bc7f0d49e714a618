"""What a stage writes to: an MLflow run that never fails its stage, or nothing at all.

When the store breaks down in the middle (server killed, disk full, database locked or read-only), one line on standard
error says so, and the rest of the stage goes on without it. What a run already holds is not written again, so that a
stage, a resumed stage and `gptmodel.tracking.sync` can all log the same things.

Left out on purpose: models as MLflow flavours (see `registry`), asynchronous logging, and MLflow's own monitor of the
machine (a thread that asks the store every ten seconds; here the machine is looked at when a curve gets a point).
Source: https://mlflow.org/docs/latest/ml/tracking and measurements on mlflow 3.17 (one log_metric costs 14-26 ms, a
batch of 1000 costs 90-280 ms: hence the buffer).
"""

import functools
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, Concatenate, ParamSpec

from gptmodel.files import sha256
from gptmodel.tracking.store import failures
from gptmodel.tracking.values import as_text, batches, flatten, numbers, valid_name

FLUSH_SECONDS = 3.0
MAX_METRICS = 900  # of one log_batch: MLflow's limit is 1000 with its tags; the next three are limits of MLflow, too
MAX_TAGS = 100
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
            run.client = None
            say(f"stopped; the rest of this stage is not tracked ({brief(error)})")

    return wrapper


class Run:
    """One MLflow run. With `client` None (tracking is off, or has failed) every method does nothing.

    The part of a metric's name before "/" is its group in the UI's charts. `id` is MLflow's, None when off; `written`
    counts the parameters, figures, points of curves, tags and files that this object has added.
    """

    def __init__(self, client: Any = None, entity: Any = None) -> None:
        self.client = client
        self.id: str | None = None if entity is None else entity.info.run_id
        self._tags: dict[str, str] = {} if entity is None else dict(entity.data.tags)
        self._params: dict[str, str] = {} if entity is None else dict(entity.data.params)
        self._figures: dict[str, float] = {} if entity is None else dict(entity.data.metrics)
        self._started_ms: int = 0 if entity is None else entity.info.start_time
        self._status: str = "" if entity is None else entity.info.status
        self.written = 0
        self._points: list[Any] = []
        self._last_steps: dict[str, int] = {}
        self._flushed = time.monotonic()

    @_harmless
    def log_params(self, params: Mapping[str, object]) -> None:
        """Log a nested dict of parameters, names joined by dots.

        MLflow keeps a parameter's first value for ever; when a stage comes back with another value, the newest one
        is the tag `param.NAME`.
        """
        from mlflow.entities import Param

        new = {valid_name(key): as_text(value)[:MAX_PARAM] for key, value in flatten(params, ".")}
        fresh = [Param(key, value) for key, value in new.items() if key not in self._params]
        for some in batches(fresh, MAX_TAGS):
            self.client.log_batch(self.id, params=some)
            self.written += len(some)
        changed = {f"param.{key}": value for key, value in new.items() if self._params.get(key, value) != value}
        self._write_tags(changed)
        self._params = {**new, **self._params}

    @_harmless
    def log_history(self, rows: Iterable[Mapping[str, Any]], prefix: str = "curves") -> None:
        """Log rows of a curve, `step` and any numbers, as metrics `prefix/NAME`. Buffered for `FLUSH_SECONDS`.

        Rows of steps that the run already has are skipped; None and NaN (an empty cell) leave no point. Beside them
        stands how busy the machine is (`system/...`, a page of its own in the UI).
        """
        from mlflow.entities import Metric

        now = _now_ms()
        last = self._last_steps.get(prefix, int(self._tags.get(f"history.{prefix}", -1)))
        for row in rows:
            step = int(row["step"])
            if step > last:
                cells = {key: value for key, value in numbers(row) if key != "step"}
                self._points += [
                    Metric(valid_name(f"{prefix}/{key}"), value, now, step) for key, value in cells.items()
                ]
                self._points += [Metric(f"system/{key}", value, now, step) for key, value in self._machine()]
                self._last_steps[prefix] = last = step
        if len(self._points) >= MAX_METRICS or time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self._flush()

    @_harmless
    def restore_history(self, rows: Sequence[Mapping[str, Any]], seconds: float, prefix: str = "curves") -> None:
        """Log the points of a curve that the run lacks, spread evenly over the `seconds` that it took in all."""
        from mlflow.entities import Metric

        self._flush()
        for key in [key for key in rows[-1] if key != "step"]:
            name = valid_name(f"{prefix}/{key}")
            held = self.client.get_metric_history(self.id, name) if name in self._figures else []
            steps = {point.step for point in held}
            for row in rows:
                step, cells = int(row["step"]), dict(numbers({key: row[key]}))
                if cells and step not in steps:
                    when = self._started_ms + round(seconds * 1000 * step / max(1, int(rows[-1]["step"])))
                    self._points.append(Metric(name, cells[key], when, step))
        self._last_steps[prefix] = int(rows[-1]["step"])
        self._flush()

    @_harmless
    def log_metrics(self, metrics: Mapping[str, object], prefix: str = "") -> None:
        """Log final figures: a nested dict, names joined by "/" once, then by dots. What is no number is left out.

        A figure that the run already holds is not logged again; one with another value takes its place.
        """
        from mlflow.entities import Metric

        now = _now_ms()
        leaves = numbers({prefix: metrics} if prefix else metrics)
        figures = {valid_name(key.replace(".", "/", 1)): value for key, value in leaves}
        new = {key: value for key, value in figures.items() if self._figures.get(key) != value}
        for some in batches([Metric(key, value, now, 0) for key, value in new.items()], MAX_METRICS):
            self.client.log_batch(self.id, metrics=some)
            self.written += len(some)
        self._figures.update(new)

    @_harmless
    def log_text(self, text: str, name: str) -> None:
        """Keep `text` as the artifact `name` ("samples/step_000100.md")."""
        self.client.log_text(self.id, text, name)

    @_harmless
    def log_table(self, rows: Sequence[Mapping[str, object]], name: str) -> None:
        """Keep rows with the same keys as the artifact `name` ("samples.json"), as `mlflow.log_table` would.

        The UI shows such tables, and those of several runs beside each other.
        """
        with TemporaryDirectory() as folder:
            file = Path(folder) / PurePosixPath(name).name
            table = {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}
            file.write_text(json.dumps(table, ensure_ascii=False), encoding="utf-8")
            above = str(PurePosixPath(name).parent)
            self._keep([(file, name)], None if above == "." else above)
        tables, this = json.loads(self._tags.get(TABLES, "[]")), {"path": name, "type": "table"}
        self._write_tags({TABLES: json.dumps([*tables, *([] if this in tables else [this])])})

    @_harmless
    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Keep a copy of a file as an artifact, in `folder` or at the top, unless the run holds the same."""
        self._keep([(path, f"{folder}/{path.name}" if folder else path.name)], folder)

    @_harmless
    def log_folder(self, path: Path, folder: str | None = None) -> None:
        """Keep a copy of what is in a folder as artifacts, in `folder` or at the top, unless the run holds the same."""
        inside = [(file, file.relative_to(path).as_posix()) for file in sorted(path.rglob("*")) if file.is_file()]
        named = [(file, f"{folder}/{name}" if folder else name) for file, name in inside]
        new = [file for file, name in named if not self._holds(file, name)]
        if new:
            self.client.log_artifacts(self.id, str(path), folder)
        self.written += len(new)

    @_harmless
    def log_corpus(self, corpus: Mapping[str, Any]) -> None:
        """Say which text the run used: a dataset for each split of data/clean/corpus.json, named `corpus/split`.

        MLflow's digest holds 36 characters, so it is the beginning of the hash; the whole of it is in the profile.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = []
        for split, facts in corpus["splits"].items():
            name, origin = f"{corpus['name']}/{split}", json.dumps({"uri": corpus["source"]}, ensure_ascii=False)
            profile = json.dumps({"num_characters": facts["characters"], "sha256": facts["sha256"]})
            data = Dataset(name, facts["sha256"][:16], "local", origin, profile=profile)
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
        from mlflow.entities import Metric

        self._flush()
        took = Metric(f"wall_seconds/{stage}", seconds, _now_ms(), 0)
        self.client.log_batch(self.id, metrics=[took])
        self._write_tags({f"stage.{stage}": state})
        self.client.set_terminated(self.id, STATES[state])

    @_harmless
    def complete(self, stages: Iterable[str], seconds: float) -> None:
        """Note that these stages have their outputs, whatever became of the processes that tracked them.

        A run that did not end ends `seconds` after its beginning.
        """
        self._write_tags({f"stage.{stage}": "finished" for stage in stages})
        if self._status != STATES["finished"]:
            self.client.set_terminated(self.id, STATES["finished"], self._started_ms + round(seconds * 1000))

    def _flush(self) -> None:
        """Write the buffered points, with the last of them the step they reach, which `log_history` goes by."""
        from mlflow.entities import RunTag

        for some in batches(self._points, MAX_METRICS):
            tags = [RunTag(f"history.{prefix}", str(step)) for prefix, step in self._last_steps.items()]
            self.client.log_batch(self.id, metrics=some, tags=tags if some[-1] is self._points[-1] else [])
            self.written += len(some)
        self._points = []
        self._flushed = time.monotonic()

    def _write_tags(self, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        cut = {valid_name(key): value[:MAX_TAG] for key, value in tags.items()}
        new = {key: value for key, value in cut.items() if self._tags.get(key) != value}
        for some in batches([RunTag(key, value) for key, value in new.items()], MAX_TAGS):
            self.client.log_batch(self.id, tags=some)
        self.written += len(new)
        self._tags.update(new)

    def _keep(self, named: Sequence[tuple[Path, str]], folder: str | None) -> None:
        """Copy each file to the artifact of its name in `folder`, unless the run holds the same."""
        for file, name in named:
            if not self._holds(file, name):
                self.client.log_artifact(self.id, str(file), folder)
                self.written += 1

    def _holds(self, file: Path, name: str) -> bool:
        """Tell whether the run's artifact `name` is the same as a file."""
        above = str(PurePosixPath(name).parent)
        sizes = {entry.path: entry.file_size for entry in self.client.list_artifacts(self.id, above.strip("."))}
        if sizes.get(name) != file.stat().st_size:
            return False
        if file.stat().st_size > MAX_COMPARED:
            return True
        with TemporaryDirectory() as folder:
            return sha256(Path(self.client.download_artifacts(self.id, name, folder))) == sha256(file)

    def _machine(self) -> Iterator[tuple[str, float]]:
        """Yield how busy the machine was since the last point, under MLflow's own names; nothing without psutil."""
        if importlib.util.find_spec("psutil") is None:
            return
        import psutil

        busy, memory = psutil.cpu_percent(), psutil.virtual_memory()
        if self._last_steps:  # the first figure is of no interval
            yield "cpu_utilization_percentage", busy
        yield "system_memory_usage_megabytes", memory.used / 1e6
        yield "system_memory_usage_percentage", memory.percent
        yield "process_memory_megabytes", psutil.Process().memory_info().rss / 1e6


def brief(error: Exception) -> str:
    """Return the first line of what an error says (the others are SQL), at most 200 characters."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def say(message: str) -> None:
    """Write one line on standard error."""
    sys.stderr.write(f"tracking: {' '.join(message.split())}\n")
    sys.stderr.flush()


def _now_ms() -> int:
    return int(time.time() * 1000)
