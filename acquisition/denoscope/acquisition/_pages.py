"""A BigTIFF that is valid after every page: data and directory first, the link to them last."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ._confirm import confirm

__all__ = ["PageFile"]

_HEADER = struct.Struct("<2sHHHQ")
_TAG = struct.Struct("<HHQ8s")
_ASCII, _SHORT, _LONG, _RATIONAL, _LONG8 = 2, 3, 4, 5, 16
_SAMPLE_FORMATS = {"u": 1, "i": 2, "f": 3}
_CENTIMETRE = 3
# A private tag for a frame's metadata, JSON. Micro-Manager's own, 51123, would make readers look for the tables
# of its files in the header and complain that they are not there.
_METADATA = 65123
# Six tags lie before the description; its count follows code and type.
_DESCRIPTION_IN_DIRECTORY = 8 + 6 * _TAG.size + 4


def _tag(code: int, kind: int, value: bytes, count: int = 1) -> bytes:
    return _TAG.pack(code, kind, count, value.ljust(8, b"\0"))


class PageFile:
    """Write 2-D frames as pages of a little-endian BigTIFF, one strip each, uncompressed.

    Each page is appended (pixels, then its image file directory) and only then linked from the
    page before it by one eight-byte write. A process that is killed at any moment therefore leaves a
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
    ) -> None:
        self.path = Path(path)
        self.pages = 0
        self.pixels_at = 0
        """Byte where the pixels of the newest page begin."""
        self._pixel_size_um = pixel_size_um
        self._describe = describe
        self._description_at = 0
        self._file = self.path.open("x+b" if keep is None else "r+b", buffering=0)
        self._link_at = 8
        self._end = _HEADER.size
        if keep is None:
            self._write(_HEADER.pack(b"II", 43, 8, 0, 0))
            return
        try:
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
        size = self.path.stat().st_size
        while self.pages < pages:
            (directory_at,) = struct.unpack("<Q", self._read(self._link_at, 8))
            (tags,) = struct.unpack("<Q", self._read(directory_at, 8)) if directory_at else (0,)
            end = directory_at + 16 + tags * _TAG.size
            if not self._end <= directory_at < end <= size:
                raise ValueError(f"{self.path} has {self.pages} complete pages, and {pages} are to be kept")
            if self._describe and self.pages == 0:
                self._description_at = directory_at + _DESCRIPTION_IN_DIRECTORY
            self._link_at, self._end = end - 8, end
            self.pages += 1
        self._file.truncate(self._end)
        self._file.seek(self._link_at)
        self._write(struct.pack("<Q", 0))

    def _read(self, at: int, count: int) -> bytes:
        self._file.seek(at)
        data = self._file.read(count)
        if len(data) < count:
            raise ValueError(f"{self.path} ends at byte {at}, after {self.pages} complete pages")
        return data

    def _write(self, data: bytes | memoryview) -> None:
        left = memoryview(data).cast("B")
        while left.nbytes:
            left = left[self._file.write(left) or 0 :]

    def _resolution(self) -> list[bytes]:
        if not self._pixel_size_um:
            return []
        per_cm = struct.pack("<LL", max(1, round(1e4 / self._pixel_size_um * 1000)), 1000)
        return [
            _tag(282, _RATIONAL, per_cm),
            _tag(283, _RATIONAL, per_cm),
            _tag(296, _SHORT, struct.pack("<H", _CENTIMETRE)),
        ]

    def _directory(self, frame: npt.NDArray[Any], data_at: int, text: bytes, text_at: int) -> bytes:
        height, width = frame.shape
        tags = [
            _tag(254, _LONG, struct.pack("<L", 0)),
            _tag(256, _LONG, struct.pack("<L", width)),
            _tag(257, _LONG, struct.pack("<L", height)),
            _tag(258, _SHORT, struct.pack("<H", frame.dtype.itemsize * 8)),
            _tag(259, _SHORT, struct.pack("<H", 1)),
            _tag(262, _SHORT, struct.pack("<H", 1)),
        ]
        if self._describe and self.pages == 0:
            tags.append(_tag(270, _ASCII, b"live\0", 5))
        tags += [
            _tag(273, _LONG8, struct.pack("<Q", data_at)),
            _tag(277, _SHORT, struct.pack("<H", 1)),
            _tag(278, _LONG, struct.pack("<L", height)),
            _tag(279, _LONG8, struct.pack("<Q", frame.nbytes)),
            *self._resolution(),
            _tag(339, _SHORT, struct.pack("<H", _SAMPLE_FORMATS[frame.dtype.kind])),
        ]
        if text:
            where = text if len(text) <= 8 else struct.pack("<Q", text_at)
            tags.append(_tag(_METADATA, _ASCII, where, len(text)))
        return struct.pack("<Q", len(tags)) + b"".join(tags) + struct.pack("<Q", 0)

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
        frame = np.ascontiguousarray(frame, dtype=frame.dtype.newbyteorder("<"))
        self._file.seek(self._end)
        padding = -self._end % 16
        data_at = self._end + padding
        text = json.dumps(dict(metadata), default=str).encode() + b"\0" if metadata else b""
        text_at = data_at + frame.nbytes
        used = frame.nbytes + len(text)
        directory_at = data_at + used + (-used % 8)
        directory = self._directory(frame, data_at, text, text_at)
        if padding:
            self._write(b"\0" * padding)
        self._write(frame.reshape(-1).view(np.uint8).data)
        self._write(text + b"\0" * (directory_at - data_at - used) + directory)
        self._file.seek(self._link_at)
        self._write(struct.pack("<Q", directory_at))
        if self._describe and self.pages == 0:
            self._description_at = directory_at + _DESCRIPTION_IN_DIRECTORY
        self._link_at = directory_at + len(directory) - 8
        self._end = directory_at + len(directory)
        self.pixels_at = data_at
        self.pages += 1
        return self.pages - 1

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
        self._file.seek(self._end)
        self._write(data)
        self._file.seek(self._description_at)
        self._write(struct.pack("<QQ", len(data), self._end))
        self._end += len(data)

    @property
    def removed(self) -> bool:
        """Whether the file was deleted while it is open, so that it is gone when it is closed (POSIX)."""
        return os.fstat(self._file.fileno()).st_nlink == 0

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

        Raises
        ------
        OSError
            When the disk is full.
        """
        return confirm(self._file.fileno())

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
