"""The toolkit's decode step beside its own network: what the sampler costs."""

from __future__ import annotations

from typing import Any

from experiments.benchmarks.engines import ours
from experiments.benchmarks.engines.parts import Parts, seconds


class Engine(ours.Engine):
    """A loaded model and the pieces of its step."""

    def __init__(self, **arguments: Any):
        super().__init__(**arguments)
        engine = self.lm.engine
        self.parts = Parts(engine.steps, engine.leaves, engine.config)
        self.running: dict[str, Any] = {}
        self.state: Any = None

    def prepare(self, mixes: dict[str, Any], rows: int, slots: int) -> dict[str, Any]:
        """Compile the step of each mix, and decode a little so that the rows hold different
        texts."""
        self.state = self.parts.state(rows, slots, position=8)
        self.running = {name: self.parts.whole(mix, rows) for name, mix in mixes.items()}
        _, self.state = seconds(self.running["temperature"], self.state, 12)
        for act in (*self.running.values(), self.parts.network):
            _, self.state = seconds(act, self.state, 1)
        return {}

    def part(self, steps: int, variant: str) -> dict[str, Any]:
        """A few steps of a mix, and as many of the network alone before and after them."""
        half = max(1, steps // 2)
        before, self.state = seconds(self.parts.network, self.state, half)
        whole, self.state = seconds(self.running[variant], self.state, steps)
        after, self.state = seconds(self.parts.network, self.state, half)
        network = (before + after) / 2
        return {"seconds": whole * steps, "step": whole, "network": network}
