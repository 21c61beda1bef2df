"""``bench.md``: the numbers as tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from denoscope.runtime import counted
from denoscope.runtime.words import rounded

from .play import KEEP_UP
from .results import (
    Benchmark,
    CaseRatios,
    CaseResult,
    Comparison,
    Energy,
    HighestRate,
    MeasuredCase,
)
from .statistics import STAGES

__all__ = ["line", "markdown", "sentences"]

_RATIOS = {
    "latency_p50": "p50",
    "latency_p99": "p99",
    "latency_p99_9": "p99.9",
    "latency_max": "max",
    "beyond_look_ahead_p50": "beyond look-ahead p50",
    "fuse_p50": "fuse p50",
    "own_p50": "own p50",
    "sustained_fps": "highest rate",
    "peak_memory": "peak memory",
    "startup": "start-up",
}
_STARTUP = ("load_bundle_s", "open_backend_s", "prepare_s", "total_s")
# Shown only where one of the cases has them.
_GPU_RATIOS = {"device_memory": "GPU memory", "energy_per_frame": "J a frame"}


def line(result: CaseResult) -> str:
    """Return one case's outcome as a line for the screen."""
    if not isinstance(result, MeasuredCase):
        return f"{result.label}: not measured: {result.problem}"
    frames, beyond = result.frames.measured, result.beyond_look_ahead
    p50, p99 = result.latency_with_drops.p50_s, result.latency_with_drops.p99_s
    parts = [f"{result.label}:"]
    if result.sustained:
        parts.append(f"up to {_rate(result.sustained)} frames/s;")
    if p50 is None:
        parts.append("most frames were skipped")
    else:
        computing = beyond.p50_s
        split = (
            ""
            if computing is None
            else (f" ({_ms(max(p50 - computing, 0))} waiting for later frames, {_ms(computing)} computing)")
        )
        late = "" if p99 is None else f", 99 % within {_ms(p99)} ms"
        parts.append(f"delay {_ms(p50)} ms{split}{late}")
    skipped = sum(frames.dropped.values())
    if skipped:
        parts[-1] += f"; {skipped} of {counted(frames.arrived, 'frame')} skipped"
    if result.energy is not None and result.energy.per_frame_j is not None:
        parts[-1] += f"; {_joules(result.energy.per_frame_j)} J a frame"
    if result.problem:
        parts[-1] += f"; {result.problem}"
    return " ".join(parts)


def sentences(report: Benchmark) -> Iterator[str]:
    """Yield what is said after all cases: what was left out, notes, and ratios."""
    for name, reason in report.backends_left_out.items():
        yield f"Not measured: {name}, because {reason}"
    for note in report.notes:
        yield f"Note: {note}"
    for pair in report.whole_window:
        ratio = pair.ratios["push_p50"]
        said = "not known, because no push gave an output" if ratio is None else f"{ratio:.2f}"
        yield f"{pair.label}: time of a push without the streaming split / with it: {said}"
    if report.comparison is None:
        return
    for case in report.comparison.cases:
        known = ", ".join(f"{name} {ratio:.2f}" for name, ratio in case.ratios.items() if ratio is not None)
        yield f"{case.label}, this run / {report.comparison.against}: {known}"
    if report.comparison.differences:
        yield "Other differences between the runs: " + "; ".join(report.comparison.differences)


def markdown(report: Benchmark) -> str:
    """Return the whole report as markdown."""
    measured = report.measured
    parts = [_head(report)]
    if measured:
        parts += [_latencies(measured), _stages(measured), _pushes(measured), _resources(measured)]
        if on_gpu := [r for r in measured if _ran_on_gpu(r)]:
            parts.append(_gpu(on_gpu))
    if report.whole_window:
        parts.append(_whole_window(report.whole_window))
    problems = [f"- {r.label}: {r.problem}" for r in report.cases if r.problem]
    if problems:
        parts.append("## Problems\n\n" + "\n".join(problems))
    if report.comparison is not None:
        parts.append(_comparison(report.comparison))
    if report.notes:
        parts.append("\n".join(f"Note: {note}." for note in report.notes))
    return "\n\n".join(parts) + "\n"


