"""Let graphs pass features on in the order of memory in which a processor's convolutions read and write them.

Features (1, C, h, w) leave `encode`, wait in the ring and enter `fuse` once for each place of the window. OpenVINO
convolves with the channels of a pixel side by side, in bfloat16 where it computes in it, so that features in the order
of the bundle are reordered once on their way out and once for each place on their way in. Here they are two values:

- `NAME::planes` (1, P, h, w), float32: the frame's cells, which other arithmetic and the long memory read.
- `NAME::pixels` (1, h, w, C - P), float32 or bfloat16: what was learned, as convolutions made it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import onnx

__all__ = ["PIXELS", "PLANES", "lay_out"]

PLANES, PIXELS = "::planes", "::pixels"


def lay_out(data: bytes, planes: Mapping[str, int], *, bfloat16: bool = False) -> bytes:
    """Return a graph whose features come and leave as two values; everything else stays.

    Parameters
    ----------
    data
        A serialised model.
    planes
        P for each input or output (1, C, h, w) that is taken apart, less than C.
    bfloat16
        Whether what was learned is kept in bfloat16.
    """
    import onnx

    model = onnx.load_model_from_string(data)
    graph = model.graph
    kind = onnx.TensorProto.BFLOAT16 if bfloat16 else onnx.TensorProto.FLOAT
    for value in [value for value in graph.input if value.name in planes]:
        _take_in(graph, value, planes[value.name], kind)
    for value in [value for value in graph.output if value.name in planes]:
        _give_out(graph, value, planes[value.name], kind)
    return bytes(model.SerializeToString())


def _take_in(graph: onnx.GraphProto, value: onnx.ValueInfoProto, count: int, kind: int) -> None:
    """Replace an input by its two parts; a slice that is one of them is left out."""
    from onnx import TensorProto, helper, numpy_helper

    name, channels = value.name, value.type.tensor_type.shape.dim[1].dim_value
    numbers = {
        t.name: numpy_helper.to_array(t) for t in graph.initializer if t.data_type == TensorProto.INT64
    }
    parts = {(0, count): f"{name}{PLANES}", (count, channels): f"{name}::learned"}
    instead: dict[str, str] = {}
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        taken = _channels(node, numbers, channels) if name in node.input else None
        part = None if taken is None else parts.get(taken)
        if part is None:
            kept.append(node)
        else:
            instead[node.output[0]] = part
    for node in kept:
        for place, read in enumerate(node.input):
            node.input[place] = instead.get(read, read)
    used = {read for node in kept for read in node.input}
    before: list[onnx.NodeProto] = []
    if used.intersection((name, f"{name}::learned")):
        pixels = f"{name}{PIXELS}"
        if kind != TensorProto.FLOAT:
            before.append(helper.make_node("Cast", [pixels], [f"{name}::float"], to=TensorProto.FLOAT))
            pixels = f"{name}::float"
        before.append(helper.make_node("Transpose", [pixels], [f"{name}::learned"], perm=[0, 3, 1, 2]))
    if name in used:
        before.append(helper.make_node("Concat", [f"{name}{PLANES}", f"{name}::learned"], [name], axis=1))
    used.update(read for node in before for read in node.input)
    del graph.node[:]
    graph.node.extend(before + kept)
    graph.input.remove(value)
    graph.input.extend(each for each in _values(value, count, kind) if each.name in used)


def _give_out(graph: onnx.GraphProto, value: onnx.ValueInfoProto, count: int, kind: int) -> None:
    """Replace an output by its two parts, as they are before they are put together where the graph does that."""
    from onnx import TensorProto, helper, numpy_helper

    name, channels = value.name, value.type.tensor_type.shape.dim[1].dim_value
    made = next(node for node in graph.node if name in node.output)
    sizes = {v.name: v.type.tensor_type.shape.dim[1].dim_value for v in graph.value_info if _is_frame(v)}
    joins = made.op_type == "Concat" and [sizes.get(part) for part in made.input] == [count, channels - count]
    after: list[onnx.NodeProto] = []
    if joins and not any(name in node.input for node in graph.node):
        planes, learned = made.input
        graph.node.remove(made)
        after.append(helper.make_node("Identity", [planes], [f"{name}{PLANES}"]))
    else:
        learned = f"{name}::learned"
        sizes_of_parts = np.array([count, channels - count], np.int64)
        graph.initializer.append(numpy_helper.from_array(sizes_of_parts, f"{name}::sizes"))
        parts = [f"{name}{PLANES}", learned]
        after.append(helper.make_node("Split", [name, f"{name}::sizes"], parts, axis=1))
    pixels = f"{name}{PIXELS}"
    if kind == TensorProto.FLOAT:
        after.append(helper.make_node("Transpose", [learned], [pixels], perm=[0, 2, 3, 1]))
    else:
        after.append(helper.make_node("Transpose", [learned], [f"{name}::float"], perm=[0, 2, 3, 1]))
        after.append(helper.make_node("Cast", [f"{name}::float"], [pixels], to=kind))
    graph.node.extend(after)
    graph.output.remove(value)
    graph.output.extend(_values(value, count, kind))


def _channels(
    node: onnx.NodeProto, numbers: Mapping[str, npt.NDArray[np.int64]], channels: int
) -> tuple[int, int] | None:
    """Return the first channel and the one after the last that a slice takes; None for any other node."""
    if node.op_type != "Slice" or not all(name in numbers for name in node.input[1:]):
        return None
    given = [numbers[name].ravel() for name in node.input[1:]]
    if any(each.size != 1 for each in given) or len(given) < 3 or given[2][0] not in (1, -3):
        return None
    if len(given) > 3 and given[3][0] != 1:
        return None
    first, last = (int(each[0]) + (channels if each[0] < 0 else 0) for each in given[:2])
    return first, min(last, channels)


def _is_frame(value: onnx.ValueInfoProto) -> bool:
    return len(value.type.tensor_type.shape.dim) == 4


def _values(value: onnx.ValueInfoProto, count: int, kind: int) -> list[onnx.ValueInfoProto]:
    from onnx import TensorProto, helper

    batch, channels, *size = (d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim)
    planes = [batch, count, *size]
    pixels = [batch, *size, channels - count]
    return [
        helper.make_tensor_value_info(value.name + PLANES, TensorProto.FLOAT, planes),
        helper.make_tensor_value_info(value.name + PIXELS, kind, pixels),
    ]
