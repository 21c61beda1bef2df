"""Rows of the fault matrix, each a real session in a separate process; the whole of it is a benchmark."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from acquisition.conftest import ROOT, environment
from support.skips import needs

pytestmark = [pytest.mark.micromanager, pytest.mark.slow, pytest.mark.timeout(600)]

# Those of test_raw_safety.py and test_denoiser_process.py are not run again.
ROWS = (
    "denoiser-stalls-2s",
    "denoiser-killed",
    "denoiser-raises",
    "callback-hangs",
    "trigger-hangs",
    "disk-slow",
    "disk-full-real",
    "folder-removed",
    "source-lost",
    "number-gap",
    "wrong-shape",
    "bad-requests",
    "sidecar-error",
    "reader-closed",
    "fill-missing",
    "kill-9",
)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> dict[str, dict[str, Any]]:
    """Every row, several at a time: they wait for cameras more than they compute."""
    needs("pycromanager", "micromanager")
    output = tmp_path_factory.mktemp("faults") / "results.json"
    script = ROOT / "benchmarks" / "fault_matrix.py"
    rows = [word for name in ROWS for word in ("--row", name)]
    options = ["--bundle", bundle, "--kills", "2", "--jobs", "4", "--json", "--output", output]
    done = subprocess.run(
        [sys.executable, script, *rows, *map(str, options)],
        capture_output=True,
        text=True,
        timeout=560,
        env=environment(),
        check=False,
    )
    assert output.exists(), done.stderr
    found = {result["row"]: result for result in json.loads(output.read_text())["rows"]}
    assert set(found) == set(ROWS), done.stderr
    return found


@pytest.mark.parametrize("name", ROWS)
def test_no_fault_costs_a_raw_frame(results: dict[str, dict[str, Any]], name: str) -> None:
    result = results[name]
    if "skipped" in result:
        pytest.skip(result["skipped"])
    assert result["ok"], result


def test_a_full_disk_says_what_it_cost(results: dict[str, dict[str, Any]]) -> None:
    result = results["disk-full-real"]
    if "skipped" in result:
        pytest.skip(result["skipped"])
    assert f"{result['readable'] - result['rescued']} frames before it are complete" in result["told"]
    assert result["rescued"]
    assert result["missing"] == 0
