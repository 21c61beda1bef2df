"""A bundle's graph with fixed shapes, as the planner wants it: constants folded, shapes known, patterns named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.errors import BackendUnavailable

__all__ = ["Node", "Program", "missing_kernels", "read_program"]

Array = npt.NDArray[Any]

# Operators whose value at a place follows from their inputs at that place, and what C calls them.
POINTWISE = frozenset(
    {
        "Abs", "Add", "Cast", "Clip", "Div", "Exp", "Identity", "LeakyRelu", "LessOrEqual", "Max", "Min", "Mul",
        "Neg", "Pow", "Reciprocal", "Relu", "Round", "Sigmoid", "Sqrt", "Sub", "Where",
    }
)  # fmt: skip
# Operators that pick, order or add up channels.
CHANNELS = frozenset(
    {"Concat", "Expand", "Gather", "ReduceMean", "ReduceSum", "Reshape", "Slice", "Squeeze", "Unsqueeze"}
)
SMALL = frozenset({"Gemm", "MatMul"})
SPATIAL = frozenset(
    {"AveragePool", "Conv", "GridSample", "MatMul", "Resize", "Shuffle", "Transpose", "Unshuffle"}
)


@dataclass(frozen=True)
class Node:
    """One operator.

    Attributes
    ----------
    op
        ONNX's name, or `Shuffle` and `Unshuffle` for pixels that become channels and back.
    inputs, output
        Names of values.
    attributes
        As in ONNX, with what newer versions take as constant inputs (axes, starts, limits) among them.
    """

    op: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Program:
    """A graph of fixed shapes.

    Attributes
    ----------
    inputs, outputs
        Names in the graph's order.
    nodes
        By the name of the value that each makes, in an order that can be computed.
    shapes
        Of every value.
    dtypes
        Of inputs and outputs, numpy's names.
    constants
        Values that are known.
    fields
        Values that have pixels: they depend on a frame, on features or on a memory.
    users
        The nodes that read each value.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: Mapping[str, Node]
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
    constants: Mapping[str, Array]
    fields: frozenset[str]
    users: Mapping[str, Sequence[Node]]


def read_program(data: bytes) -> Program:
    """Return a serialised model of fixed shapes as a program.

    Raises
    ------
    BackendUnavailable
        If it holds an operator, or a use of one, for which there is no kernel.
    """
    graph, constants = _known(data)
    import onnx

    shapes: dict[str, tuple[int, ...]] = {name: value.shape for name, value in constants.items()}
    dtypes: dict[str, str] = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        if all(d.HasField("dim_value") for d in tensor.shape.dim):
            shapes[value.name] = tuple(d.dim_value for d in tensor.shape.dim)
        dtypes[value.name] = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)).name
    inputs = [value.name for value in graph.input if value.name not in constants]
    fields = {name for name in inputs if len(shapes[name]) == 4}
    nodes = [
        node
        for proto in graph.node
        for node in (_slices(proto, shapes) if proto.op_type == "Split" else [_node(proto, constants)])
    ]
    for node in nodes:
        for name in node.inputs if node.op in POINTWISE else ():
            # A frame of one number is that number.
            known = constants.get(name)
            if known is not None and known.size > 1 and (known == known.flat[0]).all():
                constants[name] = known.flat[:1].reshape((1,) * known.ndim)
                shapes[name] = constants[name].shape
    nodes = _with_unshuffles(nodes, shapes, {value.name for value in graph.output})
    # What leaves the graph is a copy, so that its source may be stored as suits the kernels.
    outputs = tuple(value.name for value in graph.output)
    for name in outputs:
        inner = f"{name}::inner"
        nodes = [_renamed(node, name, inner) for node in nodes] + [Node("Identity", (inner,), name)]
        shapes[inner] = shapes[name]
    made: dict[str, Node] = {}
    users: dict[str, list[Node]] = {}
    for node in nodes:
        made[node.output] = node
        if fields.intersection(node.inputs):
            fields.add(node.output)
        for name in node.inputs:
            users.setdefault(name, []).append(node)
        _check(node, shapes, fields)
    return Program(
        tuple(inputs),
        outputs,
        made,
        shapes,
        dtypes,
        constants,
        frozenset(fields),
        users,
    )


def _renamed(node: Node, name: str, inner: str) -> Node:
    inputs = tuple(inner if other == name else other for other in node.inputs)
    return Node(node.op, inputs, inner if node.output == name else node.output, node.attributes)


def missing_kernels(data: bytes) -> set[str]:
    """Return the operators of a serialised model for which there is no kernel, whatever their inputs."""
    import onnx

    known = POINTWISE | CHANNELS | SMALL | SPATIAL | {"DepthToSpace"}
    # Sizes that follow from the frame's are computed beforehand.
    known |= {"Constant", "ConstantOfShape", "Range", "Shape", "Split"}
    return {node.op_type for node in onnx.load_model_from_string(data).graph.node} - known


def refused(what: str) -> BackendUnavailable:
    """Return the error for something that has no kernel."""
    return BackendUnavailable(
        f"The backend cuda has no kernel for {what} in this bundle's graphs: choose onnxruntime-cuda."
    )


