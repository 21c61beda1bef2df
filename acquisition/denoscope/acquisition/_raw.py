"""The raw recording: one BigTIFF page per frame and one JSON line per page, readable at any moment."""

from __future__ import annotations

import json
import os
import re
import time
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from denoscope.runtime import InvalidInput

from ._errors import OutputExists
from ._frames import Frame, SourceInfo
from ._pages import PageFile

__all__ = [
    "RAW_MOVIE",
    "RAW_SIDECAR",
    "RawElsewhere",
    "RawPages",
    "RawRecording",
    "RawSink",
    "RawWriter",
    "raw_pages",
    "read_raw",
]

RAW_MOVIE = "raw.tif"
RAW_SIDECAR = "raw.jsonl"
_FORMAT = "denoscope-raw"
_SCHEMA_VERSION = 1
_SYNC_EVERY_S = 1.0


class RawWriter:
    """Append frames to ``raw.tif`` and their stamps to ``raw.jsonl`` so that a kill loses nothing written.

    A page is written before its line, both unbuffered, and both files are handed to the disk about
    once a second. So after ``kill -9`` there are as many complete pages as lines, or one page more;
    `read_raw` reconciles them.

    The first line of the sidecar is the header ``{"format", "schema_version", "denoscope",
    "started_utc", "clock", "source"}``; each further line is one page ``{"page", "at", "number",
    "received_s", "core_unix_s", "shape", "dtype", "agrees", "tags"}``: its pixels begin at the byte
    ``at`` of the movie, and ``received_s`` is on the clock whose zero the header's ``clock`` gives.

    Parameters
    ----------
    folder
        Run folder; it must exist and hold no recording.
    source
        What the frames come from.
    version
        Version of denoscope.

    Raises
    ------
    OutputExists
        When the folder already holds ``raw.tif`` or ``raw.jsonl``.
    OSError
        When the disk refuses; `written` says how many frames are complete.
    """

    def __init__(self, folder: Path, source: SourceInfo, version: str) -> None:
        for name in (RAW_MOVIE, RAW_SIDECAR):
            if (folder / name).exists():
                raise OutputExists(
                    f"{folder / name} exists and is never overwritten; name another --output folder."
                )
        self.written = 0
        self.rescued: Path | None = None
        """The folder with the recording where the run folder was removed before `close`."""
        self._folder = folder
        self._closed = False
        self._pages = PageFile(folder / RAW_MOVIE, pixel_size_um=source.pixel_size_um)
        self._lines = (folder / RAW_SIDECAR).open("x+b", buffering=0)
        self._synced_s = time.perf_counter()
        now = datetime.now(UTC)
        self._line(
            {
                "format": _FORMAT,
                "schema_version": _SCHEMA_VERSION,
                "denoscope": version,
                "started_utc": now.isoformat(),
                "clock": {"received_s": time.perf_counter(), "unix_s": now.timestamp()},
                "source": source.as_json(),
            }
        )

    @property
    def nbytes(self) -> int:
        """Bytes written to both files."""
        return self._pages.nbytes + self._lines.tell()

    def _line(self, values: Mapping[str, Any]) -> None:
        left = memoryview((json.dumps(values, default=str, separators=(",", ":")) + "\n").encode())
        while left.nbytes:
            left = left[self._lines.write(left) or 0 :]

    def append(self, frame: Frame) -> int:
        """Write one frame, then its line; return the page's index."""
        page = self._pages.append(frame.pixels)
        self.written += 1
        self._line(
            {
                "page": page,
                "at": self._pages.pixels_at,
                "number": frame.number,
                "received_s": frame.t_received_s,
                "core_unix_s": frame.core_unix_s,
                "shape": list(frame.pixels.shape),
                "dtype": frame.pixels.dtype.name,
                "agrees": frame.agrees,
                "camera": frame.camera,
                "tags": dict(frame.tags),
            }
        )
        if time.perf_counter() - self._synced_s >= _SYNC_EVERY_S:
            self.sync()
        return page

    def sync(self) -> None:
        """Wait until everything written so far is on the disk."""
        self._pages.sync()
        # The pages' fsync covers the pixels; the sidecar follows so that it never promises more.
        os.fsync(self._lines.fileno())
        self._synced_s = time.perf_counter()

    @property
    def removed(self) -> bool:
        """Whether the files were deleted under us, which POSIX allows: they are gone when they are closed."""
        return not self._closed and (self._pages.removed or os.fstat(self._lines.fileno()).st_nlink == 0)

    def close(self) -> None:
        """Close both files; a second call does nothing.

        Files that were deleted are written again, into the run folder or one beside it: see `rescued`.

        Raises
        ------
        OSError
            When that is not possible.
        """
        if self._closed:
            return
        try:
            if self.removed:
                self.rescued = self._rescue()
        finally:
            self._closed = True
            try:
                self._pages.close()
            finally:
                self._lines.close()

    def _rescue(self) -> Path:
        folder = self._folder
        if (folder / RAW_MOVIE).exists() or (folder / RAW_SIDECAR).exists():
            folder = folder.with_name(folder.name + "-rescued")
        folder.mkdir(parents=True, exist_ok=True)
        self._pages.copy_to(folder / RAW_MOVIE)
        self._lines.seek(0)
        (folder / RAW_SIDECAR).write_bytes(self._lines.read())
        return folder

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class RawSink(Protocol):
    """What a session needs of the raw recording."""

    @property
    def written(self) -> int:
        """Frames complete on the disk."""

    def append(self, frame: Frame, /) -> object:
        """Write one frame."""

    def sync(self) -> None:
        """Wait until every frame so far is on the disk."""

    def close(self) -> None:
        """Close the files."""