def _head(report: Benchmark) -> str:
    where, keep_up = report.provenance, report.keep_up or KEEP_UP
    load = where.load_average_1min
    git = where.git
    commit = f", commit {git.commit[:12]}{' with changes' if git.changed else ''}" if git else ""
    lines = [
        "# Latency benchmark",
        "",
        f"{where.cpu}, {where.cores.usable} of {where.cores.logical} logical cores, "
        f"{where.platform}, Python {where.python}, denoscope {where.denoscope}{commit}, "
        f"{where.created_utc}"
        + (f", load average {load:.1f} before the first case" if load is not None else "")
        + ".",
        "",
        "Frames come at a constant rate, as from a camera, even if the denoiser is late. The delay of a frame "
        "runs from the time it was due until it is delivered denoised, so it includes waiting for earlier frames. "
        "Start-up and warm-up are left out. Frames are denoised as in a recording, in the denoiser's process "
        "(unless said otherwise): "
        f"at most {counted(keep_up.queue_frames, 'frame')} wait, and if one has waited longer than "
        f"{keep_up.lag_s:g} s, frames are skipped.",
    ]
    lines += [f"\nNot measured: {name}: {why}." for name, why in report.backends_left_out.items()]
    return "\n".join(lines)


def _latencies(results: Sequence[MeasuredCase]) -> str:
    names = ("p50_s", "p95_s", "p99_s", "p99_9_s", "max_s")
    rows = []
    for r in results:
        frames = r.frames.measured
        dropped = ", ".join(f"{n} {reason}" for reason, n in frames.dropped.items()) or "0"
        rows.append(
            [
                r.label,
                f"{r.case.fps:g}",
                f"{frames.arrived}",
                dropped,
                *(_ms(getattr(r.latency_with_drops, name), "never") for name in names),
                _ms(r.beyond_look_ahead.p50_s),
                _ms(r.beyond_look_ahead.p99_s),
                _rate(r.sustained),
            ]
        )
    titles = [
        *("bundle, backend, size, look-ahead", "frames/s", "frames", "dropped"),
        *("p50", "p95", "p99", "p99.9", "max", "beyond look-ahead p50", "p99", "highest frames/s"),
    ]
    few = min(r.frames.measured.arrived for r in results)
    note = (
        "A dropped frame counts as never delivered. Beyond look-ahead: from when the last frame that the output "
        "needs was due, of delivered frames. Highest rate: by bisection, no drop and no growing queue."
    )
    if few < 1000:
        note += f" With {counted(few, 'frame')} p99.9 is the maximum."
    return f"## Camera to output (ms)\n\n{_table(titles, rows)}\n\n{note}"


def _stages(results: Sequence[MeasuredCase]) -> str:
    rows = [
        [
            r.label,
            *(f"{_ms(r.stages[stage].p50_s)} / {_ms(r.stages[stage].p99_s)}" for stage in STAGES),
        ]
        for r in results
    ]
    note = (
        "Of delivered frames. Clock: the camera's thread was late. Queue: until the denoising thread took the "
        "frame. Encode: with conversion, and with the flow from the frame before. Wait: for the look-ahead. "
        "Deliver: until the sink had it, and the window had moved on. Per frame they add up to the latency."
    )
    return f"## Stages (ms, p50 / p99)\n\n{_table(['case', *STAGES], rows)}\n\n{note}{_hops(results)}"


def _hops(results: Sequence[MeasuredCase]) -> str:
    """Return what of it is the way to the denoiser's process and back."""
    names = ("hop_to", "compute", "hop_back", "hop")
    rows = [
        [
            r.label,
            *(f"{_ms(r.hops[name].p50_s)} / {_ms(r.hops[name].p99_s)}" for name in names),
        ]
        for r in results
        if r.hops
    ]
    inside = [r.label for r in results if not r.hops]
    said = f"\n\nDenoised in the measuring process: {', '.join(inside)}." if inside else ""
    if not rows:
        return said
    table = _table(["case", "to the process", "computing", "back", "to and back"], rows)
    return f"\n\nOf these, the way to the denoiser's process and back:\n\n{table}{said}"


def _pushes(results: Sequence[MeasuredCase]) -> str:
    names = ("encode", "motion", "fuse", "remember", "align", "normalise", "convert", "own", "total")
    rows = [
        [
            r.label,
            *(f"{_ms(r.push[name].p50_s)}" for name in names),
            _ms(r.push["own"].p99_s),
            f"{r.busy:.0%}",
        ]
        for r in results
    ]
    note = (
        "Of pushes that gave an output. Own: everything that is not the backend's encode, motion, fuse and remember. "
        "Busy: the share of the time that the denoising thread worked."
    )
    titles = ["case", *names, "own p99", "busy"]
    return f"## What one push costs (ms, p50)\n\n{_table(titles, rows)}\n\n{note}"


