"""Where and with what a benchmark was run."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["cores", "cpu_name", "git_commit", "installed", "load_average", "provenance"]

_PACKAGES = ("numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "openvino", "pydantic", "safetensors")
_GIT_S = 10


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


def git_commit(file: Path) -> dict[str, Any] | None:
    """Return the commit of the checkout that tracks `file` and whether it was changed; None outside one."""
    git = shutil.which("git")
    if git is None:
        return None

    def ask(*words: str) -> str | None:
        done = subprocess.run(  # noqa: S603  fixed words
            [git, "-C", str(file.parent), *words],
            capture_output=True,
            text=True,
            timeout=_GIT_S,
            check=False,
        )
        return done.stdout.strip() if done.returncode == 0 else None

    try:
        if ask("ls-files", "--error-unmatch", file.name) is None:
            return None
        commit = ask("rev-parse", "HEAD")
        changed = ask("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.TimeoutExpired):
        return None
    return {"commit": commit, "changed": bool(changed)} if commit else None


def provenance() -> dict[str, Any]:
    """Return machine, processor, versions, commit, time and load as JSON-ready values."""
    return {
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "denoscope": installed("denoscope") or "unknown",
        "git": git_commit(Path(__file__)),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu": cpu_name(),
        "cores": cores(),
        "load_average_1min": load_average(),
        "packages": {name: found for name in _PACKAGES if (found := installed(name)) is not None},
        "command": sys.argv[1:],
    }
