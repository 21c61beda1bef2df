"""Tell whether the scene of a movie moves, so that tracking its motion is worth while."""

from __future__ import annotations

from collections import deque
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.movies.arguments import check_movie
from denoscope.runtime.movies.holes import with_values
from denoscope.runtime.noise.clipped import all_without_clipped
from denoscope.runtime.noise.noise import Intensity

from .detail import LARGEST, Array, Equations, Image, Scene
from .field import KNOTS
from .register import AT_FIRST, REACH, Registration

if TYPE_CHECKING:
    from denoscope.runtime.movies import AnyMovie

__all__ = ["EVERY", "QUICK", "Watch", "moves", "moves_anywhere", "surely_still"]

EVERY = 4  # frames of a session, of which one is watched,
QUICK = 128  # at so many pixels of an edge at most
# What decides in the first frames, and later on, where it is asked again and again (`benchmarks/moves.py`).
_WORTH, _WORTH_LATER = 0.75, 0.85  # share of the changes between frames that alignment explains
_SIGMAS, _SIGMAS_LATER = 2.5, 5.0  # standard deviations of the mean gain
# Standard deviation in pixels of what the quarters' motion has in common, and its share of their variance.
_FAR_PX, _IN_COMMON = 1.0, 0.45
# What is worth following, which costs a half more: a standard deviation in pixels, or a gain in variances of the noise
# a pixel, a tenth of the error that is left. The demo movie, a mouse, has 0.17 and 0.0005, and would gain 0.13 dB.
_LEAST_PX, _LEAST_GAIN = 0.18, 1e-3
_SMALLEST = 48  # pixels of an edge
_BELIEVED = 0.25  # bins^2, variance of a displacement beforehand
_MEMORY = 40.0  # watched frames, time constant of the reference
_DOUBT = 10.0  # and over which the misfit of a place is averaged
_SETTLED = 4  # after which the reference is one
_LEAST = 16  # watched frames that may decide,
_MOST = 48  # and that count
_SPREAD = 256  # frames of a recorded movie that are looked at
# Of a scene that surely does not move: standard deviation of the displacements, with its error; what a displacement
# explains at most if it is not worth while, and the squared error that is left, both in variances of the noise.
_SURE_PX, _EXPLAINED, _LEFT = 0.2, 9.2, 1.5
_HALVES = slice(0, KNOTS // 2), slice(KNOTS // 2, KNOTS)
_QUARTERS = tuple(product(_HALVES, _HALVES))


class Watch:
    """Watch a movie for motion of its scene, frame by frame.

    Whether following would help is asked of pixels that had no part in finding the displacement. By the equations of
    Lucas and Kanade (1981), A d = b, three quarters of the frame say where it lies, d, against a running reference; it
    explains 2 d.b - d.A d of the squared error of the fourth, in variances of the noise. Noise, and objects that each
    go their own way, say nothing of another quarter: what they gain is below zero. What a scene gains that moves as
    a whole adds up frame by frame, however dim.

    The equations are linear, and know nothing of motion by more than the scene's details are wide. There the
    registration decides: what changes between frames is explained, nearly all of it, by moving them, or the quarters,
    each registered by itself, move far and alike.

    Parameters
    ----------
    shape
        (H, W) of the frames.
    intensity
        Transform and noise of the session.
    largest
        Pixels of an edge after binning; a look at half as many takes a quarter of the time.
    """

    def __init__(self, shape: tuple[int, int], intensity: Intensity, *, largest: int = LARGEST) -> None:
        self._scene = Scene(shape, 0, intensity, largest=largest)
        self._registration = Registration(shape, intensity, REACH, sigmas=AT_FIRST, largest=largest)
        self._sees = min(shape) >= _SMALLEST
        height, width = shape[0] // 2, shape[1] // 2
        self._quarters = [
            (
                np.s_[top : top + height, left : left + width],
                Registration((height, width), intensity, REACH, largest=largest // 2),
            )
            for top, left in product((0, height), (0, width))
            if self._sees
        ]
        self._paths = np.zeros((_MOST, len(self._quarters), 2))
        self._gains: deque[float] = deque(maxlen=_MOST)
        self._displacements: deque[Array] = deque(maxlen=_MOST)
        self.restart()

    def restart(self) -> None:
        """Forget all: the next frame is the first of a movie."""
        self._reference: Image | None = None
        self._age = 0
        self._misfit = np.ones((KNOTS, KNOTS))
        self._start_registration()
        self._gains.clear()
        self._displacements.clear()

    def see(self, frame: npt.NDArray[Any]) -> None:
        """Take the next frame (H, W) of raw counts."""
        scene = self._scene
        image = scene.image(frame)
        self._register(frame, image)
        if not self._sees:
            return
        detail = scene.detail(image)
        self._age += 1
        if self._reference is None:
            self._reference = detail
            return
        error = self._reference - detail
        error -= error.mean(axis=1, keepdims=True)  # a camera's rows may flicker
        noise = scene.noise(image) * (1 + 1 / min(self._age - 1, _MEMORY))
        if self._age > _SETTLED:
            self._judge(scene.equations(self._reference, noise * self._misfit), error)
        self._misfit += max(1 / (self._age - 1), 1 / _DOUBT) * (scene.misfit(error, noise) - self._misfit)
        self._reference += np.float32(max(1 / self._age, 1 / _MEMORY)) * (detail - self._reference)

    def _start_registration(self) -> None:
        for registration in (self._registration, *(own for _, own in self._quarters)):
            registration.restart()
        self._registered = self._steps = 0
        self._shift = (0, 0)

    def _register(self, frame: npt.NDArray[Any], image: Image) -> None:
        """Note how the frame and its quarters move by more than a fraction; begin anew after so many frames."""
        if self._registered == _MOST:
            self._start_registration()
        shift = self._registration.follow_image(image)
        self._registered += 1
        self._steps += shift != self._shift
        self._shift = shift
        for path, (part, registration) in zip(self._paths[self._registered - 1], self._quarters, strict=True):
            registration.follow(frame[part])
            path[:] = registration.measured

    def _quarters_move_alike(self) -> bool:
        """Say whether most of how the quarters move is common to them: the covariance between them is the scene's."""
        paths = self._paths[_SETTLED : self._registered]
        paths = paths - paths.mean(axis=0)
        together = paths.sum(axis=1)
        count = len(self._quarters)
        own = float(np.square(paths).mean())
        common = (float(np.square(together).mean()) - count * own) / (count * (count - 1))
        return common > max(_FAR_PX**2, _IN_COMMON * own)

    def _judge(self, equations: Equations, error: Image) -> None:
        """Note where the frame lies, and what it gains when each quarter is put where the others say."""
        (yy, xx), yx = equations.own, equations.crossed
        right = equations.right(error)
        a = np.array([[[yy[q].sum(), yx[q].sum()], [yx[q].sum(), xx[q].sum()]] for q in _QUARTERS])
        b = np.array([[right[0][q].sum(), right[1][q].sum()] for q in _QUARTERS])
        before = np.eye(2) / _BELIEVED
        others = np.linalg.solve(a.sum(0) - a + before, (b.sum(0) - b)[:, :, None])[:, :, 0]
        self._gains.append(float((2 * others * b).sum() - np.einsum("qi,qij,qj", others, a, others)))
        self._displacements.append(self._scene.bin * np.linalg.solve(a.sum(0) + before, b.sum(0)))

    def moves(self, *, at_first: bool = False) -> bool:
        """Say whether the last frames gain by being followed.

        It is asked again and again in the course of a movie, and once `at_first`: then less will do.
        """
        worth, sigmas, least = _WORTH_LATER, _SIGMAS_LATER, _LEAST
        if at_first:
            worth, sigmas, least = _WORTH, _SIGMAS, _LEAST // 2
        if self._registered >= least and self._steps > 1 and self._registration.explained > worth:
            return True
        if self._quarters and self._registered >= least + _SETTLED and self._quarters_move_alike():
            return True
        if len(self._gains) < least:
            return False
        gains = np.array(self._gains)
        if gains.mean() <= sigmas * gains.std(ddof=1) / np.sqrt(len(gains)):
            return False
        height, width = self._scene.size
        moved = np.sqrt(np.var(self._displacements, axis=0).mean())
        return bool(moved >= _LEAST_PX or gains.mean() >= _LEAST_GAIN * height * width)


def moves(frames: npt.NDArray[Any], intensity: Intensity) -> bool:
    """Say whether a movie moves as a whole from its beginning, so that following it is worth while: see `Watch`.

    Parameters
    ----------
    frames
        (T, H, W) raw counts, the first of the session.
    intensity
        Transform and noise of the session.
    """
    watch = Watch((frames.shape[1], frames.shape[2]), intensity)
    for frame in with_values(frames):
        watch.see(frame)
    return watch.moves(at_first=True)


def surely_still(frames: npt.NDArray[Any], intensity: Intensity) -> bool:
    """Say whether a few frames show that the scene does not move, or that there is nothing in it that could be seen to.

    By the equations of `Watch`, each frame against the mean of the others. Noise has edges, too: what they add is taken
    from what the two differ by.

    Parameters
    ----------
    frames
        (T, H, W) raw counts in steady light.
    intensity
        Transform and noise.
    """
    images = list(with_values(frames))
    count = len(images)
    if min(frames.shape[1:]) < _SMALLEST or count < 2:
        return False
    scene = Scene((frames.shape[1], frames.shape[2]), 0, intensity)
    images = [scene.image(frame) for frame in images]
    details = [scene.detail(image) for image in images]
    total = np.sum(details, axis=0)
    doubt = scene.noise(images[0]) * count / (count - 1)
    seen, of_noise, rights = np.zeros((2, 2)), np.zeros((2, 2)), []
    for detail in details:
        reference = (total - detail) / np.float32(count - 1)
        error = reference - detail
        if float(np.median(scene.misfit(error, doubt))) > _LEFT:
            return False
        equations = scene.equations(reference, doubt)
        seen += _matrix(equations) / count
        of_noise += _matrix(scene.equations(error, doubt * count)) / count
        rights.append(equations.right(error).sum(axis=(1, 2)))
    structure = seen - of_noise
    pixels = scene.size[0] * scene.size[1]
    least, most = np.linalg.eigvalsh(structure)
    if most < _LEAST_GAIN * pixels / 2:
        return True  # moved by a pixel, it would differ by next to nothing
    if least <= 0:
        return False
    inverse = np.linalg.inv(structure)
    covariance = inverse @ seen @ inverse
    displacements = np.array(rights) @ inverse
    explained = np.einsum("ti,ij,tj->t", displacements, np.linalg.inv(covariance), displacements)
    chance = float(np.trace(covariance)) / 2
    moved = float(np.square(displacements).mean()) - chance + 2 * chance / count**0.5
    return moved * scene.bin**2 < _SURE_PX**2 and bool(
        explained.max() < max(_EXPLAINED, _LEAST_GAIN * pixels)
    )


def _matrix(equations: Equations) -> Array:
    """Return the equations of the whole frame."""
    (yy, xx), yx = (float(each.sum()) for each in equations.own), float(equations.crossed.sum())
    return np.array([[yy, yx], [yx, xx]])


def moves_anywhere(movie: AnyMovie, intensity: Intensity, *, first: int = 32) -> bool:
    """Return True where the scene of a recorded movie moves, at its beginning or later, and tracking it is worth while.

    Parameters
    ----------
    movie
        (T, H, W) raw counts. Its first frames are looked at, and at most 256 of all.
    intensity
        Its transform and noise.
    first
        So many first frames are judged as a session judges those that it calibrates with.

    Returns
    -------
    bool
        True where tracking its motion is worth while.

    Examples
    --------
    >>> import numpy as np
    >>> from denoscope.runtime import estimate_intensity
    >>> still = np.random.default_rng(0).poisson(50, (40, 32, 32)).astype(np.uint16)
    >>> moves_anywhere(still, estimate_intensity(still))
    False
    """
    check_movie(movie)
    if moves(all_without_clipped(np.asarray(movie[:first]), intensity), intensity):
        return True
    watch = Watch((movie.shape[1], movie.shape[2]), intensity)
    # As sparse as a session's at least: objects that crawl seem to move together from frame to frame.
    for frame in with_values(movie, max(EVERY, -(-len(movie) // _SPREAD))):
        watch.see(frame)
        if watch.moves():
            return True
    return False
