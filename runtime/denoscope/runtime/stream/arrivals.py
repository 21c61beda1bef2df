"""Frames on their way through a stream: held back, and in the ring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.artefacts.light import STEADY, Light, Lit
from denoscope.runtime.errors import InvalidInput
from denoscope.runtime.noise.clipped import Clipped
from denoscope.runtime.noise.counts import Region
from denoscope.runtime.noise.few_photons_mean import Measured
from denoscope.runtime.types import FrameMeta, StreamKey

from .residuals.deviation import Rows

__all__ = ["Entry", "Held", "check_order"]


@dataclass(slots=True)  # not frozen: one is made for each frame
class Entry:
    """A frame in the ring: when it was pushed and encoded, where on the canvas it lies.

    Where the parts of a scene are followed, `field` says how far off it the frame lies and `back` is the inverse
    (`_field`). A frame without a picture of the scene keeps its counts in `shown`; `light` says why.
    """

    meta: FrameMeta
    pushed: float
    encoded: float
    place: Region
    field: npt.NDArray[Any] | None = None
    back: npt.NDArray[Any] | None = None
    few: Measured | None = None  # of a frame of few photons
    light: Light = STEADY
    lit: Lit | None = None
    shown: npt.NDArray[Any] | None = None
    clipped: Clipped | None = None  # its saturated structures
    hot: Clipped | None = None  # its hot pixels
    rows: Rows | None = None  # as measured, to learn from how true the deviation is
    cells: npt.NDArray[np.float32] | None = None  # (C, h, w) on the scene, for a memory of both sides


@dataclass(frozen=True, slots=True)
class Held:
    """A frame (H, W) that waits for the calibration, and when it was pushed."""

    frame: npt.NDArray[Any]
    meta: FrameMeta
    pushed: float


def check_order(meta: FrameMeta, last: int | None, key: StreamKey | None) -> None:
    """Raise InvalidInput unless a frame comes after the last one, and belongs to the same movie."""
    if last is not None and meta.number <= last:
        raise InvalidInput(
            f"Frame {meta.number} came after frame {last}; numbers must grow: "
            "call flush() before another movie begins."
        )
    if meta.key is not key and key is not None and meta.key != key:
        raise InvalidInput(
            f"Frame {meta.number} belongs to {meta.key}, but this stream holds {key}: "
            "open one stream for each camera, channel, z and position."
        )
