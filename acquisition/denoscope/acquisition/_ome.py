"""The denoised movie as OME-TIFF: pages while recording, the whole OME-XML when it ends."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ._errors import OutputExists
from ._frames import SourceInfo
from ._lane import Stamp
from ._pages import PageFile

if TYPE_CHECKING:
    from ome_types import OME

    from denoscope.runtime import Denoised, StreamKey

__all__ = ["DENOISED_MOVIE", "PROVENANCE", "DenoisedWriter"]

DENOISED_MOVIE = "denoised.ome.tif"
PROVENANCE = "denoscope.dev/provenance"


@dataclass(frozen=True, slots=True)
class _Page:
    """Where one page belongs in its image; channel and z are places in the segment's lists."""

    page: int
    channel: int
    z: int
    index: int
    time_s: float


class _Segment:
    """Pages of one camera and position, of one shape and dtype: one OME image."""

    def __init__(
        self, key: StreamKey, shape: tuple[int, int], dtype: np.dtype[Any], *, follows: bool
    ) -> None:
        self.key = key
        self.shape = shape
        self.dtype = dtype
        self.follows = follows
        self.channels: list[str] = []
        self.slices: list[int] = []
        self.pages: list[_Page] = []

    def add(self, page: int, key: StreamKey, index: int, time_s: float) -> None:
        """Take one page; channels and slices are numbered as they first come."""
        if key.channel not in self.channels:
            self.channels.append(key.channel)
        if key.z not in self.slices:
            self.slices.append(key.z)
        channel, z = self.channels.index(key.channel), self.slices.index(key.z)
        self.pages.append(_Page(page, channel, z, index, time_s))

    @property
    def first_index(self) -> int:
        """Time index that is the image's 0: that of its earliest frame, where another image came before."""
        return min(page.index for page in self.pages) if self.follows else 0


