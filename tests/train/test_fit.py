"""Training learns, holds out what it scores, stops when it should, and never makes a given network worse."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from denoscope.runtime import InvalidInput, estimate_intensity
from denoscope.train import (
    METHODS,
    CameraSettings,
    FitPlan,
    FitProgress,
    FitSettings,
    LiveNet,
    SceneSettings,
    TrainingMovie,
    fit,
    self_supervised_score,
    simulate,
    simulated_movies,
)
from denoscope.train.fitting.fit import is_better  # the rule alone, without trainings
from denoscope.train.fitting.kept import State
from denoscope.train.fitting.logs import COLUMNS, TrainingLog, read_log
from denoscope.train.networks.live.task import LiveTask
from denoscope.train.task import first_held_out, split_in_time
from support.tiny_training import TINY, same_weights

pytestmark = pytest.mark.usefixtures("one_thread")


def still(target: np.ndarray, source: np.ndarray) -> np.ndarray:
    return np.zeros((2, *target.shape), np.float32)


def settings_of(method: str, **changes: Any) -> Any:
    common = {"steps": 12, "epochs": None, "batch": 2, "crop": 16, "seed": 7, "checkpoint_s": 1e9}
    return METHODS[method].settings(**{**common, **changes})


@pytest.fixture(scope="module")
def simulated() -> list[TrainingMovie]:
    return simulated_movies(2, frames=40, size=32, seed=1)


@pytest.fixture(scope="module")
def real() -> TrainingMovie:
    movie = simulate(
        SceneSettings(frames=60, height=32, width=32), CameraSettings(photons=3), seed=2
    ).as_uint16()
    return TrainingMovie("movie", movie, None, estimate_intensity(movie[:32]))


def weights_of(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in network.state_dict().items()}


def test_training_reduces_the_held_out_score(real: TrainingMovie) -> None:
    settings = settings_of("live", steps=80, batch=3, crop=32, seed=1, learning_rate=5e-3)
    result = fit([real], settings=settings, network=TINY["live"])
    assert result.steps == 80
    assert result.stopped == "the budget is spent"
    assert result.score_after < result.score_before - 0.02
    assert result.score_after == min(score for _, score in result.scores)


@pytest.mark.parametrize("method", METHODS)
def test_one_loop_trains_every_method(method: str, real: TrainingMovie, tmp_path: Path) -> None:
    progress: list[FitProgress] = []
    plans: list[FitPlan] = []
    log = tmp_path / "log.csv"
    result = fit(
        [real],
        method=method,
        settings=settings_of(method, steps=30),
        network=TINY[method],
        estimator=still,
        log=log,
        on_plan=plans.append,
        on_progress=progress.append,
    )
    assert result.steps == progress[-1].step == 30
    assert progress[-1].done == 1
    assert progress[-1].remaining_s == 0
    assert plans[0].steps == 30
    assert plans[0].step_s > 0
    assert plans[0].memory_bytes > sum(p.numel() * 4 for p in result.network.parameters())
    rows = read_log(log)
    assert [(r["step"], r["loss"]) for r in rows if "loss" in r] == result.losses
    assert [(r["step"], r["held_out_score"]) for r in rows if "held_out_score" in r] == result.scores
    with log.open() as file:
        assert tuple(next(csv.reader(file))) == COLUMNS
    denoised = METHODS[method].denoise(result.network, real.frames[:12], real.intensity)
    assert denoised.shape == (12, 32, 32)
    assert np.isfinite(denoised).all()


@pytest.mark.parametrize("method", METHODS)
def test_the_seed_decides_the_training_and_measuring_it_changes_nothing(
    method: str, real: TrainingMovie
) -> None:
    def train(seed: int, **options: Any) -> torch.nn.Module:
        settings = settings_of(method, steps=4, seed=seed)
        return fit(
            [real], method=method, settings=settings, network=TINY[method], estimator=still, **options
        ).network

    first = train(3)
    assert same_weights(first, train(3, on_plan=lambda _: None))
    assert not same_weights(first, train(4))


@pytest.mark.parametrize("method", METHODS)
def test_the_held_out_end_of_a_movie_is_never_trained_on(method: str, real: TrainingMovie) -> None:
    spoiled = real.frames.copy()
    spoiled[51:] = np.random.default_rng(0).integers(0, 60_000, spoiled[51:].shape)
    other = TrainingMovie(real.name, spoiled, None, real.intensity)
    settings = settings_of(method, steps=6)
    one, two = (
        fit([m], method=method, settings=settings, network=TINY[method], estimator=still)
        for m in (real, other)
    )
    assert same_weights(one.network, two.network)
    assert one.scores != two.scores


def test_short_movies_are_not_split_and_longer_ones_are() -> None:
    assert [first_held_out(n, 0.15) for n in (5, 9, 10, 20, 100)] == [5, 9, 7, 17, 85]
    assert first_held_out(100, 0) == 100
    frames = np.zeros((8, 16, 16), np.uint16)
    movie = TrainingMovie("short", frames, None, estimate_intensity(np.arange(48).reshape(3, 4, 4) % 7))
    training, held_out = split_in_time([movie], 0.15)
    assert len(training[0].frames) == len(held_out[0].frames) == 8


def test_seed_and_number_decide_a_simulated_movie() -> None:
    both = simulated_movies(2, frames=12, size=32, seed=1)
    (second,) = simulated_movies(1, first=1, frames=12, size=32, seed=1)
    assert second.name == both[1].name
    assert np.array_equal(second.frames, both[1].frames)


def test_some_simulated_movies_are_held_out_when_asked(real: TrainingMovie) -> None:
    simulated = [TrainingMovie(f"s{i}", real.frames, real.frames * 1.0, real.intensity) for i in range(10)]
    training, held_out = split_in_time([*simulated, real], 0.15, 0.2)
    assert [m.name for m in training] == [*(f"s{i}" for i in range(8)), real.name]
    assert sorted(m.name for m in held_out) == sorted(["s8", "s9", real.name])
    training, held_out = split_in_time([*simulated, real], 0.15)
    assert len(training) == 11
    assert [m.name for m in held_out] == [real.name]


def test_no_single_window_decides_the_score() -> None:
    """A movie whose noise is twenty times what its model says counts by the logarithm of its surprise."""
    movies = simulated_movies(2, frames=30, size=32, seed=4)
    unit = movies[0].intensity
    wrong = unit.model_copy(update={"scale": unit.scale / 20})
    odd = replace(movies[0], intensity=wrong)
    network = LiveNet(TINY["live"]).eval()
    usual, with_odd = (self_supervised_score(network, each, crop=16) for each in (movies, [odd, movies[1]]))
    assert usual < with_odd < usual + 5


def test_the_second_stage_counts_where_truth_is_held_out(real: TrainingMovie) -> None:
    movies = [real, *simulated_movies(3, frames=30, size=32, seed=3)]
    shape = replace(TINY["live"], second_width=4)
    network = LiveNet(shape).eval()

    def scores(held_out: float) -> tuple[float, float]:
        task = LiveTask(movies, settings_of("live", simulated_hold_out=held_out), shape)
        assert network.second is not None
        found = []
        for offset in (0.0, 5.0):
            torch.nn.init.constant_(network.second.correct.bias, offset)  # type: ignore[arg-type]
            found.append(task.score(network))
        return found[0], found[1]

    right, wrong = scores(0.34)
    assert wrong > right + 0.5
    right, wrong = scores(0.0)
    assert wrong == right, "real movies do not know the truth"


@pytest.mark.usefixtures("short_rehearsals")
def test_adaptation_never_returns_worse_weights(real: TrainingMovie) -> None:
    shape = TINY["live"]
    good = fit([real], settings=settings_of("live", steps=24, crop=32), network=shape)
    destructive = settings_of("live", steps=3, crop=32, learning_rate=0.5)
    result = fit([real], settings=destructive, network=shape, start=weights_of(good.network))
    assert not result.improved
    assert same_weights(result.network, good.network)
    assert isinstance(result.network, LiveNet)
    assert np.isfinite(self_supervised_score(result.network, [real.part(51, 60)], crop=32))


def test_a_network_of_both_sides_is_adapted(real: TrainingMovie) -> None:
    """`train --from recorded`: windows know what comes after them, and no weight of the start is lost."""
    shape = replace(TINY["live"], two_sided=True)
    start = LiveNet(shape)
    result = fit(
        [real], settings=settings_of("live", caution=0.0, steps=2), network=shape, start=weights_of(start)
    )
    assert result.network.settings.two_sided
    assert np.isfinite([result.score_before, result.score_after]).all()
    assert weights_of(result.network).keys() == weights_of(start).keys()


def test_training_stops_when_the_held_out_score_gains_nothing() -> None:
    state, settings = State(), FitSettings(stop_after=2)
    kept = [is_better(state, settings, score, 0.1 * i) for i, score in enumerate((3.0, 2.0, 2.5))]
    assert kept == [True, True, False]
    assert not state.stopped
    assert not is_better(state, settings, 2.0, 0.4)
    assert "gained nothing in 2 measurements" in state.stopped
    assert state.best_score == 2.0


def test_early_stop_ends_a_hopeless_training_and_keeps_the_best_weights(real: TrainingMovie) -> None:
    settings = settings_of("live", steps=500, stop_after=1, learning_rate=0.3, validations=500)
    result = fit([real], settings=settings, network=TINY["live"])
    assert result.steps < 500
    assert "gained nothing" in result.stopped
    assert result.scores[-1][1] >= result.score_after == min(score for _, score in result.scores)


def test_epochs_minutes_and_processor_minutes_are_budgets(real: TrainingMovie) -> None:
    def train(**changes: Any) -> Any:
        return fit([real], settings=settings_of("live", **changes), network=TINY["live"])

    assert train(epochs=2, steps_per_epoch=5).steps == 10
    by_clock, by_processor = train(minutes=0.01), train(processor_minutes=0.01)
    assert 0.6 <= by_clock.seconds < 200
    assert 0.6 <= by_processor.processor_s < 3
    assert train(minutes=10, processor_minutes=0.002).processor_s < 3
    assert by_clock.steps > 0


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"steps": 0}, "steps 0 is not possible"),
        ({"minutes": 0}, "minutes 0 is not possible"),
        ({"epochs": -1}, "epochs -1 is not possible"),
        ({"learning_rate": 0}, "learning_rate 0 is not possible"),
        ({"hold_out": 0.9}, "choose 0 to 0.5"),
        ({"precision": "64"}, "choose 32, bf16-mixed, 16-mixed"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], what: str) -> None:
    with pytest.raises(InvalidInput, match=what):
        FitSettings(**changes)


def test_what_cannot_be_trained_is_refused(real: TrainingMovie) -> None:
    with pytest.raises(InvalidInput, match="no movie to train on"):
        fit([])
    with pytest.raises(InvalidInput, match="no method `magic`: choose one of live, umvd, sts-uvd"):
        fit([real], method="magic")
    with pytest.raises(InvalidInput, match="takes UmvdFitSettings and UmvdSettings"):
        fit([real], method="umvd", settings=FitSettings())
    with pytest.raises(InvalidInput, match="two frames"):
        fit([real.part(0, 1)], method="umvd")
    frames = np.full((12, 32, 32), np.nan, np.float32)
    broken = TrainingMovie("nan", frames, None, real.intensity)
    with pytest.raises(InvalidInput, match="diverged at step 1"):
        fit([broken], settings=settings_of("live"), network=TINY["live"])


def test_mixed_precision_trains_and_hides_inputs_from_rounding(real: TrainingMovie) -> None:
    settings = settings_of("live", steps=40, batch=4, precision="bf16-mixed", learning_rate=5e-3)
    mixed = fit([real], settings=settings, network=TINY["live"])
    plain = fit([real], settings=replace(settings, precision="32"), network=TINY["live"])
    assert not same_weights(mixed.network, plain.network)
    assert all(v.dtype == torch.float32 for v in mixed.network.state_dict().values())
    assert mixed.score_after == pytest.approx(plain.score_after, abs=0.02)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_what_needs_a_gpu_says_so(real: TrainingMovie) -> None:
    with pytest.raises(InvalidInput, match="16-mixed needs an NVIDIA GPU"):
        fit([real], settings=settings_of("live", precision="16-mixed"), network=TINY["live"])


@pytest.mark.slow
def test_two_processes_train_one_network(real: TrainingMovie, tmp_path: Path) -> None:
    seen: list[FitProgress] = []
    settings = settings_of("live", steps=30, devices=2, learning_rate=5e-3)
    log = tmp_path / "log.csv"
    result = fit([real], settings=settings, network=TINY["live"], log=log, on_progress=seen.append)
    alone = fit([real], settings=replace(settings, devices=1), network=TINY["live"])
    assert result.steps == seen[-1].step == 30
    assert not same_weights(result.network, alone.network)
    assert result.score_after < result.score_before
    assert len(read_log(log)) == 3


@pytest.mark.slow
def test_a_failure_in_another_process_is_one_sentence(real: TrainingMovie) -> None:
    frames = np.full((12, 32, 32), np.nan, np.float32)
    movie = TrainingMovie("nan", frames, None, real.intensity)
    with pytest.raises(InvalidInput, match="diverged at step 1"):
        fit([movie], settings=settings_of("live", devices=2), network=TINY["live"])


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["32", "bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_on_a_gpu(method: str, precision: str, real: TrainingMovie) -> None:
    settings = settings_of(method, steps=60, batch=4, precision=precision)
    result = fit([real], method=method, settings=settings, network=TINY[method], estimator=still)
    assert result.steps == 60
    assert result.score_after < result.score_before
    assert next(result.network.parameters()).device.type == "cpu"


@pytest.mark.parametrize("method", METHODS)
def test_loss_and_gradient_stay_on_one_device(method: str, real: TrainingMovie) -> None:
    """The `meta` device computes nothing but refuses to mix with the processor, as a GPU does."""
    entry = METHODS[method]
    settings = settings_of(method)
    task = entry.task([real], settings, TINY[method])
    task.prepare()
    network = entry.build(TINY[method]).to("meta")
    batch = tuple(t.to("meta") for t in task.draw(np.random.default_rng(0), 0))
    loss, _ = task.loss(network, batch)
    loss.backward()
    assert loss.device.type == "meta"
    assert all(p.grad is not None for p in network.parameters())


def test_a_resumed_log_is_the_uninterrupted_one(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    with TrainingLog(path) as log:
        for step in (10, 20, 30):
            log.write({"step": step, "loss": 1 / step, "kappa": float("nan")})
    with TrainingLog(path, after=20) as log:
        log.write({"step": 30, "loss": 0.5})
    assert read_log(path) == [
        {"step": 10, "loss": 0.1},
        {"step": 20, "loss": 0.05},
        {"step": 30, "loss": 0.5},
    ]


def test_tensorboard_events_are_written(real: TrainingMovie, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    fit([real], settings=settings_of("live"), network=TINY["live"], events=tmp_path)
    (events,) = tmp_path.glob("events.out.tfevents.*")
    assert b"held_out_score" in events.read_bytes()
