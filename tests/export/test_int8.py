"""8-bit integers: only what convolutions read is quantised, and it runs, at a known loss, on both CPU backends."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from denoscope.acquisition.sources.movies import demo_movie
from denoscope.export import (
    PrecisionRefused,
    Target,
    build_engine,
    export_bundle,
    export_precision,
    plan_engines,
)
from denoscope.export import engines as engines_module  # is the builder installed
from denoscope.export import parity as parity  # smaller scenes for its measurement
from denoscope.export.int8 import int8, record_feeds  # the rewriting itself
from denoscope.export.precision import lower  # graphs without their measurement
from denoscope.runtime import Bundle, FrameMeta, InvalidInput, Stream, estimate_intensity
from denoscope.runtime.engines import EngineCache
from denoscope.train import CameraSettings, SceneSettings, Umvd, UmvdSettings, simulate

CPU = ("onnxruntime-cpu", "openvino")
QDQ = {"QuantizeLinear", "DequantizeLinear"}
EXACT = {  # the convolutions of `live` that stay float32, by their weights: however its graphs are written
    "network.entry.weight",  # reads all candidates
    "network.mix.weight",  # gives logarithms, like the next two and the last
    "network.head.4.weight",
    "network.spread.weight",
    "network.head.0.weight",  # reads what the blind view's parts saw
    "network.second.seen.weight",  # reads four quantities in units of the noise, like the next
    "network.second.doubt_seen.weight",
    "network.second.doubt.2.weight",
}


@pytest.fixture(scope="module")
def movie() -> npt.NDArray[Any]:
    return demo_movie().frames[:48, 60:124, 60:124]


@pytest.fixture(scope="module")
def live() -> Bundle:
    return Bundle.load("live")


@pytest.fixture(scope="module")
def integers(live: Bundle, movie: npt.NDArray[Any]) -> Bundle:
    return Bundle(live.folder, live.manifest, lower(live, "int8", movie).graphs)


def denoised(bundle: Bundle, frames: npt.NDArray[Any], backend: str) -> npt.NDArray[np.float32]:
    outputs = []
    with Stream(bundle, backend, align=False) as stream:
        for number, frame in enumerate(frames.astype(np.float32)):
            outputs += stream.push(frame, FrameMeta(number=number, t_received_s=0.0))
        outputs += stream.flush()
    return np.stack([output.frame for output in outputs])


def one_convolution() -> bytes:
    """A convolution whose input is read by another operator too."""
    nodes = [
        helper.make_node("Mul", ["x", "three"], ["part"]),
        helper.make_node("Conv", ["part", "w", "b"], ["z"], name="conv"),
        helper.make_node("Add", ["z", "part"], ["y"]),
    ]
    chance = np.random.default_rng(0)
    weights = {
        "three": np.full((1, 1, 1, 1), 3, np.float32),
        "w": chance.normal(size=(4, 4, 1, 1)).astype(np.float32)
        * np.float32([[[[1]]], [[[9]]], [[[1]]], [[[1]]]]),
        "b": chance.normal(size=4).astype(np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 4, "H", "W"))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 4, "H", "W"))],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


def test_the_arithmetic_is_that_of_signed_symmetric_integers() -> None:
    x = np.random.default_rng(1).normal(size=(1, 4, 8, 8)).astype(np.float32)
    data = one_convolution()
    quantised = int8(data, [{"x": x}])
    model = onnx.load_model_from_string(quantised)
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    step, zero = (
        constants[n] for n in next(n for n in model.graph.node if n.op_type == "QuantizeLinear").input[1:]
    )
    assert zero == 0
    assert zero.dtype == np.int8
    weights = next(n for n in model.graph.node if n.op_type == "Conv").input[1]
    stored, scales, zeros = (
        constants[n] for n in next(n for n in model.graph.node if weights in n.output).input
    )
    assert stored.dtype == np.int8
    assert scales.shape == (4,)
    assert scales[1] > 3 * scales[0]  # a scale for each output channel
    assert not zeros.any()
    both = 3 * x
    read = np.clip(np.rint(both / step), -128, 127) * step
    kernel = stored[:, :, 0, 0] * scales[:, None]
    expected = np.einsum("oi,bihw->bohw", kernel, read) + constants["b"][:, None, None] + 3 * x
    session = onnxruntime.InferenceSession(quantised, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, rtol=1e-3, atol=2 * step)
    exact = np.einsum("oi,bihw->bohw", constants_of(data)["w"][:, :, 0, 0], both)
    assert np.abs(expected - constants["b"][:, None, None] - 3 * x - exact).max() > step / 2


def constants_of(data: bytes) -> dict[str, npt.NDArray[Any]]:
    return {t.name: numpy_helper.to_array(t) for t in onnx.load_model_from_string(data).graph.initializer}


def test_what_an_exponential_reads_stays_exact() -> None:
    model = onnx.load_model_from_string(one_convolution())
    again = helper.make_node("Conv", ["y", "w", "b"], ["logarithm"], name="logarithm")
    raised = helper.make_node("Mul", ["logarithm", "three"], ["more"])
    model.graph.node.extend([again, raised, helper.make_node("Exp", ["more"], ["share"])])
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("share", TensorProto.FLOAT, (1, 4, "H", "W")))
    x = np.random.default_rng(1).normal(size=(1, 4, 8, 8)).astype(np.float32)
    quantised = onnx.load_model_from_string(int8(model.SerializeToString(), [{"x": x}]))
    made_by = {node.output[0]: node.op_type for node in quantised.graph.node}
    reads = {n.name: made_by.get(n.input[0]) for n in quantised.graph.node if n.op_type == "Conv"}
    assert reads == {"conv": "DequantizeLinear", "logarithm": "Add"}


@pytest.mark.parametrize("between", [[], ["Mul"], ["Div", "Sub", "Relu"]])
def test_parts_with_ranges_of_their_own_stay_exact(between: list[str]) -> None:
    model = onnx.load_model_from_string(one_convolution())
    nodes = [helper.make_node("Concat", ["y", "x"], ["joined0"], axis=1)]
    for i, kind in enumerate(between):
        reads = [f"joined{i}"] + ["three"] * (kind != "Relu")
        nodes.append(helper.make_node(kind, reads, [f"joined{i + 1}"]))
    nodes.append(helper.make_node("Conv", [f"joined{len(between)}", "w2"], ["again"], name="of parts"))
    nodes.append(helper.make_node("Conv", ["again", "w", "b"], ["last"], name="last"))
    model.graph.node.extend(nodes)
    chance = np.random.default_rng(0)
    weights = chance.normal(size=(4, 8, 1, 1)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weights, "w2"))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("last", TensorProto.FLOAT, (1, 4, "H", "W")))
    x = chance.normal(size=(1, 4, 8, 8)).astype(np.float32)
    quantised = onnx.load_model_from_string(int8(model.SerializeToString(), [{"x": x}]))
    made_by = {node.output[0]: node.op_type for node in quantised.graph.node}
    reads = {n.name: made_by[n.input[0]] for n in quantised.graph.node if n.op_type == "Conv"}
    last = between[-1] if between else "Concat"
    assert reads == {"conv": "DequantizeLinear", "of parts": last, "last": "DequantizeLinear"}


def test_only_convolutions_read_quantised_values(live: Bundle, integers: Bundle) -> None:
    for name in live.manifest.graphs:
        before = onnx.load_model_from_string(live.graph_bytes(name))
        after = onnx.load_model_from_string(integers.graph_bytes(name))
        for old, new in ((before.graph.input, after.graph.input), (before.graph.output, after.graph.output)):
            assert [(v.name, v.type) for v in old] == [(v.name, v.type) for v in new]
        values = {o for n in after.graph.node if n.op_type == "DequantizeLinear" for o in n.output}
        joined = {n.output[0] for n in after.graph.node if n.op_type == "Concat"}
        weights = {n.output[0]: n.input[1] for n in before.graph.node if n.op_type == "Conv"}
        convolutions = 0
        for node in after.graph.node:
            if node.op_type == "Conv":
                quantised = 0 if weights[node.output[0]] in EXACT else 2
                assert len(set(node.input[:2]) & values) == quantised, node.name
                assert not set(node.input[2:]) & values, node.name  # the bias stays float32
                convolutions += 1
            else:
                assert not set(node.input) & values, node.name
            if node.op_type == "QuantizeLinear":
                assert node.input[0] not in joined
        assert convolutions == sum(n.op_type == "Conv" for n in before.graph.node)
        rest = [n.op_type for n in after.graph.node if n.op_type not in QDQ]
        assert sorted(rest) == sorted(n.op_type for n in before.graph.node)
        assert not after.metadata_props


@pytest.mark.parametrize("backend", CPU)
def test_little_is_lost_on_a_real_and_on_a_simulated_movie(
    live: Bundle, integers: Bundle, movie: npt.NDArray[Any], backend: str
) -> None:
    movie = movie[:40, 16:64, 16:64]
    truth = denoised(live, movie, "openvino")
    intensity = estimate_intensity(movie[:32])
    z = (truth - intensity.offset) / intensity.scale
    noise = intensity.scale * np.sqrt(np.maximum(intensity.noise_slope * z + 1, intensity.noise_floor))
    again = truth + noise * np.random.default_rng(0).standard_normal(truth.shape, np.float32)
    simulated = simulate(SceneSettings(frames=40, height=48, width=48), CameraSettings(photons=1.5), seed=9)
    for noisy, clean in ((again, truth), (simulated.noisy, simulated.clean)):
        before, after = (parity._psnr_db(clean, denoised(b, noisy, backend)) for b in (live, integers))
        assert before - after < 0.3
        assert before != after


def test_the_ranges_come_from_the_stream(live: Bundle, movie: npt.NDArray[Any]) -> None:
    intensity = estimate_intensity(movie[:32])
    feeds = record_feeds(live, movie, intensity, 4)
    assert {name: len(runs) for name, runs in feeds.items() if runs} == {
        "encode": 4,
        "remember": 4,
        "fuse": 4,
    }
    np.testing.assert_allclose(
        feeds["encode"][1]["frame"][0, 0],
        (movie[len(movie) // 4].astype(np.float32) - intensity.offset) / intensity.scale,
        rtol=1e-4,
        atol=1e-4,
    )
    assert feeds["fuse"][-1]["valid"].all()
    assert feeds["fuse"][-1]["memory"].any()


@pytest.mark.slow
def test_a_bundle_in_int8_says_what_it_lost(
    live: Bundle, movie: npt.NDArray[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "_PHOTONS", (1.5,))
    short = dataclasses.replace(parity._SCENE, frames=40, height=32, width=40)
    monkeypatch.setattr(parity, "_SCENE", short)
    movie = movie[:40, 16:64, 16:64]
    folder = tmp_path / "small.denoscope"
    written, rows = export_precision(live, folder, "int8", movie=movie, movie_name="mine")
    assert [row.movie.split(",")[0] for row in rows] == ["mine", "simulated"]
    assert all(row.lost_db < 0.3 for row in rows)
    assert "8-bit integers" in (folder / "README.md").read_text(encoding="utf-8")
    with pytest.raises(InvalidInput, match="start from the bundle that was trained"):
        export_precision(written, tmp_path / "again.denoscope", "fp16")
    monkeypatch.setitem(parity.LOSS_LIMIT_DB, "int8", -1.0)
    with pytest.raises(PrecisionRefused, match=r"loses -?\d\.\d{3} dB in int8, and -1 dB is the limit"):
        export_precision(live, tmp_path / "refused.denoscope", "int8", movie=movie)


def test_int8_needs_a_movie(live: Bundle, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"int8 needs a movie .*`calibrate`"):
        export_precision(live, tmp_path / "b.denoscope", "int8")


@pytest.mark.slow
def test_other_methods_run_in_int8(tmp_path: Path, movie: npt.NDArray[Any]) -> None:
    import torch

    torch.manual_seed(0)
    network = Umvd(UmvdSettings(window=3))
    bundle = export_bundle(network, tmp_path / "umvd.denoscope", name="umvd", trained_on=["nothing"])
    cut = movie[:36, :32, :32]
    integers = Bundle(bundle.folder, bundle.manifest, lower(bundle, "int8", cut).graphs)
    exact = denoised(bundle, cut, "openvino")
    for backend in CPU:
        shown = denoised(integers, cut, backend)
        # Random weights make twenty layers of noise from noise; what a trained network loses is for the
        # export's own bar to judge.
        assert (shown != exact).any()
        assert np.corrcoef(shown.ravel(), exact.ravel())[0, 1] > 0.9


@pytest.mark.skipif(not engines_module.installed("tensorrt_rtx"), reason="needs the extra 'gpu'")
def test_engines_in_int8_are_built(integers: Bundle, tmp_path: Path) -> None:
    cache, built = EngineCache(tmp_path / "engines"), set()
    for plan in plan_engines(integers, [Target(8, 6)], [(64, 64)]):
        nodes = onnx.load_model_from_string(plan.onnx).graph.node
        if plan.spec.graph in built or not any(node.op_type == "Conv" for node in nodes):
            continue
        built.add(plan.spec.graph)
        kinds = build_engine(plan, cache).manifest.contents.layer_types
        convolutions = {kind: n for kind, n in kinds.items() if kind.startswith("CONVOLUTION")}
        assert sum(convolutions.values()) == sum(node.op_type == "Conv" for node in nodes)
