"""Shared base of the sources without a Micro-Manager core: another program drives the camera."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from denoscope.acquisition.contracts import SourceInfo
from denoscope.runtime import InvalidInput

from .base import Source

__all__ = ["UncoredSource", "describe_frame"]

_DTYPES = tuple(map(np.dtype, (np.uint8, np.uint16, np.int16, np.float32)))


def describe_frame(
    kind: str, name: str, pixels: np.ndarray[Any, Any], tags: Mapping[str, Any], **more: Any
) -> SourceInfo:
    """Return what the first frame says about the source.

    Raises
    ------
    InvalidInput
        When it is no single-channel frame of uint8, uint16, int16 or float32.
    """
    dtype = pixels.dtype.newbyteorder("=")
    if pixels.ndim != 2 or dtype not in _DTYPES:
        raise InvalidInput(
            f"{name} holds frames of {pixels.dtype} and shape {pixels.shape}, and denoscope takes (H, W) frames "
            "of uint8, uint16, int16 or float32; save one channel as one of these."
        )
    exposure_ms = _number(tags, "Exposure", "Exposure-ms", "exposure_ms")
    return SourceInfo(
        kind=kind,
        name=name,
        camera=str(tags.get("Camera", "")),
        shape=(int(pixels.shape[0]), int(pixels.shape[1])),
        dtype=dtype,
        **{
            "pixel_size_um": _number(tags, "PixelSize_um", "PixelSizeUm", "pixel_size_um"),
            "exposure_s": None if exposure_ms is None else exposure_ms / 1000,
            **more,
        },
    )


def _number(tags: Mapping[str, Any], *names: str) -> float | None:
    for name in names:
        try:
            value = float(tags[name])
        except (KeyError, TypeError, ValueError):
            continue
        if value > 0:
            return value
    return None


class UncoredSource(Source):
    """A source whose camera another program starts and stops, and which has no buffer that could overflow."""

    def start(self) -> None:
        """Do nothing: another program drives the camera."""

    def overflowed(self) -> bool:
        """Say no: there is no buffer of a core."""
        return False
