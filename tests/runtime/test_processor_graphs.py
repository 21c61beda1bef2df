"""Graphs are rewritten for OpenVINO without changing what they compute."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from denoscope.runtime import Bundle, list_bundles
from denoscope.runtime.backends.processor_graphs import for_processors

RNG = np.random.default_rng(0)


def graph(nodes: list[Any], inputs: dict[str, int], outputs: list[str], **constants: Any) -> bytes:
    """Return a model of frames (1, C, h, w)."""
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, c, "h", "w"]) for n, c in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, None, None, None]) for n in outputs],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()],
    )
    opset = [helper.make_opsetid("", 20)]
    return bytes(helper.make_model(made, opset_imports=opset, ir_version=10).SerializeToString())


def same(data: bytes, inputs: dict[str, int], size: tuple[int, int]) -> Counter[str]:
    """Compare both graphs on random frames and return the operators of the new one."""
    feeds = {n: RNG.normal(size=(1, c, *size)).astype(np.float32) for n, c in inputs.items()}
    new = for_processors(data, {n: v.shape for n, v in feeds.items()})
    onnx.checker.check_model(onnx.load_model_from_string(new), full_check=True)
    found, wanted = (
        onnxruntime.InferenceSession(d, providers=["CPUExecutionProvider"]).run(None, feeds)
        for d in (new, data)
    )
    for a, b in zip(found, wanted, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)
    return Counter(node.op_type for node in onnx.load_model_from_string(new).graph.node)


def weights(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.normal(size=shape).astype(np.float32)


def joined(*more: Any) -> list[Any]:
    return [helper.make_node("Concat", ["a", "b", "c", "d"], ["all"], axis=1), *more]


CHANNELS = {"a": 16, "b": 4, "c": 5, "d": 32}


def test_a_convolution_of_joined_frames_is_a_sum() -> None:
    conv = helper.make_node("Conv", ["all", "k", "bias"], ["y"])
    data = graph(joined(conv), CHANNELS, ["y"], k=weights(8, 57, 1, 1), bias=weights(8))
    # The two small ones stay together.
    assert same(data, CHANNELS, (6, 5)) == {"Conv": 3, "Add": 2, "Concat": 1}


@pytest.mark.parametrize("kind", ["read twice", "3 x 3", "groups"])
def test_other_convolutions_stay(kind: str) -> None:
    kernel = (
        weights(57, 1, 1, 1) if kind == "groups" else weights(8, 57, *((3, 3) if kind == "3 x 3" else (1, 1)))
    )
    conv = helper.make_node("Conv", ["all", "k"], ["y"], group=57 if kind == "groups" else 1)
    more = [helper.make_node("Relu", ["all"], ["z"])] if kind == "read twice" else []
    outputs = ["y", "z"] if more else ["y"]
    assert same(graph(joined(conv, *more), CHANNELS, outputs, k=kernel), CHANNELS, (6, 5))["Conv"] == 1


@pytest.mark.parametrize(("size", "shuffled"), [((6, 8), 1), ((7, 8), 0), ((6, 9), 0)])
def test_few_outputs_are_computed_for_four_places(size: tuple[int, int], shuffled: int) -> None:
    conv = helper.make_node("Conv", ["x", "k", "bias"], ["y"], pads=[1, 1, 1, 1])
    data = graph([conv], {"x": 24}, ["y"], k=weights(4, 24, 3, 3), bias=weights(4))
    assert same(data, {"x": 24}, size)["DepthToSpace"] == shuffled


@pytest.mark.parametrize(
    "changed", [{"pads": [0, 0, 0, 0]}, {"pads": [2, 2, 2, 2], "dilations": [2, 2]}, {"strides": [2, 2]}]
)
def test_convolutions_of_another_kind_are_left_alone(changed: dict[str, Any]) -> None:
    conv = helper.make_node("Conv", ["x", "k"], ["y"], **{"pads": [1, 1, 1, 1], **changed})
    data = graph([conv], {"x": 24}, ["y"], k=weights(4, 24, 3, 3))
    assert same(data, {"x": 24}, (8, 8)) == {"Conv": 1}


@pytest.mark.parametrize("padded", [0, 1])
@pytest.mark.parametrize(("edge", "passes"), [(7, 2), (5, 2), (3, 1)])
def test_a_mean_over_a_large_square_is_taken_by_rows_and_columns(edge: int, passes: int, padded: int) -> None:
    kernel = {"kernel_shape": [edge, edge], "pads": [edge // 2] * 4, "count_include_pad": padded}
    data = graph([helper.make_node("AveragePool", ["x"], ["y"], **kernel)], {"x": 1}, ["y"])
    assert same(data, {"x": 1}, (9, 12)) == {"AveragePool": passes}


@pytest.mark.parametrize(
    "changed",
    [
        {"kernel_shape": [7, 5], "pads": [3, 2, 3, 2]},
        {"pads": [0, 0, 0, 0]},
        {"strides": [2, 2]},
        {"kernel_shape": [6, 6], "pads": [3, 3, 3, 3]},
    ],
)
def test_other_means_are_left_alone(changed: dict[str, Any]) -> None:
    kernel = {"kernel_shape": [7, 7], "pads": [3, 3, 3, 3], **changed}
    data = graph([helper.make_node("AveragePool", ["x"], ["y"], **kernel)], {"x": 1}, ["y"])
    assert same(data, {"x": 1}, (9, 12)) == {"AveragePool": 1}


def test_joined_frames_leave_as_flat_pictures() -> None:
    ops = same(graph(joined(), CHANNELS, ["all"]), CHANNELS, (6, 5))
    assert ops["Reshape"] == 5


@pytest.mark.parametrize("name", list_bundles())
def test_the_shipped_bundles_are_rewritten(name: str) -> None:
    bundle = Bundle.load(name)
    channels = bundle.manifest.feature_channels
    shapes = {f"features_{i}": (1, channels, 24, 32) for i in range(bundle.manifest.window)} | {
        "memory": (1, bundle.manifest.memory_channels, 24, 32)
    }
    shapes |= {f"flow_{i}": (1, 2, 12, 16) for i in range(bundle.manifest.window - 1)}
    ops = Counter(
        n.op_type
        for n in onnx.load_model_from_string(for_processors(bundle.graph_bytes("fuse"), shapes)).graph.node
    )
    before = Counter(n.op_type for n in onnx.load_model_from_string(bundle.graph_bytes("fuse")).graph.node)
    assert ops["Conv"] >= before["Conv"] + 4, "the entry and the head are sums"
    wide = name != "live-fast"  # whose second stage has 8 channels
    assert ops["DepthToSpace"] == before["DepthToSpace"] + wide
