"""Noise and artefacts of a movie: given, or estimated from its first frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from denoscope.runtime.artefacts.hot_pixels import HotPixels
from denoscope.runtime.artefacts.light import lit_as_one
from denoscope.runtime.artefacts.scanner import Scanner, ScannerArtefacts, measure_scanner
from denoscope.runtime.noise.clipped import filled_estimate
from denoscope.runtime.noise.noise import Intensity, estimate_intensity
from denoscope.runtime.stream.settings import StreamSettings
from denoscope.runtime.types import StageClock

__all__ = ["Estimate", "Learned"]

Frame = npt.NDArray[Any]

_BRIGHTER = 10.0  # standard deviations above the median of the frames that the noise was estimated from


class Estimate(NamedTuple):
    """Noise and artefacts measured in the first frames of a movie.

    Attributes
    ----------
    as_one, frames
        The frames (T, H, W) without artefacts, under one light; the same under their own.
    intensity, artefacts
        As measured in them.
    """

    as_one: Frame
    frames: Frame
    intensity: Intensity
    artefacts: ScannerArtefacts


class Learned:
    """Noise and artefacts that a stream works with.

    Parameters
    ----------
    settings
        Of the stream; what they give is never estimated.
    of_bundle
        Transform that the bundle comes with: that of its training, so that it was not measured on this movie.

    seconds
        Is told of each part of an estimate.

    Attributes
    ----------
    given
        True where the transform was given.
    intensity
        Transform and noise; None while they are to be estimated.
    artefacts
        What the instrument adds to every frame.
    of_this_movie
        True unless the transform is the one that the bundle comes with.
    provisional
        True while `intensity` is from fewer frames than wanted.
    refinements
        How often it was replaced by one from more frames.
    settled
        True where the noise is never estimated again, however bright the frames become.
    """

    def __init__(self, settings: StreamSettings, of_bundle: Intensity | None, seconds: StageClock) -> None:
        self._seconds = seconds
        self._light = settings.light
        self._of_bundle = of_bundle
        self._fix_line_offset = settings.fix_line_offset
        self._given_artefacts = settings.scanner
        self.given = settings.intensity is not None
        self.settled = self.given
        self.intensity = settings.intensity
        self.artefacts = settings.scanner or ScannerArtefacts()
        self.of_this_movie = self.intensity != of_bundle
        self.provisional = False
        self.refinements = 0

    def use_scanner(self, artefacts: ScannerArtefacts) -> None:
        """Take these artefacts, whatever was measured."""
        self._given_artefacts = self.artefacts = artefacts

    def forget_noise(self) -> None:
        """Let the transform be estimated again."""
        self.intensity = None

    def forget(self) -> None:
        """Forget all that was estimated, because the counts have another scale."""
        self.forget_noise()
        self.artefacts = self._given_artefacts or ScannerArtefacts()

    def far_too_dark_for(self, frame: Frame) -> bool:
        """Say whether the frames that the noise was estimated from were too dark for a frame (H, W) like this."""
        intensity = self.intensity
        if self.settled or intensity is None:
            return False
        return float(np.median(frame[::8])) >= intensity.offset + _BRIGHTER * intensity.scale

    def scanner(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> Scanner:
        """Return what takes the artefacts off frames of a shape and dtype."""
        return Scanner(self.artefacts, shape, dtype, fix=self._fix_line_offset)

    def measure(self, kept: Sequence[Frame]) -> Estimate:
        """Measure artefacts and noise in frames (H, W) of one movie, without taking them yet."""
        frames = np.stack(list(kept))
        artefacts = self._given_artefacts
        if artefacts is None:
            artefacts = measure_scanner(frames)
        self._seconds.estimates += 1
        scanner = Scanner(
            artefacts, (frames.shape[1], frames.shape[2]), frames.dtype, fix=self._fix_line_offset
        )
        if not scanner.idle:
            frames = np.stack([scanner.take_off(frame) for frame in frames])
        frames, estimated = filled_estimate(frames)
        as_one = lit_as_one(frames) if self._light else frames
        if estimated is None or as_one is not frames:
            estimated = estimate_intensity(as_one)
        hot = HotPixels.of(frames, estimated) if self._light else None
        if hot is not None:
            # Their noise is not that of the light.
            as_one = lit_as_one(np.stack([hot.filled(frame) for frame in frames]))
            estimated = estimate_intensity(as_one)
        self._seconds.estimates += 1
        return Estimate(as_one, frames, estimated, artefacts)

    def take(self, estimate: Estimate) -> None:
        """Work with an estimate from now on."""
        self.refinements += self.intensity is not None
        self.artefacts, self.intensity = estimate.artefacts, estimate.intensity
        self.of_this_movie = self.intensity != self._of_bundle
