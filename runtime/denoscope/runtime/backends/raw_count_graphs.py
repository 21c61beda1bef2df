"""Put the conversion of raw counts into the graphs: raw frame in, raw frame out.

A bundle's graphs take and give normalised float32 frames. Where a backend can read and write the
camera's integers, the conversion becomes part of `encode` and `fuse` when they are loaded, so that the
processor copies a frame once on its way in and once on its way out, and the arithmetic is done where
the threads and the fused kernels are. The bundle's files stay as they are.

The operations and their order are those of `normalise_into` and `restore`, so the frames are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from denoscope.runtime.errors import BackendUnavailable

if TYPE_CHECKING:
    import onnx

__all__ = ["FACTOR", "OFFSET", "RAW", "raw_encode", "raw_fuse", "without_output"]

RAW = "raw"  # the frame, in place of `frame` and of `mean`
OFFSET, FACTOR = "raw::offset", "raw::factor"  # of the session's intensity, one number each


def raw_encode(data: bytes, dtype: str) -> bytes:
    """Return `encode` with the input `raw` of an integer dtype in place of `frame`.

    Parameters
    ----------
    data
        The bundle's `encode`.
    dtype
        Of the camera, for example `uint16`.

    Returns
    -------
    bytes
        A graph that begins with ``frame = (raw - offset) * factor``; the two numbers are inputs (1,).
    """
    from onnx import TensorProto, helper

    model = _parse(data)
    graph = model.graph
    frame = next(i for i in graph.input if i.name == "frame")
    raw = _like(frame, RAW, dtype)
    nodes = [
        helper.make_node("Cast", [RAW], ["raw::counts"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["raw::counts", OFFSET], ["raw::above"]),
        helper.make_node("Mul", ["raw::above", FACTOR], ["frame"]),
    ]
    inputs = [raw, *_numbers(), *(i for i in graph.input if i.name != "frame")]
    nodes += graph.node
    _replace(model, nodes, inputs, list(graph.output))
    return bytes(model.SerializeToString())


def raw_fuse(data: bytes, dtype: str, *, keep_mean: bool = False) -> bytes:
    """Return `fuse` with the output `raw` of an integer dtype in place of `mean`, or beside it.

    Parameters
    ----------
    data
        The bundle's `fuse`.
    dtype
        Of the camera.
    keep_mean
        Whether `mean` stays an output.

    Returns
    -------
    bytes
        A graph that ends with ``raw = mean * factor + offset``, clipped to the range of the dtype and
        rounded half to even; the two numbers are inputs (1,).
    """
    from onnx import TensorProto, helper, numpy_helper

    model = _parse(data)
    graph = model.graph
    mean = next(o for o in graph.output if o.name == "mean")
    limits = np.iinfo(dtype)
    for name, value in (("raw::lowest", limits.min), ("raw::highest", limits.max)):
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
    counts = getattr(TensorProto, dtype.upper())
    nodes = [
        *graph.node,
        helper.make_node("Mul", ["mean", FACTOR], ["raw::above"]),
        helper.make_node("Add", ["raw::above", OFFSET], ["raw::counts"]),
        helper.make_node("Clip", ["raw::counts", "raw::lowest", "raw::highest"], ["raw::within"]),
        helper.make_node("Round", ["raw::within"], ["raw::whole"]),
        helper.make_node("Cast", ["raw::whole"], [RAW], to=counts),
    ]
    outputs = [_like(mean, RAW, dtype), *(o for o in graph.output if keep_mean or o.name != "mean")]
    _replace(model, nodes, [*graph.input, *_numbers()], outputs)
    return bytes(model.SerializeToString())


def without_output(data: bytes, name: str) -> bytes:
    """Return a graph that does not compute one of its outputs; the same graph where it has no such output."""
    model = _parse(data)
    kept = [value for value in model.graph.output if value.name != name]
    if len(kept) == len(model.graph.output):
        return data
    wanted = {value.name for value in kept}
    nodes = []
    for node in reversed(model.graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            nodes.append(node)
    _replace(model, nodes[::-1], list(model.graph.input), kept)
    return bytes(model.SerializeToString())


def _parse(data: bytes) -> onnx.ModelProto:
    import onnx

    try:
        return onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's two implementations raise different ones
        raise BackendUnavailable(
            f"Every backend refuses the graph, which is no ONNX model ({error}): load the bundle again."
        ) from error


def _like(value: onnx.ValueInfoProto, name: str, dtype: str) -> onnx.ValueInfoProto:
    """Return another value of the same shape."""
    from onnx import TensorProto, ValueInfoProto

    other = ValueInfoProto()
    other.CopyFrom(value)
    other.name = name
    other.type.tensor_type.elem_type = getattr(TensorProto, dtype.upper())
    return other


def _numbers() -> list[onnx.ValueInfoProto]:
    from onnx import TensorProto, helper

    return [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in (OFFSET, FACTOR)]


def _replace(
    model: onnx.ModelProto,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
) -> None:
    graph = model.graph
    for field, values in ((graph.node, nodes), (graph.input, inputs), (graph.output, outputs)):
        kept = list(values)
        del field[:]
        field.extend(kept)
