"""Memory and time that a graph would take, worked out before an engine sees it.

A graph of a few hundred bytes can ask for terabytes (`Range(0, 1e12)`). So the size of every value is found for one
small frame, node by node: ONNX's own shape inference gives the shapes, and the small integer values that decide about
later shapes are computed here. A value whose size depends on the pixels has no place in a bundle.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import onnx

__all__ = ["Grid", "TooLarge", "check_cost", "check_count"]

Array = npt.NDArray[Any]
Shape = tuple[int, ...]

_FRAME = 128  # pixels a side of the frame that the sizes are found for, or a little more
_MOST_NODES = 20_000  # the largest shipped graph has 913
_MOST_VALUES = 1 << 26  # of one tensor at that frame: 4,096 values a pixel; shipped graphs have 41
_MOST_IN_ALL = 1 << 29  # of all tensors together, 2 GiB in float32; shipped graphs have 2 ** 24
_MOST_PRODUCTS = (
    1 << 39
)  # multiplications for one frame; the published networks need up to 128 thousand million
_MOST_FOLDED = 1 << 14  # values of a constant that is worked out here


class Grid(NamedTuple):
    """Sizes of a bundle's inputs relative to the frame: its stride, and the scales of features and flows."""

    stride: int = 1
    scale: int = 1
    flow_scale: int = 0

    def of(self, name: str) -> int:
        """Return the frame's pixels in one place of an input, along one axis."""
        if name in ("frame", "rows", "columns"):
            return 1
        return max(1, self.flow_scale if name.startswith("flow") else self.scale)


class TooLarge(Exception):
    """Reason why a graph is refused, to follow its file name in a sentence."""


def check_cost(model: onnx.ModelProto, grid: Grid) -> None:
    """Refuse a graph that would take gigabytes or minutes for one small frame.

    Parameters
    ----------
    model
        Checked by `onnx.checker`: in order, standard operators only, no graphs within it.
    grid
        Sizes of its inputs.

    Raises
    ------
    TooLarge
        With the value, the limit and the reason.
    """
    _Sizes(model, grid).check()


def check_count(model: onnx.ModelProto) -> None:
    """Refuse a graph of too many nodes, which keeps checker and engine busy for minutes."""
    if (count := len(model.graph.node)) > _MOST_NODES:
        raise TooLarge(f"has {count} nodes, and at most {_MOST_NODES} are accepted")


