"""Words that all rooms share: frames and their stamps, sources, denoisers, and where frames go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from .results import SourceRecord

if TYPE_CHECKING:
    from denoscope.runtime import Denoised, FrameMeta, StreamCounters

__all__ = [
    "RECORDED",
    "REPORT",
    "Axes",
    "DenoisedSink",
    "Denoiser",
    "Frame",
    "RawSink",
    "SourceInfo",
    "Stamp",
    "Tags",
    "number_step",
]

REPORT = "report.json"  # in the folder of a run
RECORDED = "recorded"  # the shipped bundle that needs the whole movie

Tags = dict[str, Any]
"""Metadata of a frame or file as another program wrote them: any names, any values that JSON has."""

Axes = dict[str, int | str]
"""Place of a frame on each axis, by the axis's name."""


_COUNTERS = (2**31, 2**32)  # where counters of cameras and drivers begin anew
_MOST_LOST = 2**16  # frames that may be missing where one did


def number_step(last: int, number: int) -> int | None:
    """Return by how much a camera's frame number grew, None where it went back: another recording began.

    A counter of 32 bits that begins anew at its end, at 0 or at its smallest value, has grown.
    """
    step = number - last
    if step > 0:
        return step
    for end in _COUNTERS:
        if step and last >= 2**31 - _MOST_LOST and step % end <= _MOST_LOST:
            return step % end
    return None


@dataclass(frozen=True, slots=True)
class Frame:
    """One camera frame as it left the source.

    Parameters
    ----------
    pixels
        ``(H, W)`` array in the camera's dtype; owned by the receiver.
    number
        The core's ``ImageNumber`` (0 for the first frame of a sequence); a jump means lost frames.
    t_received_s
        ``time.perf_counter()`` in seconds when the frame was popped.
    camera
        Label of the camera device.
    tags
        Every tag that the core attached, unchanged.
    core_unix_s
        The tag ``TimeReceivedByCore`` as seconds since 1970, or None where the core sent none.
    agrees
        False where the pixels' shape disagrees with the frame's ``Width`` and ``Height`` tags.
    """

    pixels: npt.NDArray[Any]
    number: int
    t_received_s: float
    camera: str
    tags: Mapping[str, Any]
    core_unix_s: float | None = None
    agrees: bool = True


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """Facts known about a source before its first frame.

    Parameters
    ----------
    kind
        The row of the source table (``demo``, ``config``, ``bridge``, ``replay``, ``watch`` or ``pipe``), or the word
        for a new source.
    name
        What the user named: ``demo``, a configuration file, ``HOST:PORT``, a file or a folder.
    camera
        Label of the camera device.
    shape
        ``(H, W)`` of the frames to come.
    dtype
        Their numpy dtype.
    pixel_size_um
        Edge of a pixel in micrometres, or None where Micro-Manager has no calibration.
    exposure_s
        Exposure in seconds, or None.
    frame_rate_hz
        Frames per second where the source knows it, else None.
    frames
        How many frames the source will deliver before it ends by itself, or None.
    channel
        Name of the channel, where one is set.
    versions
        Versions of the software behind the source.
    details
        Whatever else describes what is being recorded (for example which movie is replayed).
    clock
        What the frames' ``core_unix_s`` is.
    cameras
        How many cameras send at once, as far as the source knows.
    """

    kind: str
    name: str
    camera: str
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    pixel_size_um: float | None = None
    exposure_s: float | None = None
    frame_rate_hz: float | None = None
    frames: int | None = None
    channel: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    clock: str = "TimeReceivedByCore"
    cameras: int = 1

    @property
    def frame_bytes(self) -> int:
        """Size of one frame in bytes."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize

    @property
    def title(self) -> str:
        """Name and camera in words, the camera only where the source has a name for it."""
        return f"{self.name}: {self.camera}" if self.camera else self.name

    def record(self) -> SourceRecord:
        """Return the description as it goes into reports, SI units in the keys."""
        return SourceRecord(
            kind=self.kind,
            name=self.name,
            camera=self.camera,
            cameras=self.cameras,
            shape=self.shape,
            dtype=self.dtype.name,
            pixel_size_m=None if self.pixel_size_um is None else self.pixel_size_um * 1e-6,
            exposure_s=self.exposure_s,
            frame_rate_hz=self.frame_rate_hz,
            frames=self.frames,
            channel=self.channel,
            versions={name: str(version) for name, version in self.versions.items()},
            details=dict(self.details),
        )

    def as_json(self) -> dict[str, object]:
        """Return the description as JSON-ready values."""
        return self.record().as_json()


@dataclass(frozen=True, slots=True)
class Stamp:
    """Place and time of a received frame.

    Parameters
    ----------
    index
        Its page in the raw recording.
    t_received_s
        ``time.perf_counter()`` when it was popped, in seconds.
    core_unix_s
        When the core received it, seconds since 1970, or None.
    core_lag_s
        How long it lay in the core's buffer, in seconds; 0 where unknown.
    time_index
        How many frames of its stream came before it; None where `index` says so.
    tags
        What Micro-Manager said about it.
    """

    index: int
    t_received_s: float
    core_unix_s: float | None
    core_lag_s: float
    time_index: int | None = None
    tags: Mapping[str, Any] = field(default_factory=dict)


class Denoiser(Protocol):
    """The part of `denoscope.runtime.Stream` that the lane needs."""

    @property
    def counters(self) -> StreamCounters:
        """Counts of the pushed frames: denoised, dropped and held."""

    def push(self, frame: Any, meta: FrameMeta, *, skip: str | None = None) -> list[Denoised]:
        """Take one frame; return the outputs that are due."""

    def flush(self) -> list[Denoised]:
        """Return the outputs of all frames still held."""

    # A denoiser of several streams, given to a lane with routes, also has
    # ``restart(key, *, recalibrate) -> list[Denoised]``.


class DenoisedSink(Protocol):
    """Takes denoised frames."""

    def append(self, output: Denoised, stamp: Stamp) -> None:
        """Take the output of the frame with that stamp."""


class RawSink(Protocol):
    """The part of the raw recording that a session needs."""

    @property
    def written(self) -> int:
        """Frames that were written."""

    @property
    def confirmed(self) -> int:
        """Frames of which the disk has said that they are saved."""

    @property
    def doubts(self) -> int:
        """Times that the disk answered with an error when it was asked to confirm; it may have lost what it had."""

    def append(self, frame: Frame, /) -> object:
        """Write one frame."""

    def sync(self) -> None:
        """Wait until every frame so far is on the disk."""

    def close(self) -> None:
        """Close the files."""

    def abandon(self) -> Callable[[], None]:
        """Leave the files as they are, because their disk does not answer, and let `close` do nothing.

        Returns
        -------
        Callable
            Closes them; for whoever waits for the disk, should it answer after all.
        """
