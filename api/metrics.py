"""What the service counts and measures, in the text format of Prometheus.

With several worker processes the numbers live in files that they share (`api.shared_metrics`), and
any worker answers for all. With one process they live in its memory, apart for each application.
"""

import os
from collections.abc import Mapping
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector

import charrnn
from api import shared_metrics

CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS"})
UNMATCHED = "unmatched"  # the route of a request that no rule matches: raw paths have no end


class Metrics:
    """One application's numbers. Every method is cheap, and safe from any thread."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "charrnn_requests",
            "Requests that were answered.",
            ["route", "method", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "charrnn_request_seconds",
            "Time from a request's arrival at the application to the end of its answer.",
            ["route"],
            registry=registry,
            buckets=SECONDS,
        )
        self._first = Histogram(
            "charrnn_first_character_seconds",
            "Time from a request's arrival to its first character.",
            registry=registry,
            buckets=SECONDS,
        )
        self._characters = Counter(
            "charrnn_characters", "Characters that were generated.", registry=registry
        )
        self._batch = _gauge("charrnn_batch_sequences", "Sequences that are written now.", registry)
        self._waiting = _gauge("charrnn_waiting_texts", "Texts that wait to be begun.", registry)
        self._refused = Counter(
            "charrnn_refused", "Requests turned away, by reason.", ["reason"], registry=registry
        )
        self._reloads = Counter(
            "charrnn_reloads",
            "New live versions, by model and whether they could be loaded.",
            ["model", "outcome"],
            registry=registry,
        )
        self._ended = cache(self._children)

    def request_ended(self, route: str, method: str, status: int, seconds: float) -> None:
        """A request was answered to its end. `route` is the rule that matched, or UNMATCHED."""
        requests, histogram = self._ended(route, method if method in METHODS else "other", status)
        requests.inc()
        histogram.observe(seconds)

    def first_character(self, seconds: float) -> None:
        """The first character of an answer was there, so long after its request."""
        self._first.observe(seconds)

    def characters(self, count: int) -> None:
        """So many characters were generated."""
        self._characters.inc(count)

    def batch(self, live: int) -> None:
        """So many sequences are in this process's batches."""
        self._batch.set(live)

    def waiting(self, texts: int) -> None:
        """So many texts wait in this process for a place in a batch."""
        self._waiting.set(texts)

    def refused(self, reason: str) -> None:
        """A request was turned away; the reason is one of a few words of ours."""
        self._refused.labels(reason).inc()

    def reloaded(self, model: str, ok: bool) -> None:
        """A new live version was loaded, or could not be."""
        self._reloads.labels(model, "loaded" if ok else "refused").inc()

    def text(self, versions: Mapping[str, str]) -> bytes:
        """Everything as Prometheus reads it; `versions` are the live ones, by model."""
        info = CollectorRegistry()
        info.register(_Info(versions))
        return generate_latest(info) + generate_latest(self._collected())

    def _collected(self) -> CollectorRegistry:
        shared = getattr(values.ValueClass, "_multiprocess", False)
        if not shared or not shared_metrics.restore():
            return self._registry
        every = CollectorRegistry()
        MultiProcessCollector(every, os.environ["PROMETHEUS_MULTIPROC_DIR"])
        return every

    def _children(self, route: str, method: str, status: int) -> tuple[Counter, Histogram]:
        return self._requests.labels(route, method, str(status)), self._seconds.labels(route)


def _gauge(name: str, meaning: str, registry: CollectorRegistry) -> Gauge:
    """A gauge that adds up over the workers that live."""
    return Gauge(name, meaning, registry=registry, multiprocess_mode="livesum")


class _Info:
    """What is served, as gauges that are always 1."""

    def __init__(self, versions: Mapping[str, str]) -> None:
        self._versions = versions

    def collect(self) -> list[GaugeMetricFamily]:
        service = GaugeMetricFamily("charrnn_info", "The service's version.", labels=["version"])
        service.add_metric([charrnn.__version__], 1)
        models = GaugeMetricFamily(
            "charrnn_model_info", "The live version of each model.", labels=["model", "version"]
        )
        for model, version in self._versions.items():
            models.add_metric([model, version], 1)
        return [service, models]
