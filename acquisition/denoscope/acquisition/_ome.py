"""The denoised movie as OME-TIFF: pages while recording, the whole OME-XML when it ends."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ._errors import OutputExists
from ._frames import SourceInfo
from ._lane import Stamp
from ._pages import PageFile

if TYPE_CHECKING:
    from ome_types import OME

    from denoscope.runtime import Denoised

__all__ = ["DENOISED_MOVIE", "DenoisedWriter"]

DENOISED_MOVIE = "denoised.ome.tif"
_NAMESPACE = "denoscope.dev/provenance"


class _Segment:
    """Pages of one shape and dtype: one OME image."""

    def __init__(
        self, shape: tuple[int, int], dtype: np.dtype[Any], first_page: int, first_index: int
    ) -> None:
        self.shape = shape
        self.dtype = dtype
        self.first_page = first_page
        self.first_index = first_index
        self.indices: list[int] = []
        self.times_s: list[float] = []


class DenoisedWriter:
    """Write denoised frames to ``denoised.ome.tif``, each at the time index of its raw frame.

    Each frame is one page, complete on its own (see `PageFile`). `close` puts the OME-XML into the
    first page: pixel size, channel, time of every plane (``DeltaT``, seconds since the first frame),
    exposure, and a map annotation with the provenance. A frame that was not denoised has no page and
    keeps its index: the OME-XML's ``TiffData`` say which index each page has.

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
    ) -> None:
        path = folder / file_name
        if path.exists():
            raise OutputExists(f"{path} exists and is never overwritten; name another --output folder.")
        self.path = path
        self._source = source
        self._provenance = provenance
        self._timed = timed
        self._pages = PageFile(path, pixel_size_um=source.pixel_size_um, describe=True)
        self._segments: list[_Segment] = []
        self._zero_s: float | None = None
        self._closed = False
        # Length of the time axis: frames received, set by the session before `close`.
        self.length = 0

    def append(self, output: Denoised, stamp: Stamp) -> None:
        """Write the denoised frame of raw page ``stamp.index``."""
        index = stamp.index
        time_s = stamp.core_unix_s if stamp.core_unix_s is not None else stamp.t_received_s
        if self._zero_s is None:
            self._zero_s = time_s
        page = self._pages.append(output.frame)
        shape = (int(output.frame.shape[0]), int(output.frame.shape[1]))
        last = self._segments[-1] if self._segments else None
        if last is None or (last.shape, last.dtype) != (shape, output.frame.dtype):
            last = _Segment(shape, output.frame.dtype, page, index if self._segments else 0)
            self._segments.append(last)
        last.indices.append(index - last.first_index)
        last.times_s.append(time_s - self._zero_s)

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
            Map.M(k=key, value=value if isinstance(value, str) else json.dumps(value, default=str))
            for key, value in self._provenance.items()
        ]
        annotation = MapAnnotation(id="Annotation:0", namespace=_NAMESPACE, value=Map(ms=pairs))
        last = len(self._segments) - 1
        return OME(
            creator=f"denoscope {self._provenance.get('version', '')}".strip(),
            images=[
                self._image(number, segment, open_ended=number == last)
                for number, segment in enumerate(self._segments)
            ],
            structured_annotations=StructuredAnnotations(map_annotations=[annotation]),
        )

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

        length = segment.indices[-1] + 1
        if open_ended:
            length = max(length, self.length - segment.first_index)
        size_um, exposure_s = self._source.pixel_size_um, self._source.exposure_s
        planes = [
            Plane(
                the_c=0,
                the_z=0,
                the_t=index,
                delta_t=time_s if self._timed else None,
                exposure_time=exposure_s,
            )
            for index, time_s in zip(segment.indices, segment.times_s, strict=True)
        ]
        blocks = [
            TiffData(
                ifd=segment.first_page + first,
                first_c=0,
                first_z=0,
                first_t=segment.indices[first],
                plane_count=count,
            )
            for first, count in _runs(segment.indices)
        ]
        rate = self._source.frame_rate_hz
        return Image(
            id=f"Image:{number}",
            name=f"{self._source.name} denoised",
            pixels=Pixels(
                id=f"Pixels:{number}",
                dimension_order=Pixels_DimensionOrder.XYCZT,
                type=PixelType(_OME_TYPES.get(segment.dtype.name, segment.dtype.name)),
                size_x=segment.shape[1],
                size_y=segment.shape[0],
                size_c=1,
                size_z=1,
                size_t=length,
                physical_size_x=size_um,
                physical_size_y=size_um,
                time_increment=None if rate is None else 1 / rate,
                channels=[
                    Channel(
                        id=f"Channel:{number}:0",
                        name=self._source.channel or self._source.camera,
                        samples_per_pixel=1,
                    )
                ],
                tiff_data_blocks=blocks,
                planes=planes,
            ),
            annotation_refs=[AnnotationRef(id="Annotation:0")],
        )


_OME_TYPES = {"float32": "float"}


def _runs(indices: list[int]) -> list[tuple[int, int]]:
    """Return start and length of each stretch of consecutive values in `indices`."""
    starts = [at for at, value in enumerate(indices) if at == 0 or value != indices[at - 1] + 1]
    return [(first, end - first) for first, end in zip(starts, [*starts[1:], len(indices)], strict=True)]
