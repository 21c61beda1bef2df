"""Traces of a running session: regions are read or found, measured in every denoised frame, and written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from denoscope.acquisition.errors import OutputExists, one_line
from denoscope.acquisition.frames.live_frame import LiveFrame
from denoscope.acquisition.regions.finding import FIND_FRAMES, FOUND_IN_THE_FIRST, RegionFinder
from denoscope.acquisition.regions.measure import FrameTraces, RegionMeter
from denoscope.acquisition.regions.reading import FIND_RADIUS_PX, found_radius, read_regions
from denoscope.acquisition.regions.regions import Regions, label_numbers
from denoscope.acquisition.regions.search import RegionSearch
from denoscope.acquisition.regions.trace_file import (
    REGIONS_PICTURE,
    TRACES,
    TraceFile,
    TraceThread,
    numbered_name,
    stream_name,
)
from denoscope.acquisition.results import TracesRecord
from denoscope.runtime import InvalidInput, counted

if TYPE_CHECKING:
    from denoscope.runtime import StreamKey

__all__ = ["LiveTraces"]

_PATIENCE_S = 5.0
_MOST_SETS = 20  # each is measured in every frame until the end


@dataclass
class _Set:
    """Regions that were read or found together, their file, and their meters."""

    number: int
    regions: Regions
    file: TraceThread | None
    meters: dict[StreamKey, RegionMeter] = field(default_factory=dict)

    def measure(self, frame: LiveFrame, time_s: float, dark: float) -> FrameTraces | None:
        """Return the traces of a frame, None where it has another size."""
        if frame.denoised.shape != self.regions.shape:
            return None
        meter = self.meters.get(frame.stream)
        if meter is None:
            meter = self.meters[frame.stream] = RegionMeter(self.regions, dark=dark)
        traces = meter.measure(frame.raw, frame.denoised, frame.std)
        if self.file is not None:
            self.file.offer(frame.index, frame.number, time_s, stream_name(frame.stream), traces)
        return traces


class LiveTraces:
    """Measure a session's regions.

    Regions that are found again are measured beside those before, each in new files, and their numbers go on
    after those before, so that a number is one region in the whole recording.

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
        Names of the files that are in a run folder from the beginning.
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
        self._given = None if radius is not None else read_regions(regions, shape)
        self._radius_px = radius or FIND_RADIUS_PX
        self._folder = folder
        self._dark = dark
        self._on_found = on_found
        self._sets: list[_Set] = []
        self._lock = Lock()  # of `_search` and `_problems`
        self._search: RegionSearch[_Set] | None = None
        self._first: LiveFrame | None = None
        self._other_size = 0
        self._problems: list[str] = []
        if radius is not None:
            self._search = self._make_search(radius)

    @property
    def regions(self) -> Regions | None:
        """The newest regions, None before they are found."""
        return self._sets[-1].regions if self._sets else self._given

    @property
    def searching(self) -> bool:
        """True while cells are searched."""
        return self._search is not None

    def open(self) -> None:
        """Create the files, where the regions are known already.

        Raises
        ------
        OutputExists
            When they are there.
        OSError
            When the disk refuses.
        """
        if self._given is not None:
            self._sets = [_Set(1, self._given, self._create(1, self._given))]

    def find_again(self, radius_px: float | None = None) -> str | None:
        """Search cells in the next denoised frames; any thread may call it.

        Parameters
        ----------
        radius_px
            Radius of a cell; None for that of the search before.

        Returns
        -------
        str | None
            None, or the reason why no search begins.
        """
        with self._lock:
            if self._search is not None:
                return "cells are being searched already"
            if len(self._sets) >= _MOST_SETS:
                return f"regions were found {_MOST_SETS} times in this recording, which is the limit"
            self._radius_px = radius_px or self._radius_px
            self._search = self._make_search(self._radius_px)
        return None

    def _make_search(self, radius_px: float) -> RegionSearch[_Set]:
        origin = FOUND_IN_THE_FIRST
        if self._sets:
            origin = f"cells of {radius_px:g} pixels radius, found again in {FIND_FRAMES} frames"
        return RegionSearch(RegionFinder(radius_px, origin=origin), self._opened)

    def _create(self, number: int, regions: Regions) -> TraceThread:
        import tifffile

        file = TraceFile(self._folder / numbered_name(TRACES, number), regions, dark=self._dark)
        tifffile.imwrite(self._folder / numbered_name(REGIONS_PICTURE, number), regions.labels())
        return TraceThread(file)

    def _opened(self, found: Regions) -> _Set:
        """Return the regions that were found, with their files; called by the thread that searched."""
        number = len(self._sets) + 1
        regions = found
        if self._sets:
            before = max(int(label_numbers(each.regions.names).max()) for each in self._sets)
            regions = found.numbered_from(before + 1)
        try:
            return _Set(number, regions, self._create(number, regions))
        except (OSError, OutputExists) as error:
            with self._lock:
                self._problems.append(
                    f"{numbered_name(TRACES, number)} could not be written ({one_line(error)}); the recording was not "
                    "affected"
                )
            return _Set(number, regions, None)

    def measure(self, frame: LiveFrame) -> list[FrameTraces]:
        """Return the traces of a frame, of the newest regions first, and hand them to the files.

        The list is empty before regions are found, and for frames of another size.
        """
        self._first = self._first or frame
        if self._search is not None and frame.stream == self._first.stream:
            self._search_on(frame)
        time_s = frame.t_received_s - self._first.t_received_s
        measured = [each.measure(frame, time_s, self._dark) for each in reversed(self._sets)]
        found = [traces for traces in measured if traces is not None]
        self._other_size += bool(self._sets) and not found
        return found

    def _search_on(self, frame: LiveFrame | None) -> None:
        """Take the regions once they are found, else give the search a frame; where it fails, `problems` says so."""
        search = self._search
        assert search is not None
        try:
            found = search.result()
            if found is None and frame is not None:
                search.add(frame.denoised)
        except Exception as error:  # noqa: BLE001  too little memory, for example: the regions before go on
            with self._lock:
                self._search = None
                why = one_line(error).rstrip(".")
                if isinstance(error, InvalidInput):
                    why += ", when they were to be found again" if self._sets else ""
                else:
                    again = " again" if self._sets else ""
                    why = f"regions could not be found{again} ({why}); the recording was not affected"
                self._problems.append(why)
            return
        if found is not None:
            with self._lock:
                self._sets.append(found)
                self._search = None
            self._on_found(found.regions)

    def close(self) -> TracesRecord:
        """Write what waits, and return what was written."""
        if self._search is not None:
            self._search.close(_PATIENCE_S)
            self._search_on(None)
        records = [self._closed(each) for each in self._sets]
        if not records:
            return TracesRecord()
        records[0].again = records[1:]
        return records[0]

    def _closed(self, one: _Set) -> TracesRecord:
        record = TracesRecord() if one.file is None else one.file.close()
        record.regions, record.source = len(one.regions), one.regions.origin
        if one.file is not None and one.file.problem is not None:
            self._problems.append(
                f"{counted(record.missed, 'frame is', 'frames are')} missing in {record.file} ({one.file.problem}); "
                "the recording was not affected"
            )
        return record

    @property
    def problems(self) -> list[str]:
        """Sentences that say why traces broke off or regions were not found."""
        with self._lock:
            return list(self._problems)

    def notes(self, record: TracesRecord) -> list[str]:
        """Return what is worth knowing."""
        said = []
        for one, each in zip(self._sets, [record, *record.again], strict=False):
            if each.frames:
                regions, frames = (
                    counted(each.regions, "region"),
                    counted(each.frames, "denoised frame"),
                )
                said.append(f"{each.file} holds {regions} in {frames}")
            elif one.regions is not self._given:
                picture = numbered_name(REGIONS_PICTURE, one.number)
                said.append(f"no denoised frame came after the regions of {picture} were found")
        if self._search is not None:
            again = " again" if self._sets else ""
            said.append(
                f"the recording ended before regions were found{again}: that takes {FIND_FRAMES} denoised frames"
            )
        if self._other_size:
            said.append(
                f"{counted(self._other_size, 'frame')} of another size than the regions' have no traces"
            )
        return said
