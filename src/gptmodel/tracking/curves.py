"""The curves of a run: points buffered while a training goes on, or restored from its history.

A curve is a metric with a point at each evaluation. The tag `history.curves` is the last step that was written whole; a
resumed training goes by it, so that no point is drawn twice.
Source: https://mlflow.org/docs/latest/ml/tracking (a call of log_batch takes 1000 metrics and 100 tags).
"""

import importlib.util
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gptmodel.tracking.values import batches, numbers, valid_name

LAST_STEP = "history.curves"
FLUSH_SECONDS = 3.0
MAX_METRICS = 900  # of one log_batch, which takes 1000 with its tags


class Curves:
    """Writes points to a run, an MLflow entity; each method returns how many. Errors of the store pass."""

    def __init__(self, client: Any, entity: Any) -> None:
        self._client = client
        self._info = entity.info
        self._names = set(entity.data.metrics)  # those that the run had when it was opened
        self._last_step = int(entity.data.tags.get(LAST_STEP, -1))
        self._is_begun = False
        self._points: list[Any] = []
        self._flushed = time.monotonic()

    def add(self, rows: Iterable[Mapping[str, Any]]) -> int:
        """Buffer the numbers of `rows` whose `step` the run does not have yet, and how busy the machine is."""
        from mlflow.entities import Metric

        now = now_ms()
        for row in rows:
            step = int(row["step"])
            if step <= self._last_step:
                continue
            cells = {key: value for key, value in numbers(row) if key != "step"} | self._machine()
            self._points += [Metric(valid_name(key), value, now, step) for key, value in cells.items()]
            self._last_step = step
            self._is_begun = True
        due = len(self._points) >= MAX_METRICS or time.monotonic() - self._flushed >= FLUSH_SECONDS
        return self.flush() if due else 0

    def restore(self, rows: Sequence[Mapping[str, Any]], seconds: float) -> int:
        """Write the points that the run lacks, spread evenly over the `seconds` that all of them took."""
        from mlflow.entities import Metric

        last = int(rows[-1]["step"])
        for key in [key for key in rows[-1] if key != "step"]:
            name = valid_name(key)
            held = self._client.get_metric_history(self._info.run_id, name) if name in self._names else []
            steps = {point.step for point in held}
            for row in rows:
                step, cells = int(row["step"]), dict(numbers({key: row[key]}))
                if cells and step not in steps:
                    when = self._info.start_time + round(seconds * 1000 * step / max(1, last))
                    self._points.append(Metric(name, cells[key], when, step))
        self._last_step = last
        return self.flush()

    def flush(self) -> int:
        """Write the buffered points, and with the last of them the step they reach."""
        from mlflow.entities import RunTag

        for batch in batches(self._points, MAX_METRICS):
            is_last = batch[-1] is self._points[-1]
            tags = [RunTag(LAST_STEP, str(self._last_step))] if is_last else []
            self._client.log_batch(self._info.run_id, metrics=batch, tags=tags)
        written = len(self._points)
        self._points = []
        self._flushed = time.monotonic()
        return written

    def _machine(self) -> dict[str, float]:
        """Return how busy the machine was since the last point, under MLflow's own names; nothing without psutil."""
        if importlib.util.find_spec("psutil") is None:
            return {}
        import psutil

        busy, memory = psutil.cpu_percent(), psutil.virtual_memory()
        return {
            **({"system/cpu_utilization_percentage": busy} if self._is_begun else {}),  # the first is of no interval
            "system/system_memory_usage_megabytes": memory.used / 1e6,
            "system/system_memory_usage_percentage": memory.percent,
            "system/process_memory_megabytes": psutil.Process().memory_info().rss / 1e6,
        }


def now_ms() -> int:
    """Return the time as MLflow writes it: milliseconds since 1970."""
    return int(time.time() * 1000)
