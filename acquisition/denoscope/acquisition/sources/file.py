"""Source ``replay:PATH``: a recorded movie of any format, frame by frame at any rate."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from denoscope.acquisition.contracts import Frame, SourceInfo

from .movie_about import about_movie
from .part import WHOLE, Part
from .uncored import UncoredSource, describe_frame

if TYPE_CHECKING:
    from denoscope.runtime import AnyMovie

__all__ = ["FileSource"]


class FileSource(UncoredSource):
    """Replay a file through the live session without Micro-Manager; frames are read when they are due.

    Parameters
    ----------
    path
        Whatever `denoscope.runtime.open_movie` opens.
    fps
        Frames per second; the schedule does not drift.
    frames
        How many frames, the movie starting again where it is shorter; None for the movie once.
    part
        Channel, plane and position to read, and how many channels alternate.
    """

    def __init__(self, path: Path, *, fps: float, frames: int | None = None, part: Part = WHOLE) -> None:
        self._path = path
        self._part = part
        self._fps = fps
        self._frames = frames
        self._movie: AnyMovie | None = None
        self._length = self._number = 0
        self._note = ""
        self._start_s = 0.0

    def open(self) -> SourceInfo:
        """Open the movie and describe it."""
        from denoscope.runtime import open_movie

        movie = open_movie(self._path, mapped=False, **self._part.choice())
        self._movie, self._length = movie, len(movie)
        self._frames = self._length if self._frames is None else self._frames
        self._note = str(getattr(movie, "note", ""))
        about = about_movie(self._path, self._length, self._part, movie)
        return describe_frame(
            "replay",
            str(self._path),
            self._read(0),
            {},
            frame_rate_hz=self._fps,
            frames=self._frames,
            pixel_size_um=about.pixel_size_um,
            exposure_s=about.exposure_s,
            channel=about.channel,
            details={
                "movie": self._path.name,
                "movie_frames": self._length,
                "passes": self._frames / self._length,
                "note": self._note,
            },
        )

    def notes(self) -> list[str]:
        """Return how the movie was read, where that is worth knowing."""
        return [self._note.rstrip(".")] if self._note else []

    def _read(self, index: int) -> npt.NDArray[Any]:
        assert self._movie is not None
        pixels: npt.NDArray[Any] = np.array(self._movie[index % self._length])
        return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)

    def start(self) -> None:
        """Start the clock."""
        self._start_s = time.perf_counter()

    def pop(self) -> Frame | None:
        """Return the frame that is due, or None when none is."""
        now_s = time.perf_counter()
        if self.finished() or now_s < self._start_s + self._number / self._fps:
            return None
        number, self._number = self._number, self._number + 1
        return Frame(self._read(number), number, now_s, "", {"Replayed": str(number % self._length)})

    def finished(self) -> bool:
        """Say whether the last frame was popped."""
        return self._frames is not None and self._number >= self._frames

    def stop(self) -> None:
        """Replay no more frames."""
        self._frames = self._number

    def close(self) -> None:
        """Let go of the movie; a second call does nothing."""
        self._movie = None
