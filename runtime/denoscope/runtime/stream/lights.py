"""Light of the frames of one movie: measured where its noise is known, and the transform under it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.artefacts.hot_pixels import HotPixels
from denoscope.runtime.artefacts.kept_light import Change, missing_light
from denoscope.runtime.artefacts.light import STEADY, Light, LightMeter, Lit, under
from denoscope.runtime.noise.clipped import Clipped
from denoscope.runtime.noise.noise import Intensity, noise_of

__all__ = ["Lights"]

Frame = npt.NDArray[Any]


class Lights:
    """Measure the light of frames.

    Parameters
    ----------
    intensity
        Transform in the movie's own light; None while it is not known.
    meter
        Measures; None where light is not looked at.

    Attributes
    ----------
    intensity, meter
        As given.
    """

    def __init__(self, intensity: Intensity | None, meter: LightMeter | None) -> None:
        self.intensity = intensity
        self.meter = meter
        self._hot: HotPixels | None = None
        self._made: tuple[Light, Intensity] | None = None  # under the last light that was not steady

    def under(self, light: Light) -> Intensity:
        """Return the transform for frames in some light."""
        assert self.intensity is not None
        if light is STEADY:
            return self.intensity
        if self._made is None or self._made[0] is not light:
            self._made = light, under(self.intensity, light)
        return self._made[1]

    def see(self, frame: Frame, measured: Frame | None) -> Light:
        """Return the light of a frame (H, W) without saturated structures; `measured` has them, if there are any."""
        return STEADY if self.meter is None else self.meter.see(frame, measured)

    def lit(self, number: int, light: Light) -> Lit | None:
        """Return what was measured of the frame seen last; None where light is not looked at."""
        return None if self.meter is None else self.meter.lit(number, light)

    def without_hot(self, frame: Frame, measured: Frame) -> tuple[Frame, Clipped | None]:
        """Return a frame (H, W) whose hot pixels are filled, and what they were in the one as measured.

        The frame itself comes back, with None, where there are none.
        """
        hot = self._hot
        if hot is None or self.intensity is None or not frame.shape == measured.shape == hot.shape:
            return frame, None
        counts = measured.take(hot.at)
        return hot.filled(frame), Clipped(hot.at, counts, noise_of(counts, self.intensity))

    def know_hot_pixels_of(self, before: Lights) -> None:
        """Take over the hot pixels that are known of the same camera, unless others are."""
        self._hot = self._hot or before._hot

    def begin(self, frames: Frame) -> None:
        """Learn from frames (T, H, W) of the scene."""
        if self.meter is None:
            return
        assert self.intensity is not None
        self._hot = hot = HotPixels.of(frames, self.intensity)
        if hot is not None:
            frames = np.stack([hot.filled(frame) for frame in frames])
        self.meter.begin(frames)

    def begin_with(self, frame: Frame) -> None:
        """Take a frame (H, W) as the first of another scene."""
        if self.meter is not None:
            self.meter.begin_with(frame)

    def restart(self) -> None:
        """Note that the movie has ended."""
        if self.meter is not None:
            self.meter.restart()

    def above(self, own: Lit | None) -> float:
        """Return the light of a frame in counts above the camera's offset, as it is known now."""
        return 0.0 if self.meter is None or own is None else self.meter.light_above(own.mean)

    def missing(
        self,
        made: Frame,
        own: Lit | None,
        around: Sequence[Lit],
        above: float,
        *,
        unseen: bool = False,
        moves: bool = False,
    ) -> Change | None:
        """Return factor and shift that give a denoised frame its light; None where it has it (see `missing_light`)."""
        if self.meter is None or own is None:
            return None
        return missing_light(made, own, around, self.meter, above, unseen=unseen, moves=moves)
