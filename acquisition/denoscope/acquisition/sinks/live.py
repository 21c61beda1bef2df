"""Formats of a running session's denoised movie, each readable while it grows.

Of a live movie nobody knows the length, nor which channels, slices, positions and frame sizes will come.
"""

from __future__ import annotations

import json
import shutil
import time
from bisect import bisect_right
from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from denoscope.acquisition.contracts import Axes, SourceInfo, Tags
from denoscope.acquisition.errors import OutputExists
from denoscope.acquisition.extras import require
from denoscope.acquisition.raw.confirm import confirm
from denoscope.runtime import InvalidInput

from .base import FrameIndex, PixelsAt
from .ndtiff import PROVENANCE_FILE, Dataset
from .ome import DenoisedWriter
from .zarr import FULL, NO_CONTRAST, TAGS, create_image, for_viewers, tags_line

if TYPE_CHECKING:
    from denoscope.acquisition.contracts import Stamp
    from denoscope.runtime import Denoised, StreamKey

__all__ = [
    "LIVE_FORMATS",
    "LiveFormat",
    "LiveSink",
    "channel_label",
    "check_live_format",
    "open_live_sink",
    "std_name",
    "write_chunk",
    "write_whole",
]

LiveFormat = Literal["ome-tiff", "ome-zarr", "ndtiff"]

_GROW = 64
_ZARR_JSON = "zarr.json"
_CONTRAST_EVERY = 32  # frames
_SYNC_EVERY_S = 1.0
_STD = {"quantity": "predicted standard deviation of each denoised pixel, in its units"}


class LiveSink(Protocol):
    """Writes the frames of one kind of a session; used by the denoising lane's thread until `close`.

    Attributes
    ----------
    length, received
        Frames of the longest stream, and of each; set before `close`.
    """

    length: int
    received: Mapping[StreamKey, int]

    @property
    def pixels_at(self) -> PixelsAt | None:
        """Place of the newest frame's pixels on the disk; None before the first frame."""

    def append(self, output: Denoised, stamp: Stamp) -> None:
        """Write the output of the frame with that stamp."""

    def holds(self, key: StreamKey, index: int, /) -> bool:
        """Say whether the stream's frame with that index was denoised."""

    def stand_in(self, frame: npt.NDArray[Any], place: FrameIndex, /) -> None:
        """Write the measured frame where none was denoised, and say so; all that were denoised came before."""

    def close(self) -> None:
        """Write what is known at the end, and close; a second call does nothing."""


class _OmeTiff(DenoisedWriter):
    """`DenoisedWriter` as it is opened here."""

    def __init__(self, path: Path, source: SourceInfo, provenance: Mapping[str, Any], name: str) -> None:
        super().__init__(path.parent, source, provenance, file_name=path.name, quantity=name)


