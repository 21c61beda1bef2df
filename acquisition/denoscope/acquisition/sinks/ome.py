"""The denoised movie as OME-TIFF: pages while recording, the order of time and the OME-XML when it ends."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from denoscope.acquisition.contracts import SourceInfo, Stamp
from denoscope.acquisition.errors import OutputExists
from denoscope.acquisition.raw.pages import PageFile

from .base import FrameIndex, PixelsAt
from .ome_xml import element, ome_xml, with_texts

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from denoscope.runtime import Denoised, StreamKey

__all__ = ["DENOISED_MOVIE", "MEASURED", "PROVENANCE", "REPEATED", "DenoisedWriter", "ranges", "with_values"]

DENOISED_MOVIE = "denoised.ome.tif"
PROVENANCE = "denoscope.dev/provenance"
_DENOISED, MEASURED, REPEATED = "denoised", "measured", "repeated"
# Planes that are repeated at most, beside four for each page there is: each is a directory of 300 bytes.
_REPEATS = 100_000


@dataclass(frozen=True, slots=True)
class _Page:
    """Place of one page in its image; channel and z are places in the segment's lists."""

    page: int
    channel: int
    z: int
    index: int
    time_s: float
    shows: str = _DENOISED
    """A denoised frame; the measured frame in its place; or another denoised frame, repeated."""


class _Segment:
    """Pages of one camera and position, of one shape and dtype: one OME image."""

    def __init__(
        self, key: StreamKey, shape: tuple[int, int], dtype: np.dtype[Any], *, follows: bool
    ) -> None:
        self.key = key
        self.shape = shape
        self.dtype = dtype
        self.follows = follows
        self.length = 0
        self.channels: list[str] = []
        self.slices: list[int] = []
        self.pages: list[_Page] = []
        self._span = (1 << 62, -1)

    def add(self, page: int, key: StreamKey, index: int, time_s: float, shows: str = _DENOISED) -> None:
        """Take one page; channels and slices are numbered as they first come."""
        if key.channel not in self.channels:
            self.channels.append(key.channel)
        if key.z not in self.slices:
            self.slices.append(key.z)
        channel, z = self.channels.index(key.channel), self.slices.index(key.z)
        self.pages.append(_Page(page, channel, z, index, time_s, shows))
        self._span = min(index, self._span[0]), max(index, self._span[1])

    def number_by(self, order: Sequence[str]) -> None:
        """Number channels in an order, those that it lacks behind it, and slices by their numbers."""
        places = {name: at for at, name in reversed(list(enumerate(order)))}
        channels = sorted(self.channels, key=lambda name: places.get(name, len(places)))
        slices = sorted(self.slices)
        if (channels, slices) == (self.channels, self.slices):
            return
        self.pages = [
            replace(
                page,
                channel=channels.index(self.channels[page.channel]),
                z=slices.index(self.slices[page.z]),
            )
            for page in self.pages
        ]
        self.channels, self.slices = channels, slices

    def distance(self, index: int) -> int:
        """Return how many time points an index lies before or after this image."""
        return max(self._span[0] - index, index - self._span[1], 0)

    @property
    def first_index(self) -> int:
        """Time index that is the image's 0: that of its earliest frame, where another image came before."""
        return min(page.index for page in self.pages) if self.follows else 0


