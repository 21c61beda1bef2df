"""The benchmark for a lent GPU runs through on the processor, so that no minute of a GPU is spent on its mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.nvrtc import nvrtc

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu_session.py"


def test_a_call_that_has_no_time_left_begins_nothing_and_says_so(tmp_path: Path) -> None:
    output = tmp_path / "session.json"
    command = [sys.executable, str(SCRIPT), "--dry", "--seconds", "5", "--part", "device", "--part", "bench"]
    done = subprocess.run([*command, "--output", str(output)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert done.stdout.count("was not begun") == 2
    assert not output.exists()


@pytest.mark.slow
@pytest.mark.skipif(nvrtc() is not None, reason="the kernels cannot be compiled here")
def test_every_part_runs_dry_and_is_not_measured_twice(tmp_path: Path) -> None:
    output = tmp_path / "session.json"
    command = [sys.executable, str(SCRIPT), "--dry", "--commit", "abc", "--output", str(output)]
    first = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert first.returncode == 0, first.stdout + first.stderr
    results = json.loads(output.read_text())
    for part, entry in results.items():
        assert entry["complete"], part
        assert entry["rows"], part
        assert not [row for row in entry["rows"] if "problem" in row], part
        assert entry["commit"] == "abc"
        assert set(entry["bundles_sha256"]) == {"live", "live-fast", "live-hq"}
    second = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert second.returncode == 0
    assert second.stdout == ""
