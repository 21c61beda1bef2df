"""The process that measures one case: a request in, an answer out."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from denoscope.acquisition.denoisers.local import DenoiserRequest
from denoscope.acquisition.denoisers.remote import RemoteDenoiser
from denoscope.acquisition.errors import one_line
from denoscope.acquisition.processes.child import speak
from denoscope.acquisition.processes.memory import peak_bytes, resident_bytes, restart_peak
from denoscope.runtime import Backend, Bundle, DenoscopeError, Stream

from .cases import Case
from .gpu_meter import GpuMeter, open_meter
from .play import HOPS, WORK, Plan, Seconds, Timeline, play
from .results import IN_PROCESS, OWN_PROCESS, CaseTimes, MeasuredCase, Memory, Startup
from .scene import POOL, Scene, make_scene
from .statistics import summarise
from .sustained import Search, Trial, highest_rate, judge

__all__ = ["main", "run_case"]

_WARM_UP_EXTRA = 16  # frames beyond two windows, after which caches and clocks of the processor are settled
_TRIAL_S = 1.5
_FEWEST, _MOST = 24, 600  # measured frames of a trial


def run_case(case: Case, backend: Backend | None = None) -> tuple[MeasuredCase, CaseTimes]:
    """Measure one case.

    Parameters
    ----------
    case
        What to measure.
    backend
        An open backend to use in place of the one that the case names, in this process.

    Returns
    -------
    MeasuredCase, CaseTimes
        Its numbers, and the times of each frame.
    """
    with open_meter() as meter:
        meter.rest()
        return _run(case, backend, meter)


def _run(case: Case, backend: Backend | None, meter: GpuMeter) -> tuple[MeasuredCase, CaseTimes]:
    shape = (case.height, case.width)
    scene = make_scene(shape)
    restarted = restart_peak()  # drawing the movie took memory too
    before = resident_bytes()
    started = time.perf_counter()
    bundle = Bundle.load(case.bundle)
    loaded = time.perf_counter()
    remote = backend is None and not case.in_process
    with _open_remote(case, scene) if remote else _open_here(case, scene, bundle, backend) as denoiser:
        opened = time.perf_counter()
        if isinstance(denoiser, RemoteDenoiser):
            denoiser.prepare(shape, scene.frames[0].dtype, 1)
        else:
            denoiser.prepare(shape, scene.frames[0].dtype)
        prepared = time.perf_counter()
        found = _describe(denoiser)
        window = bundle.manifest.window
        plan = Plan(case.fps, 2 * window + _WARM_UP_EXTRA, case.frames, case.look_ahead)
        meter.begin(found.backend.get("device", ""), found.pid)
        timeline = play(denoiser, scene, plan)
        meter.end()
        summary = summarise(timeline)
        first = timeline.began + plan.warm_up / plan.fps
        delivered = summary.frames.measured.delivered
        # Read here, because the search below fills queues on purpose.
        peak = _describe(denoiser).peak_bytes if timeline.problem is None else None
        search = None
        if case.highest_rate and timeline.problem is None:
            search = _search(denoiser, scene, timeline, window)
        since = "the movie was drawn" if restarted and not remote else "the process began"
        energy, energy_problem = meter.energy(first, first + plan.measured / plan.fps, delivered)
        measured = MeasuredCase(
            **dict(summary),
            case=case,
            label=case.label,
            boundary=OWN_PROCESS if remote else IN_PROCESS,
            backend=found.backend,
            intensity=scene.intensity,
            startup=Startup(
                load_bundle_s=loaded - started,
                open_backend_s=opened - loaded,
                prepare_s=prepared - opened,
                total_s=prepared - started,
            ),
            memory=Memory(
                **dict(meter.memory()),
                of="the denoiser's process" if remote else "the measuring process",
                before_bytes=None if remote else before,
                ready_bytes=found.resident_bytes,
                peak_bytes=peak,
                peak_since=since,
                scene_bytes=scene.frames.nbytes,
            ),
            energy=energy,
            energy_problem=energy_problem,
            sustained=search.record() if search else None,
            problem=timeline.problem,
        )
        return measured, _listed(timeline)


def _open_here(case: Case, scene: Scene, bundle: Bundle, backend: Backend | None) -> Stream:
    return Stream(
        bundle,
        backend or case.backend,
        look_ahead=case.look_ahead,
        intensity=scene.intensity,
        align=case.align,
        threads=None if backend is not None else case.threads,
    )


@contextmanager
def _open_remote(case: Case, scene: Scene) -> Iterator[RemoteDenoiser]:
    """Open the denoiser in a separate process, as a session does."""
    request = DenoiserRequest(
        case.bundle,
        case.backend,
        case.look_ahead,
        case.threads,
        intensity=scene.intensity.model_dump(),
        align=case.align,
        stages=True,
    )
    denoiser = RemoteDenoiser(request)
    try:
        yield denoiser
    finally:
        denoiser.close()


class _Found(NamedTuple):
    """Backend, memory and number of the process that denoises."""

    backend: dict[str, str]
    resident_bytes: int | None
    peak_bytes: int | None
    pid: int


def _describe(denoiser: Stream | RemoteDenoiser) -> _Found:
    if isinstance(denoiser, RemoteDenoiser):
        return _Found(**denoiser.describe(), pid=denoiser.pid)
    return _Found(denoiser.backend_info, resident_bytes(), peak_bytes(), os.getpid())


def _search(stream: Stream | RemoteDenoiser, scene: Scene, timeline: Timeline, window: int) -> Search:
    counted = timeline.plan.counted
    total, fuse = timeline.work["total"][counted], timeline.work["fuse"][counted]
    # The median, because one long interruption must not send the search to rates far below.
    push_s = float(np.median(total[fuse > 0])) if np.any(fuse > 0) else 1 / timeline.plan.fps

    def trial(fps: float) -> Trial:
        frames = int(np.clip(fps * _TRIAL_S, _FEWEST, _MOST))
        return judge(play(stream, scene, Plan(fps, window, frames, stream.look_ahead)))

    return highest_rate(trial, 0.9 / push_s)


def _listed(timeline: Timeline) -> CaseTimes:
    """Return each frame's times, to the microsecond."""

    def listed(values: Seconds) -> list[float | None]:
        return [None if np.isnan(value) else round(float(value), 6) for value in values]

    seconds = {
        "scheduled": timeline.scheduled,
        "offered": timeline.offered,
        "taken": timeline.taken,
        "encoded": timeline.encoded,
        "fuse_start": timeline.fuse_start,
        "fused": timeline.fused,
        "emitted": timeline.emitted,
        "delivered": timeline.delivered,
        **{f"push_{name}": timeline.work[name] for name in WORK},
        **{name: timeline.hops[name] for name in HOPS},
    }
    return CaseTimes.model_validate(
        {
            "fps": timeline.plan.fps,
            "warm_up_frames": timeline.plan.warm_up,
            "measured_frames": timeline.plan.measured,
            "tail_frames": timeline.plan.tail,
            "pool_frames": POOL,
            "outcome": list(timeline.outcome),
            "dropped": dict(timeline.dropped),
            **{f"{name}_s": listed(values) for name, values in seconds.items()},
        }
    )


def main() -> None:
    """Answer one request."""
    wire = speak()
    request = wire.receive()
    if request is None:
        return
    answer: dict[str, object]
    try:
        result, times = run_case(Case.model_validate(request.words))
        answer = {"result": result.as_json(), "timeline": times.as_json()}
    except DenoscopeError as error:
        answer = {"problem": one_line(error)}
    except Exception as error:  # noqa: BLE001  the process that asked reports it with the case
        answer = {"problem": f"{type(error).__name__}: {one_line(error)}"}
    wire.send(answer)


if __name__ == "__main__":
    main()
