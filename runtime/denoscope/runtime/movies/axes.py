"""Order of the axes of an array: from the names that a file gives them, or as the user says."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.errors import InvalidInput

from .headers.facts import facts_of
from .lazy import Reader

__all__ = ["KINDS", "Rearranged", "letters_of", "order_of"]

KINDS = {"T": "time", "C": "channel", "Z": "plane", "P": "position"}
"""Kinds of the axes that are neither rows (Y) nor columns (X)."""

_LETTERS = "TYXCZP"
_BLOCK_BYTES = 64 * 2**20  # read at once where the pixels of a frame do not lie together
_NAMES = {
    "T": "t time times frame frames timepoint timepoints time_point num_frames nframes num_samples",
    "Y": "y row rows line lines height ypos ydim num_rows",
    "X": "x col cols column columns width xpos xdim num_cols num_columns",
    "C": "c ch channel channels color colour num_channels",
    "Z": "z plane planes slice slices depth zpos zdim num_planes",
    "P": "p position positions pos scene scenes series field fields fov roi",
}
_LETTER_OF = {name: letter for letter, names in _NAMES.items() for name in names.split()}


def order_of(axes: str) -> str:
    """Return the letters of `axes`, one for each axis of a file, in capitals.

    Raises
    ------
    InvalidInput
        If rows and columns are not among them once, or one is no known letter or there twice.
    """
    order = axes.strip().upper()
    if not {"Y", "X"} <= set(order) <= set(_LETTERS) or len(set(order)) < len(order):
        raise InvalidInput(
            f"`axes` {axes} is no order of axes: give each axis of the file once, such as TYX or YXT (T time, Y rows, "
            "X columns, C channels, Z planes, P positions)."
        )
    return order


def letters_of(names: list[str], axes: int) -> str | None:
    """Return the letters for the names of so many axes, or None where they do not tell rows from columns.

    Where time is all that is named of three axes, rows and columns are the others in their order; where rows and
    columns are, the third is time.
    """
    if len(names) != axes:
        return None
    found = [_LETTER_OF.get(name.strip().lower(), "") for name in names]
    if (
        axes == 3
        and found.count("T") == 1
        and found.count("") == 2
        and not any(map(str.strip, _unknown(names)))
    ):
        sides = iter("YX")
        found = [letter or next(sides) for letter in found]
    if axes == 3 and found.count("") == 1 and {"Y", "X"} <= set(found):
        found = [letter or "T" for letter in found]
    order = "".join(found)
    if len(order) != axes or len(set(order)) < axes or not {"Y", "X"} <= set(order):
        return None
    return order


def _unknown(names: list[str]) -> list[str]:
    return [name for name in names if name.strip().lower() not in _LETTER_OF]


class Rearranged:
    """A movie whose reader takes the axes of the file for time, rows and columns, in another order."""

    def __init__(self, name: str, reader: Reader, order: str) -> None:
        if sorted(order) != sorted("TYX"):
            raise InvalidInput(
                f"{name} is read as three axes {reader.shape}, and `axes` {order} names {len(order)}: give T, Y "
                "and X in their order, such as YXT."
            )
        self._reader, self._order = reader, order
        size = dict(zip(order, reader.shape, strict=True))
        self.shape = (size["T"], size["Y"], size["X"])
        self.dtype = reader.dtype
        frame = size["Y"] * size["X"] * self.dtype.itemsize
        together = 1 if order[0] == "T" else max(min(size["T"], _BLOCK_BYTES // frame), 1)
        self.piece = (together, size["Y"], size["X"])
        said = "" if order == "TYX" else f"read as `axes` {order} says"
        self.note = "; ".join(filter(None, (reader.note, said)))
        self.facts = facts_of(reader).of_frames(()) if order[0] != "T" else facts_of(reader)

    def read(self, start: int, stop: int, rows: slice, columns: slice) -> npt.NDArray[Any]:
        """Return (stop - start, rows, columns)."""
        wanted = {"T": slice(start, stop), "Y": rows, "X": columns}
        first, second, third = (wanted[letter] for letter in self._order)
        turned = [self._order.index(letter) for letter in "TYX"]
        length = {letter: part.stop - part.start for letter, part in wanted.items()}
        result = np.empty([length[letter] for letter in self._order], self.dtype)
        step = max(self._reader.piece[0], 1)
        whole = slice(0, self._reader.shape[1])
        for at in range(first.start, first.stop, step):
            until = min(at + step, first.stop)
            block = self._reader.read(at, until, whole, third)
            result[at - first.start : until - first.start] = block[:, second]
        return result.transpose(turned)
