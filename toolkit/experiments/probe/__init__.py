"""What a server means by its fields: two dozen requests, each check with what the contract says.

subject.py    the target under examination
numbers.py    checks of log-probabilities and of what truncates the draw
texts.py      checks of prompts, echo, offsets and stops
draws.py      checks of seeds, penalties, bias and candidates
protocol.py   checks of errors, streams and constraints
report.py     the result
"""

from __future__ import annotations

from toolkit.experiments.probe.report import Check, Probe
from toolkit.experiments.probe.run import probe

__all__ = ["Check", "Probe", "probe"]