class RawElsewhere:
    """Stands where a `RawWriter` would while somebody else keeps the raw frames; writes nothing."""

    written = 0
    removed = False
    rescued: Path | None = None

    def append(self, _frame: Frame) -> None:
        """Let the frame go."""

    def sync(self) -> None:
        """Do nothing: nothing was written."""

    def close(self) -> None:
        """Do nothing: nothing is open."""


@dataclass(frozen=True)
class RawRecording:
    """A raw recording opened for reading, pages and sidecar reconciled.

    Attributes
    ----------
    header
        The sidecar's first line.
    records
        One mapping per frame, in order; ``len(records)`` frames can be read with their stamps.
    pages
        Complete pages in ``raw.tif``; at most one more than records after a kill.
    notes
        What was reconciled, in sentences; empty after a clean end.
    """

    path: Path
    header: Mapping[str, Any]
    records: tuple[Mapping[str, Any], ...]
    pages: int
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return self.pages

    def frames(self) -> Iterator[npt.NDArray[Any]]:
        """Yield every complete page as an ``(H, W)`` array in the camera's dtype."""
        import tifffile

        with tifffile.TiffFile(self.path) as tiff:
            for page in tiff.pages:
                yield page.asarray()

    def read(self) -> npt.NDArray[Any]:
        """Return the movie ``(T, H, W)``; all frames must have one shape."""
        return np.stack(list(self.frames())) if self.pages else np.empty((0, 0, 0), np.uint16)


class RawPages:
    """The frames of a raw recording, each read from where the sidecar says that it lies, in any order.

    A TIFF file is a chain of pages: reaching the last one of a million by its links takes minutes.

    Attributes
    ----------
    shape, dtype
        (T, H, W), and the frames' dtype.
    """

    def __init__(self, path: Path, offsets: array[int], frame: tuple[int, int], dtype: np.dtype[Any]) -> None:
        self.shape = len(offsets), *frame
        self.dtype = dtype
        self._path, self._offsets = path, offsets

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int | slice) -> npt.NDArray[Any]:
        """Return a frame (H, W), or several (n, H, W)."""
        if isinstance(index, slice):
            frames = [self[i] for i in range(*index.indices(len(self)))]
            return np.stack(frames) if frames else np.empty((0, *self.shape[1:]), self.dtype)
        stored = self.dtype.newbyteorder("<")
        count = self.shape[1] * self.shape[2]
        frame = np.fromfile(self._path, stored, count, offset=self._offsets[index])
        if frame.size != count:
            raise InvalidInput(f"{self._path} ends within frame {index}: it was cut off.")
        return frame.astype(self.dtype, copy=False).reshape(self.shape[1:])


# The beginning of a page's line; the frame's own tags come after it.
_PAGE_LINE = re.compile(rb'\{"page":\d+,"at":(\d+),.*?"shape":\[(\d+),(\d+)\],"dtype":"(\w+)","agrees":')


def raw_pages(folder: Path | str) -> RawPages:
    """Open the frames of a run folder for reading in any order.

    Raises
    ------
    InvalidInput
        When there are none, they are of several shapes or dtypes, or an older denoscope wrote them.
    """
    sidecar = Path(folder) / RAW_SIDECAR
    offsets, kinds = array("Q"), set()
    with sidecar.open("rb") as lines:
        next(lines, None)
        for line in lines:
            found = _PAGE_LINE.match(line)
            if found is None:
                break
            at, *kind = found.groups()
            offsets.append(int(at))
            kinds.add(tuple(kind))
    if len(kinds) != 1:
        raise InvalidInput(f"{sidecar} lists frames of {len(kinds)} kinds; one is needed.")
    height, width, dtype = kinds.pop()
    return RawPages(Path(folder) / RAW_MOVIE, offsets, (int(height), int(width)), np.dtype(dtype.decode()))


def read_raw(folder: Path | str) -> RawRecording:
    """Open the raw recording of a run folder, also after a crash.

    Parameters
    ----------
    folder
        Run folder with ``raw.tif`` and ``raw.jsonl``.

    Raises
    ------
    InvalidInput
        When one of the files is missing or is not a raw recording.
    """
    import tifffile

    movie, sidecar = Path(folder) / RAW_MOVIE, Path(folder) / RAW_SIDECAR
    for path in (movie, sidecar):
        if not path.is_file():
            raise InvalidInput(f"{path} is missing, so {folder} is not a run folder of denoscope.")
    notes: list[str] = []
    lines = sidecar.read_bytes().split(b"\n")
    if lines[-1]:
        notes.append("the sidecar's last line was cut off and is ignored")
    try:
        parsed = [json.loads(line) for line in lines[:-1]]
    except ValueError as error:
        raise InvalidInput(f"{sidecar} holds a line that is not JSON: {error}.") from error
    if not parsed or parsed[0].get("format") != _FORMAT:
        raise InvalidInput(f"{sidecar} does not start with the header of a denoscope recording.")
    try:
        with tifffile.TiffFile(movie) as tiff:
            pages = len(tiff.pages)
    except tifffile.TiffFileError:
        # Killed before the file's first 16 bytes.
        pages = 0
    header, records = parsed[0], parsed[1:]
    if pages > len(records):
        notes.append(f"{pages - len(records)} last page(s) have no line in the sidecar")
    if len(records) > pages:
        notes.append(f"{len(records) - pages} last line(s) of the sidecar have no page and are ignored")
        records = records[:pages]
    return RawRecording(movie, header, tuple(records), pages, tuple(notes))
