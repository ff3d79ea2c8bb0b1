"""What the suite ran on."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.benchmarks.settings import cores

VERSIONS = """
import importlib.metadata, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""
BUSY = 0.5
"""Load average, in processes that want a core, above which a run says that it had company."""


def describe() -> dict[str, Any]:
    """Processor, cores in use, memory, system and Python of this machine, and how busy it is."""
    return {
        "processor": _processor(),
        "cores": cores(),
        "memory_gib": _memory(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def versions(python: str | Path, packages: Sequence[str]) -> dict[str, str]:
    """Versions of what an interpreter has installed of `packages`."""
    command = [python, "-c", VERSIONS, *packages]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> int | None:
    """In GiB; None where the system does not say."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    return None
