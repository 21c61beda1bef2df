"""Reports of a session to another program: an acquisition beside it, and whoever made a request."""

from __future__ import annotations

from .record import Record
from .report import HookCounts, SessionReport
from .watching import CallbackCounts

__all__ = ["HookReport", "RequestAnswer"]


class HookReport(HookCounts):
    """Report of a session beside another program's acquisition, as in ``hook.json``.

    Attributes
    ----------
    problem
        What went wrong, in one sentence; None where nothing did.
    report
        Report of the denoising process; None where it did not finish.
    on_denoised
        Denoised frames handed to a function of the user's program; None without one.
    """

    schema_version: int = 2
    problem: str | None = None
    report: SessionReport | None = None
    on_denoised: CallbackCounts | None = None


class RequestAnswer(Record):
    """Answer of a running session to a request, as in its ``log.jsonl``.

    Attributes
    ----------
    utc, event, state
        When it answered, what was asked for, and the session's state afterwards.
    received
        Frames received until then.
    done
        Whether the request changed anything.
    why
        Reason why it did not, where the state does not say it.
    """

    schema_version: int = 1
    utc: str = ""
    event: str = ""
    state: str = ""
    received: int = 0
    done: bool = False
    why: str | None = None
