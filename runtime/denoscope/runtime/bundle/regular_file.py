"""Read a file from an unknown source: a regular file, not larger than expected, or nothing."""

from __future__ import annotations

import os
import stat
from pathlib import Path

__all__ = ["NotReadable", "read_regular", "regular_size"]

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


class NotReadable(ValueError):
    """Reason why a file is not read, to follow its name in a sentence."""


def regular_size(path: Path) -> int:
    """Return the size of a regular file, or of the one a link leads to, without opening it.

    Raises
    ------
    NotReadable
        If it is missing, a folder, a pipe, a device or a socket.
    """
    try:
        return _size_of(path.stat())
    except OSError as error:
        raise NotReadable(f"cannot be read ({error.strerror or error})") from error


def read_regular(path: Path, limit: int) -> bytes:
    """Return the content of a regular file of at most `limit` bytes.

    A pipe is never waited for, and of a file that grows while it is read at most one byte more than `limit` is read.

    Raises
    ------
    NotReadable
        If it is missing, larger, or no regular file.
    """
    _check(regular_size(path), limit)
    try:
        # Without blocking: somebody may have put a pipe in its place since.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as file:
            _check(_size_of(os.fstat(file.fileno())), limit)
            data = file.read(limit + 1)
    except OSError as error:
        raise NotReadable(f"cannot be read ({error.strerror or error})") from error
    _check(len(data), limit)
    return data


def _size_of(status: os.stat_result) -> int:
    for is_kind, name in _KINDS:
        if is_kind(status.st_mode):
            raise NotReadable(f"is {name} and no file")
    if not stat.S_ISREG(status.st_mode):
        raise NotReadable("is no regular file")
    return status.st_size


def _check(size: int, limit: int) -> None:
    if size > limit:
        raise NotReadable(f"has {size} bytes, and at most {limit} are read")
