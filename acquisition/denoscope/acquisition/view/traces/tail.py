"""Traces of a running recording as its folder has them: the file is read as it grows, the recording is not asked."""

from __future__ import annotations

import csv
import json
import re
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import numpy.typing as npt

from denoscope.acquisition.read_whole import read_whole
from denoscope.acquisition.regions.trace_file import TRACES, numbered_name
from denoscope.acquisition.session.recording.log import LOG

__all__ = ["Fired", "TraceTail", "TraceWindow"]

_AT_ONCE = 1 << 20  # bytes that are read at once
_BACK = 4 << 20  # bytes before the end of a file that was long already where reading begins
_KEPT_BYTES = 64 << 20
_FEWEST, _MOST = 600, 20_000  # frames that are kept
_MOST_FIRED = 1000
_HEAD = 4
_LINE = re.compile(rb'([^,]*),([^,]*),([^,]*),("(?:[^"]|"")*"|[^,]*),(.*)')

Values = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Fired:
    """One firing of a trigger, as the log has it.

    Attributes
    ----------
    page
        Page of ``raw.tif``.
    region
        Region that met the condition; empty where it was about the whole frame, or a program decided.
    done
        False where the action was left out or failed.
    """

    page: int
    region: str
    done: bool


@dataclass(frozen=True, slots=True)
class TraceWindow:
    """The newest seconds of some traces; rows are frames, columns are regions.

    Attributes
    ----------
    time_s
        ``(T,)``, seconds since the first frame.
    page
        ``(T,)``, page of ``raw.tif``.
    raw, dff, std
        ``(T, regions)``: raw mean, denoised mean and predicted standard deviation of the latter, each as a change over
        the baseline (dF/F, 1 is 100 %); NaN where there is no light.
    counts, counts_std
        ``(regions,)``: newest denoised mean and its deviation, in counts.
    """

    time_s: npt.NDArray[np.float64]
    page: npt.NDArray[np.int64]
    raw: Values
    dff: Values
    std: Values
    counts: Values
    counts_std: Values


