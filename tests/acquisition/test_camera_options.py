"""Calibration maps named on the command line: denoised in photo-electrons, and said in the results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from denoscope.acquisition.denoisers.converting import ConvertingDenoiser, load_camera
from denoscope.acquisition.notes.noise_check import rounding_note
from denoscope.runtime import CameraCalibration, FrameMeta, Intensity, InvalidInput, StreamCounters, StreamKey
from denoscope.train import movie_from_file
from support.plain_results import check_noise

from .conftest import Run

SHAPE = (64, 72)


@pytest.fixture
def recorded(tmp_path: Path) -> tuple[Path, Path, Path, npt.NDArray[np.float64]]:
    """A movie of a camera with a strong fixed pattern, and the larger camera's maps."""
    rng = np.random.default_rng(0)
    gain, offset = rng.uniform(1, 3, (80, 100)), rng.normal(200, 20, (80, 100))
    light = np.broadcast_to(np.linspace(5, 40, SHAPE[1]), SHAPE)
    area = np.s_[10:74, 20:92]
    frames = rng.poisson(np.broadcast_to(light, (40, *SHAPE))) * gain[area] + offset[area]
    np.save(tmp_path / "gain.npy", gain)
    tifffile.imwrite(tmp_path / "offset.tif", offset.astype(np.float32))
    tifffile.imwrite(tmp_path / "movie.tif", np.rint(frames).astype(np.uint16), photometric="minisblack")
    return tmp_path / "movie.tif", tmp_path / "gain.npy", tmp_path / "offset.tif", light


def test_denoise_works_in_photo_electrons(
    denoscope: Run, recorded: tuple[Path, Path, Path, npt.NDArray[np.float64]], tmp_path: Path
) -> None:
    movie, gain, offset, light = recorded
    output = tmp_path / "denoised.ome.tif"
    command = ["denoise", movie, "--output", output, "--json"]
    command += ["--camera-gain", gain, "--camera-offset", offset]
    refused = denoscope(*command)
    assert refused.returncode == 2
    assert "frames are 64 x 72 and the calibration maps 80 x 100" in " ".join(refused.stderr.split())

    done = denoscope(*command, "--camera-roi", "20,10,72,64")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    camera = result["denoiser"]["camera"]
    assert (camera["source"], camera["height_px"]) == ("gain.npy, offset.tif at 20,10", 64)
    assert result["noise"]["kind"] == "white"
    frames = tifffile.imread(output)
    assert (frames.dtype, frames.shape) == (np.float32, (40, *SHAPE))
    assert frames[10:].mean() == pytest.approx(light.mean(), rel=0.02)
    assert np.abs(frames[30] - light).mean() < 2


def test_training_movies_are_corrected(
    recorded: tuple[Path, Path, Path, npt.NDArray[np.float64]],
) -> None:
    movie, gain, offset, _ = recorded
    camera = load_camera(gain, offset, "20,10,72,64")
    loaded = movie_from_file(movie, camera=camera)
    assert loaded.frames.dtype == np.float32
    assert loaded.intensity.gain == pytest.approx(1, rel=0.15)


def test_regions_are_checked(tmp_path: Path) -> None:
    np.save(tmp_path / "gain.npy", np.ones((40, 40)))
    assert load_camera(None, None, None) is None
    with pytest.raises(InvalidInput, match="crops calibration maps"):
        load_camera(None, None, "0,0,4,4")
    for roi in ("1,2,3", "a,0,1,1", "-1,0,4,4", "1.5,0,4,4"):
        with pytest.raises(InvalidInput, match="not four whole numbers"):
            load_camera(tmp_path / "gain.npy", None, roi)


