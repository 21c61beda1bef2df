"""Imaris ``.ims``, an HDF5 file with one data set for each time point and channel, padded to whole chunks."""

from __future__ import annotations

import threading
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.errors import InvalidInput
from denoscope.runtime.movies.check import check_claim, check_dtype
from denoscope.runtime.movies.headers.facts import Facts
from denoscope.runtime.movies.headers.units import in_micrometres
from denoscope.runtime.movies.lazy import Reader
from denoscope.runtime.movies.pick import Axis, Wanted, pick, pick_index

__all__ = ["is_imaris", "open_imaris"]

_LEVEL = "ResolutionLevel 0"
_MOST = 1_000_000


def is_imaris(file: Any) -> bool:
    """Say whether an open HDF5 file is one of Imaris."""
    import h5py

    found = file.get("DataSet", getlink=True) if "DataSet" in file else None
    return (
        isinstance(found, h5py.HardLink)
        and isinstance(file["DataSet"], h5py.Group)
        and _LEVEL in file["DataSet"]
    )


def open_imaris(name: str, file: Any, wanted: Wanted, limit_bytes: int) -> Reader:
    """Open one channel and plane at full resolution as a movie; `file` is the open HDF5 file.

    Raises
    ------
    InvalidInput
        If a time point is missing or of another size, or the choice is ambiguous.
    """
    return _Imaris(name, file, wanted, limit_bytes)


def _attribute(group: Any, key: str) -> str:
    """Return an attribute, which Imaris stores as one character after the other; empty where there is none."""
    value = group.attrs.get(key)
    if value is None:
        return ""
    if isinstance(value, np.ndarray):
        return b"".join(bytes(v) for v in value.ravel()).decode("utf-8", "replace").strip("\0 ")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


class _Imaris:
    """One channel and plane of every time point."""

    def __init__(self, name: str, file: Any, wanted: Wanted, limit_bytes: int) -> None:
        level = file["DataSet"][_LEVEL]
        times = sum(key.startswith("TimePoint ") for key in level)
        if not 0 < times < _MOST or any(f"TimePoint {t}" not in level for t in range(times)):
            raise InvalidInput(
                f"{name} lacks a time point of {times}: it was cut short; export it from Imaris again."
            )
        channels = sum(key.startswith("Channel ") for key in level["TimePoint 0"])
        info = file.get("DataSetInfo")
        labels = tuple(
            _attribute(info[f"Channel {c}"], "Name") if info and f"Channel {c}" in info else ""
            for c in range(channels)
        )
        pick_index(name, Axis("position", 1), wanted.position)
        first = level["TimePoint 0/Channel 0/Data"]
        depth, height, width = self._size(first, level["TimePoint 0/Channel 0"])
        self.dtype = check_dtype(name, first.dtype)
        chosen = pick(
            name,
            [
                Axis("time", times),
                Axis("channel", channels, labels if all(labels) and len(set(labels)) == channels else ()),
                Axis("plane", depth),
            ],
            wanted,
        )
        self._level, self._channel, self._plane = level, chosen[1] or 0, chosen[2]
        self.note = chosen.note
        self.shape = (depth if chosen[2] is None and times == 1 else times, height, width)
        chunks = first.chunks or (1, height, width)
        self.piece = (1, height, width)
        stored = sum(
            int(level[f"TimePoint {t}/Channel {self._channel}/Data"].id.get_storage_size())
            for t in range(times)
        )
        check_claim(
            name,
            (times, depth, height, width),
            self.dtype.itemsize,
            piece=tuple(int(n) for n in chunks),
            stored_bytes=stored,
            compressed=True,
            limit_bytes=limit_bytes,
        )
        self._stack = (depth, height, width)
        self._lock = threading.Lock()
        self.facts = _facts(file, times, width, labels[self._channel])

    @staticmethod
    def _size(data: Any, group: Any) -> tuple[int, int, int]:
        """Return planes, rows and columns without the padding."""
        found = tuple(int(n) if (n := _attribute(group, f"ImageSize{a}")).isdecimal() else 0 for a in "ZYX")
        stored = tuple(int(n) for n in data.shape)
        if len(stored) != 3:
            raise InvalidInput(
                f"{Path(data.file.filename).name} holds data of the shape {stored}: it is damaged; "
                "export it from Imaris again."
            )
        z, y, x = (f if 0 < f <= s else s for f, s in zip(found, stored, strict=True))
        return z, y, x

    def read(self, start: int, stop: int, rows: slice, columns: slice) -> npt.NDArray[Any]:
        """Return (stop - start, rows, columns)."""
        result = np.empty((stop - start, rows.stop - rows.start, columns.stop - columns.start), self.dtype)
        with self._lock:
            for i, t in enumerate(range(start, stop)):
                point, plane = (0, t) if self._plane is None else (t, self._plane)
                group = self._level[f"TimePoint {point}/Channel {self._channel}"]
                if (
                    self._size(group["Data"], group) != self._stack
                    or group["Data"].dtype != self._level["TimePoint 0/Channel 0/Data"].dtype
                ):
                    raise ValueError(f"time point {point} is of another size than the first")
                result[i] = group["Data"][plane, rows, columns]
        return result


def _facts(file: Any, times: int, width: int, channel: str) -> Facts:
    """Return pixel size and times; those that make no sense are left out."""
    info = file.get("DataSetInfo")
    image = info.get("Image") if info is not None else None
    size: float | None = None
    stamps: tuple[float, ...] | None = None
    try:
        if image is not None:
            edge = (float(_attribute(image, "ExtMax0")) - float(_attribute(image, "ExtMin0"))) / width
            size = in_micrometres(edge, _attribute(image, "Unit") or "um")
    except ValueError:
        size = None
    try:
        listed = info["TimeInfo"]
        points = [datetime.fromisoformat(_attribute(listed, f"TimePoint{t + 1}")) for t in range(times)]
        stamps = tuple((point - points[0]).total_seconds() for point in points)
    except (KeyError, TypeError, ValueError):
        stamps = None
    return Facts(pixel_size_um=size, times_s=stamps, channel=channel)
