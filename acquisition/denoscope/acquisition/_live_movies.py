"""The denoised movie that a live session left, of any format: which frames of which stream are in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy.typing as npt

from ._extras import require
from ._ome import PROVENANCE
from ._sinks._live import LIVE_FORMATS, channel_label
from ._sinks._zarr import frames_of

if TYPE_CHECKING:
    from denoscope.runtime import StreamKey

__all__ = ["LiveMovie", "live_movie"]

FrameKey = tuple["StreamKey", int]


class LiveMovie(Protocol):
    """Frames by stream and by their index in it."""

    def __contains__(self, frame: FrameKey, /) -> bool:
        """Say whether a frame was denoised live."""

    def read(self, frame: FrameKey, /) -> npt.NDArray[Any]:
        """Return it, (H, W)."""


class _Nothing:
    def __contains__(self, frame: FrameKey) -> bool:
        return False

    def read(self, frame: FrameKey) -> npt.NDArray[Any]:
        raise KeyError(frame)


class _OmeTiff:
    def __init__(self, tiff: Any) -> None:
        from ome_types import from_xml

        from denoscope.runtime import StreamKey

        self._tiff = tiff
        self._pages: dict[FrameKey, int] = {}
        self._stand_ins: set[FrameKey] = set()
        ome = from_xml(tiff.ome_metadata)
        notes = ome.structured_annotations
        pairs = {
            pair.k: pair.value
            for annotation in (notes.map_annotations if notes else [])
            if annotation.namespace == PROVENANCE
            for pair in annotation.value.ms
        }
        for image, stream in zip(ome.images, json.loads(pairs["streams"] or "[]"), strict=True):
            for block in image.pixels.tiff_data_blocks:
                key = StreamKey(
                    stream["camera"],
                    stream["channels"][block.first_c or 0],
                    stream["slices"][block.first_z or 0],
                    stream["position"],
                )
                for step in range(block.plane_count or 1):
                    index = stream["first_index"] + (block.first_t or 0) + step
                    self._pages[key, index] = (block.ifd or 0) + step
            for gap in stream.get("not_denoised", []):
                key = StreamKey(stream["camera"], gap["channel"], gap["z"], stream["position"])
                for first, last in gap["indices"]:
                    self._stand_ins |= {(key, index) for index in range(first, last + 1)}

    def __contains__(self, frame: FrameKey) -> bool:
        return frame in self._pages and frame not in self._stand_ins

    def read(self, frame: FrameKey) -> npt.NDArray[Any]:
        found: npt.NDArray[Any] = self._tiff.pages[self._pages[frame]].asarray()
        return found


class _OmeZarr:
    def __init__(self, images: Iterable[Path]) -> None:
        from denoscope.runtime import StreamKey

        self._places: dict[FrameKey, tuple[Any, tuple[int, int, int]]] = {}
        self._stand_ins: set[FrameKey] = set()
        for image in images:
            attributes = json.loads((image / "zarr.json").read_bytes())["attributes"]
            about, channels = attributes["denoscope"], attributes.get("channels", [])
            array = frames_of(image)
            for line in (image / "frames.jsonl").read_bytes().splitlines():
                record = json.loads(line)
                at = record["index"]
                if at["c"] < len(channels) and at["z"] < len(about["slices"]):
                    key = StreamKey(
                        about["camera_label"], channels[at["c"]], about["slices"][at["z"]], about["position"]
                    )
                    place = key, record["stream_index"]
                    self._places[place] = array, (at["t"], at["c"], at["z"])
                    # A frame that is computed later gets another line.
                    stand_ins = self._stand_ins
                    (stand_ins.discard if record.get("denoised", True) else stand_ins.add)(place)

    def __contains__(self, frame: FrameKey) -> bool:
        return frame in self._places and frame not in self._stand_ins

    def read(self, frame: FrameKey) -> npt.NDArray[Any]:
        array, place = self._places[frame]
        found: npt.NDArray[Any] = array[place]
        return found


class _NDTiff:
    def __init__(self, dataset: Any, camera: str, cameras: int) -> None:
        self._dataset, self._camera, self._cameras = dataset, camera, cameras

    def __contains__(self, frame: FrameKey) -> bool:
        axes = self._axes(frame)
        if not self._dataset.has_image(**axes):
            return False
        return bool(self._dataset.read_metadata(**axes).get("denoised", True))

    def read(self, frame: FrameKey) -> npt.NDArray[Any]:
        found: npt.NDArray[Any] = self._dataset.read_image(**self._axes(frame))
        return found

    def _axes(self, frame: FrameKey) -> dict[str, Any]:
        key, index = frame
        label = channel_label(key, self._camera, self._cameras)
        return {"time": index, "channel": label, "z": key.z, "position": key.position}


@contextmanager
def live_movie(run: Path, source: Mapping[str, Any], notes: list[str]) -> Iterator[LiveMovie]:
    """Open what a session denoised live; nothing, with a note, where no file says which frames it holds.

    Parameters
    ----------
    run
        Run folder.
    source
        What the recording's header says of its source.
    notes
        Sentences for the user are added here.

    Raises
    ------
    InvalidInput
        If the library that reads the format is missing.
    """
    with ExitStack() as stack:
        movie: LiveMovie = _Nothing()
        try:
            movie = _open(run, source, stack)
        except _Unreadable as error:
            notes.append(f"{error}: every frame is computed")
        yield movie


class _Unreadable(Exception):
    """Why nothing can be taken over; the note begins with it."""


def _open(run: Path, source: Mapping[str, Any], stack: ExitStack) -> LiveMovie:
    tiff, zarr, ndtiff = (run / movie for _, movie, _ in LIVE_FORMATS.values())
    if tiff.is_file():
        return _open_tiff(tiff, stack)
    if zarr.is_dir():
        return _open_zarr(zarr)
    if ndtiff.is_dir():
        return _open_ndtiff(ndtiff, source, stack)
    raise _Unreadable(f"there is no {tiff.name}")


def _open_tiff(path: Path, stack: ExitStack) -> LiveMovie:
    import tifffile

    try:
        tiff = stack.enter_context(tifffile.TiffFile(path))
    except tifffile.TiffFileError:  # killed before its first page
        raise _Unreadable(f"{path.name} holds no frame") from None
    if not tiff.ome_metadata:
        raise _Unreadable(f"{path.name} was not finished and does not say which frames it holds")
    return _OmeTiff(tiff)


def _open_zarr(path: Path) -> LiveMovie:
    require("zarr", extra="formats", purpose="reading OME-Zarr")
    stem = re.escape(path.name.removesuffix(".ome.zarr"))
    images = [p for p in path.parent.iterdir() if re.fullmatch(rf"{stem}(_\d+)?\.ome\.zarr", p.name)]
    try:
        return _OmeZarr(images)
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise _Unreadable(
            f"{path.name} does not say which frames it holds ({type(error).__name__}: {error})"
        ) from error


def _open_ndtiff(path: Path, source: Mapping[str, Any], stack: ExitStack) -> LiveMovie:
    require("ndstorage", extra="micromanager", purpose="reading NDTiff")
    from ndstorage import NDTiffDataset

    try:
        dataset = NDTiffDataset(str(path))
    except Exception as error:  # the library's own, with no common base
        raise _Unreadable(f"{path.name} cannot be read ({type(error).__name__}: {error})") from error
    stack.callback(dataset.close)
    return _NDTiff(dataset, source["camera"], source.get("cameras", 1))
