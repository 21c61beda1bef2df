"""A TIFF that is valid after every page: data and directory first, the link to them last."""

from __future__ import annotations

import errno
import json
import os
import shutil
import struct
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from denoscope.runtime import counted

from .confirm import confirm, has_no_name, second_handle, write_at

__all__ = ["CLASSIC_LIMIT", "PageFile", "replace_description"]

CLASSIC_LIMIT = 4_000_000_000
"""Bytes that a classic TIFF may have here; its offsets end at 4,294,967,295."""


@dataclass(frozen=True)
class _Form:
    """Layout of a TIFF's numbers: classic with 32-bit offsets, or BigTIFF with 64-bit ones."""

    header: bytes
    link_at: int
    offset: struct.Struct
    count: struct.Struct
    entry: struct.Struct
    inline: int
    offset_kind: int


_ASCII, _SHORT, _LONG, _RATIONAL, _LONG8 = 2, 3, 4, 5, 16
_BIG = _Form(
    struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0),
    8,
    struct.Struct("<Q"),
    struct.Struct("<Q"),
    struct.Struct("<HHQ8s"),
    8,
    _LONG8,
)
_CLASSIC = _Form(
    struct.pack("<2sHL", b"II", 42, 0),
    4,
    struct.Struct("<L"),
    struct.Struct("<H"),
    struct.Struct("<HHL4s"),
    4,
    _LONG,
)
_SAMPLE_FORMATS = {"u": 1, "i": 2, "f": 3}
_CENTIMETRE = 3
# A private tag for a frame's metadata, JSON. Micro-Manager's own, 51123, would make readers look for the tables
# of its files in the header and complain that they are not there.
_METADATA = 65123
_DESCRIPTION = 270
_NO_DESCRIPTION = b"-\0"  # fits into the directory of either form
_STRIP = 273
_ORDER_AT_ONCE = 1 << 20


