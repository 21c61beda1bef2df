"""Movies with NaN borders, as motion correction leaves them: denoised, recorded, resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from denoscope.acquisition import make_settings
from denoscope.acquisition.notes.nan_count import NanCount
from denoscope.runtime import InvalidInput
from support.plain_results import denoise_movie, live
from support.tiny_bundle import tiny_bundle

from .conftest import Run

CUT = {"chunk": 16, "warm_up": 6}


@pytest.fixture(scope="module")
def unfrozen(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A bundle that leaves the intensity to the movie."""
    folder = tmp_path_factory.mktemp("bundle") / "unfrozen.denoscope"
    tiny_bundle(folder, intensity=None, calibration_frames=8)
    return str(folder)


def corrected(count: int = 40) -> npt.NDArray[np.float32]:
    """Return a movie with borders that differ from frame to frame, a frame of NaN, and one infinite pixel."""
    rng = np.random.default_rng(8)
    frames = rng.poisson(9, (count, 40, 44)).astype(np.float32) * 5 + 50
    for frame in frames:
        top, left = rng.integers(1, 4, 2)
        frame[:top], frame[:, :left] = np.nan, np.nan
    frames[0] = frames[21] = np.nan
    frames[25, 20, 20] = np.inf
    return frames


def test_a_movie_with_nan_is_denoised_and_its_pixels_are_counted(
    denoscope: Run, unfrozen: str, tmp_path: Path
) -> None:
    frames = corrected()
    tifffile.imwrite(tmp_path / "movie.tif", frames)
    options = ("--bundle", unfrozen, "--output", tmp_path / "out.tif", "--std", tmp_path / "std.tif")
    done = denoscope("denoise", tmp_path / "movie.tif", *options)
    assert done.returncode == 0, done.stderr
    holes = ~np.isfinite(frames)
    for name in ("out.tif", "std.tif"):
        np.testing.assert_array_equal(np.isnan(tifffile.imread(tmp_path / name)), holes)
    count = f"{np.count_nonzero(holes):,} pixels that are NaN or infinite"
    assert f"{count} in the raw movie are NaN in the denoised movie, among them 2 whole frames" in done.stdout


def test_a_resumed_run_gives_the_same_bits_and_counts(unfrozen: str, tmp_path: Path) -> None:
    movie = tmp_path / "movie.tif"
    tifffile.imwrite(movie, corrected())
    whole = denoise_movie(movie, tmp_path / "whole.tif", bundle=unfrozen, **CUT)

    def stop(done: int, _total: int) -> None:
        if done == 23:
            raise KeyboardInterrupt

    out = tmp_path / "out.tif"
    with pytest.raises(KeyboardInterrupt):
        denoise_movie(movie, out, bundle=unfrozen, on_frame=stop, **CUT)
    resumed = denoise_movie(movie, out, bundle=unfrozen, resume=True, **CUT)
    assert resumed["resumed_from"] == 23
    assert resumed["notes"] == whole["notes"]
    np.testing.assert_array_equal(tifffile.imread(out), tifffile.imread(tmp_path / "whole.tif"))


@pytest.mark.parametrize("denoiser", ["thread", "process"])
def test_a_session_keeps_nan_bit_for_bit_in_raw_and_as_nan_in_what_is_denoised(
    unfrozen: str, tmp_path: Path, denoiser: str
) -> None:
    frames = corrected()
    frames.view(np.uint32)[5, 0, 0] = 0x7FC12345  # a NaN that carries a number
    movie = tmp_path / "movie.tif"
    tifffile.imwrite(movie, frames)
    settings: dict[str, Any] = {"finish_s": 60.0, "denoiser": denoiser, "lag_s": 60.0}
    report = live(
        make_settings(core=f"replay:{movie}", output=tmp_path / "run", bundle=unfrozen, frames=40, **settings)
    )
    raw = tifffile.imread(tmp_path / "run" / "raw.tif")
    np.testing.assert_array_equal(raw.view(np.uint32), frames.view(np.uint32))
    holes = ~np.isfinite(frames)
    np.testing.assert_array_equal(np.isnan(tifffile.imread(tmp_path / "run" / "denoised.ome.tif")), holes)
    notes = report["outcome"]["notes"]
    assert any(f"{np.count_nonzero(holes):,} pixels that are NaN" in note for note in notes), notes


def test_a_movie_of_nothing_but_nan_is_refused(unfrozen: str, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "movie.tif", np.full((20, 32, 32), np.nan, np.float32))
    with pytest.raises(InvalidInput, match="the 20 frames of the movie hold nothing but NaN"):
        denoise_movie(tmp_path / "movie.tif", tmp_path / "out.tif", bundle=unfrozen)


def test_only_floats_are_counted() -> None:
    count = NanCount()
    count.add(np.zeros((4, 4), np.uint16))
    count.add(np.zeros((4, 4), np.float32))
    assert count.note() is None
    count.add(np.array([[0, np.nan]], np.float32))
    assert count.note() == ("1 pixel that is NaN or infinite in the raw movie is NaN in the denoised movie")