class DenoisedWriter:
    """Write denoised frames to ``denoised.ome.tif``, each at the time index of its raw frame.

    Each frame is one page, complete on its own (see `PageFile`). `close` puts the OME-XML into the
    first page: pixel size, channel, time of every plane (``DeltaT``, seconds since the first frame),
    exposure, and a map annotation with the provenance. What Micro-Manager said about a frame is in its page's
    private tag 65123, as JSON. Each camera and stage position is an image, with the channels and slices that came.

    Every time point has a plane. Where no frame was denoised it is the measured frame, if it is given to `stand_in`,
    or the denoised frame before it once more; the annotation ``streams`` lists these under ``not_denoised``. Pages
    then are put in the order of time, because many readers know no other.

    Parameters
    ----------
    folder
        Run folder.
    source
        What the frames come from.
    provenance
        Names and values for the annotation (bundle, its SHA-256, backend, intensity, version);
        `close` reads it, so that values known late can be added until then.
    file_name
        Of the movie in the folder.
    timed
        Whether the stamps' times are real, so that planes get a ``DeltaT``.
    quantity
        What the frames are of the source, for the images' names.
    keep
        Go on with a movie of one stream whose file holds at least so many frames, cut off after them;
        None for a new file.
    classic
        Write a classic TIFF, which ends at 4 GB.

    Raises
    ------
    OutputExists
        When the folder already holds ``denoised.ome.tif``.
    OSError
        When the disk refuses.
    """

    def __init__(
        self,
        folder: Path,
        source: SourceInfo,
        provenance: Mapping[str, Any],
        *,
        file_name: str = DENOISED_MOVIE,
        timed: bool = True,
        quantity: str = "denoised",
        keep: int | None = None,
        classic: bool = False,
    ) -> None:
        path = folder / file_name
        if path.exists() and keep is None:
            raise OutputExists(f"{path} exists and is never overwritten; name another `output` folder.")
        self.path = path
        self._source = source
        self._provenance = provenance
        self._timed = timed
        self._quantity = quantity
        self._pages = PageFile(
            path, pixel_size_um=source.pixel_size_um, describe=True, keep=keep, classic=classic
        )
        self.times_s: tuple[float, ...] | None = None
        """Seconds of each frame of a movie of one stream, in place of the stamps'."""
        self._segments: list[_Segment] = []
        self._current: dict[tuple[str, int], _Segment] = {}
        self._zero_s: float | None = None
        self._closed = False
        # Length of the time axis: frames received (of the longest stream), set by the session before `close`;
        # and those of each stream, where they are known.
        self.length = 0
        self.received: Mapping[StreamKey, int] = {}
        self.streams: Sequence[StreamKey] = ()
        """The streams in the order of the recording, where `received` is not known."""
        self._held: set[tuple[StreamKey, int]] = set()
        if keep:
            self._take_over(keep)

    def _take_over(self, frames: int) -> None:
        """Know the pages that the file holds already."""
        from denoscope.runtime import StreamKey

        segment = _Segment(StreamKey(), self._source.shape, self._source.dtype, follows=False)
        for page in range(frames):
            segment.add(page, segment.key, page, 0.0)
        self._segments.append(segment)
        self._current[segment.key.camera, segment.key.position] = segment

    @property
    def pixels_at(self) -> PixelsAt:
        """Place of the newest frame's pixels on the disk."""
        return PixelsAt(self.path.name, self._pages.pixels_at)

    def sync(self) -> None:
        """Wait until every frame so far is on the disk."""
        self._pages.sync()

    def append(self, output: Denoised, stamp: Stamp) -> None:
        """Write the denoised frame of raw page ``stamp.index``."""
        index = stamp.index if stamp.time_index is None else stamp.time_index
        time_s = stamp.core_unix_s if stamp.core_unix_s is not None else stamp.t_received_s
        self.write(output.frame, FrameIndex(output.meta.key, index, time_s, stamp.tags))

    def write(self, frame: npt.NDArray[Any], place: FrameIndex) -> None:
        """Write one denoised frame (H, W)."""
        time_s = place.time_s or 0.0
        if self._zero_s is None:
            self._zero_s = time_s
        page = self._pages.append(frame, metadata=place.tags)
        group = (place.key.camera, place.key.position)
        last = self._current.get(group)
        if last is None or (last.shape, last.dtype) != (frame.shape, frame.dtype):
            last = self._begin(place.key, frame)
        last.add(page, place.key, place.index, time_s - self._zero_s)

    def _begin(self, key: StreamKey, frame: npt.NDArray[Any]) -> _Segment:
        group = (key.camera, key.position)
        shape = (int(frame.shape[0]), int(frame.shape[1]))
        segment = _Segment(key, shape, frame.dtype, follows=group in self._current)
        self._current[group] = segment
        self._segments.append(segment)
        return segment

    def holds(self, key: StreamKey, index: int) -> bool:
        """Say whether the stream's frame with that index was written."""
        if not self._held:
            self._held = {
                (
                    replace(each.key, channel=each.channels[page.channel], z=each.slices[page.z]),
                    page.index,
                )
                for each in self._segments
                for page in each.pages
            }
        return (key, index) in self._held

    def stand_in(self, frame: npt.NDArray[Any], place: FrameIndex) -> None:
        """Write the measured frame where none was denoised; all that were denoised are written before."""
        key = place.key
        images = [
            each
            for each in self._segments
            if (each.key.camera, each.key.position, each.shape, each.dtype)
            == (key.camera, key.position, frame.shape, frame.dtype)
        ]
        page = self._pages.append(frame, metadata=place.tags)
        image = min(images, key=lambda each: each.distance(place.index), default=None)
        image = image or self._begin(key, frame)
        time_s = 0.0 if place.time_s is None else place.time_s - (self._zero_s or 0.0)
        image.add(page, key, place.index, time_s, MEASURED)

    def _complete(self) -> None:
        """Give every image a plane for each of its time points, channels and slices, in the order of time."""
        streams = tuple(self.received) or self.streams
        for segment in self._segments:
            # As they came in the recording, not as they were first written.
            segment.number_by([key.channel for key in streams])
            segment.length = self._length_of(segment)
            segment.pages += self._repeats(segment)
        places = [
            (number, place)
            for number, segment in enumerate(self._segments)
            for place in range(len(segment.pages))
        ]
        if all(page.shows == _DENOISED for segment in self._segments for page in segment.pages):
            return
        for segment in self._segments:
            segment.pages.sort(key=lambda page: (page.index, page.z, page.channel))
        self._pages.order([self._segments[number].pages[place].page for number, place in places])
        for at, (number, place) in enumerate(places):
            pages = self._segments[number].pages
            pages[place] = replace(pages[place], page=at)

    def _length_of(self, segment: _Segment) -> int:
        start = segment.first_index
        length = max(page.index for page in segment.pages) + 1 - start
        if segment not in self._current.values():
            return length
        group = (segment.key.camera, segment.key.position)
        received = [n for key, n in self.received.items() if (key.camera, key.position) == group]
        return max(length, max(received, default=self.length) - start)

    def _repeats(self, segment: _Segment) -> list[_Page]:
        """Return a plane for each place of an image that has none: the one before it once more."""
        whole = len(segment.channels) * len(segment.slices) * segment.length
        if whole == len(segment.pages) or whole > 5 * len(segment.pages) + _REPEATS:
            return []
        start, found = segment.first_index, []
        known: dict[tuple[int, int], dict[int, _Page]] = {}
        for page in segment.pages:
            known.setdefault((page.channel, page.z), {})[page.index] = page
        for channel in range(len(segment.channels)):
            for z in range(len(segment.slices)):
                there = known.get((channel, z), {})
                indices = sorted(there)
                for index in range(start, start + segment.length):
                    if index in there:
                        continue
                    if indices:
                        shown = there[indices[max(bisect_right(indices, index) - 1, 0)]].page
                    else:  # a combination of channel and slice that never came
                        shown = self._pages.append(np.zeros(segment.shape, segment.dtype))
                        indices, there = [index], {index: _Page(shown, channel, z, index, 0.0)}
                    found.append(_Page(shown, channel, z, index, 0.0, REPEATED))
        return found

    def abandon(self) -> None:
        """Close without the OME-XML; after `close` this does nothing."""
        self._closed = True
        self._pages.close()

    def close(self) -> None:
        """Write the OME-XML and close; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._pages.pages:
                self._complete()
                self._pages.set_description(self._ome())
                self._pages.sync()
        finally:
            self._pages.close()

    def _ome(self) -> str:
        pairs = {
            key: value if isinstance(value, str) else json.dumps(value, default=str)
            for key, value in {**self._provenance, "streams": self._streams()}.items()
        }
        annotation = element(
            "MapAnnotation",
            {"ID": "Annotation:0", "Namespace": PROVENANCE},
            [element("Value", {}, with_texts("M", "K", pairs))],
        )
        objective = self._source.details.get("objective")
        model = element("Objective", {"Model": str(objective), "ID": "Objective:0:0"})
        return ome_xml(
            f"denoscope {self._provenance.get('version', '')}".strip(),
            [
                *([element("Instrument", {"ID": "Instrument:0"}, [model])] if objective else []),
                *(self._image(number, segment) for number, segment in enumerate(self._segments)),
                element("StructuredAnnotations", {}, [annotation]),
            ],
        )

    def _streams(self) -> list[dict[str, object]]:
        """Return which camera, position, channels and slices each image holds, its first time index, and its gaps."""
        return [
            {
                "camera": segment.key.camera,
                "position": segment.key.position,
                "channels": segment.channels,
                "slices": segment.slices,
                "first_index": segment.first_index,
                **_not_denoised(segment),
            }
            for segment in self._segments
        ]

    def _time_of(self, page: _Page) -> float:
        return page.time_s if self.times_s is None else self.times_s[page.index]

    def _image(self, number: int, segment: _Segment) -> Element:
        lens = ("InstrumentRef", "Instrument:0"), ("ObjectiveSettings", "Objective:0:0")
        has_objective = bool(self._source.details.get("objective"))
        return element(
            "Image",
            {"ID": f"Image:{number}", "Name": self._name_of(segment)},
            [
                *(element(tag, {"ID": name}) for tag, name in lens if has_objective),
                self._pixels(number, segment),
                element("AnnotationRef", {"ID": "Annotation:0"}),
            ],
        )

    def _name_of(self, segment: _Segment) -> str:
        """Return the name of an image: with the camera and the position where there are several."""
        cameras = len({each.key.camera for each in self._segments}) > 1
        places = len({each.key.position for each in self._segments}) > 1
        named = [f"{self._source.name} {self._quantity}"]
        named += [segment.key.camera] if cameras else []
        named += [f"position {segment.key.position}"] if places else []
        return ", ".join(named)

    def _pixels(self, number: int, segment: _Segment) -> Element:
        rate, size_um = self._source.frame_rate_hz, self._source.pixel_size_um
        channels = [
            element(
                "Channel",
                {
                    "ID": f"Channel:{number}:{place}",
                    "Name": name or self._source.channel or segment.key.camera or self._source.camera,
                    "SamplesPerPixel": 1,
                },
            )
            for place, name in enumerate(segment.channels)
        ]
        return element(
            "Pixels",
            {
                "ID": f"Pixels:{number}",
                "DimensionOrder": "XYCZT",
                "Type": _OME_TYPES.get(segment.dtype.name, segment.dtype.name),
                "SizeX": segment.shape[1],
                "SizeY": segment.shape[0],
                "SizeZ": len(segment.slices),
                "SizeC": len(segment.channels),
                "SizeT": segment.length,
                "PhysicalSizeX": None if size_um is None else float(size_um),
                "PhysicalSizeY": None if size_um is None else float(size_um),
                "TimeIncrement": None if rate is None else float(1 / rate),
            },
            [*channels, *_blocks(segment), *self._planes(segment)],
        )

    def _planes(self, segment: _Segment) -> list[Element]:
        """Return place, time and exposure of every page."""
        exposure_s = self._source.exposure_s
        return [
            element(
                "Plane",
                {
                    "TheZ": page.z,
                    "TheT": page.index - segment.first_index,
                    "TheC": page.channel,
                    "DeltaT": float(self._time_of(page)) if self._timed and page.shows != REPEATED else None,
                    "ExposureTime": None if exposure_s is None else float(exposure_s),
                },
            )
            for page in segment.pages
        ]


def _blocks(segment: _Segment) -> list[Element]:
    """Return the pages of the file that hold an image, in runs."""
    one_plane = len(segment.channels) * len(segment.slices) == 1
    return [
        element(
            "TiffData",
            {
                "IFD": first.page,
                "FirstZ": first.z,
                "FirstT": first.index - segment.first_index,
                "FirstC": first.channel,
                "PlaneCount": count,
            },
        )
        for first, count in _runs(segment.pages, one_plane=one_plane)
    ]


def ranges(numbers: Iterable[int]) -> list[list[int]]:
    """Return the first and last of each stretch of numbers that follow each other; they come in order."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found


