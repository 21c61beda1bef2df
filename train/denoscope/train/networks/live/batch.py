"""Random windows of movies, as the `live` network is trained on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from denoscope.runtime.motion.field import KNOTS, between, inverse, lead, places
from denoscope.train.data.clips import Clip
from denoscope.train.data.movie import LONGEST_PAST, TrainingMovie, in_memory
from denoscope.train.data.past import averaged, shares
from denoscope.train.data.sampling import on_the_scene

from .settings import LiveNetSettings

__all__ = ["Batch", "draw_batch"]


@dataclass(frozen=True)
class Batch:
    """Random windows in normalised units, all float32.

    Attributes
    ----------
    window
        (B, N, h, w) frames around the centre; missing ones are zero.
    valid
        (B, N): 1 where the frame exists.
    memory, weight
        (B, m, h, w) exponential averages of what came before, and (B, m) their weights; with `two_sided` those of
        what comes after follow.
    noise
        (B, 2) slope and floor of the noise variance.
    places
        (B, N, 2, KNOTS, KNOTS) where to sample each frame for it to lie on the centre, and, in the centre's place, the
        memory, which holds frames put on the scene (`_places`).
    followed
        (B,): 1 where the movie's scene is followed; `places` of the others are meaningless.
    clean
        (B, 1, h, w) truth; meaningless where `supervised` is 0.
    supervised
        (B,): 1 where the truth is known.
    counted
        (B, 1, h, w): 0 where the centre saturates and neither truth nor measurement is known, else 1.
    """

    window: npt.NDArray[np.float32]
    valid: npt.NDArray[np.float32]
    memory: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float32]
    noise: npt.NDArray[np.float32]
    places: npt.NDArray[np.float32]
    followed: npt.NDArray[np.float32]
    clean: npt.NDArray[np.float32]
    supervised: npt.NDArray[np.float32]
    counted: npt.NDArray[np.float32]


def draw_batch(
    movies: Sequence[TrainingMovie],
    shares: npt.NDArray[np.float64],
    settings: LiveNetSettings,
    *,
    size: int,
    crop: int,
    rng: np.random.Generator,
    seed: int = 0,
    step: int | None = None,
) -> Batch:
    """Draw random windows as a live session could meet them.

    Starts of sessions, ends, gaps and shorter look-aheads all occur, so one set of weights serves
    every look-ahead and every frame of a movie.

    Parameters
    ----------
    movies, shares
        What to draw from and with which probabilities.
    settings
        Gives window and memory.
    size, crop
        Number of windows and their edge in pixels.
    rng
        Source of every choice.
    seed, step
        Decide which parts of a movie that is larger than memory are drawn from; with no step, the
        same ones always.
    """
    n, keep = settings.window, np.exp(-1.0 / np.asarray(settings.memory_decay))
    window = np.zeros((size, n, crop, crop), np.float32)
    valid = np.zeros((size, n), np.float32)
    memory = np.zeros((size, settings.memories, crop, crop), np.float32)
    weight = np.zeros((size, settings.memories), np.float32)
    ahead = LONGEST_PAST if settings.two_sided else 0
    noise = np.zeros((size, 2), np.float32)
    sampled = np.zeros((size, n, 2, KNOTS, KNOTS), np.float32)
    followed = np.zeros(size, np.float32)
    clean = np.zeros((size, 1, crop, crop), np.float32)
    supervised = np.zeros(size, np.float32)
    counted = np.ones((size, 1, crop, crop), np.float32)
    for b, choice in enumerate(rng.choice(len(movies), size=size, p=shares)):
        movie = movies[choice]
        unit = movie.intensity
        clip = movie.clip(crop=crop, window=n, ahead=ahead, seed=seed, step=step, rng=rng)
        frames, length = clip.frames, len(movie.frames)
        height, width = frames.shape[1:]
        centre = clip.centres[int(rng.integers(len(clip.centres)))]
        first = max(0, centre - int(rng.integers(0, 24))) if rng.random() < 0.3 else 0
        shortened = 0.2 if settings.two_sided else 0.6  # a recorded movie is hardly denoised with less
        look_ahead = (
            int(rng.integers(0, settings.look_ahead + 1)) if rng.random() < shortened else settings.look_ahead
        )
        end = length
        if settings.two_sided and rng.random() < 0.15:
            end = min(length, centre + 1 + int(rng.integers(0, 24)))
        y, x = int(rng.integers(height - crop + 1)), int(rng.integers(width - crop + 1))
        area = slice(y, y + crop), slice(x, x + crop)
        flip_y, flip_x = int(rng.integers(2)) * 2 - 1, int(rng.integers(2)) * 2 - 1
        for i in range(n):
            index = centre + i - n // 2
            exists = first <= index < end and index <= centre + look_ahead
            if index == centre or (exists and rng.random() > 0.03):
                window[b, i] = (frames[index - clip.first][area] - unit.offset) / unit.scale
                valid[b, i] = 1
        fields = movie.fields if settings.subpixel else None
        if fields is not None:
            near = np.clip(np.arange(n) + centre - n // 2, 0, length - 1)
            there = between(fields[near], (height, width), area)
            sampled[b] = _onto_the_centre(_flipped(there, flip_y, flip_x), crop)
            followed[b] = 1
        for side, (start, stop) in enumerate(_remembered_frames(settings, centre, first, end, look_ahead)):
            if stop > start:
                part = slice(side * len(keep), (side + 1) * len(keep))
                averages, of = _remembered(movie, clip, fields, keep, start, stop, area, backwards=side == 1)
                memory[b, part] = (averages - unit.offset * of[:, None, None]) / unit.scale
                weight[b, part] = of
        noise[b] = unit.noise_slope, unit.noise_floor
        if movie.clean is not None:
            top, left = clip.corner
            truth = movie.clean[centre, top + y : top + y + crop, left + x : left + x + crop]
            clean[b, 0] = (truth - unit.offset) / unit.scale
            supervised[b] = 1
        if movie.lost is not None:
            counted[b, 0] = movie.measured(centre, area)
        for array in (window, memory, clean, counted):
            array[b] = array[b, :, ::flip_y, ::flip_x]
    return Batch(window, valid, memory, weight, noise, sampled, followed, clean, supervised, counted)


def _remembered_frames(
    settings: LiveNetSettings, centre: int, first: int, end: int, look_ahead: int
) -> list[tuple[int, int]]:
    """Return first and last (exclusive) frame of what is remembered on each side of a window."""
    before = first, centre - settings.window // 2
    return [before, (centre + look_ahead + 1, end)] if settings.two_sided else [before]


def _remembered(
    movie: TrainingMovie,
    clip: Clip,
    fields: npt.NDArray[np.float32] | None,
    keep: npt.NDArray[np.float64],
    first: int,
    stop: int,
    area: tuple[slice, slice],
    *,
    backwards: bool,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the averages (m, h, w), raw counts, and weights (m,) of an area after frames `first` to `stop`.

    `backwards` takes them the last one first.
    """
    length = len(movie.frames)
    if (stop == length if backwards else first == 0) and in_memory(movie.frames):
        past = movie.past(keep, on_the_scene=fields is not None, backwards=backwards)
        return past.before(length - first if backwards else stop, area)
    if backwards:
        start, stop = first, min(stop, first + LONGEST_PAST, clip.first + len(clip.frames))
    else:
        start = max(first, stop - LONGEST_PAST)
    share = shares(keep, stop - start)
    frames = clip.frames[start - clip.first : stop - clip.first, area[0], area[1]]
    if fields is not None:
        settled = movie.on_the_scene
        shape = clip.frames.shape[1], clip.frames.shape[2]
        frames = (
            on_the_scene(frames, between(fields[start:stop], shape, area))
            if settled is None
            else settled[start:stop, area[0], area[1]]
        )
    return averaged(frames[::-1] if backwards else frames, share), share.sum(1)


def _onto_the_centre(fields: npt.NDArray[np.float32], crop: int) -> npt.NDArray[np.float32]:
    """Return where to sample each frame of a window, and the memory in the centre's place, to lie on the centre."""
    shape, centre = (crop, crop), len(fields) // 2
    back = inverse(fields[centre], shape)
    leads = [-back if i == centre else lead(each, back, shape) for i, each in enumerate(fields)]
    return np.concatenate([places(each, shape, shape) for each in leads])


def _flipped(fields: npt.NDArray[np.float32], flip_y: int, flip_x: int) -> npt.NDArray[np.float32]:
    """Return the fields (..., 2, KNOTS, KNOTS) of frames that are turned over along an axis where it is -1."""
    signs = np.array([flip_y, flip_x], np.float32)[:, None, None]
    return fields[..., ::flip_y, ::flip_x] * signs
