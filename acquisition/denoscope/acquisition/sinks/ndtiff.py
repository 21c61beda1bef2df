"""NDTiff: the format of Micro-Manager and pycromanager, written with their own library."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from denoscope.acquisition.contracts import Axes, SourceInfo
from denoscope.acquisition.extras import require
from denoscope.acquisition.raw.confirm import confirm
from denoscope.runtime import InvalidInput

from .base import FrameIndex, Layout, PixelsAt

__all__ = ["PROVENANCE_FILE", "Dataset", "NDTiffSink"]

PROVENANCE_FILE = "denoscope.json"


_INDEX = "NDTiff.index"
_LENGTH = struct.Struct("<I")


class _Index:
    """Index of a dataset whose entries name their axes in one order; the library's order changes from entry to entry.

    tifffile, and so napari, takes the order of the first entry and warns at every other.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.flush, self.fileno, self.close = file.flush, file.fileno, file.close

    def write(self, entry: bytes) -> None:
        """Write one entry: the length of its axes, the axes as JSON, and the rest."""
        end = _LENGTH.size + _LENGTH.unpack_from(entry)[0]
        axes = json.dumps(json.loads(entry[_LENGTH.size : end]), sort_keys=True).encode()
        self._file.write(_LENGTH.pack(len(axes)) + axes + entry[end:])


class Dataset:
    """An NDTiff dataset that is being written.

    Parameters
    ----------
    folder
        Exists and is empty. The library reserves 4 GB for each of its files and gives back what it did not use.
    source
        Where the frames come from.
    summary
        For the dataset's summary metadata, beside denoscope's.
    """

    def __init__(self, folder: Path, source: SourceInfo, summary: Mapping[str, Any]) -> None:
        from ndstorage import NDTiffDataset

        exposure_ms = None if source.exposure_s is None else 1e3 * source.exposure_s
        about = {"PixelSizeUm": source.pixel_size_um, "Exposure": exposure_ms, "Channel": source.channel}
        self._about = {name: value for name, value in about.items() if value}
        self._began_s: float | None = None
        values: dict[str, object] = {"Prefix": folder.stem, "source": source.as_json(), **summary}
        if source.pixel_size_um:
            values["PixelSize_um"] = source.pixel_size_um
        self._data: Any = NDTiffDataset(str(folder), summary_metadata=values, writable=True)
        # ndstorage leaves a reader of each file open, and Windows renames no folder with an open file.
        self._readers: dict[int, Any] = {}
        self._open = True
        self._summary = values
        self._folder = folder
        self.images = 0

    def begin(self) -> None:
        """Make the first file now, which the library would with the first image."""
        from ndstorage.ndtiff_file import SingleNDTiffWriter

        writer = SingleNDTiffWriter(self._data.path, "NDTiffStack.tif", self._summary)
        self._data.current_writer = writer
        self._data.file_index = 1
        self._data._index_file = _Index((self._folder / _INDEX).open("wb"))
        self._readers[id(writer.reader)] = writer.reader

    def put(
        self, axes: Mapping[str, Any], frame: npt.NDArray[Any], place: FrameIndex, *, denoised: bool = True
    ) -> None:
        """Write one image with Micro-Manager's metadata of its raw frame."""
        if frame.dtype not in (np.uint8, np.uint16):
            raise InvalidInput(
                f"NDTiff holds uint8 and uint16, and the frames are {frame.dtype}: write OME-TIFF (.ome.tif) or "
                "OME-Zarr (.ome.zarr)."
            )
        if self._data.current_writer is None:
            self.begin()
        metadata = json.loads(json.dumps(dict(place.tags), default=str))
        metadata |= {"denoised": denoised, "time_s": place.time_s}
        if place.time_s is not None:
            self._began_s = place.time_s if self._began_s is None else self._began_s
            metadata.setdefault("ElapsedTime-ms", 1e3 * (place.time_s - self._began_s))
        metadata = self._about | metadata
        self._data.put_image(dict(axes), np.ascontiguousarray(frame), metadata)
        reader = self._data.current_writer.reader
        self._readers[id(reader)] = reader
        self.images += 1

    def pixels_of(self, axes: Mapping[str, Any]) -> PixelsAt:
        """Return where the pixels of an image lie; the file is named from the dataset's folder."""
        entry = self._data.index[frozenset(axes.items())]
        return PixelsAt(Path(entry.filename).name, int(entry.pix_offset))

    def repeat(self, shown: Mapping[str, Any], places: Iterable[Mapping[str, Any]]) -> None:
        """Show an image once more at other places, after `close`; its pixels are not written again.

        The metadata of these places say ``denoised`` false, and in ``shows`` the time of the image.
        """
        from ndstorage.ndtiff_index import NDTiffIndexEntry

        entry = self._data.index[frozenset(shown.items())]
        file = self._folder / Path(entry.filename).name
        about = json.dumps({"denoised": False, "shows": shown["time"]}).encode()
        with file.open("ab") as pages:
            at = pages.tell()
            pages.write(about)
        with (self._folder / _INDEX).open("ab") as file_of_index:
            index = _Index(file_of_index)
            for place in places:
                again = NDTiffIndexEntry(
                    frozenset(place.items()),
                    entry.pixel_type,
                    entry.pix_offset,
                    entry.image_width,
                    entry.image_height,
                    at,
                    len(about),
                    file.name,
                )
                index.write(again.as_byte_buffer().getvalue())

    def flush(self) -> None:
        """Hand the index to the system; the library keeps it to itself until the end, where a kill loses it."""
        # Its own images are handed over by `put_image`, so the index never promises one that is not there.
        if self._data._index_file is not None:
            self._data._index_file.flush()

    def sync(self) -> None:
        """Wait until every image and the index are on the disk."""
        self.flush()
        for file in (getattr(self._data.current_writer, "file", None), self._data._index_file):
            if file is not None:
                confirm(file.fileno())

    def close(self) -> None:
        """Close the dataset; a second call does nothing."""
        if self._open:
            self._open = False
            writer = self._data.current_writer
            if writer is not None and not self.images:
                # The library ends a file by changing its last image, and there is none.
                writer.file.close()
                self._data.current_writer = None
            self._data.finish()
            self._data.close()
            for reader in self._readers.values():
                reader.close()


