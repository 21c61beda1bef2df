"""Movies to train on: files checked before they are read, simulated scenes, and random windows of both."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from denoscope.runtime import (
    AnyMovie,
    CameraCalibration,
    Intensity,
    InvalidInput,
    LazyMovie,
    align_movie,
    counted,
    estimate_intensity,
    filled_when_read,
    follow_motion,
    frames_to_measure,
    measure_scanner,
    open_movie,
    shown_by_all,
    without_holes,
)
from denoscope.runtime.motion.field import between
from denoscope.runtime.noise.clipped import filled_estimate, saturated_pixels, take_out_clipped
from denoscope.train.simulator.simulate import random_settings, simulate

from .clips import Clip, ClipPool
from .past import Past
from .sampling import on_the_scene

__all__ = ["LONGEST_PAST", "TrainingMovie", "aligned", "in_memory", "movie_from_file", "simulated_movies"]

_CALIBRATION_FRAMES = 32
LONGEST_PAST = 400  # frames that a window of a movie on disk remembers at most
_MINIMUM_FRAMES = 10
_MINIMUM_EDGE = 32  # pixels
_IN_MEMORY_BYTES = 256 * 2**20  # files are read whole up to this size


Lost = tuple[npt.NDArray[np.intp], ...]


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
        (`denoscope.runtime.motion.field`); None for a movie that was not.
    note
        What the user should know of how the file was read; empty if nothing.
    lost
        Indices into each flat frame of the pixels that saturate: what `frames` holds there was filled as `Stream` fills
        it, and is no measurement. None where none does.
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
    lost: Lost | None = field(default=None, repr=False)
    _pools: dict[tuple[int, int, int, int], ClipPool] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _pasts: dict[tuple[bytes, bool, bool], Past] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @cached_property
    def on_the_scene(self) -> npt.NDArray[np.float32] | None:
        """The frames (T, H, W) sampled where the scene's pixels are; None for what was not moved or is on disk."""
        if self.fields is None or isinstance(self.frames, LazyMovie):
            return None
        return on_the_scene(self.frames, self.fields)

    def past(self, keep: npt.NDArray[np.float64], *, on_the_scene: bool, backwards: bool = False) -> Past:
        """Return the running averages of all frames before any frame of a movie in memory.

        Parameters
        ----------
        keep
            (M,): the share that each average keeps from one frame to the next.
        on_the_scene
            Average frames that are aligned on the scene, instead of frames as they are.
        backwards
            Average all frames after any frame instead.
        """
        key = keep.tobytes(), on_the_scene, backwards
        if key not in self._pasts:
            frames = self.on_the_scene if on_the_scene else self.frames
            assert isinstance(frames, np.ndarray)
            self._pasts[key] = Past(frames[::-1] if backwards else frames, keep)
        return self._pasts[key]

    def held_bytes(self, memories: int) -> int:
        """Return the bytes that drawing windows with so many averages of the past takes beside the frames."""
        if not in_memory(self.frames):
            return 0
        frame = 4 * math.prod(self.frames.shape[1:])
        return frame * (
            Past.kept(len(self.frames)) * memories + (len(self.frames) if self.fields is not None else 0)
        )

    def part(self, start: int, stop: int) -> TrainingMovie:
        """Return the frames `start` to `stop` (exclusive) with the same intensity transform."""
        clean = None if self.clean is None else self.clean[start:stop]
        fields = None if self.fields is None else self.fields[start:stop]
        lost = None if self.lost is None else self.lost[start:stop]
        return TrainingMovie(
            self.name, self.frames[start:stop], clean, self.intensity, fields=fields, lost=lost
        )

    def ending(self, first: int) -> TrainingMovie:
        """Return the frames from `first` on, with those before them as their past."""
        return TrainingMovie(
            self.name, self.frames, self.clean, self.intensity, first, self.fields, lost=self.lost
        )

    def measured(self, frame: int, area: tuple[slice, slice]) -> npt.NDArray[np.float32]:
        """Return 1 where the pixels of an area of a frame were measured, 0 where they saturate."""
        shape = self.frames.shape[1:]
        known = np.ones(shape, np.float32)
        if self.lost is not None:
            known.ravel()[self.lost[frame]] = 0
        return known[area]

    def clip(
        self, *, crop: int, window: int, ahead: int = 0, seed: int, step: int | None, rng: np.random.Generator
    ) -> Clip:
        """Return what to draw a window from: the movie, or a clip of it if it is on disk.

        Parameters
        ----------
        crop, window
            Edge of the windows in pixels, and their frames.
        ahead
            Frames after a window that are wanted too.
        seed, step
            Decide which clips are in memory, see `ClipPool`.
        rng
            Chooses among them; not used for movies in memory.
        """
        frames = self.frames
        if not isinstance(frames, LazyMovie):
            return Clip(frames, 0, range(self.first, len(frames)), (0, 0))
        key = (crop, window, ahead, seed)
        if key not in self._pools:
            self._pools[key] = ClipPool(
                frames,
                crop=crop,
                past=LONGEST_PAST + window,
                ahead=window + ahead,
                seed=seed,
                first=self.first,
            )
        return self._pools[key].draw(step, rng)


