"""AVI, Matroska, MP4 and QuickTime, read by the library av (FFmpeg): grey as it was written, else its brightness."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.errors import InvalidInput
from denoscope.runtime.movies.headers.facts import Facts, told
from denoscope.runtime.movies.lazy import Reader
from denoscope.runtime.movies.pick import Axis, Wanted

from .plane_by_plane import PlaneByPlane, choose, one_sentence

__all__ = ["open_video"]

_KINDS = {
    ".avi": "an AVI video",
    ".mkv": "a Matroska video",
    ".mov": "a QuickTime video",
    ".mp4": "an MP4 video",
}
# Codecs that give back what was put in.
_LOSSLESS = {
    "ffv1", "rawvideo", "huffyuv", "ffvhuff", "utvideo", "png", "zlib", "lagarith", "magicyuv", "qtrle", "msrle",
    "v210", "tiff", "cscd", "bmp",
}  # fmt: skip
_AHEAD = 32  # frames that are decoded and dropped rather than sought


def open_video(path: Path, wanted: Wanted, limit_bytes: int) -> Reader:
    """Open the first video stream of a file as a movie.

    Raises
    ------
    InvalidInput
        If the file is damaged, has no video, or its pixels are no 8 or 16 bits of brightness.
    """
    library: Any = import_module("av")
    with one_sentence(str(path), _KINDS.get(path.suffix.lower(), "a video")):
        library.logging.set_level(library.logging.PANIC)
        container = library.open(str(path))
        try:
            return _opened(path, container, wanted, limit_bytes)
        except BaseException:
            container.close()
            raise


def _opened(path: Path, container: Any, wanted: Wanted, limit_bytes: int) -> Reader:
    if not container.streams.video:
        raise InvalidInput(f"{path} holds no video, only other streams: choose another file.")
    stream = container.streams.video[0]
    # One thread: with several, FFmpeg decodes frames ahead that nobody asked for.
    stream.codec_context.thread_count = 1
    frames = _Frames(container, stream)
    if not frames.times:
        raise InvalidInput(f"{path} holds no frames: the recording was not written; choose another file.")
    if len(container.streams.video) > 1:
        raise InvalidInput(
            f"{path} holds {len(container.streams.video)} videos: save each as a separate file."
        )
    choose(str(path), [Axis("time", len(frames.times))], wanted)
    first = frames.decode(0)
    kind = str(first.format.name)
    brightness = _brightness(first)
    codec = str(stream.codec_context.name)
    notes = []
    if not kind.startswith("gray"):
        colours = _is_colourful(first)
        notes.append(
            f"{path.name} is a video in {kind}: its brightness is taken"
            + (", its colours are not" if colours else "")
        )
    if codec not in _LOSSLESS:
        notes.append(
            f"{path.name} is compressed with {codec}, which changes the noise: where there is an original recording, "
            "denoise that"
        )
    height, width = brightness.shape
    return PlaneByPlane(
        str(path),
        (len(frames.times), height, width),
        brightness.dtype,
        lambda t: _brightness(frames.decode(t)),
        container.close,
        # Every frame is known to be there, so only the size of one is a claim.
        stored_bytes=max(len(frames.times) * brightness.nbytes, path.stat().st_size),
        compressed=True,
        limit_bytes=limit_bytes,
        note="; ".join(notes),
        facts=Facts(
            increment_s=told(lambda: float(1 / stream.average_rate)),
            times_s=told(lambda: tuple(float(t * stream.time_base) for t in frames.times)),
        ),
    )


class _Frames:
    """The frames of a stream by number; the file is gone through once, without decoding, to learn their times."""

    def __init__(self, container: Any, stream: Any) -> None:
        self._container, self._stream = container, stream
        # A file that was cut short ends in an error; the frames before it are a recording.
        stamps = set()
        with suppress(OSError, ValueError):
            for packet in container.demux(stream):
                if packet.size:
                    stamps.add(packet.pts if packet.pts is not None else packet.dts)
        self.times: list[int] = sorted(stamp for stamp in stamps if stamp is not None)
        self._decoder: Iterator[Any] = iter(())
        self._next = len(self.times)

    def decode(self, t: int) -> Any:
        """Return frame `t`; of frames that follow each other, each is decoded once."""
        if 0 <= t - self._next <= _AHEAD and (frame := self._advance(t)) is not None:
            return frame
        # Where a file's index leads too far, the beginning does not.
        for stamp in (self.times[t], self.times[0]):
            self._container.seek(stamp, stream=self._stream, backward=True)
            self._decoder = self._container.decode(self._stream)
            if (frame := self._advance(t)) is not None:
                return frame
        raise EOFError("this frame cannot be decoded")

    def _advance(self, t: int) -> Any:
        """Return frame `t` if the decoder comes to it."""
        self._next = len(self.times) + 1
        for frame in self._decoder:
            stamp = frame.pts if frame.pts is not None else frame.dts
            if stamp is not None and stamp >= self.times[t]:
                if stamp > self.times[t]:
                    return None
                self._next = t + 1
                return frame
        return None


def _brightness(frame: Any) -> npt.NDArray[Any]:
    """Return the brightness (H, W) of a frame as it is stored; of red, green and blue, their weighted sum.

    Raises
    ------
    InvalidInput
        If the pixels are of a kind that has neither.
    """
    kind, name = frame.format, str(frame.format.name)
    bits = int(kind.components[0].bits)
    if (kind.is_rgb or kind.has_palette) and bits <= 8:
        colours = frame.to_ndarray(format="rgb24").astype(np.uint32)
        # The weights of ITU-R BT.601: where the three are equal, the sum is that value.
        luma: npt.NDArray[Any] = colours @ np.array([299, 587, 114], np.uint32)
        return ((luma + 500) // 1000).astype(np.uint8)
    if name.startswith(("yuyv", "uyvy", "yvyu")):
        first, step = int(name.startswith("uyvy")), 2
    elif name.startswith(("gray", "yuv", "nv")) and not name.startswith("grayf"):
        first, step = 0, 1
    else:
        raise InvalidInput(f"The video has pixels of the kind {name}: save it with 8 or 16 bits of grey.")
    dtype = np.dtype("u1" if bits <= 8 else ">u2" if name.endswith("be") else "<u2")
    lines = np.frombuffer(frame.planes[0], dtype).reshape(-1, frame.planes[0].line_size // dtype.itemsize)
    brightness: npt.NDArray[Any] = lines[: frame.height, first : first + frame.width * step : step]
    return brightness.astype(dtype.newbyteorder("="), copy=False)


def _is_colourful(frame: Any) -> bool:
    """Say whether the colours of a frame say more than its brightness."""
    colours = frame.to_ndarray(format="rgb24").astype(np.int16)
    return bool(np.ptp(colours, axis=-1).max() > 4)
