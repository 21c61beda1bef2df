"""One case in this process: a JSON request on standard input, a JSON answer as the last line of the output."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np

from denoscope.acquisition.errors import one_line
from denoscope.acquisition.processes.memory import peak_bytes, resident_bytes, restart_peak
from denoscope.runtime import Backend, Bundle, DenoscopeError, Stream

from .cases import Case
from .gpu_meter import GpuMeter, open_meter
from .play import WORK, Plan, Timeline, play
from .scene import POOL, Scene, make_scene
from .statistics import summarise
from .sustained import Search, highest_rate, judge

__all__ = ["main", "run_case"]

_WARM_UP_EXTRA = 16  # frames beyond two windows, after which caches and clocks of the processor are settled
_TRIAL_S = 1.5
_FEWEST, _MOST = 24, 600  # measured frames of a trial


def run_case(case: Case, backend: Backend | None = None) -> dict[str, Any]:
    """Measure one case.

    Parameters
    ----------
    case
        What to measure.
    backend
        An open backend to use in place of the one that the case names.

    Returns
    -------
    dict
        ``case``, ``backend`` (library, device, precision, threads), ``startup``, ``memory``, ``sustained``,
        ``problem``, ``timeline`` and the entries of `summarise` and of `GpuMeter.energy`.
    """
    with open_meter() as meter:
        meter.rest()
        return _run(case, backend, meter)


def _run(case: Case, backend: Backend | None, meter: GpuMeter) -> dict[str, Any]:
    shape = (case.height, case.width)
    scene = make_scene(shape)
    restarted = restart_peak()  # drawing the movie took memory too
    before = resident_bytes()
    started = time.perf_counter()
    bundle = Bundle.load(case.bundle)
    loaded = time.perf_counter()
    threads = None if backend is not None else case.threads
    with Stream(
        bundle,
        backend or case.backend,
        look_ahead=case.look_ahead,
        intensity=scene.intensity,
        align=case.align,
        threads=threads,
    ) as stream:
        opened = time.perf_counter()
        stream.prepare(shape, scene.frames[0].dtype)
        prepared = time.perf_counter()
        ready = resident_bytes()
        window = bundle.manifest.window
        plan = Plan(case.fps, 2 * window + _WARM_UP_EXTRA, case.frames, case.look_ahead)
        meter.begin(stream.backend_info.get("device", ""))
        timeline = play(stream, scene, plan)
        meter.end()
        summary = summarise(timeline)
        first = timeline.began + plan.warm_up / plan.fps
        delivered = summary["frames"]["measured"]["delivered"]
        # Read here, because the search below fills queues on purpose.
        peak = peak_bytes()
        search = None
        if case.highest_rate and timeline.problem is None:
            search = _search(stream, scene, timeline, window)
        return {
            "case": case.model_dump(),
            "label": case.label,
            "backend": stream.backend_info,
            "intensity": scene.intensity.model_dump(),
            "startup": {
                "load_bundle_s": loaded - started,
                "open_backend_s": opened - loaded,
                "prepare_s": prepared - opened,
                "total_s": prepared - started,
            },
            "memory": {
                "before_bytes": before,
                "ready_bytes": ready,
                "peak_bytes": peak,
                "peak_since": "the movie was drawn" if restarted else "the process began",
                "scene_bytes": scene.frames.nbytes,
                **meter.memory(),
            },
            **meter.energy(first, first + plan.measured / plan.fps, delivered),
            **summary,
            "sustained": search.to_dict() if search else None,
            "problem": timeline.problem,
            "timeline": _listed(timeline),
        }


def _search(stream: Stream, scene: Scene, timeline: Timeline, window: int) -> Search:
    counted = timeline.plan.counted
    total, fuse = timeline.work["total"][counted], timeline.work["fuse"][counted]
    # The median, because one long interruption must not send the search to rates far below.
    push_s = float(np.median(total[fuse > 0])) if np.any(fuse > 0) else 1 / timeline.plan.fps

    def trial(fps: float) -> Any:
        frames = int(np.clip(fps * _TRIAL_S, _FEWEST, _MOST))
        return judge(play(stream, scene, Plan(fps, window, frames, stream.look_ahead)))

    return highest_rate(trial, 0.9 / push_s)


def _listed(timeline: Timeline) -> dict[str, Any]:
    """Return each frame's times in seconds, to the microsecond, and None where it never came to that."""
    names = (
        "scheduled",
        "offered",
        "taken",
        "encoded",
        "fuse_start",
        "fused",
        "emitted",
        "delivered",
    )

    def listed(values: Any) -> list[float | None]:
        return [None if np.isnan(value) else round(float(value), 6) for value in values]

    return {
        "fps": timeline.plan.fps,
        "warm_up_frames": timeline.plan.warm_up,
        "measured_frames": timeline.plan.measured,
        "tail_frames": timeline.plan.tail,
        "pool_frames": POOL,
        "outcome": list(timeline.outcome),
        "dropped": dict(timeline.dropped),
        **{f"{name}_s": listed(getattr(timeline, name)) for name in names},
        **{f"push_{name}_s": listed(timeline.work[name]) for name in WORK},
    }


def main() -> None:
    """Answer the request on standard input."""
    try:
        answer = run_case(Case.model_validate_json(sys.stdin.read()))
    except DenoscopeError as error:
        answer = {"problem": one_line(error)}
    except Exception as error:  # noqa: BLE001  the process that asked reports it with the case
        answer = {"problem": f"{type(error).__name__}: {one_line(error)}"}
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
