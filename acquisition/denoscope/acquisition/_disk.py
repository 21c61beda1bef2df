"""Free disk space: checked before a recording and while it runs."""

from __future__ import annotations

import shutil
from pathlib import Path

from ._errors import NoDiskSpace
from ._frames import SourceInfo

__all__ = ["check_space", "free_bytes", "recording_bytes"]

# Pages' directories, sidecar line and OME-XML of one frame.
_OVERHEAD = 2048


def free_bytes(folder: Path) -> int:
    """Return the bytes that can still be written where `folder` lies."""
    return shutil.disk_usage(folder).free


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
        f"{frames} frames of {height}x{width} {source.dtype.name}, raw and denoised,"
        if frames
        else "a recording"
    )
    raise NoDiskSpace(
        f"{folder} has {free / 1e9:.2f} GB free, and {what} needs {needed / 1e9:.2f} GB with the reserve of "
        f"{reserve / 1e9:.2f} GB; free space, record fewer frames, or name --output on another disk."
    )
