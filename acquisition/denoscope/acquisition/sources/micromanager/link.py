"""Compare a camera with the connection that its frames come through."""

from __future__ import annotations

from dataclasses import dataclass

from denoscope.acquisition.contracts import SourceInfo
from denoscope.runtime.words import rounded

__all__ = ["Link", "link_too_slow"]


@dataclass(frozen=True, slots=True)
class Link:
    """Frame rate that a connection to another program carries.

    Attributes
    ----------
    frame_s
        Seconds that one frame takes.
    measured
        False where no image was there to be fetched, so that `frame_s` is an estimate from the time of a call.
    buffer_bytes
        What the other program keeps until frames are fetched; None where it does not say.
    """

    frame_s: float
    measured: bool
    buffer_bytes: int | None

    def as_json(self) -> dict[str, object]:
        """Return plain values for `SourceInfo.details`."""
        return {
            "link_frames_per_s": 1 / self.frame_s,
            "link_measured": self.measured,
            "link_buffer_bytes": self.buffer_bytes,
        }


def link_too_slow(
    source: SourceInfo, rate_hz: float | None, rate_from: str, frames: int | None
) -> str | None:
    """Return why the connection does not carry this camera, or None where it does.

    Parameters
    ----------
    source
        With a `Link` in its details, where there is a connection.
    rate_hz, rate_from
        Frames per second, and who says so (see `Forecast`).
    frames
        Where the recording ends; None where that is not known.
    """
    carries = source.details.get("link_frames_per_s")
    if carries is None or rate_hz is None or rate_hz <= carries:
        return None
    buffer = source.details.get("link_buffer_bytes")
    full_s = None if buffer is None else buffer / ((rate_hz - carries) * source.frame_bytes)
    if full_s is not None and frames is not None and frames / rate_hz <= full_s:
        return None
    most = "at most " if rate_from == "exposure" else ""
    how = (
        "measured now"
        if source.details.get("link_measured")
        else "estimated; snap an image to have it measured"
    )
    ends = (
        f"its buffer of {buffer / 2**20:.0f} MB is full after {full_s:.3g} s"
        if buffer is not None
        else "its buffer fills up"
    )
    remedy = "; if it is slower than its exposure, say so with `camera_fps`" if most else ""
    return (
        f"this camera sends {most}{rounded(rate_hz, 4)} frames/s ({_mb(rate_hz * source.frame_bytes)} MB/s), and the "
        f"connection to Micro-Manager carries {rounded(carries)} frames/s ({_mb(carries * source.frame_bytes)} MB/s, "
        f"{how}): {ends}, and the recording ends there; lower the rate or the region, or use `core` "
        f"FILE.cfg{remedy}"
    )


def _mb(number: float) -> str:
    return f"{number / 1e6:.0f}" if number >= 1e7 else f"{number / 1e6:.2g}"
