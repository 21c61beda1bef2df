"""Training learns, resumes exactly, and never makes a given network worse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from denoscope.runtime import InvalidInput, estimate_intensity
from denoscope.train import (
    CameraSettings,
    FitSettings,
    LiveNet,
    LiveSettings,
    SceneSettings,
    TrainingMovie,
    _fit,
    fit,
    self_supervised_score,
    simulate,
    simulated_movies,
)

TINY = LiveSettings(encode_channels=4, encode_width=6, trunk_width=8, deep_width=8, spatial_channels=3)
QUICK = FitSettings(steps=12, batch=3, crop=16, seed=7)


@pytest.fixture(scope="module")
def movies() -> list[TrainingMovie]:
    return simulated_movies(2, frames=40, size=32, seed=1)


@pytest.fixture(scope="module")
def real() -> TrainingMovie:
    movie = simulate(
        SceneSettings(frames=60, height=32, width=32), CameraSettings(photons=3), seed=2
    ).as_uint16()
    return TrainingMovie("movie", movie, None, estimate_intensity(movie[:32]))


def weights_of(network: LiveNet) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in network.state_dict().items()}


def test_training_reduces_the_held_out_score(real: TrainingMovie, tmp_path: Path) -> None:
    settings = FitSettings(steps=150, batch=4, crop=32, seed=1, learning_rate=5e-3)
    result = fit([real], tmp_path / "c.safetensors", settings=settings, network=TINY)
    assert result.steps == 150
    assert result.score_after < result.score_before - 0.03


def test_interrupted_training_resumes_to_the_same_bits(
    movies: list[TrainingMovie], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fit(movies, tmp_path / "whole.safetensors", settings=QUICK, network=TINY)

    class Interrupted(Exception):
        pass

    loss_of_batch, steps = _fit._loss_of_batch, 0

    def fail_at_step_seven(*arguments: object) -> torch.Tensor:
        nonlocal steps
        steps += 1
        if steps == 7:
            raise Interrupted
        return loss_of_batch(*arguments)  # type: ignore[arg-type]

    part = tmp_path / "part.safetensors"
    monkeypatch.setattr(_fit, "_CHECKPOINT_EVERY_S", -1.0)  # a checkpoint after every step
    monkeypatch.setattr(_fit, "_loss_of_batch", fail_at_step_seven)
    with pytest.raises(Interrupted):
        fit(movies, part, settings=QUICK, network=TINY)
    monkeypatch.undo()
    resumed = fit(movies, part, settings=QUICK, network=TINY, resume=True)
    assert resumed.steps == whole.steps == 12
    for name, value in whole.network.state_dict().items():
        torch.testing.assert_close(resumed.network.state_dict()[name], value, atol=0, rtol=0)


def test_adaptation_never_returns_worse_weights(real: TrainingMovie, tmp_path: Path) -> None:
    good = fit(
        [real], tmp_path / "a.safetensors", settings=FitSettings(steps=60, batch=4, crop=32), network=TINY
    )
    destructive = FitSettings(steps=3, batch=2, crop=32, learning_rate=0.5)
    result = fit(
        [real], tmp_path / "b.safetensors", settings=destructive, network=TINY, start=weights_of(good.network)
    )
    assert not result.improved
    for name, value in good.network.state_dict().items():
        torch.testing.assert_close(result.network.state_dict()[name], value, atol=0, rtol=0)
    score = self_supervised_score(result.network, [real.part(51, 60)], crop=32)
    assert np.isfinite(score)


def test_a_file_that_is_no_checkpoint_is_refused(movies: list[TrainingMovie], tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    path.write_bytes(b"\x80\x04pickle, not safetensors")
    with pytest.raises(InvalidInput, match="not a checkpoint"):
        fit(movies, path, settings=QUICK, network=TINY, resume=True)


def test_nothing_to_train_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no movie to train on"):
        fit([], tmp_path / "c.safetensors")