class DenoisedWriter:
    """Write denoised frames to ``denoised.ome.tif``, each at the time index of its raw frame.

    Each frame is one page, complete on its own (see `PageFile`). `close` puts the OME-XML into the
    first page: pixel size, channel, time of every plane (``DeltaT``, seconds since the first frame),
    exposure, and a map annotation with the provenance. What Micro-Manager said about a frame is in its page's
    private tag 65123, as JSON. A frame that was not denoised has no page and
    keeps its index: the OME-XML's ``TiffData`` say which index each page has. Each camera and stage
    position is an image, with the channels and slices that came.

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
    ) -> None:
        path = folder / file_name
        if path.exists() and keep is None:
            raise OutputExists(f"{path} exists and is never overwritten; name another --output folder.")
        self.path = path
        self._source = source
        self._provenance = provenance
        self._timed = timed
        self._quantity = quantity
        self._pages = PageFile(path, pixel_size_um=source.pixel_size_um, describe=True, keep=keep)
        self._segments: list[_Segment] = []
        self._current: dict[tuple[str, int], _Segment] = {}
        self._zero_s: float | None = None
        self._closed = False
        # Length of the time axis: frames received (of the longest stream), set by the session before `close`.
        self.length = 0
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

    def sync(self) -> None:
        """Wait until every frame so far is on the disk."""
        self._pages.sync()

    def append(self, output: Denoised, stamp: Stamp) -> None:
        """Write the denoised frame of raw page ``stamp.index``."""
        index = stamp.index if stamp.time_index is None else stamp.time_index
        time_s = stamp.core_unix_s if stamp.core_unix_s is not None else stamp.t_received_s
        if self._zero_s is None:
            self._zero_s = time_s
        page = self._pages.append(output.frame, metadata=output.meta.tags)
        shape = (int(output.frame.shape[0]), int(output.frame.shape[1]))
        key = output.meta.key
        group = (key.camera, key.position)
        last = self._current.get(group)
        if last is None or (last.shape, last.dtype) != (shape, output.frame.dtype):
            last = _Segment(key, shape, output.frame.dtype, follows=last is not None)
            self._current[group] = last
            self._segments.append(last)
        last.add(page, key, index, time_s - self._zero_s)

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
                self._pages.set_description(self._ome().to_xml(indent=0))
                self._pages.sync()
        finally:
            self._pages.close()

    def _ome(self) -> OME:
        from ome_types import OME
        from ome_types.model import Map, MapAnnotation, StructuredAnnotations

        pairs = [
            Map.M(k=key, value=_xml(value) if isinstance(value, str) else json.dumps(value, default=str))
            for key, value in {**self._provenance, "streams": self._streams()}.items()
        ]
        annotation = MapAnnotation(id="Annotation:0", namespace=PROVENANCE, value=Map(ms=pairs))
        return OME(
            creator=f"denoscope {self._provenance.get('version', '')}".strip(),
            images=[
                self._image(number, segment, open_ended=segment in self._current.values())
                for number, segment in enumerate(self._segments)
            ],
            structured_annotations=StructuredAnnotations(map_annotations=[annotation]),
        )

    def _streams(self) -> list[dict[str, Any]]:
        """Return which camera, position, channels and slices each image holds, and its first time index."""
        return [
            {
                "camera": segment.key.camera,
                "position": segment.key.position,
                "channels": segment.channels,
                "slices": segment.slices,
                "first_index": segment.first_index,
            }
            for segment in self._segments
        ]

    def _image(self, number: int, segment: _Segment, *, open_ended: bool) -> Any:
        from ome_types.model import (
            AnnotationRef,
            Channel,
            Image,
            Pixels,
            Pixels_DimensionOrder,
            PixelType,
            Plane,
            TiffData,
        )

        start = segment.first_index
        length = max(page.index for page in segment.pages) + 1 - start
        if open_ended:
            length = max(length, self.length - start)
        size_um, exposure_s = self._source.pixel_size_um, self._source.exposure_s
        planes = [
            Plane(
                the_c=page.channel,
                the_z=page.z,
                the_t=page.index - start,
                delta_t=page.time_s if self._timed else None,
                exposure_time=exposure_s,
            )
            for page in segment.pages
        ]
        blocks = [
            TiffData(
                ifd=first.page,
                first_c=first.channel,
                first_z=first.z,
                first_t=first.index - start,
                plane_count=count,
            )
            for first, count in _runs(
                segment.pages, one_plane=len(segment.channels) * len(segment.slices) == 1
            )
        ]
        cameras = len({each.key.camera for each in self._segments}) > 1
        places = len({each.key.position for each in self._segments}) > 1
        named = [f"{self._source.name} {self._quantity}"]
        named += [segment.key.camera] if cameras else []
        named += [f"position {segment.key.position}"] if places else []
        rate = self._source.frame_rate_hz
        return Image(
            id=f"Image:{number}",
            name=_xml(", ".join(named)),
            pixels=Pixels(
                id=f"Pixels:{number}",
                dimension_order=Pixels_DimensionOrder.XYCZT,
                type=PixelType(_OME_TYPES.get(segment.dtype.name, segment.dtype.name)),
                size_x=segment.shape[1],
                size_y=segment.shape[0],
                size_c=len(segment.channels),
                size_z=len(segment.slices),
                size_t=length,
                physical_size_x=size_um,
                physical_size_y=size_um,
                time_increment=None if rate is None else 1 / rate,
                channels=[
                    Channel(
                        id=f"Channel:{number}:{place}",
                        name=_xml(name or self._source.channel or segment.key.camera or self._source.camera),
                        samples_per_pixel=1,
                    )
                    for place, name in enumerate(segment.channels)
                ],
                tiff_data_blocks=blocks,
                planes=planes,
            ),
            annotation_refs=[AnnotationRef(id="Annotation:0")],
        )


_OME_TYPES = {"float32": "float"}
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _xml(text: str) -> str:
    """Return text without the characters that no XML can hold; a camera's label may be anything."""
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", text)


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
