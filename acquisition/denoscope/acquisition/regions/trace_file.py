"""Traces on the disk: ``traces.csv``, one line a frame, readable at any moment and after a crash."""

from __future__ import annotations

import csv
import json
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.acquisition.errors import OutputExists, one_line
from denoscope.acquisition.raw.confirm import confirm
from denoscope.acquisition.results import TracesRecord
from denoscope.runtime import InvalidInput

from .baseline import BASELINE
from .measure import FrameTraces
from .regions import Regions, label_numbers

__all__ = [
    "REGIONS_PICTURE",
    "TRACES",
    "TraceFile",
    "TraceTable",
    "TraceThread",
    "numbered_name",
    "read_traces",
    "stream_name",
]

TRACES = "traces.csv"
REGIONS_PICTURE = "regions.tif"
_KINDS = ("raw", "denoised", "std", "dff")
_HEAD = ("page", "frame", "time_s", "stream")
_SYNC_EVERY_S = 1.0
_MOST_WAITING = 2000
_CLOSE_S = 20.0


@dataclass(frozen=True, slots=True)
class TraceTable:
    """Traces as they were read from a file; rows are frames, columns are regions.

    Attributes
    ----------
    names
        Of the regions.
    page
        ``(T,)``, page of ``raw.tif``, or the frame of the movie.
    frame
        ``(T,)``, number of the frame in its stream.
    time_s
        ``(T,)``, seconds since the first frame; NaN where unknown.
    stream
        Camera, channel, slice and position of each frame; empty where there is one stream.
    raw, denoised, std, dff
        ``(T, regions)``; see `FrameTraces`.
    torn
        Whether the last line was not complete, as after a power cut; it is left out.
    """

    names: tuple[str, ...]
    page: npt.NDArray[np.int64]
    frame: npt.NDArray[np.int64]
    time_s: npt.NDArray[np.float64]
    stream: tuple[str, ...]
    raw: npt.NDArray[np.float64]
    denoised: npt.NDArray[np.float64]
    std: npt.NDArray[np.float64]
    dff: npt.NDArray[np.float64]
    torn: bool = False

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.page)


def numbered_name(name: str, number: int) -> str:
    """Return the name of a file of the regions that were found first, again (2), and so on: ``traces-2.csv``."""
    stem, dot, suffix = name.rpartition(".")
    return name if number == 1 else f"{stem}-{number}{dot}{suffix}"


def read_traces(path: Path | str) -> TraceTable:
    """Return the traces in a file, or in the run folder that holds it; also while it grows.

    Parameters
    ----------
    path
        ``traces.csv``, or a folder.

    Returns
    -------
    TraceTable
        Names of the regions, and one row a frame: raw and denoised means in counts, and dF/F.

    Raises
    ------
    InvalidInput
        When it is no file of traces, or a line in its middle is damaged.
    FileNotFoundError
        When there is none.

    Examples
    --------
    >>> traces = read_traces("run")  # doctest: +SKIP
    >>> traces.dff[:, traces.names.index("soma 3")]  # doctest: +SKIP
    """
    path = Path(path)
    path = path / TRACES if path.is_dir() else path
    text = path.read_text(encoding="utf-8", errors="replace")
    complete, _, torn = text.rpartition("\n")
    lines = complete.split("\n")
    head = next(csv.reader(StringIO(lines[0])))
    count, rest = divmod(len(head) - len(_HEAD), len(_KINDS))
    names = tuple(name.removeprefix("raw_") for name in head[len(_HEAD) : len(_HEAD) + count])
    if tuple(head[: len(_HEAD)]) != _HEAD or rest or count == 0 or head != _columns(names):
        raise InvalidInput(f"{path} holds no traces of denoscope; name a traces.csv.")
    rows: list[list[float]] = []
    streams: list[str] = []
    for number, line in enumerate(lines[1:], 2):
        cells = next(csv.reader(StringIO(line)), [])
        row = _numbers(cells) if len(cells) == len(head) else None
        if row is not None:
            rows.append(row)
            streams.append(cells[3])
        elif number == len(lines):  # a power cut may leave a line that ends and is not whole
            torn = line
        else:
            raise InvalidInput(
                f"line {number} of {path} is damaged: it has {len(cells)} of {len(head)} values; delete it "
                "to read the others."
            )
    table = np.array(rows, np.float64).reshape(len(rows), len(head) - 1)
    kinds = {name: table[:, 3 + place * count : 3 + (place + 1) * count] for place, name in enumerate(_KINDS)}
    return TraceTable(
        names,
        table[:, 0].astype(np.int64),
        table[:, 1].astype(np.int64),
        table[:, 2],
        tuple(streams),
        torn=bool(torn),
        **kinds,
    )


def _numbers(cells: list[str]) -> list[float] | None:
    try:
        return [float(cell or "nan") for place, cell in enumerate(cells) if place != 3]
    except ValueError:
        return None


def _columns(names: tuple[str, ...]) -> list[str]:
    return [*_HEAD, *(f"{kind}_{name}" for kind in _KINDS for name in names)]