class _Sizes:
    """Shapes and small constants of a graph's values, filled in node by node."""

    def __init__(self, model: onnx.ModelProto, grid: Grid) -> None:
        self._model, self._grid = model, grid
        self._types: dict[str, onnx.TypeProto] = {}
        self._shapes: dict[str, Shape] = {"": ()}
        self._known: dict[str, Array] = {}
        self._values = self._products = 0
        self._schemas: dict[str, onnx.defs.OpSchema] = {}
        self._version = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)

    def check(self) -> None:
        from onnx import numpy_helper

        for tensor in self._model.graph.initializer:
            self._set(tensor.name, tensor.data_type, tuple(tensor.dims))
            if math.prod(tensor.dims) <= _MOST_FOLDED:
                self._known[tensor.name] = numpy_helper.to_array(tensor)
        initial = set(self._shapes)
        for value in self._model.graph.input:
            if value.name not in initial:
                self._set(value.name, value.type.tensor_type.elem_type, self._bound(value))
        for node in self._model.graph.node:
            self._add(node)

    def _set(self, name: str, kind: int, shape: Shape) -> None:
        import onnx

        if min(shape, default=0) < 0:
            raise TooLarge(f"holds a value of the size {_by(shape)}, which no value has")
        self._types[name] = onnx.helper.make_tensor_type_proto(kind, shape)
        self._shapes[name] = shape
        if (count := math.prod(shape)) > _MOST_VALUES:
            raise TooLarge(
                f"holds a value of the size {_by(shape)} for a frame of {_FRAME} x {_FRAME} pixels, "
                f"and at most {_MOST_VALUES} numbers are accepted"
            )
        self._values += count
        if self._values > _MOST_IN_ALL:
            raise TooLarge(
                f"would compute more than {_MOST_IN_ALL} numbers for a frame of {_FRAME} x {_FRAME} pixels"
            )

    def _bound(self, value: onnx.ValueInfoProto) -> Shape:
        """Return the shape of an input for a small frame; free sizes are those along the last two axes."""
        dims = value.type.tensor_type.shape.dim
        side = -(-_FRAME // self._grid.stride) * self._grid.stride // self._grid.of(value.name)
        return tuple(
            d.dim_value if d.dim_value > 0 else side if place >= len(dims) - 2 else 1
            for place, d in enumerate(dims)
        )

    def _add(self, node: onnx.NodeProto) -> None:
        import onnx
        from onnx import numpy_helper, shape_inference

        if node.op_type not in self._schemas:
            self._schemas[node.op_type] = onnx.defs.get_schema(node.op_type, self._version)
        try:
            types = shape_inference.infer_node_outputs(
                self._schemas[node.op_type],
                node,
                {name: self._types[name] for name in node.input if name},
                {n: numpy_helper.from_array(self._known[n], n) for n in node.input if n in self._known},
                opset_imports=list(self._model.opset_import),
                ir_version=self._model.ir_version,
            )
        except Exception as error:  # the inference raises errors without a common base
            raise TooLarge(
                f"has an operator {node.op_type} whose sizes do not fit ({_first(error)})"
            ) from error
        for name in filter(None, node.output):
            found = types.get(name)
            dims = found.tensor_type.shape.dim if found is not None else ()
            has_shape = found is not None and found.tensor_type.HasField("shape")
            if found is None or not has_shape or not all(d.HasField("dim_value") for d in dims):
                raise TooLarge(
                    f"has an operator {node.op_type} whose size is only known when it runs, "
                    "so that its memory has no limit"
                )
            self._set(name, found.tensor_type.elem_type, tuple(d.dim_value for d in dims))
        self._count_products(node)
        self._fold(node)

    def _count_products(self, node: onnx.NodeProto) -> None:
        self._products += _products(node, [self._shapes[n] for n in node.input], self._shapes[node.output[0]])
        if self._products > _MOST_PRODUCTS:
            raise TooLarge(
                f"would take more than {_MOST_PRODUCTS} multiplications for a frame of {_FRAME} x {_FRAME} pixels"
            )

    def _fold(self, node: onnx.NodeProto) -> None:
        """Work out a small value that depends on sizes and constants alone."""
        name = node.output[0]
        if node.op_type == "Shape":
            whole = np.array(self._shapes[node.input[0]], np.int64)
            at = _attributes(node)
            self._known[name] = whole[at.get("start", 0) : at.get("end", len(whole))]
        elif (
            node.op_type in _FOLDED
            and math.prod(self._shapes[name]) <= _MOST_FOLDED
            and all(n in self._known for n in node.input if n)
        ):
            inputs = [self._known[n] if n else None for n in node.input]
            try:
                with np.errstate(all="ignore"):
                    result = np.asarray(_FOLDED[node.op_type](inputs, _attributes(node)))
            except (ValueError, IndexError, TypeError, OverflowError, ZeroDivisionError) as error:
                raise TooLarge(
                    f"has an operator {node.op_type} that cannot be computed ({_first(error)})"
                ) from error
            if result.shape == self._shapes[name]:
                self._known[name] = result


def _attributes(node: onnx.NodeProto) -> Mapping[str, Any]:
    from onnx import helper

    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _products(node: onnx.NodeProto, inputs: list[Shape], output: Shape) -> int:
    """Return about how many multiplications a node takes."""
    count = math.prod(output)
    if node.op_type == "Conv":
        return count * math.prod(inputs[1][1:])
    if node.op_type == "ConvTranspose":
        return math.prod(inputs[0]) * math.prod(inputs[1][1:])
    if node.op_type in ("MatMul", "Gemm"):
        return count * max(inputs[0][-2:], default=1)
    kernel = _attributes(node).get("kernel_shape")
    if kernel is not None:
        return count * int(math.prod(kernel))
    if node.op_type == "Einsum":
        return _einsum_products(_attributes(node)["equation"].decode(), inputs)
    return count


def _einsum_products(equation: str, inputs: list[Shape]) -> int:
    """Return the product of the sizes of all letters of an equation."""
    sizes: dict[str, int] = {}
    for term, shape in zip(equation.split("->")[0].replace(" ", "").split(","), inputs, strict=False):
        before, dots, after = term.partition("...")
        names = [*before, *(f".{i}" for i in range(len(shape) - len(before) - len(after)) if dots), *after]
        sizes |= dict(zip(names, shape, strict=False))
    return math.prod(sizes.values())


Folded = Callable[[list[Any], Mapping[str, Any]], Any]


def _of_two(operation: Callable[[Array, Array], Array]) -> Folded:
    return lambda x, _: operation(x[0], x[1])


def _divide(a: Array, b: Array) -> Array:
    if a.dtype.kind in "iu":
        return np.asarray(np.trunc(a / np.where(b == 0, 1, b)), a.dtype)
    return np.asarray(a / b)


def _axes(x: list[Any], at: Mapping[str, Any]) -> tuple[int, ...] | None:
    if len(x) > 1 and x[1] is not None:
        return tuple(int(v) for v in np.atleast_1d(x[1]))
    return tuple(at["axes"]) if "axes" in at else None


def _range(start: float, limit: float, step: float, dtype: Any) -> Array:
    return np.asarray(np.arange(start, limit, step), dtype)


def _slice(x: list[Any], _: Mapping[str, Any]) -> Array:
    data, starts, ends = x[:3]
    axes = x[3] if len(x) > 3 and x[3] is not None else np.arange(len(starts))
    steps = x[4] if len(x) > 4 and x[4] is not None else np.ones(len(starts), np.int64)
    cut = [slice(None)] * data.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        last = None if step < 0 and end < -data.shape[axis] else int(end)
        cut[int(axis)] = slice(int(start), last, int(step))
    return np.asarray(data[tuple(cut)])


def _reshape(x: list[Any], at: Mapping[str, Any]) -> Array:
    data, wanted = x[0], [int(v) for v in x[1]]
    if not at.get("allowzero", 0):
        wanted = [data.shape[i] if v == 0 else v for i, v in enumerate(wanted)]
    return np.asarray(data.reshape(wanted))


def _constant(_: list[Any], at: Mapping[str, Any]) -> Array:
    from onnx import numpy_helper

    if "value" in at:
        return numpy_helper.to_array(at["value"])
    kinds = {
        "value_int": np.int64,
        "value_ints": np.int64,
        "value_float": np.float32,
        "value_floats": np.float32,
    }
    return next(np.array(at[name], kind) for name, kind in kinds.items() if name in at)


def _cast(x: list[Any], at: Mapping[str, Any]) -> Array:
    from onnx import helper

    return np.asarray(x[0], helper.tensor_dtype_to_np_dtype(at["to"]))


def _constant_of_shape(x: list[Any], at: Mapping[str, Any]) -> Array:
    from onnx import numpy_helper

    value = numpy_helper.to_array(at["value"]).reshape(()) if "value" in at else np.zeros((), np.float32)
    return np.full(tuple(int(v) for v in x[0]), value)


# Operators by which exporters compute sizes. A size that needs another one stays unknown, and is refused.
_FOLDED: dict[str, Folded] = {
    "Add": _of_two(np.add),
    "Cast": _cast,
    "Ceil": lambda x, _: np.ceil(x[0]),
    "Concat": lambda x, at: np.concatenate(x, at["axis"]),
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Div": _of_two(_divide),
    "Equal": _of_two(np.equal),
    "Expand": lambda x, _: np.broadcast_to(
        x[0], np.broadcast_shapes(x[0].shape, tuple(int(v) for v in x[1]))
    ),
    "Floor": lambda x, _: np.floor(x[0]),
    "Gather": lambda x, at: np.take(x[0], x[1], at.get("axis", 0)),
    "Identity": lambda x, _: x[0],
    "Max": lambda x, _: np.maximum.reduce(x),
    "Min": lambda x, _: np.minimum.reduce(x),
    "Mul": _of_two(np.multiply),
    "Neg": lambda x, _: np.negative(x[0]),
    "Range": lambda x, _: _range(x[0].item(), x[1].item(), x[2].item(), x[0].dtype),
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": lambda x, at: np.squeeze(x[0], _axes(x, at)),
    "Sub": _of_two(np.subtract),
    "Transpose": lambda x, at: np.transpose(x[0], at.get("perm")),
    "Unsqueeze": lambda x, at: np.expand_dims(x[0], _axes(x, at) or ()),
    "Where": lambda x, _: np.where(x[0], x[1], x[2]),
}


def _by(shape: Shape) -> str:
    return " x ".join(str(side) for side in shape)[:100] or "1"


def _first(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[
        :150
    ]
