"""The light budget: what half of the light would cost, against simulations in which half of it was there."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import tifffile

from denoscope.acquisition import light_budget, live
from denoscope.acquisition.offline.light_budget import _dimmed, draw_light_budget  # its noise alone
from denoscope.acquisition.results import SessionReport
from denoscope.acquisition.session.ending.summary import summary
from denoscope.runtime import FrameMeta, InvalidInput, Stream
from denoscope.train import CameraSettings, SceneSettings, simulate


def error(share: float) -> tuple[np.ndarray, float]:
    """Return a movie at a share of the light, and the denoised one's error in units of full light."""
    scene = SceneSettings(frames=80, height=64, width=64)
    movie = simulate(scene, CameraSettings(photons=4 * share, bits=16), seed=31)
    outputs = []
    with Stream("live-fast") as stream:
        for number, frame in enumerate(movie.noisy):
            outputs += stream.push(frame, FrameMeta(number=number, t_received_s=number / 30))
        outputs += stream.flush()
    denoised = np.stack([each.frame for each in outputs])[40:]
    return movie.noisy, float(np.mean((denoised - movie.clean[40:]) ** 2)) / share**2


@pytest.mark.slow
def test_the_loss_at_half_of_the_light_is_that_of_a_simulation(tmp_path: Path) -> None:
    movie, full = error(1.0)
    budget = light_budget(movie, "live-fast", pictures=True)
    half, quarter = budget.steps
    true_db = 10 * np.log10(error(0.5)[1] / full)
    assert abs(half.loss_db - true_db) < 0.5
    assert 0 < half.loss_db < quarter.loss_db < 8
    assert 3 < (budget.photons or 0) < 6
    assert "at half the light" in budget.sentence()
    draw_light_budget(budget, tmp_path / "light.png")
    assert (tmp_path / "light.png").stat().st_size > 5000


def test_a_recording_says_what_half_of_the_light_would_cost(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("denoscope.acquisition.session.live._draw_if_it_can", lambda *_: None)
    light = np.linspace(20, 400, 40)[None, None, :] * np.ones((66, 36, 1))
    movie = np.random.default_rng(5).poisson(light).astype(np.uint16)
    tifffile.imwrite(tmp_path / "movie.tif", movie)
    settings = {"core": f"replay:{tmp_path / 'movie.tif'}", "bundle": str(bundle), "fps": 500}
    report = live(**settings, output=tmp_path / "run", denoiser="thread", backend="onnxruntime-cpu")
    assert report.light is not None
    (half,) = report.light.steps
    assert half.share == 0.5
    sentence = f"At half the light the picture would lose about {half.loss_db:.1f} dB."
    assert sentence in summary(report).splitlines()
    written = SessionReport.read(tmp_path / "run")
    assert written.light is not None
    assert written.light.half() == sentence
    # Nothing is computed where no picture is asked for.
    other = live(**settings, output=tmp_path / "other", denoiser="thread", picture=False)
    assert other.light is None
    assert "half the light" not in summary(other)


@pytest.mark.parametrize("light", [0.0, 400.0])
def test_dimmed_frames_have_the_noise_of_less_light(light: float) -> None:
    photon, read, share = 2.0, 9.0, 0.5
    full = np.full((8, 64, 64), 100 + light, np.float32)
    noise = np.random.default_rng(1).normal(0, math.sqrt(photon * light + read), full.shape)
    dimmed = _dimmed(full + noise.astype(np.float32), full, share, 100.0, photon, read)
    assert dimmed.mean() == pytest.approx(100 + share * light, abs=0.5)
    assert dimmed.var() == pytest.approx(photon * share * light + read, rel=0.04)


def test_a_movie_that_tells_nothing_is_refused() -> None:
    with pytest.raises(InvalidInput, match="needs 60"):
        light_budget(np.zeros((9, 32, 32), np.uint16), "live-fast")
