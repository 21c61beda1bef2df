"""The rows of the raw-safety benchmark, each a real session in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from acquisition.conftest import ROOT, environment

pytest.importorskip("pycromanager", reason="needs the extra 'micromanager'")
pytestmark = pytest.mark.micromanager


def row(name: str, bundle: Path) -> dict[str, Any]:
    command = [
        sys.executable,
        ROOT / "benchmarks" / "raw_safety.py",
        "--json",
        "--row",
        name,
        "--bundle",
        bundle,
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=environment(), check=False
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)[0]
    if "skipped" in result:
        pytest.skip(result["skipped"])
    assert result["exit_code"] == result["expected_exit_code"], result
    assert result["in_order"], result
    assert result["bit_exact"], result
    assert result["balanced"], result
    assert result["readable"] - result["sidecar"] in (0, 1), result
    return result


def test_plain(bundle: Path) -> None:
    result = row("plain", bundle)
    assert result["readable"] == result["denoised"] == 240
    assert result["dropped"] == {}


def test_a_slow_denoiser_costs_no_raw_frame(bundle: Path) -> None:
    result = row("slow", bundle)
    assert result["readable"] == 240
    assert result["dropped"]["overrun"] > 0


def test_a_failing_denoiser_costs_no_raw_frame(bundle: Path) -> None:
    result = row("raises", bundle)
    assert result["readable"] == 240
    assert result["dropped"]["denoiser failed"] > 180
    assert "frame 50 was one too many" in result["message"]


@pytest.mark.parametrize("name", ["interrupt", "terminate"])
def test_an_interruption_ends_cleanly(bundle: Path, name: str) -> None:
    result = row(name, bundle)
    assert result["missing"] == 0
    assert result["readable"] > 60
    assert result["reason"] == "interrupted"


def test_a_kill_loses_less_than_a_second(bundle: Path) -> None:
    result = row("kill", bundle)
    assert result["readable"] > 60
    assert 0 <= result["age_s"] < 1


def test_a_full_disk_is_said_and_accounted_for(bundle: Path) -> None:
    result = row("disk-full", bundle)
    assert result["readable"] > 60
    assert f"{result['readable']} frames before it are complete" in result["message"]
    assert result["reason"] == "raw_write_failed"


def test_a_disk_that_fills_ends_the_recording_before(bundle: Path) -> None:
    result = row("disk-low", bundle)
    assert result["missing"] == 0
    assert result["reason"] == "disk_low"
    assert "MB are free" in result["message"]


def test_an_overflow_is_loud_and_what_was_buffered_is_kept(bundle: Path) -> None:
    result = row("overflow", bundle)
    assert result["missing"] == 0
    assert result["reason"] == "core_overflow"
    assert "raise `buffer_mb`" in result["message"]
