"""A bundle that gives a false picture or no numbers: the recording goes on, and every command says it, exit code 1."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from denoscope.acquisition import SessionSettings
from denoscope.runtime import NotFinite
from denoscope.runtime.stream.residuals.guard import Guard
from denoscope.train import movie_from_file
from support.changed_bundle import changed_bundle
from support.field_inputs import active_cells, counts, detected
from support.plain_results import denoise_movie, live

from .conftest import Run


@pytest.fixture
def movie(tmp_path: Path) -> Path:
    tifffile.imwrite(tmp_path / "movie.tif", counts(active_cells(40, 48, 48)[1]))
    return tmp_path / "movie.tif"


def recorded(movie: Path, bundle: Path, denoiser: str) -> dict[str, object]:
    folder = movie.parent / "run"
    live(
        SessionSettings(
            core=f"replay:{movie}",
            output=folder,
            bundle=str(bundle),
            denoiser=denoiser,
            frames=40,
            picture=False,
        )
    )
    assert (tifffile.imread(folder / "raw.tif") == tifffile.imread(movie)).all()
    report: dict[str, object] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return report


@pytest.mark.parametrize("denoiser", ["thread", pytest.param("process", marks=pytest.mark.slow)])
def test_a_recording_goes_on_where_a_bundle_gives_no_numbers(
    movie: Path, tmp_path: Path, denoiser: str
) -> None:
    changed_bundle(tmp_path / "nan.denoscope", shift=np.nan)
    report = recorded(movie, tmp_path / "nan.denoscope", denoiser)
    outcome = report["outcome"]
    assert outcome["exit_code"] == 1
    assert "denoising failed (The denoised frame" in outcome["problems"][0]
    assert report["frames"]["denoised"] == 0


@pytest.mark.parametrize("denoiser", ["thread", "process"])
def test_a_recording_says_that_a_picture_is_false(movie: Path, tmp_path: Path, denoiser: str) -> None:
    changed_bundle(tmp_path / "off.denoscope", shift=3.0)
    report = recorded(movie, tmp_path / "off.denoscope", denoiser)
    assert report["outcome"]["exit_code"] == 1
    assert any("not to be trusted" in problem for problem in report["outcome"]["problems"])
    assert report["guard"]["off"] >= 8
    assert report["guard"]["kind"] == "mean"


def test_a_recorded_movie_is_not_stored_where_a_bundle_gives_no_numbers(
    movie: Path, tmp_path: Path, denoscope: Run
) -> None:
    bundle, output = changed_bundle(tmp_path / "nan.denoscope", shift=np.nan), tmp_path / "out.tif"
    with pytest.raises(NotFinite, match="holds no numbers"):
        denoise_movie(movie, output, bundle=str(bundle.folder))
    assert not output.exists()
    done = denoscope("denoise", movie, "--output", tmp_path / "b.tif", "--bundle", bundle.folder)
    assert done.returncode == 1
    assert "holds no numbers" in done.stderr
    assert "Traceback" not in done.stderr


def test_denoise_says_that_a_picture_is_false(movie: Path, tmp_path: Path, denoscope: Run) -> None:
    bundle = changed_bundle(tmp_path / "off.denoscope", shift=3.0)
    wrong = denoise_movie(movie, tmp_path / "wrong.tif", bundle=str(bundle.folder))
    assert "not to be trusted" in wrong["untrue"]
    assert wrong["guard"]["off"] >= 8
    said = denoscope("denoise", movie, "--output", tmp_path / "said.tif", "--bundle", bundle.folder).stdout
    assert f"Problem: {wrong['untrue'].split(';')[0]}" in said
    right = denoise_movie(movie, tmp_path / "right.tif", bundle="live-fast")
    assert right["untrue"] is None
    assert right["guard"]["checked"] == 40


@pytest.mark.parametrize("stops", [(6, 12), pytest.param((39,), marks=pytest.mark.slow), (40,)])
def test_a_resumed_run_says_what_the_interrupted_one_found(
    movie: Path, tmp_path: Path, denoscope: Run, stops: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, output = changed_bundle(tmp_path / "off.denoscope", shift=3.0).folder, tmp_path / "wrong.tif"
    frames = tifffile.imread(movie)
    frames[4] = 100
    tifffile.imwrite(movie, frames)

    def interrupt(done: int, _: int) -> None:
        if done in stops:
            raise KeyboardInterrupt

    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            denoise_movie(movie, output, bundle=str(bundle), resume=stop != stops[0], on_frame=interrupt)
    # The wrong picture ends with the interruption, so what is said was found before.
    monkeypatch.setattr(Guard, "check", lambda *_: None)
    done = denoscope("denoise", movie, "--output", output, "--bundle", bundle, "--resume")
    assert done.returncode == 1
    assert "not to be trusted" in done.stdout
    assert "unusual frames: 1 dark" in done.stdout


@pytest.mark.parametrize("denoiser", ["thread", pytest.param("process", marks=pytest.mark.slow)])
def test_a_noise_fit_that_failed_is_said(tmp_path: Path, bundle: Path, denoiser: str) -> None:
    starved = tmp_path / "movie.tif"
    tifffile.imwrite(starved, detected("gamma pulses", 0.02, 40, shape=(96, 96))[2])
    report = recorded(starved, bundle, denoiser)
    notes = report["outcome"]["notes"]  # type: ignore[index]
    assert any("the noise is known less well" in note for note in notes), notes
    if denoiser == "process":
        return
    result = denoise_movie(starved, tmp_path / "out.ome.tif", bundle=str(bundle))
    assert any("the noise is known less well" in note for note in result["notes"])
    assert "the noise is known less well" in movie_from_file(starved).note
