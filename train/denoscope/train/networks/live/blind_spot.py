"""Blind spot that a movie's noise needs, for a network that begins and for one that goes on to learn."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from denoscope.runtime import InvalidInput, choose_blind_spot, measure_noise_correlation
from denoscope.train.data.movie import TrainingMovie

from .settings import LiveNetSettings

__all__ = ["blind_spots_for", "hiding_noise"]

_MEASURED_FRAMES = 200
_COVERED: dict[str, set[str]] = {
    "cell": {"cell"},
    "bleed": {"cell", "bleed"},
    "row": {"cell", "bleed", "row"},
    "neighbours": {"cell", "bleed", "neighbours"},
}


def blind_spots_for(movies: Sequence[TrainingMovie]) -> tuple[set[str], list[str]]:
    """Return the blind spots that the noise of the movies asks for, and what the user should know of it.

    Parameters
    ----------
    movies
        Movies to train on.

    Returns
    -------
    set of str, list of str
        Names of blind spots, empty where the movies are too small to tell; and sentences.
    """
    try:
        measured = [measure_noise_correlation(movie.frames[:_MEASURED_FRAMES]) for movie in movies]
    except InvalidInput as error:
        return set(), [f"the noise was not tested for correlation: {error}"]
    sentences = [f"{m.name}: {w}" for m, c in zip(movies, measured, strict=True) if (w := c.warning())]
    return {choose_blind_spot(correlation) for correlation in measured}, sentences


def hiding_noise(
    shape: LiveNetSettings, needed: Collection[str], *, trained: bool
) -> tuple[LiveNetSettings, list[str]]:
    """Return a network's settings with a blind spot that hides the noise of its movies from it.

    A network that learns from noisy pixels learns whatever the pixels in sight know of their noise: one
    that sees the rest of its row learns to keep the noise that the row shares.

    Parameters
    ----------
    shape
        Settings of the network that is to be trained.
    needed
        What `blind_spots_for` found in the movies that it will learn from.
    trained
        Whether it has weights already. Then its blind spot never becomes smaller, and is widened along the
        row only, which leaves every weight its meaning.

    Returns
    -------
    settings, sentences
        The settings, and what the user should know of the choice.
    """
    sentences, before = [], shape.blind_spot
    if not trained:
        widest = next((spot for spot in ("neighbours", "row", "bleed", "cell") if spot in needed), before)
        shape = replace(shape, blind_spot=widest)
    elif wider := [spot for spot in ("row", "bleed") if spot in set(needed) - _COVERED[before]]:
        shape = replace(shape, blind_spot=wider[0])
        sentences.append(f"the blind spot becomes `{wider[0]}` instead of the start's `{before}`")
    if missing := set(needed) - _COVERED[shape.blind_spot]:
        remedy = ": train with `start` nothing" if trained else ""
        sentences.append(
            f"the network's blind spot `{shape.blind_spot}` does not hide noise of the kind "
            f"{', '.join(sorted(missing))}, so part of the noise may stay{remedy}"
        )
    return shape, sentences
