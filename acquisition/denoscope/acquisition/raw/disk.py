"""Free disk space, checked before a recording and while it runs, and the disk's speed."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import time
from pathlib import Path

from denoscope.acquisition.contracts import SourceInfo
from denoscope.acquisition.errors import NoDiskSpace
from denoscope.runtime import counted

from .confirm import confirm

__all__ = ["check_space", "existing_parent", "free_bytes", "recording_bytes", "write_speed"]

# Pages' directories, sidecar line and OME-XML of one frame.
_OVERHEAD = 2048
_FIRST_BYTES = 4 * 2**20
_LONGEST_S = 0.5


def free_bytes(folder: Path) -> int:
    """Return the bytes that can still be written where `folder` lies."""
    return shutil.disk_usage(folder).free


def write_speed(folder: Path, size: int, enough: float = math.inf) -> float:
    """Return the bytes a second that a disk takes, from a file that is written, handed to it and deleted.

    Pieces that double are written, each waited for as a recording does, until half a second or `size` is
    used up, or one of them was written at `enough`; so a slow disk costs little more than its first piece.

    Parameters
    ----------
    folder
        An existing folder on the disk.
    size
        Bytes at most.
    enough
        Bytes a second that leave no question open.

    Raises
    ------
    OSError
        When nothing can be written there.
    """
    data = os.urandom(min(2**20, size))  # a disk that compresses must not look fast
    piece, written, speed = _FIRST_BYTES, 0, 0.0
    with tempfile.TemporaryFile(dir=folder, prefix="denoscope-", buffering=0) as file:
        started = time.perf_counter()
        while written < size and speed < enough and time.perf_counter() - started < _LONGEST_S:
            begun, until = time.perf_counter(), min(written + piece, size)
            bytes_before = written
            while written < until:
                written += file.write(data[: until - written])
            confirm(file.fileno())
            # The best of the pieces: a moment in which others used the disk says nothing about it.
            speed = max(speed, (written - bytes_before) / max(time.perf_counter() - begun, 1e-9))
            piece *= 2
    return speed


def recording_bytes(source: SourceInfo, frames: int) -> int:
    """Return the bytes that `frames` frames take on disk, raw and denoised."""
    return frames * (2 * source.frame_bytes + _OVERHEAD)


def check_space(folder: Path, source: SourceInfo, frames: int | None, reserve: int) -> None:
    """Check that a recording fits.

    Parameters
    ----------
    folder
        Run folder.
    source
        What is recorded.
    frames
        How many frames, or None where the recording has no end that is known.
    reserve
        Bytes that must stay free.

    Raises
    ------
    NoDiskSpace
        When it does not fit.
    """
    free = free_bytes(folder)
    needed = recording_bytes(source, frames or 0) + reserve
    if free >= needed:
        return
    height, width = source.shape
    what = (
        f"{counted(frames, 'frame')} of {height}x{width} {source.dtype.name}, raw and denoised,"
        if frames
        else "a recording"
    )
    need = "need" if frames and frames > 1 else "needs"
    raise NoDiskSpace(
        f"{folder} has {free / 1e9:.2f} GB free, and {what} {need} {needed / 1e9:.2f} GB with the reserve of "
        f"{reserve / 1e9:.2f} GB; free space, record fewer frames, or name `output` on another disk."
    )


def existing_parent(folder: Path) -> Path:
    """Return the folder itself or the nearest one above it that exists; the drive where that is missing."""
    folder = folder.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder
