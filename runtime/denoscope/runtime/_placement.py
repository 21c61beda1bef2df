"""Where each frame lies on the canvas that the graphs see."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ._convert import Place
from ._field import constant
from ._local_motion import LocalMotion
from ._noise import Intensity
from ._register import Registration

__all__ = ["REACH", "Place", "Placement"]

REACH = 16  # pixels that the scene may move from where it began
_PATIENCE = 5  # frames in a row at the end of the reach: the scene has drifted off the canvas


class Placement:
    """Keep the scene still on a canvas: put each frame where its part of the scene is.

    Parameters
    ----------
    shape
        (H, W) of the frames.
    intensity
        Transform and noise of the session; None while they are unknown.
    follow
        Whether to follow the scene; otherwise the canvas is the frame.
    parts
        Whether to follow its parts too, see `field`.
    """

    def __init__(
        self, shape: tuple[int, int], intensity: Intensity | None, *, follow: bool, parts: bool = False
    ) -> None:
        self.shape = shape
        self.follows = follow
        self._margin = REACH if follow else 0
        self._registration = (
            Registration(shape, intensity, REACH) if follow and intensity is not None else None
        )
        self._parts = (
            LocalMotion(shape, REACH, intensity)
            if parts and self._registration is not None and intensity is not None
            else None
        )
        self._field = constant((0.0, 0.0))
        self._at_the_end = 0
        self._still = self._place(0, 0)

    @property
    def rest(self) -> tuple[float, float]:
        """How far (y, x) the last frame on the canvas lies off the scene, in pixels: canvas(p + rest) = scene(p)."""
        return (0.0, 0.0) if self._registration is None else self._registration.rest

    @property
    def field(self) -> npt.NDArray[np.float32]:
        """The same for each part, (2, KNOTS, KNOTS) over the canvas: canvas(p + field(p)) = scene(p)."""
        return self._field if self._parts is not None else constant(self.rest)

    @property
    def canvas(self) -> tuple[int, int]:
        """Height and width of the canvas."""
        return self.shape[0] + 2 * self._margin, self.shape[1] + 2 * self._margin

    @property
    def home(self) -> Place:
        """Where a frame that has not moved lies on the canvas."""
        return self._still

    def find(self, frame: npt.NDArray[Any]) -> tuple[Place, bool]:
        """Return where on the canvas a frame lies, and whether the scene has drifted off it.

        Parameters
        ----------
        frame
            (H, W) raw counts.
        """
        if self._registration is None:
            return self._still, False
        y, x = self._registration.follow(frame)
        if self._parts is not None:
            self._field = self._parts.follow(frame, (y, x), self._registration.rest)
        self._at_the_end = self._at_the_end + 1 if max(abs(y), abs(x)) >= REACH - 1 else 0
        return self._place(y, x), self._at_the_end >= _PATIENCE

    def _place(self, y: int, x: int) -> Place:
        top, left = self._margin - y, self._margin - x
        return slice(top, top + self.shape[0]), slice(left, left + self.shape[1])

    def restart(self) -> None:
        """Take the next frame as the new rest position."""
        self._at_the_end = 0
        if self._registration is not None:
            self._registration.restart()
        if self._parts is not None:
            self._parts.restart()
