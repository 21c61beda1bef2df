"""Training of the `live` network: random windows of a session, and the loss of their predictions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import fields
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from denoscope.train.data.movie import TrainingMovie
from denoscope.train.data.sampling import align_features, recall_memory, spreading
from denoscope.train.fit_settings import FitSettings
from denoscope.train.task import Task, Tensors, device_of, split_in_time

from .batch import Batch, draw_batch
from .net import LiveNet, Prediction
from .settings import LiveNetSettings

__all__ = [
    "LiveTask",
    "blind_windows",
    "interval_loss",
    "on_the_centre",
    "self_supervised_score",
    "window_scores",
]

_VALIDATION_BATCHES = 6
_VALIDATION_WINDOWS = 16
_SHARES = (0.68, 0.95)  # of the truth that the predicted intervals should hold
_ODD = 2.0  # nats a pixel
_TINY = 1e-6


class LiveTask(Task):
    """Windows as a live session could meet them, of simulated and real movies.

    Parameters
    ----------
    movies
        Simulated movies (with truth) and real ones (without).
    settings, network
        How to train and what.
    """

    def __init__(
        self, movies: Sequence[TrainingMovie], settings: FitSettings, network: LiveNetSettings
    ) -> None:
        self.training, self.held_out = split_in_time(movies, settings.hold_out, settings.simulated_hold_out)
        self.settings, self.network = settings, network
        self._shares = _shares(self.training, settings.real_share)
        self._held_out_shares = _shares(self.held_out, settings.real_share)

    def draw(self, rng: np.random.Generator, step: int) -> Tensors:
        """Draw windows from the part that is trained on."""
        s, shares = self.settings, self._shares
        batch = draw_batch(
            self.training, shares, self.network, size=s.batch, crop=s.crop, rng=rng, seed=s.seed, step=step
        )
        return _tensors(batch)

    def loss(self, network: nn.Module, batch: Tensors) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of one batch."""
        assert isinstance(network, LiveNet)
        return loss_of_batch(network, *batch), {}

    def score(self, network: nn.Module) -> float:
        """Return the negative log-likelihood of held-out measured pixels under their blind prediction.

        Where movies with truth are held out, the second stage of a network counts as well: half the
        logarithm of the posterior's squared error in units of the noise is added.
        """
        assert isinstance(network, LiveNet)
        s = self.settings
        blind = self_supervised_score(
            network, self.held_out, seed=s.seed, crop=s.crop, shares=self._held_out_shares
        )
        known = [movie for movie in self.held_out if movie.clean is not None]
        if not known or network.second is None:
            return blind
        return blind + _posterior_score(network, known, seed=s.seed, crop=s.crop)

    def held_bytes(self) -> int:
        """Return the memory of the averages of the past, and of the frames put on the scene."""
        memories = self.network.memories
        return sum(movie.held_bytes(memories) for movie in (*self.training, *self.held_out))


def self_supervised_score(
    model: LiveNet,
    movies: Sequence[TrainingMovie],
    *,
    seed: int = 0,
    crop: int = 64,
    shares: npt.NDArray[np.float64] | None = None,
) -> float:
    """Mean negative log-likelihood of measured pixels under their blind prediction; needs no truth.

    What a window has above 2 nats a pixel, as only a wrong noise model or lost motion makes it, counts by its
    logarithm, so that no single window decides.

    Parameters
    ----------
    model
        The network.
    movies
        Frames not trained on.
    seed, crop
        Choose the windows; the same seed compares two networks on the same ones.
    shares
        How often each movie is drawn; all alike when None.

    Returns
    -------
    float
        Nats a pixel; lower is better.
    """
    shares = np.full(len(movies), 1 / len(movies)) if shares is None else shares

    def surprise(p: Prediction, measured: Tensor, _: Tensor, counted: Tensor) -> Tensor:
        return window_scores(p, measured, counted).mean()

    return _mean_over_windows(model, movies, shares, surprise, seed=seed, crop=crop)


def window_scores(p: Prediction, measured: Tensor, counted: Tensor) -> Tensor:
    """Return the `self_supervised_score` of each window of a batch (B,)."""
    likelihood = _negative_log_likelihood(measured - p.blind_mean, p, p.noise_variance)
    windows = _per_window(likelihood, counted)
    return windows.clamp_max(_ODD) + torch.log1p((windows - _ODD).clamp_min(0))


