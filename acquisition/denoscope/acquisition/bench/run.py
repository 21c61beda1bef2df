"""Run every case in a separate process, and write what they found."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from denoscope.acquisition.diagnostics.machine import load_average
from denoscope.acquisition.errors import OutputExists, one_line
from denoscope.acquisition.processes.child import Child, exit_words
from denoscope.acquisition.raw.in_the_way import refuse_name
from denoscope.runtime import InvalidInput

from .against import compare, compare_whole_window, read_report
from .cases import Case, plan_cases
from .play import KEEP_UP
from .provenance import provenance
from .results import Benchmark, CaseResult, CaseTimeline, CaseTimes, MeasuredCase
from .resumed import interrupted_words, kept, stopped_words
from .tables import markdown
from .whole_window import whole_window

__all__ = ["PICTURE", "REPORT", "TABLES", "TIMELINES", "bench", "benchmark"]

REPORT, TIMELINES, TABLES, PICTURE = "bench.json", "timelines.json", "bench.md", "bench.png"

_REPLACE = "`overwrite` to replace it"
_CLOCK_LATE_S = 0.1
_LONGEST_S = 3600.0  # beyond what the frames themselves take; a search over slow rates is long


def benchmark(
    output: Path | str,
    *,
    bundles: Sequence[str | Path] = ("live",),
    backends: Sequence[str] = (),
    sizes: Sequence[str] = ("256x256", "512x512"),
    look_aheads: Sequence[int] = (),
    fps: float = 30.0,
    frames: int = 300,
    threads: int | None = None,
    align: bool = False,
    highest_rate: bool = True,
    in_process: bool = False,
    compare: str | None = None,
    against: Path | str | None = None,
    overwrite: bool = False,
    resume: bool = False,
    on_case: Callable[[int, int, Case, CaseResult | None], None] | None = None,
) -> Benchmark:
    """Measure the delay from camera to denoised frame and the highest frame rate, each case in a separate process.

    Parameters
    ----------
    output
        Folder for ``bench.json``, ``timelines.json``, ``bench.md`` and ``bench.png``; refused where it holds one.
        The numbers are written after each case, so that a run that is killed keeps those of the cases before, and
        goes on with `resume`.
    bundles
        Folders or names of shipped bundles.
    backends
        Names, ``auto`` among them; empty for every one that runs here.
    sizes
        Frame sizes ``HxW`` in pixels.
    look_aheads
        Frames to wait for after each frame; empty for each bundle's own.
    fps, frames
        Frames a second of the camera's clock, and measured frames a case.
    threads
        Threads of the backend; None for its default.
    align
        Track the motion of the scene too.
    highest_rate
        Search for the highest frame rate.
    in_process
        Denoise in the process that measures. By default frames go to the denoiser's process and back, as they do in
        `live`.
    compare
        ``whole-window``: measure each bundle without the streaming split as well.
    against
        The ``bench.json`` of an earlier run to compare with.
    overwrite
        Replace the benchmark that the folder holds, once the first case is measured.
    resume
        Go on with the benchmark that the folder holds, if there is one: cases measured without a problem are kept.
        Another computer, version or bundle, and other values than it was begun with, are refused.
    on_case
        Called before and after each case that is measured now, with its position, the number of cases, the case, and
        its numbers or None.

    Returns
    -------
    Benchmark
        As written to ``bench.json``.

    Raises
    ------
    DenoscopeError
        If a value, a bundle, a backend, `against` or the folder does not allow it.

    Examples
    --------
    >>> found = benchmark("speed", sizes=["32x32"], backends=["onnxruntime-cpu"], frames=5, highest_rate=False)
    >>> [result.label for result in found.cases], found.complete
    (['live onnxruntime-cpu 32x32 +3'], True)
    """
    output = Path(output)
    if compare not in (None, "whole-window"):
        raise InvalidInput(f"`compare` {compare} is not known: the one comparison is whole-window.")
    asked: list[str | Path] = [*bundles]
    if compare is not None:
        from denoscope.runtime import Bundle

        for split in [Bundle.load(bundle) for bundle in bundles]:
            folder = output / "whole-window" / f"{split.manifest.name}.denoscope"
            asked.append(whole_window(split, folder).folder)
    cases, left_out = plan_cases(
        asked,
        backends,
        sizes,
        look_aheads,
        fps=fps,
        frames=frames,
        align=align,
        threads=threads,
        highest_rate=highest_rate,
        in_process=in_process,
    )

    def shown(position: int, case: Case, result: CaseResult | None) -> None:
        if on_case is not None:
            on_case(position, len(cases), case, result)

    return bench(
        cases,
        output,
        left_out=left_out,
        against=None if against is None else Path(against),
        overwrite=overwrite,
        resume=resume,
        on_case=shown,
    )


def bench(
    cases: Sequence[Case],
    output: Path,
    *,
    left_out: Mapping[str, str] | None = None,
    against: Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    on_case: Callable[[int, Case, CaseResult | None], None] | None = None,
) -> Benchmark:
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
    overwrite
        Replace the benchmark that the folder holds, once the first case is measured.
    resume
        Keep the cases that the folder's benchmark has measured without a problem.
    on_case
        Called before a case with its position and None, and after it with its result.

    Returns
    -------
    Benchmark
        What ``bench.json`` holds.

    Raises
    ------
    OutputExists
        If the folder holds a benchmark.
    InvalidInput
        If `against` is no benchmark, or what is to be resumed is another one.
    KeyboardInterrupt
        When it was interrupted; the cases measured until then are written first.
    """
    if resume and overwrite:
        raise InvalidInput(
            "`resume` keeps the cases that are measured and `overwrite` replaces them: give one of the two."
        )
    refuse_name(output)
    begun = (output / REPORT).exists()
    for name in (REPORT, TIMELINES, TABLES, PICTURE):
        if (output / name).exists() and not (overwrite or (resume and begun)):
            way = f"`resume` to go on with it, or {_REPLACE}" if begun else _REPLACE
            raise OutputExists(f"{output / name} exists: name another `output`, or add {way}.")
    if output.exists() and not output.is_dir():
        raise OutputExists(f"`output` {output} is a file; name a folder.")
    earlier = read_report(against) if against is not None else None
    output.mkdir(parents=True, exist_ok=True)
    report = Benchmark(provenance=provenance(), keep_up=KEEP_UP, backends_left_out=dict(left_out or {}))
    timelines: list[CaseTimeline] = []
    if resume and begun:
        report, timelines = kept(output / REPORT, output / TIMELINES, report, cases)
    try:
        _measure_all(cases, report, timelines, on_case, output)
    except KeyboardInterrupt:
        if done := len(report.cases):
            report.notes.append(interrupted_words(done, len(cases)))
            _write(report, timelines, output, earlier, against)
        raise
    _write(report, timelines, output, earlier, against)
    return report


