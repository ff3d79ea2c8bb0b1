"""What `/metrics` shows: requests, tokens and latencies, and the engines' own counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from toolkit.completion.complete import LM
from toolkit.completion.run import Run

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
"""Upper bounds of the latency histograms."""


class Metrics:
    """The numbers of one application, in a registry of its own."""

    def __init__(self, lms: Mapping[str, LM]):
        self.registry = CollectorRegistry()
        self.runs: set[Run] = set()
        """What is being answered now."""
        self._requests = Counter(
            "toolkit_requests",
            "HTTP requests by route and status.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._prompt = self._counter("prompt_tokens", "Tokens of prompts, once for each prompt.")
        self._completion = self._counter("completion_tokens", "Tokens sampled for answers.")
        self._queue = self._histogram("queue", "Until the first prompt entered the device.")
        self._first = self._histogram("first_token", "Until the first sampled token.")
        self._total = self._histogram("completion", "Until the end of the answer.")
        self.registry.register(_Live(lms, self.runs))

    def text(self) -> bytes:
        """All of it in the format that Prometheus reads."""
        return generate_latest(self.registry)

    def count_request(self, method: str, route: str, status: int) -> None:
        """Note an answered HTTP request."""
        self._requests.labels(method, route, str(status)).inc()

    def count_run(self, run: Run) -> None:
        """Note a completion that has ended, in whatever way."""
        model, usage, timings = run.lm.name, run.usage, run.timings
        self._prompt.labels(model).inc(usage.prompt_tokens)
        self._completion.labels(model).inc(usage.completion_tokens)
        self._queue.labels(model).observe(timings.queue)
        self._total.labels(model).observe(timings.total)
        if timings.first_token is not None:
            self._first.labels(model).observe(timings.first_token)

    def _counter(self, name: str, what: str) -> Counter:
        return Counter(f"toolkit_{name}", what, ["model"], registry=self.registry)

    def _histogram(self, name: str, what: str) -> Histogram:
        name, what = f"toolkit_{name}_seconds", f"Seconds. {what}"
        return Histogram(name, what, ["model"], buckets=SECONDS, registry=self.registry)


class _Live(Collector):
    """Values that are read when they are asked for."""

    def __init__(self, lms: Mapping[str, LM], runs: set[Run]):
        self._lms = lms
        self._runs = runs

    def collect(self) -> Iterable[Metric]:
        """The queue and the batch of HTTP requests, then the counters of each engine."""
        candidates = [
            (run.lm.name, bool(candidate.drawn))
            for run in self._runs.copy()
            for candidate in run.candidates
            if not candidate.over
        ]
        waiting = {name: candidates.count((name, False)) for name in self._lms}
        running = {name: candidates.count((name, True)) for name in self._lms}
        yield _gauge("sequences_waiting", "Sequences that have no token yet.", waiting)
        yield _gauge("sequences_running", "Sequences that share the batch now.", running)
        stats = {name: lm.stats() for name, lm in self._lms.items()}
        for name, what in _ENGINE.items():
            counts = {model: float(getattr(stats[model], name)) for model in stats}
            yield _counter(f"engine_{name}", what, counts)
        programs = {model: list(s.compiles) for model, s in stats.items()}
        number = {model: float(len(made)) for model, made in programs.items()}
        seconds = {model: sum(took for _, took in made) for model, made in programs.items()}
        yield _counter("engine_compiles", "Programs compiled.", number)
        yield _counter("engine_compile_seconds", "Seconds spent on compiling.", seconds)


_ENGINE = {
    "generated": "Tokens drawn for requests.",
    "prefilled": "Prompt tokens computed.",
    "reused": "Prompt tokens found in the prefix cache.",
    "steps": "Decode steps.",
}
"""Attributes of `toolkit.engine.stats.Stats`, and what they count."""


def _gauge(name: str, what: str, values: Mapping[str, float]) -> Metric:
    return _fill(GaugeMetricFamily(f"toolkit_{name}", what, labels=["model"]), values)


def _counter(name: str, what: str, values: Mapping[str, float]) -> Metric:
    return _fill(CounterMetricFamily(f"toolkit_{name}", what, labels=["model"]), values)


def _fill(
    family: GaugeMetricFamily | CounterMetricFamily, values: Mapping[str, float]
) -> GaugeMetricFamily | CounterMetricFamily:
    for model, value in values.items():
        family.add_metric([model], value)
    return family
