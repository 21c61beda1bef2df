"""The flow network: its convention, its modesty in the dark, its form in a bundle."""

from __future__ import annotations

import io
import sys
import warnings
from importlib import resources
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from denoscope.runtime import Intensity, InvalidInput
from denoscope.train.flow.net import (
    FlowNet,
    Motion,
    average_frames,
    estimate_flow,
    flow_estimator,
    global_shift,
    load_flow,
)
from denoscope.train.flow.pairs import PairSettings, draw_pairs, still_scenes
from denoscope.train.flow.warp import warp

pytestmark = pytest.mark.usefixtures("one_thread")

NOISE = torch.tensor([0.3, 0.4])


@pytest.fixture(scope="module")
def shipped() -> FlowNet:
    return load_flow()


@pytest.fixture(scope="module")
def scenes() -> Tensor:
    return still_scenes(6, seed=77)


def _pairs(scenes: Tensor, photons: float, motion_px: float):
    settings = PairSettings(photons=(photons, photons), motion_px=(motion_px, motion_px), still=0)
    return draw_pairs(
        scenes, batch=16, crop=96, generator=torch.Generator().manual_seed(5), settings=settings
    )


def _errors(network: FlowNet, scenes: Tensor, photons: float, motion_px: float) -> tuple[float, float]:
    p = _pairs(scenes, photons, motion_px)
    true = torch.nn.functional.avg_pool2d(p.flow, 4)
    with torch.inference_mode():
        flow = network(p.a, p.b, p.noise)
    return float((flow - true).norm(dim=1).mean()), float(true.norm(dim=1).mean())


def test_shipped_weights_are_small(shipped: FlowNet) -> None:
    assert sum(p.numel() for p in shipped.parameters()) < 150_000
    with resources.as_file(resources.files("denoscope.train") / "weights/flow.safetensors") as file:
        assert 0 < file.stat().st_size < 600_000


@pytest.mark.parametrize(("photons", "share"), [(100.0, 0.45), (10.0, 0.65)])
def test_finds_known_motion(shipped: FlowNet, scenes: Tensor, photons: float, share: float) -> None:
    error, without = _errors(shipped, scenes, photons, 2.0)
    assert error < share * without


def test_is_no_worse_than_no_motion_where_light_is_scarce(shipped: FlowNet, scenes: Tensor) -> None:
    error, without = _errors(shipped, scenes, 0.1, 1.0)
    assert error < 1.02 * without


