"""The toolkit without its compiled kernels: what a machine without the extra gets."""

from __future__ import annotations

from typing import Any

from experiments.benchmarks.engines import ours


class Engine(ours.Engine):
    """A model loaded with `kernels=False`."""

    def __init__(self, **arguments: Any):
        super().__init__(**arguments, kernels=False)
