"""OME-Zarr 0.5: one chunk a frame, so that frames can be written in any order and by anybody."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from denoscope.acquisition.contracts import SourceInfo
from denoscope.acquisition.extras import require
from denoscope.acquisition.raw.confirm import confirm
from denoscope.runtime import InvalidInput

from .base import FrameIndex, Layout

if TYPE_CHECKING:
    from denoscope.runtime import StreamKey

__all__ = ["FULL", "TAGS", "ZarrSink", "create_image", "for_viewers", "frames_of", "tags_line"]

TAGS = "frames.jsonl"
"""A line for each frame."""
NO_CONTRAST = (0.0, 1.0)
_LOOKED_AT = 8  # frames, for the contrast
FULL = "0"
"""Path of the only resolution."""


class ZarrSink:
    """Write an OME-Zarr image with the axes t, y, x, and c and z where there are several; see `open_sink`.

    The group's attributes hold ``ome`` and, under ``denoscope``, the provenance. ``frames.jsonl`` in the group has a
    line for each frame with its indices, its time and Micro-Manager's metadata. A frame that was never denoised
    is missing as a chunk and reads as zeros.
    """

    def __init__(self, partial: Path, layout: Layout, *, keep: int | None) -> None:
        require("yaozarrs", extra="formats", purpose="writing OME-Zarr")
        require("zarr", extra="formats", purpose="writing OME-Zarr")
        self._path = partial
        self._axes = _Axes(layout)
        if keep is None:
            if partial.exists():
                shutil.rmtree(partial)
            _create(partial, layout, self._axes)
        other = layout.source.channel or layout.source.camera
        self._names = [" ".join(filter(None, pair)) or other for pair in self._axes.channels]
        self._array = frames_of(partial, writable=True)
        # Lines of frames that are written again replace the ones before them.
        self._lines = (partial / TAGS).open("ab" if keep is not None else "xb", buffering=0)

    def append(self, frame: npt.NDArray[Any], place: FrameIndex) -> None:
        """Write one chunk."""
        where = self._axes.where(place.key, place.index)
        self._array[where] = frame
        if place.tags or place.time_s is not None:
            index = dict(zip(self._axes.names, where, strict=False))
            self._lines.write(tags_line(index, place.time_s, place.tags))

    def sync(self) -> None:
        """Hand the lines to the disk; zarr closes each chunk's file, and the system writes it out."""
        confirm(self._lines.fileno())

    def finish(self, provenance: Mapping[str, Any]) -> None:
        """Write the provenance into the group's attributes."""
        import zarr

        self.close()
        group = zarr.open_group(self._path, mode="r+")
        if any(self._names):
            shown = [(name, self._contrast(number)) for number, name in enumerate(self._names)]
            image: Any = group.attrs["ome"]
            group.attrs["ome"] = {**image, "omero": for_viewers(shown)}
        group.attrs["denoscope"] = json.loads(json.dumps(provenance, default=str))
        if not (self._path / TAGS).stat().st_size:
            (self._path / TAGS).unlink()

    def _contrast(self, channel: int) -> tuple[float, float]:
        """Return the smallest and the largest value in some frames of a channel."""
        several = "c" in self._axes.names
        low, high = np.inf, -np.inf
        for index in np.unique(np.linspace(0, self._array.shape[0] - 1, _LOOKED_AT).astype(int)):
            where = (int(index), channel) if several else (int(index),)
            frame = np.asarray(self._array[where])
            shown = frame[np.isfinite(frame)]
            if shown.size and shown.any():  # zeros were never written
                low, high = min(low, float(shown.min())), max(high, float(shown.max()))
        return (low, high) if low < high else NO_CONTRAST

    def close(self) -> None:
        """Close the lines; chunks are never open."""
        self._lines.close()


def for_viewers(channels: Iterable[tuple[str, tuple[float, float]]]) -> dict[str, Any]:
    """Return the part of an image's metadata in which viewers look for its channels: their names and contrast."""
    return {
        "channels": [
            {
                "label": name,
                "color": "FFFFFF",
                "active": True,
                "window": {"min": low, "start": low, "max": high, "end": high},
            }
            for name, (low, high) in channels
        ],
        "rdefs": {"model": "greyscale"},
    }


