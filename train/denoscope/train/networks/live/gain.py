"""How much better one network predicts held-out frames than another, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from denoscope.train.data.movie import TrainingMovie

from .net import LiveNet
from .task import blind_windows

__all__ = ["HeldOutGain", "held_out_gain"]

_WINDOWS = 192
_SURE = 2.0  # standard errors


@dataclass(frozen=True, slots=True)
class HeldOutGain:
    """Gain of one network over another on the same windows.

    Attributes
    ----------
    nats, nats_error
        Mean of the differences of the score, per pixel, and its standard error; above 0 is better.
    db, db_error
        Ratio of the squared errors of the blind predictions once the variance of the noise is taken off, and its
        standard error; None where the noise leaves less than two standard errors of either.
    """

    nats: float
    nats_error: float
    db: float | None = None
    db_error: float | None = None

    @property
    def sure(self) -> bool:
        """True where the gain is larger than twice its standard error."""
        return math.isfinite(self.nats) and self.nats > _SURE * self.nats_error


def held_out_gain(
    before: LiveNet,
    after: LiveNet,
    movies: Sequence[TrainingMovie],
    *,
    seed: int = 0,
    crop: int = 64,
    windows: int = _WINDOWS,
) -> HeldOutGain:
    """Compare two networks of one shape on frames that neither was trained on.

    Parameters
    ----------
    before, after
        The networks.
    movies
        Held-out frames, with those before them as their past.
    seed, crop, windows
        Choose the windows; both networks get the same.

    Notes
    -----
    Standard errors take the windows as independent. They share frames and structures, so the true errors are somewhat
    larger; that is why `HeldOutGain.sure` asks for two of them.
    """
    old = blind_windows(before, movies, seed=seed, crop=crop, windows=windows)
    new = blind_windows(after, movies, seed=seed, crop=crop, windows=windows)
    difference = old[:, 0] - new[:, 0]
    count = len(difference)
    db = _decibels(old[:, 1], new[:, 1])
    return HeldOutGain(float(difference.mean()), float(difference.std(ddof=1) / math.sqrt(count)), *db)


def _decibels(
    old: npt.NDArray[np.float64], new: npt.NDArray[np.float64]
) -> tuple[float | None, float | None]:
    """Return ``10 log10(mean(old) / mean(new))`` and its jackknife error, None where either mean is not sure."""
    count = len(old)
    for each in (old, new):
        if each.mean() < _SURE * each.std(ddof=1) / math.sqrt(count):
            return None, None
    without = 10 * np.log10(np.maximum(old.sum() - old, 1e-12) / np.maximum(new.sum() - new, 1e-12))
    spread = math.sqrt((count - 1) / count * float(np.square(without - without.mean()).sum()))
    return float(10 * math.log10(old.mean() / new.mean())), spread
