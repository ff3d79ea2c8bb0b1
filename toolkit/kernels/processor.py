"""What the machine's processor is, for things that are made for one kind of it."""

from __future__ import annotations

import contextlib
import hashlib
import platform
from pathlib import Path


def processor() -> str:
    """A short name of the processor's kind and instructions."""
    text = platform.machine() + platform.processor()
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
        text += "".join(
            sorted({line for line in lines if line.startswith(("flags", "model name"))})
        )
    return hashlib.sha256(text.encode()).hexdigest()[:12]
