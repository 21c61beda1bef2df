"""Rewrite what a target's builder refuses into operators that it takes."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

__all__ = ["gemm_as_products"]


def gemm_as_products(data: bytes) -> bytes:
    """Write each matrix product as multiplications and a sum.

    `tensorrt_rtx` 1.7 has no float32 matrix product for compute capability 7.5. Those in a bundle are a vector of a
    dozen numbers by a small constant matrix, and a dozen knots spread over a picture: their cost does not matter.

    Parameters
    ----------
    data
        A serialised model.

    Returns
    -------
    bytes
        The model with `Gemm(A, B, C)`, where A is not transposed and B is a constant, as
        `sum over k of alpha A[m, k] B[n, k] + beta C[n]`, with `MatMul(A, B)`, where B is a constant matrix, alike,
        and with any other as `sum over k of A[..., m, k] B[..., k, n]`; every other operator is left as it is.
    """
    model = onnx.load_model_from_string(data)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        settings = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        product = node.op_type in ("Gemm", "MatMul") and not settings.get("transA")
        if not product or node.input[1] not in constants or len(constants[node.input[1]].dims) != 2:
            nodes += _outer_products(model.graph, node) if node.op_type == "MatMul" else [node]
            continue
        matrix = numpy_helper.to_array(constants[node.input[1]])
        rows = matrix if settings.get("transB") else matrix.T
        nodes += _products(model.graph, node, settings, np.ascontiguousarray(rows))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return bytes(model.SerializeToString())


def _products(
    graph: onnx.GraphProto, product: onnx.NodeProto, settings: dict[str, float], rows: np.ndarray
) -> list[onnx.NodeProto]:
    name = f"products::{product.output[0]}"
    scaled = rows * np.asarray(settings.get("alpha", 1.0), rows.dtype)
    middle, last = np.array([-2], np.int64), np.array([-1], np.int64)
    for part, values in (("rows", scaled), ("middle", middle), ("last", last)):
        graph.initializer.append(numpy_helper.from_array(values, f"{name}::{part}"))
    added = len(product.input) > 2 and product.input[2] != ""
    total = f"{name}::total" if added else product.output[0]
    nodes = [
        helper.make_node("Unsqueeze", [product.input[0], f"{name}::middle"], [f"{name}::left"]),
        helper.make_node("Mul", [f"{name}::left", f"{name}::rows"], [f"{name}::terms"]),
        helper.make_node("ReduceSum", [f"{name}::terms", f"{name}::last"], [total], keepdims=0),
    ]
    if added:
        beta = np.asarray(settings.get("beta", 1.0), rows.dtype)
        graph.initializer.append(numpy_helper.from_array(beta, f"{name}::beta"))
        nodes += [
            helper.make_node("Mul", [product.input[2], f"{name}::beta"], [f"{name}::added"]),
            helper.make_node("Add", [total, f"{name}::added"], [product.output[0]]),
        ]
    return nodes


def _outer_products(graph: onnx.GraphProto, product: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Return a product of two (stacks of) matrices that are no constants as a sum over outer products."""
    name = f"products::{product.output[0]}"
    for axis in (-3, -2, -1):
        graph.initializer.append(numpy_helper.from_array(np.array([axis], np.int64), f"{name}::axis{axis}"))
    left, right, terms = (f"{name}::{part}" for part in ("left", "right", "terms"))
    return [
        helper.make_node("Unsqueeze", [product.input[0], f"{name}::axis-1"], [left]),
        helper.make_node("Unsqueeze", [product.input[1], f"{name}::axis-3"], [right]),
        helper.make_node("Mul", [left, right], [terms]),
        helper.make_node("ReduceSum", [terms, f"{name}::axis-2"], [product.output[0]], keepdims=0),
    ]
