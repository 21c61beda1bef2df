"""Zeiss CZI, read by the library czifile, of 2019 or of 2026: each frame is a separate block in the file."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import numpy.typing as npt

from denoscope.runtime.errors import InvalidInput
from denoscope.runtime.movies.headers.facts import Facts, told
from denoscope.runtime.movies.headers.untrusted import parse_xml
from denoscope.runtime.movies.lazy import Reader
from denoscope.runtime.movies.pick import Axis, Wanted
from denoscope.runtime.words import counted

from .plane_by_plane import PlaneByPlane, choose, one_sentence

__all__ = ["open_czi"]

_KINDS = {"T": "time", "Z": "plane", "C": "channel", "S": "position"}
_READ_SINCE_2019 = (0, 1, 4)  # uncompressed, JPEG, JPEG XR

_DAY_S = 86_400.0
_LONGEST_GAPS = (
    4  # times the points in time that have frames; what lies further apart was numbered by something else
)
_DATES_FROM = 20_000.0  # stamps above are days since 1899 (some programs), those below seconds of a recording
# Where a block begins along each axis, how many entries it has there, and how many are stored.
_Extent = dict[str, tuple[int, int, int]]
_Blocks = dict[tuple[int, ...], tuple[_Extent, Any]]  # by their index along every axis


def open_czi(path: Path, wanted: Wanted, limit_bytes: int) -> Reader:
    """Open one channel, plane and scene of a CZI file as a movie.

    Raises
    ------
    InvalidInput
        If the file is damaged, in colour, a mosaic, or the choice is ambiguous.
    """
    library: Any = import_module("czifile")
    with one_sentence(str(path), "Zeiss CZI"):
        # Given an open file, the library neither looks for other parts nor leaves it open on a damaged one.
        handle = path.open("rb")
        try:
            return _opened(path, library.CziFile(handle), handle.close, wanted, limit_bytes)
        except BaseException:
            handle.close()
            raise


def _blocks_of(path: Path, file: Any) -> tuple[list[str], _Blocks]:
    """Return the axes beside rows and columns, and the planes by their index; refuse blocks that are no plane."""
    blocks = [(_extent(entry), entry) for entry in file.subblock_directory]
    # The others are smaller copies for a quick look.
    blocks = [(extent, e) for extent, e in blocks if all(n in (0, size) for _, size, n in extent.values())]
    if not blocks:
        raise InvalidInput(f"{path} holds no frames: nothing was recorded.")
    if len({extent["M"][0] for extent, _ in blocks if "M" in extent}) > 1:
        raise InvalidInput(f"{path} is a mosaic of tiles: stitch it in ZEN, or export the tiles as OME-TIFF.")
    order = sorted({axis for extent, _ in blocks for axis in extent} - {"X", "Y", "M"})
    if any(size > 1 for extent, _ in blocks for axis, (_, size, _) in extent.items() if axis not in "XY"):
        raise InvalidInput(f"{path} keeps several planes in one block: export it from ZEN as OME-TIFF.")
    places = {tuple(extent.get(a, (0, 1, 1))[0] for a in order): (extent, e) for extent, e in blocks}
    if len(places) < len(blocks):
        raise InvalidInput(
            f"{path} has several frames of one time, plane and channel: export it from ZEN as OME-TIFF."
        )
    return order, places


def _check_pixels(path: Path, movie: list[tuple[_Extent, Any]]) -> tuple[int, int, np.dtype[Any]]:
    """Return height, width and dtype of all planes; raise InvalidInput where they differ or cannot be read."""
    extent, first = movie[0]
    sizes = {(e["Y"][1], e["X"][1]) for e, _ in movie}
    if len(sizes) > 1:
        raise InvalidInput(
            f"{path} has frames of {len(sizes)} sizes: split the movie where the size changes."
        )
    dtype = np.dtype(first.dtype)
    if dtype.shape or getattr(getattr(first, "pixel_type", None), "samples", 1) > 1:
        raise InvalidInput(
            f"{path} is in colour; denoscope takes one channel of grey: export it so from ZEN."
        )
    for compression in {int(entry.compression) for _, entry in movie}:
        if not hasattr(first, "read_segment_data") and compression not in _READ_SINCE_2019:
            raise InvalidInput(
                f"{path} is compressed in a way (number {compression}) that czifile reads since 2026, with Python "
                "3.12 or later: update both, or export the movie from ZEN as OME-TIFF."
            )
    return extent["Y"][1], extent["X"][1], dtype


def _opened(path: Path, file: Any, close: Callable[[], None], wanted: Wanted, limit_bytes: int) -> Reader:
    order, places = _blocks_of(path, file)
    values = [sorted({place[i] for place in places}) for i in range(len(order))]
    if "T" in order and (points := values[order.index("T")]):
        # Where a point in time has no frame of any channel, the movie has a gap there too.
        span = points[-1] - points[0] + 1
        if span <= _LONGEST_GAPS * len(points):
            points[:] = range(points[0], points[-1] + 1)
    axes = [
        Axis(_KINDS.get(axis, "other"), len(v), _channel_names(file, len(v)) if axis == "C" else ())
        for axis, v in zip(order, values, strict=True)
    ]
    choice = choose(str(path), axes, wanted)
    wished = [tuple(v[i] for v, i in zip(values, choice.at(t), strict=True)) for t in range(choice.length)]
    movie = [places[at] for at in wished if at in places]
    if not movie:
        raise InvalidInput(f"{path} has no frame of this channel, plane and position: choose others.")
    lost = len(wished) - len(movie)
    over_time = choice.time is not None and order[choice.time] == "T"
    height, width, dtype = _check_pixels(path, movie)

    def plane(t: int) -> npt.NDArray[Any]:
        entry = movie[t][1]
        new = hasattr(entry, "read_segment_data")
        pixels = entry.read_segment_data(file).data() if new else entry.data_segment().data(resize=False)
        return np.asarray(pixels).reshape(height, width)

    return PlaneByPlane(
        str(path),
        (len(movie), height, width),
        dtype,
        plane,
        close,
        stored_bytes=path.stat().st_size,
        compressed=any(int(entry.compression) for _, entry in movie),
        limit_bytes=limit_bytes,
        note=choice.note
        or (
            f"{path.name}: {lost} of {counted(len(wished), 'time point has', 'time points have')} no frame of this "
            "choice"
            if lost
            else ""
        ),
        facts=_facts(
            file,
            dict(zip(order, choice.fixed, strict=True)).get("C", 0),
            [at[order.index("T")] for at in wished if at in places] if over_time else [],
            values[order.index("T")][-1] + 1 if over_time else 0,
            timed=over_time and not lost,
        ),
    )


def _extent(entry: Any) -> _Extent:
    """Return where a block lies along every axis, from either release of the library."""
    if not hasattr(entry, "dims"):
        return {d.dimension: (int(d.start), int(d.size), int(d.stored_size)) for d in entry.dimension_entries}
    names = entry.dims[:-1]  # the last is that of the samples of a pixel
    parts = zip(names, entry.start, entry.shape, entry.stored_shape, strict=False)
    found = {str(axis): (int(a), int(n), int(stored)) for axis, a, n, stored in parts}
    more = {"M": int(entry.mosaic_index), "S": int(entry.scene_index)}
    return found | {axis: (index, 1, 1) for axis, index in more.items() if index >= 0}


def _metadata(file: Any) -> ET.Element:
    """Return the metadata of a file, empty where they cannot be understood."""
    try:
        return parse_xml("The description of a CZI file", file.metadata() or "<none/>")
    except InvalidInput:
        raise
    except (ET.ParseError, UnicodeError, ValueError):
        return ET.Element("none")


def _times(file: Any, points: list[int], total: int) -> tuple[float, ...] | None:
    """Return the seconds at which the frames of some of the points in time were taken, None where the file has none."""
    for attachment in file.attachments():
        if attachment.attachment_entry.name == "TimeStamps":
            stamps = np.asarray(attachment.data(), float).ravel()
            if not points or len(stamps) != total:  # those of every plane or tile, or of a part of the movie
                return None
            unit_s = _DAY_S if stamps[0] > _DATES_FROM else 1.0
            return tuple((unit_s * (stamps[points] - stamps[0])).tolist())
    return None


def _facts(file: Any, channel: int, points: list[int], total: int, *, timed: bool) -> Facts:
    """Return pixel size (stored in metres), times, exposure (in nanoseconds), channel and objective."""
    root = _metadata(file)
    image = "./Metadata/Information/Image/Dimensions"
    lens = "./Metadata/Information/Instrument/Objectives/Objective"
    named = root.find(f"{image}/Channels")
    about = told(lambda: [*named][channel])  # type: ignore[misc]
    return Facts(
        pixel_size_um=told(
            lambda: float(root.findtext("./Metadata/Scaling/Items/Distance[@Id='X']/Value", "")) * 1e6
        ),
        increment_s=told(lambda: float(root.findtext(f"{image}/T/Positions/Interval/Increment", "")))
        if timed
        else None,
        times_s=told(lambda: _times(file, points, total)),
        exposure_s=told(lambda: float(about.findtext("ExposureTime")) / 1e9),
        channel=told(lambda: about.get("Name")),
        objective=root.findtext(f"{lens}/Manufacturer/Model") or told(lambda: root.find(lens).get("Name")),  # type: ignore[union-attr]
    )


def _channel_names(file: Any, count: int) -> tuple[str, ...]:
    """Return the names of the channels, where the metadata of the file have as many."""
    root = _metadata(file)
    names = tuple(
        str(channel.get("Name") or i)
        for i, channel in enumerate(root.findall("./Metadata/Information/Image/Dimensions/Channels/Channel"))
    )
    return names if len(names) == count == len(set(names)) else ()
