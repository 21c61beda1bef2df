"""Compare the pages of a raw recording with the lines of its sidecar, page by page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from denoscope.runtime import counted

if TYPE_CHECKING:
    from denoscope.acquisition.results import SessionReport

    from .writer import RawRecording

__all__ = ["CheckedRun"]


class CheckedRun:
    """Reads a recording so that each page goes with its own line, and counts what has none.

    Parameters
    ----------
    recording
        As `read_raw` opened it.
    report
        The session's report; None where it left none.
    """

    def __init__(self, recording: RawRecording, report: SessionReport | None) -> None:
        self._recording = recording
        self._report = report
        self._by_place = {
            record["at"]: index for index, record in enumerate(recording.records) if "at" in record
        }
        self._seen = 0
        self._unlisted: list[int] = []
        self._unlike: list[int] = []
        self._broken: str | None = None

    def frames(self) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        """Yield the line's index and the pixels of each page that has a line like it."""
        import tifffile

        if not self._recording.pages:
            return
        with tifffile.TiffFile(self._recording.path) as tiff:
            for number in range(self._recording.pages):
                try:
                    page: Any = tiff.pages[number]
                    index = self._by_place.get(page.dataoffsets[0]) if self._by_place else number
                    pixels = page.asarray()
                except Exception as error:  # noqa: BLE001  tifffile raises many kinds on a damaged file
                    self._broken = f"page {number} of {self._recording.path.name} cannot be read ({error})"
                    return
                if index is None or index >= len(self._recording.records):
                    self._unlisted.append(number)
                    continue
                record = self._recording.records[index]
                if list(pixels.shape) != list(record["shape"]) or pixels.dtype.name != record["dtype"]:
                    self._unlike.append(number)
                    continue
                self._seen += 1
                yield index, pixels

    def missing(self) -> list[str]:
        """Return a sentence for each thing that is missing; to be asked after `frames` came to its end."""
        name, sentences = self._recording.path.name, []
        if self._broken is not None:
            sentences.append(f"{self._broken}: what follows it is missing")
        lines = self._recording.lines
        if self._seen + len(self._unlike) < lines:
            count = lines - self._seen - len(self._unlike)
            sentences.append(f"raw.jsonl lists {counted(lines, 'frame')}, of which {name} lacks {count}")
        if self._unlisted:
            sentences.append(
                f"{counted(len(self._unlisted), 'page')} of {name} without a line in raw.jsonl, from page "
                f"{self._unlisted[0]} on, and "
                "were not denoised"
            )
        if self._unlike:
            sentences.append(
                f"{counted(len(self._unlike), 'page')} of {name} of another size or type than raw.jsonl says, from "
                "page "
                f"{self._unlike[0]} on, and were not denoised"
            )
        written = 0 if self._report is None else self._report.frames.written_raw
        if written > max(lines, self._recording.pages):
            sentences.append(
                f"the session wrote {counted(written, 'frame')}, and {name} holds {self._recording.pages}: "
                f"{written - self._recording.pages} are missing"
            )
        return sentences