def _not_denoised(segment: _Segment) -> dict[str, object]:
    """Return the time indices of an image that show something else than their denoised frame."""
    places: dict[tuple[int, int, str], list[int]] = {}
    for page in sorted(segment.pages, key=lambda page: page.index):
        if page.shows != _DENOISED:
            places.setdefault((page.channel, page.z, page.shows), []).append(page.index)
    listed = [
        {
            "channel": segment.channels[channel],
            "z": segment.slices[z],
            "shows": shows,
            "indices": ranges(indices),
        }
        for (channel, z, shows), indices in places.items()
    ]
    return {"not_denoised": listed} if listed else {}


def with_values(xml: str, values: Mapping[str, Any]) -> str:
    """Return a movie's OME-XML with other values in the annotation of its provenance."""
    for key, value in values.items():
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        for plain, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
            text = text.replace(plain, escaped)
        known = rf'(<(?:\w+:)?M K="{re.escape(key)}">)[^<]*(?=</)'
        found = re.search(known, xml)
        if found is not None:
            xml = xml[: found.end(1)] + text + xml[found.end() :]
        elif (streams := re.search(r'<(\w+:)?M K="streams">', xml)) is not None:
            prefix = streams[1] or ""
            new = f'<{prefix}M K="{key}">{text}</{prefix}M>'
            xml = xml[: streams.start()] + new + xml[streams.start() :]
    return xml


_OME_TYPES = {"float32": "float"}


def _runs(pages: list[_Page], *, one_plane: bool) -> list[tuple[_Page, int]]:
    """Return start and length of each stretch of pages that follow each other in the file and in time.

    With more channels or slices than one, each page stands alone: OME counts on through them first.
    """
    runs: list[tuple[_Page, int]] = []
    for page in pages:
        if one_plane and runs:
            first, count = runs[-1]
            if (page.page, page.index) == (first.page + count, first.index + count):
                runs[-1] = (first, count + 1)
                continue
        runs.append((page, 1))
    return runs
