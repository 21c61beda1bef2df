"""Exposure and region change while a real core records."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from denoscope.acquisition import read_raw
from support.skips import needs

from .conftest import ROOT, environment

needs("pycromanager", "micromanager")
pytestmark = [pytest.mark.micromanager, pytest.mark.slow]


def test_what_changes_in_mid_run_is_recorded_and_nothing_is_lost(tmp_path: Path) -> None:
    environ = environment()
    environ["PYTHONPATH"] = (
        f"{ROOT / 'tests'}{';' if sys.platform == 'win32' else ':'}{environ['PYTHONPATH']}"
    )
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "acquisition" / "core_changes.py", tmp_path],
        capture_output=True,
        text=True,
        timeout=250,
        env=environ,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    recording = read_raw(tmp_path / "run")
    frames = report["frames"]
    # MMCore stops the sequence when the region changes; everything before is there.
    assert frames["received"] == frames["written_raw"] == len(recording) >= 70
    assert frames["denoised"] == frames["received"]
    assert report["outcome"]["reason"] == "source_ended"
    assert any(
        "the camera's frames were 128x128 pixels and are 48x64 now" in n for n in report["outcome"]["notes"]
    )
    (change,) = report["changes"]
    assert (change["what"], change["old"], change["new"]) == ("exposure", "10", "5")
    exposures = [record["tags"]["Exposure-ms"] for record in recording.records]
    assert exposures == ["10"] * change["frame"] + ["5"] * (len(recording) - change["frame"])
    assert 20 <= change["frame"] < 70
