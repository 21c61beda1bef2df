"""Interface of the sinks of whole movies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy.typing as npt

from denoscope.acquisition.contracts import SourceInfo
from denoscope.acquisition.raw.pages import CLASSIC_LIMIT

if TYPE_CHECKING:
    from denoscope.runtime import StreamKey

__all__ = ["FrameIndex", "Layout", "MovieSink", "PixelsAt"]

_OVERHEAD = 1500  # bytes of a frame beside pixels and tags: directory, padding, OME-XML


@dataclass(frozen=True, slots=True)
class Layout:
    """Plan of a movie to write.

    Parameters
    ----------
    source
        Where the frames came from; its shape and dtype are those of the output.
    keys
        The streams, in the order they first came.
    length
        Frames of the longest stream.
    one_shape
        Whether all frames have the shape and dtype of `source`.
    times_s
        Seconds of each frame since the first one, of a movie of one stream; None where unknown.
    metadata_bytes
        Size of all frames' tags as JSON.
    """

    source: SourceInfo
    keys: tuple[StreamKey, ...]
    length: int
    one_shape: bool = True
    times_s: tuple[float, ...] | None = None
    metadata_bytes: int = 0

    @property
    def small(self) -> bool:
        """Return True where a classic TIFF of 4 GB holds it for certain."""
        a_frame = self.source.frame_bytes + _OVERHEAD
        most = self.length * len(self.keys) * a_frame + self.metadata_bytes
        return self.one_shape and most < CLASSIC_LIMIT


class PixelsAt(NamedTuple):
    """File and byte where the pixels of a frame begin: one strip, little-endian, not compressed.

    Parameters
    ----------
    file
        Path from the run folder, with forward slashes.
    byte
        From the beginning of the file.
    """

    file: str
    byte: int


@dataclass(frozen=True, slots=True)
class FrameIndex:
    """Stream and time of one frame.

    Parameters
    ----------
    key
        Its stream.
    index
        Its place in time there.
    time_s
        When it was received, in seconds on any one clock; None where unknown.
    tags
        What Micro-Manager said about it.
    """

    key: StreamKey
    index: int
    time_s: float | None
    tags: Mapping[str, Any]


class MovieSink(Protocol):
    """Writes one movie; `open_sink` makes it with the path to write, the `Layout`, and `keep`.

    With `keep` it goes on with a file that was interrupted, after so many frames; None begins a new one.
    """

    def append(self, frame: npt.NDArray[Any], place: FrameIndex) -> None:
        """Write one frame (H, W)."""

    def sync(self) -> None:
        """Wait until every frame so far is on the disk."""

    def finish(self, provenance: Mapping[str, Any]) -> None:
        """Write what produced the movie, and close it: it is complete."""

    def close(self) -> None:
        """Close it as it is; after `finish` this does nothing."""
