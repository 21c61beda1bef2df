"""Frames popped from a Micro-Manager core that speaks pycromanager's snake-case interface."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.acquisition.contracts import Frame, SourceInfo
from denoscope.acquisition.errors import SourceUnavailable, one_line
from denoscope.acquisition.sources.base import Source
from denoscope.runtime import InvalidInput, counted

__all__ = ["CoreSource", "frame_from", "image_dtype"]

_ENDLESS = 2**31 - 1
_EXPOSURE = "Exposure-ms"
_ASK_EVERY_S = 0.5
# A number in a tag; more digits are none that a camera counts to.
_WHOLE = re.compile(r"[0-9]{1,18}")
_DTYPES: dict[int, np.dtype[Any]] = {1: np.dtype(np.uint8), 2: np.dtype(np.uint16)}


def image_dtype(bytes_per_pixel: int, components: int) -> np.dtype[Any]:
    """Return the dtype of a camera's frames.

    Raises
    ------
    InvalidInput
        When the camera sends colour or more than 16 bits a pixel.
    """
    if components != 1 or bytes_per_pixel not in _DTYPES:
        raise InvalidInput(
            f"the camera sends {counted(components, 'component')} in {counted(bytes_per_pixel, 'byte')} a pixel, and "
            "denoscope takes "
            "one component of 8 or 16 bits; choose the camera's pixel type 8bit or 16bit."
        )
    return _DTYPES[bytes_per_pixel]


def _unix_seconds(tags: Mapping[str, Any]) -> float | None:
    text = tags.get("TimeReceivedByCore")
    if not text:
        return None
    try:
        # Local time without a zone, as MMCore writes it.
        return datetime.fromisoformat(str(text)).timestamp()
    except (ValueError, OverflowError, OSError):  # Windows knows no time before 1970
        return None


def frame_from(pixels: npt.NDArray[Any], tags: Mapping[str, Any], camera: str, counted: int) -> Frame:
    """Build a frame from what the core returned, its shape checked against its tags.

    Parameters
    ----------
    pixels
        ``(H, W)``, or flat as the Java bridge sends it.
    tags
        The core's tags of this frame.
    camera
        Label to use where the tags name no camera.
    counted
        Frames popped before this one; the number where the tags have no ``ImageNumber``.
    """
    received_s = time.perf_counter()
    stated = tuple(int(tags[key]) for key in ("Height", "Width") if _WHOLE.fullmatch(str(tags.get(key, ""))))
    agrees = len(stated) != 2 or pixels.shape == stated
    if not agrees and pixels.size == stated[0] * stated[1]:
        pixels, agrees = pixels.reshape(stated), pixels.ndim == 1
    if pixels.ndim == 1:
        pixels, agrees = pixels.reshape(1, -1), False
    number = str(tags.get("ImageNumber", ""))
    return Frame(
        pixels=pixels,
        number=int(number) if _WHOLE.fullmatch(number) else counted,
        t_received_s=received_s,
        camera=str(tags.get("Camera", "") or camera),
        tags=tags,
        core_unix_s=_unix_seconds(tags),
        agrees=agrees,
    )


class CoreSource(Source):
    """Everything that the sources around one core have in common; `open` is left to each.

    Parameters
    ----------
    buffer_mb
        Size of the core's circular buffer in MB: how long the disk may stall without loss.

    Attributes
    ----------
    buffer_remedy
        What to do where that buffer is too small.
    """

    buffer_remedy = "raise `buffer_mb`"

    def __init__(self, *, buffer_mb: int) -> None:
        self._buffer_mb = buffer_mb
        self._core: Any = None
        self._camera = ""
        self._popped = 0
        self._armed = False
        self._shape = (0, 0)
        self._exposure: str | None = None
        self._asked_s = 0.0

    def _describe(self, kind: str, name: str, **more: Any) -> SourceInfo:
        core = self._core
        self._camera = str(core.get_camera_device())
        if not self._camera:
            raise InvalidInput(
                f"{name} sets no camera; add a 'Property,Core,Camera,LABEL' line to the configuration."
            )
        pixel_size = float(core.get_pixel_size_um())
        exposure_ms = float(core.get_exposure())
        components = int(core.get_number_of_components())
        info = SourceInfo(
            kind=kind,
            name=name,
            camera=self._camera,
            shape=(int(core.get_image_height()), int(core.get_image_width())),
            dtype=image_dtype(int(core.get_bytes_per_pixel()), components),
            pixel_size_um=pixel_size or None,
            exposure_s=exposure_ms / 1000 if exposure_ms > 0 else None,
            **more,
        )
        self._shape = info.shape
        if info.frame_bytes * 4 > self._buffer_mb * 2**20:
            raise InvalidInput(
                f"the core's buffer of {self._buffer_mb} MB holds fewer than 4 frames of "
                f"{info.frame_bytes / 2**20:.1f} MB; "
                f"{self.buffer_remedy}."
            )
        return info

    def start(self) -> None:
        """Size the buffer, then arm with stop-on-overflow (continuous mode overwrites silently).

        Raises
        ------
        SourceUnavailable
            When the camera runs already, or the core refuses.
        """
        try:
            runs = bool(self._core.is_sequence_running())
            if not runs:
                self._core.initialize_circular_buffer()
                self._core.start_sequence_acquisition(_ENDLESS, 0.0, True)
        except (RuntimeError, OSError, ValueError) as error:
            raise SourceUnavailable(f"the camera {self._camera} did not start: {one_line(error)}.") from error
        if runs:
            raise SourceUnavailable(
                "the camera runs already; nothing was changed: stop it, then start again."
            )
        self._armed = True

    def pop(self) -> Frame | None:
        """Return the oldest buffered frame, or None when there is none at this moment."""
        if int(self._core.get_remaining_image_count()) == 0:
            return None
        try:
            tagged = self._core.pop_next_tagged_image()
        except IndexError:
            # The core's count can run ahead of what can be popped by one frame.
            return None
        frame = frame_from(
            np.asarray(tagged.pix), self._with_exposure(tagged.tags), self._camera, self._popped
        )
        self._popped += 1
        return frame

    def _with_exposure(self, tags: Mapping[str, Any]) -> Mapping[str, Any]:
        """Add the exposure, which MMCore's tags leave out; half a second after a change it is the new one."""
        if self._exposure_is_due():
            try:
                self._set_exposure(self._core.get_exposure())
            except RuntimeError as error:
                self._set_exposure(error)
        return self._tagged(tags)

    def _exposure_is_due(self) -> bool:
        now_s = time.perf_counter()
        due = now_s - self._asked_s > _ASK_EVERY_S
        if due:
            self._asked_s = now_s
        return due

    def _set_exposure(self, answer: Any) -> None:
        if isinstance(answer, (int, float)):
            self._exposure = f"{float(answer):g}"
        else:  # a camera that does not tell while it runs: frames are what counts
            self._asked_s = math.inf

    def _tagged(self, tags: Mapping[str, Any]) -> Mapping[str, Any]:
        return tags if _EXPOSURE in tags or self._exposure is None else {**tags, _EXPOSURE: self._exposure}

    def notes(self) -> list[str]:
        """Say when a change of region or binning has stopped the camera, which MMCore does in silence."""
        if self._core is None or self._shape == (0, 0):
            return []
        try:
            now = int(self._core.get_image_height()), int(self._core.get_image_width())
        except Exception:  # noqa: BLE001  a core that answers no more was the session's problem, and is told as that
            return []
        if now == self._shape:
            return []
        return [
            f"the camera's frames were {self._shape[0]}x{self._shape[1]} pixels and are {now[0]}x{now[1]} now: "
            "Micro-Manager stops a sequence when region or binning change; what came before is complete, begin a "
            "new recording for the rest"
        ]

    def finished(self) -> bool:
        """Say whether the camera stands still and its buffer is empty."""
        return not self._core.is_sequence_running() and int(self._core.get_remaining_image_count()) == 0

    def overflowed(self) -> bool:
        """Say whether the core stopped because its buffer was full."""
        return bool(self._core.is_buffer_overflowed())

    def stop(self) -> None:
        """Stop the camera; what is buffered can still be popped."""
        if self._armed:
            self._armed = False
            self._core.stop_sequence_acquisition()
