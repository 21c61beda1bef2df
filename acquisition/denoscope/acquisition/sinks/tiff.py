"""A whole movie as OME-TIFF, by the writer of live recordings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from .base import FrameIndex, Layout
from .ome import DenoisedWriter

__all__ = ["TiffSink"]


class TiffSink:
    """Write an OME-TIFF that is valid after every frame; see `open_sink`."""

    def __init__(self, partial: Path, layout: Layout, *, keep: int | None) -> None:
        if keep is None:
            partial.unlink(missing_ok=True)
        self._provenance: dict[str, object] = {}
        self._timed = layout.source.kind != "file" or layout.times_s is not None
        self._writer = DenoisedWriter(
            partial.parent,
            layout.source,
            self._provenance,
            file_name=partial.name,
            timed=self._timed,
            keep=keep,
            classic=layout.small,
        )
        self._writer.times_s = layout.times_s
        self._writer.streams = layout.keys

    def append(self, frame: npt.NDArray[Any], place: FrameIndex) -> None:
        """Write one page."""
        self._writer.write(frame, place)

    def sync(self) -> None:
        """Wait until every page so far is on the disk."""
        self._writer.sync()

    def finish(self, provenance: Mapping[str, Any]) -> None:
        """Write the OME-XML and close."""
        self._provenance.update(provenance)
        self._writer.close()

    def close(self) -> None:
        """Close without OME-XML; it is written by whoever goes on."""
        self._writer.abandon()
