"""Movies to train on: files checked before they are read, simulated scenes, and random windows of both."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from denoscope.runtime import (
    AnyMovie,
    CameraCalibration,
    Intensity,
    InvalidInput,
    LazyMovie,
    align_movie,
    estimate_intensity,
    filled_when_read,
    follow_motion,
    open_movie,
    shown_by_all,
    without_holes,
)
from denoscope.runtime._field import KNOTS, between, inverse, lead, places
from denoscope.train._clips import Clip, ClipPool
from denoscope.train._live import LiveSettings
from denoscope.train._past import Past, averaged, shares
from denoscope.train._places import sample_frames, spreading
from denoscope.train._simulate import random_settings, simulate

__all__ = ["Batch", "TrainingMovie", "aligned", "draw_batch", "movie_from_file", "simulated_movies"]

_CALIBRATION_FRAMES = 32
_AT_ONCE = 64  # frames
_LONGEST_PAST = 400  # frames that a window of a movie on disk remembers at most
_MINIMUM_FRAMES = 10
_MINIMUM_EDGE = 32  # pixels
_IN_MEMORY_BYTES = 256 * 2**20  # files that cannot be mapped are read whole up to this size


@dataclass(frozen=True)
class TrainingMovie:
    """One movie with what is known about it.

    Attributes
    ----------
    name
        Shown in logs and on the bundle's card.
    frames
        (T, H, W) raw counts; may be memory-mapped, or larger than memory.
    clean
        (T, H, W) expected counts where they are known (simulation), else None.
    intensity
        Transform and noise model, estimated as a live session would.
    fields
        (T, 2, KNOTS, KNOTS) how far each part of a frame lies off the scene after it was moved by whole pixels
        (`denoscope.runtime._field`); None for a movie that was not.
    note
        What the user should know of how the file was read; empty if nothing.
    first
        Number of the first frame that windows are drawn around; those before it are only their past.
    """

    name: str
    frames: AnyMovie
    clean: npt.NDArray[np.float32] | None
    intensity: Intensity
    first: int = 0
    fields: npt.NDArray[np.float32] | None = field(default=None, repr=False)
    note: str = ""
    _pools: dict[tuple[int, int, int], ClipPool] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _pasts: dict[tuple[bytes, bool], Past] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @cached_property
    def on_the_scene(self) -> npt.NDArray[np.float32] | None:
        """The frames (T, H, W) sampled where the scene's pixels are; None for what was not moved or is on disk."""
        if self.fields is None or isinstance(self.frames, LazyMovie):
            return None
        return _on_the_scene(self.frames, self.fields)

    def past(self, keep: npt.NDArray[np.float64], *, on_the_scene: bool) -> Past:
        """Return the averages of all frames before any frame of a movie in memory, as they are or on the scene."""
        key = keep.tobytes(), on_the_scene
        if key not in self._pasts:
            frames = self.on_the_scene if on_the_scene else self.frames
            assert isinstance(frames, np.ndarray)
            self._pasts[key] = Past(frames, keep)
        return self._pasts[key]

    def held_bytes(self, memories: int) -> int:
        """Return the memory that drawing windows with so many averages of the past takes beside the frames."""
        if not _in_memory(self.frames):
            return 0
        frame = 4 * math.prod(self.frames.shape[1:])
        return frame * (
            Past.kept(len(self.frames)) * memories + (len(self.frames) if self.fields is not None else 0)
        )

    def part(self, start: int, stop: int) -> TrainingMovie:
        """Return the frames `start` to `stop` (exclusive) with the same intensity transform."""
        clean = None if self.clean is None else self.clean[start:stop]
        fields = None if self.fields is None else self.fields[start:stop]
        return TrainingMovie(self.name, self.frames[start:stop], clean, self.intensity, fields=fields)

    def ending(self, first: int) -> TrainingMovie:
        """Return the frames from `first` on, with those before them as their past."""
        return TrainingMovie(self.name, self.frames, self.clean, self.intensity, first, self.fields)

    def clip(self, *, crop: int, window: int, seed: int, step: int | None, rng: np.random.Generator) -> Clip:
        """Return what to draw a window from: the movie, or a clip of it if it is on disk.

        Parameters
        ----------
        crop, window
            Edge of the windows in pixels, and their frames.
        seed, step
            Decide which clips are in memory, see `ClipPool`.
        rng
            Chooses among them; not used for movies in memory.
        """
        frames = self.frames
        if not isinstance(frames, LazyMovie):
            return Clip(frames, 0, range(self.first, len(frames)), (0, 0))
        key = (crop, window, seed)
        if key not in self._pools:
            self._pools[key] = ClipPool(
                frames, crop=crop, past=_LONGEST_PAST + window, ahead=window, seed=seed, first=self.first
            )
        return self._pools[key].draw(step, rng)


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
        (B, m, h, w) exponential averages of what came before, and (B, m) their weights.
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


