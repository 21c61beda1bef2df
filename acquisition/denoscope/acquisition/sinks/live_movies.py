"""The denoised movie that a live session left, of any format: which frames of which stream are in it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from xml.etree.ElementTree import ParseError

import numpy as np
import numpy.typing as npt

from denoscope.acquisition.contracts import Axes, Tags
from denoscope.acquisition.extras import require
from denoscope.acquisition.raw.pages import replace_description
from denoscope.acquisition.read_whole import read_whole
from denoscope.runtime import InvalidInput
from denoscope.runtime.movies.headers.untrusted import parse_xml

from .live import LIVE_FORMATS, channel_label, std_name, write_chunk, write_whole
from .ndtiff import PROVENANCE_FILE
from .ome import MEASURED, PROVENANCE, REPEATED, ranges, with_values
from .zarr import TAGS, frames_of

if TYPE_CHECKING:
    from denoscope.runtime import StreamKey

__all__ = ["LiveMovie", "live_movie"]

FrameKey = tuple["StreamKey", int]

_COMPUTED = "frames_computed_afterwards"
_NOT_DENOISED = "frames_not_denoised"


class LiveMovie(Protocol):
    """Frames by stream and by their index in it.

    Attributes
    ----------
    measured
        Frames that were not denoised and have pixels in the file, which show the measured frame.
    """

    measured: set[FrameKey]

    def __contains__(self, frame: FrameKey, /) -> bool:
        """Say whether a frame was denoised live."""

    def read(self, frame: FrameKey, /) -> npt.NDArray[Any]:
        """Return it, (H, W)."""

    def overwrite(self, frame: FrameKey, pixels: npt.NDArray[Any], /) -> None:
        """Put the denoised frame where the measured one is; the movie is valid at every moment."""

    def settle(self) -> None:
        """Say which of the measured frames were overwritten; until then they are listed as measured."""


class _Nothing:
    def __init__(self) -> None:
        self.measured: set[FrameKey] = set()

    def overwrite(self, frame: FrameKey, pixels: npt.NDArray[Any]) -> None:
        raise KeyError(frame, pixels.shape)

    def settle(self) -> None:
        pass

    def __contains__(self, frame: FrameKey) -> bool:
        return False

    def read(self, frame: FrameKey) -> npt.NDArray[Any]:
        raise KeyError(frame)


class _OmeTiff:
    def __init__(self, tiff: Any) -> None:
        from denoscope.runtime import StreamKey

        self._tiff = tiff
        self._pages: dict[FrameKey, int] = {}
        self.measured: set[FrameKey] = set()
        self._done: set[FrameKey] = set()
        ome = parse_xml(tiff.filehandle.path, tiff.ome_metadata)
        pairs = {
            pair.get("K"): pair.text
            for annotation in ome.iterfind("{*}StructuredAnnotations/{*}MapAnnotation")
            if annotation.get("Namespace") == PROVENANCE
            for pair in annotation.iterfind("{*}Value/{*}M")
        }
        self._streams = json.loads(pairs["streams"] or "[]")
        for image, stream in zip(ome.findall("{*}Image"), self._streams, strict=True):
            gaps = {shows: _gaps_of(stream, shows) for shows in (MEASURED, REPEATED)}
            self.measured |= gaps[MEASURED]
            for block in image.iterfind("{*}Pixels/{*}TiffData"):
                number = {name: int(value) for name, value in block.items()}
                key = StreamKey(
                    stream["camera"],
                    stream["channels"][number.get("FirstC", 0)],
                    stream["slices"][number.get("FirstZ", 0)],
                    stream["position"],
                )
                for step in range(number.get("PlaneCount", 1)):
                    frame = key, stream["first_index"] + number.get("FirstT", 0) + step
                    # Another image may hold the frame whose place a repeated one takes here.
                    if frame not in gaps[REPEATED]:
                        self._pages[frame] = number.get("IFD", 0) + step

    def __contains__(self, frame: FrameKey) -> bool:
        return frame in self._pages and frame not in self.measured

    def read(self, frame: FrameKey) -> npt.NDArray[Any]:
        found: npt.NDArray[Any] = self._tiff.pages[self._pages[frame]].asarray()
        return found

    def overwrite(self, frame: FrameKey, pixels: npt.NDArray[Any]) -> None:
        if frame not in self.measured:
            raise KeyError(frame)
        page = self._tiff.pages[self._pages[frame]]
        if (page.shape, page.dtype) != (pixels.shape, pixels.dtype):
            raise ValueError(
                f"a frame of {pixels.shape} {pixels.dtype} does not fit {page.shape} {page.dtype}"
            )
        _write_at(Path(self._tiff.filehandle.path), page.dataoffsets[0], pixels)
        self._done.add(frame)

    def settle(self) -> None:
        from denoscope.runtime import StreamKey

        if not self._done:
            return
        for stream in self._streams:
            kept = []
            for gap in stream.pop("not_denoised", []):
                key = StreamKey(stream["camera"], gap["channel"], gap["z"], stream["position"])
                indices = [n for first, last in gap["indices"] for n in range(first, last + 1)]
                if gap["shows"] == MEASURED:
                    indices = [n for n in indices if (key, n) not in self._done]
                if indices:
                    kept.append(gap | {"indices": ranges(indices)})
            if kept:
                stream["not_denoised"] = kept
        values = {"streams": self._streams, **_computed(self.measured, self._done)}
        replace_description(Path(self._tiff.filehandle.path), with_values(self._tiff.ome_metadata, values))
        self._done.clear()


def _gaps_of(stream: Mapping[str, Any], shows: str) -> set[FrameKey]:
    """Return the frames of an image that show something else in place of their denoised frame."""
    from denoscope.runtime import StreamKey

    return {
        (StreamKey(stream["camera"], gap["channel"], gap["z"], stream["position"]), index)
        for gap in stream.get("not_denoised", [])
        if gap["shows"] == shows
        for first, last in gap["indices"]
        for index in range(first, last + 1)
    }


class _OmeZarr:
    def __init__(self, images: Iterable[Path]) -> None:
        from denoscope.runtime import StreamKey

        self._places: dict[FrameKey, tuple[Any, tuple[int, int, int]]] = {}
        self.measured: set[FrameKey] = set()
        self._lines: dict[FrameKey, tuple[Path, dict[str, Any]]] = {}
        self._done: set[FrameKey] = set()
        self._images = list(images)
        for image in self._images:
            attributes = json.loads(read_whole(image / "zarr.json", "movie's list"))["attributes"]
            about, channels = attributes["denoscope"], attributes.get("channels", [])
            array = frames_of(image)
            for line in read_whole(image / "frames.jsonl", "movie's list").splitlines():
                record = json.loads(line)
                at = record["index"]
                if at["c"] < len(channels) and at["z"] < len(about["slices"]):
                    if "shows" in record:  # another frame, repeated
                        continue
                    key = StreamKey(
                        about["camera_label"], channels[at["c"]], about["slices"][at["z"]], about["position"]
                    )
                    place = key, record["stream_index"]
                    self._places[place] = array, (at["t"], at["c"], at["z"])
                    if record.get("denoised", True):  # a frame that is computed later gets another line
                        self.measured.discard(place)
                    else:
                        self.measured.add(place)
                        self._lines[place] = image, record

    def __contains__(self, frame: FrameKey) -> bool:
        return frame in self._places and frame not in self.measured

    def read(self, frame: FrameKey) -> npt.NDArray[Any]:
        array, place = self._places[frame]
        found: npt.NDArray[Any] = array[place]
        return found

    def overwrite(self, frame: FrameKey, pixels: npt.NDArray[Any]) -> None:
        array, place = self._places[frame]
        image, _ = self._lines[frame]
        if (array.shape[-2:], array.dtype) != (pixels.shape, pixels.dtype):
            raise ValueError(
                f"a frame of {pixels.shape} {pixels.dtype} does not fit {array.shape} {array.dtype}"
            )
        write_chunk(image, place, pixels)
        self._done.add(frame)

    def settle(self) -> None:
        for image in self._images:
            done = [frame for frame in self._done if self._lines[frame][0] == image]
            if not done:
                continue
            with (image / TAGS).open("ab") as lines:
                for frame in sorted(done, key=lambda frame: frame[1]):
                    record = {**self._lines[frame][1], "denoised": True, "computed_afterwards": True}
                    lines.write((json.dumps(record) + "\n").encode())
                lines.flush()
                os.fsync(lines.fileno())
            group = json.loads(read_whole(image / "zarr.json", "movie's list"))
            group["attributes"]["denoscope"] |= _computed(self.measured, self._done)
            write_whole(image / "zarr.json", json.dumps(group).encode())
        self._done.clear()


class _NDTiff:
    def __init__(self, dataset: Any, camera: str, cameras: int) -> None:
        self._dataset, self._camera, self._cameras = dataset, camera, cameras
        self.measured: set[FrameKey] = set()
        self._repeated: set[frozenset[tuple[str, Any]]] = set()
        self._done: set[FrameKey] = set()
        for axes in dataset.index:
            self._look(dict(axes))

    def __contains__(self, frame: FrameKey) -> bool:
        axes = self._axes(frame)
        if not self._dataset.has_image(**axes) or frozenset(axes.items()) in self._repeated:
            return False
        return frame not in self.measured

    def read(self, frame: FrameKey) -> npt.NDArray[Any]:
        found: npt.NDArray[Any] = self._dataset.read_image(**self._axes(frame))
        return found

    def _axes(self, frame: FrameKey) -> Axes:
        key, index = frame
        label = channel_label(key, self._camera, self._cameras)
        return {"time": index, "channel": label, "z": key.z, "position": key.position}

    def _look(self, axes: Tags) -> None:
        """Note a frame that shows what was measured, or another frame."""
        from denoscope.runtime import StreamKey

        metadata = self._dataset.read_metadata(**axes)
        if "shows" in metadata:  # another frame, repeated
            self._repeated.add(frozenset(axes.items()))
        elif not metadata.get("denoised", True):
            stream = metadata.get("stream", {})
            key = StreamKey(stream["camera"], stream["channel"], axes["z"], axes["position"])
            self.measured.add((key, axes["time"]))

    def overwrite(self, frame: FrameKey, pixels: npt.NDArray[Any]) -> None:
        entry = self._dataset.index[frozenset(self._axes(frame).items())]
        if frame not in self.measured or (entry.image_height, entry.image_width) != pixels.shape:
            raise ValueError(f"a frame of {pixels.shape} {pixels.dtype} does not fit {frame}")
        _write_at(Path(self._dataset.path) / entry.filename, entry.pix_offset, pixels)
        self._done.add(frame)

    def settle(self) -> None:
        old, new = b'"denoised": false', b'"denoised": true '
        for frame in self._done:
            entry = self._dataset.index[frozenset(self._axes(frame).items())]
            with (Path(self._dataset.path) / entry.filename).open("r+b") as file:
                file.seek(entry.metadata_offset)
                text = file.read(entry.metadata_length)
                file.seek(entry.metadata_offset)
                file.write(text.replace(old, new, 1))
        if self._done:
            about = Path(self._dataset.path) / PROVENANCE_FILE
            values = json.loads(read_whole(about, "movie's list")) | _computed(self.measured, self._done)
            write_whole(about, (json.dumps(values, indent=2) + "\n").encode())
        self._done.clear()


def _computed(measured: set[FrameKey], done: set[FrameKey]) -> dict[str, int | str]:
    """Return what the provenance says when measured frames gave way to denoised ones."""
    left = len(measured - done)
    text = f"{left} more, shown as measured" if left else "none: all were computed after the recording"
    return {_COMPUTED: len(done), _NOT_DENOISED: text}


def _write_at(path: Path, at: int, pixels: npt.NDArray[Any]) -> None:
    """Replace the pixels of one frame."""
    frame = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("<"))
    with path.open("r+b") as file:
        file.seek(at)
        file.write(frame.reshape(-1).view(np.uint8).data)


@contextmanager
def live_movie(
    run: Path, source: Mapping[str, Any], notes: list[str], *, std: bool = False
) -> Iterator[LiveMovie]:
    """Open what a session denoised live; nothing, with a note, where no file says which frames it holds.

    Parameters
    ----------
    run
        Run folder.
    source
        What the recording's header says of its source.
    notes
        Sentences for the user are added here.
    std
        The predicted deviations in place of the frames.

    Raises
    ------
    InvalidInput
        If the library that reads the format is missing.
    """
    with ExitStack() as stack:
        movie: LiveMovie = _Nothing()
        try:
            movie = _open(run, source, stack, std=std)
        except _Unreadable as error:
            notes.append(f"{error}: every frame is computed")
        yield movie


class _Unreadable(Exception):
    """Why nothing can be taken over; the note begins with it."""


def _open(run: Path, source: Mapping[str, Any], stack: ExitStack, *, std: bool) -> LiveMovie:
    names = [movie for _, movie, _ in LIVE_FORMATS.values()]
    tiff, zarr, ndtiff = (run / (std_name(name) if std else name) for name in names)
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
    try:
        return _OmeTiff(tiff)
    except (InvalidInput, ParseError, OSError, ValueError, KeyError, IndexError) as error:
        raise _Unreadable(
            f"{path.name} does not say which frames it holds ({type(error).__name__}: {error})"
        ) from error


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
