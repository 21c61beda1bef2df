"""The raw recording: one BigTIFF page per frame and one JSON line per page, readable at any moment."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import threading
import time
from array import array
from collections import ChainMap, deque
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from denoscope.acquisition.contracts import Frame, SourceInfo, Tags
from denoscope.acquisition.errors import OutputExists, one_line
from denoscope.runtime import InvalidInput, bad_link, counted

from .confirm import cannot_confirm, confirm, disk_is_full, has_no_name, second_handle
from .pages import PageFile
from .plain_tags import odd_tags_words, plain_tags, plain_value
from .sidecar import PageLine, bounded_lines, read_sidecar
from .syncing import DiskSync

__all__ = [
    "RAW_MOVIE",
    "RAW_SIDECAR",
    "RawElsewhere",
    "RawPages",
    "RawRecording",
    "RawWriter",
    "numbered_names",
    "raw_pages",
    "read_raw",
]

RAW_MOVIE = "raw.tif"
RAW_SIDECAR = "raw.jsonl"
_FORMAT = "denoscope-raw"
_SCHEMA_VERSION = 2
_SYNC_EVERY_S = 1.0
_SYNC_EVERY_BYTES = 32 << 20  # sooner where much comes, so that the disk works while the camera does
_AGAIN_S = (0.02, 0.1, 0.5)  # pauses before a page is tried again
_AHEAD_BYTES = 256 << 20
_MOST_LINES = 20_000
_MOST_RESTORED = 1000
# All tags of a camera are written again after this many of its frames.
_WHOLE_EVERY = 1000


class RawWriter:
    """Append frames to ``raw.tif`` and their stamps to ``raw.jsonl`` so that a kill loses nothing written.

    A page is written before its line, both unbuffered, and both files are handed to the disk about
    once a second, pages first, by a thread: a disk that is slow to confirm does not stop the writer until
    `ahead_bytes` more are written. So after ``kill -9`` there are as many complete pages as lines, or one page more;
    `read_raw` reconciles them.

    The first line of the sidecar is the header ``{"format", "schema_version", "denoscope",
    "started_utc", "clock", "source"}``; each further line is one page ``{"page", "at", "number",
    "received_s", "core_unix_s", "shape", "dtype", "agrees", "camera", "tags"}``: its pixels begin at the byte
    ``at`` of the movie, and ``received_s`` is on the clock whose zero the header's ``clock`` gives.
    ``tags`` are all tags of the frame, in the first line of each camera and now and then; the lines between
    have ``tags_changed`` instead, the tags that differ from the same camera's line before. `read_raw` gives
    every record all its tags.

    Parameters
    ----------
    folder
        Run folder; it must exist and hold no recording.
    source
        What the frames come from.
    version
        Version of denoscope.
    ahead_bytes
        Bytes that may be written while the disk is asked to confirm those before.

    Raises
    ------
    OutputExists
        When the folder already holds ``raw.tif`` or ``raw.jsonl``.
    OSError
        When the disk is full, or refuses a page again and again; `written` says how many frames are complete.
        Any other error is got over, and named in `problems`.
    """

    def __init__(
        self, folder: Path, source: SourceInfo, version: str, *, ahead_bytes: int = _AHEAD_BYTES
    ) -> None:
        for name in (RAW_MOVIE, RAW_SIDECAR):
            if os.path.lexists(folder / name):
                raise _exists(folder / name)
        self.written = 0
        self.confirmed = 0
        """Frames of which the disk has said that they are saved."""
        self.doubts = 0
        """Times that the disk answered with an error when it was asked to confirm; no more are confirmed then."""
        self.problems: list[str] = []
        """Problems that did not end the recording, one sentence each."""
        self.restored: Path | None = None
        """The folder to which the recording was written again, where its files were removed before `close`."""
        self._folder = folder
        self._closed = False
        self._tags: dict[str, Tags] = {}
        self._lines_of: dict[str, int] = {}
        self._said: set[str] = set()
        # Each is made only where it is not there yet, so that of two sessions on one folder one is refused.
        try:
            self._pages = PageFile(folder / RAW_MOVIE, pixel_size_um=source.pixel_size_um)
        except FileExistsError:
            raise _exists(folder / RAW_MOVIE) from None
        try:
            self._lines = (folder / RAW_SIDECAR).open("x+b", buffering=0)
        except OSError as error:
            self._pages.close()
            self._pages.path.unlink()  # ours, and empty
            if isinstance(error, FileExistsError):
                raise _exists(folder / RAW_SIDECAR) from None
            raise
        self._lines_to_sync = self._lines.fileno()
        self._confirming = threading.Lock()
        self._sync = DiskSync(self._confirm_both, ahead_bytes)
        self._lines_end = 0
        self._unwritten: deque[bytes] = deque()
        self._lines_ended = False
        self._synced_s, self._synced_bytes = time.perf_counter(), 0
        now = datetime.now(UTC)
        header = {
            "format": _FORMAT,
            "schema_version": _SCHEMA_VERSION,
            "denoscope": version,
            "started_utc": now.isoformat(),
            "clock": {"received_s": time.perf_counter(), "unix_s": now.timestamp()},
            "source": source.as_json(),
        }
        try:
            self._lines_to_sync = second_handle(folder / RAW_SIDECAR, self._lines.fileno())
            self._line(header)
        except BaseException:
            self._close_files()
            raise

    @property
    def pixels_at(self) -> int | None:
        """Byte of ``raw.tif`` where the pixels of the newest frame begin."""
        return self._pages.pixels_at

    @property
    def nbytes(self) -> int:
        """Bytes written to both files."""
        return self._pages.nbytes + self._lines_end

    def _line(self, values: Mapping[str, Any]) -> None:
        """Append a line; where the disk refuses it, it is kept and written before the next one."""
        line = (json.dumps(values, default=plain_value, separators=(",", ":")) + "\n").encode()
        if self._lines_ended:
            return
        if len(self._unwritten) == _MOST_LINES:
            self._lines_ended = True  # without a gap, so that each line still belongs to its page
            return
        self._unwritten.append(line)
        self._write_lines()

    def _write_lines(self) -> None:
        try:
            while self._unwritten:
                self._lines.seek(self._lines_end)  # over what was left of an attempt that failed
                left = memoryview(self._unwritten[0])
                while left.nbytes:
                    left = left[self._lines.write(left) or 0 :]
                self._lines_end += len(self._unwritten.popleft())
        except OSError as error:
            if disk_is_full(error):
                raise
            self._got_over(
                "lines",
                f"writing {RAW_SIDECAR} failed after {counted(max(self.written - 1, 0), 'frame')} "
                f"({one_line(error)}); its lines "
                "are kept in memory and tried again with every frame, and the frames themselves are written",
            )

    def _got_over(self, kind: str, sentence: str) -> None:
        """Name a problem, the first of its kind."""
        if kind not in self._said:
            self._said.add(kind)
            self.problems.append(sentence)

    def _page(self, pixels: npt.NDArray[Any]) -> int:
        """Write a page; one that failed is written again in its place, unless the disk is full."""
        if self._pages.shortened:
            self._got_over(
                "shortened",
                f"another program made {RAW_MOVIE} shorter while it was written, after "
                f"{counted(self.written, 'frame')}, so that earlier frames are lost; find out which one writes there",
            )
        failed: OSError | None = None
        for pause_s in (*_AGAIN_S, None):
            try:
                page = self._pages.append(pixels)
            except OSError as error:
                if pause_s is None or disk_is_full(error):
                    raise
                failed = failed or error
                time.sleep(pause_s)
            else:
                break
        if failed is not None:
            self._got_over(
                "pages",
                f"writing raw frame {self.written} failed at first ({one_line(failed)}) and was repeated; look after "
                "the disk or the share",
            )
        return page

    def append(self, frame: Frame) -> int:
        """Write one frame, then its line; return the page's index."""
        page = self._page(frame.pixels)
        self.written += 1
        tags, failed = plain_tags(frame.tags)
        if failed is not None:
            self._got_over("tags", odd_tags_words(self.written - 1, failed))
        known = self._tags.pop(frame.camera, None)  # kept only once the line is written
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
                **self._tags_of(frame.camera, tags, known),
            }
        )
        self._tags[frame.camera] = tags
        due = self.nbytes - self._synced_bytes >= _SYNC_EVERY_BYTES
        if time.perf_counter() - self._synced_s >= _SYNC_EVERY_S:
            due = True
        if due:
            self._synced_s, self._synced_bytes = time.perf_counter(), self.nbytes
            self._sync.ask(self.nbytes)
        self._sync.check(self.nbytes)
        return page

    def _tags_of(self, camera: str, tags: Tags, known: Tags | None) -> Tags:
        """Return what the line says of its tags: all of them, or those that changed."""
        count = self._lines_of.get(camera, 0)
        self._lines_of[camera] = count + 1
        if known is None or count % _WHOLE_EVERY == 0 or not known.keys() <= tags.keys():
            return {"tags": tags}
        return {
            "tags_changed": {
                name: value
                for name, value in tags.items()
                if name not in known or type(known[name]) is not type(value) or known[name] != value
            }
        }

    def sync(self) -> None:
        """Wait until everything written so far is on the disk.

        Raises
        ------
        OSError
            When the disk is full.
        """
        try:
            self._write_lines()
        finally:
            self._confirm_both()
        self._synced_s = time.perf_counter()

    def _confirm_both(self) -> None:
        """Have the disk confirm both files; frames may be appended meanwhile."""
        # The pages come first, so that the sidecar promises no more than there is; lines of pages that are
        # written meanwhile are ignored by `read_raw` where a power cut took their pages.
        with self._confirming:
            frames = self.written
            answers = {RAW_MOVIE: self._pages.sync(), RAW_SIDECAR: confirm(self._lines_to_sync)}
        # An error is told once, and what it was about counts as saved for the system afterwards.
        self.doubts += any(error is not None and not cannot_confirm(error) for error in answers.values())
        if not self.doubts and not any(answers.values()):
            self.confirmed = max(self.confirmed, frames)
        for file, error in answers.items():
            if error is not None:
                risk = (
                    "the recording went on, but a power cut may cost more than the last second, and frames written "
                    "shortly before should be checked"
                    if cannot_confirm(error)
                    else "frames written shortly before may be missing there"
                )
                self._got_over(
                    "confirm",
                    f"the disk did not confirm that {file} is saved, after {counted(self.written, 'frame')} "
                    f"({one_line(error)}); {risk}",
                )

    @property
    def removed(self) -> bool:
        """True once the files were deleted while open, which POSIX allows; they are gone when they are closed."""
        return not self._closed and (self._pages.removed or has_no_name(self._lines.fileno()))

    def close(self) -> None:
        """Close both files; a second call does nothing.

        Files that were deleted are written again, into the run folder or one beside it: see `restored`.

        Raises
        ------
        OSError
            When that is not possible.
        """
        if self._closed:
            return
        self._sync.close()
        try:
            self._write_lines()
            if self.removed:
                self.restored = self._restore()
            elif self._pages.replaced:
                self.problems.append(
                    f"another file took the place of {self._folder / RAW_MOVIE} while recording; the frames are in the "
                    "one that was renamed"
                )
            if self._unwritten or self._lines_ended:
                self.problems.append(
                    f"{RAW_SIDECAR} ends before {RAW_MOVIE}: lines of the last frames could not be written"
                )
        finally:
            self._close_files()

    def abandon(self) -> Callable[[], None]:
        """Leave the files as they are, because their disk does not answer; return what closes them."""
        self._closed = True
        self._sync.abandon()
        return self._close_files

    def _close_files(self) -> None:
        self._closed = True
        try:
            self._pages.close()
        finally:
            if self._lines_to_sync != self._lines.fileno():
                os.close(self._lines_to_sync)
            self._lines.close()

    def _restore(self) -> Path:
        """Write the files again, into the first folder that nobody else has: RUN, RUN-restored, RUN-restored-2, ..."""
        names = numbered_names(f"{self._folder.name}-restored")
        for count in range(1, _MOST_RESTORED):
            if count == 1:
                folder = self._folder
                if _held(folder):
                    continue
                folder.mkdir(parents=True, exist_ok=True)
            else:
                folder = self._folder.with_name(next(names))
                try:
                    folder.mkdir(parents=True)
                except FileExistsError:
                    continue
            try:
                self._pages.copy_to(folder / RAW_MOVIE)
            except FileExistsError:  # another session was faster
                continue
            self._lines.seek(0)
            with (folder / RAW_SIDECAR).open("xb") as copy:
                shutil.copyfileobj(self._lines, copy, 1 << 20)
                copy.flush()
                confirm(copy.fileno())
            return folder
        raise FileExistsError(
            f"{self._folder}-restored and {_MOST_RESTORED} more folders like it exist already"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def numbered_names(name: str) -> Iterator[str]:
    """Yield names for a folder of which others may have the first: NAME, NAME-2, NAME-3, ..."""
    yield name
    for number in itertools.count(2):
        yield f"{name}-{number}"


def _exists(path: Path) -> OutputExists:
    return OutputExists(f"{path} exists and is never overwritten; name another `output` folder.")


def _held(folder: Path) -> bool:
    """Return whether a recording lies in a folder, or has begun there."""
    return any(os.path.lexists(folder / name) for name in (RAW_MOVIE, RAW_SIDECAR))


class RawElsewhere:
    """Takes the place of a `RawWriter` while another program saves the raw frames; writes nothing."""

    written = confirmed = doubts = 0
    pixels_at: int | None = None
    removed = False
    restored: Path | None = None
    problems: Sequence[str] = ()

    def append(self, _frame: Frame) -> None:
        """Let the frame go."""

    def sync(self) -> None:
        """Do nothing: nothing was written."""

    def close(self) -> None:
        """Do nothing: nothing is open."""

    def abandon(self) -> Callable[[], None]:
        """Do nothing: nothing is open."""
        return self.close


@dataclass(frozen=True)
class RawRecording:
    """A raw recording opened for reading, pages and sidecar reconciled.

    Attributes
    ----------
    path, header
        ``raw.tif``, and the sidecar's first line.
    records
        One mapping per frame, in order; ``len(records)`` frames can be read with their stamps.
    pages
        Complete pages in ``raw.tif``; at most one more than records after a kill.
    notes
        What was reconciled, in sentences; empty after a clean end.
    lines
        Complete lines of the sidecar after the first.
    """

    path: Path
    header: Mapping[str, Any]
    records: tuple[PageLine, ...]
    pages: int
    notes: tuple[str, ...]
    lines: int = 0
    """Whole lines of the sidecar after its header, with or without a page."""

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
        each = bounded_lines(lines)
        next(each, None)
        for line in each:
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

    Returns
    -------
    RawRecording
        Frames ``(T, H, W)`` in the camera's dtype, their metadata, and notes on what a crash left.

    Raises
    ------
    InvalidInput
        When one of the files is missing or is not a raw recording.

    Examples
    --------
    >>> recording = read_raw("run")
    >>> len(recording)
    24
    """
    import tifffile

    movie, sidecar = Path(folder) / RAW_MOVIE, Path(folder) / RAW_SIDECAR
    for path in (movie, sidecar):
        if not path.is_file():
            why = bad_link(Path(folder)) or f"{path} is missing"
            raise InvalidInput(
                f"{why}, so {folder} is not a run folder of denoscope: name the folder that a recording was written to."
            )
    notes: list[str] = []
    header, listed, cut = read_sidecar(sidecar)
    if cut:
        notes.append("the sidecar's last line was cut off and is ignored")
    try:
        with tifffile.TiffFile(movie) as tiff:
            pages = len(tiff.pages)
    except tifffile.TiffFileError:
        # Killed before the file's first 16 bytes.
        pages = 0
    records = _with_all_tags(listed)
    if pages > len(records):
        notes.append(
            f"{counted(pages - len(records), 'page at the end has', 'pages at the end have')} no line in the sidecar"
        )
    if len(records) > pages:
        over = counted(len(records) - pages, "line", "lines")
        notes.append(f"the sidecar ends with {over} without a page, left out")
        records = records[:pages]
    return RawRecording(movie, header, tuple(records), pages, tuple(notes), len(listed))


def _with_all_tags(records: list[PageLine]) -> list[PageLine]:
    """Give every record all its ``tags``; a million records share those that never change."""
    whole: dict[str, MutableMapping[str, Any]] = {}
    later: dict[str, Tags] = {}
    for record in records:
        camera = str(record.get("camera", ""))
        if "tags" in record:
            whole[camera], later[camera] = record["tags"], {}
        elif "tags_changed" in record:
            later[camera] = {**later.get(camera, {}), **record.pop("tags_changed")}
            record["tags"] = ChainMap(later[camera], whole.get(camera, {}))
    return records
