"""`denoscope denoise` with a memory of both sides of time: the same bits however the work is cut, resumed or shared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from denoscope.acquisition.denoisers.kept_bundle import bundle_of
from denoscope.acquisition.denoisers.local import DenoiserRequest, LocalDenoiser
from denoscope.acquisition.offline.chunks import Cut, run_chunk
from denoscope.acquisition.results import SessionProvenance
from denoscope.runtime import FrameMeta, InvalidInput, Stream, calibrate_stream
from denoscope.runtime.stream.residuals.deviation import DeviationFactor
from support.plain_results import denoise_movie
from support.tiny_bundle import tiny_bundle

from .conftest import Run

CUT = {"chunk": 16, "warm_up": 6}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "both.denoscope"
    tiny_bundle(folder, intensity=None, calibration_frames=8, two_sided=True)
    return folder


@pytest.fixture(scope="module", params=["still", "holes", "moving", "flicker"])
def recording(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Movies that streams treat differently: still, with NaN, of a scene that moves, under a light that changes."""
    rng = np.random.default_rng(5)
    rows, columns = np.indices((120, 120))
    scene = 120 + 80 * np.sin(rows / 5) * np.cos(columns / 7) + 60 * rng.random((120, 120))
    steps = (
        np.cumsum(rng.integers(-1, 2, (40, 2)), axis=0)
        if request.param == "moving"
        else np.zeros((40, 2), int)
    )
    light = 1 + 0.3 * (np.arange(40) % 3 == 1) if request.param == "flicker" else np.ones(40)
    views = [scene[30 + y : 78 + y, 30 + x : 86 + x] for y, x in np.clip(steps, -20, 20)]
    movie = rng.poisson(np.stack(views) * light[:, None, None]).astype(np.uint16)
    if request.param == "holes":
        movie = movie.astype(np.float32)
        movie[:, :3] = np.nan
        movie[[11, 25], 20:30, 20:30] = np.nan
        movie[30] = np.nan
    path = tmp_path_factory.mktemp("movies") / f"{request.param}.tif"
    tifffile.imwrite(path, movie)
    return path


