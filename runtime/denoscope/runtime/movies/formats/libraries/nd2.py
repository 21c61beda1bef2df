"""Nikon ND2, read by the library nd2."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.errors import InvalidInput
from denoscope.runtime.movies.headers.facts import Facts, told
from denoscope.runtime.movies.lazy import Reader
from denoscope.runtime.movies.pick import Axis, Wanted
from denoscope.runtime.words import counted

from .plane_by_plane import PlaneByPlane, choose, open_by_library

__all__ = ["open_nd2"]

_KINDS = {"T": "time", "Z": "plane", "P": "position", "C": "channel"}


def open_nd2(path: Path, wanted: Wanted, limit_bytes: int) -> Reader:
    """Open one channel, plane and position of an ND2 file as a movie.

    Raises
    ------
    InvalidInput
        If the file is damaged, in colour, or the choice is ambiguous.
    """
    return open_by_library(
        path, "Nikon ND2", "nd2:ND2File", lambda file: _opened(path, file, wanted, limit_bytes)
    )


def _opened(path: Path, file: Any, wanted: Wanted, limit_bytes: int) -> Reader:
    if file.is_rgb:
        raise InvalidInput(f"{path} is in colour; denoscope takes one channel of grey: save it as OME-TIFF.")
    sizes = {axis: int(size) for axis, size in file.sizes.items() if axis not in ("Y", "X")}
    channels = sizes.pop("C", 1)
    axes = [
        Axis(_KINDS.get(a, "other"), n, _position_names(file) if a == "P" else ()) for a, n in sizes.items()
    ]
    names = tuple(c.channel.name for c in file.metadata.channels or ())
    axes.append(Axis("channel", channels, names if len(names) == channels else ()))
    choice = choose(str(path), axes, wanted)
    loops = tuple(sizes.values())

    def number(t: int) -> int:
        return int(np.ravel_multi_index(choice.at(t)[:-1], loops)) if loops else 0

    timed = choice.time is not None and axes[choice.time].kind == "time"
    kept, note = _recorded(
        path, file, [number(t) for t in range(choice.length)] if choice.time != len(loops) else None
    )
    height, width = int(file.attributes.heightPx), int(file.attributes.widthPx or 0)

    def plane(t: int) -> npt.NDArray[Any]:
        at = choice.at(t)
        frame = np.asarray(file.read_frame(number(t) if kept is None else kept[t]))
        chosen: npt.NDArray[Any] = frame.reshape(channels, height, width)[at[-1]]
        return chosen

    return PlaneByPlane(
        str(path),
        (choice.length if kept is None else len(kept), height, width),
        file.dtype,
        plane,
        file.close,
        stored_bytes=path.stat().st_size,
        compressed=math.prod((*loops, channels, height, width)) * file.dtype.itemsize > path.stat().st_size,
        limit_bytes=limit_bytes,
        note="; ".join(filter(None, (choice.note, note))),
        facts=_facts(
            file,
            choice.fixed[-1],
            (kept if kept is not None else [number(t) for t in range(choice.length)]) if timed else [],
            timed=timed,
        ),
    )


def _times(file: Any, numbers: list[int]) -> tuple[float, ...] | None:
    """Return the seconds at which these frames of the file were taken, None where the file has none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of files without times
        # The public way decodes the metadata of one frame after another, which takes minutes of a long movie.
        times_ms = np.asarray(file._rdr._cached_frame_times(), float)
    return tuple((times_ms[numbers] / 1e3).tolist()) if numbers else None


def _facts(file: Any, channel: int, numbers: list[int], *, timed: bool) -> Facts:
    """Return pixel size, times, exposure, channel and objective as the library gives them."""

    def step() -> float:
        """Return the measured interval in seconds, or the one that was set."""
        loop = next(each for each in file.experiment if each.type in ("TimeLoop", "NETimeLoop"))
        period = loop.parameters if loop.type == "TimeLoop" else loop.parameters.periods[0]
        measured = told(lambda: float(period.periodDiff.avg))
        return (measured or float(period.periodMs)) / 1e3

    def exposure() -> float:
        """Return the exposure in seconds: of each channel, or one for all, which it does not name in public."""
        settings = file._rdr._cached_raw_metadata()["sPicturePlanes"]["sSampleSetting"]
        one = settings.get(f"a{channel}") or (next(iter(settings.values())) if len(settings) == 1 else {})
        return float(one["dExposureTime"]) / 1e3

    return Facts(
        pixel_size_um=told(lambda: file.voxel_size().x),
        increment_s=told(step) if timed else None,
        times_s=told(lambda: _times(file, numbers)),
        exposure_s=told(exposure),
        channel=told(lambda: file.metadata.channels[channel].channel.name),
        objective=told(lambda: file.metadata.channels[channel].microscope.objectiveName),
    )


def _position_names(file: Any) -> tuple[str, ...]:
    """Return the names of the stage positions, where the file has them."""
    for loop in file.experiment:
        if loop.type == "XYPosLoop":
            return tuple(p.name or f"XYPos:{i}" for i, p in enumerate(loop.parameters.points))
    return ()


def _recorded(path: Path, file: Any, numbers: list[int] | None) -> tuple[list[int] | None, str]:
    """Return the frames that the file really has, and a note of those it only announces.

    A recording that was stopped announces more, and the library gives zeros for them.
    """
    offsets = getattr(getattr(file, "_rdr", None), "_frame_offsets", None)
    if numbers is None or not isinstance(offsets, dict):
        return numbers, ""
    kept = [n for n in numbers if n in offsets]
    if not kept:
        raise InvalidInput(
            f"{path} announces {counted(len(numbers), 'frame')} and has none of them: nothing was recorded."
        )
    lost = len(numbers) - len(kept)
    return (
        kept,
        f"{path.name}: {lost} of {counted(len(numbers), 'time point was', 'time points were')} never recorded"
        if lost
        else "",
    )
