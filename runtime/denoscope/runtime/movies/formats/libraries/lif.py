"""Leica LIF, read by the library liffile: the images of one file count as positions."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.errors import InvalidInput
from denoscope.runtime.movies.headers.facts import Facts, told
from denoscope.runtime.movies.headers.untrusted import LARGEST_XML, check_xml
from denoscope.runtime.movies.lazy import Reader
from denoscope.runtime.movies.pick import Axis, Wanted

from .plane_by_plane import Choice, PlaneByPlane, choose, only_image, open_by_library

__all__ = ["open_lif"]

_HEAD = struct.Struct("<IIBI")  # 0x70, bytes that follow, 0x2A, characters of XML in UTF-16
_KINDS = {"T": "time", "Z": "plane", "C": "channel", "M": "position"}


def open_lif(path: Path, wanted: Wanted, limit_bytes: int) -> Reader:
    """Open one image of a LIF file, and one channel and plane of it, as a movie.

    Raises
    ------
    InvalidInput
        If the file is damaged, in colour, or the choice is ambiguous.
    """
    _check_description(path)
    return open_by_library(
        path, "Leica LIF", "liffile:LifFile", lambda file: _opened(path, file, wanted, limit_bytes)
    )


def _check_description(path: Path) -> None:
    """Refuse a description that cannot be one, before the library parses it."""
    with path.open("rb") as file:
        head = file.read(_HEAD.size)
        characters = _HEAD.unpack(head)[-1] if len(head) == _HEAD.size else 0
        check_xml(path, file.read(min(2 * characters, 2 * LARGEST_XML)).decode("utf-16-le", "replace"))


def _opened(path: Path, file: Any, wanted: Wanted, limit_bytes: int) -> Reader:
    images = [image for image in file.images if {"X", "Y"} <= set(image.sizes)]
    if not images:
        raise InvalidInput(f"{path} holds no image with rows and columns: export it from LAS X as OME-TIFF.")
    at, wanted = only_image(str(path), tuple(str(image.path) for image in images), wanted)
    image = images[at]
    name = str(path) if len(images) == 1 else f"{path} ({image.path})"
    sizes = {axis: int(size) for axis, size in image.sizes.items()}
    if tuple(image.frames.frame_sizes) != ("Y", "X"):
        kind = "in colour" if "S" in sizes else "not stored in frames of rows and columns"
        raise InvalidInput(f"{name} is {kind}: export one channel of grey from LAS X as OME-TIFF.")
    order = [axis for axis in sizes if axis not in ("Y", "X")]
    choice = choose(name, [Axis(_KINDS.get(axis, "other"), sizes[axis]) for axis in order], wanted)

    def plane(t: int) -> npt.NDArray[Any]:
        return np.asarray(image.frame(**dict(zip(order, choice.at(t), strict=True))))

    return PlaneByPlane(
        name,
        (choice.length, sizes["Y"], sizes["X"]),
        image.dtype,
        plane,
        file.close,
        stored_bytes=path.stat().st_size,
        compressed=False,
        limit_bytes=limit_bytes,
        note=choice.note,
        facts=_facts(image, sizes, choice),
    )


def _facts(image: Any, sizes: dict[str, int], choice: Choice) -> Facts:
    """Return pixel size, times and objective: the first from the dimensions, which begin and end at a frame."""

    def step(axis: str) -> float:
        places = image.coords[axis]
        return float(places[1] - places[0])

    only_time = choice.time is not None and choice.length == np.prod(
        [n for a, n in sizes.items() if a not in "YX"]
    )
    times = told(lambda: image.timestamps.astype("int64") / 1e3) if only_time and "T" in sizes else None
    timed = choice.time is not None and [a for a in sizes if a not in ("Y", "X")][choice.time] == "T"
    objective = told(lambda: image.xml_element.find(".//*[@ObjectiveName]").get("ObjectiveName"))
    return Facts(
        pixel_size_um=told(lambda: step("X") * 1e6),
        increment_s=told(lambda: step("T")) if timed else None,
        times_s=times if times is not None and len(times) == choice.length else None,
        objective=objective,
    )
