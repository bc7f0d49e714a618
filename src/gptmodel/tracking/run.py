"""What a stage writes to: an MLflow run that never fails its stage, or nothing at all.

When the store breaks down in the middle (server killed, disk full, database locked or read-only), one line on standard
error says so, and the rest of the stage goes on without it. What a run already holds is not written again, so that a
stage, a resumed stage and `sync` can all log the same things.

Left out on purpose: models as MLflow flavours (see `registry`), asynchronous logging, and MLflow's own monitor of the
machine (a thread that asks the store every ten seconds; here the machine is looked at when a curve gets a point).
Source: https://mlflow.org/docs/latest/ml/tracking
"""

import functools
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

from gptmodel.results.corpus import CleanCorpus
from gptmodel.tracking import artifacts
from gptmodel.tracking.curves import MAX_METRICS, Curves, now_ms
from gptmodel.tracking.store import failures
from gptmodel.tracking.values import as_text, batches, flatten, numbers, valid_name

MAX_TAGS = 100  # of one log_batch; this and the next two are limits of MLflow
MAX_PARAM = 6000  # characters
MAX_TAG = 8000
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
        self.id: str = "" if entity is None else entity.info.run_id
        self._tags: dict[str, str] = {} if entity is None else dict(entity.data.tags)
        self._params: dict[str, str] = {} if entity is None else dict(entity.data.params)
        self._figures: dict[str, float] = {} if entity is None else dict(entity.data.metrics)
        self._started_ms: int = 0 if entity is None else entity.info.start_time
        self._status: str = "" if entity is None else entity.info.status
        self._curves = Curves(client, self.id, self._started_ms, self._tags, self._figures)
        self.written = 0

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
        fresh = [Param(key, value) for key, value in new.items() if key not in self._params]
        for batch in batches(fresh, MAX_TAGS):
            self.client.log_batch(self.id, params=batch)
            self.written += len(batch)
        changed = {f"param.{key}": value for key, value in new.items() if self._params.get(key, value) != value}
        self._write_tags(changed)
        self._params = {**new, **self._params}

    @_harmless
    def log_history(self, rows: Iterable[Mapping[str, Any]], prefix: str = "curves") -> None:
        """Log rows of a curve, `step` and any numbers, as metrics `prefix/NAME`. Buffered for a few seconds.

        Rows of steps that the run already has are skipped; None and NaN (an empty cell) leave no point. Beside them
        stands how busy the machine is (`system/...`, a page of its own in the UI).
        """
        self.written += self._curves.add(rows, prefix)

    @_harmless
    def restore_history(self, rows: Sequence[Mapping[str, Any]], seconds: float, prefix: str = "curves") -> None:
        """Log the points of a curve that the run lacks, spread evenly over the `seconds` that it took in all."""
        self.written += self._curves.restore(rows, seconds, prefix)

    @_harmless
    def log_metrics(self, metrics: Mapping[str, object], prefix: str = "") -> None:
        """Log final figures: a nested dict, names joined by "/" once, then by dots. What is no number is left out.

        A figure that the run already holds is not logged again; one with another value takes its place.
        """
        from mlflow.entities import Metric

        now = now_ms()
        leaves = numbers({prefix: metrics} if prefix else metrics)
        figures = {valid_name(key.replace(".", "/", 1)): value for key, value in leaves}
        new = {key: value for key, value in figures.items() if self._figures.get(key) != value}
        for batch in batches([Metric(key, value, now, 0) for key, value in new.items()], MAX_METRICS):
            self.client.log_batch(self.id, metrics=batch)
            self.written += len(batch)
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
        self.written += artifacts.keep_table(self.client, self.id, rows, name)
        tables = json.loads(self._tags.get(TABLES, "[]"))
        this = {"path": name, "type": "table"}
        self._write_tags({TABLES: json.dumps(tables if this in tables else [*tables, this])})

    @_harmless
    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Keep a copy of a file as an artifact, in `folder` or at the top, unless the run holds the same."""
        self.written += artifacts.keep_file(self.client, self.id, path, folder)

    @_harmless
    def log_folder(self, path: Path, folder: str | None = None) -> None:
        """Keep a copy of what is in a folder as artifacts, in `folder` or at the top, unless the run holds the same."""
        self.written += artifacts.keep_folder(self.client, self.id, path, folder)

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
        from mlflow.entities import Metric

        self.written += self._curves.flush()
        took = Metric(f"wall_seconds/{stage}", seconds, now_ms(), 0)
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

    def _write_tags(self, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        cut = {valid_name(key): value[:MAX_TAG] for key, value in tags.items()}
        new = {key: value for key, value in cut.items() if self._tags.get(key) != value}
        for batch in batches([RunTag(key, value) for key, value in new.items()], MAX_TAGS):
            self.client.log_batch(self.id, tags=batch)
        self.written += len(new)
        self._tags.update(new)


def brief(error: Exception) -> str:
    """Return the first line of what an error says (the others are SQL), at most 200 characters."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def say(message: str) -> None:
    """Write one line on standard error."""
    sys.stderr.write(f"tracking: {' '.join(message.split())}\n")
    sys.stderr.flush()