def movie_from_file(
    path: Path,
    frames: slice = slice(None),
    *,
    channel: int | str | None = None,
    plane: int | str | None = None,
    position: int | str | None = None,
    interleaved: int | None = None,
    camera: CameraCalibration | None = None,
) -> TrainingMovie:
    """Open the movie at `path`, cut to `frames`, with its noise model estimated.

    `channel`, `plane`, `position` and `interleaved` are those of `denoscope.runtime.open_movie`; frames are
    corrected with the calibration of the `camera`, if given.
    """
    movie = open_movie(path, channel=channel, plane=plane, position=position, interleaved=interleaved)[frames]
    note: str = getattr(movie, "note", "")
    if camera is not None:
        movie = camera.correct_movie(movie)
    if isinstance(movie, LazyMovie) and movie.nbytes <= _IN_MEMORY_BYTES:
        movie = np.asarray(movie)
    if movie.dtype.kind == "f":
        # A network that has to predict what was filled learns to copy pixels: borders of NaN are cut off.
        movie = without_holes(movie)[0] if _in_memory(movie) else filled_when_read(movie)
    if len(movie) < _MINIMUM_FRAMES:
        raise InvalidInput(
            f"{path.name} has {len(movie)} frames in the chosen range; training needs {_MINIMUM_FRAMES} or more."
        )
    if min(movie.shape[1:]) < _MINIMUM_EDGE:
        raise InvalidInput(
            f"{path.name} is {movie.shape[1]} x {movie.shape[2]} pixels; the least is 32 x 32."
        )
    intensity = estimate_intensity(np.asarray(movie[:_CALIBRATION_FRAMES]))
    return TrainingMovie(path.name, movie, None, intensity, note=note)


def simulated_movies(
    count: int,
    *,
    frames: int = 420,
    size: int = 96,
    seed: int,
    first: int = 0,
    kinds: Sequence[str] = ("two-photon",),
    progress: Callable[[int], None] = lambda _: None,
) -> list[TrainingMovie]:
    """Simulate `count` varied movies of `size` x `size` pixels with truth.

    Parameters
    ----------
    count, frames, size, seed
        How many, how long, how large, and the seed of every choice.
    first
        Number of the first of them: seed and number decide a movie.
    kinds
        Kinds of scene to choose from, see `random_settings`.
    progress
        Called with the number of movies done.
    """
    movies = []
    for index in range(first, first + count):
        rng = np.random.default_rng((seed, index))
        scene, camera = random_settings(rng, frames=frames, height=size, width=size, kinds=kinds)
        simulated = simulate(scene, camera, seed=int(rng.integers(2**31)))
        noisy = np.rint(simulated.noisy)
        intensity = estimate_intensity(noisy[:_CALIBRATION_FRAMES])
        movie = TrainingMovie(f"simulated-{seed}-{index}", noisy, simulated.clean, intensity)
        movies.append(aligned(movie))
        progress(len(movies))
    return movies


