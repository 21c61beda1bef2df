"""Motion that differs from place to place: a displacement field of each frame against a running reference, numpy only.

The damped equations of Lucas and Kanade (1981), first for the whole frame, which the registration has put to within a
fraction of a pixel, then at the knots of a coarse grid, with a Gaussian process as what is
believed beforehand: parts of the scene wander smoothly in space and from frame to frame, and a scanner that moves while
it writes a frame shears it along the rows' axis, anew in each frame. How strong either is follows from the data (the
variance of the equations' right-hand side beyond that of the noise), so a scene that moves as a whole gets no field.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.noise.noise import Intensity

from .detail import Array, Image, Scene, joined
from .field import KNOTS

__all__ = ["LocalMotion"]

_LENGTH = 25.0  # pixels over which the motion of parts is alike, and at least
_LEAST_KNOTS = 1.2  # steps between knots
_MEMORY = 20.0  # frames, time constant of the reference
_STATISTICS = 40.0  # and of what is known of the strength of the motion
_DOUBT = 10.0  # frames over which the misfit of a place is averaged
_SETTLED = 6  # frames after which the strengths are estimated
_AT_FIRST = np.array([0.1, 0.05])  # pixels^2, before that
_FREEDOM = np.array([4.0, 1.0])  # times the estimate: parts that were lost are found again
_STRONGEST = 1.0  # pixels^2
_WEAKEST = 1e-5
_LEAK = 0.95  # of a displacement that is there in the next frame: tissue returns
_RIGID_STEPS = 1
_RIGID = 0.03  # bins^2, how far off the rigid displacement is believed to be,
_RIGID_REACH = 1.0  # and bins that it may be
_STEPS = 2  # of the equations, each from where the last has led,
_STEPS_BACK = 4  # and where time allows more
_FARTHEST = 1.5  # pixels of one step
_REACH = 10.0  # pixels that a part may be from where it began
_SOLVED = 1e-3  # share of the right-hand side that may be left
_MOST_ITERATIONS = 40


class LocalMotion:
    """Follow the parts of a scene, frame by frame, from where the scene as a whole is.

    Parameters
    ----------
    shape
        (H, W) of the frames.
    margin
        Pixels of the scene beyond the frame on each side; the knots are spread over the scene.
    intensity
        Transform and noise of the session.
    """

    def __init__(self, shape: tuple[int, int], margin: int, intensity: Intensity) -> None:
        self._scene = Scene(shape, margin, intensity)
        self._steps = _STEPS
        step = [(n + 2 * margin) / KNOTS / self._scene.bin for n in shape]
        distance = np.subtract.outer(np.arange(KNOTS), np.arange(KNOTS))
        self._alike = [
            np.exp(-0.5 * (distance * s / max(_LENGTH, _LEAST_KNOTS * s)) ** 2) + 1e-3 * np.eye(KNOTS)
            for s in step
        ]
        self._ramp = np.repeat(np.linspace(-1, 1, KNOTS)[:, None], KNOTS, axis=1)
        self.restart()

    def restart(self) -> None:
        """Forget the reference: the next frame has no field."""
        self._reference: Image | None = None
        self._age = 0
        self._parts: Array = np.zeros((2, KNOTS, KNOTS))
        self._misfit = np.ones((KNOTS, KNOTS))
        self._strength = _AT_FIRST.copy()
        self._evidence, self._spread = np.zeros(2), np.zeros((2, 2))

    def search_longer(self) -> None:
        """Take more steps for each frame from now on: those that move by pixels are then found more exactly."""
        self._steps = _STEPS_BACK

    def follow(
        self, frame: npt.NDArray[Any], shift: tuple[int, int], rest: tuple[float, float]
    ) -> npt.NDArray[np.float32]:
        """Return the field (2, KNOTS, KNOTS) of a frame beyond its whole pixels, in pixels, the rest included.

        Parameters
        ----------
        frame
            (H, W) raw counts.
        shift, rest
            Its rigid displacement (y, x) in whole pixels and what is left of it, as `Registration` finds them.
        """
        b = self._scene.bin
        image = self._scene.image(frame)
        detail = self._scene.detail(image)
        rigid = (np.array(shift) + np.array(rest)) / b
        off, field = np.zeros(2), self._parts
        if self._reference is None:
            self._reference = self._moved(detail, rigid, field)[0]
        else:
            off, field = self._fit(detail, image, rigid, self._reference)
        self._age += 1
        return np.asarray(b * field + (np.array(rest) + b * off)[:, None, None], np.float32)

    def _fit(self, detail: Image, image: Image, rigid: Array, reference: Image) -> tuple[Array, Array]:
        """Return what explains a frame's difference from the reference, and learn from it.

        That is how far off its rigid displacement is, (2,), and its field, (2, KNOTS, KNOTS), both in bins.
        """
        scene = self._scene
        noise = scene.noise(image) * (1 + 1 / min(self._age, _MEMORY))
        equations = scene.equations(reference, noise * self._misfit)
        before = _LEAK * self._parts

        def error(off: Array, field: Array) -> Image:
            moved, inside = self._moved(detail, rigid + off, field)
            return (reference - moved) * inside

        off: Array = np.zeros(2)
        for _ in range(_RIGID_STEPS):
            off = np.clip(equations.common(error(off, before), off, _RIGID), -_RIGID_REACH, _RIGID_REACH)
        change = force = np.zeros_like(before)
        for step in range(self._steps):
            right = equations.right(error(off, before + change))
            if step == 0:
                self._learn(right, equations.own)
            target = right + equations.product(change)
            better = self._believed(target, *equations.own, equations.crossed)
            change = change + np.clip(better - change, -_FARTHEST, _FARTHEST)
            force = target - equations.product(change)
        limit = _REACH / scene.bin
        change = np.clip(before + change, -limit, limit) - before
        self._parts = np.clip(before + self._strength[0] * self._spread_parts(force), -limit, limit)
        left = error(off, before + change)
        self._misfit += max(1 / self._age, 1 / _DOUBT) * (scene.misfit(left, noise) - self._misfit)
        reference -= np.float32(1 / min(self._age + 1, _MEMORY)) * left
        return off, before + change

    def _learn(self, right: Array, own: tuple[Array, Array]) -> None:
        """Estimate how strong either kind of motion is, by matching what the right-hand side varies by."""
        first, ramp = self._alike, self._ramp
        squares = [np.square(a) for a in first]
        evidence, spread = np.zeros(2), np.zeros((2, 2))
        for r, a in zip(right, own, strict=True):
            evidence[0] += (r * (first[0] @ r @ first[1])).sum() - first[0][0, 0] * first[1][0, 0] * a.sum()
            evidence[1] += (ramp * r).sum() ** 2 - (ramp**2 * a).sum()
            spread[0, 0] += (a * (squares[0] @ a @ squares[1])).sum()
            spread[1, 1] += (ramp**2 * a).sum() ** 2
            crossed = ramp * a
            spread[0, 1] += (crossed * (first[0] @ crossed @ first[1])).sum()
        spread[1, 0] = spread[0, 1]
        share = max(1 / self._age, 1 / _STATISTICS)
        self._evidence += share * (evidence - self._evidence)
        self._spread += share * (spread - self._spread)
        if self._age >= _SETTLED:
            found = _FREEDOM * _nonnegative(self._spread, self._evidence)
            self._strength = np.clip(found, _WEAKEST, _STRONGEST)

    def _believed(self, target: Array, yy: Array, xx: Array, yx: Array) -> Array:
        """Return the posterior mean of the change: C (I + A C)^-1 target, by conjugate gradients.

        With A = S S at each knot it is C S (I + S C S)^-1 S^-1 target, a symmetric system.
        """
        root = np.sqrt(np.maximum(yy * xx - yx**2, 0.0))  # of a 2 x 2 matrix: (A + sqrt(det) 1) / t
        t = np.sqrt(np.maximum(yy + xx + 2 * root, 1e-12))
        sy, sx, s = (yy + root) / t + 1e-6, (xx + root) / t + 1e-6, yx / t
        det = sy * sx - s**2
        x = np.zeros_like(target)
        left = np.stack([sx * target[0] - s * target[1], sy * target[1] - s * target[0]]) / det
        way, size = left, float((left * left).sum())
        enough = _SOLVED**2 * size
        for _ in range(_MOST_ITERATIONS):
            if size <= enough:
                break
            pushed = way + joined(sy, sx, s, self._spread_all(joined(sy, sx, s, way)))
            length = size / float((way * pushed).sum())
            x = x + length * way
            left = left - length * pushed
            size, last = float((left * left).sum()), size
            way = left + size / last * way
        return self._spread_all(joined(sy, sx, s, x))

    def _spread_parts(self, force: Array) -> Array:
        return np.stack([self._alike[0] @ f @ self._alike[1] for f in force])

    def _spread_all(self, force: Array) -> Array:
        """Multiply by the covariance of what a field changes by."""
        ramp = self._ramp * (self._ramp * force).sum(axis=(1, 2), keepdims=True)
        return np.asarray(self._strength[0] * self._spread_parts(force) + self._strength[1] * ramp)

    def _moved(self, detail: Image, rigid: Array, field: Array) -> tuple[Image, Image]:
        """Return the frame where the scene's pixels are, and 1 where it shows them."""
        height, width = self._scene.size
        y = self._scene.spread(field[0])
        y += (np.arange(height, dtype=np.float32) + np.float32(rigid[0]))[:, None]
        x = self._scene.spread(field[1])
        x += np.arange(width, dtype=np.float32) + np.float32(rigid[1])
        within_y, within_x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
        inside = (within_y == y) & (within_x == x)
        top = np.minimum(within_y, height - 2).astype(np.intp)
        left = np.minimum(within_x, width - 2).astype(np.intp)
        v, u = np.subtract(within_y, top, dtype=np.float32), np.subtract(within_x, left, dtype=np.float32)
        at, flat = top * width + left, detail.ravel()
        upper, lower = flat.take(at), flat.take(at + width)
        upper += u * (flat.take(at + 1) - upper)
        lower += u * (flat.take(at + (width + 1)) - lower)
        return upper + v * (lower - upper), inside


def _nonnegative(spread: Array, evidence: Array) -> Array:
    """Solve two equations for two strengths, neither below zero."""
    scale = np.sqrt(np.diag(spread)) + 1e-12
    matrix, right = spread / np.outer(scale, scale) + 1e-9 * np.eye(2), evidence / scale
    both = np.linalg.solve(matrix, right)
    if (both < 0).any():
        alone = np.maximum(right / np.diag(matrix), 0.0)
        gains = alone * right  # by how much either alone explains more
        both = np.where(np.arange(2) == int(gains.argmax()), alone, 0.0)
    return both / scale
