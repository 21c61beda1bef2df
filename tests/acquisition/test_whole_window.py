"""The benchmark's whole-window bundle computes what the streaming split computes, and encodes N times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from denoscope.acquisition.bench.against import compare_whole_window
from denoscope.acquisition.bench.cases import Case
from denoscope.acquisition.bench.results import MeasuredCase, Percentiles
from denoscope.acquisition.bench.whole_window import SUFFIX, whole_window
from denoscope.runtime import Bundle, FrameMeta, Stream


def outputs(bundle: Bundle, movie: np.ndarray, look_ahead: int) -> tuple[np.ndarray, np.ndarray]:
    with Stream(bundle, "onnxruntime-cpu", look_ahead=look_ahead, std=True, align=False) as stream:
        found = []
        for number, frame in enumerate(movie):
            if number != 41:  # a gap: its neighbours do without it
                found += stream.push(frame, FrameMeta(number=number, t_received_s=0.0))
        found += stream.flush()
    return np.stack([o.frame for o in found]), np.stack([o.std for o in found])


@pytest.mark.parametrize("look_ahead", [0, 3])
def test_it_gives_the_same_frames(tmp_path: Path, look_ahead: int) -> None:
    split = Bundle.load("live")
    whole = whole_window(split, tmp_path / "whole.denoscope")
    movie = np.random.default_rng(0).poisson(9, (60, 34, 38)).astype(np.uint16)
    for one, other in zip(outputs(split, movie, look_ahead), outputs(whole, movie, look_ahead), strict=True):
        np.testing.assert_allclose(other, one, atol=1e-3, rtol=1e-5)


def test_it_holds_one_encoder_for_each_frame_of_the_window_and_one_set_of_weights(tmp_path: Path) -> None:
    split = Bundle.load("live")
    whole = whole_window(split, tmp_path / "whole.denoscope")
    assert whole.manifest.name == f"live{SUFFIX}"

    def count(bundle: Bundle, graph: str) -> int:
        nodes = onnx.load_from_string(bundle.graph_bytes(graph)).graph.node
        return sum(node.op_type == "Conv" for node in nodes)

    assert count(whole, "encode") == 0
    window = split.manifest.window
    assert count(whole, "fuse") == count(split, "fuse") + window * count(split, "encode")
    sizes = [sum(len(b.graph_bytes(g)) for g in b.manifest.graphs) for b in (split, whole)]
    assert sizes[1] < 1.3 * sizes[0]


def test_ratios_are_of_the_same_case() -> None:
    def result(name: str, backend: str, push_s: float) -> MeasuredCase:
        case = Case(
            bundle=name,
            bundle_name=name,
            bundle_sha256="",
            backend=backend,
            height=16,
            width=16,
            look_ahead=1,
        )
        push = {"total": Percentiles(p50_s=push_s)}
        return MeasuredCase(case=case, label=f"{name} {backend}", latency=Percentiles(), push=push)

    results = [
        result("live", "openvino", 0.02),
        result("live", "onnxruntime-cpu", 0.04),
        result(f"live{SUFFIX}", "openvino", 0.05),
        result(f"other{SUFFIX}", "openvino", 1.0),
    ]
    (pair,) = compare_whole_window(results)
    assert pair.label == "live openvino"
    assert pair.ratios["push_p50"] == pytest.approx(2.5)
    assert pair.ratios["sustained_fps"] is None
