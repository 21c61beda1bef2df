"""Run every case in a process of its own, and write what they found."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from denoscope.acquisition.diagnostics.machine import load_average
from denoscope.acquisition.errors import OutputExists, one_line
from denoscope.runtime import counted
from denoscope.runtime.children import child_command, child_environment

from .against import SCHEMA, compare, compare_whole_window, read_report
from .cases import Case
from .play import KEEP_UP
from .provenance import provenance
from .tables import markdown

__all__ = ["PICTURE", "REPORT", "TABLES", "TIMELINES", "bench"]

REPORT, TIMELINES, TABLES, PICTURE = "bench.json", "timelines.json", "bench.md", "bench.png"

_CLOCK_LATE_S = 0.1
_LONGEST_S = 3600.0  # beyond what the frames themselves take; a search over slow rates is long


def bench(
    cases: Sequence[Case],
    output: Path,
    *,
    left_out: Mapping[str, str] | None = None,
    against: Path | None = None,
    on_case: Callable[[int, Case, Mapping[str, Any] | None], None] | None = None,
) -> dict[str, Any]:
    """Measure the cases one after the other and write the report, the tables and the picture.

    Parameters
    ----------
    cases
        What to measure.
    output
        Folder for ``bench.json``, ``timelines.json``, ``bench.md`` and ``bench.png``; created, and refused
        when it holds one of them.
    left_out
        Backends that are not measured, with the reason.
    against
        The ``bench.json`` of an earlier run, or its folder, to compare with.
    on_case
        Called before a case with its position and None, and after it with its result.

    Returns
    -------
    dict
        What ``bench.json`` holds.

    Raises
    ------
    OutputExists
        If the folder holds a benchmark.
    InvalidInput
        If `against` is no benchmark.
    KeyboardInterrupt
        When it was interrupted; the cases measured until then are written first.
    """
    for name in (REPORT, TIMELINES, TABLES, PICTURE):
        if (output / name).exists():
            raise OutputExists(f"{output / name} exists and is not overwritten; name another `output`.")
    if output.exists() and not output.is_dir():
        raise OutputExists(f"`output` {output} is a file; name a folder.")
    earlier = read_report(against) if against is not None else None
    output.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {
        "bench_schema": SCHEMA,
        "provenance": provenance(),
        "keep_up": dict(KEEP_UP),
        "backends_left_out": dict(left_out or {}),
        "cases": [],
        "comparison": None,
        "whole_window": [],
        "notes": [],
    }
    timelines: list[dict[str, Any]] = []
    try:
        _measure_all(cases, report, timelines, on_case)
    except KeyboardInterrupt:
        done = len(report["cases"])
        report["notes"].append(
            f"interrupted after {done} of {counted(len(cases), 'case')}, which are all there is"
        )
        _write(report, timelines, output, earlier, against)
        raise
    _write(report, timelines, output, earlier, against)
    return report


def _measure_all(
    cases: Sequence[Case],
    report: dict[str, Any],
    timelines: list[dict[str, Any]],
    on_case: Callable[[int, Case, Mapping[str, Any] | None], None] | None,
) -> None:
    for position, case in enumerate(cases):
        if on_case is not None:
            on_case(position, case, None)
        load = load_average()
        result = _measure(case)
        result["load_average_1min_before"] = load
        timelines.append({"label": case.label, "timeline": result.pop("timeline", None)})
        report["cases"].append(result)
        late_s = result.get("clock_late_max_s", 0.0)
        if late_s > _CLOCK_LATE_S:
            report["notes"].append(
                f"{case.label}: the clock itself was up to {late_s:.2f} s late, so the computer stood still or "
                "was overloaded, and the percentiles are those of the interruption; run it again"
            )
        if on_case is not None:
            on_case(position, case, result)


def _write(
    report: dict[str, Any],
    timelines: list[dict[str, Any]],
    output: Path,
    earlier: Mapping[str, Any] | None,
    against: Path | None,
) -> None:
    report["whole_window"] = compare_whole_window(report["cases"])
    if earlier is not None:
        report["comparison"] = compare(report, earlier, str(against))
    (output / TIMELINES).write_text(json.dumps(timelines) + "\n", encoding="utf-8")
    _draw(report, timelines, output / PICTURE)
    (output / TABLES).write_text(markdown(report), encoding="utf-8")
    (output / REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _measure(case: Case) -> dict[str, Any]:
    """Run one case in a fresh interpreter, so that its start and its memory are its own."""
    limit_s = _LONGEST_S + 2 * case.frames / case.fps
    failed: dict[str, Any] = {"case": case.model_dump(), "label": case.label}
    try:
        done = subprocess.run(  # noqa: S603  this program's own interpreter and module
            child_command("denoscope.acquisition.bench.worker"),
            env=child_environment(),
            input=case.model_dump_json(),
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {**failed, "problem": f"it did not end within {limit_s:.0f} s"}
    lines = done.stdout.strip().splitlines()
    try:
        answer = json.loads(lines[-1]) if lines else None
    except ValueError:
        answer = None
    if done.returncode != 0 or not isinstance(answer, dict):
        last = (done.stderr.strip().splitlines() or ["without a word"])[-1]
        return {**failed, "problem": f"its process ended with exit code {done.returncode}: {last}"}
    return {**failed, **answer}


def _draw(report: dict[str, Any], timelines: list[dict[str, Any]], path: Path) -> None:
    notes = report["notes"]
    try:
        from .draw import draw
    except ImportError as error:
        notes.append(
            f'{path.name} was not drawn ({error}); install it with: python -m pip install ".[report]"'
        )
        return
    try:
        draw(report, timelines, path)
    except Exception as error:  # noqa: BLE001  a picture must not hide the numbers
        notes.append(f"{path.name} was not drawn ({type(error).__name__}: {one_line(error)})")
