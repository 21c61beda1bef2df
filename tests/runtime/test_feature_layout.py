"""Features go from graph to graph in the order of memory of convolutions, and pictures stay the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from denoscope.runtime import Backend, Bundle, FrameMeta, Intensity, Stream
from denoscope.runtime.backends.feature_layout import PIXELS, PLANES, lay_out
from denoscope.runtime.backends.openvino import OpenVino

SHAPE, CELLS = (1, 20, 6, 10), 4
RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=SHAPE).astype(np.float32)


class AsExported(OpenVino):
    """OpenVINO with features as they are in the bundle."""

    features = Backend.features


def graph(nodes: list[Any], given: dict[str, int], made: dict[str, int], **constants: Any) -> bytes:
    """Return a model of frames (1, C, h, w) with the channels of everything that is between."""
    values = [
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, c, "h", "w"]) for n, c in each.items()]
        for each in (given, made)
    ]
    parts = [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()]
    whole = onnx.shape_inference.infer_shapes(
        helper.make_model(
            helper.make_graph(nodes, "g", *values, parts),
            opset_imports=[helper.make_opsetid("", 20)],
            ir_version=10,
        )
    )
    return bytes(whole.SerializeToString())


def cut(name: str, start: int, stop: int) -> tuple[onnx.NodeProto, dict[str, Any]]:
    numbers = {f"{name}_{k}": np.array([v]) for k, v in (("from", start), ("to", stop), ("axis", 1))}
    return helper.make_node("Slice", ["features", *numbers], [name]), numbers


def run(data: bytes, feeds: dict[str, Any]) -> dict[str, Any]:
    onnx.checker.check_model(onnx.load_model_from_string(data), full_check=True)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    outputs = [each.name for each in session.get_outputs()]
    return dict(zip(outputs, session.run(None, {n: feeds[n] for n in names}), strict=True))


def apart(features: Any, name: str = "features") -> dict[str, Any]:
    """Return features in two parts."""
    pixels = np.ascontiguousarray(np.moveaxis(features[:, CELLS:], 1, -1))
    return {name + PLANES: features[:, :CELLS], name + PIXELS: pixels}


@pytest.mark.parametrize(
    ("bounds", "slices", "joined"),
    [
        ([(0, 4), (4, 20)], 0, 0),
        ([(0, 4), (4, 2**62)], 0, 0),
        ([(0, 4), (-16, 20)], 0, 0),
        ([(0, 8), (4, 20)], 1, 1),  # one that is neither part reads what is put together
        ([(0, 4)], 0, 0),
    ],
)
def test_a_graph_reads_features_in_two_parts(bounds: list[tuple[int, int]], slices: int, joined: int) -> None:
    made = [cut(f"part{i}", *each) for i, each in enumerate(bounds)]
    outputs = {f"out{i}": len(range(20)[slice(*each)]) for i, each in enumerate(bounds)}
    ends = [helper.make_node("Neg", [f"part{i}"], [f"out{i}"]) for i in range(len(made))]
    numbers = {name: value for _, given in made for name, value in given.items()}
    data = graph([*(node for node, _ in made), *ends], {"features": 20}, outputs, **numbers)
    new = lay_out(data, {"features": CELLS})
    found, wanted = run(new, apart(FEATURES)), run(data, {"features": FEATURES})
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value)
    ops = [node.op_type for node in onnx.load_model_from_string(new).graph.node]
    assert (ops.count("Slice"), ops.count("Concat")) == (slices, joined)


@pytest.mark.parametrize("kind", ["joined", "joined elsewhere", "read again"])
def test_a_graph_gives_features_in_two_parts(kind: str) -> None:
    first = 4 if kind != "joined elsewhere" else 12
    given = {"a": first, "b": 20 - first}
    nodes = [
        *(helper.make_node("Neg", [name], [f"{name}_"]) for name in given),
        helper.make_node("Concat", ["a_", "b_"], ["features"], axis=1),
    ]
    outputs = {"features": 20}
    if kind == "read again":
        nodes.append(helper.make_node("Neg", ["features"], ["again"]))
        outputs["again"] = 20
    data = graph(nodes, given, outputs)
    feeds = {"a": FEATURES[:, :first], "b": FEATURES[:, first:]}
    new = lay_out(data, {"features": CELLS})
    found, wanted = run(new, feeds), run(data, feeds)
    for name, value in (
        apart(wanted["features"]) | {k: v for k, v in wanted.items() if k == "again"}
    ).items():
        np.testing.assert_array_equal(found[name], value)
    ops = [node.op_type for node in onnx.load_model_from_string(new).graph.node]
    assert ("Split" in ops) == (kind != "joined")


def test_what_was_learned_is_kept_in_bfloat16() -> None:
    node = helper.make_node("Neg", ["features"], ["made"])
    data = lay_out(graph([node], {"features": 20}, {"made": 20}), {"features": CELLS}, bfloat16=True)
    kinds = {v.name: v.type.tensor_type.elem_type for v in onnx.load_model_from_string(data).graph.input}
    assert kinds == {"features" + PLANES: TensorProto.FLOAT, "features" + PIXELS: TensorProto.BFLOAT16}
    onnx.checker.check_model(onnx.load_model_from_string(data), full_check=True)


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_memory_in_parts_is_written_read_and_emptied(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenVino, "precision", precision)
    with OpenVino(threads=1) as backend:
        buffer = backend.features(SHAPE, CELLS)
        buffer.upload(FEATURES)
        found = np.full(SHAPE, np.nan, np.float32)
        buffer.download(found)
        np.testing.assert_array_equal(found[:, :CELLS], FEATURES[:, :CELLS])
        near = 0 if precision == "f32" else 2**-8
        np.testing.assert_allclose(found, FEATURES, rtol=near, atol=0)
        if near:
            assert not np.array_equal(found, FEATURES)
            buffer.upload(found)  # what is rounded stays
            again = np.empty_like(found)
            buffer.download(again)
            np.testing.assert_array_equal(again, found)
        buffer.clear()
        buffer.download(found)
        assert not found.any()


@pytest.mark.parametrize(("channels", "planes"), [(20, 0), (16, 4), (4, 4)])
def test_other_features_stay_as_they_are(channels: int, planes: int) -> None:
    with OpenVino(threads=1) as backend:
        assert backend.features((1, channels, 6, 10), planes).array is not None


def test_pictures_are_those_of_features_as_exported() -> None:
    bundle = Bundle.load("live")
    movie = RNG.poisson(20 + 10 * np.sin(np.arange(24) / 3), (8, 16, 24)).astype(np.uint16)
    pictures = []
    for kind in (AsExported, OpenVino):
        made = []
        intensity = Intensity(offset=20, scale=4.5, noise_slope=0.2, noise_floor=0.5)
        with kind(threads=1) as backend, Stream(bundle, backend, intensity=intensity, align=False) as stream:
            for number, frame in enumerate(movie):
                after_gap = 2 * (number > 5)
                given = frame.astype(np.float32)  # not rounded to counts
                made += stream.push(given, FrameMeta(number + after_gap, 0.03 * number))
            made += stream.flush()
            pictures.append(np.stack([output.frame for output in made]))
    assert pictures[0].shape == movie.shape
    np.testing.assert_allclose(pictures[1], pictures[0], rtol=0, atol=1e-5 * 4.5)