def _resources(results: Sequence[MeasuredCase]) -> str:
    rows = []
    for r in results:
        startup, memory = r.startup, r.memory
        rows.append(
            [
                r.label,
                *(
                    f"{getattr(startup, n) or 0:.2f}"
                    for n in ("load_bundle_s", "open_backend_s", "prepare_s", "total_s")
                ),
                _ms(r.warm_up_latency.max_s),
                *(_mb(getattr(memory, n)) for n in ("before_bytes", "ready_bytes", "peak_bytes")),
                f"{r.backend.get('library', '')}, {r.backend.get('precision', '')}, "
                f"{r.backend.get('threads', '?')} threads, {r.backend.get('device', '')}",
            ]
        )
    titles = [
        *("case", "load bundle (s)", "open backend (s)", "prepare (s)", "start-up (s)"),
        *("slowest of the warm-up (ms)", "host memory before (MB)", "ready (MB)", "peak (MB)", "backend"),
    ]
    return f"## Start-up and memory\n\n{_table(titles, rows)}"


def _ran_on_gpu(result: MeasuredCase) -> bool:
    """Return whether there is anything to say of a GPU, if only why nothing was measured on it."""
    known = result.energy is not None or result.memory.device_peak_bytes
    # GPU backends, and no others, name their device with this.
    return bool(known) or "compute capability" in result.backend.get("device", "")


def _gpu(results: Sequence[MeasuredCase]) -> str:
    rows = []
    for r in results:
        energy = r.energy or Energy(gpu=r.backend.get("device", "-"), source=r.energy_problem or "-")
        rows.append(
            [
                r.label,
                energy.gpu,
                _joules(energy.idle_power_w),
                _joules(energy.mean_power_w),
                _joules(energy.per_frame_j),
                _joules(energy.above_idle_per_frame_j),
                energy.source,
                _mb(r.memory.device_peak_bytes),
                r.memory.device_peak_of or r.memory.device_peak_problem or "-",
            ]
        )
    titles = [
        *("case", "GPU", "idle before (W)", "measured part (W)", "J a frame", "of it above idle"),
        *("energy by", "peak memory (MB)", "of"),
    ]
    note = (
        "What NVML says of the whole board while the measured frames arrived, divided by the frames delivered. "
        "Idle: in the second before the case opened its backend."
    )
    return f"## Energy and memory of the GPU\n\n{_table(titles, rows)}\n\n{note}"


def _whole_window(pairs: Sequence[CaseRatios]) -> str:
    names = {"push_p50": "one push p50", "sustained_fps": "highest rate", "peak_memory": "peak memory"}
    rows = [[pair.label, *(_times(pair.ratios[name]) for name in names)] for pair in pairs]
    note = (
        "The same graphs, weights and outputs without the streaming split: every output encodes all the "
        "frames of its window again."
    )
    return f"## Whole window / streaming split\n\n{_table(['case', *names.values()], rows)}\n\n{note}"


def _comparison(comparison: Comparison) -> str:
    measured = {n for case in comparison.cases for n, ratio in case.ratios.items() if ratio is not None}
    ratios = _RATIOS | {name: title for name, title in _GPU_RATIOS.items() if name in measured}
    rows = [
        [
            case.label,
            *(_times(case.ratios[name]) for name in ratios),
            " to ".join("?" if n is None else str(n) for n in case.dropped),
        ]
        for case in comparison.cases
    ]
    lines = [f"## This run / {comparison.against}", ""]
    if rows:
        lines.append(_table(["case", *ratios.values(), "dropped"], rows))
    else:
        lines.append("The two runs have no case in common.")
    for title, key in (("Only in this run", "only_here"), ("Only in the other", "only_there")):
        if getattr(comparison, key):
            lines.append(f"\n{title}: {'; '.join(getattr(comparison, key))}.")
    if comparison.differences:
        lines.append("\nOther differences between the runs:\n")
        lines += [f"- {difference}" for difference in comparison.differences]
    return "\n".join(lines)


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _ms(seconds: float | None, missing: str = "-") -> str:
    if seconds is None:
        return missing
    value = seconds * 1e3
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.3f}"


def _joules(value: float | None) -> str:
    return "-" if value is None else f"{rounded(value)}"


def _mb(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e6:.0f}"


def _rate(sustained: HighestRate | None) -> str:
    if sustained is None:
        return "-"
    if sustained.fps is None:
        return "-" if sustained.failed_fps is None else f"below {rounded(sustained.failed_fps)}"
    more = "" if sustained.failed_fps is not None else "at least "
    return f"{more}{rounded(sustained.fps)}"


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"
