"""HDF5: the one movie in a file, or the data set named after ``::``; also NWB, Imaris and MATLAB 7.3."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.errors import InvalidInput
from denoscope.runtime.movies.axes import KINDS, letters_of
from denoscope.runtime.movies.check import ALLOWED_DTYPES, check_claim, check_dtype, one_line
from denoscope.runtime.movies.headers.facts import Facts, told
from denoscope.runtime.movies.headers.units import in_micrometres
from denoscope.runtime.movies.lazy import Reader
from denoscope.runtime.movies.pick import Axis, Wanted, pick

from .imaris import is_imaris, open_imaris

__all__ = ["open_hdf5"]

_SHOWN = 8
_DEEPEST = 32
_MOST_OBJECTS = 10_000
_TOGETHER_BYTES = 64 * 2**20
_NWB_SERIES = ("TwoPhotonSeries", "OnePhotonSeries", "ImageSeries")


def open_hdf5(path: Path, wanted: Wanted, limit_bytes: int) -> Reader:
    """Open a data set of an HDF5 file as a movie (T, H, W).

    Raises
    ------
    InvalidInput
        If the file is damaged, holds no such data set or several, or it claims more than it can hold.
    """
    import h5py

    name, _, dataset = str(path).partition("::")
    with _one_sentence(name):
        file = h5py.File(name, "r", rdcc_nbytes=0)
    try:
        with _one_sentence(name):
            if not dataset and is_imaris(file):
                return open_imaris(name, file, wanted, limit_bytes)
            found = _named(file, dataset, name) if dataset else _only_movie(file, name)
            return _DataSet(name, file, found, wanted, limit_bytes)
    except BaseException:
        file.close()
        raise


@contextmanager
def _one_sentence(name: str) -> Iterator[None]:
    try:
        yield
    except InvalidInput:
        raise
    except Exception as error:  # h5py passes on whatever the library finds in a damaged file
        raise InvalidInput(
            f"{name} cannot be read as HDF5 ({one_line(error)}): the file is damaged or still being written."
        ) from error


def _arrays(file: Any) -> list[Any]:
    """Return the arrays of frames in a file."""
    import h5py

    arrays: list[Any] = []
    seen = 0

    def visit(name: str, item: Any) -> bool | None:
        nonlocal seen
        seen += 1
        if isinstance(item, h5py.Dataset) and item.ndim >= 3 and item.dtype.kind in "uif":
            arrays.append(item)
        # Groups in groups take longer with each: no recording nests many.
        return True if seen >= _MOST_OBJECTS or name.count("/") >= _DEEPEST else None

    file.visititems(visit)
    return arrays


def _named(file: Any, dataset: str, name: str) -> Any:
    """Return the data set that the user names."""
    import h5py

    found = inside(file, dataset)
    if isinstance(found, h5py.Dataset):
        return found
    listed = ", ".join(f"{d.name} {d.shape}" for d in _arrays(file)[:_SHOWN]) or "no arrays"
    raise InvalidInput(f"{name} has no data set `{dataset}`; it has: {listed}.")


def _only_movie(file: Any, name: str) -> Any:
    """Return the one data set that can be a movie."""
    arrays = [d for d in _arrays(file) if d.dtype.newbyteorder("=").name in ALLOWED_DTYPES] or _arrays(file)
    if _text(file.attrs.get("nwb_version")):
        arrays = [d for d in arrays if _text(d.parent.attrs.get("neurodata_type")) in _NWB_SERIES]
        _check_external(file, arrays, name)
    if len(arrays) == 1:
        return arrays[0]
    if not arrays:
        raise InvalidInput(f"{name} holds no data set (T, H, W): save the movie as one.")
    listed = ", ".join(f"{d.name} {d.shape}" for d in arrays[:_SHOWN])
    raise InvalidInput(
        f"{name} has {len(arrays)} data sets that could be the movie: {listed}; choose with {name}::{arrays[0].name}."
    )


def _check_external(file: Any, arrays: list[Any], name: str) -> None:
    """Refuse an NWB file whose frames are in other files."""
    import h5py

    if arrays:
        return
    listed: list[str] = []

    def visit(_: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.name.endswith("/external_file"):
            listed.extend(_text(value) for value in item[: min(len(item), 3)])

    file.visititems(visit)
    if listed:
        raise InvalidInput(f"{name} keeps its frames in other files ({', '.join(listed)[:200]}): open those.")


def inside(group: Any, path: str) -> Any:
    """Return what lies at a path in a file, or None: links to other files are not followed."""
    import h5py

    for part in filter(None, path.split("/")):
        if not isinstance(group, h5py.Group) or isinstance(group.get(part, getlink=True), h5py.ExternalLink):
            return None
        group = group.get(part)
    return group


def _text(value: Any) -> str:
    """Return an attribute as text, empty where there is none."""
    return (
        value.decode("utf-8", "replace")
        if isinstance(value, bytes)
        else str(value)
        if value is not None
        else ""
    )


def _number(value: Any) -> float | None:
    try:
        return float(np.ravel(value)[0])
    except (TypeError, ValueError, IndexError):
        return None


def _named_axes(data: Any) -> str | None:
    """Return a letter for each axis from the names that the file gives them, or None where it gives none.

    Names are those of dimension labels and scales (HDF5, netCDF), of ilastik's ``axistags``, or an attribute ``axes``
    (NeXus has it beside the data set too).
    """
    for found in (_labels, _scales, _axis_tags, _axes_attribute):
        names = told(lambda: found(data))  # noqa: B023 - called at once
        if names and (order := letters_of(names, data.ndim)) is not None:
            return order
    return None


def _labels(data: Any) -> list[str]:
    return [_text(dimension.label) for dimension in data.dims]


def _scales(data: Any) -> list[str]:
    return [str(d[0].name).rsplit("/", 1)[-1] if len(d) else "" for d in data.dims]


def _axis_tags(data: Any) -> list[str]:
    return [str(axis["key"]) for axis in json.loads(_text(data.attrs["axistags"]))["axes"]]


def _axes_attribute(data: Any) -> list[str]:
    found = data.attrs.get("axes", data.attrs.get("DimensionNames"))
    if found is None:
        found = data.parent.attrs["axes"]
    if isinstance(found, np.ndarray):
        return [_text(name) for name in found.ravel()]
    text = _text(found).strip("[] ")
    names = [name.strip("'\" ") for name in re.split(r"[:,\s]+", text)]
    return list(text) if len(names) == 1 else names


def _is_turned(data: Any) -> bool:
    """Say whether columns come before rows: in MATLAB's files, and in NWB where it says so."""
    if "MATLAB_class" in data.attrs:
        return True
    sides = inside(data.parent, "dimension")
    if not _text(data.parent.attrs.get("neurodata_type")) or sides is None or sides.shape != (2,):
        return False
    width, height = (int(n) for n in sides[()])
    return width != height and (width, height) == tuple(data.shape[-2:])


