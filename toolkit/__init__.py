"""A Jupyter-first research toolkit for the text-completion API, on JAX and Flax.

    import toolkit as tk

    lm = tk.load()
    answer = lm.complete("The capital of France is", max_tokens=8, temperature=0, logprobs=2)

The names below are looked up on first use, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolkit import widgets
    from toolkit.analysis import frames, plots
    from toolkit.completion.complete import LM
    from toolkit.completion.load import complete, load, stream
    from toolkit.completion.record import Completion, CompletionRecord
    from toolkit.completion.request import CompletionRequest, Limits
    from toolkit.errors import InvalidRequest, ModelNotFound, ToolkitError
    from toolkit.experiments.compare import compare
    from toolkit.experiments.probe import probe
    from toolkit.experiments.replay import replay
    from toolkit.experiments.run import open_run
    from toolkit.experiments.sweep import sweep
    from toolkit.experiments.target import Remote
    from toolkit.server.serve import serve
    from toolkit.widgets.comparison import compare_samples
    from toolkit.widgets.explorer import explore

__version__ = "0.1.0"

__all__ = [
    "LM",
    "Completion",
    "CompletionRecord",
    "CompletionRequest",
    "InvalidRequest",
    "Limits",
    "ModelNotFound",
    "Remote",
    "ToolkitError",
    "compare",
    "compare_samples",
    "complete",
    "explore",
    "frames",
    "load",
    "open_run",
    "plots",
    "probe",
    "replay",
    "serve",
    "stream",
    "sweep",
    "widgets",
]

_HOMES = {
    "LM": "completion.complete",
    "Completion": "completion.record",
    "CompletionRecord": "completion.record",
    "CompletionRequest": "completion.request",
    "InvalidRequest": "errors",
    "Limits": "completion.request",
    "ModelNotFound": "errors",
    "Remote": "experiments.target",
    "ToolkitError": "errors",
    "compare": "experiments.compare",
    "compare_samples": "widgets.comparison",
    "complete": "completion.load",
    "explore": "widgets.explorer",
    "load": "completion.load",
    "open_run": "experiments.run",
    "probe": "experiments.probe",
    "replay": "experiments.replay",
    "serve": "server.serve",
    "stream": "completion.load",
    "sweep": "experiments.sweep",
}

_ROOMS = {"frames": "analysis.frames", "plots": "analysis.plots", "widgets": "widgets"}
"""Public names that are modules themselves."""


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{_ROOMS[name]}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