class NDTiffSink:
    """Write an NDTiff dataset with the axes time, channel, z, position and camera; see `open_sink`.

    Each frame keeps Micro-Manager's metadata. The provenance is known when all is done, and NDTiff writes its
    summary first: it is ``denoscope.json`` in the folder.
    """

    def __init__(self, partial: Path, layout: Layout, *, keep: int | None) -> None:
        require("ndstorage", extra="micromanager", purpose="writing NDTiff")
        if keep is not None:
            raise InvalidInput(
                "An NDTiff that was interrupted has lost its index and cannot be continued: delete its .partial and "
                ".partial.json, or write OME-TIFF (.ome.tif) or OME-Zarr (.ome.zarr)."
            )
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir()
        self._path = partial
        self._keys = layout.keys
        self._data = Dataset(partial, layout.source, {})

    def append(self, frame: npt.NDArray[Any], place: FrameIndex) -> None:
        """Write one image."""
        self._data.put(self._axes(place), frame, place)

    def _axes(self, place: FrameIndex) -> Axes:
        """Return the frame's place on every axis that has more than one."""
        key, axes = place.key, Axes(time=place.index)
        each: Axes = {"channel": key.channel, "z": key.z, "position": key.position, "camera": key.camera}
        several = {name for name in each if len({getattr(other, name) for other in self._keys}) > 1}
        return axes | {name: value for name, value in each.items() if name in several}

    def sync(self) -> None:
        """Do nothing: the index is only complete at the end."""

    def finish(self, provenance: Mapping[str, Any]) -> None:
        """Write the provenance, and close."""
        self.close()
        text = json.dumps(provenance, indent=2, default=str)
        (self._path / PROVENANCE_FILE).write_text(text + "\n", encoding="utf-8")

    def close(self) -> None:
        """Close the dataset; its index is complete then."""
        self._data.close()
