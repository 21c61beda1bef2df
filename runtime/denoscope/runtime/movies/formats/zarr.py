"""OME-Zarr 0.4 and 0.5 (also inside bioformats2raw folders), and plain Zarr arrays."""

from __future__ import annotations

import itertools
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.errors import InvalidInput
from denoscope.runtime.movies.check import check_claim, check_dtype, check_zarr_metadata, one_line
from denoscope.runtime.movies.headers.facts import Facts, Metadata, joined_facts, told
from denoscope.runtime.movies.headers.ome import channel_names, ome_facts, read_companion
from denoscope.runtime.movies.headers.units import in_micrometres, in_seconds
from denoscope.runtime.movies.lazy import Reader
from denoscope.runtime.movies.pick import Axis, Wanted, pick, pick_index

__all__ = ["open_zarr"]

_KINDS = {"t": "time", "c": "channel", "z": "plane"}
_OLD_AXES = "tczyx"  # of OME-Zarr 0.1 and 0.2, which does not name them
_CHUNK_MARGIN = 2**14  # bytes of headers and checksums of a chunk
_SHOWN = 8
_NAMES = {
    "time": "t", "frame": "t", "frames": "t", "channel": "c", "channels": "c", "plane": "z", "slice": "z", "depth": "z",
    "height": "y", "row": "y", "rows": "y", "width": "x", "column": "x", "columns": "x",
}  # fmt: skip


def open_zarr(path: Path, wanted: Wanted, limit_bytes: int) -> Reader:
    """Open an OME-Zarr image at full resolution as a reader of one channel and plane over time.

    Raises
    ------
    InvalidInput
        If its metadata are damaged, it claims more than it can hold, or the choice is ambiguous.
    """
    import zarr

    try:
        folder, wanted = _image(path, wanted)
        metadata = _attributes(folder)
        array_path, axes = _full_resolution(folder, metadata)
        if axes is None and (of_image := _in_image(array_path)) is not None:
            metadata, axes = of_image
        check_zarr_metadata(array_path)
        array = zarr.open_array(store=str(array_path), mode="r")
        if axes is None:
            axes = _dimension_names(array)
        xml = told(lambda: _xml_beside(folder)) or ""
        labelled = metadata.get("omero", {}).get("channels", ())
        names = (
            [str(c.get("label", i)) for i, c in enumerate(labelled)]
            or told(lambda: _names_in(xml, folder))
            or []
        )
        reader = _Array(path, array_path, array, axes, tuple(names), wanted, limit_bytes, metadata)
        return _with_facts_in(xml, reader, axes, folder)
    except InvalidInput:
        raise
    except Exception as error:  # metadata are JSON of anybody's making
        raise InvalidInput(
            f"{path} cannot be read as OME-Zarr ({one_line(error)}): check that napari or Fiji opens it."
        ) from error


def _full_resolution(folder: Path, metadata: Metadata) -> tuple[Path, list[str] | None]:
    """Return the array of an image that is not down-sampled, and the names of its axes."""
    if "multiscales" not in metadata:
        return folder, None
    scale = metadata["multiscales"][0]
    array = folder / str(scale["datasets"][0]["path"])
    if not array.resolve().is_relative_to(folder.resolve()):
        raise InvalidInput(f"{folder} names an array outside itself, {array}: its metadata are damaged.")
    axes = scale.get("axes", [*_OLD_AXES])
    return array, [str(a["name"] if isinstance(a, dict) else a).lower() for a in axes]


def _xml_beside(folder: Path) -> str:
    """Return the OME-XML that bioformats2raw writes beside its images, checked; empty where there is none."""
    file = folder.parent / "OME" / "METADATA.ome.xml"
    if not folder.name.isdecimal() or not file.is_file():
        return ""
    return read_companion(file)


def _with_facts_in(xml: str, reader: _Array, axes: list[str] | None, folder: Path) -> _Array:
    """Return a reader with what OME-XML tells beside its own facts."""
    if xml and axes is not None and (more := told(lambda: reader.facts_in(xml, axes, folder))) is not None:
        reader.facts = joined_facts(reader.facts, more)
    return reader


def _names_in(xml: str, folder: Path) -> list[str]:
    """Return the names of the channels of one image in OME-XML, where each has one."""
    return channel_names(xml, int(folder.name)) if xml else []


def _in_image(array: Path) -> tuple[Metadata, list[str]] | None:
    """Return the metadata of the image whose full resolution an array is, and the names of its axes, or None."""
    metadata = _attributes(array.parent)
    if "multiscales" not in metadata:
        return None
    full, axes = _full_resolution(array.parent, metadata)
    return (metadata, axes) if axes is not None and full.resolve() == array.resolve() else None


