"""Two runs of the benchmark beside each other, as ratios."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from denoscope.runtime import InvalidInput

from .whole_window import SUFFIX

__all__ = ["IN_PROCESS", "OWN_PROCESS", "SCHEMA", "compare", "compare_whole_window", "read_report"]

SCHEMA = 1
IN_PROCESS, OWN_PROCESS = "in the measuring process", "in a process of its own"

# Title, and where the number is found in a case's result.
_NUMBERS: dict[str, tuple[str, ...]] = {
    "latency_p50": ("latency", "p50_s"),
    "latency_p95": ("latency", "p95_s"),
    "latency_p99": ("latency", "p99_s"),
    "latency_p99_9": ("latency", "p99_9_s"),
    "latency_max": ("latency", "max_s"),
    "beyond_look_ahead_p50": ("beyond_look_ahead", "p50_s"),
    "beyond_look_ahead_p99": ("beyond_look_ahead", "p99_s"),
    "fuse_p50": ("stages", "fuse", "p50_s"),
    "encode_p50": ("stages", "encode", "p50_s"),
    "own_p50": ("push", "own", "p50_s"),
    "push_p50": ("push", "total", "p50_s"),
    "sustained_fps": ("sustained", "fps"),
    "peak_memory": ("memory", "peak_bytes"),
    "device_memory": ("memory", "device_peak_bytes"),
    "energy_per_frame": ("energy", "per_frame_j"),
    "startup": ("startup", "total_s"),
}
_KEY = ("bundle_name", "backend", "height", "width", "look_ahead", "fps", "align", "threads")


def read_report(file: Path) -> dict[str, Any]:
    """Read the ``bench.json`` of an earlier run.

    Raises
    ------
    InvalidInput
        If it is none, or one of another version.
    """
    path = file / "bench.json" if file.is_dir() else file
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(
            f"`against` {file} cannot be read as a benchmark ({error}): name the bench.json of an earlier run."
        ) from error
    if not isinstance(report, dict) or report.get("bench_schema") != SCHEMA:
        raise InvalidInput(
            f"`against` {file} is not a bench.json of schema {SCHEMA}: name one that this version has written."
        )
    return report


def compare(new: Mapping[str, Any], old: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return new / old for every number of the cases that both runs hold.

    Returns
    -------
    dict
        ``against``; ``cases`` with ``label`` and ``ratios`` (None where one of the two has no number or the
        old one is zero); ``only_here`` and ``only_there`` with labels; ``differences``, which say what
        else changed between the runs.
    """
    then = {_key(result): result for result in old["cases"]}
    now = {_key(result): result for result in new["cases"]}
    cases = [
        {
            "label": result["label"],
            "ratios": {n: _ratio(_at(result, path), _at(then[key], path)) for n, path in _NUMBERS.items()},
            "dropped": [_drops(then[key]), _drops(result)],
        }
        for key, result in now.items()
        if key in then
    ]
    return {
        "against": name,
        "cases": cases,
        "only_here": [result["label"] for key, result in now.items() if key not in then],
        "only_there": [result["label"] for key, result in then.items() if key not in now],
        "differences": _differences(new, old, now, then),
    }


def compare_whole_window(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return whole window / streaming split for every case that was measured both ways in this run.

    Returns
    -------
    list of dict
        ``label`` of the split's case, and ``ratios`` as in `compare`.
    """
    split = {_key(result): result for result in results}
    pairs = []
    for result in results:
        name, *rest = _key(result)
        twin = split.get((name.removesuffix(SUFFIX), *rest)) if name.endswith(SUFFIX) else None
        if twin is not None:
            ratios = {n: _ratio(_at(result, path), _at(twin, path)) for n, path in _NUMBERS.items()}
            pairs.append({"label": twin["label"], "ratios": ratios})
    return pairs


def _key(result: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(result["case"][name] for name in _KEY)


def _at(result: Mapping[str, Any], path: tuple[str, ...]) -> float | None:
    value: Any = result
    for step in path:
        if value is None:
            return None
        value = value.get(step)
    return None if value is None else float(value)


def _ratio(new: float | None, old: float | None) -> float | None:
    return new / old if new is not None and old else None


def _drops(result: Mapping[str, Any]) -> int | None:
    frames = result.get("frames")
    return None if frames is None else sum(frames["measured"]["dropped"].values())


def _differences(
    new: Mapping[str, Any],
    old: Mapping[str, Any],
    now: Mapping[tuple[Any, ...], Mapping[str, Any]],
    then: Mapping[tuple[Any, ...], Mapping[str, Any]],
) -> list[str]:
    found = [
        f"{name}: {old['provenance'].get(name)} then, {new['provenance'].get(name)} now"
        for name in ("cpu", "cores", "platform", "denoscope", "git", "python", "packages")
        if new["provenance"].get(name) != old["provenance"].get(name)
    ]
    for key in now.keys() & then.keys():
        digests = [result["case"]["bundle_sha256"] for result in (then[key], now[key])]
        if digests[0] != digests[1]:
            found.append(f"{now[key]['label']}: bundle {digests[0][:12]} then, {digests[1][:12]} now")
        ways = [result.get("boundary", IN_PROCESS) for result in (then[key], now[key])]
        if ways[0] != ways[1]:
            found.append(f"{now[key]['label']}: denoiser {ways[0]} then, {ways[1]} now")
    return found
