"""Rows of the raw-safety benchmark, each a real session in a separate process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from acquisition.conftest import QUICK, ROOT, environment
from support.skips import needs

needs("pycromanager", "micromanager")
pytestmark = [pytest.mark.micromanager, pytest.mark.timeout(600)]


ROWS = ("interrupt", "kill", "overflow")
# By default `test_lane`, `test_messages` and `test_goes_on` do the same in their own process. Where nothing goes
# wrong (the row "plain"), `test_shell` records from a core.
SLOW_ROWS = ("slow", "raises", "terminate", "disk-full", "disk-low")
Result = dict[str, Any]
Row = Callable[..., Result]


def run_rows(bundle: Path, names: Sequence[str]) -> dict[str, Result]:
    script = ROOT / "benchmarks" / "raw_safety.py"
    rows = [word for name in names for word in ("--row", name)]
    done = subprocess.run(
        [sys.executable, script, *("--json", "--jobs", "3"), "--bundle", bundle, "--backend", QUICK, *rows],
        capture_output=True,
        text=True,
        timeout=560,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {result["row"]: result for result in json.loads(done.stdout)}


@pytest.fixture(scope="module")
def row(bundle: Path) -> Row:
    """Run every row of a kind, several at a time: they wait for cameras more than they compute.

    A row that is not `in_time` on a busy computer is run once more, alone.
    """
    results: dict[str, Result] = {}

    def checked(name: str, in_time: Callable[[Result], bool] = lambda _: True) -> Result:
        if name not in results:
            results.update(run_rows(bundle, ROWS if name in ROWS else SLOW_ROWS))
        result = results[name]
        if "skipped" in result:
            pytest.skip(result["skipped"])
        if not in_time(result):
            result = run_rows(bundle, [name])[name]
        assert result["exit_code"] == result["expected_exit_code"], result
        assert result["in_order"], result
        assert result["bit_exact"], result
        assert result["balanced"], result
        assert result["readable"] - result["sidecar"] in (0, 1), result
        return result

    return checked


@pytest.mark.slow
def test_a_slow_denoiser_costs_no_raw_frame(row: Row) -> None:
    result = row("slow")
    assert result["readable"] == 240
    assert result["dropped"]["overrun"] > 0


@pytest.mark.slow
def test_a_failing_denoiser_costs_no_raw_frame(row: Row) -> None:
    result = row("raises")
    assert result["readable"] == 240
    assert result["dropped"]["denoiser failed"] > 180
    assert "frame 50 was one too many" in result["message"]


@pytest.mark.parametrize("name", ["interrupt", pytest.param("terminate", marks=pytest.mark.slow)])
def test_an_interruption_ends_cleanly(row: Row, name: str) -> None:
    result = row(name)
    assert result["missing"] == 0
    assert result["readable"] > 60
    assert result["reason"] == "interrupted"


def test_a_kill_loses_less_than_a_second(row: Row) -> None:
    result = row("kill", in_time=lambda found: found["age_s"] < 1)
    assert result["readable"] > 60
    assert 0 <= result["age_s"] < 1


@pytest.mark.slow
def test_a_full_disk_is_said_and_accounted_for(row: Row) -> None:
    result = row("disk-full")
    assert result["readable"] > 60
    assert result["missing"] == 0  # what the disk did not take was saved elsewhere
    assert f"{result['readable']} frames before it are complete" in result["message"]
    assert result["reason"] == "raw_write_failed"


@pytest.mark.slow
def test_a_disk_that_fills_ends_the_recording_before(row: Row) -> None:
    result = row("disk-low")
    assert result["missing"] == 0
    assert result["reason"] == "disk_low"
    assert "MB are free" in result["message"]


def test_an_overflow_is_loud_and_what_was_buffered_is_kept(row: Row) -> None:
    result = row("overflow")
    assert result["missing"] == 0
    assert result["reason"] == "core_overflow"
    assert "raise `buffer_mb`" in result["message"]
