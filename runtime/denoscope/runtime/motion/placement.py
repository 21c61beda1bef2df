"""Find the place of each frame on the scene, and on the canvas that the graphs see."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from denoscope.runtime.noise.counts import Region
from denoscope.runtime.noise.noise import Intensity

from .field import constant
from .local_motion import LocalMotion
from .moves import EVERY, QUICK, Watch
from .register import REACH, Registration

__all__ = ["REACH", "Placement", "Region"]

_PATIENCE = 5  # frames in a row at the end of the reach: the scene has drifted off the canvas


class Placement:
    """Follow the scene: say where on it each frame lies.

    A bundle that can put the parts of frames onto each other sees every frame as it is; for any other, frames are
    moved by whole pixels on a canvas on which the scene stays still.

    Parameters
    ----------
    shape
        (H, W) of the frames.
    intensity
        Transform and noise of the session; None while they are unknown.
    follow
        Whether to follow the scene; otherwise scene and canvas are the frame.
    watch
        Whether to watch a scene that is not followed: it may begin to move.
    parts
        Whether to follow its parts too, see `displacement`; the canvas is the frame then.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        intensity: Intensity | None,
        *,
        follow: bool,
        parts: bool = False,
        watch: bool = False,
    ) -> None:
        self.shape = shape
        self.follows = follow
        self.parts = follow and parts
        self._margin = REACH if follow else 0
        self._registration = (
            Registration(shape, intensity, REACH) if follow and intensity is not None else None
        )
        self._local = (
            LocalMotion(shape, REACH, intensity)
            if parts and self._registration is not None and intensity is not None
            else None
        )
        self._watch = (
            Watch(shape, intensity, largest=QUICK) if watch and not follow and intensity is not None else None
        )
        self._seen = 0
        self._field = constant((0.0, 0.0))
        self._at_the_end = 0
        self.whole = (0, 0)  # pixels (y, x) by which the last frame lies off the scene, whole ones
        self.begun = False  # whether a frame of the scene has been found

    @property
    def rest(self) -> tuple[float, float]:
        """How far off it lies beyond `whole`, in pixels."""
        return (0.0, 0.0) if self._registration is None else self._registration.rest

    @property
    def field(self) -> npt.NDArray[np.float32]:
        """The same for each part, (2, KNOTS, KNOTS) over the scene."""
        return self._field if self._local is not None else constant(self.rest)

    @property
    def displacement(self) -> npt.NDArray[np.float32]:
        """How far each part of the last frame lies off the scene, (2, KNOTS, KNOTS) over it, in pixels.

        ``frame(p + displacement(p)) = scene(p)``, places of the frame counted from the scene's corner when it is at
        `home`.
        """
        return self.field + np.array(self.whole, np.float32)[:, None, None]

    @property
    def scene(self) -> tuple[int, int]:
        """Height and width of the scene: what the frames may show of it."""
        return self.shape[0] + 2 * self._margin, self.shape[1] + 2 * self._margin

    @property
    def home(self) -> Region:
        """Place on the scene of a frame that has not moved."""
        return self._place(0, 0)

    @property
    def canvas(self) -> tuple[int, int]:
        """Height and width of what the graphs see."""
        return self.shape if self.parts else self.scene

    def find(self, frame: npt.NDArray[Any]) -> tuple[Region, Literal["moves", "drifted"] | None]:
        """Return where on the canvas to put a frame, and whether its scene has begun to move or drifted out of reach.

        Parameters
        ----------
        frame
            (H, W) raw counts.
        """
        self.begun = True
        if self._registration is not None:
            y, x = self.whole = self._registration.follow(frame)
            if self._local is not None:
                self._field = self._local.follow(frame, (y, x), self._registration.rest)
            self._at_the_end = self._at_the_end + 1 if max(abs(y), abs(x)) >= REACH - 1 else 0
        place = self._place_of_frame()
        if self._at_the_end >= _PATIENCE:
            return place, "drifted"
        return place, "moves" if self._begins_to_move(frame) else None

    def search_longer(self) -> None:
        """Take more time for the parts of each frame from now on."""
        if self._local is not None:
            self._local.search_longer()

    def put(self, displacement: npt.NDArray[np.float32]) -> Region:
        """Return where on the canvas to put a frame whose `displacement` is known; only with `parts`."""
        self.begun = True
        self.whole, self._field = (0, 0), displacement
        return self._place_of_frame()

    def _begins_to_move(self, frame: npt.NDArray[Any]) -> bool:
        """Watch one frame in so many."""
        self._seen += 1
        if self._watch is None or self._seen % EVERY:
            return False
        self._watch.see(frame)
        return self._watch.moves()

    def _place_of_frame(self) -> Region:
        """Return where on the canvas the last frame lies."""
        if self.parts:
            return slice(0, self.shape[0]), slice(0, self.shape[1])
        return self._place(*self.whole)

    def _place(self, y: int, x: int) -> Region:
        top, left = self._margin - y, self._margin - x
        return slice(top, top + self.shape[0]), slice(left, left + self.shape[1])

    def restart(self) -> None:
        """Take the next frame as the new rest position."""
        self._at_the_end = self._seen = 0
        self.begun = False
        if self._watch is not None:
            self._watch.restart()
        if self._registration is not None:
            self._registration.restart()
        if self._local is not None:
            self._local.restart()
