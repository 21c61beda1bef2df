"""Traces of a recorded movie: the same numbers, frame by frame, as while recording."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from denoscope.acquisition.errors import OutputExists
from denoscope.acquisition.raw.confirm import confirm
from denoscope.acquisition.regions.finding import RegionFinder
from denoscope.acquisition.regions.measure import RegionMeter
from denoscope.acquisition.regions.reading import found_radius, read_regions
from denoscope.acquisition.regions.regions import Regions
from denoscope.acquisition.regions.trace_file import REGIONS_PICTURE, TraceFile, read_traces
from denoscope.acquisition.results import TracesRecord
from denoscope.runtime import InvalidInput

from .outputs import check_output, give_name, partial_of, stem_of

if TYPE_CHECKING:
    from denoscope.runtime import Denoised

__all__ = ["MovieTraces", "files_of_traces", "name_traces", "traces_name"]


def traces_name(output: Path) -> Path:
    """Return the file for the traces beside a denoised movie: ``clean.ome.tif`` has ``clean_traces.csv``."""
    return output.with_name(f"{stem_of(output)}_traces.csv")


def files_of_traces(path: Path) -> tuple[Path, Path, Path]:
    """Return the files of traces: ``clean_traces.csv``, ``clean_traces.json`` and ``clean_regions.tif``."""
    stem = path.stem.removesuffix("_traces")
    return path, path.with_suffix(".json"), path.with_name(f"{stem}_{REGIONS_PICTURE}")


def name_traces(path: Path) -> TracesRecord:
    """Give complete files of traces their names; where the movie was too short to find regions there are none.

    Raises
    ------
    OutputExists
        When a name was taken meanwhile.
    """
    table, about, picture = files_of_traces(path)
    for file in (picture, table):  # the table last: it says that all is there
        if partial_of(file).exists():
            give_name(partial_of(file), file)
    if not table.exists():
        return TracesRecord()
    described = json.loads(about.read_text(encoding="utf-8"))
    with table.open("rb") as lines:
        frames = sum(1 for _ in lines) - 1
    return TracesRecord(
        file=table.name, frames=frames, regions=len(described["regions"]), source=described["from"]
    )


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
        self._picture = files_of_traces(path)[2]
        self._dark = dark
        self._file: TraceFile | None = None
        self._frames = 0
        radius = found_radius(regions)
        self._finder = None if radius is None else RegionFinder(radius)
        self._regions = None if radius is not None else read_regions(regions, shape)
        if done is None or not self._partial.exists():
            for file in files_of_traces(path):
                check_output(file)
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

    def finish(self) -> None:
        """Complete the files; `name_traces` gives them their names."""
        if self._file is None or self._regions is None:
            return
        import tifffile

        self._file.sync()
        self._file.close()
        with partial_of(self._picture).open("wb") as file:
            tifffile.imwrite(file, self._regions.labels())
            file.flush()
            confirm(file.fileno())