def test_invents_no_motion_in_pure_noise(shipped: FlowNet) -> None:
    a, b = torch.randn(2, 4, 1, 96, 96, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        flow = shipped(a[:, None, 0], b[:, None, 0], torch.tensor([0.5, 0.5]))
    assert float(flow.norm(dim=1).mean()) < 0.25


@pytest.mark.parametrize("shift", [(0, 0), (5, -9), (-12, 3)])
def test_global_shift_has_the_flows_sign(shift: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    scene = 500 * np.exp(ndimage.gaussian_filter(rng.standard_normal((160, 160)), 2.5) * 6)
    unit = Intensity(offset=500, scale=25, noise_slope=0.04, noise_floor=0.1)
    b = rng.poisson(scene[20:-20, 20:-20])
    y, x = 20 - shift[0], 20 - shift[1]
    a = rng.poisson(scene[y : y + 120, x : x + 120])
    assert global_shift(a, b, unit) == shift  # a(p + shift) = b(p)


def test_global_shift_needs_evidence() -> None:
    rng = np.random.default_rng(0)
    unit = Intensity(offset=4, scale=2, noise_slope=0.5, noise_floor=0.1)
    found = [global_shift(*rng.poisson(4, (2, 64, 64)), unit) for _ in range(5)]
    assert found.count((0, 0)) >= 4


def test_estimates_frames_of_any_size_with_a_large_shift(shipped: FlowNet, scenes: Tensor) -> None:
    scene = 200 * scenes[4, 0].numpy()
    rng = np.random.default_rng(1)
    b, a = rng.poisson(scene[20:149, 20:141]), rng.poisson(scene[9:138, 24:145])
    level = float(np.median(a))
    unit = Intensity(offset=level, scale=level**0.5, noise_slope=level**-0.5, noise_floor=0.1)
    flow = estimate_flow(shipped, a, b, unit)
    assert flow.shape == (2, 129, 121)
    assert flow.dtype == np.float32
    assert np.median(flow[0]) == pytest.approx(11, abs=0.4)
    assert np.median(flow[1]) == pytest.approx(-4, abs=0.4)
    swapped = flow_estimator(shipped, unit)(b, a)  # (target, source)
    np.testing.assert_array_equal(swapped, flow)


def test_averages_keep_the_unit_of_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    clean = torch.tensor([0.0, 2.0, 8.0]).view(3, 1, 1, 1).expand(3, 4, 64, 64)
    frames = clean + torch.sqrt(0.5 * clean + 1) * torch.randn(clean.shape, generator=generator)
    frame, noise = average_frames(frames, torch.tensor([0.5, 0.2]))
    assert frame.shape == (3, 1, 64, 64)
    expected = noise[0] * frame.mean((1, 2, 3)) + 1
    torch.testing.assert_close(frame.var((1, 2, 3)), expected, rtol=0.06, atol=0.0)
    assert noise[1] == 0.2


def test_motion_takes_features_that_begin_with_the_frame() -> None:
    torch.manual_seed(0)
    network = FlowNet().eval()
    a, b = torch.randn(2, 1, 1, 32, 48)
    with torch.inference_mode():
        expected = network(a, b, NOISE)
        cells = [torch.cat([torch.pixel_unshuffle(x, 2), torch.randn(1, 7, 16, 24)], 1) for x in (a, b)]
        torch.testing.assert_close(Motion(network)(*cells, NOISE), expected)
        full = [torch.cat([x, torch.randn(1, 3, 32, 48)], 1) for x in (a, b)]
        torch.testing.assert_close(Motion(network, cells=False)(*full, NOISE), expected)


@pytest.fixture(scope="module")
def motion_onnx(shipped: FlowNet) -> bytes:
    features, sizes = torch.zeros(1, 20, 24, 32), {2: "rows", 3: "columns"}
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Motion(shipped).eval(),
            (features, features.clone(), NOISE),
            buffer,
            dynamo=False,
            opset_version=20,
            input_names=["features_a", "features_b", "noise"],
            output_names=["flow"],
            dynamic_axes={"features_a": sizes, "features_b": sizes},
        )
    return buffer.getvalue()


def test_onnx_has_standard_operators_only(motion_onnx: bytes) -> None:
    model = onnx.load_model_from_string(motion_onnx)
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 20)]
    assert {node.domain for node in model.graph.node} <= {""}
    assert not model.functions


def test_onnx_equals_torch_at_every_size(shipped: FlowNet, motion_onnx: bytes) -> None:
    session = onnxruntime.InferenceSession(motion_onnx, providers=["CPUExecutionProvider"])
    for height, width in ((32, 32), (64, 96), (36, 132), (100, 44)):
        a, b = torch.randn(2, 1, 20, height // 2, width // 2) * 3
        (flow,) = session.run(
            None, {"features_a": a.numpy(), "features_b": b.numpy(), "noise": NOISE.numpy()}
        )
        assert flow.shape == (1, 2, height // 4, width // 4)
        with torch.inference_mode():
            expected = Motion(shipped)(a, b, NOISE).numpy()
        np.testing.assert_allclose(flow, expected, atol=1e-4 * max(1, np.abs(expected).max()))


def test_warp_samples_where_the_flow_points() -> None:
    image = torch.arange(20.0).view(1, 1, 4, 5)
    flow = torch.zeros(1, 2, 4, 5)
    flow[:, 0], flow[:, 1] = 1.0, -0.5
    moved = warp(image, flow)
    assert moved[0, 0, 1, 2] == pytest.approx(float(image[0, 0, 2, 2]) - 0.5)
    assert moved[0, 0, 3, 2] == pytest.approx(float(image[0, 0, 3, 2]) - 0.5)  # the border is repeated


def test_a_foreign_file_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"\x80\x04 not weights")
    for name in ("x.safetensors", "missing.safetensors"):
        with pytest.raises(InvalidInput, match=rf"{name} does not hold .* give a file") as caught:
            load_flow(tmp_path / name)
        assert "\n" not in str(caught.value)


sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from flow_references import REFERENCES  # noqa: E402  beside the benchmark that compares with them


@pytest.mark.parametrize("method", REFERENCES[1:], ids=lambda m: m.name)
def test_published_methods_follow_the_same_convention(method, scenes: Tensor) -> None:
    if method.name == "DIS":
        pytest.importorskip("cv2")
    scene = 20 * np.sqrt(scenes[4, 0].numpy())
    flow = method(scene[20:116, 20:116], scene[22:118, 19:115], 1.0)
    assert flow.shape == (2, 96, 96)
    assert np.median(flow[0]) == pytest.approx(2, abs=0.5)  # a(p + flow) = b(p)
    assert np.median(flow[1]) == pytest.approx(-1, abs=0.5)