@pytest.mark.parametrize(("block", "written"), [(256, 16), (8, 24)])
def test_an_interruption_changes_no_bit(
    both: Path, recording: Path, tmp_path: Path, block: int, written: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames that waited for their slow residual are denoised again."""
    monkeypatch.setattr("denoscope.runtime.stream.residuals.slow_residual._BLOCK", block)
    whole, out, stop = tmp_path / "whole.tif", tmp_path / "out.tif", 29
    denoise_movie(recording, whole, bundle=str(both), **CUT)

    def interrupt(done: int, _total: int) -> None:
        if done == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        denoise_movie(recording, out, bundle=str(both), on_frame=interrupt, **CUT)
    result = denoise_movie(recording, out, bundle=str(both), resume=True, **CUT)
    assert (result["resumed_from"], result["frames"]) == (written, 40)
    np.testing.assert_array_equal(tifffile.imread(out), tifffile.imread(whole))


@pytest.mark.parametrize("recording", ["moving"], indirect=True)
def test_an_interruption_changes_no_deviation(
    both: Path, recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They depend on what the first frames of a chunk show, so that these are denoised again."""
    monkeypatch.setattr("denoscope.acquisition.offline.chunks.LEARNED_FROM", 4)
    # Short blocks of the slow residual, or all frames would be denoised again for that.
    monkeypatch.setattr("denoscope.runtime.stream.residuals.slow_residual._BLOCK", 8)
    learned: list[int] = []
    learn = DeviationFactor.learn

    def counted(self: DeviationFactor, *given: Any) -> None:
        learn(self, *given)
        self.factor = 1.5 + 0.01 * len(learned)
        learned.append(1)

    monkeypatch.setattr(DeviationFactor, "learn", counted)

    def denoise(name: str, stop: int | None = None, *, resume: bool = False) -> npt.NDArray[np.float32]:
        def interrupt(done: int, _total: int) -> None:
            if done == stop:
                raise KeyboardInterrupt

        learned.clear()
        out, std = tmp_path / f"{name}.tif", tmp_path / f"{name}-std.tif"
        denoise_movie(
            recording, out, std=std, bundle=str(both), on_frame=interrupt, resume=resume, chunk=40, warm_up=6
        )
        return tifffile.imread(std)

    whole = denoise("whole")
    followed = len(learned)
    with pytest.raises(KeyboardInterrupt):
        denoise("out", 21)
    np.testing.assert_array_equal(denoise("out", resume=True), whole)
    assert len(learned) == followed
    assert followed == 4


def test_chunks_by_streams_of_their_own_are_those_of_one(both: Path, recording: Path, tmp_path: Path) -> None:
    """As a cluster does them: in any order, each by a stream that knows intensity and motion."""
    frames = tifffile.imread(recording)
    denoise_movie(recording, tmp_path / "whole.tif", bundle=str(both), **CUT)
    whole = tifffile.imread(tmp_path / "whole.tif")
    with Stream(both) as stream:
        calibrate_stream(stream, frames)
        known = {"intensity": stream.intensity, "align": stream.tracks_motion, "scanner": stream.scanner}
    for chunk in reversed(list(Cut(len(frames), 16, 6))):
        with Stream(both, **known) as stream:
            for out in run_chunk(stream, frames, chunk):
                np.testing.assert_array_equal(out.frame, whole[out.meta.number])


def test_a_chunk_knows_what_comes_after_it(both: Path, tmp_path: Path) -> None:
    """As far as its warm-up reaches, and with frames enough as one stream over the whole movie."""
    movie = np.random.default_rng(2).poisson(150, (40, 48, 56)).astype(np.float32)
    tifffile.imwrite(tmp_path / "movie.tif", movie)

    def denoised(name: str, **cut: int) -> npt.NDArray[np.float32]:
        denoise_movie(tmp_path / "movie.tif", tmp_path / name, bundle=str(both), **cut)
        return tifffile.imread(tmp_path / name)

    one, cut = denoised("one.tif"), denoised("cut.tif", chunk=8, warm_up=32)
    np.testing.assert_allclose(cut, one, atol=0.05)
    with Stream(both) as stream:
        calibrate_stream(stream, movie)
        outputs = []
        for number, frame in enumerate(movie):
            outputs += stream.push(frame, FrameMeta(number, 0.0))
        outputs += stream.flush()
    one_sided = np.stack([output.frame for output in outputs])
    assert np.abs(one_sided[5:30] - one[5:30]).mean() > 0.1
    np.testing.assert_allclose(one_sided[37:], one[37:], atol=1e-3)


def test_it_is_no_bundle_for_a_recording(both: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"record with the bundle live, then denoise the run with it"):
        LocalDenoiser(DenoiserRequest(str(both)))
    with pytest.raises(InvalidInput, match=r"cannot continue what a session began: leave `bundle` out"):
        bundle_of(tmp_path, SessionProvenance(), str(both))


def test_a_run_folder_needs_no_output(
    denoscope: Run, both: Path, bundle: Path, movie: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = (
        "live",
        "--core",
        f"replay:{movie}",
        "--bundle",
        bundle,
        "--output",
        run,
        "--backend",
        "onnxruntime-cpu",
        *("--denoiser", "thread", "--fps", 500, "--no-picture"),
    )
    done = denoscope(*words)
    assert done.returncode == 0, done.stderr
    before = (run / "denoised.ome.tif").read_bytes()
    done = denoscope("denoise", run, "--bundle", both)
    assert done.returncode == 0, done.stderr
    assert tifffile.imread(run / "denoised_recorded.ome.tif").shape == tifffile.imread(movie).shape
    assert (run / "denoised.ome.tif").read_bytes() == before
    refused = denoscope("denoise", movie, "--bundle", both)
    assert refused.returncode == 2
    assert "only a run folder needs none" in " ".join(refused.stderr.split())