def tags_line(index: Mapping[str, int], time_s: float | None, tags: Mapping[str, Any], **more: Any) -> bytes:
    """Return a frame's line for ``frames.jsonl``."""
    line = {"index": dict(index), "time_s": time_s, **more, "tags": dict(tags)}
    return (json.dumps(line, default=str) + "\n").encode()


def frames_of(path: Path, *, writable: bool = False) -> Any:
    """Return the array of frames of an OME-Zarr image that `ZarrSink` made."""
    import zarr

    if not writable:
        return zarr.open_array(path / FULL, mode="r")
    # A dark frame, all zeros, is written too: a chunk that is missing was never denoised.
    return zarr.open_array(path / FULL, mode="r+").with_config({"write_empty_chunks": True})


class _Axes:
    """Places of the frames of each stream in the array."""

    def __init__(self, layout: Layout) -> None:
        keys = layout.keys
        if not layout.one_shape:
            raise InvalidInput(
                "OME-Zarr holds frames of one shape, and these have several: write OME-TIFF (.ome.tif)."
            )
        if len({key.position for key in keys}) > 1:
            raise InvalidInput(
                f"This OME-Zarr holds one stage position, and there are {len({key.position for key in keys})}: write "
                "OME-TIFF (.ome.tif) or NDTiff (.ndtiff)."
            )
        self.channels = list(dict.fromkeys((key.camera, key.channel) for key in keys))
        self.slices = sorted({key.z for key in keys})
        self.names = ["t"]
        self.names += ["c"] if len(self.channels) > 1 else []
        self.names += ["z"] if len(self.slices) > 1 else []
        sizes = {"t": layout.length, "c": len(self.channels), "z": len(self.slices)}
        self.sizes = [sizes[name] for name in self.names]

    def where(self, key: StreamKey, index: int) -> tuple[int, ...]:
        """Return the indices of a frame."""
        at = {
            "t": index,
            "c": self.channels.index((key.camera, key.channel)),
            "z": self.slices.index(key.z),
        }
        return tuple(at[name] for name in self.names)


def _create(path: Path, layout: Layout, axes: _Axes) -> None:
    channels = [" ".join(filter(None, pair)) for pair in axes.channels]
    create_image(
        path,
        layout.source,
        dict(zip(axes.names, axes.sizes, strict=True)),
        layout.source.shape,
        layout.source.dtype,
        attributes={"channels": channels} if len(channels) > 1 else None,
    )


def create_image(
    path: Path,
    source: SourceInfo,
    sizes: Mapping[str, int],
    shape: tuple[int, int],
    dtype: npt.DTypeLike,
    *,
    name: str = "denoised",
    attributes: dict[str, object] | None = None,
    compression: Literal["blosc-zstd", "none"] = "blosc-zstd",
) -> None:
    """Create an OME-Zarr image without frames.

    Parameters
    ----------
    path
        Its group.
    source
        Where the frames come from: name, pixel size and frame rate.
    sizes
        Of the axes before y and x, of t, c and z.
    shape, dtype
        Of a frame.
    name
        What it shows of the source.
    attributes
        Of the group, beside ``ome``.
    compression
        Of a frame.
    """
    from yaozarrs import v05
    from yaozarrs.write.v05 import prepare_image

    rate, size_um = source.frame_rate_hz, source.pixel_size_um
    kinds: dict[str, Any] = {
        "t": v05.TimeAxis(name="t", unit="second" if rate else None),
        "c": v05.ChannelAxis(name="c"),
        "z": v05.SpaceAxis(name="z"),
        "y": v05.SpaceAxis(name="y", unit="micrometer" if size_um else None),
        "x": v05.SpaceAxis(name="x", unit="micrometer" if size_um else None),
    }
    scales = {"t": 1 / rate if rate else 1.0, "y": size_um or 1.0, "x": size_um or 1.0}
    names = [*sizes, "y", "x"]
    scale = v05.ScaleTransformation(scale=[scales.get(each, 1.0) for each in names])
    dataset = v05.Dataset(path=FULL, coordinateTransformations=[scale])
    image = v05.Image(
        multiscales=[
            v05.Multiscale(
                name=f"{source.name} {name}", axes=[kinds[each] for each in names], datasets=[dataset]
            )
        ]
    )
    prepare_image(
        path,
        image,
        ((*sizes.values(), *shape), np.dtype(dtype)),
        extra_attributes=attributes,
        chunks=(*[1] * len(sizes), *shape),
        writer="zarr",
        compression=compression,
    )