def movie_from_file(
    path: Path,
    frames: slice = slice(None),
    *,
    channel: int | str | None = None,
    plane: int | str | None = None,
    position: int | str | None = None,
    interleaved: int | None = None,
    axes: str | None = None,
    camera: CameraCalibration | None = None,
) -> TrainingMovie:
    """Open a movie to train on, with its noise model estimated.

    Parameters
    ----------
    path
        Movie of any format that `denoscope.runtime.open_movie` opens.
    frames
        Part of it.
    channel, plane, position, interleaved, axes
        Choice in files of several movies, see `denoscope.runtime.open_movie`.
    camera
        Calibration that the frames are corrected with; None for none.

    Returns
    -------
    TrainingMovie
        (T, H, W), not read yet where the file is large.

    Raises
    ------
    InvalidInput
        If the file cannot be opened, or holds too few frames or pixels to train on.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "movie.npy")
    ...     np.save(path, np.random.default_rng(0).poisson(100, (20, 32, 32)).astype(np.uint16))
    ...     movie = movie_from_file(path, slice(5, None))
    >>> movie.frames.shape
    (15, 32, 32)
    """
    movie = open_movie(
        path,
        channel=channel,
        plane=plane,
        position=position,
        interleaved=interleaved,
        axes=axes,
        mapped=False,
    )[frames]
    note: str = getattr(movie, "note", "")
    if camera is not None:
        movie = camera.correct_movie(movie)
    if isinstance(movie, LazyMovie) and movie.nbytes <= _IN_MEMORY_BYTES:
        movie = np.asarray(movie)
    if movie.dtype.kind == "f":
        # A network that has to predict what was filled learns to copy pixels: borders of NaN are cut off.
        movie = without_holes(movie)[0] if in_memory(movie) else filled_when_read(movie)
    if len(movie) < _MINIMUM_FRAMES:
        raise InvalidInput(
            f"{path.name} has {counted(len(movie), 'frame')} in the chosen range; training needs {_MINIMUM_FRAMES} "
            "or more."
        )
    if min(movie.shape[1:]) < _MINIMUM_EDGE:
        raise InvalidInput(
            f"{path.name} is {movie.shape[1]} x {movie.shape[2]} pixels; training needs 32 x 32 or more."
        )
    filled, estimated = filled_estimate(np.asarray(movie[:_CALIBRATION_FRAMES]))
    intensity = estimated or estimate_intensity(filled)
    movie, lost = _without_saturated(movie, intensity)
    artefacts = measure_scanner(frames_to_measure(movie)).sentences()
    note = "; ".join(filter(None, (note, intensity.warning(), *artefacts)))
    return TrainingMovie(path.name, movie, None, intensity, note=note, lost=lost)


def _without_saturated(movie: AnyMovie, intensity: Intensity) -> tuple[AnyMovie, Lost | None]:
    """Return a movie whose saturated structures are filled as `Stream` does, and which pixels of it are no measurement.

    A movie that is not in memory is returned as it is.
    """
    if not in_memory(movie):
        return movie, None
    masks = [saturated_pixels(np.asarray(frame), intensity) for frame in movie]
    if all(mask is None for mask in masks):
        return movie, None
    none = np.zeros(0, np.intp)
    lost = tuple(none if mask is None else np.flatnonzero(mask) for mask in masks)
    return np.stack([take_out_clipped(np.asarray(frame), intensity)[0] for frame in movie]), lost


def simulated_movies(
    count: int,
    *,
    frames: int = 420,
    size: int = 96,
    seed: int,
    first: int = 0,
    kinds: Sequence[str] = ("two-photon",),
    fine: float = 0.0,
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
    fine
        Share of the scenes that have fine structure.
    progress
        Called with the number of movies done.

    Returns
    -------
    list of TrainingMovie
        Frames and truth (T, H, W) each.

    Examples
    --------
    >>> [movie.frames.shape for movie in simulated_movies(2, frames=8, size=48, seed=1)]
    [(8, 48, 48), (8, 48, 48)]
    """
    movies = []
    for index in range(first, first + count):
        rng = np.random.default_rng((seed, index))
        scene, camera = random_settings(rng, frames=frames, height=size, width=size, kinds=kinds, fine=fine)
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

    Returns
    -------
    TrainingMovie
        (T', H', W') of the same dtype; the movie itself where it is still.
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
    lost = None
    if movie.lost is not None:
        holes = np.zeros(movie.frames.shape, np.uint8)
        for frame, at in zip(holes, movie.lost, strict=True):
            frame.ravel()[at] = 1
        holes = np.asarray(align_movie(holes, displacements, movie.name, part=part))
        lost = tuple(np.flatnonzero(frame) for frame in holes)
    frames = align_movie(movie.frames, displacements, movie.name, part=part)
    fields = between(motion.fields, shape, part)
    return TrainingMovie(movie.name, frames, clean, movie.intensity, fields=fields, lost=lost)


def in_memory(frames: AnyMovie) -> bool:
    """Return whether reading any part of a movie is cheap."""
    mapped = isinstance(frames, np.memmap) and frames.nbytes > _IN_MEMORY_BYTES
    return isinstance(frames, np.ndarray) and not mapped