def _written(data: Any, shown: str, time: int) -> int:
    """Return the length of the time axis up to the last chunk that was written: HDF5 shows the others as zeros."""
    planned = int(data.shape[time])
    chunks = data.chunks
    if not chunks or data.id.get_num_chunks() >= math.prod(
        -(-n // c) for n, c in zip(data.shape, chunks, strict=True)
    ):
        return planned
    ends = [0]
    data.id.chunk_iter(lambda chunk: ends.append(int(chunk.chunk_offset[time]) + chunks[time]))
    if not max(ends):
        raise InvalidInput(f"{shown} was never filled: the recording was not written; choose another one.")
    return min(planned, max(ends))


def _facts(data: Any, length: int) -> Facts:
    """Return times and names of an NWB series, and the spacing that other programs write as attributes."""
    series = data.parent
    times, start = inside(series, "timestamps"), inside(series, "starting_time")
    rate = None if start is None else _number(start.attrs.get("rate"))
    plane = inside(series, "imaging_plane")
    size = name = None
    if plane is not None:
        spacing = inside(plane, "grid_spacing")
        if spacing is not None:
            size = in_micrometres(_number(spacing[()]), _text(spacing.attrs.get("unit", "meters")))
        indicator = inside(plane, "indicator")
        name = None if indicator is None else _text(indicator[()])
        rate = rate or _number(None if (r := inside(plane, "imaging_rate")) is None else r[()])
    known = times is not None and times.shape == (length,)
    return Facts(
        pixel_size_um=size or _number(np.ravel(data.attrs.get("element_size_um", ()))[-1:]),
        increment_s=1 / rate if rate else None,
        times_s=tuple(times[()]) if known else None,
        channel=name,
    )


class _DataSet:
    """One data set of an open file."""

    def __init__(self, name: str, file: Any, data: Any, wanted: Wanted, limit_bytes: int) -> None:
        shown = f"{name}::{data.name}"
        self.dtype = check_dtype(shown, data.dtype)
        if data.ndim < 3:
            raise InvalidInput(
                f"{shown} has the shape {data.shape}; a movie is (T, H, W): save one channel and plane of it."
            )
        shape = tuple(int(n) for n in data.shape)
        chunks = data.chunks or (*(1,) * (data.ndim - 1), shape[-1])
        check_claim(
            shown,
            shape,
            self.dtype.itemsize,
            piece=chunks,
            stored_bytes=int(data.id.get_storage_size()),
            compressed=bool(data.compression) or data.id.get_create_plist().get_nfilters() > 0,
            limit_bytes=limit_bytes,
        )
        if data.external or data.is_virtual:
            raise InvalidInput(
                f"{shown} keeps its pixels in other files: open those, or copy it into one file."
            )
        stored = int(data.id.get_storage_size())
        if not data.chunks and (data.id.get_offset() or 0) + stored > Path(name).stat().st_size:
            raise InvalidInput(
                f"{name} is shorter than its data set {data.name}: it was cut short; copy it again."
            )
        order = self._order(shown, data, shape, wanted)
        leading = [i for i, letter in enumerate(order) if letter not in "YX"]
        chosen = pick(
            shown,
            [Axis(KINDS.get(order[i], "time" if shape[i] > 1 else "other"), shape[i]) for i in leading],
            wanted,
        )
        self._index: list[Any] = [0] * len(shape)
        for i, entry in zip(leading, chosen, strict=True):
            self._index[i] = entry
        self._time = leading[chosen.index(None)] if None in chosen else leading[0]
        self._sides = order.index("Y"), order.index("X")
        self._axes = [self._time, *self._sides]
        rows, columns = self._sides
        length = _written(data, shown, self._time)
        self.shape = (length, shape[rows], shape[columns])
        self.piece = (int(chunks[self._time]), int(chunks[rows]), int(chunks[columns]))
        turned = self._time < columns < rows
        self.note = f"{Path(name).name} stores columns before rows: frames are turned" if turned else ""
        if length < shape[self._time]:
            ends = f"{Path(name).name} ends at frame {length} of the {shape[self._time]} planned"
            self.note = "; ".join(filter(None, (self.note, ends)))
        self.note = "; ".join(filter(None, (chosen.note, self.note)))
        with suppress(Exception):  # metadata of any program: what cannot be understood is no reason to stop
            self.facts = _facts(data, self.shape[0])
        if self._time > min(self._sides):
            self.piece = (self._together(data), *self.piece[1:])
        elif math.prod(chunks) * self.dtype.itemsize < 2**16:
            self.piece = (1, *self.piece[1:])
        self._file, self._data = file, data

    def _order(self, shown: str, data: Any, shape: tuple[int, ...], wanted: Wanted) -> str:
        """Return a letter for each axis: as the user says, as the file says, or the last three that are longer."""
        matlab = "MATLAB_class" in data.attrs
        seen = shape[::-1] if matlab else shape
        self.in_matlabs_order, self.named = matlab, True
        if wanted.axes is not None:
            if len(wanted.axes) != len(shape):
                raise InvalidInput(
                    f"{shown} has the shape {seen}, and `axes` {wanted.axes} names {len(wanted.axes)} axes: give one "
                    "letter for each."
                )
            return wanted.axes[::-1] if matlab else wanted.axes
        if (named := _named_axes(data)) is not None:
            return named
        self.named = False
        behind = 0  # axes of one entry after the columns, as of channels that are stored last
        while len(shape) - behind > 3 and shape[-1 - behind] == 1:
            behind += 1
        ahead = shape[: len(shape) - behind - 2]
        if sum(n > 1 for n in ahead) > 1:
            raise InvalidInput(
                f"{shown} has the shape {seen}; a movie is (T, H, W): save one channel and plane of it, or say with "
                "`axes` what they are, such as TCYX."
            )
        return "?" * len(ahead) + ("XY" if _is_turned(data) else "YX") + "?" * behind

    def _together(self, data: Any) -> int:
        """Return how many frames are read at once where time comes after rows or columns."""
        length, height, width = self.shape
        deep = int(data.chunks[self._time]) if data.chunks else length
        return max(min(deep, length, _TOGETHER_BYTES // (height * width * self.dtype.itemsize)), 1)

    def read(self, start: int, stop: int, rows: slice, columns: slice) -> npt.NDArray[Any]:
        """Return (stop - start, rows, columns)."""
        index = list(self._index)
        for axis, part in zip(self._axes, (slice(start, stop), rows, columns), strict=True):
            index[axis] = part
        block = np.asarray(self._data[tuple(index)], self.dtype)
        return block.transpose([sorted(self._axes).index(axis) for axis in self._axes])