def _measure_all(
    cases: Sequence[Case],
    report: Benchmark,
    timelines: list[CaseTimeline],
    on_case: Callable[[int, Case, CaseResult | None], None] | None,
    output: Path,
) -> None:
    there = [result.case for result in report.cases]
    for position, case in enumerate(cases):
        if case in there:
            continue
        if on_case is not None:
            on_case(position, case, None)
        load = load_average()
        result, times = _measure(case)
        result.load_average_1min_before = load
        at = sum(cases.index(each.case) < position for each in report.cases)
        timelines.insert(at, CaseTimeline(label=case.label, timeline=times))
        report.cases.insert(at, result)
        _save(report, timelines, output, len(cases))
        late_s = result.clock_late_max_s if isinstance(result, MeasuredCase) else 0.0
        if late_s > _CLOCK_LATE_S:
            report.notes.append(
                f"{case.label}: the clock itself was up to {late_s:.2f} s late, so the computer stood still or "
                "was overloaded, and the percentiles are those of the interruption; run it again"
            )
        if on_case is not None:
            on_case(position, case, result)


def _save(report: Benchmark, timelines: list[CaseTimeline], output: Path, cases: int) -> None:
    """Write the numbers of the cases so far, should this process be killed."""
    done = len(report.cases)
    if done == cases:
        return  # all of them are written in a moment
    so_far = report.model_copy(update={"notes": [*report.notes, stopped_words(done, cases)]})
    _write_numbers(so_far, timelines, output)


def _write_numbers(report: Benchmark, timelines: list[CaseTimeline], output: Path) -> None:
    times = [each.as_json() for each in timelines]
    texts = {
        TIMELINES: json.dumps(times),
        TABLES: markdown(report).removesuffix("\n"),
        REPORT: json.dumps(report.as_json(), indent=2),
    }
    for name, text in texts.items():
        part = output / f"{name}.partial"
        try:
            part.write_text(text + "\n", encoding="utf-8")
            part.replace(output / name)
        except OSError:  # a full disk: the file of the case before stays
            part.unlink(missing_ok=True)
            raise


def _write(
    report: Benchmark,
    timelines: list[CaseTimeline],
    output: Path,
    earlier: Benchmark | None,
    against: Path | None,
) -> None:
    report.whole_window = compare_whole_window(report.cases)
    if earlier is not None:
        report.comparison = compare(report, earlier, str(against))
    _draw(report, timelines, output / PICTURE)
    _write_numbers(report, timelines, output)


def _measure(case: Case) -> tuple[CaseResult, CaseTimes | None]:
    """Run one case in a fresh interpreter, so that its start and its memory are its own."""
    limit_s = _LONGEST_S + 2 * case.frames / case.fps
    child = Child("denoscope.acquisition.bench.worker", name="denoscope-bench")
    late = threading.Event()

    def end() -> None:
        late.set()
        child.process.kill()

    limit = threading.Timer(limit_s, end)
    limit.start()
    try:
        child.tell(case.model_dump())
        answer = child.receive()
        lines = child.last_words() if answer is None else []
        code = child.poll()
    finally:
        limit.cancel()
        limit.join()
        child.end()
    if answer is not None and "result" in answer.words:
        return (
            MeasuredCase.model_validate(answer.words["result"]),
            CaseTimes.model_validate(answer.words["timeline"]),
        )
    if answer is not None:
        problem = str(answer.words["problem"])
    elif late.is_set():
        problem = f"it did not end within {limit_s:.0f} s"
    else:
        problem = f"its process {exit_words(code)}: {(lines or ['without a word'])[-1]}"
    return CaseResult(label=case.label, case=case, problem=problem), None


def _draw(report: Benchmark, timelines: list[CaseTimeline], path: Path) -> None:
    notes = report.notes
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
