"""What the machine's processor is, for things that are made for one kind of it, and how much of it
this process may use."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import platform
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

MEMBER = Path("/proc/self/cgroup")
GROUPS = Path("/sys/fs/cgroup")
"""Linux: which control groups this process is in, and what they allow."""


def processor() -> str:
    """A short name of the processor's kind and instructions."""
    text = platform.machine() + platform.processor()
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
        text += "".join(
            sorted({line for line in lines if line.startswith(("flags", "model name"))})
        )
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def cores() -> int:
    """Cores that this process may use: those that it is bound to, and in a container no more than
    its quota of time comes to, since threads beyond that take the time from each other."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min([bound or 1, *map(math.ceil, _quotas())]))


def _quotas() -> Iterator[float]:
    """Cores' worth of time that the process's control groups and those around them allow, where
    they set a limit; version 2 of control groups has no names of controllers."""
    try:
        lines = MEMBER.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for place in (PurePosixPath(group), *PurePosixPath(group).parents):
            folder = GROUPS / ("cpu" if controllers else "") / place.relative_to("/")
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if controllers else ("cpu.max",)
            with contextlib.suppress(OSError, ValueError):  # no file, "max", another filesystem
                quota, period = map(int, " ".join((folder / n).read_text() for n in names).split())
                if quota > 0:
                    yield quota / period