def blind_windows(
    model: LiveNet, movies: Sequence[TrainingMovie], *, seed: int, crop: int, windows: int
) -> npt.NDArray[np.float64]:
    """Score windows one by one; the same seed gives the same windows for two networks of one shape.

    Parameters
    ----------
    model
        The network.
    movies
        Frames not trained on, drawn from alike.
    seed, crop, windows
        Choose the windows, their edge in pixels, and how many at least.

    Returns
    -------
    numpy.ndarray
        (windows, 2): `window_scores`, and the mean squared error of the blind prediction less the variance of the
        noise, in variances of the noise: an estimate of its squared error to the unknown picture.
    """
    model.eval()
    shares = np.full(len(movies), 1 / len(movies))
    found: list[npt.NDArray[np.float64]] = []
    with torch.inference_mode():
        for index in range(-(-windows // _VALIDATION_WINDOWS)):
            rng = np.random.default_rng((seed, 4, index))
            batch = draw_batch(movies, shares, model.settings, size=_VALIDATION_WINDOWS, crop=crop, rng=rng)
            window, valid, memory, weight, noise, places, followed, _, _, counted = (
                t.to(device_of(model)) for t in _tensors(batch)
            )
            p = _predict(model, window, valid, memory, weight, noise, places, followed)
            measured = window[:, model.settings.window // 2].unsqueeze(1)
            unit = p.sigma.square()
            excess = ((measured - p.blind_mean).square() - p.noise_variance) / unit
            both = window_scores(p, measured, counted), _per_window(excess, counted)
            found.append(torch.stack(both, 1).double().cpu().numpy())
    return np.concatenate(found)


def _posterior_score(model: LiveNet, movies: Sequence[TrainingMovie], *, seed: int, crop: int) -> float:
    """Mean over windows of half the logarithm of the posterior's squared error in units of the noise."""

    def error(p: Prediction, _: Tensor, clean: Tensor, counted: Tensor) -> Tensor:
        return 0.5 * torch.log(_per_window(((clean - p.mean) / p.sigma).square(), counted) + _TINY).mean()

    shares = np.full(len(movies), 1 / len(movies))
    return _mean_over_windows(model, movies, shares, error, seed=seed, crop=crop)


def _mean_over_windows(
    model: LiveNet,
    movies: Sequence[TrainingMovie],
    shares: npt.NDArray[np.float64],
    value: Callable[[Prediction, Tensor, Tensor, Tensor], Tensor],
    *,
    seed: int,
    crop: int,
) -> float:
    """Return the mean of a value of the prediction, the measurement and the truth over the same windows every time."""
    model.eval()
    total = 0.0
    with torch.inference_mode():
        for index in range(_VALIDATION_BATCHES):
            rng = np.random.default_rng((seed, 2, index))
            batch = draw_batch(movies, shares, model.settings, size=_VALIDATION_WINDOWS, crop=crop, rng=rng)
            window, valid, memory, weight, noise, places, followed, clean, _, counted = (
                t.to(device_of(model)) for t in _tensors(batch)
            )
            p = _predict(model, window, valid, memory, weight, noise, places, followed)
            measured = window[:, model.settings.window // 2].unsqueeze(1)
            total += float(value(p, measured, clean, counted))
    return total / _VALIDATION_BATCHES


def loss_of_batch(
    model: LiveNet,
    window: Tensor,
    valid: Tensor,
    memory: Tensor,
    weight: Tensor,
    noise: Tensor,
    places: Tensor,
    followed: Tensor,
    clean: Tensor,
    supervised: Tensor,
    counted: Tensor,
) -> Tensor:
    """Loss of one batch, over the pixels that count.

    With truth: logarithm of each window's mean squared error, so every window counts in decibels
    whatever its photon count, for the blind and for the posterior mean. Without truth: the same
    for the blind mean against the measured pixel. The variance learns by likelihood from errors
    that do not feed back into the mean, which keeps the mean as good as plain regression
    (Stirn et al. 2023).
    """
    p = _predict(model, window, valid, memory, weight, noise, places, followed)
    centre = window.shape[1] // 2
    measured = window[:, centre : centre + 1]
    known = supervised.view(-1, 1, 1, 1)
    target = known * clean + (1 - known) * measured
    blind = _per_window((target - p.blind_mean).square() / p.sigma, counted)
    posterior = _per_window((target - p.mean).square() / p.sigma, counted)
    mean_loss = supervised * (torch.log(blind + 1e-5) + torch.log(posterior + 1e-5))
    mean_loss = mean_loss + (1 - supervised) * 10.0 * torch.log(blind + 1e-5)
    extra = (1 - known) * p.noise_variance.detach() + known * 1e-4 * p.sigma.square()
    likelihood = _negative_log_likelihood((target - p.blind_mean).detach(), p, extra)
    loss = mean_loss + 0.2 * _per_window(likelihood, counted)
    if model.settings.calibrated:
        loss = loss + known.flatten() * 0.2 * _per_window(
            interval_loss(target - p.mean.detach(), p.variance), counted
        )
    return loss.mean()


def _shares(movies: Sequence[TrainingMovie], real_share: float) -> npt.NDArray[np.float64]:
    real = np.array([m.clean is None for m in movies])
    if real.all() or not real.any():
        return np.full(len(movies), 1 / len(movies))
    shares = np.where(real, real_share / real.sum(), (1 - real_share) / (~real).sum())
    return np.asarray(shares, np.float64)


def _tensors(batch: Batch) -> Tensors:
    return tuple(torch.from_numpy(getattr(batch, f.name)) for f in fields(batch))


def _predict(
    model: LiveNet,
    window: Tensor,
    valid: Tensor,
    memory: Tensor,
    weight: Tensor,
    noise: Tensor,
    places: Tensor,
    followed: Tensor,
) -> Prediction:
    """Run a batch of windows (B, N, H, W) with the averages (B, m, H, W) of their past."""
    b, n, height, width = window.shape
    frames = window.reshape(b * n, 1, height, width)
    encoded = model.encode(frames, noise.repeat_interleave(n, dim=0))
    encoded = encoded.reshape(b, n, *encoded.shape[1:])
    cells = torch.nn.functional.pixel_unshuffle(memory, LiveNet.scale)
    # A slice each would have a gradient of the whole window's size.
    features: Sequence[Tensor] = encoded.unbind(1)
    if model.settings.subpixel:
        features, cells = on_the_centre(features, cells, places, followed)
    flows = model.flows_of(features, valid, noise)
    return model.predict(features, valid, cells, weight, noise, flows)


def on_the_centre(
    features: Sequence[Tensor], memory: Tensor, places: Tensor, followed: Tensor
) -> tuple[Sequence[Tensor], Tensor]:
    """Register neighbours and memory to the centre frame, in windows of a moving scene."""
    moving = followed.nonzero().flatten()
    if not len(moving):
        return features, memory
    height, width = (n * LiveNet.scale for n in memory.shape[2:])
    rows, columns = (weights.to(memory.device) for weights in spreading((height, width)))
    centre = len(features) // 2
    with torch.autocast(memory.device.type, enabled=False):  # 8 bits would place pixels an eighth of one off
        moved = [
            each
            if i == centre
            else each.index_copy(0, moving, align_features(each[moving], at, rows, columns))
            for i, (each, at) in enumerate(zip(features, places[moving].unbind(1), strict=True))
        ]
        recalled = recall_memory(memory[moving], places[moving, centre], rows, columns)
        return moved, memory.index_copy(0, moving, recalled)


def _negative_log_likelihood(error: Tensor, p: Prediction, extra_variance: Tensor | float) -> Tensor:
    variance = p.blind_variance + extra_variance
    return 0.5 * (error.square() / variance + torch.log(variance / p.sigma.square()))


def interval_loss(error: Tensor, variance: Tensor) -> Tensor:
    """Quantile loss (Koenker and Bassett 1978) of the logarithm of the error's size at 68 % and 95 %.

    It is least where these shares of the errors lie within 0.99 and 1.96 deviations, as a normal
    distribution has it, whatever the distribution's tails.
    """
    size = 0.5 * torch.log(error.square() + _TINY * variance.detach()) - 0.5 * torch.log(variance)
    beyond = [size - math.log(NormalDist().inv_cdf((1 + share) / 2)) for share in _SHARES]
    return sum(
        (torch.maximum(share * b, (share - 1) * b) for share, b in zip(_SHARES, beyond, strict=True)),
        torch.zeros_like(size),
    )


def _per_window(x: Tensor, counted: Tensor) -> Tensor:
    """Return the mean over the pixels of each window that count."""
    return (x * counted).mean(dim=(1, 2, 3)) / counted.mean(dim=(1, 2, 3)).clamp_min(_TINY)