class TraceFile:
    """Append lines to a file of traces; every line is handed to the system at once, and to the disk by `sync`.

    Beside it lies ``traces.json`` with the names of the regions, their sizes, their numbers in a label image, and what
    the baseline is.

    Parameters
    ----------
    path
        The file; it must not exist, unless `keep` lines of it are kept.
    regions
        What was measured.
    dark
        Counts without light.
    keep
        Lines of frames to keep of a file that is continued; None for a new file.
    about
        Name that the file will get, and ``.json`` with it; None for `path`.

    Raises
    ------
    OutputExists
        When a new file would take the place of another.
    OSError
        When the disk refuses.
    """

    def __init__(
        self,
        path: Path,
        regions: Regions,
        *,
        dark: float = 0.0,
        keep: int | None = None,
        about: Path | None = None,
    ) -> None:
        self.path = path
        self.lines = keep or 0
        if keep is None:
            if os.path.lexists(path):
                raise OutputExists(f"{path} exists and is never overwritten; name another file.")
            self._file = path.open("xb", buffering=0)
            line = StringIO()
            csv.writer(line, lineterminator="\n").writerow(_columns(regions.names))
            self._write(line.getvalue().encode())
        else:
            self._file = path.open("r+b", buffering=0)
            self._file.truncate(_end_of_line(path, keep + 1))
            self._file.seek(0, os.SEEK_END)
        described = {
            "regions": dict(zip(regions.names, regions.sizes.tolist(), strict=True)),
            "labels": dict(zip(regions.names, label_numbers(regions.names).tolist(), strict=True)),
            "from": regions.origin,
            "dark": dark,
            "baseline": BASELINE,
            "columns": {
                "page": "page of raw.tif, or frame of the movie, from 0",
                "frame": "number of the frame in its stream",
                "time_s": "seconds since the first frame",
                "stream": "camera, channel, slice and position, where there are several",
                "raw_*": "mean of the region's pixels in the raw frame",
                "denoised_*": "mean of the region's pixels in the denoised frame",
                "std_*": "predicted standard deviation of denoised_*",
                "dff_*": "(denoised - baseline) / (baseline - dark)",
            },
        }
        (about or path).with_suffix(".json").write_text(
            json.dumps(described, indent=2) + "\n", encoding="utf-8"
        )
        self._values = ",".join(["%.9g"] * (len(_KINDS) * len(regions))) + "\n"

    def append(self, page: int, frame: int, time_s: float | None, stream: str, traces: FrameTraces) -> None:
        """Write the traces of one frame."""
        when = "" if time_s is None else f"{time_s:.6f}"
        name = f'"{stream}"' if "," in stream else stream
        values = np.concatenate([traces.raw, traces.denoised, traces.std, traces.dff])
        self._write(f"{page},{frame},{when},{name},{self._values % tuple(values.tolist())}".encode())
        self.lines += 1

    def sync(self) -> OSError | None:
        """Wait until all is on the disk; return its answer where it cannot confirm that."""
        return confirm(self._file.fileno())

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._file.close()

    def _write(self, line: bytes) -> None:
        view = memoryview(line)
        while view:
            view = view[self._file.write(view) or 0 :]


def _end_of_line(path: Path, lines: int) -> int:
    """Return where the first so many lines end.

    Raises
    ------
    InvalidInput
        When there are fewer.
    """
    end = found = 0
    with path.open("rb") as file:
        for line in file:
            if found == lines or not line.endswith(b"\n"):
                break
            end, found = end + len(line), found + 1
    if found < lines:
        raise InvalidInput(f"{path} has fewer frames than the denoised movie; begin anew without `resume`.")
    return end


class TraceThread:
    """Write traces from a thread, so that a disk that is busy holds up neither camera nor denoiser.

    Parameters
    ----------
    file
        Where to; closed at the end.
    """

    def __init__(self, file: TraceFile) -> None:
        self.problem: str | None = None
        self.missed = 0
        self._file = file
        self._rows: deque[tuple[int, int, float | None, str, FrameTraces]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="denoscope-traces", daemon=True)
        self._thread.start()

    def offer(self, page: int, frame: int, time_s: float | None, stream: str, traces: FrameTraces) -> None:
        """Hand over the traces of one frame; never waits."""
        with self._changed:
            if self.problem is not None or len(self._rows) >= _MOST_WAITING:
                self.missed += 1
                return
            self._rows.append((page, frame, time_s, stream, traces))
            self._changed.notify()

    def close(self) -> TracesRecord:
        """Write what waits, for some seconds at most, and return what was written."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(_CLOSE_S)
        if self._thread.is_alive():
            self.problem = self.problem or "the disk did not answer"
            self.missed += len(self._rows)
        else:
            self._file.close()
        if self.missed and self.problem is None:
            self.problem = "the disk was too slow"
        return TracesRecord(file=self._file.path.name, frames=self._file.lines, missed=self.missed)

    def _run(self) -> None:
        synced_s = time.monotonic()
        for row in self._waiting():
            try:
                self._file.append(*row)
                if time.monotonic() - synced_s >= _SYNC_EVERY_S:
                    self._file.sync()
                    synced_s = time.monotonic()
            except (OSError, ValueError) as error:
                self._fail(error)
                return
        try:
            self._file.sync()
        except OSError as error:
            self._fail(error)

    def _waiting(self) -> Iterator[tuple[int, int, float | None, str, FrameTraces]]:
        while True:
            with self._changed:
                while not self._rows and not self._closed:
                    self._changed.wait()
                if not self._rows:
                    return
                row = self._rows.popleft()
            yield row

    def _fail(self, error: Exception) -> None:
        with self._changed:
            self.problem = one_line(error)
            self.missed += len(self._rows) + 1
            self._rows.clear()


def stream_name(key: Any) -> str:
    """Return a stream as one word for the file; empty for the only one."""
    parts = [
        key.camera,
        key.channel,
        f"z{key.z}" if key.z else "",
        f"pos{key.position}" if key.position else "",
    ]
    return " ".join(part for part in parts if part).replace('"', "'").replace("\n", " ")
