"""What a server counts, for Prometheus: one registry for each service."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gptmodel.serving.scheduler import Scheduler

BOUNDS_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics(Collector):
    """The figures of a server since its start; those of the scheduler are read when somebody asks."""

    def __init__(self, scheduler: Scheduler) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._scheduler = scheduler
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "gptmodel_requests", "Completions by HTTP status.", ["status"], registry=self._registry
        )  # 499: the client went away
        self._registry.register(self)
        self.request_seconds = self._histogram("gptmodel_request_seconds", "From a request to the end of its answer.")
        self.first_token_seconds = self._histogram("gptmodel_first_token_seconds", "From a request to its first token.")

    def collect(self) -> Iterator[Metric]:
        """Yield the figures of the scheduler."""
        tokens = CounterMetricFamily("gptmodel_tokens", "Tokens read and written.", labels=["kind"])
        for kind, count in self._scheduler.tokens.items():
            tokens.add_metric([kind], count)
        yield tokens
        texts = GaugeMetricFamily("gptmodel_texts", "Texts decoded now, and waiting.", labels=["state"])
        texts.add_metric(["running"], self._scheduler.running)
        texts.add_metric(["waiting"], self._scheduler.waiting)
        yield texts

    def text(self) -> bytes:
        """Return all of them in Prometheus' text format."""
        return generate_latest(self._registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(name, text, buckets=BOUNDS_SECONDS, registry=self._registry)