def test_the_live_denoiser_is_given_photo_electrons() -> None:
    class Inner:
        counters = StreamCounters(3, 2, {}, 1)

        def __init__(self) -> None:
            self.pushed: list[tuple[Any, FrameMeta, str | None]] = []

        def push(self, frame: Any, meta: FrameMeta, *, skip: str | None = None) -> list[Any]:
            self.pushed.append((frame, meta, skip))
            return ["out"]

        def flush(self) -> list[Any]:
            return ["last"]

        def restart(self, key: StreamKey, *, recalibrate: bool) -> list[Any]:
            return [key, recalibrate]

    inner, meta = Inner(), FrameMeta(number=4, t_received_s=0.0)
    denoiser = ConvertingDenoiser(
        inner, CameraCalibration(np.full((4, 4), 2.0), np.full((4, 4), 100.0)).correct
    )
    assert denoiser.push(np.full((4, 4), 140, np.uint16), meta, skip="keep-up") == ["out"]
    frame, passed, skip = inner.pushed[0]
    assert (frame.dtype, passed, skip) == (np.float32, meta, "keep-up")
    np.testing.assert_array_equal(frame, np.full((4, 4), 20.0))
    assert denoiser.flush() == ["last"]
    assert denoiser.restart(StreamKey(channel=2), recalibrate=True) == [StreamKey(channel=2), True]
    assert denoiser.counters is inner.counters


def test_correlated_noise_is_said() -> None:
    rng = np.random.default_rng(1)
    white = rng.poisson(20, (40, 64, 64)).astype(np.uint16)
    found = check_noise(white)
    assert found is not None
    assert (found["kind"], found["warning"]) == ("white", None)
    found = check_noise((white + np.roll(white, 1, 2)) / 2)
    assert found is not None
    assert "share some noise (correlation 0.5" in found["warning"]
    assert check_noise(white[:2]) is None


def test_saturated_pixels_are_said() -> None:
    rng = np.random.default_rng(1)
    frames = rng.poisson(2000, (40, 64, 64)).astype(np.uint16)
    frames[:, 20:23, 30:34] = 4095
    found = check_noise(frames)
    assert found is not None
    assert found["saturated"] == pytest.approx(12 / 64**2)
    assert found["warning"].startswith("0.3% of the pixels reach 4,095")
    frames[:, 0, 0] = 4096
    found = check_noise(frames)
    assert found is not None
    assert (found["saturated"], found["warning"]) == (0, None)
    frames[:, 0, :8] = 65535
    found = check_noise(frames)
    assert found is not None
    assert "0.2% of the pixels reach 65,535" in found["warning"]


def test_coarse_counts_are_said() -> None:
    def intensity(scale: float) -> Intensity:
        return Intensity(offset=100, scale=scale, noise_slope=0.5, noise_floor=1)

    note = rounding_note(intensity(1.5), np.uint16)
    assert note is not None
    assert "noise is only 1.5 counts" in note
    assert "`float32`" in note
    assert rounding_note(intensity(1.5), np.float32) is None
    assert rounding_note(intensity(20), np.uint8) is None
    assert rounding_note(intensity(12**-0.5), np.uint16) is None  # a movie that does not vary
    assert rounding_note(None, np.uint16) is None


def test_live_denoises_photo_electrons_and_keeps_raw_counts(
    denoscope: Run, recorded: tuple[Path, Path, Path, npt.NDArray[np.float64]], tmp_path: Path
) -> None:
    movie, gain, offset, light = recorded
    run = tmp_path / "run"
    command = ["live", "--core", f"replay:{movie}", "--fps", 100, "--output", run, "--no-picture"]
    command += ["--denoiser", "thread", "--camera-gain", gain, "--camera-offset", offset]
    refused = denoscope(*command)
    assert refused.returncode == 2
    assert "--camera-roi" in " ".join(refused.stderr.split())
    done = denoscope(*command, "--camera-roi", "20,10,72,64")
    assert done.returncode == 0, done.stderr
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    assert report["denoiser"]["camera"]["source"] == "gain.npy, offset.tif at 20,10"
    assert report["denoiser"]["noise"]["kind"] == "white"
    np.testing.assert_array_equal(tifffile.imread(run / "raw.tif"), tifffile.imread(movie))
    frames = tifffile.imread(run / "denoised.ome.tif")
    assert frames.dtype == np.float32
    assert frames.mean() == pytest.approx(light.mean(), rel=0.03)
