"""Sentences about disk and camera before the camera is armed, and refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from denoscope.acquisition import Frame, SourceInfo, make_settings, read_raw
from denoscope.acquisition.errors import DiskTooSlow, NoDiskSpace
from denoscope.acquisition.raw import disk as disk_module
from denoscope.acquisition.raw.disk import write_speed
from denoscope.acquisition.session.opening import forecast as module
from denoscope.acquisition.session.opening.forecast import Forecast, Load, make_forecast, refused
from support.plain_results import live
from support.skips import needs
from support.tiny_bundle import tiny_bundle

from .conftest import Run
from .test_routing import Listed

# 8.4 MB a frame: the 840 MB/s of a common scientific camera at 100 frames/s.
LARGE = SourceInfo("config", "a.cfg", "Cam", (2048, 2048), np.dtype(np.uint16), exposure_s=0.01)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """A disk that takes and holds so much."""
    values = {"speed": 620e6, "free": 1e12, "probed": 0}

    def speed(_folder: Path, _size: int, enough: float) -> float:
        values["probed"] += 1
        values["enough"] = enough
        return values["speed"]

    monkeypatch.setattr(module, "write_speed", speed)
    monkeypatch.setattr(module, "free_bytes", lambda _folder: int(values["free"]))
    return values


def forecast(source: SourceInfo = LARGE, **more: Any) -> Forecast:
    given: dict[str, Any] = {"frames": None, "seconds": None, "camera_fps": None, "patient": False}
    given |= {"reserve": 200_000_000, "memory": 768 * 2**20}
    load = more.pop("load", Load())
    return make_forecast(Path(), source, load, **{**given, **more})


def test_a_disk_that_is_too_slow(disk: dict[str, float]) -> None:
    found = forecast()
    assert found.camera_bytes_per_s == pytest.approx(839e6, rel=0.01)
    assert found.problem is not None
    assert "at most 1678 MB/s (2048x2048 uint16 at 100 frames/s, raw and denoised), this disk takes 620" in (
        found.problem
    )
    # 768 MiB of frames at (1 - 620 / 1678) of 839 MB/s.
    assert "memory is full after 1.52 seconds" in found.problem
    assert "`camera_fps`" in found.problem
    error = refused(found)
    assert isinstance(error, DiskTooSlow)
    assert str(error).endswith("`force` records anyway.")


def test_a_camera_that_is_slower_than_its_exposure(disk: dict[str, float]) -> None:
    found = forecast(camera_fps=30)
    assert found.problem is None
    assert found.rate_from == "user"
    assert found.lasts_s == pytest.approx((1e12 - 2e8) / (30 * 16.78e6), rel=0.01)
    assert found.sentence == (
        "camera 252 MB/s; raw + denoised 503 MB/s; disk 620 MB/s (37 frames/s); room for 33.1 minutes (1000 GB free)"
    )


def test_the_deviation_is_written_too(disk: dict[str, float]) -> None:
    assert forecast(camera_fps=30, load=Load(std=True)).written_bytes_per_s == pytest.approx(
        1.006e9, rel=0.01
    )
    assert "raw, denoised and deviation" in str(forecast(camera_fps=30, load=Load(std=True)).problem)


def test_what_fits_into_memory_needs_no_fast_disk(disk: dict[str, float]) -> None:
    disk["speed"] = 1e6
    assert forecast(frames=90).problem is None
    assert disk["probed"] == 0
    assert forecast(frames=2000).problem is not None
    # A slow disk that falls behind little enough until the end.
    disk["speed"] = 1.6e9
    assert forecast(frames=500).problem is None


def test_frames_that_can_wait_need_no_fast_disk(disk: dict[str, float]) -> None:
    disk["speed"] = 1.0
    assert forecast(patient=True).problem is None
    assert disk["probed"] == 0


def test_a_camera_of_unknown_rate(disk: dict[str, float]) -> None:
    found = forecast(replace(LARGE, exposure_s=None))
    assert found.problem is None
    assert found.sentence.startswith("frame rate of the camera not known; disk 620 MB/s")
    assert found.lasts_s is None
    assert found.measured(30) is None
    assert "the camera sends 60 frames/s, which become 1007 MB/s" in str(found.measured(60))


@pytest.mark.parametrize("more", [{"frames": 100_000}, {"seconds": 1000.0}])
def test_a_disk_that_is_too_full(disk: dict[str, float], more: dict[str, Any]) -> None:
    found = forecast(**more)
    assert found.problem is not None
    assert "100000 frames of 2048x2048 uint16, raw and denoised, need 1678 GB" in found.problem
    assert isinstance(refused(found), NoDiskSpace)
    assert disk["probed"] == 0


def test_the_disk_is_left_as_it_was(tmp_path: Path) -> None:
    assert write_speed(tmp_path, 5 * 2**20) > 0
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_fast_enough_by_far_is_measured_no_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces: list[int] = []
    monkeypatch.setattr(disk_module, "confirm", pieces.append)
    write_speed(tmp_path, 60 * 2**20, enough=1.0)
    assert len(pieces) == 1
    write_speed(tmp_path, 12 * 2**20)
    assert len(pieces) > 2, "a disk is measured on where nothing is said"


def test_a_session_says_when_the_disk_was_found_fast_enough_by_far(disk: dict[str, float]) -> None:
    small = replace(LARGE, shape=(64, 64))
    needed = forecast(small).written_bytes_per_s
    assert needed is not None
    assert disk["enough"] == pytest.approx(10 * needed)
    assert "; disk over 620 MB/s (" in forecast(small).sentence
    assert forecast(replace(small, exposure_s=None)).sentence.count("; disk 620 MB/s (") == 1
    assert disk["enough"] == np.inf


class Fast(Listed):
    patient = False

    def open(self) -> SourceInfo:
        return replace(super().open(), frame_rate_hz=1e9)


def test_nothing_is_recorded_unless_somebody_answers_for_it(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "tiny.denoscope", intensity=None, calibration_frames=8)
    frames = [Frame(np.full((48, 56), n, np.uint16), n, float(n), "Cam", {}) for n in range(12)]
    values = {
        "core": "demo",
        "bundle": str(tmp_path / "tiny.denoscope"),
        "picture": False,
        "denoiser": "thread",
    }
    settings = make_settings(output=tmp_path / "refused", **values)
    with pytest.raises(DiskTooSlow, match="`force` records anyway"):
        live(settings, source=Fast(frames))
    assert not (tmp_path / "refused").exists()
    seen: list[Forecast] = []

    def arm(found: Forecast) -> bool:
        seen.append(found)
        return True

    for name, given in (("forced", {"force": True}), ("answered", {})):
        settings = make_settings(output=tmp_path / name, **values, **given)
        report = live(settings, source=Fast(frames), arm=arm if name == "answered" else None)
        assert report["frames"]["received"] == 12 == len(read_raw(tmp_path / name))
        assert report["forecast"]["problem"] is not None
    assert seen[0].rate_hz == 1e9
    log = (tmp_path / "forced" / "log.jsonl").read_text()
    assert '"event": "forecast"' in log


def test_the_shell_says_the_forecast(
    bundle: Path, tmp_path: Path, denoscope: Run, denoscope_process: Run
) -> None:
    needs("pycromanager", "micromanager")
    tifffile.imwrite(tmp_path / "large.tif", np.zeros((2, 1000, 1000), np.uint16))
    words = ["live", "--core", "demo", "--movie", tmp_path / "large.tif", "--bundle", bundle]
    words += ["--output", tmp_path / "run", "--no-picture", "--denoiser", "thread"]
    refused = denoscope(*words, "--fps", 10_000)
    assert refused.returncode == 2
    assert "this camera writes 40" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()
    done = denoscope_process(*words, "--fps", 20, "--frames", 10, "--json")
    assert done.returncode == 0, done.stderr
    assert "Camera 40 MB/s; raw + denoised 80 MB/s" in done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["forecast"]["rate_from"] == "source"
