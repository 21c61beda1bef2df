"""Bundles whose `encode` asks for gigabytes or minutes, each with the words that must refuse it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from denoscope.runtime import write_bundle
from support.tiny_bundle import tiny_files, tiny_manifest

__all__ = ["HOSTILE", "hostile_bundle"]

Constants = dict[str, Any]
Added = tuple[list[NodeProto], Constants]  # nodes that make `extra` from constants and from `frame`


def one(operator: str, inputs: Sequence[str], constants: Constants, **attributes: Any) -> Added:
    return [helper.make_node(operator, inputs, ["extra"], **attributes)], constants


def shape_times_itself() -> Added:
    """Pixels x pixels: small for a tiny frame, 4 GiB for one of 181 x 181."""
    nodes = [
        helper.make_node("Reshape", ["frame", "column"], ["down"]),
        helper.make_node("Reshape", ["frame", "row"], ["along"]),
        helper.make_node("Mul", ["down", "along"], ["extra"]),
    ]
    return nodes, {"column": np.array([-1, 1]), "row": np.array([1, -1])}


def grown_by_steps() -> Added:
    """A shape that is computed from small numbers."""
    nodes = [helper.make_node("Mul", ["thousand", "thousand"], ["square"])]
    nodes.append(helper.make_node("Mul", ["square", "thousand"], ["shape"]))
    nodes.append(helper.make_node("ConstantOfShape", ["shape"], ["extra"]))
    return nodes, {"thousand": np.array([1000])}


def shape_from_the_pixels() -> Added:
    """As many values as the first pixel says."""
    nodes = [
        helper.make_node("ReduceMax", ["frame"], ["peak"], keepdims=0),
        helper.make_node("Range", ["zero_", "peak", "one_"], ["extra"]),
    ]
    return nodes, {"zero_": np.float32(0), "one_": np.float32(1)}


def endless_convolution() -> Added:
    nodes = [
        helper.make_node("Expand", ["frame", "shape"], ["wide"]),
        helper.make_node("MatMul", ["wide", "wide"], ["product"]),
        helper.make_node("AveragePool", ["product"], ["extra"], kernel_shape=[501, 501], pads=[250] * 4),
    ]
    return nodes, {"shape": np.array([1, 4000, 1, 1])}


def many_large_values() -> Added:
    nodes = [helper.make_node("Expand", ["frame", "shape"], ["value_0"])]
    nodes += [helper.make_node("Exp", [f"value_{i}"], [f"value_{i + 1}"]) for i in range(40)]
    return [*nodes, helper.make_node("Identity", ["value_40"], ["extra"])], {
        "shape": np.array([1, 2000, 1, 1])
    }


def many_nodes() -> Added:
    nodes = [helper.make_node("Identity", ["frame"], ["value_0"])]
    nodes += [helper.make_node("Neg", [f"value_{i}"], [f"value_{i + 1}"]) for i in range(200_000)]
    return [*nodes, helper.make_node("Identity", ["value_200000"], ["extra"])], {}


HOSTILE: dict[str, tuple[Callable[[], Added], str]] = {
    "range": (
        lambda: one(
            "Range", ["a", "b", "c"], {"a": np.float64(0), "b": np.float64(1e12), "c": np.float64(1)}
        ),
        "size 1000000000000 for",
    ),
    "range of integers": (
        lambda: one("Range", ["a", "b", "c"], {"a": np.int64(0), "b": np.int64(10**12), "c": np.int64(1)}),
        "size 1000000000000 for",
    ),
    "constant of shape": (
        lambda: one("ConstantOfShape", ["shape"], {"shape": np.array([100_000, 100_000])}),
        "100000 x 100000",
    ),
    "expand": (
        lambda: one("Expand", ["frame", "shape"], {"shape": np.array([100_000, 1, 1, 1])}),
        "100000 x 1",
    ),
    "tile": (lambda: one("Tile", ["frame", "n"], {"n": np.array([1, 1, 999, 999])}), "127872 x 127872"),
    "pad": (
        lambda: one("Pad", ["frame", "n"], {"n": np.array([0, 0, 0, 0, 0, 0, 10**6, 10**6])}),
        "1000128 x",
    ),
    "resize": (
        lambda: one(
            "Resize", ["frame", "", "s"], {"s": np.array([1, 1, 900, 900], np.float32)}, mode="nearest"
        ),
        "115200 x 115200",
    ),
    "sizes of resize": (
        lambda: one("Resize", ["frame", "", "", "s"], {"s": np.array([1, 1, 10**6, 10**6])}, mode="nearest"),
        "1000000 x 1000000",
    ),
    "random numbers": (lambda: one("RandomNormal", [], {}, shape=[10**6, 10**6]), "1000000 x 1000000"),
    "one hot": (
        lambda: one(
            "OneHot",
            ["i", "d", "v"],
            {"i": np.zeros(9999, np.int64), "d": np.int64(10**8), "v": np.eye(2)[0]},
        ),
        "9999 x 100000000|only known when it runs",
    ),
    "transposed convolution": (
        lambda: one(
            "ConvTranspose", ["frame", "w"], {"w": np.ones((1, 1, 1, 1), np.float32)}, strides=[999, 999]
        ),
        "126874 x 126874",
    ),
    "pixels times pixels": (shape_times_itself, "16384 x 16384"),
    "shape by steps": (grown_by_steps, "size 1000000000 for"),
    "shape from the pixels": (shape_from_the_pixels, "Range whose size is only known when it runs"),
    "products": (endless_convolution, "multiplications"),
    "many large values": (many_large_values, "would compute more than"),
    "many nodes": (many_nodes, r"has 2000\d\d nodes, and at most 20000"),
}


def hostile_bundle(folder: Path, case: str) -> str:
    """Write a bundle with one of the graphs of `HOSTILE`; return what must be in the refusal, as a pattern."""
    make, complaint = HOSTILE[case]
    nodes, constants = make()
    manifest = tiny_manifest()
    files = tiny_files(manifest)
    model = onnx.load_model_from_string(files["encode.onnx"])
    graph = model.graph
    constants["none"] = np.float32(0)
    for name, value in constants.items():
        graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    added = [
        *nodes,
        helper.make_node("Cast", ["extra"], ["as_float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["as_float"], ["largest"], keepdims=0),
        helper.make_node("Mul", ["largest", "none"], ["vanishing"]),
        helper.make_node("Add", ["plain", "vanishing"], ["features"]),
    ]
    graph.node[-1].output[0] = "plain"
    graph.node.extend(added)
    write_bundle(folder, manifest, {**files, "encode.onnx": model.SerializeToString()})
    return complaint
