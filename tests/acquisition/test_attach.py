"""Following pymmcore-plus: the acquisition is the one without us, whatever happens on our side."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from acquisition.conftest import environment
from denoscope.acquisition import attach
from denoscope.runtime import InvalidInput
from support.skips import needs

FRAMES = 30


def script(folder: Path, mode: str, bundle: Path) -> dict[str, Any]:
    needs("pymmcore_plus", "micromanager")
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("attach_peer.py"), folder, mode, bundle],
        capture_output=True,
        text=True,
        timeout=280,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout) if done.stdout.strip() else {}


@pytest.fixture(scope="module")
def without_us(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Any:
    folder = tmp_path_factory.mktemp("without") / "run"
    script(folder, "none", bundle)
    frames = np.load(folder / "frames.npy")
    assert len(frames) == FRAMES
    return frames


@pytest.mark.micromanager
@pytest.mark.parametrize("mode", ["plain", pytest.param("raises", marks=pytest.mark.slow), "killed"])
def test_an_acquisition_is_the_one_without_us(
    tmp_path: Path, bundle: Path, without_us: Any, mode: str
) -> None:
    for name in ("run", "again", "and again"):
        run = tmp_path / name
        result = script(run, mode, bundle)
        np.testing.assert_array_equal(np.load(run / "frames.npy"), without_us)
        # On a busy computer the denoiser may not be done in the seconds that the end gives it.
        if mode != "plain" or result["report"]["frames"]["denoised"] == FRAMES:
            break
    assert result["seen"] == FRAMES == result["sent"] + sum(result["dropped"].values())
    if mode == "plain":
        assert result["dropped"] == {}
        report = result["report"]
        assert report["frames"]["denoised"] == FRAMES
        assert [(each["channel"], each["received"]) for each in report["streams"]] == [
            ("DAPI", 15),
            ("FITC", 15),
        ]
        assert report["source"]["pixel_size_m"] == pytest.approx(1e-6)
        assert report["source"]["exposure_s"] == pytest.approx(0.01)
        np.testing.assert_array_equal(tifffile.imread(run / "denoised" / "raw.tif"), without_us)
    else:
        assert result["dropped"][{"raises": "hook failed", "killed": "denoiser ended"}[mode]] > 20
        assert result["problem"]


@pytest.mark.micromanager
def test_a_sequence_is_looked_at_and_left_in_the_buffer(tmp_path: Path, bundle: Path) -> None:
    result = script(tmp_path / "run", "sequence", bundle)
    popped = np.load(tmp_path / "run" / "frames.npy")
    assert len(popped) == 40
    report = result["report"]
    assert report["frames"]["received"] + report["frames"]["missing_numbers"] == 40
    recorded = tifffile.imread(tmp_path / "run" / "denoised" / "raw.tif")
    if len(recorded) == 40:
        np.testing.assert_array_equal(recorded, popped)
    else:  # a busy machine may have looked too late for some, never wrongly
        assert all(any(np.array_equal(frame, each) for each in popped) for frame in recorded)


def test_another_core_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="CMMCorePlus"):
        attach(object(), output=tmp_path)