class PageFile:
    """Write 2-D frames as pages of a little-endian TIFF, one strip each, uncompressed.

    Each page is appended (pixels, then its image file directory) and only then linked from the
    page before it by one write of an offset. A process that is killed at any moment therefore leaves a
    file in which every linked page is complete. Nothing is buffered in the process: what `append`
    returned for is in the operating system's hands; `sync` hands it to the disk.

    Parameters
    ----------
    path
        The file, which must not exist yet.
    pixel_size_um
        Written as the pages' resolution; None where unknown.
    describe
        Reserve an ``ImageDescription`` in the first page, to be filled by `set_description`.
    keep
        Open a file that this class wrote, perhaps until a kill, keep so many of its pages, cut off what
        follows, and append. None for a new file.
    classic
        Write a classic TIFF, which every program opens and which ends at 4 GB, in place of a BigTIFF. A file that
        is kept stays what it is.

    Raises
    ------
    FileExistsError
        When the file exists, and `keep` is None.
    ValueError
        When it has fewer complete pages than are to be kept.
    OSError
        When a write fails, for example on a full disk. The pages before it stay readable, and
        `pages` says how many there are.
    """

    def __init__(
        self,
        path: Path,
        *,
        pixel_size_um: float | None = None,
        describe: bool = False,
        keep: int | None = None,
        classic: bool = False,
    ) -> None:
        self.path = Path(path)
        self.pages = 0
        self.pixels_at = 0
        """Byte where the pixels of the newest page begin."""
        self._pixel_size_um = pixel_size_um
        self._describe = describe
        self._description_at = 0
        self._file = self.path.open("x+b" if keep is None else "r+b", buffering=0)
        self._form = _CLASSIC if classic else _BIG
        self._to_sync: int | None = None
        self._directories = array("Q")
        try:
            if keep is not None:
                self._form = _form_of(self._read(0, 4))
            self._link_at, self._end = self._form.link_at, len(self._form.header)
            if keep is None:
                self._write_at(0, self._form.header)
            else:
                self._keep(keep)
        except BaseException:
            self._file.close()
            raise

    @property
    def nbytes(self) -> int:
        """Size of the file in bytes, up to the last complete page."""
        return self._end

    def _keep(self, pages: int) -> None:
        """Follow the links over so many pages and end the file after them."""
        form, size = self._form, self.path.stat().st_size
        while self.pages < pages:
            (directory_at,) = form.offset.unpack(self._read(self._link_at, form.offset.size))
            head = self._read(directory_at, form.count.size) if directory_at else bytes(form.count.size)
            (tags,) = form.count.unpack(head)
            end = directory_at + form.count.size + tags * form.entry.size + form.offset.size
            if not self._end <= directory_at < end <= size:
                raise ValueError(
                    f"{self.path} has {counted(self.pages, 'complete page')}, and {pages} are to be kept"
                )
            self._add(directory_at, end)
        self._file.truncate(self._end)
        self._write_at(self._link_at, bytes(form.offset.size))

    def _add(self, directory_at: int, end: int) -> None:
        """Count a page that is linked."""
        if self._describe and self.pages == 0:
            # Six tags lie before the description.
            self._description_at = directory_at + self._form.count.size + 6 * self._form.entry.size + 4
        self._directories.append(directory_at)
        self._link_at, self._end = end - self._form.offset.size, end
        self.pages += 1

    def _read(self, at: int, count: int) -> bytes:
        self._file.seek(at)
        data = self._file.read(count)
        if len(data) < count:
            raise ValueError(f"{self.path} ends at byte {at}, after {counted(self.pages, 'complete page')}")
        return data

    def _write_at(self, at: int, *parts: bytes | memoryview) -> None:
        write_at(self._file, at, parts)

    def _tags(self, frame: npt.NDArray[Any], data_at: int, text: bytes) -> list[tuple[int, int, int, bytes]]:
        """Return code, type, count and value of each tag of a page."""
        height, width = frame.shape
        long, short = struct.Struct("<L").pack, struct.Struct("<H").pack
        tags = [
            (254, _LONG, 1, long(0)),
            (256, _LONG, 1, long(width)),
            (257, _LONG, 1, long(height)),
            (258, _SHORT, 1, short(frame.dtype.itemsize * 8)),
            (259, _SHORT, 1, short(1)),
            (262, _SHORT, 1, short(1)),
        ]
        if self._describe and self.pages == 0:
            tags.append((_DESCRIPTION, _ASCII, len(_NO_DESCRIPTION), _NO_DESCRIPTION))
        form = self._form
        tags += [
            (_STRIP, form.offset_kind, 1, form.offset.pack(data_at)),
            (277, _SHORT, 1, short(1)),
            (278, _LONG, 1, long(height)),
            (279, form.offset_kind, 1, form.offset.pack(frame.nbytes)),
        ]
        if self._pixel_size_um:
            thousandths = min(max(1, round(1e4 / self._pixel_size_um * 1000)), 0xFFFF_FFFF)
            per_cm = struct.pack("<LL", thousandths, 1000)
            tags += [(282, _RATIONAL, 1, per_cm), (283, _RATIONAL, 1, per_cm)]
            tags.append((296, _SHORT, 1, short(_CENTIMETRE)))
        tags.append((339, _SHORT, 1, short(_SAMPLE_FORMATS[frame.dtype.kind])))
        if text:
            tags.append((_METADATA, _ASCII, len(text), text))
        return tags

    def append(self, frame: npt.NDArray[Any], *, metadata: Mapping[str, Any] | None = None) -> int:
        """Write one page and return its index.

        Parameters
        ----------
        frame
            ``(H, W)`` array of unsigned or signed integers or floats.
        metadata
            Written into the page as JSON, in Micro-Manager's tag; nothing where empty.

        Raises
        ------
        ValueError
            When the frame is not 2-D or of another kind of dtype.
        OSError
            When the write fails; the file keeps the pages before this one.
        """
        if frame.ndim != 2 or frame.dtype.kind not in _SAMPLE_FORMATS:
            raise ValueError(f"a page is a 2-D array of numbers, not {frame.dtype} with shape {frame.shape}")
        form = self._form
        frame = np.ascontiguousarray(frame, dtype=frame.dtype.newbyteorder("<"))
        padding = -self._end % 16
        data_at = self._end + padding
        text = json.dumps(dict(metadata), default=str).encode() + b"\0" if metadata else b""
        values, entries = b"", []
        values_at = data_at + frame.nbytes
        for code, kind, count, value in self._tags(frame, data_at, text):
            if len(value) > form.inline:
                values += bytes(-(values_at + len(values)) % 2)
                entries.append((code, kind, count, form.offset.pack(values_at + len(values))))
                values += value
            else:
                entries.append((code, kind, count, value))
        values += bytes(-(values_at + len(values)) % 8)
        directory_at = values_at + len(values)
        directory = _directory(form, entries)
        if form is _CLASSIC and directory_at + len(directory) > CLASSIC_LIMIT:
            raise OSError(
                errno.EFBIG, f"{self.path.name} would grow over the 4 GB that a classic TIFF can hold"
            )
        pixels = frame.reshape(-1).view(np.uint8).data
        self._write_at(self._end, bytes(padding), pixels, values + directory)
        self._write_at(self._link_at, form.offset.pack(directory_at))
        self._add(directory_at, directory_at + len(directory))
        self.pixels_at = data_at
        return self.pages - 1

    def order(self, pages: Sequence[int]) -> None:
        """Give the file these pages, in this order; a page that is named several times is shown several times.

        Directories are written anew, pixels are not. Until the last write, the new link in the header, the file has
        its old pages.

        Parameters
        ----------
        pages
            Index of each page as it is now; at least one.

        Raises
        ------
        OSError
            When a write fails; the file keeps its old pages.
        """
        form, start = self._form, self._end + -self._end % 8
        placed, at, data = array("Q"), start, bytearray(-self._end % 8)
        for place, page in enumerate(pages):
            entries = [entry for entry in self._entries(page) if entry[0] != _DESCRIPTION]
            if place == 0 and self._describe:
                entries.insert(6, (_DESCRIPTION, _ASCII, len(_NO_DESCRIPTION), _NO_DESCRIPTION))
            size = form.count.size + len(entries) * form.entry.size + form.offset.size
            last = place == len(pages) - 1
            following = at + size + -size % 8
            directory = _directory(form, entries, 0 if last else following)
            placed.append(at)
            data += directory if last else directory.ljust(following - at, b"\0")
            at = at + size if last else following
            if len(data) > _ORDER_AT_ONCE or last:
                self._write_at(at - len(data), bytes(data))
                data = bytearray()
        confirm(self._file.fileno())  # the new pages are on the disk before anything points to them
        self._write_at(form.link_at, form.offset.pack(placed[0]))
        self._directories, self.pages, self._link_at = array("Q"), 0, form.link_at
        for directory_at, end in zip(placed, [*placed[1:], at], strict=True):
            self._add(directory_at, end)

    def _entries(self, page: int) -> list[tuple[int, int, int, bytes]]:
        return list(_read_entries(self._form, self._file, self._directories[page]))

    def set_description(self, text: str) -> None:
        """Put `text` (UTF-8) into the first page's ``ImageDescription``.

        Raises
        ------
        ValueError
            When no page was written, or the file was opened without `describe`.
        OSError
            When the write fails; the file stays readable with its old description.
        """
        if not self._description_at:
            raise ValueError("a description needs a first page in a file opened with describe=True")
        data = text.encode() + b"\0"
        self._write_at(self._end, data)
        found = self._form.offset.pack(len(data)) + self._form.offset.pack(self._end)
        self._write_at(self._description_at, found)
        self._end += len(data)

    @property
    def removed(self) -> bool:
        """True where the file was deleted while it is open, so that it is gone when it is closed (POSIX)."""
        return has_no_name(self._file.fileno())

    @property
    def shortened(self) -> bool:
        """True where another program has cut off pages that were written."""
        end = self._end
        try:
            return os.fstat(self._file.fileno()).st_size < end
        except OSError:  # a share that does not answer in this moment; writing the page tells more
            return False

    @property
    def replaced(self) -> bool:
        """True where another file has the name of this one, which was renamed."""
        try:
            return not os.path.samestat(self.path.stat(), os.fstat(self._file.fileno()))
        except OSError:  # nothing has the name
            return False

    def copy_to(self, path: Path) -> None:
        """Write what the file holds to a new one, also where it was deleted.

        Raises
        ------
        OSError
            When the new file exists or the disk refuses.
        """
        self._file.seek(0)
        with path.open("xb") as copy:
            shutil.copyfileobj(self._file, copy, 1 << 20)
            copy.flush()
            confirm(copy.fileno())

    def sync(self) -> OSError | None:
        """Wait until everything written so far is on the disk; return its answer where it cannot confirm that.

        A thread may do so while another appends.

        Raises
        ------
        OSError
            When the disk is full.
        """
        if self._to_sync is None:
            self._to_sync = second_handle(self.path, self._file.fileno())
        return confirm(self._to_sync)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._to_sync is not None and not self._file.closed and self._to_sync != self._file.fileno():
            os.close(self._to_sync)
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _form_of(magic: bytes) -> _Form:
    return _CLASSIC if magic == _CLASSIC.header[:4] else _BIG


