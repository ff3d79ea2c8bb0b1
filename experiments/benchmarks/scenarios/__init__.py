"""The scenarios: each a module with `run(settings, subject, python) -> Result`."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from experiments.benchmarks.report import Result

SCENARIOS = (
    "decode_batch1",
    "decode_batches",
    "sampling_mixes",
    "sampler_share",
    "samples",
    "scoring",
    "sweep",
    "arrivals",
    "server_throughput",
    "prefill",
    "recompilations",
    "runner_overhead",
    "strict_mode",
    "int8",
    "cold_start",
)
"""In the order in which they run and stand in the documents."""

SELDOM = ("sampling_mixes", "server_throughput", "runner_overhead")
"""Those of a default run that wait for their name or for `--all`."""

GPU = ("gpu_decode", "gpu_attention")
"""Those of `--gpu`."""


class Skipped(Exception):
    """A scenario cannot run here; the message says why."""


def runner(name: str) -> Callable[..., Result]:
    """The function of a scenario, imported when it is needed."""
    return importlib.import_module(f"{__name__}.{name}").run
