"""Two runs of the benchmark beside each other, as ratios."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from denoscope.acquisition.errors import one_line
from denoscope.acquisition.read_whole import read_whole
from denoscope.runtime import InvalidInput

from .results import (
    SCHEMA,
    Benchmark,
    BenchmarkProvenance,
    CaseRatios,
    CaseResult,
    ComparedCase,
    Comparison,
    MeasuredCase,
    Percentiles,
)
from .whole_window import SUFFIX

__all__ = ["compare", "compare_whole_window", "provenance_differences", "read_report"]

_Key = tuple[str, *tuple[object, ...]]
_KEY = ("backend", "height", "width", "look_ahead", "fps", "align", "threads")


def read_report(file: Path, parameter: str = "against") -> Benchmark:
    """Read the ``bench.json`` of an earlier run, given by the parameter of this name.

    Raises
    ------
    InvalidInput
        If it is none, or one of another version.
    """
    path = file / "bench.json" if file.is_dir() else file
    if not path.exists():
        raise InvalidInput(f"`{parameter}` {file} does not exist: name the bench.json of an earlier run.")
    try:
        report = json.loads(read_whole(path, "benchmark"))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInput(
            f"`{parameter}` {file} cannot be read as a benchmark ({one_line(error)}): name the bench.json of an "
            "earlier run."
        ) from error
    if isinstance(report, dict) and report.get("bench_schema") == SCHEMA:
        with suppress(ValidationError):
            return Benchmark.model_validate(report)
    raise InvalidInput(
        f"`{parameter}` {file} is not a bench.json of schema {SCHEMA}: name one that this version has written."
    )


def compare(new: Benchmark, old: Benchmark, name: str) -> Comparison:
    """Return new / old for every number of the cases that both runs hold, and what else changed between them.

    A ratio is None where one of the two has no number or the old one is zero.
    """
    then = {_key(result): result for result in old.cases}
    now = {_key(result): result for result in new.cases}
    return Comparison(
        against=name,
        cases=[
            ComparedCase(
                label=result.label,
                ratios=_ratios(result, then[key]),
                dropped=[_drops(then[key]), _drops(result)],
            )
            for key, result in now.items()
            if key in then
        ],
        only_here=[result.label for key, result in now.items() if key not in then],
        only_there=[result.label for key, result in then.items() if key not in now],
        differences=_differences(new, old, now, then),
    )


def compare_whole_window(results: Sequence[CaseResult]) -> list[CaseRatios]:
    """Return whole window / streaming split for every case that was measured both ways in this run.

    Each has the label of the split's case, and ratios as in `compare`.
    """
    split = {_key(result): result for result in results}
    pairs = []
    for result in results:
        key = _key(result)
        if not key[0].endswith(SUFFIX):
            continue
        twin = split.get((key[0].removesuffix(SUFFIX), *key[1:]))
        if twin is not None:
            pairs.append(CaseRatios(label=twin.label, ratios=_ratios(result, twin)))
    return pairs


def _key(result: CaseResult) -> _Key:
    case = result.case
    return (case.bundle_name, *(getattr(case, name) for name in _KEY))


def _numbers(result: CaseResult) -> dict[str, float | None]:
    """Return the numbers that are compared, None where there is none."""
    none = Percentiles()
    measured = (
        result
        if isinstance(result, MeasuredCase)
        else MeasuredCase(label=result.label, case=result.case, latency=none)
    )
    latency, beyond = measured.latency, measured.beyond_look_ahead
    return {
        "latency_p50": latency.p50_s,
        "latency_p95": latency.p95_s,
        "latency_p99": latency.p99_s,
        "latency_p99_9": latency.p99_9_s,
        "latency_max": latency.max_s,
        "beyond_look_ahead_p50": beyond.p50_s,
        "beyond_look_ahead_p99": beyond.p99_s,
        "fuse_p50": measured.stages.get("fuse", none).p50_s,
        "encode_p50": measured.stages.get("encode", none).p50_s,
        "own_p50": measured.push.get("own", none).p50_s,
        "push_p50": measured.push.get("total", none).p50_s,
        "sustained_fps": None if measured.sustained is None else measured.sustained.fps,
        "peak_memory": measured.memory.peak_bytes,
        "device_memory": measured.memory.device_peak_bytes,
        "energy_per_frame": None if measured.energy is None else measured.energy.per_frame_j,
        "startup": measured.startup.total_s,
    }


def _ratios(new: CaseResult, old: CaseResult) -> dict[str, float | None]:
    then = _numbers(old)
    return {name: _ratio(value, then[name]) for name, value in _numbers(new).items()}


def _ratio(new: float | None, old: float | None) -> float | None:
    return new / old if new is not None and old else None


def _drops(result: CaseResult) -> int | None:
    return sum(result.frames.measured.dropped.values()) if isinstance(result, MeasuredCase) else None


def provenance_differences(old: BenchmarkProvenance, new: BenchmarkProvenance) -> list[str]:
    """Return what changed of the computer and the versions between two runs, in words."""
    before, after = old.as_json(), new.as_json()
    return [
        f"{name}: {before[name]} then, {after[name]} now"
        for name in ("cpu", "cores", "platform", "denoscope", "git", "python", "packages")
        if after[name] != before[name]
    ]


def _differences(
    new: Benchmark,
    old: Benchmark,
    now: Mapping[_Key, CaseResult],
    then: Mapping[_Key, CaseResult],
) -> list[str]:
    found = provenance_differences(old.provenance, new.provenance)
    for key in now.keys() & then.keys():
        earlier, later = then[key], now[key]
        digests = [result.case.bundle_sha256 for result in (earlier, later)]
        if digests[0] != digests[1]:
            found.append(f"{later.label}: bundle {digests[0][:12]} then, {digests[1][:12]} now")
        if isinstance(earlier, MeasuredCase) and isinstance(later, MeasuredCase):
            ways = earlier.boundary, later.boundary
            if ways[0] != ways[1]:
                found.append(f"{later.label}: denoiser {ways[0]} then, {ways[1]} now")
    return found
