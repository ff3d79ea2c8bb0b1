"""Hugging Face's `transformers serve` in float32, which answers /v1/completions.

Continuous batching is its option for accelerators; without it each request runs alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

from experiments.benchmarks.engines import served


class Engine(served.Engine):
    """A running server."""

    ready = "/health"

    def command(self) -> list[str]:
        """What starts the server."""
        command = [str(Path(sys.executable).with_name("transformers")), "serve", self.folder]
        return [*command, "--port", str(self.port), "--device", "cpu", "--dtype", "float32"]
