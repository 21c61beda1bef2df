"""Everything that is bound to frames of one shape and dtype: window, place on the canvas, scanner, light."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.artefacts.light import LightMeter
from denoscope.runtime.artefacts.scanner import Scanner
from denoscope.runtime.bundle.bundle import Bundle
from denoscope.runtime.bundle.chosen import ChosenBackend
from denoscope.runtime.motion.placement import Placement
from denoscope.runtime.types import StageClock
from denoscope.runtime.window.window import BoundWindow

from .calibration.learned import Learned
from .lights import Lights
from .settings import StreamSettings

__all__ = ["Binder", "Bound", "Kind"]

Frame = npt.NDArray[Any]
Kind = tuple[tuple[int, int], np.dtype[Any]]
"""(H, W) and dtype of frames."""


@dataclass(slots=True)
class Bound:
    """Window, flows and scene that are bound to frames of one kind.

    Attributes
    ----------
    window
        Graphs and buffers.
    canvas
        Kind of what the graphs see, and whether parts of the scene are followed: the window fits all that share it.
    placement
        Says where on the canvas a frame lies.
    scanner
        Takes artefacts off; None where there are none.
    lights
        Light of the frames.
    """

    window: BoundWindow
    canvas: tuple[Kind, bool]
    placement: Placement
    scanner: Scanner | None
    lights: Lights

    def forget(self) -> None:
        """Forget the movie: long memory, flows, light and motion."""
        self.window.forget()
        self.lights.restart()
        self.placement.restart()


class Binder:
    """Bind a bundle's graphs to one kind of frame after the other.

    Parameters
    ----------
    bundle
        Whose graphs.
    chosen
        Backend and compiled graphs.
    settings
        Of the stream.
    learned
        Noise and artefacts as they are when frames are bound.
    seconds
        Is told how long binding takes.

    Attributes
    ----------
    now
        What is bound; None before the first frame, or where binding failed.
    watch
        Whether a scene that is not followed is watched for motion.
    follows
        Whether the motion of the scene is tracked.
    """

    def __init__(
        self,
        bundle: Bundle,
        chosen: ChosenBackend,
        settings: StreamSettings,
        learned: Learned,
        seconds: StageClock,
    ) -> None:
        self._manifest = bundle.manifest
        self._chosen = chosen
        self._look_ahead, self._light = settings.look_ahead, settings.light
        self._learned = learned
        self._seconds = seconds
        self._expected: Frame | None = None
        self.watch = settings.align is None
        self.follows = False
        self.now: Bound | None = None

    @property
    def bound(self) -> Bound:
        """Return the window that is bound; None before the first frame."""
        if self.now is None:
            raise RuntimeError("No frame size is bound.")
        return self.now

    @property
    def expects(self) -> bool:
        """True where the scene is known before its first frame."""
        return self._expected is not None

    @property
    def expected(self) -> Frame | None:
        """Return the frames by which the scene of the next movie is known; None without any."""
        return self._expected

    def expect(self, frames: Frame | None, *, begun: bool) -> None:
        """Know the scene of the next movie by frames (T, H, W), or no more; `begun` is whether one is in progress."""
        self._expected = frames
        if frames is not None and self.now is not None and self.now.lights.meter is not None and not begun:
            self.now.lights = self._lights(self.now.placement.shape)

    def bind(self, kind: Kind, *, follow: bool) -> Bound:
        """Bind to frames of a kind, with the scene followed or not; the window stays where its canvas does."""
        learned, manifest = self._learned, self._manifest
        self.follows = follow
        scanner = learned.scanner(*kind)
        shape, dtype = scanner.canvas, kind[1]
        placement = Placement(
            shape, learned.intensity, follow=follow, parts=manifest.subpixel, watch=self.watch
        )
        canvas = (placement.canvas, dtype), placement.parts
        before, self.now = self.now, None
        lights = self._lights(shape)
        if before is not None:
            lights.know_hot_pixels_of(before.lights)
        if before is not None and before.canvas == canvas:
            window = before.window
        else:
            started = perf_counter()
            if before is not None:
                before.window.close()  # release the old buffers first
            del before
            window = self._chosen.attempt(lambda: self._open(placement, dtype))
            self._seconds.bind += perf_counter() - started
        if learned.intensity is not None:
            window.set_intensity(learned.intensity)
        put_back = None if scanner.idle else scanner
        self.now = Bound(window, canvas, placement, put_back, lights)
        return self.now

    def close(self) -> None:
        """Let the buffers go, then the graphs."""
        if self.now is not None:
            self.now.window.close()
        self.now = None
        self._chosen.close()

    def stop_measuring_light(self) -> None:
        """Look at the light no more, until frames are bound anew."""
        self.bound.lights = Lights(self._learned.intensity, None)

    def _open(self, placement: Placement, dtype: np.dtype[Any]) -> BoundWindow:
        backend, graphs = self._chosen.backend, self._chosen.graphs.of(dtype)
        scene = placement.scene if placement.parts else None
        return BoundWindow(
            backend, graphs, self._manifest, self._look_ahead, placement.canvas, dtype, scene=scene
        )

    def _lights(self, shape: tuple[int, int]) -> Lights:
        intensity = self._learned.intensity
        # The noise that a bundle comes with was not measured on this movie, so nothing says what is a change.
        if intensity is None or not (self._light and self._learned.of_this_movie):
            return Lights(intensity, None)
        lights = Lights(intensity, LightMeter(shape, intensity))
        if self._expected is not None and self._expected.shape[1:] == shape:
            lights.begin(self._expected)
        return lights
