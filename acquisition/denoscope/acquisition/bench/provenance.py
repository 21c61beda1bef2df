"""Computer and versions that a benchmark was run with."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from denoscope.acquisition.diagnostics.machine import cores, cpu_name, installed, load_average

from .results import BenchmarkProvenance, Commit, CoreCount

__all__ = ["git_commit", "provenance"]

_PACKAGES = ("numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "openvino", "pydantic", "safetensors")
_GIT_S = 10


def git_commit(file: Path) -> Commit | None:
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
    return Commit(commit=commit, changed=bool(changed)) if commit else None


def provenance() -> BenchmarkProvenance:
    """Return machine, processor, versions, commit, time and load."""
    return BenchmarkProvenance(
        created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        denoscope=installed("denoscope") or "unknown",
        git=git_commit(Path(__file__)),
        python=platform.python_version(),
        platform=platform.platform(),
        machine=platform.machine(),
        cpu=cpu_name(),
        cores=CoreCount.model_validate(cores()),
        load_average_1min=load_average(),
        packages={name: found for name in _PACKAGES if (found := installed(name)) is not None},
        command=sys.argv[1:],
    )
