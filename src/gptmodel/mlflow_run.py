"""What a stage writes to: an MLflow run that never fails its stage, or nothing at all.

When the store breaks down in the middle (server killed, disk full, database locked or read-only), one line on standard
error says so, and the rest of the stage goes on without it.

Left out on purpose: models as MLflow flavours (a bundle is a folder of artifacts) and asynchronous logging.
Source: https://mlflow.org/docs/latest/ml/tracking and measurements on mlflow 3.17 (one log_metric costs 14-26 ms, a
batch of 1000 costs 90-280 ms: hence the buffer).
"""

import functools
import json
import math
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from gptmodel.mlflow_store import failures

FLUSH_SECONDS = 3.0
MAX_METRICS = 900  # of one log_batch: MLflow's limit is 1000 with its tags; the next three are limits of MLflow, too
MAX_TAGS = 100
MAX_PARAM = 6000  # characters
MAX_TAG = 8000
NOTE = "mlflow.note.content"  # what the UI shows as the description
STATES = {"finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}

P = ParamSpec("P")
T = TypeVar("T")


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

    The part of a metric's name before "/" is its group in the UI's charts. `id` is MLflow's, None when off.
    """

    def __init__(self, client: Any = None, entity: Any = None) -> None:
        self.client = client
        self.id: str | None = None if entity is None else entity.info.run_id
        self._tags: dict[str, str] = {} if entity is None else dict(entity.data.tags)
        self._params: dict[str, str] = {} if entity is None else dict(entity.data.params)
        self._figures: dict[str, float] = {} if entity is None else dict(entity.data.metrics)
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

        new = {_name(key): _text(value)[:MAX_PARAM] for key, value in flatten(params, ".")}
        fresh = [Param(key, value) for key, value in new.items() if key not in self._params]
        for some in _batches(fresh, MAX_TAGS):
            self.client.log_batch(self.id, params=some)
        changed = {f"param.{key}": value for key, value in new.items() if self._params.get(key, value) != value}
        self._write_tags(changed)
        self._params = {**new, **self._params}

    @_harmless
    def log_history(self, rows: Iterable[Mapping[str, Any]], prefix: str = "curves") -> None:
        """Log rows of a curve, `step` and any numbers, as metrics `prefix/NAME`. Buffered for `FLUSH_SECONDS`.

        Rows of steps that the run already has are skipped; None and NaN (an empty cell) leave no point.
        """
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        last = self._last_steps.get(prefix, int(self._tags.get(f"history.{prefix}", -1)))
        for row in rows:
            step = int(row["step"])
            if step > last:
                cells = {key: value for key, value in _numbers(row) if key != "step"}
                self._points += [Metric(_name(f"{prefix}/{key}"), value, now, step) for key, value in cells.items()]
                self._last_steps[prefix] = last = step
        if len(self._points) >= MAX_METRICS or time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self._flush()

    @_harmless
    def log_metrics(self, metrics: Mapping[str, object], prefix: str = "") -> None:
        """Log final figures: a nested dict, names joined by "/" once, then by dots. What is no number is left out.

        A figure that the run already holds is not logged again; one with another value takes its place.
        """
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        numbers = _numbers({prefix: metrics} if prefix else metrics)
        figures = {_name(key.replace(".", "/", 1)): value for key, value in numbers}
        new = {key: value for key, value in figures.items() if self._figures.get(key) != value}
        for some in _batches([Metric(key, value, now, 0) for key, value in new.items()], MAX_METRICS):
            self.client.log_batch(self.id, metrics=some)
        self._figures.update(new)

    @_harmless
    def log_text(self, text: str, name: str) -> None:
        """Keep `text` as the artifact `name` ("samples/step_000100.md")."""
        self.client.log_text(self.id, text, name)

    @_harmless
    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Keep a copy of a file as an artifact, in `folder` or at the top."""
        self.client.log_artifact(self.id, str(path), folder)

    @_harmless
    def log_folder(self, path: Path, folder: str | None = None) -> None:
        """Keep a copy of what is in a folder as artifacts, in `folder` or at the top."""
        self.client.log_artifacts(self.id, str(path), folder)

    @_harmless
    def log_dataset(self, name: str, sha256: str, split: str, source: str) -> None:
        """Say which data the run used: name, hash, split ("train"), and where it came from (an address or a path).

        MLflow's digest holds 36 characters, so it is the beginning of the hash; the whole of it is in the profile.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag

        web = source.startswith(("http://", "https://"))
        origin = json.dumps({"url" if web else "uri": source}, ensure_ascii=False)
        profile = json.dumps({"sha256": sha256})
        data = Dataset(name, sha256[:16], "http" if web else "local", origin, profile=profile)
        self.client.log_inputs(self.id, [DatasetInput(data, [InputTag("mlflow.data.context", split)])])

    @_harmless
    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Set tags, a nested dict, names joined by dots; a tag that was there takes the new value."""
        self._write_tags({key: _text(value) for key, value in flatten(tags, ".")})

    @_harmless
    def set_note(self, markdown: str) -> None:
        """Set the text that the UI shows as the run's description (cut at 8000 characters)."""
        self._write_tags({NOTE: markdown})

    @_harmless
    def close(self, stage: str, state: str, seconds: float) -> None:
        """Write what is buffered and end the run for now: `state` is finished, failed or killed."""
        from mlflow.entities import Metric

        self._flush()
        took = Metric(f"wall_seconds/{stage}", seconds, int(time.time() * 1000), 0)
        self.client.log_batch(self.id, metrics=[took])
        self._write_tags({f"stage.{stage}": state})
        self.client.set_terminated(self.id, STATES[state])

    def _flush(self) -> None:
        """Write the buffered points together with the step they reach, which `log_history` goes by."""
        from mlflow.entities import RunTag

        tags = [RunTag(f"history.{prefix}", str(step)) for prefix, step in self._last_steps.items()]
        for some in _batches(self._points, MAX_METRICS):
            self.client.log_batch(self.id, metrics=some, tags=tags)
        self._points = []
        self._flushed = time.monotonic()

    def _write_tags(self, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        cut = [RunTag(_name(key), value[:MAX_TAG]) for key, value in tags.items()]
        for some in _batches(cut, MAX_TAGS):
            self.client.log_batch(self.id, tags=some)


def flatten(nested: Mapping[str, object], joint: str, above: str = "") -> Iterator[tuple[str, object]]:
    """Yield the leaves of a nested dict with their keys joined.

    >>> list(flatten({"network": "gpt", "split": {"train": 0.85, "test": None}}, "."))
    [('network', 'gpt'), ('split.train', 0.85), ('split.test', None)]
    """
    for key, value in nested.items():
        if isinstance(value, Mapping):
            yield from flatten(value, joint, f"{above}{key}{joint}")
        else:
            yield f"{above}{key}", value


def brief(error: Exception) -> str:
    """Return the first line of what an error says (the others are SQL), at most 200 characters."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def say(message: str) -> None:
    """Write one line on standard error."""
    sys.stderr.write(f"tracking: {' '.join(message.split())}\n")
    sys.stderr.flush()


def _numbers(nested: Mapping[str, object]) -> Iterator[tuple[str, float]]:
    """Yield the leaves of a nested dict that are numbers, names joined by dots."""
    for key, value in flatten(nested, "."):
        if isinstance(value, Real) and not math.isnan(value):
            yield key, float(value)


def _text(value: object) -> str:
    """Write a value as params.yaml would: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _name(key: str) -> str:
    """Make a name that MLflow takes: letters, digits, space and _ . : - in parts joined by /, at most 250 characters.

    >>> _name("latency (ms)/batch@8"), _name("/a//b/")
    ('latency _ms_/batch_8', 'a/b')
    """
    parts = [part for part in re.sub(r"[^\w./: -]", "_", key)[:250].split("/") if part.strip(".")]
    return "/".join(parts) or "_"


def _batches(items: Sequence[T], size: int) -> Iterator[list[T]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])