class _Grown:
    """Reads the whole lines that were added to a file since the last time; the file is never kept open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._at = 0
        self._rest = b""

    def lines(self) -> list[bytes]:
        """Return them; none where there is no file or the disk does not answer."""
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(self._at)
                data = file.read(_AT_ONCE)
        except OSError:
            return []
        self._at += len(data)
        *whole, self._rest = (self._rest + data).split(b"\n")
        return whole

    def skip(self) -> None:
        """Go on near the end of a file that is long; the line that is cut there is left out by the caller."""
        with suppress(OSError):
            end = self.path.stat().st_size - _BACK
            if end > self._at:
                self._at, self._rest = end, b"cut "


class TraceTail:
    """Follow ``traces.csv``, and the firings in ``log.jsonl``, of a run folder.

    A reader that is late reads on where it stopped; one that begins late reads the last 4 MB. Only the newest frames
    are kept, 64 MB of them at most.

    Parameters
    ----------
    folder
        Run folder; the files need not be there yet.
    number
        1 for the first regions, 2 for those that were found again, and so on.
    """

    def __init__(self, folder: Path, number: int = 1) -> None:
        self.number = number
        self.names: tuple[str, ...] = ()
        self.fired: deque[Fired] = deque(maxlen=_MOST_FIRED)
        self.frames = 0
        """Frames read so far."""
        self._path = folder / numbered_name(TRACES, number)
        self._next = folder / numbered_name(TRACES, number + 1)
        self._file = _Grown(self._path)
        self._log = _Grown(folder / LOG)
        self._dark = 0.0
        self._streams: list[str] = []
        self._size = 0

    def read(self) -> bool:
        """Read what was added; return whether there was anything."""
        lines = self._file.lines()
        if lines and not self.names:
            self._begin(lines.pop(0))
            if self.names:
                self._file.skip()
        for line in lines:
            self._add(line)
        firings = [found for line in self._log.lines() if (found := _firing(line)) is not None]
        self.fired.extend(firings)
        return bool(lines or firings)

    @property
    def followed(self) -> bool:
        """True once regions were found again, whose traces are in the next file."""
        return self._next.exists()

    def newest(self, names: tuple[str, ...], seconds: float, stream: str = "") -> TraceWindow | None:
        """Return the last seconds of some regions, None before the first frame.

        Parameters
        ----------
        names
            Regions that the file has.
        seconds
            How many, back from the newest frame.
        stream
            As the session's status names it; empty for the only one.
        """
        kept = min(self.frames, self._size)
        if not kept:
            return None
        order = np.arange(self.frames - kept, self.frames) % self._size
        wanted = self._stream(stream)
        times = self._times[order]
        order = order[(times >= times.max() - seconds) & (self._stream_of[order] == wanted)]
        if not len(order):
            return None
        columns = [self.names.index(name) for name in names]
        raw, denoised, std, dff = (self._values[order][:, kind][:, columns] for kind in range(4))
        with np.errstate(divide="ignore", invalid="ignore"):
            light = (denoised - self._dark) / (1 + dff)
            change = (raw - self._dark) / light - 1
            band = std / light
        return TraceWindow(self._times[order], self._pages[order], change, dff, band, denoised[-1], std[-1])

    def liveliest(self, count: int, seconds: float, stream: str = "") -> tuple[str, ...]:
        """Return the regions whose denoised mean rose most, in deviations, in the last seconds; in the file's order."""
        window = self.newest(self.names, seconds, stream)
        if window is None:
            return self.names[:count]
        with np.errstate(invalid="ignore", divide="ignore"):
            rise = np.nan_to_num(np.nanmax(window.dff, axis=0) / np.nanmean(window.std, axis=0), posinf=0.0)
        best = np.argsort(rise)[::-1][:count]
        return tuple(self.names[place] for place in np.sort(best))

    def _begin(self, line: bytes) -> None:
        head = next(csv.reader(StringIO(line.decode("utf-8", "replace"))), [])
        count = (len(head) - _HEAD) // 4
        self.names = tuple(name.removeprefix("raw_") for name in head[_HEAD : _HEAD + count])
        if not self.names:
            return
        self._size = max(_FEWEST, min(_MOST, _KEPT_BYTES // (16 * count)))
        self._times = np.zeros(self._size)
        self._pages = np.zeros(self._size, np.int64)
        self._stream_of = np.zeros(self._size, np.int64)
        self._values = np.zeros((self._size, 4, count), np.float32)
        with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
            about = json.loads(read_whole(self._path.with_suffix(".json"), "traces' list"))
            self._dark = float(about["dark"])

    def _add(self, line: bytes) -> None:
        """Take one line; one that is cut is left out."""
        match = _LINE.fullmatch(line)
        if match is None:
            return
        try:
            page, number, time_s = int(match[1]), int(match[2]), float(match[3] or b"nan")
            values = np.array(match[5].split(b","), np.float32)
        except ValueError:
            return
        if len(values) != 4 * len(self.names):
            return
        stream = match[4].strip(b'"').decode("utf-8", "replace")
        if stream not in self._streams:
            self._streams.append(stream)
        at = self.frames % self._size
        self._times[at] = number if np.isnan(time_s) else time_s
        self._pages[at], self._stream_of[at] = page, self._streams.index(stream)
        self._values[at] = values.reshape(4, -1)
        self.frames += 1

    def _stream(self, name: str) -> int:
        """Return the place of a stream that the status writes with dots between its parts."""
        wanted = _squeezed(name)
        return next((place for place, each in enumerate(self._streams) if _squeezed(each) == wanted), 0)


def _squeezed(name: str) -> str:
    return re.sub(r"[\s·]", "", name).replace('"', "'")


def _firing(line: bytes) -> Fired | None:
    if b'"trigger"' not in line:
        return None
    try:
        words = json.loads(line)
        if words["event"] != "trigger":
            return None
        done = words["outcome"] in ("done", "dry run")
        return Fired(int(words["page"]), str(words["region"] or ""), done)
    except (ValueError, KeyError, TypeError):
        return None
