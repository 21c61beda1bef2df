"""Keep an adaptation from forgetting, by the first weights and by scenes that the movie did not show.

A movie of a second knows no cell that lights up later. A network that goes on to learn from it alone learns that
nothing ever does, and swallows the first cell that does: on 20 frames of a movie the held-out frames of
the same second cannot tell. So a short movie shares its windows with simulated movies (rehearsal),
and what is kept is an average of the trained weights with those of the start (Wortsman et al. 2022).
Both are governed by one number that falls with the length of the movie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from denoscope.train.data.movie import TrainingMovie, simulated_movies
from denoscope.train.fit_settings import FitSettings
from denoscope.train.simulator.simulate import ALL_KINDS

__all__ = ["blended", "caution_of", "rehearsal_movies"]

_MOST = 0.6  # caution of an adaptation to next to nothing
_HALVING_FRAMES = 50  # halve it, again and again
_LEAST = 0.02  # below it nothing is rehearsed

_MOVIES, _FRAMES, _MARGIN = 12, 200, 8
_KINDS = ("two-photon", *ALL_KINDS)  # twice the chance for what the package is used for most


def caution_of(settings: FitSettings, movies: Sequence[TrainingMovie]) -> float:
    """Return how much an adaptation to `movies` holds on to what the start knew, 0 to 1."""
    if settings.caution is not None:
        return settings.caution
    if any(movie.clean is not None for movie in movies):
        return 0.0  # whoever gives simulated movies has chosen what to rehearse
    frames = sum(len(movie.frames) for movie in movies)
    caution = _MOST * 0.5 ** (frames / _HALVING_FRAMES)
    return caution if caution >= _LEAST else 0.0


def rehearsal_movies(seed: int, crop: int) -> list[TrainingMovie]:
    """Simulate the movies that are rehearsed in crops of `crop` pixels: few and small, of every kind, in seconds."""
    return simulated_movies(_MOVIES, frames=_FRAMES, size=crop + _MARGIN, seed=seed, kinds=_KINDS)


def blended(start: Mapping[str, Tensor], trained: Mapping[str, Tensor], caution: float) -> dict[str, Tensor]:
    """Return the average of two sets of weights, the share `caution` of it the start's."""
    return {name: torch.lerp(value, start[name].to(value), caution) for name, value in trained.items()}
