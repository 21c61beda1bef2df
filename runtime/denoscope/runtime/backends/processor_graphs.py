"""Rewrite graphs for OpenVINO's processor plugin: the same outputs by less copying and with full registers.

What it convolves lies in another order of memory than what comes from outside. A concatenation of many inputs is
reordered as a whole, which takes as long as the convolution of single pixels that reads it; a convolution with four
outputs fills a quarter of a register.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import onnx

__all__ = ["for_processors"]

Sizes = Mapping[str, tuple[int, ...]]

_UNKNOWN = 1  # for a height or width
_LARGE = 5  # pixels on an edge, from which on two passes cost less than one
_ALONE = 16  # channels that fill a vector register; smaller inputs stay together


def for_processors(data: bytes, shapes: Mapping[str, Sequence[int]]) -> bytes:
    """Return a graph for inputs of fixed sizes that computes the same, but for rounding.

    - A 1 x 1 convolution of a concatenation becomes a sum of convolutions of its parts.
    - A concatenation of frames that leaves the graph is made of flat pictures, which are reordered one by one.
    - A 3 x 3 convolution with at most four outputs computes those of 2 x 2 places at once.
    - A mean over a square of 5 x 5 pixels or more is one over rows, then over columns.

    Parameters
    ----------
    data
        A serialised model.
    shapes
        Of its inputs.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.load_model_from_string(data)
    graph = model.graph
    sizes = _sizes(model, shapes)
    made = {name: node for node in graph.node for name in node.output}
    readers = Counter(name for node in graph.node for name in node.input)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    leaving = {value.name for value in graph.output}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        weights = constants.get(node.input[1]) if node.op_type == "Conv" else None
        joined = made.get(node.input[0]) if node.input else None
        if weights is not None and joined is not None and _splits(node, joined, weights, readers, sizes):
            nodes += _sum_of_parts(node, joined, numpy_helper.to_array(weights), sizes, graph)
        elif weights is not None and _is_narrow(node, weights, sizes):
            nodes += _four_places(node, weights, constants, graph)
        elif node.op_type == "Concat" and node.output[0] in leaving and _of_frames(node, sizes):
            nodes += _flat(node, sizes, graph)
        elif node.op_type == "AveragePool" and (edge := _square(node)) >= _LARGE:
            nodes += _rows_then_columns(node, edge)
        else:
            nodes.append(node)
    used = {name for node in nodes for name in node.input} | leaving
    kept = [node for node in nodes if used.intersection(node.output)]
    del graph.node[:]
    graph.node.extend(kept)
    return bytes(model.SerializeToString())


def _sizes(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """Return the shapes (B, C, h, w) of all values with known channels; other sizes may be `_UNKNOWN`."""
    import onnx

    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in fixed.graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, shapes.get(value.name, ()), strict=False):
            dim.dim_value = size
    del fixed.graph.value_info[:]
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph
    found = {}
    for value in (*model.graph.value_info, *inferred.input, *inferred.value_info):
        dims = value.type.tensor_type.shape.dim
        if len(dims) == 4 and dims[1].HasField("dim_value"):
            found[value.name] = tuple(int(d.dim_value) or _UNKNOWN for d in dims)
    return found


def _of_frames(node: onnx.NodeProto, sizes: Sizes) -> bool:
    axis = next(a.i for a in node.attribute if a.name == "axis")
    return axis in (1, -3) and all(name in sizes for name in node.input)


def _splits(
    node: onnx.NodeProto,
    joined: onnx.NodeProto,
    weights: onnx.TensorProto,
    readers: Mapping[str, int],
    sizes: Sizes,
) -> bool:
    """Say whether a convolution reads a concatenation of frames that nothing else does, pixel by pixel."""
    alone = joined.op_type == "Concat" and readers[joined.output[0]] == 1 and len(joined.input) > 1
    return alone and _of_frames(joined, sizes) and _is_plain(node, weights, 1)


def _is_narrow(node: onnx.NodeProto, weights: onnx.TensorProto, sizes: Sizes) -> bool:
    """Say whether a 3 x 3 convolution has too few outputs to fill a register, and rows and columns of even number."""
    size = sizes.get(node.input[0], (1, 1, 1, 1))
    few, many = weights.dims[0] <= _ALONE // 4, weights.dims[1] >= _ALONE
    return few and many and not (size[2] % 2 or size[3] % 2) and _is_plain(node, weights, 3)


def _is_plain(node: onnx.NodeProto, weights: onnx.TensorProto, kernel: int) -> bool:
    """Say whether a float32 convolution has this kernel, gives each pixel once, and has no groups."""
    import onnx

    values = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    around = (kernel - 1) // 2
    return (
        weights.data_type == onnx.TensorProto.FLOAT
        and list(weights.dims[2:]) == [kernel, kernel]
        and list(values.get("pads", [0] * 4)) == [around] * 4
        and set(values.get("strides", [1])) == set(values.get("dilations", [1])) == {1}
        and values.get("group", 1) == 1
        and values.get("auto_pad", b"NOTSET") == b"NOTSET"
    )


