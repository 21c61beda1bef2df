"""Olympus OIB and OIF, read by the library oiffile: TIFF files in a container or in a folder beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.errors import InvalidInput
from denoscope.runtime.movies.headers.facts import Facts, Metadata, told
from denoscope.runtime.movies.headers.units import in_micrometres, in_seconds
from denoscope.runtime.movies.lazy import Reader
from denoscope.runtime.movies.pick import Axis, Wanted
from denoscope.runtime.words import counted

from .compound import MAGIC, check_compound
from .plane_by_plane import PlaneByPlane, choose, open_by_library

__all__ = ["open_oif"]

_KINDS = {"T": "time", "Z": "plane", "C": "channel"}


def open_oif(path: Path, wanted: Wanted, limit_bytes: int) -> Reader:
    """Open one channel and plane of an OIB or OIF recording as a movie.

    Raises
    ------
    InvalidInput
        If the file is damaged, in colour, or the choice is ambiguous.
    """
    with path.open("rb") as head:
        compound = head.read(len(MAGIC)) == MAGIC
    if compound:
        check_compound(path)
    return open_by_library(
        path, "Olympus OIF or OIB", "oiffile:OifFile", lambda file: _opened(path, file, wanted, limit_bytes)
    )


def _opened(path: Path, file: Any, wanted: Wanted, limit_bytes: int) -> Reader:
    if not file.series:
        raise InvalidInput(f"{path} holds no images: copy the folder {path.name}.files beside it too.")
    series = file.series[0]
    axes = [Axis(_KINDS.get(str(a), "other"), int(n)) for a, n in zip(series.axes, series.shape, strict=True)]
    names = dict(zip((tuple(i) for i in series.indices), list(series), strict=True))
    choice = choose(str(path), axes, wanted)
    movie = [names[at] for t in range(choice.length) if (at := choice.at(t)) in names]
    if not movie:
        raise InvalidInput(f"{path} has no frame of this channel and plane: choose others.")
    lost = choice.length - len(movie)
    channel = next((n for n, axis in zip(choice.fixed, axes, strict=True) if axis.kind == "channel"), 0)
    timed = choice.time is not None and axes[choice.time].kind == "time" and not lost
    shape, dtype = _frame(file, movie[0], None)
    if len(shape) != 2:
        raise InvalidInput(
            f"{path} has images of the shape {shape}; denoscope takes grey ones (H, W): save it as OME-TIFF in Fiji."
        )
    inside = path.suffix.lower() != ".oif"
    folder = path.with_name(path.name + ".files")
    return PlaneByPlane(
        str(path),
        (len(movie), *shape),
        dtype,
        lambda t: _frame(file, movie[t], shape),
        file.close,
        stored_bytes=path.stat().st_size if inside else sum(f.stat().st_size for f in folder.iterdir()),
        compressed=True,
        limit_bytes=limit_bytes,
        note=choice.note
        or (
            f"{path.name}: {lost} of {counted(choice.length, 'time point has', 'time points have')} no frame of "
            "this choice"
            if lost
            else ""
        ),
        facts=_facts(file.mainfile, channel, timed=timed),
    )


def _frame(file: Any, name: str, shape: tuple[int, ...] | None) -> Any:
    """Return one image, if it has the expected shape; without one, its shape and type."""
    import tifffile

    with file.open_file(name) as opened, tifffile.TiffFile(opened, name=Path(name).name) as tif:
        page = tif.pages.first
        if shape is None:
            return page.shape, page.dtype
        if page.shape != shape:
            raise ValueError(f"{Path(name).name} is {page.shape} instead of {shape}")
        pixels: npt.NDArray[Any] = np.asarray(page.asarray())
        return pixels


def _facts(settings: Metadata, channel: int, *, timed: bool) -> Facts:
    """Return pixel size, interval and dye from the main file of settings."""

    def step() -> float | None:
        for section, axis in settings.items():
            if section.startswith("Axis ") and axis.get("AxisCode") == "T":
                span = float(axis["EndPosition"]) - float(axis["StartPosition"])
                return in_seconds(span / (int(axis["MaxSize"]) - 1), axis["UnitName"])
        raise KeyError("no axis of time")

    reference = settings.get("Reference Image Parameter", {})
    return Facts(
        pixel_size_um=in_micrometres(reference.get("WidthConvertValue"), reference.get("WidthUnit")),
        increment_s=told(step) if timed else None,
        channel=told(lambda: settings[f"Channel {channel + 1} Parameters"]["DyeName"]),
        objective=told(lambda: settings["Acquisition Parameters Common"]["ObjectiveName"]),
    )
