"""What a server counts, in the text format that Prometheus reads.

Left out on purpose: the client library of Prometheus; three counters and two histograms need none.
Source: https://prometheus.io/docs/instrumenting/exposition_formats.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping

BOUNDS_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Histogram:
    """How often a time fell at or below each bound.

    >>> histogram = Histogram()
    >>> histogram.add(0.02)
    >>> histogram.lines("wait_seconds", "Time.")[2:5]
    ['wait_seconds_bucket{le="0.01"} 0', 'wait_seconds_bucket{le="0.025"} 1', 'wait_seconds_bucket{le="0.05"} 1']
    """

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_SECONDS) + 1)
        self._sum = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self._counts[bisect_left(BOUNDS_SECONDS, seconds)] += 1
        self._sum += seconds

    def lines(self, name: str, text: str) -> list[str]:
        """Return the lines of this histogram."""
        lines, total = [f"# HELP {name} {text}", f"# TYPE {name} histogram"], 0
        for bound, count in zip([*map(str, BOUNDS_SECONDS), "+Inf"], self._counts, strict=True):
            total += count
            lines.append(f'{name}_bucket{{le="{bound}"}} {total}')
        return [*lines, f"{name}_sum {self._sum:.6f}", f"{name}_count {total}"]


def family(name: str, kind: str, text: str, label: str, values: Mapping[str, int]) -> list[str]:
    """Return the lines of a counter or gauge with one label.

    >>> family("tokens_total", "counter", "Tokens.", "kind", {"prompt": 3})[2]
    'tokens_total{kind="prompt"} 3'
    """
    return [
        f"# HELP {name} {text}",
        f"# TYPE {name} {kind}",
        *(f'{name}{{{label}="{key}"}} {value}' for key, value in values.items()),
    ]


class Meters:
    """The counts of a server since its start."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()  # by HTTP status; 499: the client went away
        self.request_seconds, self.first_token_seconds = Histogram(), Histogram()

    def text(self, texts: Mapping[str, int], tokens: Mapping[str, int]) -> str:
        """Return all in one text: with the texts that run and wait now, and the tokens so far."""
        lines = [
            *family("gptmodel_requests_total", "counter", "Completions by HTTP status.", "status", self.requests),
            *family("gptmodel_tokens_total", "counter", "Tokens read and written.", "kind", tokens),
            *family("gptmodel_texts", "gauge", "Texts decoded now, and waiting.", "state", texts),
            *self.request_seconds.lines("gptmodel_request_seconds", "From a request to the end of its answer."),
            *self.first_token_seconds.lines("gptmodel_first_token_seconds", "From a request to its first token."),
        ]
        return "\n".join(lines) + "\n"
