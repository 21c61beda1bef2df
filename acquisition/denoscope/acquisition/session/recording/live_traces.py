"""Traces of a running session: regions are read or found, measured in every denoised frame, and written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from denoscope.acquisition.errors import OutputExists, one_line
from denoscope.acquisition.frames.live_frame import LiveFrame
from denoscope.acquisition.regions.finding import FIND_FRAMES
from denoscope.acquisition.regions.measure import FrameTraces, RegionMeter
from denoscope.acquisition.regions.reading import found_radius, read_regions
from denoscope.acquisition.regions.regions import Regions
from denoscope.acquisition.regions.search import RegionSearch
from denoscope.acquisition.regions.trace_file import TRACES, TraceFile, TraceThread, stream_name
from denoscope.acquisition.results import TracesRecord
from denoscope.runtime import InvalidInput, counted

if TYPE_CHECKING:
    from denoscope.runtime import StreamKey

__all__ = ["REGIONS_PICTURE", "LiveTraces"]

REGIONS_PICTURE = "regions.tif"
_PATIENCE_S = 5.0


class LiveTraces:
    """Measure a session's regions.

    Parameters
    ----------
    regions
        File with regions, or ``find`` or ``find:RADIUS`` to find cells in the first denoised frames.
    shape
        ``(H, W)`` of the frames.
    folder
        Run folder; it is there when `open` is called.
    dark
        Counts of the camera without light.
    on_found
        Called with the regions once they are found; must not wait.

    Raises
    ------
    InvalidInput
        When the file cannot be used.

    Attributes
    ----------
    files
        Names of the files in a run folder.
    """

    files = (TRACES, "traces.json", REGIONS_PICTURE)

    def __init__(
        self,
        regions: str,
        shape: tuple[int, int],
        folder: Path,
        *,
        dark: float,
        on_found: Callable[[Regions], None] = lambda _regions: None,
    ) -> None:
        radius = found_radius(regions)
        self.regions: Regions | None = None if radius is not None else read_regions(regions, shape)
        self._finds = radius is not None
        self._search = None if radius is None else RegionSearch(radius, self._opened)
        self._folder = folder
        self._dark = dark
        self._on_found = on_found
        self._meters: dict[StreamKey, RegionMeter] = {}
        self._file: TraceThread | None = None
        self._first: LiveFrame | None = None
        self._other_size = 0
        self._problem: str | None = None

    def open(self) -> None:
        """Create the files, where the regions are known already.

        Raises
        ------
        OutputExists
            When they are there.
        OSError
            When the disk refuses.
        """
        if self.regions is not None:
            self._file = self._create(self.regions)

    def _create(self, regions: Regions) -> TraceThread:
        import tifffile

        file = TraceFile(self._folder / TRACES, regions, dark=self._dark)
        tifffile.imwrite(self._folder / REGIONS_PICTURE, regions.labels())
        return TraceThread(file)

    def _opened(self, regions: Regions) -> tuple[Regions, TraceThread | None]:
        """Return the regions that were found and their file, None where it cannot be written; not in the lane."""
        try:
            return regions, self._create(regions)
        except (OSError, OutputExists) as error:
            self._problem = (
                f"{TRACES} could not be written ({one_line(error)}); the recording was not affected"
            )
            return regions, None

    def measure(self, frame: LiveFrame) -> FrameTraces | None:
        """Return the traces of a frame and hand them to the file; None before the regions are found."""
        self._first = self._first or frame
        regions = self.regions or self._found(frame)
        if regions is None:
            return None
        if frame.denoised.shape != regions.shape:
            self._other_size += 1
            return None
        meter = self._meters.get(frame.stream)
        if meter is None:
            meter = self._meters[frame.stream] = RegionMeter(regions, dark=self._dark)
        traces = meter.measure(frame.raw, frame.denoised, frame.std)
        if self._file is not None:
            time_s = frame.t_received_s - self._first.t_received_s
            self._file.offer(frame.index, frame.number, time_s, stream_name(frame.stream), traces)
        return traces

    def _found(self, frame: LiveFrame) -> Regions | None:
        assert self._first is not None
        if self._search is None or frame.stream != self._first.stream:
            return None
        self._take_found()
        if self._search is not None:
            self._search.add(frame.denoised)
        return self.regions

    def _take_found(self) -> None:
        """Take the regions once they are found; where there are none, `problem` says so."""
        assert self._search is not None
        try:
            found = self._search.result()
        except InvalidInput as error:
            self._search = None
            self._problem = one_line(error)
            return
        if found is not None:
            self._search = None
            self.regions, self._file = found
            self._on_found(self.regions)

    def close(self) -> TracesRecord:
        """Write what waits, and return what was written."""
        if self._search is not None:
            self._search.close(_PATIENCE_S)
            self._take_found()
        record = TracesRecord() if self._file is None else self._file.close()
        if self.regions is not None:
            record.regions, record.source = len(self.regions), self.regions.origin
        if self._file is not None and self._file.problem is not None:
            self._problem = self._problem or (
                f"{counted(record.missed, 'frame is', 'frames are')} missing in {TRACES} ({self._file.problem}); the "
                "recording was not affected"
            )
        return record

    @property
    def problem(self) -> str | None:
        """Sentence that says why the traces broke off, None where they did not."""
        return self._problem

    def notes(self, record: TracesRecord) -> list[str]:
        """Return what is worth knowing."""
        said = []
        if record.frames:
            said.append(
                f"{TRACES} holds {counted(record.regions, 'region')} in {counted(record.frames, 'denoised frame')}"
            )
        if self._search is not None:
            said.append(
                f"the recording ended before regions were found: that takes {FIND_FRAMES} denoised frames"
            )
        elif self._finds and self.regions is not None and not record.frames:
            said.append(
                f"no denoised frame came after the regions were found; {REGIONS_PICTURE} has the regions"
            )
        if self._other_size:
            said.append(
                f"{counted(self._other_size, 'frame')} of another size than the regions' have no traces"
            )
        return said