def _attributes(folder: Path) -> Metadata:
    """Return the OME attributes of a group, of version 0.5 or 0.4; empty where there are none."""
    check_zarr_metadata(folder)
    for name in ("zarr.json", ".zattrs"):
        file = folder / name
        if file.is_file():
            found = json.loads(file.read_text(encoding="utf-8"))
            if name == "zarr.json":
                found = found.get("attributes", {}).get("ome", {})
            if not isinstance(found, dict):
                raise InvalidInput(f"{file} holds no metadata of an image: it is damaged.")
            return found
    return {}


def _image(path: Path, wanted: Wanted) -> tuple[Path, Wanted]:
    """Return the image group in a folder of several (bioformats2raw: 0, 1, ...; a plate: wells)."""
    metadata = _attributes(path)
    if "plate" in metadata:
        wells = [str(w["path"]) for w in metadata["plate"]["wells"]]
        well = path / wells[0]
        fields = [str(f["path"]) for f in _attributes(well)["well"]["images"]] if len(wells) == 1 else []
        raise InvalidInput(
            f"{path} is a plate of {len(wells)} wells: give the path of one field, for example "
            f"{path / wells[0] / (fields[0] if fields else '0')}."
        )
    is_array = (path / ".zarray").is_file() or _node_type(path) == "array"
    if "multiscales" in metadata or is_array:
        pick_index(str(path), Axis("position", 1), wanted.position)
        return path, wanted
    images = sorted(
        (p for p in path.iterdir() if p.is_dir() and "multiscales" in _attributes(p)),
        key=lambda p: (not p.name.isdecimal(), int(p.name) if p.name.isdecimal() else 0, p.name),
    )
    if not images:
        return _only_array(path), wanted
    axis = Axis("position", len(images), tuple(p.name for p in images))
    chosen = images[pick_index(str(path), axis, wanted.position)]
    return chosen, Wanted(wanted.channel, wanted.plane, None, wanted.interleaved)


def _only_array(path: Path) -> Path:
    """Return the one array in a group without metadata of an image."""
    arrays = sorted(
        p for p in path.iterdir() if (p / ".zarray").is_file() or (p.is_dir() and _node_type(p) == "array")
    )
    if len(arrays) == 1:
        return arrays[0]
    if not arrays:
        raise InvalidInput(f"{path} holds no OME-Zarr image: give the folder with its `multiscales`.")
    raise InvalidInput(
        f"{path} holds {len(arrays)} arrays ({', '.join(p.name for p in arrays[:_SHOWN])}): give the path of one, for "
        f"example {arrays[0]}."
    )


def _dimension_names(array: Any) -> list[str] | None:
    """Return the names that a plain array gives its axes, as xarray and Zarr 3 store them, or None."""
    found = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    if (
        not isinstance(found, list | tuple)
        or len(found) != array.ndim
        or not all(isinstance(n, str) for n in found)
    ):
        return None
    names = [_NAMES.get(n.lower(), n.lower()) for n in found]
    return names if {"y", "x"} <= set(names) and len(set(names)) == len(names) else None


def _node_type(folder: Path) -> str:
    check_zarr_metadata(folder)
    file = folder / "zarr.json"
    return str(json.loads(file.read_text(encoding="utf-8")).get("node_type")) if file.is_file() else ""


