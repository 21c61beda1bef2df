"""Saturated pixels are shown as saturated: no shipped bundle says more than the camera can."""

from __future__ import annotations

import numpy as np
import pytest

from denoscope.runtime import Bundle, list_bundles
from denoscope.train import CameraSettings, SceneSettings, simulate
from denoscope.train.evaluation.truth import denoise_offline


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        # The large networks see one of the scenes by default: each frame takes them four times as long.
        pytest.param(name, kind, marks=pytest.mark.slow if slow else ())
        for name in list_bundles()
        for kind, slow in (("moving-cells", False), ("confocal", name in ("live-hq", "recorded")))
    ],
)
def test_nothing_is_invented_where_the_camera_saturates(name: str, kind: str) -> None:
    camera = CameraSettings(photons=100, gain=4.0, gain_spread=0.0, read_noise=1.0, offset=20.0, bits=10)
    movie = simulate(SceneSettings(kind=kind, frames=40, height=64, width=64), camera, seed=6)
    full = camera.most_counts
    saturated = movie.noisy == full
    assert 0.001 < saturated.mean() < 0.1
    mean, _ = denoise_offline(Bundle.load(name), movie.as_uint16())
    assert mean.max() < 1.15 * full
    assert np.mean(np.abs(mean[saturated].astype(float) - full)) < 0.04 * full
