"""Ask a disk to confirm what was written, and tell a full disk from one that only cannot confirm."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["cannot_confirm", "confirm", "disk_is_full", "has_no_name", "second_handle", "write_at"]

_FULL = frozenset(getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG") if hasattr(errno, name))
_CANNOT = frozenset(
    getattr(errno, name) for name in ("EINVAL", "ENOSYS", "ENOTSUP", "EOPNOTSUPP") if hasattr(errno, name)
)
_OPEN = Path("/proc/self/fd")
_LOOKS = 3
_WINDOWS_FULL = frozenset({39, 112, 1295})  # handle disk full, disk full, quota exceeded


def disk_is_full(error: OSError) -> bool:
    """Return whether a write failed for want of room, which trying again does not help."""
    return error.errno in _FULL or getattr(error, "winerror", None) in _WINDOWS_FULL


def cannot_confirm(error: OSError) -> bool:
    """Return whether a disk or share has no way to confirm, which says nothing about what it was given."""
    return error.errno in _CANNOT


def confirm(number: int) -> OSError | None:
    """Wait until what was written to an open file is on the disk.

    Returns
    -------
    OSError or None
        The disk's answer where it cannot confirm, as some network shares cannot (EINVAL), or reports an error.

    Raises
    ------
    OSError
        When the disk is full.
    """
    try:
        os.fsync(number)
    except OSError as error:
        if disk_is_full(error):
            raise
        return error
    return None


def write_at(file: Any, at: int, parts: Sequence[bytes | memoryview]) -> None:
    """Write bytes one part after the other from a byte of an unbuffered file on.

    With one call of the system where there is such: each gives Python's lock away, and a thread that copies frames
    meanwhile keeps it for milliseconds.
    """
    left = [memoryview(part).cast("B") for part in parts if len(part)]
    if sys.platform == "win32" or not hasattr(os, "pwritev"):
        file.seek(at)
        for part in left:
            while part.nbytes:
                part = part[file.write(part) or 0 :]
        return
    while left:
        written = os.pwritev(file.fileno(), left, at)
        at += written
        while left and written >= left[0].nbytes:
            written -= left.pop(0).nbytes
        if left and written:
            left[0] = left[0][written:]


def second_handle(path: Path, number: int) -> int:
    """Return the number of an open file that can be confirmed while it is written under another number.

    Parameters
    ----------
    path, number
        Of the file. Windows lets one handle do one thing at a time, so it is opened once more there, to be closed
        by the caller; elsewhere the number itself does.
    """
    if sys.platform != "win32":
        return number
    return os.open(path, os.O_RDWR | os.O_BINARY)


def has_no_name(number: int) -> bool:
    """Return whether an open file is gone once it is closed: it was deleted, or its file system was unmounted.

    Linux lets a file system go that has open files (``umount -l``, a drive that is pulled out): they can be written,
    and no path leads to them. A file that was moved has another path.
    """
    if os.fstat(number).st_nlink == 0:
        return True
    before: Path | None = None
    for _ in range(_LOOKS):
        try:
            path = (_OPEN / str(number)).readlink()
            path.stat()
        except FileNotFoundError:
            if not _OPEN.exists():
                return False  # another system
            if path == before:
                return True
            before = path  # or it was moved between the two questions
        except OSError:
            return False
        else:
            return False
    return False
