"""One PNG image, a frame of a movie in numbered files."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.errors import InvalidInput
from denoscope.runtime.movies.check import check_claim, check_regular
from denoscope.runtime.movies.install import how_to_install

__all__ = ["PngImage"]

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


class PngImage:
    """One PNG image; a `Reader` of one frame."""

    note = ""

    def __init__(self, file: Path, limit_bytes: int) -> None:
        check_regular(file)
        self._file, self._limit_bytes = file, limit_bytes
        height, width, self.dtype = self._describe(file)
        self.shape = (1, height, width)
        self.piece = (1, height, width)

    def _describe(self, file: Path) -> tuple[int, int, np.dtype[Any]]:
        """Return rows, columns and dtype of an image from its header."""
        if find_spec("imagecodecs") is None:
            raise InvalidInput(
                f"{file} is PNG, and reading it needs imagecodecs: {how_to_install('formats')}."
            )
        with file.open("rb") as opened:
            head = opened.read(26)
        if len(head) < 26 or not head.startswith(_PNG_MAGIC) or head[12:16] != b"IHDR":
            raise InvalidInput(f"{file} is no PNG image: it is damaged; save it again.")
        width, height = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
        bits, colour = head[24], head[25]
        if colour != 0 or bits not in (8, 16):
            what = "colours, a palette or transparency" if colour else f"{bits}-bit pixels"
            raise InvalidInput(f"{file} holds {what}: save it as grey values of 8 or 16 bits.")
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
        import imagecodecs

        image: npt.NDArray[Any] = imagecodecs.png_decode(self._file.read_bytes())
        return image[None, rows, columns] if stop > start else image[None][:0]
