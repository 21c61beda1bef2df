"""The training loop: from movies to weights, resumable at any moment, within a budget of minutes."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from denoscope.runtime import InvalidInput
from denoscope.train._data import Batch, TrainingMovie, draw_batch
from denoscope.train._live import LiveNet, LiveSettings, Prediction

__all__ = ["FitProgress", "FitResult", "FitSettings", "fit", "self_supervised_score"]

_VALIDATION_BATCHES = 6
_CHECKPOINT_EVERY_S = 60.0
_WEIGHT_AVERAGE = 0.998


@dataclass(frozen=True)
class FitSettings:
    """How long and how to train.

    Attributes
    ----------
    steps
        Optimiser steps; the learning rate falls to zero over them. With steps, an interrupted and
        resumed training ends with the same bits on a processor.
    minutes
        Wall-clock budget instead of steps; the learning rate falls to zero over it.
    batch, crop
        Windows per step and their edge in pixels.
    learning_rate
        Peak rate of AdamW.
    real_share
        Share of windows drawn from real movies when simulated ones are there too.
    seed
        Seed of the initial weights and of every batch.
    """

    steps: int = 4000
    minutes: float | None = None
    batch: int = 12
    crop: int = 64
    learning_rate: float = 2e-3
    real_share: float = 0.2
    seed: int = 0


@dataclass(frozen=True)
class FitProgress:
    """One report from the loop: steps done, share of the training done (0 to 1), smoothed loss, seconds."""

    step: int
    done: float
    loss: float
    elapsed_s: float
    remaining_s: float


@dataclass(frozen=True)
class FitResult:
    """What training gave.

    Attributes
    ----------
    network
        With the averaged weights; the start weights if those scored better.
    steps, seconds
        What was spent.
    score_before, score_after
        Held-out self-supervised score (lower is better) of the start and the end weights.
    improved
        Whether the new weights were kept.
    losses
        Smoothed loss every 20 steps as (step, loss).
    """

    network: LiveNet
    steps: int
    seconds: float
    score_before: float
    score_after: float
    improved: bool
    losses: list[tuple[int, float]] = field(default_factory=list)


def fit(
    movies: Sequence[TrainingMovie],
    checkpoint: Path,
    *,
    settings: FitSettings | None = None,
    network: LiveSettings | None = None,
    start: Mapping[str, Tensor] | None = None,
    resume: bool = False,
    on_progress: Callable[[FitProgress], None] = lambda _: None,
) -> FitResult:
    """Train a `live` network.

    The last 15 % of every real movie are held out in time and never trained on. If weights to start
    from are given, the result is never worse than they are on the held-out self-supervised score.

    Parameters
    ----------
    movies
        Simulated movies (with truth) and real ones (without).
    checkpoint
        Safetensors file that holds the complete state; rewritten about once a minute and at the end.
    settings, network
        How to train and what.
    start
        Weights to begin with (adaptation); random ones otherwise.
    resume
        Continue from `checkpoint`, with the settings stored there.
    on_progress
        Called about once a second.

    Raises
    ------
    InvalidInput
        If there is nothing to train on, a movie is smaller than a crop, or `checkpoint` is not one.
    """
    settings, network = settings or FitSettings(), network or LiveSettings()
    if not movies:
        raise InvalidInput("There is no movie to train on: give at least one movie, or --simulate N.")
    smallest = min(min(m.frames.shape[1:]) for m in movies)
    settings = replace(settings, crop=min(settings.crop, smallest // LiveNet.stride * LiveNet.stride))
    training, held_out = _split(movies)
    shares = _shares(training, settings.real_share)

    torch.manual_seed(settings.seed)
    model = LiveNet(network)
    if start is not None:
        model.load_state_dict(dict(start))
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    initial = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=1e-4)
    average = {name: value.clone() for name, value in model.state_dict().items()}
    state = _State(step=0, elapsed_s=0.0, losses=[])
    if resume:
        state, settings = _load_checkpoint(checkpoint, model, average, optimizer)

    smoothed = state.losses[-1][1] if state.losses else math.nan
    saved, shown = time.perf_counter(), 0.0
    began = saved - state.elapsed_s
    while (done := _share_done(state, settings)) < 1:
        rate = _learning_rate(state.step, done, settings.learning_rate)
        for group in optimizer.param_groups:
            group["lr"] = rate
        rng = np.random.default_rng((settings.seed, 1, state.step))
        batch = draw_batch(training, shares, network, size=settings.batch, crop=settings.crop, rng=rng)
        loss = _loss_of_batch(model, *_tensors(batch))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        _update_average(average, model, state.step)
        state.step += 1
        value = float(loss.detach())
        if not math.isfinite(value):
            raise InvalidInput(
                f"Training diverged at step {state.step} (loss {value}): lower the learning rate "
                f"({settings.learning_rate:g}) or check the movie for constant or saturated frames."
            )
        smoothed = value if math.isnan(smoothed) else 0.98 * smoothed + 0.02 * value
        if state.step % 20 == 0:
            state.losses.append((state.step, smoothed))
        now = time.perf_counter()
        state.elapsed_s = now - began
        if now - shown > 1.0:
            shown, done = now, _share_done(state, settings)
            on_progress(
                FitProgress(state.step, done, smoothed, state.elapsed_s, state.elapsed_s * (1 / done - 1))
            )
        if now - saved > _CHECKPOINT_EVERY_S:
            saved = now
            _save_checkpoint(checkpoint, model, average, optimizer, state, settings)
    _save_checkpoint(checkpoint, model, average, optimizer, state, settings)

    before = LiveNet(network)
    before.load_state_dict(initial)
    after = LiveNet(network)
    after.load_state_dict(average)
    score_before = self_supervised_score(before, held_out, seed=settings.seed, crop=settings.crop)
    score_after = self_supervised_score(after, held_out, seed=settings.seed, crop=settings.crop)
    improved = start is None or score_after < score_before
    return FitResult(
        network=(after if improved else before).eval(),
        steps=state.step,
        seconds=state.elapsed_s,
        score_before=score_before,
        score_after=score_after,
        improved=improved,
        losses=state.losses,
    )


def self_supervised_score(
    model: LiveNet, movies: Sequence[TrainingMovie], *, seed: int = 0, crop: int = 64
) -> float:
    """Mean negative log-likelihood of measured pixels under their blind prediction; needs no truth.

    Parameters
    ----------
    model
        The network.
    movies
        Frames not trained on.
    seed, crop
        Choose the windows; the same seed compares two networks on the same ones.
    """
    model.eval()
    total = 0.0
    shares = np.full(len(movies), 1 / len(movies))
    with torch.inference_mode():
        for index in range(_VALIDATION_BATCHES):
            rng = np.random.default_rng((seed, 2, index))
            batch = draw_batch(movies, shares, model.settings, size=16, crop=crop, rng=rng)
            window, valid, memory, weight, noise, *_ = _tensors(batch)
            p = _predict(model, window, valid, memory, weight, noise)
            measured = window[:, model.settings.window // 2].unsqueeze(1)
            total += float(_negative_log_likelihood(measured - p.blind_mean, p, p.noise_variance).mean())
    return total / _VALIDATION_BATCHES


def _split(movies: Sequence[TrainingMovie]) -> tuple[list[TrainingMovie], list[TrainingMovie]]:
    """Split every real movie in time, 85 % to train on and the rest held out.

    Simulated movies are trained on whole; where there are no real ones, the last of them is held out.
    """
    training, held_out = [], []
    for movie in movies:
        if movie.clean is not None:
            training.append(movie)
            continue
        length = len(movie.frames)
        cut = length - max(3, round(0.15 * length))
        training.append(movie.part(0, cut))
        held_out.append(movie.part(cut, length))
    if not held_out:
        held_out = [training.pop()] if len(training) > 1 else list(training)
    return training, held_out


def _shares(movies: Sequence[TrainingMovie], real_share: float) -> npt.NDArray[np.float64]:
    real = np.array([m.clean is None for m in movies])
    if real.all() or not real.any():
        return np.full(len(movies), 1 / len(movies))
    shares = np.where(real, real_share / real.sum(), (1 - real_share) / (~real).sum())
    return np.asarray(shares, np.float64)


def _tensors(batch: Batch) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(getattr(batch, f.name)) for f in fields(batch))


def _predict(
    model: LiveNet, window: Tensor, valid: Tensor, memory: Tensor, weight: Tensor, noise: Tensor
) -> Prediction:
    """Run a batch of windows (B, N, H, W) with the averages (B, m, H, W) of their past."""
    b, n, height, width = window.shape
    frames = window.reshape(b * n, 1, height, width)
    encoded = model.encode(frames, noise.repeat_interleave(n, dim=0))
    encoded = encoded.reshape(b, n, *encoded.shape[1:])
    cells = torch.nn.functional.pixel_unshuffle(memory, LiveNet.scale)
    return model.predict([encoded[:, i] for i in range(n)], valid, cells, weight, noise)


def _negative_log_likelihood(error: Tensor, p: Prediction, extra_variance: Tensor | float) -> Tensor:
    variance = p.blind_variance + extra_variance
    return 0.5 * (error.square() / variance + torch.log(variance / p.sigma.square()))


def _loss_of_batch(
    model: LiveNet,
    window: Tensor,
    valid: Tensor,
    memory: Tensor,
    weight: Tensor,
    noise: Tensor,
    clean: Tensor,
    supervised: Tensor,
) -> Tensor:
    """Loss of one batch.

    With truth: logarithm of each window's mean squared error, so every window counts in decibels
    whatever its photon count, for the blind and for the posterior mean. Without truth: the same
    for the blind mean against the measured pixel. The variance learns by likelihood from errors
    that do not feed back into the mean, which keeps the mean as good as plain regression
    (Stirn et al. 2023).
    """
    p = _predict(model, window, valid, memory, weight, noise)
    centre = window.shape[1] // 2
    measured = window[:, centre : centre + 1]
    known = supervised.view(-1, 1, 1, 1)
    target = known * clean + (1 - known) * measured
    blind = _per_window((target - p.blind_mean).square() / p.sigma)
    posterior = _per_window((target - p.mean).square() / p.sigma)
    mean_loss = supervised * (torch.log(blind + 1e-5) + torch.log(posterior + 1e-5))
    mean_loss = mean_loss + (1 - supervised) * 10.0 * torch.log(blind + 1e-5)
    extra = (1 - known) * p.noise_variance.detach() + known * 1e-4 * p.sigma.square()
    likelihood = _negative_log_likelihood((target - p.blind_mean).detach(), p, extra)
    return (mean_loss + 0.2 * _per_window(likelihood)).mean()


def _per_window(x: Tensor) -> Tensor:
    return x.mean(dim=(1, 2, 3))


def _share_done(state: _State, settings: FitSettings) -> float:
    if settings.minutes is None:
        return state.step / settings.steps
    return state.elapsed_s / (60 * settings.minutes)


def _learning_rate(step: int, done: float, peak: float) -> float:
    """Warm up over the first steps or tenth of the training, then fall to zero along a half cosine."""
    warm = min(1.0, max((step + 1) / 100, done / 0.1))
    return peak * warm * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def _update_average(average: dict[str, Tensor], model: LiveNet, step: int) -> None:
    keep = min(_WEIGHT_AVERAGE, (step + 1) / (step + 10))
    for name, value in model.state_dict().items():
        average[name].lerp_(value, 1 - keep)


@dataclass
class _State:
    step: int
    elapsed_s: float
    losses: list[tuple[int, float]]


def _save_checkpoint(
    path: Path,
    model: LiveNet,
    average: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    state: _State,
    settings: FitSettings,
) -> None:
    """Write the complete state to `path` in one step: a kill leaves the old file or the new one."""
    tensors = {f"model.{k}": v.contiguous() for k, v in model.state_dict().items()}
    tensors |= {f"average.{k}": v.contiguous() for k, v in average.items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": torch.as_tensor(v).contiguous() for k, v in values.items()}
    metadata = {
        "state": json.dumps(asdict(state)),
        "settings": json.dumps(asdict(settings)),
        "network": json.dumps(model.settings.to_dict()),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    save_file({k: v.clone() for k, v in tensors.items()}, partial, metadata=metadata)
    partial.replace(path)


def _load_checkpoint(
    path: Path, model: LiveNet, average: dict[str, Tensor], optimizer: torch.optim.Optimizer
) -> tuple[_State, FitSettings]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        stored = json.loads(metadata["state"])
        settings = FitSettings(**json.loads(metadata["settings"]))
        model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise InvalidInput(
            f"{path} is not a checkpoint of this training ({error}): start anew without --resume."
        ) from error
    average.update({k[8:]: v for k, v in tensors.items() if k.startswith("average.")})
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            moments.setdefault(int(index), {})[key] = value
    complete = optimizer.state_dict()
    complete["state"] = moments
    optimizer.load_state_dict(complete)
    state = _State(**{**stored, "losses": [(int(s), float(v)) for s, v in stored["losses"]]})
    return state, settings
