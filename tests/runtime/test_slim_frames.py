"""Frames that are hundreds of times as long as wide, such as line scans, and frames with infinite pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from denoscope.runtime import FrameMeta, Stream
from support.tiny_bundle import tiny_bundle


@pytest.mark.parametrize("shape", [(16, 4096), (16, 9000), (9000, 16), (20, 700)])
def test_slim_frames_are_denoised(tmp_path: Path, shape: tuple[int, int]) -> None:
    tiny_bundle(tmp_path / "tiny.denoscope", intensity=None, calibration_frames=4)
    chance = np.random.default_rng(0)
    with Stream(tmp_path / "tiny.denoscope", "onnxruntime-cpu") as stream:
        found = []
        for number in range(7):
            frame = chance.poisson(100, shape).astype(np.uint16)
            found += stream.push(frame, FrameMeta(number=number, t_received_s=0.0))
        found += stream.flush()
    assert [each.meta.number for each in found] == list(range(7))
    assert {each.frame.shape for each in found} == {shape}
    assert found[-1].frame.mean() == pytest.approx(100, abs=2)


def test_infinite_pixels_raise_no_warning(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "tiny.denoscope", intensity=None, calibration_frames=4)
    frame = np.random.default_rng(0).poisson(100, (32, 40)).astype(np.float32)
    frame[3, 5] = np.inf
    with Stream(tmp_path / "tiny.denoscope", "onnxruntime-cpu") as stream:
        found = []
        for number in range(7):
            found += stream.push(frame, FrameMeta(number=number, t_received_s=0.0))
        found += stream.flush()
    assert all(
        np.isnan(each.frame[3, 5]) and np.isfinite(np.delete(each.frame, 3, 0)).all() for each in found
    )
