"""Where the denoised frames of a running session go: a table of formats, each readable while it grows.

Of a live movie nobody knows the length, nor which channels, slices, positions and frame sizes will come.
"""

from __future__ import annotations

import json
import os
import time
from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from denoscope.acquisition._errors import OutputExists
from denoscope.acquisition._extras import require
from denoscope.acquisition._frames import SourceInfo
from denoscope.acquisition._ome import DenoisedWriter
from denoscope.runtime import InvalidInput

from ._base import Place
from ._ndtiff import PROVENANCE_FILE, Dataset
from ._zarr import TAGS, create_image, frames_of, tags_line

if TYPE_CHECKING:
    from denoscope.acquisition._lane import Stamp
    from denoscope.runtime import Denoised

__all__ = ["LIVE_FORMATS", "LiveFormat", "LiveSink", "check_live_format", "open_live_sink"]

LiveFormat = Literal["ome-tiff", "ome-zarr", "ndtiff"]

_GROW = 64
_SYNC_EVERY_S = 1.0
_STD = {"quantity": "predicted standard deviation of each denoised pixel, in its units"}


class LiveSink(Protocol):
    """Writes the frames of one kind of a session; used by the denoising lane's thread until `close`.

    Attributes
    ----------
    length
        Frames of the longest stream, set before `close`.
    """

    length: int

    def append(self, output: Denoised, stamp: Stamp) -> None:
        """Write the output of the frame with that stamp."""

    def close(self) -> None:
        """Write what is known at the end, and close; a second call does nothing."""


class _OmeTiff(DenoisedWriter):
    """`DenoisedWriter` as it is opened here."""

    def __init__(self, path: Path, source: SourceInfo, provenance: Mapping[str, Any], name: str) -> None:
        super().__init__(path.parent, source, provenance, file_name=path.name, quantity=name)


