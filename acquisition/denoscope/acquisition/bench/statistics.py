"""Statistics of a timeline: latencies, stages, drops and the runtime's own cost."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from .play import DELIVERED, WORK, Timeline

__all__ = ["PERCENTILES", "STAGES", "accounts", "percentiles", "summarise"]

PERCENTILES = {"p50_s": 50.0, "p95_s": 95.0, "p99_s": 99.0, "p99_9_s": 99.9, "max_s": 100.0}

# In the order in which a frame passes them; they add up to its latency.
STAGES = ("clock", "queue", "encode", "wait", "fuse", "convert", "deliver")


def percentiles(seconds: npt.ArrayLike) -> dict[str, float | None]:
    """Return nearest-rank percentiles: the least sample that so many per cent of all do not exceed.

    Parameters
    ----------
    seconds
        Samples; infinite for what never came. NaN is not allowed.

    Returns
    -------
    dict
        ``p50_s``, ``p95_s``, ``p99_s``, ``p99_9_s``, ``max_s``; None where that sample is infinite or
        there is none.
    """
    samples = np.sort(np.asarray(seconds, np.float64).ravel())
    found: dict[str, float | None] = {}
    for name, percent in PERCENTILES.items():
        # Rounded first, because 99.9 / 100 * 1000 is a little more than 999.
        rank = int(np.ceil(round(percent * len(samples) / 100, 9)))
        value = samples[max(rank, 1) - 1] if len(samples) else np.inf
        found[name] = float(value) if np.isfinite(value) else None
    return found


def accounts(timeline: Timeline, frames: slice) -> dict[str, Any]:
    """Return how many of these frames arrived and were delivered or dropped, by reason."""
    outcomes = Counter(timeline.outcome[frames])
    delivered = outcomes.pop(DELIVERED, 0)
    return {
        "arrived": delivered + sum(outcomes.values()),
        "delivered": delivered,
        "dropped": dict(sorted(outcomes.items())),
    }


def _stages(timeline: Timeline) -> dict[str, npt.NDArray[np.float64]]:
    t = timeline
    times = (
        t.scheduled,
        t.offered,
        t.taken,
        t.encoded,
        t.fuse_start,
        t.fused,
        t.emitted,
        t.delivered,
    )
    steps = zip(STAGES, pairwise(times), strict=True)
    return {name: later - earlier for name, (earlier, later) in steps}


def _hops(timeline: Timeline) -> dict[str, Any]:
    hops = {name: seconds[timeline.plan.counted] for name, seconds in timeline.hops.items()}
    known = {name: seconds[~np.isnan(seconds)] for name, seconds in hops.items()}
    if not all(len(seconds) for seconds in known.values()) or not known:
        return {}
    both = known["hop_to"] + known["hop_back"]
    return {name: percentiles(seconds) for name, seconds in {**known, "hop": both}.items()}


def summarise(timeline: Timeline) -> dict[str, Any]:
    """Sum up the measured frames of a timeline, and the warm-up apart.

    Returns
    -------
    dict
        ``frames``: arrivals, deliveries and drops of the measured frames and of all frames.
        ``latency``: percentiles from the scheduled arrival to the delivered output, of delivered frames.
        ``latency_with_drops``: the same over all measured frames, a dropped one never being delivered;
        None stands for never. ``beyond_look_ahead``: the latency without the time until the last frame
        that the output has to wait for was due. ``stages``: percentiles of each of `STAGES`.
        ``push``: percentiles of what the pushes of the measured frames spent on each of `WORK`, of those that
        gave an output.
        ``hops``: percentiles of the way of the measured frames to the denoiser's process, of the work there and of
        the way back; empty without one.
        ``clock_late_max_s``: how late the camera's thread was at most, over all frames.
        ``busy``: the share of the measured time that the denoising thread worked.
    """
    counted = timeline.plan.counted
    latency = (timeline.delivered - timeline.scheduled)[counted]
    came = ~np.isnan(latency)
    total, fuse = timeline.work["total"][counted], timeline.work["fuse"][counted]
    warm_up = (timeline.delivered - timeline.scheduled)[: timeline.plan.warm_up]
    # A push whose output was skipped costs less, and would hide what an output costs.
    spent = {name: timeline.work[name][counted][fuse > 0] for name in WORK}
    return {
        "frames": {
            "measured": accounts(timeline, counted),
            "all": accounts(timeline, slice(None)),
            "samples": int(came.sum()),
        },
        "latency": percentiles(latency[came]),
        "latency_with_drops": percentiles(np.where(came, latency, np.inf)),
        "beyond_look_ahead": percentiles(latency[came] - timeline.look_ahead / timeline.plan.fps),
        "warm_up_latency": percentiles(warm_up[~np.isnan(warm_up)]),
        "stages": {name: percentiles(seconds[counted][came]) for name, seconds in _stages(timeline).items()},
        "hops": _hops(timeline),
        "push": {name: percentiles(seconds) for name, seconds in spent.items()},
        "clock_late_max_s": float(np.max(timeline.offered - timeline.scheduled)),
        "busy": float(np.nansum(total)) * timeline.plan.fps / timeline.plan.measured,
    }