def aligned(movie: TrainingMovie, on_frame: Callable[[int], None] = lambda _: None) -> TrainingMovie:
    """Return the movie as a live session sees it: moved to its rest position if it moves as a whole.

    A movie whose scene drifts off the canvas ends there, unless less than half of it would be left. Of a movie
    without truth only what every frame shows is kept: beyond it a frame's border is repeated, and a network that
    has to predict a pixel from copies of it learns to keep its noise. Where less than 32 x 32 pixels would be left,
    the movie is returned as it is.

    Parameters
    ----------
    movie
        A movie that moves is read once from end to end; one that has been aligned is returned.
    on_frame
        Called with the number of frames done.
    """
    if movie.fields is not None:
        return movie  # it has been
    motion = follow_motion(movie.frames, movie.intensity, on_frame=on_frame)
    if motion is None or len(motion.fields) < max(_MINIMUM_FRAMES, len(movie.frames) // 2):
        return movie
    shape, displacements = movie.frames.shape[1:], motion.displacements
    clean, part = movie.clean, (slice(0, shape[0]), slice(0, shape[1]))
    if clean is not None:
        clean = np.asarray(align_movie(clean, displacements, movie.name), np.float32)
    else:
        part = shown_by_all(shape, displacements)
        if min(side.stop - side.start for side in part) < _MINIMUM_EDGE:
            return movie
    frames = align_movie(movie.frames, displacements, movie.name, part=part)
    fields = between(motion.fields, shape, part)
    return TrainingMovie(movie.name, frames, clean, movie.intensity, fields=fields)


def draw_batch(
    movies: Sequence[TrainingMovie],
    shares: npt.NDArray[np.float64],
    settings: LiveSettings,
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
    memory = np.zeros((size, len(keep), crop, crop), np.float32)
    weight = np.zeros((size, len(keep)), np.float32)
    noise = np.zeros((size, 2), np.float32)
    sampled = np.zeros((size, n, 2, KNOTS, KNOTS), np.float32)
    followed = np.zeros(size, np.float32)
    clean = np.zeros((size, 1, crop, crop), np.float32)
    supervised = np.zeros(size, np.float32)
    for b, choice in enumerate(rng.choice(len(movies), size=size, p=shares)):
        movie = movies[choice]
        unit = movie.intensity
        clip = movie.clip(crop=crop, window=n, seed=seed, step=step, rng=rng)
        frames, length = clip.frames, len(movie.frames)
        height, width = frames.shape[1:]
        centre = clip.centres[int(rng.integers(len(clip.centres)))]
        first = max(0, centre - int(rng.integers(0, 24))) if rng.random() < 0.3 else 0
        look_ahead = (
            int(rng.integers(0, settings.look_ahead + 1)) if rng.random() < 0.6 else settings.look_ahead
        )
        y, x = int(rng.integers(height - crop + 1)), int(rng.integers(width - crop + 1))
        area = slice(y, y + crop), slice(x, x + crop)
        flip_y, flip_x = int(rng.integers(2)) * 2 - 1, int(rng.integers(2)) * 2 - 1
        for i in range(n):
            index = centre + i - n // 2
            exists = first <= index < length and index <= centre + look_ahead
            if index == centre or (exists and rng.random() > 0.03):
                window[b, i] = (frames[index - clip.first][area] - unit.offset) / unit.scale
                valid[b, i] = 1
        fields = movie.fields if settings.subpixel else None
        if fields is not None:
            near = np.clip(np.arange(n) + centre - n // 2, 0, length - 1)
            there = between(fields[near], (height, width), area)
            sampled[b] = _onto_the_centre(_flipped(there, flip_y, flip_x), crop)
            followed[b] = 1
        stop = centre - n // 2
        if stop > first:
            averages, weight[b] = _remembered(movie, clip, fields, keep, first, stop, area)
            memory[b] = (averages - unit.offset * weight[b, :, None, None]) / unit.scale
        noise[b] = unit.noise_slope, unit.noise_floor
        if movie.clean is not None:
            top, left = clip.corner
            truth = movie.clean[centre, top + y : top + y + crop, left + x : left + x + crop]
            clean[b, 0] = (truth - unit.offset) / unit.scale
            supervised[b] = 1
        for array in (window, memory, clean):
            array[b] = array[b, :, ::flip_y, ::flip_x]
    return Batch(window, valid, memory, weight, noise, sampled, followed, clean, supervised)


def _remembered(
    movie: TrainingMovie,
    clip: Clip,
    fields: npt.NDArray[np.float32] | None,
    keep: npt.NDArray[np.float64],
    first: int,
    stop: int,
    area: tuple[slice, slice],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the averages (m, h, w), raw counts, and weights (m,) of an area after frames `first` to `stop`."""
    if first == 0 and _in_memory(movie.frames):
        return movie.past(keep, on_the_scene=fields is not None).before(stop, area)
    start = max(first, stop - _LONGEST_PAST)
    share = shares(keep, stop - start)
    frames = clip.frames[start - clip.first : stop - clip.first, area[0], area[1]]
    if fields is not None:
        settled = movie.on_the_scene
        shape = clip.frames.shape[1], clip.frames.shape[2]
        frames = (
            _on_the_scene(frames, between(fields[start:stop], shape, area))
            if settled is None
            else settled[start:stop, area[0], area[1]]
        )
    return averaged(frames, share), share.sum(1)


def _in_memory(frames: AnyMovie) -> bool:
    mapped = isinstance(frames, np.memmap) and frames.nbytes > _IN_MEMORY_BYTES
    return isinstance(frames, np.ndarray) and not mapped


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


def _on_the_scene(frames: npt.NDArray[Any], fields: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return aligned frames (T, h, w), sampled where the scene's pixels are."""
    moved = np.empty(frames.shape, np.float32)
    shape = (frames.shape[1], frames.shape[2])
    weights = spreading(shape)
    for start in range(0, len(frames), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        pictures = torch.from_numpy(np.asarray(frames[part], np.float32))[:, None]
        at = torch.from_numpy(np.concatenate([places(each, shape, shape) for each in fields[part]]))
        moved[part] = sample_frames(pictures, at, *weights)[:, 0].numpy()
    return moved
