"""The product as a user runs it: its tests that need a GPU, and `denoscope bench` through the denoiser's process."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import Plan

__all__ = ["bench_rows", "test_rows"]

_ROOT = Path(__file__).resolve().parents[2]
_TESTS = (
    "tests/acquisition/test_gpu_latency.py",
    "tests/runtime/test_own_kernels.py",
    "tests/runtime/test_onnxruntime_cuda.py",
)
_OUTCOME = re.compile(r"^(tests/\S+::.+?) (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b")
_TAIL = 60  # lines of what the tests said that are kept where one failed


def _lines(command: list[str]) -> Iterator[str]:
    """Yield what a command prints, and raise RuntimeError with its last lines where it failed."""
    last: deque[str] = deque(maxlen=_TAIL)
    with subprocess.Popen(
        command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            last.append(line.rstrip())
            yield line
    if process.returncode:
        raise RuntimeError("\n".join(last))


def test_rows(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yield the outcome of each test that needs a GPU as soon as it is there; dry, how many there are."""
    command = [sys.executable, "-u", "-m", "pytest", "-m", "gpu", "-n", "0", "-p", "no:cacheprovider"]
    command += ["--collect-only", "-q"] if plan.dry else ["-v", "--tb=short"]
    count = 0
    try:
        for line in _lines([*command, *_TESTS]):
            found = _OUTCOME.match(line)
            count += bool(found) or (plan.dry and "::" in line)
            if found:
                yield {"test": found[1], "outcome": found[2]}
    except RuntimeError as error:
        yield {"problem": "tests failed", "longest": str(error).splitlines()}
    yield {"tests": count}


def bench_rows(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yield what `denoscope bench` finds for the two bundles that the backend `cuda` runs."""
    program = "from denoscope.acquisition.cli.app import main; main()"
    size = f"{plan.size}x{plan.size}"
    with tempfile.TemporaryDirectory() as place:
        asked = ["--backend", "onnxruntime-cpu" if plan.dry else "cuda", "--size", size]
        asked += ["--bundle", "live-fast"] if plan.dry else ["--bundle", "live", "--bundle", "live-fast"]
        asked += ["--fps", "5", "--frames", "4", "--no-highest-rate"] if plan.dry else []
        output = Path(place) / "speed"
        problem = None
        try:
            for line in _lines([sys.executable, "-c", program, "bench", *asked, "--output", str(output)]):
                print(line, end="", flush=True)
        except RuntimeError as error:  # the cases that were measured before are in the file
            problem = str(error).splitlines()
        found = next(output.glob("*.json"), None)
        for case in json.loads(found.read_text(encoding="utf-8"))["cases"] if found is not None else ():
            yield {"what": case["label"], "longest": case}
        if problem is not None:
            yield {"problem": "bench failed", "longest": problem}
