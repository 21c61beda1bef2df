"""Cases that an interrupted benchmark has measured already."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from denoscope.acquisition.read_whole import read_whole
from denoscope.runtime import InvalidInput, counted

from .against import provenance_differences, read_report
from .cases import Case
from .results import Benchmark, CaseTimeline

__all__ = ["interrupted_words", "kept", "stopped_words"]


def interrupted_words(done: int, cases: int) -> str:
    """Return the note of a benchmark that the user interrupted."""
    return f"interrupted after {done} of {counted(cases, 'case')}, which are all there is"


def stopped_words(done: int, cases: int) -> str:
    """Return the note of a benchmark that is not at its end, should its process be killed."""
    return f"stopped after {done} of {counted(cases, 'case')}, which are all there is"


def kept(
    report: Path, timelines: Path, fresh: Benchmark, cases: Sequence[Case]
) -> tuple[Benchmark, list[CaseTimeline]]:
    """Return what an earlier run has measured without a problem, to go on with.

    Parameters
    ----------
    report, timelines
        Files of the earlier run; without a readable second one, times of single frames are missing in the picture.
    fresh
        The benchmark as it would begin now.
    cases
        What is to be measured in all.

    Raises
    ------
    InvalidInput
        If that run was of other cases, or of another computer or version.
    """
    old = read_report(report, "output")
    changed = provenance_differences(old.provenance, fresh.provenance)
    if changed:
        raise InvalidInput(
            f"{report} was begun on another computer or with other versions ({'; '.join(changed)}): resume there, or "
            "name another `output`."
        )
    others = [result.label for result in old.cases if result.case not in cases]
    if others:
        raise InvalidInput(
            f"{report} was begun with another bundle or other values, so it holds a case that is not measured now "
            f"({others[0]}): resume with the same, or name another `output`."
        )
    done = [result for result in old.cases if result.problem is None]
    ends = {stopped_words(len(old.cases), len(cases)), interrupted_words(len(old.cases), len(cases))}
    notes = [note for note in old.notes if note not in ends]
    if done and len(done) < len(cases):
        when = old.provenance.created_utc
        notes.append(
            f"resumed after {len(done)} of {counted(len(cases), 'case')}; the first was begun at {when}"
        )
    times = _read_timelines(timelines, old)
    times = [each for each, result in zip(times, old.cases, strict=True) if result in done]
    return fresh.model_copy(update={"provenance": old.provenance, "cases": done, "notes": notes}), times


def _read_timelines(path: Path, report: Benchmark) -> list[CaseTimeline]:
    """Return one for each case of a report, empty where the file does not hold them."""
    try:
        found = [CaseTimeline.model_validate(each) for each in json.loads(read_whole(path, "timelines"))]
    except (OSError, ValueError, TypeError, RecursionError):
        found = []
    if [each.label for each in found] == [result.label for result in report.cases]:
        return found
    return [CaseTimeline(label=result.label) for result in report.cases]
