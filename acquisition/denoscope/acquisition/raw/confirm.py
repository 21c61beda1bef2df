"""Ask a disk to confirm what was written, and tell a full disk from one that only cannot confirm."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

__all__ = ["confirm", "disk_is_full", "second_handle"]

_FULL = frozenset(getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG") if hasattr(errno, name))
_WINDOWS_FULL = frozenset({39, 112, 1295})  # handle disk full, disk full, quota exceeded


def disk_is_full(error: OSError) -> bool:
    """Return whether a write failed for want of room, which trying again does not help."""
    return error.errno in _FULL or getattr(error, "winerror", None) in _WINDOWS_FULL


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
