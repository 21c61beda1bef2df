"""NDTiff of Micro-Manager 2 and pycromanager, versions 2 and 3: frames at the places its index lists."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.errors import InvalidInput
from denoscope.runtime.movies.check import check_claim, one_line
from denoscope.runtime.movies.headers.facts import Facts, Metadata, increment_of, told
from denoscope.runtime.movies.lazy import Reader
from denoscope.runtime.movies.pick import Axis, Wanted, pick_index
from denoscope.runtime.words import counted

from .ndtiff_pages import recording_of, unlisted_pages

__all__ = ["open_ndtiff"]

_KINDS = {"time": "time", "channel": "channel", "z": "plane", "position": "position"}
# 8 bit, 16 bit, and 10, 12, 14, 11 bit in 16; 2 is colour.
_PIXEL_TYPES = {0: "<u1", 1: "<u2", 3: "<u2", 4: "<u2", 5: "<u2", 6: "<u2"}
_LARGEST_INDEX = 2**30  # ten million frames
_LARGEST_TAGS = 2**20
_LONGEST_TEXT = 1024  # axes of a frame, or the name of a file
_MOST_TAGS = 5000
_PLACE = struct.Struct("<IiiiiIii")
_COLOUR = 2

_Entry = int | str


@dataclass(frozen=True, slots=True)
class _Place:
    """Place of a frame: file, byte, size and pixel type, and of its metadata."""

    file: str
    offset: int
    height: int
    width: int
    kind: int
    compression: int
    about_offset: int
    about_length: int
    about_compression: int


def open_ndtiff(path: Path, wanted: Wanted, limit_bytes: int) -> Reader:
    """Open an NDTiff folder, or one of its files, as a reader of one channel, plane and position over time.

    Raises
    ------
    InvalidInput
        If the index is damaged, frames differ or are missing, or the choice is ambiguous.
    """
    whole = path.parent if path.is_file() else path
    below = whole / "Full resolution"
    folder = below if not (whole / "NDTiff.index").is_file() and below.is_dir() else whole
    index = folder / "NDTiff.index"
    there = index.is_file()
    places = _read_index(index) if there else []
    recordings = {recording_of(place.file) for _, place in places}
    if path.is_file() and recording_of(path.name) not in recordings:
        there, places, recordings = (
            there and not places,
            [],
            {recording_of(path.name)},
        )  # the index is another's
    listed = len(places)
    unnamed = _add_unlisted(folder, places, recordings)
    if not places and there:
        raise InvalidInput(f"{index} lists no frames: nothing was recorded.")
    if not places:
        return _page_after_page(path if path.is_file() else folder, wanted, limit_bytes)
    chosen, channel, note = _pick(path, places, wanted)
    if found := len(places) - listed:
        why = "ends before them" if there else "is missing"
        note = "; ".join(
            filter(
                None,
                (f"{counted(found, 'frame')} of {path.name} found in its files: NDTiff.index {why}", note),
            )
        )
    if unnamed:
        left = f"{counted(unnamed, 'frame')} of {path.name} left out: NDTiff.index ends before them"
        note = "; ".join(filter(None, (left, note)))
    if whole != path and len(files := {place.file for _, place in places}) > 1:
        said = f"{path.name} is one of {counted(len(files), 'file')} of a recording, which is read as a whole"
        note = "; ".join(filter(None, (said, note)))
    return _Frames(path, folder, chosen, channel, note, limit_bytes)


def _page_after_page(path: Path, wanted: Wanted, limit_bytes: int) -> Reader:
    """Open files without an index whose pages do not name their axes, as any other TIFF files."""
    from denoscope.runtime.movies.folders.folder import open_folder

    from .tiff import open_tiff

    reader = (open_folder if path.is_dir() else open_tiff)(path, wanted, limit_bytes)
    lost = f"{path.name} has lost its NDTiff.index, and its frames name no axes: they are taken in the order of pages"
    reader.note = "; ".join(filter(None, (lost, reader.note)))
    return reader


def _read_index(index: Path) -> list[tuple[dict[str, _Entry], _Place]]:
    """Read ``NDTiff.index``: for each frame its axes as JSON, its file, and its place there.

    The frames before a record that was cut short are a recording that was interrupted.
    """
    if (size := index.stat().st_size) > _LARGEST_INDEX:
        raise InvalidInput(
            f"{index} has {size / 1e6:.0f} MB (limit {_LARGEST_INDEX / 1e6:.0f} MB): it is damaged; "
            "copy the folder again."
        )
    data = index.read_bytes()
    at, places = 0, []
    try:
        while at < len(data):
            axes_json, at = _text(data, at)
            name, at = _text(data, at)
            if len(data) - at < _PLACE.size:
                break
            offset, width, height, kind, compression, *about = _PLACE.unpack_from(data, at)
            at += _PLACE.size
            axes = json.loads(axes_json)
            if not isinstance(axes, dict) or not all(isinstance(v, int | str) for v in axes.values()):
                raise InvalidInput(
                    f"{index} lists a frame with the axes {axes_json[:80]}: it is damaged; copy the folder again."
                )
            # A name with folders could lead out of the data set.
            if PurePosixPath(name).name != name or PureWindowsPath(name).name != name:
                raise InvalidInput(
                    f"{index} lists the file `{name[:80]}`, which is not beside it: it is "
                    "damaged; copy the folder again."
                )
            places.append((axes, _Place(name, offset, height, width, kind, compression, *about)))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(
            f"{index} is damaged at byte {at} ({one_line(error)}): copy the folder again, or move this index elsewhere "
            "and open the .tif files."
        ) from error
    return places


def _add_unlisted(folder: Path, places: list[tuple[dict[str, _Entry], _Place]], recordings: set[str]) -> int:
    """Add the frames that the files hold and the index lacks; return how many do not say what they are."""
    ends: dict[str, int] = {}
    for _, place in places:
        behind = max(place.about_offset + place.about_length, place.offset + place.height * place.width)
        ends[place.file] = max(ends.get(place.file, 0), behind)
    found = unlisted_pages(folder, ends, recordings)
    for page in found.pages:
        kind = _COLOUR if page.samples > 1 else int(page.bits > 8)
        about = (page.about_offset, page.about_length, 0)
        compression = page.compression - 1  # TIFF counts from 1
        places.append(
            (page.axes, _Place(page.file, page.offset, page.height, page.width, kind, compression, *about))
        )
    return found.unnamed


def _text(data: bytes, at: int) -> tuple[str, int]:
    """Return the text at `at` with its length before it, and where it ends."""
    if len(data) - at < 4:
        return "{}", len(data)
    (length,) = struct.unpack_from("<I", data, at)
    if len(data) - at - 4 < length <= _LONGEST_TEXT:
        return "{}", len(data)  # the writer has not come further
    if length > len(data) - at - 4:
        raise ValueError(f"a text of {length} bytes where {len(data) - at - 4} are left")
    return data[at + 4 : at + 4 + length].decode("utf-8"), at + 4 + length


def _pick(
    path: Path, places: list[tuple[dict[str, _Entry], _Place]], wanted: Wanted
) -> tuple[list[_Place], str, str]:
    """Return the wanted frames in the order of time, the name of their channel, and what to know of them.

    A later entry of the same frame replaces an earlier one.
    """
    entries: dict[str, dict[_Entry, None]] = {}
    for axes, _ in places:
        for axis, value in axes.items():
            entries.setdefault(axis, {})[value] = None
    several = {axis: sorted(values, key=_order) for axis, values in entries.items() if len(values) > 1}
    time = "time" if "time" in several else None
    if time is None:
        stacks = [a for a in several if _KINDS.get(a, "position") == "plane" or a not in _KINDS]
        stacks = [a for a in stacks if wanted.of(_KINDS.get(a, "position")) is None]
        time = stacks[0] if len(stacks) == 1 else None
    own = [axis for axis in several if axis not in _KINDS and axis != time]
    fixed: dict[str, _Entry] = _place_of(path, places, own, wanted) if own else {}
    for axis, kind in _KINDS.items():
        if axis != time and kind != "time" and not (own and kind == "position"):
            values = sorted(entries.get(axis, {0: None}), key=_order)
            named = axis in entries and any(isinstance(v, str) for v in values)
            labels = tuple(map(str, values)) if named else ()
            fixed[axis] = values[pick_index(str(path), Axis(kind, len(values), labels), wanted.of(kind))]
    found: dict[_Entry, _Place] = {}
    for axes, place in places:
        if all(axes.get(axis, value) == value for axis, value in fixed.items()):
            found[axes.get(time, 0) if time else 0] = place
    if not found:
        chosen = ", ".join(f"{axis} {value}" for axis, value in fixed.items() if axis in several)
        raise InvalidInput(f"{path} holds no frame of {chosen}: choose another combination.")
    times = sorted(found, key=_order)
    numbers = [t for t in times if isinstance(t, int)]
    lost = numbers[-1] - numbers[0] + 1 - len(numbers) if numbers else 0
    # A channel that is taken at every n-th time point only is a movie all the same.
    note = (
        f"{path.name}: {lost} of {counted(lost + len(numbers), 'time point has', 'time points have')} no frame of "
        "this choice"
        if lost
        else ""
    )
    if time is not None and time not in _KINDS:
        note = "; ".join(filter(None, (f"{path.name}: its axis `{time}` is taken for time", note)))
    channel = fixed.get("channel")
    return [found[t] for t in times], channel if isinstance(channel, str) else "", note


def _place_of(
    path: Path, places: list[tuple[dict[str, _Entry], _Place]], own: list[str], wanted: Wanted
) -> dict[str, _Entry]:
    """Return the entries of the wanted position where a program has axes that only it knows, as row and column.

    Each combination of them, with the position if there are several, is a position named after them.
    """
    positions = {axes["position"] for axes, _ in places if "position" in axes}
    among = [*(["position"] if len(positions) > 1 else []), *own]
    combined = {tuple(axes.get(axis, 0) for axis in among): None for axes, _ in places}
    listed = sorted(combined, key=lambda each: [_order(value) for value in each])
    labels = tuple(" ".join(f"{a} {v}" for a, v in zip(among, each, strict=True)) for each in listed)
    at = pick_index(str(path), Axis("position", len(listed), labels), wanted.position)
    return dict(zip(among, listed[at], strict=True))


def _order(value: _Entry) -> tuple[bool, int, str]:
    return (isinstance(value, str), value if isinstance(value, int) else 0, str(value))


class _Frames:
    """The chosen frames, read where the index says they are."""

    piece = (1, 1, 1)

    def __init__(
        self, path: Path, folder: Path, places: list[_Place], channel: str, note: str, limit_bytes: int
    ) -> None:
        self.note = note
        first = places[0]
        if first.kind not in _PIXEL_TYPES or first.compression != 0:
            raise InvalidInput(
                f"{path} holds pixels of NDTiff type {first.kind} (compression {first.compression}); "
                "denoscope takes 8 to 16 bits of grey, uncompressed."
            )
        for number, place in enumerate(places):
            if (place.height, place.width, place.kind) != (first.height, first.width, first.kind):
                raise InvalidInput(
                    f"{path}: frame {number} is {place.height} x {place.width}, the first "
                    f"{first.height} x {first.width}: split the movie where the size changes."
                )
        self.dtype = np.dtype(_PIXEL_TYPES[first.kind]).newbyteorder("=")
        sizes = {name: _size(folder / name) for name in {p.file for p in places}}
        listed, frame = len(places), first.height * first.width * self.dtype.itemsize
        while places and places[-1].offset + frame > sizes[places[-1].file]:
            places = places[:-1]
        if not places:
            raise InvalidInput(
                f"{path} lists {counted(listed, 'frame')} of this choice, and its files end before the first: copy the "
                "whole folder again."
            )
        if len(places) < listed:
            ends = (
                f"{path.name} was cut short: its files end after {len(places)} of {counted(listed, 'frame')}"
            )
            self.note = "; ".join(filter(None, (ends, note)))
        self.shape = (len(places), first.height, first.width)
        # A live movie shows a frame again, from the same bytes, where none was denoised.
        stored = len({(place.file, place.offset) for place in places})
        check_claim(
            str(path),
            (stored, first.height, first.width),
            self.dtype.itemsize,
            piece=self.piece,
            stored_bytes=sum(sizes.values()),
            compressed=False,
            limit_bytes=limit_bytes,
        )
        self._folder = folder
        self._places = places
        self.facts = _facts(folder, places, channel)

    def read(self, start: int, stop: int, rows: slice, columns: slice) -> npt.NDArray[Any]:
        """Return (stop - start, rows, columns)."""
        line = self.shape[2] * self.dtype.itemsize
        result = np.empty((stop - start, rows.stop - rows.start, columns.stop - columns.start), self.dtype)
        wanted = result.shape[1] * line
        name, file = None, None
        try:
            for i, place in enumerate(self._places[start:stop]):
                if place.file != name:
                    if file is not None:
                        file.close()
                    name, file = place.file, (self._folder / place.file).open("rb")
                assert file is not None
                file.seek(place.offset + rows.start * line)
                data = file.read(wanted)
                if len(data) != wanted:
                    raise EOFError(f"{place.file} is {wanted - len(data)} bytes too short")
                result[i] = np.frombuffer(data, self.dtype.newbyteorder("<")).reshape(result.shape[1], -1)[
                    :, columns
                ]
        finally:
            if file is not None:
                file.close()
        return result


def _tags(folder: Path, place: _Place) -> Metadata:
    """Return the metadata of a frame."""
    if not 0 < place.about_length <= _LARGEST_TAGS or place.about_compression:
        raise ValueError("no metadata")
    with (folder / place.file).open("rb") as file:
        file.seek(place.about_offset)
        found: Metadata = json.loads(file.read(place.about_length))
    return found


def _facts(folder: Path, places: list[_Place], channel: str) -> Facts:
    """Return pixel size, exposure, channel and times from the metadata of the frames."""
    first = told(lambda: _tags(folder, places[0])) or {}

    def value(*names: str) -> float | None:
        for name in names:
            if name in first:
                number: float | None = told(lambda: float(first[name]))  # noqa: B023 - called at once
                return number
        return None

    def milliseconds(place: _Place) -> float:
        return float(_tags(folder, place)["ElapsedTime-ms"])

    # Of many frames the first and the last tell the interval.
    some = places if len(places) <= _MOST_TAGS else [places[0], places[-1]]
    times = told(lambda: [milliseconds(place) / 1e3 for place in some])
    whole = times is not None and len(some) == len(places)
    step = (times[-1] - times[0]) / (len(places) - 1) if times and len(places) > 1 and not whole else None
    planned_ms = value("Interval_ms", "Interval-ms")
    if not step and planned_ms and not (whole and increment_of(times)):
        step = planned_ms / 1e3
    exposure = value("Exposure", "Exposure-ms")
    return Facts(
        pixel_size_um=value("PixelSizeUm", "PixelSize_um"),
        increment_s=step,
        times_s=times if whole else None,
        exposure_s=None if exposure is None else exposure / 1e3,
        channel=channel or str(first.get("Channel") or ""),
    )


def _size(file: Path) -> int:
    if not file.is_file():
        raise InvalidInput(f"{file} is missing, and NDTiff.index lists frames in it: copy the whole folder.")
    return file.stat().st_size
