"""Traces of a recorded movie: the same numbers, frame by frame, as while recording."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from denoscope.acquisition.errors import OutputExists
from denoscope.acquisition.regions.finding import RegionFinder
from denoscope.acquisition.regions.measure import RegionMeter
from denoscope.acquisition.regions.reading import found_radius, read_regions
from denoscope.acquisition.regions.regions import Regions
from denoscope.acquisition.regions.trace_file import TraceFile, read_traces
from denoscope.acquisition.results import TracesRecord
from denoscope.runtime import InvalidInput

from .outputs import check_output, give_name, partial_of, stem_of

if TYPE_CHECKING:
    from denoscope.runtime import Denoised

__all__ = ["MovieTraces", "traces_name"]


def traces_name(output: Path) -> Path:
    """Return the file for the traces beside a denoised movie: ``clean.ome.tif`` has ``clean_traces.csv``."""
    return output.with_name(f"{stem_of(output)}_traces.csv")


class MovieTraces:
    """Measure regions in a movie that is denoised in order, from its beginning or where an interrupted run ended.

    Parameters
    ----------
    path
        File for the traces; ``.partial`` until it is complete.
    regions
        File with regions, or ``find`` or ``find:RADIUS``.
    dark
        Counts of the camera without light.
    shape
        ``(H, W)`` of the frames.
    done
        Frames that an interrupted run has written; None for a new run.

    Raises
    ------
    DenoscopeError
        When the regions cannot be used, or the file is there already.
    """

    def __init__(
        self, path: Path, regions: str, *, dark: float, shape: tuple[int, int], done: int | None = None
    ) -> None:
        self.path = path
        self._partial = partial_of(path)
        self._dark = dark
        self._file: TraceFile | None = None
        self._frames = 0
        radius = found_radius(regions)
        self._finder = None if radius is None else RegionFinder(radius)
        self._regions = None if radius is not None else read_regions(regions, shape)
        if done is None or not self._partial.exists():
            check_output(path)
        if self._finder is not None and done:
            raise InvalidInput(
                "`regions` find cannot go on in the middle of a movie: begin anew without `resume`, or give a file of "
                "regions."
            )
        if self._regions is not None:
            self._open(self._regions, done)

    def _open(self, regions: Regions, done: int | None) -> None:
        if done is None:
            self._partial.unlink(missing_ok=True)
        elif not self._partial.exists():
            raise OutputExists(
                f"{self._partial} of the interrupted run is not there: begin anew without `resume`."
            )
        self._file = TraceFile(self._partial, regions, dark=self._dark, keep=done, about=self.path)
        self._meter = RegionMeter(regions, dark=self._dark)
        if done:
            written = read_traces(self._partial)
            for row in range(done):
                self._meter.replay(written.raw[row], written.denoised[row], written.std[row])

    def add(self, out: Denoised, raw: npt.NDArray[Any], *, page: int, time_s: float | None) -> None:
        """Measure the next frame.

        Parameters
        ----------
        out
            The denoised frame.
        raw
            Its raw frame, in the same unit.
        page
            Its place in the movie.
        time_s
            Seconds since the movie's first frame; None where unknown.

        Raises
        ------
        OSError
            When the disk refuses.
        """
        if self._regions is None:
            assert self._finder is not None
            self._regions = self._finder.add(out.frame)
            if self._regions is not None:
                self._open(self._regions, None)
        if self._file is not None:
            traces = self._meter.measure(np.asarray(raw), out.frame, out.std)
            self._file.append(page, page, time_s, "", traces)

    def sync(self) -> None:
        """Wait until all is on the disk."""
        if self._file is not None:
            self._file.sync()

    def close(self) -> None:
        """Close the file as it is; after `finish` this does nothing."""
        if self._file is not None:
            self._file.close()

    def finish(self) -> TracesRecord:
        """Give the file its name; where the movie was too short to find regions there is none."""
        if self._file is None or self._regions is None:
            return TracesRecord()
        self._file.sync()
        self._file.close()
        if self._partial.exists():
            give_name(self._partial, self.path)
        return TracesRecord(
            file=self.path.name,
            frames=self._file.lines,
            regions=len(self._regions),
            source=self._regions.origin,
        )
