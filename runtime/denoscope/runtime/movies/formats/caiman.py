"""CaImAn's ``.mmap``: float32 without a header, whose name tells its size and order."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.errors import InvalidInput
from denoscope.runtime.movies.check import check_claim
from denoscope.runtime.movies.lazy import Reader
from denoscope.runtime.movies.pick import Axis, Wanted, pick

__all__ = ["open_caiman"]

_NAME = re.compile(
    r"_d1_(\d{1,9})_d2_(\d{1,9})_d3_(\d{1,9})_order_([CF])_frames_(\d{1,18})_?\.mmap", re.IGNORECASE
)
_STORED = np.dtype("<f4")
_BLOCK_BYTES = 2**26  # of frames that are gathered at once where the time points of a pixel lie together


def open_caiman(path: Path, wanted: Wanted, limit_bytes: int) -> Reader:
    """Open one plane of a memory map of CaImAn as a movie.

    CaImAn stores a matrix of pixels and frames. Pixels are numbered along the columns of a picture (order ``F``),
    whatever the order of the matrix is, which its name tells.

    Raises
    ------
    InvalidInput
        If its size is not the one in its name, or the choice is ambiguous.
    """
    match = _NAME.search(path.name)
    if match is None:
        raise InvalidInput(
            f"{path} has no name as CaImAn gives it (..._d1_512_d2_512_d3_1_order_F_frames_2000.mmap), and only that "
            "tells its size: give it its old name, or save it as TIFF: caiman.load(FILE).save('movie.tif')."
        )
    rows, columns, planes, frames = (int(match[i]) for i in (1, 2, 3, 5))
    check_claim(
        str(path),
        (frames, planes, rows, columns),
        _STORED.itemsize,
        piece=(1, 1, 1),
        stored_bytes=path.stat().st_size,
        compressed=False,
        limit_bytes=limit_bytes,
    )
    expected, size = frames * planes * rows * columns * _STORED.itemsize, path.stat().st_size
    if size != expected:
        raise InvalidInput(
            f"{path} has {size} bytes, and its name says {expected}: it was renamed or not written to its end; save it "
            "again with CaImAn."
        )
    chosen = pick(str(path), [Axis("time", frames), Axis("plane", planes)], wanted)
    return _Frames(path, (frames, planes, rows, columns), match[4].upper(), chosen[0], chosen[1], chosen.note)


class _Frames:
    """Frames of one plane, or the planes of one frame."""

    dtype = np.dtype(np.float32)

    def __init__(
        self,
        path: Path,
        shape: tuple[int, int, int, int],
        order: str,
        frame: int | None,
        plane: int | None,
        note: str,
    ) -> None:
        frames, planes, rows, columns = shape
        self._path, self._stored, self._order, self.note = path, shape, order, note
        self._frame, self._plane = frame, plane
        self.shape = (planes if plane is None else frames, rows, columns)
        deep = 1
        if order == "C" and plane is not None:  # reading one frame reads as much of the disk as reading many
            deep = min(max(_BLOCK_BYTES // (rows * columns * _STORED.itemsize), 1), frames)
        self.piece = (deep, rows, columns)

    def read(self, start: int, stop: int, rows: slice, columns: slice) -> npt.NDArray[Any]:
        """Return (stop - start, rows, columns)."""
        frames, planes, high, _ = self._stored
        result = np.empty((stop - start, rows.stop - rows.start, columns.stop - columns.start), self.dtype)
        pixels, lines = planes * high * self._stored[3], rows.stop - rows.start
        with self._path.open("rb", buffering=0) as file:

            def values(at: int, count: int) -> npt.NDArray[Any]:
                file.seek(at * _STORED.itemsize)
                data = file.read(count * _STORED.itemsize)
                if len(data) != count * _STORED.itemsize:
                    raise EOFError(f"the file ends before value {at + count}")
                return np.frombuffer(data, _STORED)

            if self._order == "F":  # the columns of a frame lie one after the other
                wide = columns.stop - columns.start
                for i, t in enumerate(range(start, stop)):
                    plane, frame = (t, self._frame or 0) if self._plane is None else (self._plane, t)
                    first = frame * pixels + (plane * self._stored[3] + columns.start) * high
                    result[i] = values(first, wide * high).reshape(wide, high)[:, rows].T
                return result
            for column in range(columns.start, columns.stop):
                out = result[:, :, column - columns.start]
                for i, t in enumerate(range(start, stop)):
                    plane, frame = (t, self._frame or 0) if self._plane is None else (self._plane, t)
                    first = (plane * self._stored[3] + column) * high + rows.start
                    if self._plane is None:
                        out[i] = [values((first + row) * frames + frame, 1)[0] for row in range(lines)]
                    else:
                        for row in range(lines):
                            out[:, row] = values((first + row) * frames + start, stop - start)
                        break
        return result
