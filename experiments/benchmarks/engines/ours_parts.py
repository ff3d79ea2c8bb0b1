"""The toolkit's decode step beside its own network: what the sampler costs."""

from __future__ import annotations

import statistics
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
        """Some steps of a mix, each between two of the network alone: the machine's speed drifts
        within a second."""
        whole, more = [], []
        before, self.state = seconds(self.parts.network, self.state, 1)
        for _ in range(steps):
            taken, self.state = seconds(self.running[variant], self.state, 1)
            after, self.state = seconds(self.parts.network, self.state, 1)
            whole.append(taken)
            more.append(taken - (before + after) / 2)
            before = after
        step = statistics.median(whole)
        return {"seconds": sum(whole), "step": step, "network": step - statistics.median(more)}
