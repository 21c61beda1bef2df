"""Sink of a preview: denoised frames are shown and not written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from .base import FrameIndex, PixelsAt

if TYPE_CHECKING:
    from denoscope.acquisition.contracts import Stamp
    from denoscope.runtime import Denoised, StreamKey

__all__ = ["NoMovie"]


class NoMovie:
    """Stand where a `LiveSink` would while nothing is saved."""

    pixels_at: PixelsAt | None = None

    def __init__(self) -> None:
        self.length = 0
        self.received: Mapping[StreamKey, int] = {}

    def append(self, output: Denoised, stamp: Stamp) -> None:
        """Write nothing."""

    def holds(self, _key: StreamKey, _index: int, /) -> bool:
        """Say that nothing is missing."""
        return True

    def stand_in(self, frame: npt.NDArray[Any], place: FrameIndex, /) -> None:
        """Write nothing."""

    def close(self) -> None:
        """Do nothing: nothing is open."""
