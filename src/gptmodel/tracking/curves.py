"""The curves of a run: points buffered while a training goes on, or restored from its history.

A curve is a metric `PREFIX/NAME` with a point at each evaluation. The tag `history.PREFIX` is the last step that was
written whole; a resumed training goes by it, so that no point is drawn twice.
Source: https://mlflow.org/docs/latest/ml/tracking (a call of log_batch takes 1000 metrics and 100 tags).
"""

import importlib.util
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from gptmodel.tracking.values import batches, numbers, valid_name

FLUSH_SECONDS = 3.0
MAX_METRICS = 900  # of one log_batch, which takes 1000 with its tags


class Curves:
    """Writes points to the run `run_id`; each method returns how many it has written. Errors of the store pass."""

    def __init__(
        self, client: Any, run_id: str, started_ms: int, tags: Mapping[str, str], metrics: Iterable[str]
    ) -> None:
        self._client = client
        self._run_id = run_id
        self._started_ms = started_ms
        self._tags = dict(tags)  # those that the run had when it was opened
        self._names = set(metrics)  # likewise
        self._points: list[Any] = []
        self._last_steps: dict[str, int] = {}  # by prefix
        self._flushed = time.monotonic()

    def add(self, rows: Iterable[Mapping[str, Any]], prefix: str) -> int:
        """Buffer the numbers of `rows` whose `step` the run does not have yet, and how busy the machine is."""
        from mlflow.entities import Metric

        now = now_ms()
        last = self._last_steps.get(prefix, int(self._tags.get(f"history.{prefix}", -1)))
        for row in rows:
            step = int(row["step"])
            if step <= last:
                continue
            cells = {f"{prefix}/{key}": value for key, value in numbers(row) if key != "step"}
            machine = {f"system/{key}": value for key, value in self._machine()}
            self._points += [Metric(valid_name(key), value, now, step) for key, value in (cells | machine).items()]
            last = step
            self._last_steps[prefix] = last
        due = len(self._points) >= MAX_METRICS or time.monotonic() - self._flushed >= FLUSH_SECONDS
        return self.flush() if due else 0

    def restore(self, rows: Sequence[Mapping[str, Any]], seconds: float, prefix: str) -> int:
        """Write the points that the run lacks, spread evenly over the `seconds` that all of them took."""
        from mlflow.entities import Metric

        written = self.flush()
        last = int(rows[-1]["step"])
        for key in [key for key in rows[-1] if key != "step"]:
            name = valid_name(f"{prefix}/{key}")
            held = self._client.get_metric_history(self._run_id, name) if name in self._names else []
            steps = {point.step for point in held}
            for row in rows:
                step, cells = int(row["step"]), dict(numbers({key: row[key]}))
                if cells and step not in steps:
                    when = self._started_ms + round(seconds * 1000 * step / max(1, last))
                    self._points.append(Metric(name, cells[key], when, step))
        self._last_steps[prefix] = last
        return written + self.flush()

    def flush(self) -> int:
        """Write the buffered points, and with the last of them the step they reach."""
        from mlflow.entities import RunTag

        written = 0
        for batch in batches(self._points, MAX_METRICS):
            tags = [RunTag(f"history.{prefix}", str(step)) for prefix, step in self._last_steps.items()]
            is_last = batch[-1] is self._points[-1]
            self._client.log_batch(self._run_id, metrics=batch, tags=tags if is_last else [])
            written += len(batch)
        self._points = []
        self._flushed = time.monotonic()
        return written

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


def now_ms() -> int:
    """Return the time as MLflow writes it: milliseconds since 1970."""
    return int(time.time() * 1000)
