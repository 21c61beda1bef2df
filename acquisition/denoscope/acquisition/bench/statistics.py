"""Statistics of a timeline: latencies, stages, drops and the runtime's own cost."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from .play import DELIVERED, WORK, Timeline
from .results import FrameAccounts, FrameCounts, Percentiles, Summary

__all__ = ["PERCENTILES", "STAGES", "accounts", "percentiles", "summarise"]

PERCENTILES = {"p50_s": 50.0, "p95_s": 95.0, "p99_s": 99.0, "p99_9_s": 99.9, "max_s": 100.0}

# In the order in which a frame passes them; they add up to its latency.
STAGES = ("clock", "queue", "encode", "wait", "fuse", "convert", "deliver")


def percentiles(seconds: npt.ArrayLike) -> Percentiles:
    """Return nearest-rank percentiles: the least sample that so many per cent of all do not exceed.

    Parameters
    ----------
    seconds
        Samples; infinite for what never came. NaN is not allowed.

    Returns
    -------
    Percentiles
        None where that sample is infinite or there is none.
    """
    samples = np.sort(np.asarray(seconds, np.float64).ravel())
    found: dict[str, float | None] = {}
    for name, percent in PERCENTILES.items():
        # Rounded first, because 99.9 / 100 * 1000 is a little more than 999.
        rank = int(np.ceil(round(percent * len(samples) / 100, 9)))
        value = samples[max(rank, 1) - 1] if len(samples) else np.inf
        found[name] = float(value) if np.isfinite(value) else None
    return Percentiles(**found)


def accounts(timeline: Timeline, frames: slice) -> FrameCounts:
    """Return how many of these frames arrived and were delivered or dropped, by reason."""
    outcomes = Counter(timeline.outcome[frames])
    delivered = outcomes.pop(DELIVERED, 0)
    return FrameCounts(
        arrived=delivered + sum(outcomes.values()),
        delivered=delivered,
        dropped=dict(sorted(outcomes.items())),
    )


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


def _hops(timeline: Timeline) -> dict[str, Percentiles]:
    hops = {name: seconds[timeline.plan.counted] for name, seconds in timeline.hops.items()}
    known = {name: seconds[~np.isnan(seconds)] for name, seconds in hops.items()}
    if not all(len(seconds) for seconds in known.values()) or not known:
        return {}
    both = known["hop_to"] + known["hop_back"]
    return {name: percentiles(seconds) for name, seconds in {**known, "hop": both}.items()}


def summarise(timeline: Timeline) -> Summary:
    """Return statistics of the measured frames of a timeline, and of the warm-up apart.

    In ``latency_with_drops`` a dropped frame is one that is never delivered, and None stands for never.
    """
    counted = timeline.plan.counted
    latency = (timeline.delivered - timeline.scheduled)[counted]
    came = ~np.isnan(latency)
    total, fuse = timeline.work["total"][counted], timeline.work["fuse"][counted]
    warm_up = (timeline.delivered - timeline.scheduled)[: timeline.plan.warm_up]
    # A push whose output was skipped costs less, and would hide what an output costs.
    spent = {name: timeline.work[name][counted][fuse > 0] for name in WORK}
    return Summary(
        frames=FrameAccounts(
            measured=accounts(timeline, counted),
            all=accounts(timeline, slice(None)),
            samples=int(came.sum()),
        ),
        latency=percentiles(latency[came]),
        latency_with_drops=percentiles(np.where(came, latency, np.inf)),
        beyond_look_ahead=percentiles(latency[came] - timeline.look_ahead / timeline.plan.fps),
        warm_up_latency=percentiles(warm_up[~np.isnan(warm_up)]),
        stages={name: percentiles(seconds[counted][came]) for name, seconds in _stages(timeline).items()},
        hops=_hops(timeline),
        push={name: percentiles(seconds) for name, seconds in spent.items()},
        clock_late_max_s=float(np.max(timeline.offered - timeline.scheduled)),
        busy=float(np.nansum(total)) * timeline.plan.fps / timeline.plan.measured,
    )
