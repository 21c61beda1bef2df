"""Adapting to a short movie takes nothing away: it rehearses, and stays near its start."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

import denoscope.train.fitting.fit as fit_module
from denoscope.runtime import Intensity, InvalidInput, LazyMovie, estimate_intensity, open_movie
from denoscope.train import METHODS, FitSettings, LiveNetSettings, TrainingMovie, fit
from denoscope.train.networks.live.batch import draw_batch
from denoscope.train.networks.live.rehearsal import blended, caution_of, rehearsal_movies
from denoscope.train.task import split_in_time
from support.tiny_training import TINY, same_weights

pytestmark = pytest.mark.usefixtures("one_thread")


def movie(frames: int) -> TrainingMovie:
    noisy = np.random.default_rng(0).poisson(20.0, (frames, 32, 32)).astype(np.uint16)
    return TrainingMovie("movie", noisy, None, estimate_intensity(noisy[:32]))


def settings(**changes: Any) -> FitSettings:
    common: dict[str, Any] = {"steps": 6, "batch": 2, "crop": 16, "seed": 7, "checkpoint_s": 1e9}
    return FitSettings(**{**common, **changes})


def adapted(m: TrainingMovie, s: FitSettings, start: dict[str, torch.Tensor], **options: Any) -> Any:
    return fit([m], settings=s, network=TINY["live"], start=start, **options)


@pytest.fixture(scope="module")
def start() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {k: v.clone() for k, v in METHODS["live"].build(TINY["live"]).state_dict().items()}


@pytest.fixture(scope="module")
def simulated() -> list[TrainingMovie]:
    return rehearsal_movies(3, 16)


def test_caution_falls_with_the_frames_that_are_trained_on() -> None:
    shares = [caution_of(FitSettings(), [movie(frames)]) for frames in (10, 20, 50, 400)]
    assert shares == pytest.approx([0.522, 0.455, 0.3, 0], abs=1e-3)
    longer = [movie(400)] * 10
    assert caution_of(FitSettings(), longer) == 0
    assert caution_of(FitSettings(caution=0.3), longer) == 0.3
    with pytest.raises(InvalidInput, match="caution 1 is not possible"):
        FitSettings(caution=1)


def test_what_is_rehearsed_has_its_truth_and_holds_the_crops(simulated: list[TrainingMovie]) -> None:
    assert all(m.clean is not None and m.clean.shape == m.frames.shape for m in simulated)
    assert all(min(m.frames.shape[1:]) >= 16 for m in simulated)
    assert len({m.intensity.scale for m in simulated}) == len(simulated) > 5


def test_the_average_of_weights_is_the_stated_one() -> None:
    start, trained = {"w": torch.tensor([0.0, 4.0])}, {"w": torch.tensor([1.0, 2.0])}
    torch.testing.assert_close(blended(start, trained, 0.25)["w"], torch.tensor([0.75, 2.5]))


def test_an_adaptation_is_averaged_with_its_start(
    start: dict[str, torch.Tensor], simulated: list[TrainingMovie], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[float] = []
    task = METHODS["live"].task

    def watched(*arguments: Any) -> Any:
        made = task(*arguments)
        drawn.append(float(made._shares[0]))  # type: ignore[attr-defined]
        return made

    monkeypatch.setitem(METHODS, "live", replace(METHODS["live"], task=watched))
    monkeypatch.setattr(fit_module, "rehearsal_movies", lambda *_: simulated)
    falling = itertools.count()
    monkeypatch.setattr(fit_module, "_score", lambda *_: -next(falling))
    distances = {}
    for caution in (0.0, 0.4, 0.8):
        result = adapted(movie(20), settings(steps=12, caution=caution), start)
        assert result.improved
        assert result.caution == caution
        # The first movie is the user's own; the others share what is rehearsed.
        assert drawn[-1] == pytest.approx(1 - caution)
        moved = [(v - start[k]).abs().mean() for k, v in result.network.state_dict().items()]
        distances[caution] = float(torch.stack(moved).mean())
    assert distances[0.8] < 0.7 * distances[0.4]
    assert distances[0.4] < distances[0.0]


def test_nothing_is_simulated_without_a_start_or_for_other_movies(
    start: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> list[TrainingMovie]:
        raise AssertionError("rehearsed")

    monkeypatch.setattr(fit_module, "rehearsal_movies", never)
    assert fit([movie(20)], settings=settings(), network=TINY["live"]).caution == 0
    for other in (settings(caution=0.0), settings()):
        frames = 20 if other.caution == 0 else 2000
        assert adapted(movie(frames), other, start).caution == 0
    known = replace(movie(20), clean=np.full((20, 32, 32), 20, np.float32))
    assert fit([movie(20), known], settings=settings(), network=TINY["live"], start=start).caution == 0
    with pytest.raises(AssertionError, match="rehearsed"):
        adapted(movie(20), settings(), start)


def test_an_adaptation_goes_on_after_a_kill_to_the_same_weights(
    start: dict[str, torch.Tensor],
    simulated: list[TrainingMovie],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fit_module, "rehearsal_movies", lambda *_: simulated)
    path = tmp_path / "state.safetensors"
    whole = adapted(movie(20), settings(steps=16, checkpoint_s=0.0), start, checkpoint=path)

    class Killed(Exception):
        pass

    def kill(progress: Any) -> None:
        raise Killed

    with pytest.raises(Killed):
        adapted(movie(20), settings(steps=16, checkpoint_s=0.0), start, checkpoint=path, on_progress=kill)
    resumed = adapted(movie(20), settings(steps=16), start, checkpoint=path, resume=True)
    assert resumed.caution == whole.caution > 0.4
    assert same_weights(resumed.network, whole.network)
    assert resumed.scores == whole.scores


def test_held_out_windows_have_the_past_that_a_session_would_have() -> None:
    numbered = np.arange(40, dtype=np.float32)[:, None, None] + np.zeros((40, 32, 32), np.float32)
    whole = TrainingMovie("m", numbered, None, Intensity(offset=0, scale=1, noise_slope=0, noise_floor=0.1))
    training, held_out = split_in_time([whole], 0.15)
    shape, rng = LiveNetSettings(), np.random.default_rng(0)
    train, held = (
        draw_batch(part, np.ones(1), shape, size=60, crop=16, rng=rng) for part in (training, held_out)
    )
    assert set(train.window[:, 3, 0, 0]) <= set(range(34))
    assert set(held.window[:, 3, 0, 0]) == set(range(34, 40))
    remembered = held.weight[:, 0] > 0
    assert remembered.mean() > 0.7
    average = held.memory[remembered, 0, 0, 0] / held.weight[remembered, 0]
    assert (average < held.window[remembered, 3, 0, 0] - 3).all(), "only frames before the window"


def test_held_out_windows_of_a_movie_on_disk_begin_where_training_ends(tmp_path: Path) -> None:
    path = tmp_path / "movie.tif"
    with tifffile.TiffWriter(path) as writer:
        for t in range(600):
            writer.write(np.full((32, 32), t, np.uint16), contiguous=False, metadata=None)
    movie = open_movie(path)
    assert isinstance(movie, LazyMovie)
    unit = Intensity(offset=0, scale=1, noise_slope=0, noise_floor=0.1)
    _, held_out = split_in_time([TrainingMovie("m", movie, None, unit)], 0.5)
    rng = np.random.default_rng(0)
    centres: set[float] = set()
    for step in (0, 400, 900):
        batch = draw_batch(held_out, np.ones(1), LiveNetSettings(), size=40, crop=16, rng=rng, step=step)
        centres |= set(batch.window[:, 3, 0, 0].tolist())
        assert (batch.weight[:, 0] > 0).any()
    assert min(centres) >= 300
    assert max(centres) > 560
