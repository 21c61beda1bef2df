"""Files that are read whole, and how large each may be: any file may lie there by the time it is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from denoscope.runtime.bundle.regular_file import read_regular

__all__ = ["MOST_BYTES", "Kind", "read_whole"]

Kind = Literal["benchmark", "event log", "journal", "movie's list", "report", "timelines", "traces' list"]

# None that denoscope writes has as many: a frame of a day's recording takes some 100 bytes in the longest.
MOST_BYTES: Mapping[Kind, int] = {
    "traces' list": 2**24,
    "report": 2**28,
    "journal": 2**28,
    "benchmark": 2**28,
    "event log": 2**30,
    "timelines": 2**30,
    "movie's list": 2**31,
}
"""Bytes that are read of a file at most."""


def read_whole(path: Path, kind: Kind) -> bytes:
    """Return the content of a file of a kind.

    Raises
    ------
    NotReadable
        If it is missing, larger than one of its kind may be, or no regular file.
    """
    return read_regular(path, MOST_BYTES[kind])
