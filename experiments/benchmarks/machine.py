"""What the suite ran on."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import time
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
VECTORS = {"avx2": "AVX2", "avx512f": "AVX-512", "amx_bf16": "AMX"}
"""Instructions for products, by Linux's names. Processors of one name may differ in them."""
BUSY = 0.15
"""Cores that other programs may keep busy before a run says that it had company."""


def describe() -> dict[str, Any]:
    """Processor, cores in use, memory, system and Python of this machine."""
    return {
        "processor": _processor(),
        "vectors": _vectors(),
        "cores": cores(),
        "memory_gib": _memory(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


class Company:
    """What other programs do while this one and the processes that it starts and ends measure."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.before = _busy(), _own()

    def cores(self) -> float | None:
        """Cores that others kept busy since the start; None where the system does not say."""
        busy, own = _busy(), _own()
        if busy is None or self.before[0] is None:
            return None
        others = (busy - self.before[0]) - (own - self.before[1])
        return round(max(0.0, others / (time.perf_counter() - self.began)), 2)


def _busy() -> float | None:
    """Seconds of work that all processors have done: all columns but idle and waiting."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        first = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:9]
        ticks = [int(column) for column in first]
        return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
    return None


def _own() -> float:
    """Seconds of work of this process and of those it started that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


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


def _vectors() -> str:
    """Which instructions for products the processor has; nothing where the system does not say."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("flags"):
                return ", ".join(VECTORS[flag] for flag in VECTORS if flag in line.split())
    return ""


def _memory() -> int | None:
    """In GiB; None where the system does not say."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    return None