class _Array:
    """One Zarr array; time points after the last that was written are an error where they are read, not zeros.

    Writers of Zarr leave out a chunk in which every pixel has the fill value, such as that of a closed shutter. An
    absent chunk with a later one after it is read so; one at the end of the movie may be a recording that broke off.
    """

    def __init__(
        self,
        path: Path,
        folder: Path,
        array: Any,
        names: list[str] | None,
        channels: tuple[str, ...],
        wanted: Wanted,
        limit_bytes: int,
        metadata: Metadata,
    ) -> None:
        shape = tuple(int(n) for n in array.shape)
        self.dtype = check_dtype(str(path), np.dtype(array.dtype))
        if len(shape) < 2 or (names is not None and (len(names) != len(shape) or names[-2:] != ["y", "x"])):
            raise InvalidInput(f"{path} has the axes {names} of {shape}; denoscope takes frames of y and x.")
        chunks = tuple(int(n) for n in (array.shards or array.chunks))
        claimed = math.prod(shape) * self.dtype.itemsize
        check_claim(
            str(path),
            shape,
            self.dtype.itemsize,
            piece=tuple(int(n) for n in array.chunks),
            stored_bytes=_stored_bytes(folder, claimed),
            compressed=True,
            limit_bytes=limit_bytes,
        )
        if names is None:
            kinds = ["other"] * (len(shape) - 3) + ["time"] * (len(shape) > 2)
        else:
            kinds = [_KINDS.get(n, "other") for n in names[:-2]]
        axes = [
            Axis(kind, n, channels if kind == "channel" and len(channels) == n else ())
            for kind, n in zip(kinds, shape[:-2], strict=True)
        ]
        chosen = pick(str(path), axes, wanted)
        self.named = names is not None
        self._index, self.note = chosen, chosen.note
        self._time = chosen.index(None) if None in chosen else None
        self._array, self._chunks = array, chunks
        length, deep = (shape[self._time], array.chunks[self._time]) if self._time is not None else (1, 1)
        self.shape = (length, shape[-2], shape[-1])
        self.piece = (int(deep), int(array.chunks[-2]), int(array.chunks[-1]))
        self._folder = folder
        self._written_to: int | None = None  # chunks of time up to the last that is there, once it was needed
        self.facts = self._facts(metadata, names, channels)

    def _facts(self, metadata: Metadata, axes: list[str] | None, channels: tuple[str, ...]) -> Facts:
        """Return pixel size, interval and channel from the metadata of OME-Zarr."""

        def scale(axis: str) -> tuple[float, str]:
            image = metadata["multiscales"][0]
            at = (axes or []).index(axis)
            factor = 1.0
            for each in (image["datasets"][0], image):
                for change in each.get("coordinateTransformations", ()):
                    factor *= float(change["scale"][at]) if change["type"] == "scale" else 1.0
            return factor, str(image["axes"][at].get("unit", ""))

        timed = self._time is not None and axes is not None and axes[self._time] == "t"
        channel = self._index[axes.index("c")] if axes is not None and "c" in axes else None
        return Facts(
            pixel_size_um=told(lambda: in_micrometres(*scale("x"))),
            increment_s=told(lambda: in_seconds(*scale("t"))) if timed else None,
            channel=told(lambda: channels[channel or 0]),
        )

    def facts_in(self, xml: str, axes: list[str], folder: Path) -> Facts | None:
        """Return what OME-XML tells about the channel and plane that are read, with the time of each frame."""
        if self._time is None or axes[self._time] != "t":
            return None
        chosen = {axis: str(self._index[axes.index(axis)]) if axis in axes else None for axis in "cz"}
        return ome_facts(xml, self.shape[0], channel=chosen["c"], plane=chosen["z"], position=folder.name)

    def read(self, start: int, stop: int, rows: slice, columns: slice) -> npt.NDArray[Any]:
        """Return (stop - start, rows, columns)."""
        index: list[Any] = list(self._index)
        if self._time is not None:
            index[self._time] = slice(start, stop)
        self._check_written(index, rows, columns)
        block = np.asarray(self._array[(*index, rows, columns)], self.dtype)
        return block.reshape(stop - start, rows.stop - rows.start, columns.stop - columns.start)

    def _check_written(self, index: list[Any], rows: slice, columns: slice) -> None:
        """Refuse to read what lies after the last chunk that is there, which Zarr would give as zeros."""
        if self._array.metadata.fill_value is None:
            return
        places = [
            range(i.start // c, -(-i.stop // c)) if isinstance(i, slice) else range(i // c, i // c + 1)
            for i, c in zip([*index, rows, columns], self._chunks, strict=True)
        ]
        for place in itertools.product(*places):
            if self._there(place):
                self._check_size(place)
                continue
            if self._time is None or place[self._time] >= self._last_written(self._time):
                raise EOFError(f"chunk {place} was never written")

    def _check_size(self, place: tuple[int, ...]) -> None:
        """Refuse a chunk that is much larger than its pixels: what it decodes to has no limit."""
        most = 2 * math.prod(self._chunks) * self.dtype.itemsize + _CHUNK_MARGIN
        size = (self._folder / self._array.metadata.encode_chunk_key(place)).stat().st_size
        if size > most:
            raise ValueError(f"chunk {place} has {size} bytes, and its pixels {most // 2} at most")

    def _there(self, place: tuple[int, ...]) -> bool:
        file = self._folder / self._array.metadata.encode_chunk_key(place)
        if file.is_file():
            return True
        if file.exists():  # zarr would read a pipe or a device to its end
            raise ValueError(f"chunk {place} is a folder, a pipe or a device")
        return False

    def _last_written(self, time: int) -> int:
        """Return how many chunks of the axis `time` there are up to the last of which any part is there."""
        if self._written_to is None:
            counts = [range(-(-n // c)) for n, c in zip(self._array.shape, self._chunks, strict=True)]
            self._written_to = next(
                (
                    at + 1
                    for at in reversed(counts[time])
                    if any(map(self._there, itertools.product(*counts[:time], [at], *counts[time + 1 :])))
                ),
                0,
            )
        return self._written_to


def _stored_bytes(folder: Path, enough: int) -> int:
    """Return the size of the files below a folder, counted until there are `enough`."""
    total, folders = 0, [str(folder)]
    while folders and total < enough:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    total += entry.stat().st_size
                    if total >= enough:
                        break
    return total
