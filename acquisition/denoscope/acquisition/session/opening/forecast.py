"""Before the camera is armed: whether the disk takes what the camera sends, and how long it lasts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from denoscope.acquisition.contracts import SourceInfo
from denoscope.acquisition.errors import DiskTooSlow, DiskUnwritable, NoDiskSpace, SourceUnavailable, one_line
from denoscope.acquisition.raw.disk import free_bytes, write_speed
from denoscope.acquisition.sources.micromanager.link import link_too_slow
from denoscope.runtime import counted
from denoscope.runtime.words import rounded

__all__ = ["Arm", "Forecast", "Load", "make_forecast", "refused"]

# Page directory and sidecar line of a raw frame with Micro-Manager's tags, and the same of a denoised one.
_OVERHEAD = 4096
_PROBE_BYTES = 60 * 2**20
_PLENTY = 10  # a disk that is so many times as fast as needed is measured no further


@dataclass(frozen=True, slots=True)
class Load:
    """Bytes that a session writes for each frame.

    Attributes
    ----------
    raw
        Whether the raw frame is written.
    denoised_itemsize
        Bytes a pixel of the denoised frame.
    std
        Whether the predicted standard deviation is written, in float32.
    """

    raw: bool = True
    denoised_itemsize: int = 2
    std: bool = False

    def frame_bytes(self, source: SourceInfo) -> int:
        """Return the bytes that one frame becomes on the disk."""
        pixels = source.shape[0] * source.shape[1]
        a_pixel = self.raw * source.dtype.itemsize + self.denoised_itemsize + self.std * 4
        return pixels * a_pixel + _OVERHEAD

    @property
    def kinds(self) -> list[str]:
        """Kinds of frames that are written."""
        return ["raw"] * self.raw + ["denoised"] + ["deviation"] * self.std

    @property
    def words(self) -> str:
        """Names of what is written."""
        names = self.kinds
        return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]


@dataclass(frozen=True, slots=True)
class Forecast:
    """Demand of a recording on the disk, and what the disk has.

    Attributes
    ----------
    camera_bytes_per_s, written_bytes_per_s
        What the camera sends, and what that becomes on the disk; None where the rate is not known.
    rate_hz, rate_from
        Frames a second, and who says so: ``user``, ``source``, ``exposure`` (the camera cannot be faster) or
        ``unknown``.
    disk_bytes_per_s
        Measured; None where all frames fit into memory, or can wait where they are.
    free_bytes, reserve_bytes
        On the disk, and what must stay free.
    frame_bytes
        What one frame becomes on the disk.
    lasts_s
        Until the free space is used up; None where the rate is not known.
    problem
        Why this recording would not end well, one sentence; None where it should.
    link_frames_per_s
        Frames a second that the connection to a running Micro-Manager carries; None without one.
    link_too_slow
        Whether `problem` is about that connection.
    written
        Kinds of frames that are written, in words.
    """

    camera_bytes_per_s: float | None
    written_bytes_per_s: float | None
    rate_hz: float | None
    rate_from: str
    disk_bytes_per_s: float | None
    free_bytes: int
    reserve_bytes: int
    frame_bytes: int
    lasts_s: float | None
    problem: str | None
    link_frames_per_s: float | None = None
    link_too_slow: bool = False
    written: str = "raw + denoised"

    def as_json(self) -> dict[str, object]:
        """Return plain values, SI units in the keys."""
        return asdict(self)

    @property
    def sentence(self) -> str:
        """The forecast for people, one sentence without its full stop."""
        parts = []
        if self.camera_bytes_per_s is not None and self.written_bytes_per_s is not None:
            most = "at most " if self.rate_from == "exposure" else ""
            parts.append(
                f"camera {most}{_mb(self.camera_bytes_per_s)} MB/s; {self.written} "
                f"{_mb(self.written_bytes_per_s)} MB/s"
            )
        else:
            parts.append("frame rate of the camera not known")
        if self.disk_bytes_per_s is not None:
            frames = self.disk_bytes_per_s / self.frame_bytes
            plenty = self.disk_bytes_per_s >= _enough(self.written_bytes_per_s)
            parts.append(f"disk {'over ' * plenty}{_mb(self.disk_bytes_per_s)} MB/s ({frames:.0f} frames/s)")
        if self.link_frames_per_s is not None:
            parts.append(f"connection to Micro-Manager {rounded(self.link_frames_per_s)} frames/s")
        if self.lasts_s is not None:
            parts.append(f"room for {_duration(self.lasts_s)} ({_gb(self.free_bytes)} GB free)")
        else:
            parts.append(f"{_gb(self.free_bytes)} GB free")
        return "; ".join(parts)

    def measured(self, rate_hz: float) -> str | None:
        """Return what is wrong with the rate that the running camera turned out to have, or None."""
        needed = rate_hz * self.frame_bytes
        if self.disk_bytes_per_s is None or needed <= self.disk_bytes_per_s:
            return None
        return (
            f"the camera sends {rate_hz:.0f} frames/s, which become {_mb(needed)} MB/s on the disk, and it took "
            f"{_mb(self.disk_bytes_per_s)} MB/s before the recording"
        )


Arm = Callable[[Forecast], bool]
"""Told the forecast before the camera is armed; says whether to go on."""


def make_forecast(
    folder: Path,
    source: SourceInfo,
    load: Load,
    *,
    frames: int | None,
    seconds: float | None,
    camera_fps: float | None,
    reserve: int,
    memory: int,
    patient: bool,
) -> Forecast:
    """Measure the disk and compare it with the camera.

    Parameters
    ----------
    folder
        An existing folder on the disk that is recorded to.
    source
        What will be recorded.
    load
        What is written for each frame.
    frames, seconds
        Where the recording ends; None where that is not known.
    camera_fps
        What the user says about the camera's rate.
    reserve
        Bytes that must stay free.
    memory
        Bytes of raw frames that may wait for the disk, in the core and outside it.
    patient
        Whether frames can wait where they are for as long as it takes.

    Raises
    ------
    DiskUnwritable
        When nothing can be written to the folder.
    """
    rate, rate_from = _rate(source, camera_fps)
    if frames is None and seconds is not None and rate is not None:
        frames = max(1, round(seconds * rate))
    frame_bytes = load.frame_bytes(source)
    free = free_bytes(folder)
    usable = max(0, free - reserve)
    needed = None if rate is None else rate * frame_bytes
    short = _short_of_space(folder, source, load, frames, free, reserve)
    may_wait = patient or (frames is not None and frames * source.frame_bytes <= memory)
    speed = None
    if not (may_wait or short) and load.raw:
        speed = _measure(folder, min(_PROBE_BYTES, usable), _enough(needed))
    link = link_too_slow(source, rate, rate_from, frames)
    slow = link or _too_slow(source, load, rate, rate_from, frames, needed, speed, memory)
    return Forecast(
        camera_bytes_per_s=None if rate is None else rate * source.frame_bytes,
        written_bytes_per_s=needed,
        rate_hz=rate,
        rate_from=rate_from,
        disk_bytes_per_s=speed,
        free_bytes=free,
        reserve_bytes=reserve,
        frame_bytes=frame_bytes,
        lasts_s=None if needed is None else usable / needed,
        problem=short or slow,
        link_frames_per_s=source.details.get("link_frames_per_s"),
        link_too_slow=link is not None and not short,
        written=" + ".join(load.kinds),
    )


def _rate(source: SourceInfo, camera_fps: float | None) -> tuple[float | None, str]:
    if camera_fps is not None:
        return camera_fps, "user"
    if source.frame_rate_hz is not None:
        return source.frame_rate_hz, "source"
    if source.exposure_s is not None:
        return source.cameras / source.exposure_s, "exposure"
    return None, "unknown"


def _enough(needed: float | None) -> float:
    """Return the bytes a second of a disk that leave no doubt; infinity where it is not known what is needed."""
    return math.inf if needed is None else _PLENTY * needed


def _measure(folder: Path, size: int, enough: float) -> float | None:
    try:
        return write_speed(folder, size, enough) if size else None
    except OSError as error:
        raise DiskUnwritable(
            f"nothing can be written to {folder} ({one_line(error)}); name `output` on another disk."
        ) from error


def _short_of_space(
    folder: Path, source: SourceInfo, load: Load, frames: int | None, free: int, reserve: int
) -> str | None:
    needed = (frames or 0) * load.frame_bytes(source) + reserve
    if free >= needed:
        return None
    height, width = source.shape
    what = (
        f"{counted(frames, 'frame')} of {height}x{width} {source.dtype.name}, {load.words},"
        if frames
        else "a recording"
    )
    need = "need" if frames and frames > 1 else "needs"
    return (
        f"{folder} has {_gb(free)} GB free, and {what} {need} {_gb(needed)} GB with the reserve of "
        f"{_gb(reserve)} GB; free space, record fewer frames, or name `output` on another disk"
    )


def _too_slow(
    source: SourceInfo,
    load: Load,
    rate: float | None,
    rate_from: str,
    frames: int | None,
    needed: float | None,
    speed: float | None,
    memory: int,
) -> str | None:
    if rate is None or needed is None or speed is None or needed <= speed:
        return None
    # Frames pile up in memory as fast as the disk falls behind.
    behind = rate * (1 - speed / needed) * source.frame_bytes
    full_s = memory / behind
    if frames is not None and frames / rate <= full_s:
        return None
    height, width = source.shape
    most = "at most " if rate_from == "exposure" else ""
    remedy = "; if it is slower than its exposure, say so with `camera_fps`" if most else ""
    return (
        f"this camera writes {most}{_mb(needed)} MB/s ({height}x{width} {source.dtype.name} at {rounded(rate, 4)} "
        f"frames/s, {load.words}), this disk takes {_mb(speed)}: memory is full after {_duration(full_s)} and "
        f"the recording ends there; lower the rate or the region, or name `output` on a faster disk{remedy}"
    )


def refused(forecast: Forecast) -> NoDiskSpace | DiskTooSlow | SourceUnavailable:
    """Return what to raise for a forecast that was not armed for."""
    text = f"{forecast.problem or forecast.sentence}; `force` records anyway."
    if forecast.link_too_slow:
        return SourceUnavailable(text)
    return NoDiskSpace(text) if forecast.disk_bytes_per_s is None else DiskTooSlow(text)


def _mb(number: float) -> str:
    """Return bytes as MB, with the digits that matter."""
    return f"{number / 1e6:.0f}" if number >= 1e7 else f"{number / 1e6:.2g}"


def _gb(number: float) -> str:
    return f"{number / 1e9:.0f}" if number >= 1e11 else f"{number / 1e9:.3g}"


def _duration(seconds: float) -> str:
    for size, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {name}"
    return f"{seconds:.3g} seconds"