def _square(node: onnx.NodeProto) -> int:
    """Return the edge of the square around each pixel that a node is the mean of; 0 for any other mean."""
    import onnx

    values = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    edge = int(values["kernel_shape"][0])
    plain = (
        list(values["kernel_shape"]) == [edge, edge]
        and list(values.get("pads", [0] * 4)) == [edge // 2] * 4
        and edge % 2 == 1
        and set(values.get("strides", [1])) == set(values.get("dilations", [1])) == {1}
        and values.get("auto_pad", b"NOTSET") == b"NOTSET"
        and not values.get("ceil_mode", 0)
    )
    return edge if plain else 0


def _rows_then_columns(node: onnx.NodeProto, edge: int) -> list[onnx.NodeProto]:
    """Return two means in place of one; each pixel counts as much, at the borders too."""
    from onnx import helper

    padded = [a for a in node.attribute if a.name == "count_include_pad"]
    given, half, made = node.input[0], edge // 2, f"{node.output[0]}::rows"
    rows = helper.make_node("AveragePool", [given], [made], kernel_shape=[edge, 1], pads=[half, 0, half, 0])
    columns = helper.make_node(
        "AveragePool", [made], [node.output[0]], kernel_shape=[1, edge], pads=[0, half, 0, half]
    )
    for each in (rows, columns):
        each.attribute.extend(padded)
    return [rows, columns]


def _four_places(
    node: onnx.NodeProto,
    weights: onnx.TensorProto,
    constants: Mapping[str, onnx.TensorProto],
    graph: onnx.GraphProto,
) -> list[onnx.NodeProto]:
    """Return a 4 x 4 convolution in steps of two, whose outputs are put in their places after it."""
    from onnx import helper, numpy_helper

    given, out = numpy_helper.to_array(weights), node.output[0]
    many = np.zeros((given.shape[0], 2, 2, given.shape[1], 4, 4), np.float32)
    for row in range(2):
        for column in range(2):
            many[:, row, column, :, row : row + 3, column : column + 3] = given
    graph.initializer.append(numpy_helper.from_array(many.reshape(-1, *many.shape[3:]), f"{out}::four"))
    names = [node.input[0], f"{out}::four"]
    if len(node.input) > 2:
        bias = constants.get(node.input[2])
        if bias is None:
            return [node]
        graph.initializer.append(
            numpy_helper.from_array(np.repeat(numpy_helper.to_array(bias), 4), f"{out}::bias")
        )
        names.append(f"{out}::bias")
    return [
        helper.make_node("Conv", names, [f"{out}::places"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("DepthToSpace", [f"{out}::places"], [out], blocksize=2, mode="CRD"),
    ]


def _sum_of_parts(
    node: onnx.NodeProto,
    joined: onnx.NodeProto,
    weights: npt.NDArray[np.float32],
    sizes: Sizes,
    graph: onnx.GraphProto,
) -> list[onnx.NodeProto]:
    from onnx import helper, numpy_helper

    groups: list[list[str]] = []
    small = False
    for name in joined.input:
        if sizes[name][1] >= _ALONE or not small:
            groups.append([])
        groups[-1].append(name)
        small = sizes[name][1] < _ALONE
    made, start, total, out = [], 0, "", node.output[0]
    for number, group in enumerate(groups):
        count = sum(sizes[name][1] for name in group)
        part, source = f"{out}::part{number}", group[0]
        if len(group) > 1:
            source = f"{part}::joined"
            made.append(helper.make_node("Concat", group, [source], axis=1))
        cut = np.ascontiguousarray(weights[:, start : start + count])
        graph.initializer.append(numpy_helper.from_array(cut, f"{part}::weights"))
        start += count
        bias = list(node.input[2:]) if number == 0 else []
        single = len(groups) == 1
        made.append(helper.make_node("Conv", [source, f"{part}::weights", *bias], [out if single else part]))
        if number:
            last = number == len(groups) - 1
            made.append(helper.make_node("Add", [total, part], [out if last else f"{part}::sum"]))
            total = f"{part}::sum"
        else:
            total = part
    return made


def _flat(node: onnx.NodeProto, sizes: Sizes, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    from onnx import helper, numpy_helper

    out = node.output[0]
    count = sum(sizes[name][1] for name in node.input)
    for name, value in (("pixels", [1, 0, -1]), ("frames", [1, count])):
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), f"{out}::{name}"))
    flat = [f"{out}::flat{i}" for i in range(len(node.input))]
    return [
        helper.make_node("Shape", [node.input[0]], [f"{out}::size"], start=2),
        helper.make_node("Concat", [f"{out}::frames", f"{out}::size"], [f"{out}::shape"], axis=0),
        *(
            helper.make_node("Reshape", [name, f"{out}::pixels"], [made])
            for name, made in zip(node.input, flat, strict=True)
        ),
        helper.make_node("Concat", flat, [f"{out}::pictures"], axis=1),
        helper.make_node("Reshape", [f"{out}::pictures", f"{out}::shape"], [out]),
    ]