class _Image:
    """One growing OME-Zarr image: all frames of one camera and position, of one shape and dtype."""

    def __init__(
        self,
        path: Path,
        source: SourceInfo,
        output: Denoised,
        provenance: Mapping[str, Any],
        name: str,
    ) -> None:
        frame, key = output.frame, output.meta.key
        self.path = path
        self.kind = frame.shape, frame.dtype
        shape = int(frame.shape[0]), int(frame.shape[1])
        create_image(
            path,
            source,
            {"t": _GROW, "c": 1, "z": 1},
            shape,
            frame.dtype,
            name=name,
            attributes={
                "denoscope": _plain({**provenance, "camera_label": key.camera, "position": key.position})
            },
        )
        self._frames = frames_of(path, writable=True)
        self._lines = (path / TAGS).open("xb", buffering=0)
        self._channels: dict[str, int] = {}
        self._slices: dict[int, int] = {}
        self._first: int | None = None
        self._stop = 0
        self._key = key

    def append(self, output: Denoised, index: int, time_s: float, *, first: int) -> None:
        """Write one chunk, then its line."""
        key = output.meta.key
        at = index - first
        channel = self._channels.setdefault(key.channel, len(self._channels))
        z = self._slices.setdefault(key.z, len(self._slices))
        self._make_room(at + 1)
        self._frames[at, channel, z] = output.frame
        self._stop = max(self._stop, at + 1)
        place = {"t": at, "c": channel, "z": z}
        self._lines.write(
            tags_line(place, time_s, {"channel": key.channel, "z": key.z} | dict(output.meta.tags))
        )

    def _make_room(self, length: int) -> None:
        now = self._frames.shape
        wanted = (
            now[0] if length <= now[0] else -(-length // _GROW) * _GROW,
            max(now[1], len(self._channels)),
            max(now[2], len(self._slices)),
        )
        if wanted != now[:3]:
            self._frames.resize((*wanted, *now[3:]))

    def sync(self) -> None:
        """Hand the lines to the disk; each chunk's file was closed."""
        os.fsync(self._lines.fileno())

    def close(self, provenance: Mapping[str, Any], length: int) -> None:
        """Cut the time axis off after the last frame, and write what is known at the end."""
        import zarr

        self._lines.close()
        self._frames.resize((max(self._stop, length), *self._frames.shape[1:]))
        group = zarr.open_group(self.path, mode="r+")
        more = {
            "camera_label": self._key.camera,
            "position": self._key.position,
            "slices": list(self._slices),
        }
        group.attrs["denoscope"] = _plain({**provenance, **more})
        group.attrs["channels"] = list(self._channels)


class _OmeZarr:
    """OME-Zarr 0.5 with the axes t, c, z, y, x; one chunk a frame, which appears whole or not at all.

    The first image is the path itself; another camera, stage position, frame size or dtype gets an image of
    its own beside it, ``NAME_1.ome.zarr`` and so on. Until the end the time axis is up to 63 frames too long,
    which read as zeros; ``frames.jsonl`` has a line for each frame that is there.
    """

    def __init__(self, path: Path, source: SourceInfo, provenance: Mapping[str, Any], name: str) -> None:
        self.length = 0
        self._path, self._source, self._provenance, self._name = path, source, provenance, name
        self._images: list[_Image] = []
        self._current: dict[tuple[str, int], _Image] = {}
        self._firsts: dict[int, int] = {}
        self._synced_s = 0.0
        self._closed = False

    def append(self, output: Denoised, stamp: Stamp) -> None:
        """Write one frame."""
        key = output.meta.key
        group = key.camera, key.position
        index = stamp.index if stamp.time_index is None else stamp.time_index
        image = self._current.get(group)
        if image is None or image.kind != (output.frame.shape, output.frame.dtype):
            # An image that follows another one begins with its own first frame.
            first = 0 if image is None else index
            image = _Image(self._next_path(), self._source, output, self._provenance, self._name)
            self._firsts[id(image)] = first
            self._images.append(image)
            self._current[group] = image
        time_s = stamp.core_unix_s if stamp.core_unix_s is not None else stamp.t_received_s
        image.append(output, index, time_s, first=self._firsts[id(image)])
        if time.perf_counter() - self._synced_s > _SYNC_EVERY_S:
            image.sync()
            self._synced_s = time.perf_counter()

    def _next_path(self) -> Path:
        if not self._images:
            return self._path
        stem = self._path.name.removesuffix(".ome.zarr")
        return self._path.with_name(f"{stem}_{len(self._images)}.ome.zarr")

    def close(self) -> None:
        """Finish every image."""
        if self._closed:
            return
        self._closed = True
        for image in self._images:
            last = image in self._current.values()
            image.close(self._provenance, self.length - self._firsts[id(image)] if last else 0)


class _NDTiff:
    """NDTiff with the axes time, channel, z and position; its index follows every frame to the disk."""

    def __init__(self, path: Path, source: SourceInfo, provenance: Mapping[str, Any], name: str) -> None:
        if source.dtype not in (np.uint8, np.uint16):
            raise InvalidInput(f"NDTiff holds uint8 and uint16, and these frames are {source.dtype}.")
        self.length = 0
        self._provenance = provenance
        self._source = source
        self._path = path
        self._name = name
        self._data: Dataset | None = None
        self._synced_s = 0.0
        self._closed = False

    def append(self, output: Denoised, stamp: Stamp) -> None:
        """Write one image, then its line of the index."""
        if self._data is None:
            self._path.mkdir()
            self._data = Dataset(self._path, self._source, _plain({**self._provenance}))
        key = output.meta.key
        several = self._source.cameras > 1 or key.camera not in ("", self._source.camera)
        names = [key.camera] if several else []
        axes = {
            "time": stamp.index if stamp.time_index is None else stamp.time_index,
            "channel": " ".join(filter(None, [*names, key.channel])) or "Default",
            "z": key.z,
            "position": key.position,
        }
        time_s = stamp.core_unix_s if stamp.core_unix_s is not None else stamp.t_received_s
        self._data.put(axes, output.frame, Place(key, stamp.index, time_s, output.meta.tags))
        self._data.flush()
        if time.perf_counter() - self._synced_s > _SYNC_EVERY_S:
            self._data.sync()
            self._synced_s = time.perf_counter()

    def close(self) -> None:
        """Finish the dataset, and write the provenance as it is known at the end."""
        if self._closed:
            return
        self._closed = True
        if self._data is not None:
            self._data.close()
            text = json.dumps({**self._provenance}, indent=2, default=str)
            (self._path / PROVENANCE_FILE).write_text(text + "\n", encoding="utf-8")


class _WithDeviation:
    """Writes the predicted standard deviation beside each frame."""

    def __init__(self, frames: LiveSink, deviations: LiveSink) -> None:
        self._frames, self._deviations = frames, deviations
        self.length = 0

    def append(self, output: Denoised, stamp: Stamp) -> None:
        """Write both."""
        self._frames.append(output, stamp)
        if output.std is not None:
            self._deviations.append(replace(output, frame=output.std, std=None), stamp)

    def close(self) -> None:
        """Finish both, whatever happens to one."""
        self._frames.length = self._deviations.length = self.length
        try:
            self._frames.close()
        finally:
            self._deviations.close()


_Open = Callable[[Path, SourceInfo, Mapping[str, Any], str], LiveSink]

LIVE_FORMATS: Mapping[LiveFormat, tuple[_Open, str, LiveFormat]] = {
    "ome-tiff": (_OmeTiff, "denoised.ome.tif", "ome-tiff"),
    "ome-zarr": (_OmeZarr, "denoised.ome.zarr", "ome-zarr"),
    "ndtiff": (_NDTiff, "denoised.ndtiff", "ome-tiff"),
}
"""Each format's opener, the name of its movie, and the format of its deviations, which are float32."""


def check_live_format(folder: Path, name: LiveFormat) -> None:
    """Refuse, before anything is opened, a format that is not installed or a folder that holds a movie.

    Raises
    ------
    InvalidInput
        When a library is missing.
    OutputExists
        When the folder holds a denoised movie of any format.
    """
    if name == "ome-zarr":
        for module in ("yaozarrs", "zarr"):
            require(module, extra="formats", purpose="writing OME-Zarr")
    if name == "ndtiff":
        require("ndstorage", extra="micromanager", purpose="writing NDTiff")
    for _, movie, _ in LIVE_FORMATS.values():
        for path in (folder / movie, folder / _std_name(movie)):
            if path.exists():
                raise OutputExists(
                    f"{path} exists and recordings are never overwritten; name another --output."
                )


def open_live_sink(
    folder: Path, name: LiveFormat, source: SourceInfo, provenance: Mapping[str, Any], *, std: bool
) -> LiveSink:
    """Open what writes the denoised frames of a session.

    Parameters
    ----------
    folder
        Run folder.
    name
        Of the format.
    source
        What the frames come from; its dtype is that of the denoised frames.
    provenance
        Read when files are begun and again by `close`.
    std
        Write the predicted standard deviation too, as ``denoised_std``.

    Raises
    ------
    InvalidInput
        When the format cannot hold the frames.
    OSError
        When the disk refuses.
    """
    opener, movie, std_format = LIVE_FORMATS[name]
    frames = opener(folder / movie, source, provenance, "denoised")
    if not std:
        return frames
    std_opener, std_movie, _ = LIVE_FORMATS[std_format]
    about = ChainMap(dict[str, Any](_STD), provenance)  # type: ignore[arg-type]  # only read
    path = folder / _std_name(std_movie)
    floats = replace(source, dtype=np.dtype(np.float32))
    return _WithDeviation(frames, std_opener(path, floats, about, "standard deviation"))


def _std_name(movie: str) -> str:
    stem, _, ending = movie.partition(".")
    return f"{stem}_std.{ending}"


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(dict(values), default=str))
    return plain
