"""Follow an OME-Zarr, or a plain Zarr array, while other software is writing it."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from denoscope.acquisition.contracts import Tags
from denoscope.acquisition.errors import one_line
from denoscope.acquisition.extras import require
from denoscope.runtime import InvalidInput
from denoscope.runtime.movies import check_regular, check_zarr_metadata

from .tails import Grown, Tail

__all__ = ["ZarrFolderTail", "ZarrTail"]

_METADATA = ("zarr.json", ".zattrs")

_LARGEST_FRAME = 2**31  # bytes
_MOST_PIECES = 100_000  # chunks of a frame
_MOST_PLANES = 2**40
_AHEAD = 16  # chunks looked at behind one that is missing, to tell a lost frame from one still to come
_AXES = {"t": "time", "c": "channel", "z": "z"}


class ZarrFolderTail(Tail):
    """Follow the image in a Zarr store, or all images of a store with one for each position, side by side.

    Writers of several positions number their images 0, 1, 2 and so on, and put no metadata of an image above them.
    """

    def __init__(self, path: Path) -> None:
        require("zarr", extra="formats", purpose=f"watching {path.name}")
        self._path = path
        self._only: ZarrTail | None = None
        self._positions: dict[str, ZarrTail] = {}
        self._turn = 0

    def _look(self) -> list[tuple[str, ZarrTail]]:
        """Return the images that are there, with the names of their positions."""
        if self._only is not None:
            return [("", self._only)]
        if not self._positions and (_multiscales(self._path) or _is_array(self._path)):
            self._only = ZarrTail(self._path)
            return [("", self._only)]
        for each in self._path.iterdir():
            if (
                each.name.isdecimal()
                and each.name not in self._positions
                and each.is_dir()
                and _multiscales(each)
            ):
                self._positions[each.name] = ZarrTail(each)
        return sorted(self._positions.items(), key=lambda item: int(item[0]))

    def read(self, *, settled: bool) -> Grown | None:
        """Return the next plane of the positions in turn."""
        tails = self._look()
        for i in range(len(tails)):
            at = (self._turn + i) % len(tails)
            name, tail = tails[at]
            if (grown := tail.read(settled=settled)) is not None:
                self._turn = at + 1
                if not name:
                    return grown
                axes = {**grown.tags.get("Axes", {}), "position": int(name)}
                return Grown(grown.pixels, {**grown.tags, "Axes": axes}, grown.lost)
        return None

    def mark(self) -> object:
        """Return the marks of all images."""
        return tuple((name, tail.mark()) for name, tail in self._look())

    def unfinished(self) -> bool:
        """Say whether part of a further frame is there."""
        return any(tail.unfinished() for _, tail in self._look())

    def check_rest(self) -> None:
        """Refuse a chunk that still cannot be decoded at the end though later ones are there."""
        for _, tail in self._look():
            tail.check_rest()

    def close(self) -> None:
        """Let go of the arrays."""
        for _, tail in [("", self._only), *self._positions.items()]:
            if tail is not None:
                tail.close()


class ZarrTail(Tail):
    """Follow the full-resolution array of a Zarr store on a disk, one (Y, X) plane at a time.

    The array may be made at its full length before it is filled, or grow: a plane is there when its chunks
    are, and complete when a later chunk is there too or nothing changes any more.
    """

    def __init__(self, path: Path) -> None:
        require("zarr", extra="formats", purpose=f"watching {path.name}")
        self._path = path
        self._array: Any = None
        self._root = path
        self._names: list[str] = []
        self._channels: list[str] = []
        self._index = 0
        self._lost = 0
        self._unread: str | None = None  # why the chunk of the next plane could not be decoded so far

    def mark(self) -> object:
        """Return the time of change of the newest chunk file that is being waited for."""
        if not self._open() or not self._reaches():
            return None
        times = list[int]()
        for path in self._files(self._chunk(self._index)):
            with suppress(FileNotFoundError):  # not there yet, or being replaced
                times.append(path.stat().st_mtime_ns)
        return self._planes(), len(times), max(times, default=0)

    def _open(self) -> bool:
        """Say whether the array can be read, once its metadata are complete."""
        if self._array is not None:
            return True
        try:
            self._root, self._names = _full_resolution(self._path)
            self._channels = _channel_names(self._root.parent)
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            raise InvalidInput(
                f"{self._path} has metadata that cannot be read ({one_line(error)}): check that napari opens it."
            ) from error
        array = self._array_at(self._root)
        if array is not None and len(array.shape) < 3:
            raise InvalidInput(
                f"{self._path} has the shape {array.shape}; a movie has at least (T, H, W): name another OME-Zarr."
            )
        if array is not None:
            self._check_size(array)
        self._array = array
        return array is not None

    def _check_size(self, array: Any) -> None:
        """Refuse an array whose frames or chunks are larger or more than a camera's."""
        itemsize = np.dtype(array.dtype).itemsize
        rows, columns = array.shape[-2:]
        pieces_of = array.shards or array.chunks
        if min(*pieces_of, *array.chunks) < 1:
            raise InvalidInput(
                f"{self._path} has chunks of the shape {pieces_of}: its metadata are damaged; record again."
            )
        high, wide = pieces_of[-2:]
        pieces = -(-rows // max(high, 1)) * -(-columns // max(wide, 1))
        largest = max(rows * columns, math.prod(pieces_of)) * itemsize
        if largest > _LARGEST_FRAME or pieces > _MOST_PIECES or math.prod(array.shape[:-2]) > _MOST_PLANES:
            raise InvalidInput(
                f"{self._path} has the shape {array.shape} in chunks of {array.chunks}, more than a camera sends: its "
                "metadata are damaged; record again."
            )

    @staticmethod
    def _array_at(path: Path) -> Any:
        import zarr

        check_zarr_metadata(path)
        try:
            return zarr.open_array(str(path), mode="r")
        except (OSError, ValueError, KeyError, TypeError, ArithmeticError):
            return None  # its metadata are not there yet, or are being written

    def _planes(self) -> int:
        return math.prod(self._array.shape[:-2])

    def _chunk(self, index: int) -> tuple[int, ...]:
        """Return the place of the chunks that hold one plane, without Y and X."""
        place = np.unravel_index(index, self._array.shape[:-2])
        return tuple(int(at) // size for at, size in zip(place, self._sizes, strict=False))

    @property
    def _sizes(self) -> tuple[int, ...]:
        sizes: tuple[int, ...] = self._array.shards or self._array.chunks
        return sizes

    def _files(self, chunk: tuple[int, ...]) -> list[Path]:
        rows, columns = (
            -(-n // size) for n, size in zip(self._array.shape[-2:], self._sizes[-2:], strict=True)
        )
        encode = self._array.metadata.encode_chunk_key
        return [
            self._root / encode((*chunk, row, column)) for row in range(rows) for column in range(columns)
        ]

    def _later(self) -> int | None:
        """Return the next plane in another chunk of which something is there."""
        here, found = self._chunk(self._index), 0
        last = here
        for index in range(self._index + 1, self._planes()):
            chunk = self._chunk(index)
            if chunk == last:
                continue
            last, found = chunk, found + 1
            if any(path.exists() for path in self._files(chunk)):
                return index
            if found >= _AHEAD:
                break
        return None

    def read(self, *, settled: bool) -> Grown | None:
        """Return the next plane if it is complete."""
        if not self._open() or not self._reaches():
            return None
        there, later = self._there(), self._later()
        if not there and later is not None and settled:
            # Others came after it and nothing changes any more: this one never will.
            self._lost, self._index = self._lost + later - self._index, later
            there, later = self._there(), self._later()
        if not there or not (later is not None or settled):
            return None
        try:
            pixels = np.asarray(self._array[self._place()])
        except Exception as error:  # noqa: BLE001  decoders of half-written or damaged chunks raise anything
            self._unread = one_line(error)
            return None
        pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
        if later is None and not (pixels != self._array.fill_value).any():
            return None  # the rest of a chunk of several frames, of which only the first are written
        tags = self._tags()
        lost, self._lost = self._lost, 0
        self._unread = None
        self._index += 1
        return Grown(pixels, tags, lost)

    def _there(self) -> bool:
        files = self._files(self._chunk(self._index))
        if not all(path.exists() for path in files):
            return False
        for path in files:
            check_regular(path)
        return True

    def _reaches(self) -> bool:
        """Say whether the array is long enough for the next plane, after another look where it was not."""
        if self._index >= self._planes():
            self._array = self._array_at(self._root) or self._array
        return self._index < self._planes()

    def _place(self) -> tuple[int, ...]:
        return tuple(int(at) for at in np.unravel_index(self._index, self._array.shape[:-2]))

    def _tags(self) -> Tags:
        place = self._place()
        if len(place) < 2 or len(self._names) != len(self._array.shape):
            return {}
        # Where there is no time, planes stand in for it, as in a recorded movie.
        names = {**_AXES, "z": "z" if "t" in self._names else "time"}
        axes: Tags = {names.get(n, n): at for n, at in zip(self._names, place, strict=False)}
        if "channel" in axes and len(self._channels) == self._array.shape[self._names.index("c")]:
            axes["channel"] = self._channels[axes["channel"]]
        return {"Axes": axes}

    def unfinished(self) -> bool:
        """Say whether part of a further frame is there."""
        if not self._open() or not self._reaches():
            return False
        return any(path.exists() for path in self._files(self._chunk(self._index)))

    def check_rest(self) -> None:
        """Refuse a chunk that still cannot be decoded at the end though later ones are there.

        Raises
        ------
        InvalidInput
            One sentence that names the plane.
        """
        if self._unread is not None and self._later() is not None:
            raise InvalidInput(
                f"{self._path} has a chunk that cannot be read ({self._unread}), of plane {self._index}: it is "
                "damaged, and the planes after it are not recorded."
            )

    def close(self) -> None:
        """Let go of the array."""
        self._array = None


def _full_resolution(path: Path) -> tuple[Path, list[str]]:
    """Return the array of an image that is not down-sampled, and the names of its axes; empty where it has none."""
    scales = _multiscales(path)
    if not scales:  # an array: of an image, perhaps
        above = _multiscales(path.parent)
        within = above and (path.parent / above[0]["datasets"][0]["path"]).resolve() == path.resolve()
        return path, _axis_names(above[0]) if above and within else []
    root = path / scales[0]["datasets"][0]["path"]
    if not root.resolve().is_relative_to(path.resolve()):
        raise InvalidInput(
            f"{path} names an array outside itself, {root}: its metadata are damaged; record again."
        )
    return root, _axis_names(scales[0])


def _is_array(path: Path) -> bool:
    if (path / ".zarray").is_file():
        return True
    try:
        about = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(about, dict) and about.get("node_type") == "array"


def _multiscales(path: Path) -> list[Tags] | None:
    attributes = _attributes(path)
    found: list[Tags] | None = attributes.get("ome", attributes).get("multiscales")
    return found


def _channel_names(image: Path) -> list[str]:
    """Return the names that an image gives its channels, empty where it has none or gives one twice."""
    attributes = _attributes(image)
    listed = attributes.get("ome", attributes).get("omero", {}).get("channels", ())
    names = [str(channel.get("label", "")) for channel in listed]
    return names if all(names) and len(set(names)) == len(names) else []


def _axis_names(scale: Tags) -> list[str]:
    # Versions 0.1 and 0.2 do not name their axes.
    axes = scale.get("axes", [*"tczyx"])
    return [str(axis["name"] if isinstance(axis, dict) else axis) for axis in axes]


def _attributes(path: Path) -> Tags:
    """Return the attributes of a group, of either version of Zarr; none while they are not written."""
    check_zarr_metadata(path)
    for name in _METADATA:
        try:
            values = json.loads((path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        return dict(values.get("attributes", values) if name == "zarr.json" else values)
    return {}
