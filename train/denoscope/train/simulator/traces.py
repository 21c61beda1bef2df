"""Traces (T,): how the light of each part changes with time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from .settings import SceneSettings

__all__ = ["activity", "bleaching", "smooth_trace"]

FloatArray = npt.NDArray[np.float32]


def smooth_trace(frames: int, rate: float, rng: np.random.Generator) -> FloatArray:
    """Wander (T,) of mean zero and standard deviation one that turns within 0.2 to 2 seconds."""
    trace = ndimage.gaussian_filter1d(rng.standard_normal(frames), max(rate * rng.uniform(0.2, 2.0), 1.0))
    trace -= trace.mean()
    return np.asarray(trace / (trace.std() + 1e-9), np.float32)


def bleaching(scene: SceneSettings) -> FloatArray:
    """Share of the light that is left in each frame, (T,)."""
    decay = 1.0 - scene.bleaching * (1.0 - np.exp(-3.0 * np.arange(scene.frames) / scene.frames))
    return decay.astype(np.float32)


def activity(scene: SceneSettings, rng: np.random.Generator) -> FloatArray:
    """Relative fluorescence (T,): baseline plus bursts through GCaMP rise and decay."""
    rate = scene.spike_rate_hz / scene.frame_rate_hz * np.exp(rng.normal(0, 0.8))
    lead = int(min(5 * scene.decay_s * scene.frame_rate_hz, 2000))
    bursts = rng.random(scene.frames + lead) < rate
    train = bursts * rng.gamma(1.5, 1.0, size=bursts.size)
    rise = 1 - np.exp(-1 / max(scene.rise_s * scene.frame_rate_hz, 1e-3))
    keep = np.exp(-1 / max(scene.decay_s * scene.frame_rate_hz, 1e-3))
    calcium = np.empty(bursts.size)
    slow = fast = 0.0
    for index, spike in enumerate(train):
        slow = slow * keep + spike
        fast += rise * (slow - fast)
        calcium[index] = fast
    baseline = rng.uniform(0.1, 1.0)
    return np.asarray(baseline + rng.uniform(0.5, 2.0) * calcium[lead:], np.float32)
