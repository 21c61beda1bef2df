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
from denoscope.runtime.words import counted

from .plane_by_plane import Choice, PlaneByPlane, choose, only_image, open_by_library

__all__ = ["open_lif"]

_HEAD = struct.Struct("<IIBI")  # 0x70, bytes that follow, 0x2A, characters of XML in UTF-16
_KINDS = {"T": "time", "Z": "plane", "C": "channel", "M": "position", "L": "time"}
_WAVELENGTHS = (
    "\N{GREEK SMALL LETTER LAMDA}",
    "\N{GREEK CAPITAL LETTER LAMDA}",
)  # of emission and excitation
_NO_TIME = {"A": "angles", "N": "slices of lines over time", "Q": "slices of times"}


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
    every = list(file.images)
    images = [image for image in every if "X" in image.sizes and {"Y", "Z"} & set(image.sizes)]
    if not images:
        raise InvalidInput(f"{path} holds no image with rows and columns: export it from LAS X as OME-TIFF.")
    at, wanted = only_image(str(path), tuple(str(image.path) for image in images), wanted)
    image = images[at]
    name = str(path) if len(images) == 1 else f"{path} ({image.path})"
    sizes = {axis: int(size) for axis, size in image.sizes.items()}
    rows = "Z" if tuple(image.frames.frame_sizes) == ("Z", "X") else "Y"
    if tuple(image.frames.frame_sizes) != (rows, "X"):
        kind = "in colour" if "S" in sizes else "not stored in frames of rows and columns"
        raise InvalidInput(f"{name} is {kind}: export one channel of grey from LAS X as OME-TIFF.")
    order = [axis for axis in sizes if axis not in (rows, "X")]
    for axis in order:
        if axis in _NO_TIME and sizes[axis] > 1:
            raise InvalidInput(
                f"{name} was scanned at {sizes[axis]} {_NO_TIME[axis]}, which are no points in time: export those of "
                "one from LAS X as OME-TIFF."
            )
    swept = sum(sizes.get(letter, 1) for letter in _WAVELENGTHS if letter in sizes)
    if swept and not any(sizes[axis] > 1 for axis in order if axis not in (*_WAVELENGTHS, "C")):
        raise InvalidInput(
            f"{name} was scanned at {swept} wavelengths at one point in time: it is no movie; choose a series "
            "over time with `position`, or another file."
        )
    names = _channel_names(image)
    axes = [_axis(axis, sizes[axis], names, image) for axis in order]
    choice = choose(name, axes, wanted)

    def plane(t: int) -> npt.NDArray[Any]:
        return np.asarray(image.frame(**dict(zip(order, choice.at(t), strict=True))))

    left = len(every) - len(images)
    notes = [choice.note]
    if rows == "Z":
        notes.append(f"{path.name} was scanned along x and z: the rows of its frames are depths")
    if left:
        notes.append(
            f"{path.name}: {counted(left, 'image')} without rows and columns, as of line scans, left out"
        )
    channel = choice.fixed[order.index("C")] if "C" in order else 0
    return PlaneByPlane(
        name,
        (choice.length, sizes[rows], sizes["X"]),
        image.dtype,
        plane,
        file.close,
        stored_bytes=path.stat().st_size,
        compressed=False,
        limit_bytes=limit_bytes,
        note="; ".join(filter(None, notes)),
        facts=_facts(image, sizes, order, choice, names[channel] if channel < len(names) else ""),
    )


def _axis(letter: str, size: int, names: tuple[str, ...], image: Any) -> Axis:
    """Return an axis as the user chooses from it; a sweep of wavelengths counts as channels."""
    if letter in _WAVELENGTHS:
        found = told(lambda: tuple(f"{1e9 * float(metres):.1f} nm" for metres in image.coords[letter])) or ()
        told_apart = len(set(found)) == size
        return Axis("channel", size, found if told_apart else tuple(f"wavelength {i}" for i in range(size)))
    if letter == "Y":  # of frames along x and z
        return Axis("plane", size)
    fits = letter == "C" and len(set(names)) == size == len(names) and all(names)
    return Axis(_KINDS.get(letter, "other"), size, names if fits else ())


def _channel_names(image: Any) -> tuple[str, ...]:
    """Return the dye of each channel, or the colour it is shown in; empty where the file gives neither."""

    def name(channel: Any) -> str:
        said = {p.findtext("Key"): p.findtext("Value") or "" for p in channel.findall("ChannelProperty")}
        colour = channel.get("LUTName", "")
        return said.get("DyeName", "").strip() or ("" if colour.lower() in ("gray", "grey") else colour)

    found = told(
        lambda: image.xml_element.findall("./Data/Image/ImageDescription/Channels/ChannelDescription")
    )
    order = sorted(found or (), key=lambda c: int(c.get("BytesInc", 0)))
    return told(lambda: tuple(name(channel) for channel in order)) or ()


def _facts(image: Any, sizes: dict[str, int], order: list[str], choice: Choice, channel: str) -> Facts:
    """Return pixel size, times, channel and objective; dimensions begin and end at the middle of a pixel."""

    def step(axis: str) -> float:
        places = image.coords[axis]
        return float(places[1] - places[0])

    only_time = choice.time is not None and choice.length == np.prod([sizes[a] for a in order])
    times = told(lambda: image.timestamps.astype("int64") / 1e3) if only_time and "T" in sizes else None
    timed = choice.time is not None and order[choice.time] == "T"
    objective = told(lambda: image.xml_element.find(".//*[@ObjectiveName]").get("ObjectiveName"))
    return Facts(
        pixel_size_um=told(lambda: step("X") * 1e6),
        increment_s=told(lambda: step("T")) if timed else None,
        times_s=times if times is not None and len(times) == choice.length else None,
        channel=channel,
        objective=objective,
    )
