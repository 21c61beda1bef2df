"""Traces, triggers, and frames handed to the user's program."""

from __future__ import annotations

from pydantic import Field

from .record import Record

__all__ = ["CallbackCounts", "TracesRecord", "TriggerRecord"]


class CallbackCounts(Record):
    """Frames handed to a function of the user's program.

    Attributes
    ----------
    offered, called, missed
        Denoised frames, calls of the function, and frames that it was too slow for.
    raised, error
        Calls that raised an error, and the first error.
    slowest_s
        Longest call.
    left_behind
        Whether the last call never came back.
    """

    offered: int = 0
    called: int = 0
    missed: int = 0
    raised: int = 0
    slowest_s: float = 0.0
    error: str | None = None
    left_behind: bool = False


class TracesRecord(Record):
    """Traces of regions that were written.

    Attributes
    ----------
    file, frames, missed
        Name of the file, frames in it, and frames that the disk was too slow for.
    regions, source
        How many regions, and where they come from.
    again
        The same of regions that were found again, one entry for each search.
    """

    file: str = ""
    frames: int = 0
    missed: int = 0
    regions: int = 0
    source: str = ""
    again: list[TracesRecord] = Field(default_factory=list)


class TriggerRecord(Record):
    """Firings of one trigger.

    Attributes
    ----------
    when, then
        Its condition and its action.
    fired, done, failed, not_done
        Times that the condition was met; actions done, failed, and left out because an earlier one still ran.
    held_off
        Times that the condition was met within the hold-off or beyond the limit, so that nothing was done.
    dry_run
        Whether actions were only noted in the log.
    delay_p50_s, delay_p99_s
        From the camera to the end of the action.
    problem
        What went wrong, None where nothing did.
    """

    when: str = ""
    then: str = ""
    fired: int = 0
    done: int = 0
    failed: int = 0
    not_done: int = 0
    held_off: int = 0
    dry_run: bool = False
    delay_p50_s: float | None = None
    delay_p99_s: float | None = None
    problem: str | None = None