def _known(data: bytes) -> tuple[Any, dict[str, Array]]:
    """Return the graph without what can be computed beforehand, with the shapes of all that is left, and constants."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    model = onnx.load_model_from_string(data)
    graph = model.graph
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    while True:
        # A shape that is computed is known only after what it is computed from.
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        shapes = {
            value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
            for value in (*inferred.input, *inferred.value_info)
            if all(d.HasField("dim_value") for d in value.type.tensor_type.shape.dim)
        }
        kept = []
        for proto in graph.node:
            names = [name for name in proto.input if name]
            if proto.op_type == "Shape" and proto.input[0] in shapes:
                options = {a.name: a.i for a in proto.attribute}
                shape = np.array(shapes[proto.input[0]], np.int64)
                found: Any = [shape[options.get("start", 0) : options.get("end")]]
            elif all(name in constants for name in names):
                found = ReferenceEvaluator(proto).run(None, {name: constants[name] for name in names})
            else:
                kept.append(proto)
                continue
            for name, value in zip(proto.output, found, strict=True):
                constants[name] = np.asarray(value)
                graph.initializer.append(onnx.numpy_helper.from_array(constants[name], name))
        if len(kept) == len(graph.node):
            return inferred, constants
        del graph.node[:]
        graph.node.extend(kept)


def _node(proto: Any, constants: Mapping[str, Array]) -> Node:
    """Return a node with its constant parameters among the attributes."""
    import onnx

    op, names = proto.op_type, list(proto.input)
    if len(proto.output) != 1:
        raise refused(f"{op} with {len(proto.output)} outputs")
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute}
    parameters = {
        "Slice": ("starts", "ends", "axes", "steps"),
        "Clip": ("min", "max"),
        "ReduceSum": ("axes",),
        "ReduceMean": ("axes",),
        "Unsqueeze": ("axes",),
        "Squeeze": ("axes",),
        "Reshape": ("shape",),
        "Expand": ("shape",),
        "Gather": ("indices",),
        "Resize": ("roi", "scales", "sizes"),
        "Pow": ("exponent",),
    }.get(op, ())
    for key, name in zip(parameters, names[1:], strict=False):
        if not name:
            continue
        if name not in constants:
            raise refused(f"{op} with {key} that are computed")
        attributes[key] = constants[name]
    kept = names[:1] if parameters else names
    return Node(op, tuple(name for name in kept if name), proto.output[0], attributes)


def _slices(proto: Any, shapes: Mapping[str, tuple[int, ...]]) -> list[Node]:
    """Return a slice for each output of a Split."""
    axis = next((a.i for a in proto.attribute if a.name == "axis"), 0)
    made, start = [], 0
    for name in proto.output:
        if name not in shapes:
            raise refused("Split of a size that is not known")
        end = start + shapes[name][axis]
        ends = {"starts": np.array([start]), "ends": np.array([end]), "axes": np.array([axis])}
        made.append(Node("Slice", (proto.input[0],), name, ends))
        start = end
    return made


def _with_unshuffles(
    nodes: list[Node], shapes: Mapping[str, tuple[int, ...]], outputs: set[str]
) -> list[Node]:
    """Return the nodes with reshape, transpose, reshape as one `Unshuffle`, and DepthToSpace as `Shuffle`."""
    by_output = {node.output: node for node in nodes}
    readers: dict[str, list[Node]] = {}
    for node in nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    shuffles: dict[str, Node] = {}
    for node in nodes:
        if node.op == "DepthToSpace":
            mode = node.attributes.get("mode", b"DCR").decode()
            attributes = {"block": node.attributes["blocksize"], "mode": mode}
            shuffles[node.output] = Node("Shuffle", node.inputs, node.output, attributes)
        if node.op != "Transpose" or list(node.attributes["perm"]) != [0, 1, 3, 5, 2, 4]:
            continue
        source, made = node.inputs[0], node.output
        block = shapes[source][3]
        while len(shapes[source]) != 4 and by_output[source].op in _RESHAPES:
            source = by_output[source].inputs[0]
        while (
            len(shapes[made]) != 4 and len(after := readers.get(made, [])) == 1 and after[0].op in _RESHAPES
        ):
            made = after[0].output
        if len(shapes[source]) == len(shapes[made]) == 4:
            shuffles[made] = Node("Unshuffle", (source,), made, {"block": block})
    result = [shuffles.get(node.output, node) for node in nodes]
    return _used(result, outputs)


_RESHAPES = ("Reshape", "Squeeze", "Unsqueeze")


def _used(nodes: list[Node], outputs: set[str]) -> list[Node]:
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if node.output in wanted:
            kept.append(node)
            wanted.update(node.inputs)
    return kept[::-1]


def _check(node: Node, shapes: Mapping[str, tuple[int, ...]], fields: set[str]) -> None:
    if node.output not in shapes:
        raise refused(f"{node.op} of a size that is not known")
    known = POINTWISE | CHANNELS
    if not fields.intersection(node.inputs):
        known |= SMALL
    elif node.op in SPATIAL:
        return
    if node.op not in known:
        raise refused(node.op)
