"""OLE compound files (OIB): a check that no chain of sectors leads back into itself, where a reader would never end."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from denoscope.runtime.errors import InvalidInput

__all__ = ["MAGIC", "check_compound"]

MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_LARGEST_SECTOR = 0xFFFFFFFA
_IN_HEADER = 109  # numbers of sectors of the allocation table

_Table = npt.NDArray[np.int64]


def check_compound(path: Path) -> None:
    """Refuse a compound file whose chains of sectors have loops or lead outside the file.

    Raises
    ------
    InvalidInput
        If the file is damaged.
    """
    with path.open("rb") as file:
        head = file.read(512)
        if len(head) < 512 or not head.startswith(MAGIC):
            raise _damaged(path, "its header is cut short")
        (shift,) = struct.unpack_from("<H", head, 30)
        tables, _, _, _, small_at, small_count, more_at, more_count = struct.unpack_from("<8I", head, 44)
        if shift not in (9, 12):
            raise _damaged(path, f"it gives sectors of 2^{shift} bytes")
        unit = 2**shift
        sectors = path.stat().st_size // unit
        if max(tables, more_count, small_count) > sectors:
            raise _damaged(
                path, f"it lists {max(tables, more_count, small_count)} tables in {sectors} sectors"
            )
        listed = list(np.frombuffer(head, "<u4", _IN_HEADER, 76).tolist())
        for _ in range(more_count):
            numbers = _sector(file, path, more_at, unit).tolist()
            listed, more_at = [*listed, *numbers[:-1]], numbers[-1]
        parts = [_sector(file, path, number, unit) for number in listed[:tables]]
        table = np.concatenate(parts) if parts else np.empty(0, np.int64)
        _check_ends(path, table)
        small = []
        for _ in range(small_count):
            if small_at >= len(table):
                break
            small.append(_sector(file, path, small_at, unit))
            small_at = int(table[small_at])
        if small:
            _check_ends(path, np.concatenate(small))


def _sector(file: BinaryIO, path: Path, number: int, unit: int) -> _Table:
    """Return the numbers in a sector."""
    file.seek((number + 1) * unit)
    data = file.read(unit)
    if number > _LARGEST_SECTOR or len(data) != unit:
        raise _damaged(path, f"sector {number} is not in the file")
    return np.frombuffer(data, "<u4").astype(np.int64)


def _check_ends(path: Path, table: _Table) -> None:
    """Check that every chain ends: after so many doubled steps each sector has come to one without a next."""
    end = len(table)
    following = np.append(np.where(table < end, table, end), end)
    for _ in range(max(end, 1).bit_length()):
        following = following[following]
    if (following != end).any():
        raise _damaged(path, "a chain of its sectors leads back into itself")


def _damaged(path: Path, what: str) -> InvalidInput:
    return InvalidInput(
        f"{path} cannot be read as Olympus OIF or OIB ({what}): the file is damaged; copy it again."
    )
