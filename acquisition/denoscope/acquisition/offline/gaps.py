"""The frames of a live session that were not denoised: found in the raw recording, shown as measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from denoscope.acquisition.contracts import Frame
from denoscope.acquisition.denoisers.routing import Routes
from denoscope.acquisition.raw.writer import RAW_MOVIE, read_raw
from denoscope.acquisition.sinks import FrameIndex

if TYPE_CHECKING:
    from denoscope.acquisition.denoisers.converting import Convert
    from denoscope.acquisition.sinks.live import LiveSink

__all__ = ["Gap", "gaps", "show_measured"]


@dataclass(frozen=True, slots=True)
class Gap:
    """A raw frame without a denoised one.

    Attributes
    ----------
    page
        Its page in ``raw.tif``.
    place
        Where its denoised frame belongs.
    at, shape, dtype
        Where its pixels lie in ``raw.tif``, and what they are.
    """

    page: int
    place: FrameIndex
    at: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]

    def read(self, folder: Path) -> npt.NDArray[Any]:
        """Return the raw frame (H, W)."""
        stored = self.dtype.newbyteorder("<")
        count = self.shape[0] * self.shape[1]
        pixels = np.fromfile(folder / RAW_MOVIE, stored, count, offset=self.at)
        return pixels.astype(self.dtype, copy=False).reshape(self.shape)


def gaps(folder: Path, streams: int, sink: LiveSink) -> Iterator[Gap]:
    """Yield the raw frames of a run folder that a sink of denoised frames does not hold, in order.

    Parameters
    ----------
    folder
        Run folder; its sidecar is complete.
    streams
        Limit of streams that the session had; frames of others have no place.
    sink
        Every denoised frame was written to it.
    """
    routes = Routes(streams)
    for page, record in enumerate(read_raw(folder).records):
        if not record["agrees"]:
            continue
        shape, dtype = (record["shape"][0], record["shape"][1]), np.dtype(record["dtype"])
        # Of the pixels a route depends on shape and dtype only.
        pixels = np.broadcast_to(np.zeros((), dtype), shape)
        camera, tags = record.get("camera", ""), dict(record["tags"])
        route = routes.of(Frame(pixels, record["number"], record["received_s"], camera, tags))
        if route is None or sink.holds(route.key, route.index):
            continue
        time_s = record["core_unix_s"] if record["core_unix_s"] is not None else record["received_s"]
        yield Gap(page, FrameIndex(route.key, route.index, time_s, tags), record["at"], shape, dtype)


def show_measured(
    folder: Path,
    streams: int,
    sink: LiveSink,
    convert: Convert | None,
    *,
    goes_on: Callable[[], bool] = lambda: True,
) -> list[int]:
    """Write each measured frame that has no denoised one into the sink of denoised frames.

    Parameters
    ----------
    folder, streams, sink
        As for `gaps`.
    convert
        What was done to frames before they were denoised.
    goes_on
        Asked before each frame; False leaves the remaining ones to `LiveSink.close`, which repeats the frame before.

    Returns
    -------
    list of int
        Pages of ``raw.tif`` that have no denoised frame.
    """
    pages = []
    for gap in gaps(folder, streams, sink):
        pages.append(gap.page)
        if goes_on():
            pixels = gap.read(folder)
            sink.stand_in(pixels if convert is None else convert(pixels), gap.place)
    return pages