def _directory(form: _Form, entries: list[tuple[int, int, int, bytes]], following: int = 0) -> bytes:
    """Return an image file directory with the link to the next one."""
    packed = [form.entry.pack(*entry[:3], entry[3].ljust(form.inline, b"\0")) for entry in entries]
    return form.count.pack(len(entries)) + b"".join(packed) + form.offset.pack(following)


def _read_entries(form: _Form, file: Any, directory_at: int) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield code, type, count and the inline bytes of each tag of a directory."""
    file.seek(directory_at)
    (count,) = form.count.unpack(file.read(form.count.size))
    data = file.read(count * form.entry.size)
    yield from form.entry.iter_unpack(data)


def replace_description(path: Path, text: str) -> None:
    """Give the first page of a finished file that has a description another one.

    Raises
    ------
    OSError
        When the write fails.
    ValueError
        When the first page has no description.
    """
    with path.open("r+b") as file:
        form = _form_of(file.read(4))
        file.seek(form.link_at)
        (directory_at,) = form.offset.unpack(file.read(form.offset.size))
        codes = [entry[0] for entry in _read_entries(form, file, directory_at)]
        if _DESCRIPTION not in codes:
            raise ValueError(f"{path} has no description")
        data = text.encode() + b"\0"
        at = file.seek(0, os.SEEK_END)
        file.write(data)
        file.flush()
        confirm(file.fileno())
        file.seek(directory_at + form.count.size + codes.index(_DESCRIPTION) * form.entry.size + 4)
        file.write(form.offset.pack(len(data)) + form.offset.pack(at))
        file.flush()
        confirm(file.fileno())
