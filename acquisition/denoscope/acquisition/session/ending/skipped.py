"""The end of a session that skipped frames: shown as measured, then computed, and said."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from denoscope.acquisition.errors import one_line
from denoscope.acquisition.raw.disk import free_bytes
from denoscope.acquisition.results import NotDenoised
from denoscope.acquisition.sinks.ome import ranges
from denoscope.runtime import counted

from .report import write_report

if TYPE_CHECKING:
    from denoscope.acquisition.processes.signals import Interrupts
    from denoscope.acquisition.results import SessionReport
    from denoscope.acquisition.session.opening.open_run import OpenRun

__all__ = ["Skipped", "fill_skipped", "show_skipped", "skipped_sentences"]

_SPOKEN = 8
_FILLED_AFTER = ("frames_reached", "time_reached", "source_ended", "stopped")
_OVERHEAD = 2048  # bytes of a page beside its pixels


@dataclass
class Skipped:
    """Frames that were not denoised while recording.

    Attributes
    ----------
    pages
        Pages of ``raw.tif``.
    shown_as
        ``measured`` or, where the raw frames are elsewhere or the disk is full, ``repeated``; None for no frames.
    known
        Whether it could be found out which they are; False where the denoiser hangs or the disk is full.
    """

    pages: list[int]
    shown_as: str | None = None
    known: bool = True

    def record(self) -> NotDenoised:
        """Return them as they go into the report."""
        return NotDenoised(
            pages=[(first, last) for first, last in ranges(self.pages)], shown_as=self.shown_as
        )


def show_skipped(run: OpenRun) -> Skipped:
    """Write the measured frame wherever a session has no denoised one; the lane has ended.

    Errors of the disk pass through: the denoised movie then is what it was.
    """
    from denoscope.acquisition.offline.gaps import show_measured

    status, settings = run.session.status(), run.settings
    count = sum(status.dropped.values())
    if not count:
        return Skipped([])
    if not settings.keep_raw or run.files.raw.restored is not None:
        return Skipped([], "repeated")
    bytes_a_frame = run.info.shape[0] * run.info.shape[1] * run.given.dtype.itemsize
    needed = count * (bytes_a_frame * (3 if settings.std else 1) + _OVERHEAD)
    room = free_bytes(run.files.folder) - needed > settings.reserve_mb * 1e6 / 2
    pages = show_measured(
        run.files.folder, settings.streams, run.files.movie, run.convert, goes_on=lambda: room
    )
    shown = "measured" if room else "repeated"
    if pages:
        run.provenance["frames_not_denoised"] = (
            f"{_listed(ranges(pages))} (pages of raw.tif), shown as {shown}"
        )
        run.files.log.write("not denoised", pages=ranges(pages), shown_as=shown)
    return Skipped(pages, shown if pages else None)


def fill_skipped(
    run: OpenRun,
    report: SessionReport,
    skipped: Skipped,
    caught: Interrupts,
    on_fill: Callable[[int, int], None],
) -> None:
    """Compute the skipped frames of a session that ended well; everything of it is closed and on the disk."""
    settings = run.settings
    # Nobody may read the run folder, and the rescue folder holds a part of its frames only.
    if run.files.hangs:
        return
    if not skipped.pages:
        if not skipped.known and settings.keep_raw and report.frames.denoised < report.frames.received:
            report.fill_command = fill_command(run)
        return
    report.fill_command = fill_command(run)
    wanted = settings.fill and report.outcome.reason in _FILLED_AFTER
    if wanted and settings.keep_raw and skipped.shown_as == "repeated":
        were = counted(len(skipped.pages), "skipped frame was", "skipped frames were")
        report.outcome.add_problem(
            f"{were} not computed at the end, because the disk has no room for them beside half the reserve of "
            f"{settings.reserve_mb:g} MB; free space, then fill the run"
        )
    if not wanted or skipped.shown_as != "measured" or caught.count or run.lane.problem is not None:
        return
    from denoscope.acquisition.offline.fill import fill_in_place

    with suppress(OSError):  # a kill from here on leaves a report that is true
        write_report(report, run.files.folder)
    caught.listener = lambda: None

    def on_frame(done: int, total: int) -> None:
        with suppress(Exception):  # a terminal that was closed ends nothing
            on_fill(done, total)

    def on_untrue(sentence: str) -> None:
        report.outcome.add_problem(f"of the frames computed afterwards, {sentence}")

    started_s = time.perf_counter()
    try:
        computed = fill_in_place(
            run.files.folder,
            camera=run.camera,
            std=settings.std,
            on_frame=on_frame,
            goes_on=lambda: caught.count == 0,
            on_untrue=on_untrue,
        )
    except Exception as error:  # noqa: BLE001  the recording is complete, and the report must be written
        report.outcome.add_problem(f"the skipped frames could not be computed now ({one_line(error)})")
        return
    report.frames.computed_afterwards = computed
    report.timing.fill_s = time.perf_counter() - started_s
    if computed >= len(skipped.pages):
        report.fill_command = None
    elif caught.count:
        report.outcome.exit_code = report.outcome.exit_code or 130
    else:
        left = counted(len(skipped.pages) - computed, "skipped frame", "skipped frames")
        report.outcome.add_problem(f"{left} could not be computed at the end")
    run.files.log.write("computed afterwards", frames=computed, left=len(skipped.pages) - computed)


def fill_command(run: OpenRun) -> str:
    """Return the exact command that computes what a session skipped."""
    settings = run.settings
    words = ["denoscope", "denoise", "--fill", str(run.files.folder)]
    for name in ("camera_gain", "camera_offset", "camera_roi"):
        value = getattr(settings, name)
        if value is not None:
            words += ["--" + name.replace("_", "-"), str(value)]
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def skipped_sentences(report: SessionReport) -> list[str]:
    """Return what a user is told about the frames that were not denoised while recording."""
    skipped, computed = report.frames.not_denoised, report.frames.computed_afterwards
    if not skipped.count and report.fill_command is not None:
        return [f"The denoised movie is not complete. To fill: {report.fill_command}"]
    if not skipped.count:
        return []
    if computed >= skipped.count:
        return ["The skipped frames were computed afterwards: the denoised movie is complete."]
    listed = _listed(skipped.pages, _SPOKEN)
    lines = [f"Skipped frames, counted from 0: {listed}."]
    if computed:
        lines.append(f"{computed} of them were computed afterwards.")
    what = "the raw frame" if skipped.shown_as == "measured" else "the frame before it"
    lines.append(f"The denoised movie shows {what} for {counted(skipped.count - computed, 'frame')}.")
    if report.fill_command is not None:
        lines.append(f"To fill: {report.fill_command}")
    return lines


def _listed(stretches: Sequence[Sequence[int]], most: int | None = None) -> str:
    """Return stretches of numbers in words, only the first ones where there are more than `most`."""
    words = [f"{first}" if first == last else f"{first}-{last}" for first, last in stretches[:most]]
    more = sum(last - first + 1 for first, last in stretches[len(words) :])
    return ", ".join(words) + (f" and {more} more" if more else "")
