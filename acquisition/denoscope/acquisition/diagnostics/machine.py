"""Facts about this computer and its installed packages, asked without importing what is heavy."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["cores", "cpu_name", "installed", "load_average"]


def installed(package: str) -> str | None:
    """Return the installed version of a distribution, None when there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def cpu_name() -> str:
    """Return the processor's name as its maker writes it, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cores() -> dict[str, int]:
    """Return how many logical cores there are and how many this process may use."""
    total = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else total
    return {"logical": total, "usable": usable}


def load_average() -> float | None:
    """Return the mean number of busy threads in the last minute, None where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
