"""llama-cpp-python's server on the F32 GGUF.

It answers one request at a time. Logits are kept for the last token only, which is faster than its
default, and no log-probabilities are asked for.
"""

from __future__ import annotations

import sys

from experiments.benchmarks.engines import served


class Engine(served.Engine):
    """A running server."""

    def command(self) -> list[str]:
        """What starts the server."""
        options = {
            "model": self.gguf["F32"],
            "port": self.port,
            "n_ctx": self.context,
            "n_threads": self.threads,
            "n_threads_batch": self.threads,
            "logits_all": False,
            "verbose": False,
        }
        named = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        return [sys.executable, "-m", "llama_cpp.server", *named]
