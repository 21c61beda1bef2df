"""A folder as a movie: numbered images, one of our run folders, or Micro-Manager's stack files."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime._errors import InvalidInput

from ._check import check_claim
from ._lazy import Reader
from ._pick import Axis, Wanted, pick
from ._tiff import open_tiff

__all__ = ["natural_order", "open_folder"]

_TIFF = (".tif", ".tiff")
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def natural_order(name: str) -> list[tuple[bool, int, str]]:
    """Return a key that sorts ``frame_2`` before ``frame_10``."""
    return [
        (part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", name)
    ]


def open_folder(path: Path, wanted: Wanted, limit_bytes: int) -> Reader:
    """Open a folder of equally large images, in the order of the numbers in their names.

    Raises
    ------
    InvalidInput
        If there are none, they are of several kinds, or the first is not one frame.
    """
    if (path / "raw.tif").is_file() and (path / "report.json").is_file() | (path / "raw.jsonl").is_file():
        return open_tiff(path / "raw.tif", wanted, limit_bytes)
    files = [p for p in path.iterdir() if p.suffix.lower() in (*_TIFF, ".png") and not p.name.startswith(".")]
    if not files:
        raise InvalidInput(
            f"{path} holds no movie: no TIFF or PNG images, NDTiff.index or OME-Zarr metadata."
        )
    kinds = {p.suffix.lower() for p in files}
    if len(kinds) > 1:
        raise InvalidInput(f"{path} holds {' and '.join(sorted(kinds))} images: move one kind elsewhere.")
    files.sort(key=lambda p: natural_order(p.name))
    if "MMStack" in files[0].name:
        return open_tiff(files[0], wanted, limit_bytes)
    pick(str(path), [Axis("time", len(files))], wanted)
    return _Images(path, files, limit_bytes)


class _Images:
    """One file a frame, opened when it is read."""

    note = ""

    def __init__(self, path: Path, files: list[Path], limit_bytes: int) -> None:
        self._path, self._files, self._limit_bytes = path, files, limit_bytes
        height, width, self.dtype = self._describe(files[0])
        self.shape = (len(files), height, width)
        self.piece = (1, height, width)

    def _describe(self, file: Path) -> tuple[int, int, np.dtype[Any]]:
        """Return rows, columns and dtype of an image from its header."""
        if file.suffix.lower() in _TIFF:
            reader = open_tiff(file, Wanted(), self._limit_bytes)
            if reader.shape[0] != 1:
                raise InvalidInput(
                    f"{file} holds {reader.shape[0]} frames: give the path of that file, or a folder of single images."
                )
            return reader.shape[1], reader.shape[2], reader.dtype
        if find_spec("imagecodecs") is None:
            raise InvalidInput(
                f"{file} is PNG, and reading it needs imagecodecs: run pip install 'denoscope[formats]'."
            )
        with file.open("rb") as opened:
            head = opened.read(26)
        if len(head) < 26 or not head.startswith(_PNG_MAGIC) or head[12:16] != b"IHDR":
            raise InvalidInput(f"{file} is no PNG image: it is damaged; save it again.")
        width, height = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
        bits, colour = head[24], head[25]
        if colour != 0 or bits not in (8, 16):
            raise InvalidInput(
                f"{file} holds colour or {bits}-bit pixels: save it as grey values of 8 or 16 bits."
            )
        check_claim(
            str(file),
            (height, width),
            bits // 8,
            piece=(height, width),
            stored_bytes=file.stat().st_size,
            compressed=True,
            limit_bytes=self._limit_bytes,
        )
        return height, width, np.dtype(f"uint{bits}")

    def read(self, start: int, stop: int, rows: slice, columns: slice) -> npt.NDArray[Any]:
        """Return (stop - start, rows, columns)."""
        result = np.empty((stop - start, rows.stop - rows.start, columns.stop - columns.start), self.dtype)
        for i, file in enumerate(self._files[start:stop]):
            height, width, dtype = self._describe(file)
            if (height, width, dtype) != (*self.shape[1:], self.dtype):
                raise InvalidInput(
                    f"{file} is {height} x {width} {dtype}, the first image {self.shape[1]} x {self.shape[2]} "
                    f"{self.dtype}: a movie's images are of one size."
                )
            result[i] = self._decode(file, rows, columns)
        return result

    def _decode(self, file: Path, rows: slice, columns: slice) -> npt.NDArray[Any]:
        if file.suffix.lower() in _TIFF:
            frame: npt.NDArray[Any] = open_tiff(file, Wanted(), self._limit_bytes).read(0, 1, rows, columns)[
                0
            ]
            return frame
        import imagecodecs

        image: npt.NDArray[Any] = imagecodecs.png_decode(file.read_bytes())
        return image[rows, columns]
