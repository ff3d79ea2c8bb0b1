"""Targets: what experiments, probes and comparisons ask for completions."""

from __future__ import annotations

from toolkit.experiments.target.local import Local
from toolkit.experiments.target.protocol import Answer, Events, Streaming, Target
from toolkit.experiments.target.remote import Remote

__all__ = ["Answer", "Events", "Local", "Remote", "Streaming", "Target"]