class _Image:
    """One growing OME-Zarr image: all frames of one camera and position, of one shape and dtype.

    zarr and yaozarrs make it. Its frames, files of bytes, and the growing length are written here: each call of
    zarr passes through a separate thread, which cost a frame of 512 x 512 pixels twenty times the processor
    time of the OME-TIFF, and on a busy computer 60 ms.
    """

    def __init__(
        self,
        path: Path,
        source: SourceInfo,
        shape: tuple[int, int],
        dtype: np.dtype[Any],
        provenance: Mapping[str, Any],
        name: str,
    ) -> None:
        self.path = path
        self.newest = path
        """The chunk that was written last."""
        self.kind = shape, dtype
        self.follows = False
        self._provenance = provenance
        about: dict[str, object] = {"denoscope": _plain({**provenance})}
        sizes = {"t": _GROW, "c": 1, "z": 1}
        create_image(path, source, sizes, shape, dtype, name=name, attributes=about, compression="none")
        self._array = path / FULL
        self._about: Tags = json.loads((self._array / _ZARR_JSON).read_bytes())
        self._size = tuple(sizes.values())
        self._lines = (path / TAGS).open("xb", buffering=0)
        self._channels: dict[str, int] = {}
        self._slices: dict[int, int] = {}
        self._first: dict[tuple[int, int], int] = {}
        self._stop = 0
        self.indices: dict[tuple[str, int], set[int]] = {}
        """Of the frames that were denoised, by channel and slice."""
        self._there: dict[tuple[int, int], set[int]] = {}
        self._span = (1 << 62, -1)
        self._key: StreamKey | None = None
        self._camera = source.camera
        self._contrast: dict[int, tuple[float, float]] = {}
        """Smallest and largest value of each channel, in every 32nd frame."""

    def append(self, output: Denoised, index: int, time_s: float, tags: Mapping[str, Any]) -> None:
        """Write one chunk, then its line."""
        key = output.meta.key
        self.indices.setdefault((key.channel, key.z), set()).add(index)
        self._span = min(index, self._span[0]), max(index, self._span[1])
        self._put(output.frame, key, index, time_s, tags)

    def stand_in(self, frame: npt.NDArray[Any], place: FrameIndex) -> None:
        """Write a measured frame, and a line that says so."""
        self._put(frame, place.key, place.index, place.time_s, place.tags, denoised=False)

    def _put(
        self,
        pixels: npt.NDArray[Any],
        key: StreamKey,
        index: int,
        time_s: float | None,
        tags: Mapping[str, Any],
        **more: Any,
    ) -> None:
        if self._key is None:
            self._key = key
            self._describe()
        channel = self._channels.setdefault(key.channel, len(self._channels))
        z = self._slices.setdefault(key.z, len(self._slices))
        # In an image that follows another one, each stream begins with its own first frame.
        at = index - self._first.setdefault((channel, z), index if self.follows else 0)
        self._make_room(at + 1)
        self._write_chunk((at, channel, z), pixels)
        if at % _CONTRAST_EVERY == 0:
            self._see(channel, pixels)
        place = {"t": at, "c": channel, "z": z}
        about = {"channel": key.channel, "z": key.z} | dict(tags)
        self._lines.write(tags_line(place, time_s, about, stream_index=index, **more))

    def _see(self, channel: int, pixels: npt.NDArray[Any]) -> None:
        shown = pixels if pixels.dtype.kind in "iu" else pixels[np.isfinite(pixels)]
        if shown.size:
            low, high = self._contrast.get(channel, (np.inf, -np.inf))
            self._contrast[channel] = min(low, float(shown.min())), max(high, float(shown.max()))

    def _write_chunk(self, place: tuple[int, int, int], pixels: npt.NDArray[Any]) -> None:
        at, channel, z = place
        self.newest = write_chunk(self.path, place, pixels)
        self._stop = max(self._stop, at + 1)
        self._there.setdefault((channel, z), set()).add(at)

    def _repeat(self, length: int) -> None:
        """Show the frame before it once more wherever there still is none."""
        for (channel, z), there in list(self._there.items()):
            missing = set(range(length)) - there
            kept = sorted(there)
            for at in sorted(missing):
                shown = kept[max(bisect_right(kept, at) - 1, 0)]
                chunks = self._array / "c"
                source = chunks / str(shown) / str(channel) / str(z) / "0" / "0"
                folder = chunks / str(at) / str(channel) / str(z) / "0"
                folder.mkdir(parents=True, exist_ok=True)
                write_whole(folder / "0", source.read_bytes())
                place = {"t": at, "c": channel, "z": z}
                about = {"channel": list(self._channels)[channel], "z": list(self._slices)[z]}
                first = self._first[channel, z]
                line = tags_line(place, None, about, stream_index=first + at, denoised=False, shows=shown)
                self._lines.write(line)

    def first(self, key: StreamKey) -> int:
        """Return the index of a stream that is the image's 0, as far as one came; else 0."""
        channel, z = self._channels.get(key.channel, -1), self._slices.get(key.z, -1)
        return self._first.get((channel, z), 0)

    def distance(self, index: int) -> int:
        """Return how many time points an index lies before or after the frames that were denoised."""
        low, high = self._span
        return max(low - index, index - high, 0)

    def _make_room(self, length: int) -> None:
        now = self._size
        self._resize(
            now[0] if length <= now[0] else -(-length // _GROW) * _GROW,
            max(now[1], len(self._channels)),
            max(now[2], len(self._slices)),
        )

    def _resize(self, *size: int) -> None:
        if size != self._size:
            self._size = size
            self._about["shape"][:3] = size
            write_whole(self._array / _ZARR_JSON, json.dumps(self._about).encode())

    def sync(self) -> None:
        """Hand the lines to the disk; each chunk's file was closed."""
        confirm(self._lines.fileno())

    def _describe(self) -> None:
        """Write what is known about the image by now."""
        assert self._key is not None
        more = {
            "camera_label": self._key.camera,
            "position": self._key.position,
            "slices": list(self._slices),
        }
        group = json.loads((self.path / _ZARR_JSON).read_bytes())
        group["attributes"] |= {
            "denoscope": _plain({**self._provenance, **more}),
            "channels": list(self._channels),
        }
        if self._contrast:
            found = {number: pair for number, pair in self._contrast.items() if pair[0] < pair[1]}
            group["attributes"]["ome"]["omero"] = for_viewers(
                (name or self._key.camera or self._camera, found.get(number, NO_CONTRAST))
                for name, number in self._channels.items()
            )
        write_whole(self.path / _ZARR_JSON, json.dumps(group).encode())

    def close(self, length: int = 0) -> None:
        """Cut the time axis off after the last frame or at `length`; an image without a frame goes away."""
        if self._key is None:
            self._lines.close()
            shutil.rmtree(self.path)
            return
        length = max(self._stop, length)
        try:
            self._repeat(length)
        finally:
            self._lines.close()
        self._resize(length, *self._size[1:])
        self._describe()


class _OmeZarr:
    """OME-Zarr 0.5 with the axes t, c, z, y, x; one chunk a frame, which appears whole or not at all.

    The first image is the path itself; another camera, stage position, frame size or dtype gets an image of
    its own beside it, ``NAME_1.ome.zarr`` and so on. Until the end the time axis is up to 63 frames too long,
    which read as zeros; ``frames.jsonl`` has a line for each frame that is there.
    """

    def __init__(self, path: Path, source: SourceInfo, provenance: Mapping[str, Any], name: str) -> None:
        self.pixels_at: PixelsAt | None = None
        self.length = 0
        self.received: Mapping[StreamKey, int] = {}
        self._path, self._source, self._provenance, self._name = path, source, provenance, name
        self._count = 0
        # Made before the camera is armed: it takes longer than many frames.
        self._spare: _Image | None = self._make(source.shape, source.dtype)
        self._images: list[_Image] = []
        self._current: dict[tuple[str, int], _Image] = {}
        self._groups: dict[int, tuple[str, int]] = {}
        self._synced_s = 0.0
        self._closed = False

    def append(self, output: Denoised, stamp: Stamp) -> None:
        """Write one frame."""
        key = output.meta.key
        group = key.camera, key.position
        index = stamp.index if stamp.time_index is None else stamp.time_index
        image = self._current.get(group)
        if image is None or image.kind != (output.frame.shape, output.frame.dtype):
            image = self._begin(group, output.frame)
        time_s = stamp.core_unix_s if stamp.core_unix_s is not None else stamp.t_received_s
        image.append(output, index, time_s, stamp.tags)
        self.pixels_at = PixelsAt(image.newest.relative_to(self._path.parent).as_posix(), 0)
        if time.perf_counter() - self._synced_s > _SYNC_EVERY_S:
            image.sync()
            self._synced_s = time.perf_counter()

    def _begin(self, group: tuple[str, int], frame: npt.NDArray[Any]) -> _Image:
        image = self._next(frame)
        image.follows = group in self._current
        self._images.append(image)
        self._current[group] = image
        self._groups[id(image)] = group
        return image

    def _next(self, frame: npt.NDArray[Any]) -> _Image:
        spare, self._spare = self._spare, None
        if spare is not None:
            if spare.kind == (frame.shape, frame.dtype):
                return spare
            spare.close()
            self._count = 0
        return self._make((int(frame.shape[0]), int(frame.shape[1])), frame.dtype)

    def holds(self, key: StreamKey, index: int) -> bool:
        """Say whether the stream's frame with that index was denoised."""
        return any(
            index in image.indices.get((key.channel, key.z), ())
            for image in self._images
            if self._groups[id(image)] == (key.camera, key.position)
        )

    def stand_in(self, frame: npt.NDArray[Any], place: FrameIndex) -> None:
        """Write the measured frame into the image that it belongs to."""
        group = place.key.camera, place.key.position
        images = [
            image
            for image in self._images
            if self._groups[id(image)] == group and image.kind == (frame.shape, frame.dtype)
        ]
        image = min(images, key=lambda each: each.distance(place.index), default=None)
        image = image or self._begin(group, frame)
        if not image.follows or place.index >= image.first(place.key):
            image.stand_in(frame, place)
        # An image that follows another one begins with its first denoised frame.

    def _make(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> _Image:
        stem = self._path.name.removesuffix(".ome.zarr")
        path = self._path.with_name(f"{stem}_{self._count}.ome.zarr") if self._count else self._path
        self._count += 1
        return _Image(path, self._source, shape, dtype, self._provenance, self._name)

    def close(self) -> None:
        """Finish every image."""
        if self._closed:
            return
        self._closed = True
        if self._spare is not None:
            self._spare.close()
        for image in self._images:
            last = not image.follows and image in self._current.values()
            group = self._groups[id(image)]
            counts = [n for key, n in self.received.items() if (key.camera, key.position) == group]
            image.close(max(counts, default=self.length) if last else 0)


def channel_label(key: StreamKey, camera: str, cameras: int) -> str:
    """Return what NDTiff calls a stream's channel: with its camera's name where there is more than the one."""
    several = cameras > 1 or key.camera not in ("", camera)
    return " ".join(filter(None, [key.camera if several else "", key.channel])) or "Default"


class _NDTiff:
    """NDTiff with the axes time, channel, z and position; its index follows every frame to the disk.

    Where no frame was denoised nor measured, the index shows the frame before it once more.
    """

    def __init__(self, path: Path, source: SourceInfo, provenance: Mapping[str, Any], _name: str) -> None:
        if source.dtype not in (np.uint8, np.uint16):
            raise InvalidInput(
                f"NDTiff holds uint8 and uint16, and these frames are {source.dtype}: choose `denoised_format` "
                "ome-tiff or ome-zarr."
            )
        self.pixels_at: PixelsAt | None = None
        self.length = 0
        self.received: Mapping[StreamKey, int] = {}
        self._held: set[tuple[StreamKey, int]] = set()
        self._there: dict[StreamKey, set[int]] = {}
        self._provenance = provenance
        self._source = source
        self._path = path
        path.mkdir()
        self._data = Dataset(path, source, {"denoscope": _plain({**provenance})})
        # Before the camera is armed: reserving a file takes seconds on some systems.
        self._data.begin()
        self._synced_s = 0.0
        self._closed = False

    def append(self, output: Denoised, stamp: Stamp) -> None:
        """Write one image, then its line of the index."""
        key = output.meta.key
        index = stamp.index if stamp.time_index is None else stamp.time_index
        self._held.add((key, index))
        time_s = stamp.core_unix_s if stamp.core_unix_s is not None else stamp.t_received_s
        self._put(output.frame, FrameIndex(key, index, time_s, stamp.tags), denoised=True)
        file, byte = self._data.pixels_of(self._axes(key, index))
        self.pixels_at = PixelsAt(f"{self._path.name}/{file}", byte)

    def holds(self, key: StreamKey, index: int) -> bool:
        """Say whether the stream's frame with that index was denoised."""
        return (key, index) in self._held

    def stand_in(self, frame: npt.NDArray[Any], place: FrameIndex) -> None:
        """Write the measured frame, whose metadata say so."""
        self._put(frame, place, denoised=False)

    def _put(self, frame: npt.NDArray[Any], place: FrameIndex, *, denoised: bool) -> None:
        key = place.key
        axes = self._axes(key, place.index)
        self._there.setdefault(key, set()).add(place.index)
        stream = {} if denoised else {"stream": {"camera": key.camera, "channel": key.channel}}
        self._data.put(axes, frame, replace(place, tags={**place.tags, **stream}), denoised=denoised)
        self._data.flush()
        if time.perf_counter() - self._synced_s > _SYNC_EVERY_S:
            self._data.sync()
            self._synced_s = time.perf_counter()

    def _axes(self, key: StreamKey, index: int) -> Axes:
        label = channel_label(key, self._source.camera, self._source.cameras)
        return {"time": index, "channel": label, "z": key.z, "position": key.position}

    def _repeat(self) -> None:
        """Show the frame before it once more wherever there still is none."""
        for key, there in self._there.items():
            kept = sorted(there)
            missing: dict[int, list[int]] = {}
            for index in range(max(kept[-1] + 1, self.received.get(key, self.length))):
                if index not in there:
                    missing.setdefault(kept[max(bisect_right(kept, index) - 1, 0)], []).append(index)
            for shown, indices in missing.items():
                self._data.repeat(self._axes(key, shown), (self._axes(key, index) for index in indices))

    def close(self) -> None:
        """Finish the dataset, and write the provenance as it is known at the end."""
        if self._closed:
            return
        self._closed = True
        self._data.close()
        if not self._data.images:
            shutil.rmtree(self._path)
            return
        self._repeat()
        text = json.dumps({**self._provenance}, indent=2, default=str)
        (self._path / PROVENANCE_FILE).write_text(text + "\n", encoding="utf-8")


class _WithDeviation:
    """Writes the predicted standard deviation beside each frame."""

    def __init__(self, frames: LiveSink, deviations: LiveSink) -> None:
        self._frames, self._deviations = frames, deviations
        self.length = 0
        self.received: Mapping[StreamKey, int] = {}

    @property
    def pixels_at(self) -> PixelsAt | None:
        """Place of the newest denoised frame's pixels on the disk."""
        return self._frames.pixels_at

    def append(self, output: Denoised, stamp: Stamp) -> None:
        """Write both."""
        self._frames.append(output, stamp)
        if output.std is not None:
            self._deviations.append(replace(output, frame=output.std, std=None), stamp)

    def holds(self, key: StreamKey, index: int) -> bool:
        """Say whether the stream's frame with that index was denoised."""
        return self._frames.holds(key, index)

    def stand_in(self, frame: npt.NDArray[Any], place: FrameIndex) -> None:
        """Write the measured frame; its deviation is not a number, because nothing predicted it."""
        self._frames.stand_in(frame, place)
        self._deviations.stand_in(np.full(frame.shape, np.nan, np.float32), place)

    def close(self) -> None:
        """Finish both, whatever happens to one."""
        self._frames.length = self._deviations.length = self.length
        self._frames.received = self._deviations.received = self.received
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
        for path in (folder / movie, folder / std_name(movie)):
            if path.exists():
                raise OutputExists(
                    f"{path} exists and recordings are never overwritten; name another `output`."
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
    about = ChainMap(dict[str, object](_STD), provenance)  # type: ignore[arg-type]  # only read
    path = folder / std_name(std_movie)
    floats = replace(source, dtype=np.dtype(np.float32))
    return _WithDeviation(frames, std_opener(path, floats, about, "standard deviation"))


def write_chunk(image: Path, place: tuple[int, int, int], pixels: npt.NDArray[Any]) -> Path:
    """Write the frame of a place (t, c, z) of an OME-Zarr image that a session made, whole or not at all.

    Returns
    -------
    Path
        Its file.
    """
    at, channel, z = place
    frame = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("<"))
    folder = image / FULL / "c" / str(at) / str(channel) / str(z) / "0"
    folder.mkdir(parents=True, exist_ok=True)
    chunk = folder / "0"
    write_whole(chunk, frame.reshape(-1).view(np.uint8).data)
    return chunk


def write_whole(path: Path, data: bytes | memoryview) -> None:
    """Write a file that appears, or replaces the one before it, whole or not at all."""
    draft = path.with_name(path.name + ".partial")
    draft.write_bytes(data)
    draft.replace(path)


def std_name(movie: str) -> str:
    """Return the name of the movie of standard deviations beside a denoised movie."""
    stem, _, ending = movie.partition(".")
    return f"{stem}_std.{ending}"


def _plain(values: Mapping[str, Any]) -> dict[str, object]:
    plain: dict[str, object] = json.loads(json.dumps(dict(values), default=str))
    return plain
