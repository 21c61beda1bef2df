"""Check a bundle's ONNX graphs before any engine sees them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from denoscope.runtime.errors import BundleDamaged

from .graph_cost import Grid, TooLarge, check_cost, check_count

if TYPE_CHECKING:
    import onnx

__all__ = ["GraphNames", "Grid", "check_graph", "expected_names"]

_UNSCALED = Grid()
_LARGEST_TENSOR = 1 << 28  # elements: 1 GiB in float32, a thousand times the largest network's
_MOST_SOUND = 256  # graphs that are remembered


class GraphNames(NamedTuple):
    """Names that a graph of a bundle has.

    Attributes
    ----------
    inputs, outputs
        All it may have.
    optional
        Inputs that it may leave out, because the method does not need them.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    optional: tuple[str, ...] = ("noise",)


def expected_names(
    graph: str, window: int, *, memory: bool, motion: bool = False, std: bool = True
) -> GraphNames:
    """Return the input and output names that a graph of a bundle must have.

    Parameters
    ----------
    graph
        `encode`, `motion`, `align`, `recall`, `remember` or `fuse`.
    window
        Frames in the window.
    memory, motion
        Whether the bundle has a long memory, and flows between neighbouring frames.
    std
        Whether it predicts a standard deviation.
    """
    state = ("memory", "weight") if memory else ()
    if graph == "encode":
        return GraphNames(("frame", "noise"), ("features",))
    if graph == "motion":
        return GraphNames(("features_a", "features_b", "noise"), ("flow",))
    if graph == "align":
        return GraphNames(("features", "places", "rows", "columns"), ("aligned",), ())
    if graph == "recall":
        return GraphNames(("memory", "places", "rows", "columns"), ("recalled",), ())
    if graph == "remember":
        return GraphNames(("features", *state), ("memory_out", "weight_out"), ())
    frames = tuple(f"features_{i}" for i in range(window))
    flows = tuple(f"flow_{i}" for i in range(window - 1)) if motion else ()
    outputs = ("mean", "std") if std else ("mean",)
    return GraphNames((*frames, *flows, "valid", *state, "noise"), outputs, ("noise", "weight"))


def check_graph(file: str, data: bytes, names: GraphNames, grid: Grid = _UNSCALED) -> None:
    """Refuse a graph that is unreadable, points outside itself, takes too much memory or time, or breaks an engine.

    Engines do not survive every graph: a cycle, or a function that calls itself, keeps them busy for ever, and
    `Range(0, 1e12)` asks for four terabytes. A graph that was found sound is not looked at again in this process: it
    takes 10 ms, and a session that fills, or an evaluation, opens its bundle several times.

    Parameters
    ----------
    file
        Its file name, for the message.
    data
        The serialised model.
    names
        What it must have; all must be float32.
    grid
        Sizes of its inputs, by which memory and time are worked out.

    Raises
    ------
    BundleDamaged
        For each of these.
    """
    known = hashlib.sha256(data).digest(), names, grid
    if known in _sound:
        return
    _check(file, data, names, grid)
    if len(_sound) >= _MOST_SOUND:
        _sound.clear()
    _sound.add(known)


_sound: set[tuple[bytes, GraphNames, Grid]] = set()


def _check(file: str, data: bytes, names: GraphNames, grid: Grid) -> None:
    import onnx

    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's two implementations raise different ones
        raise BundleDamaged(f"{file} is not an ONNX model ({error}): export the bundle again.") from error
    _within_limits(file, check_count, model)
    for tensor in _tensors_of_model(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            place = next((e.value for e in tensor.external_data if e.key == "location"), "an unnamed file")
            raise BundleDamaged(
                f"{file} keeps the tensor {tensor.name!r} outside itself, in {place!r}, "
                "which a bundle may not: export it again with all weights inside the file."
            )
    _check_simple(file, model)
    initial = {t.name for t in model.graph.initializer}
    found_inputs = [i for i in model.graph.input if i.name not in initial]
    for kind, wanted, found in (
        ("inputs", names.inputs, found_inputs),
        ("outputs", names.outputs, list(model.graph.output)),
    ):
        there = {value.name for value in found}
        if not set(wanted) - set(names.optional) <= there <= set(wanted):
            raise BundleDamaged(
                f"{file} has the {kind} {_said(there)} instead of {', '.join(wanted)}: "
                "export the bundle again with this version of denoscope."
            )
        for value in found:
            if value.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
                raise BundleDamaged(
                    f"{file} has {value.name!r} in another type than float32: export it with float32 {kind}."
                )
    # Order, operators and their types and shapes: with what was refused above out of the way.
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # the checker's and shape inference's share no other base
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise BundleDamaged(
            f"{file} is no valid ONNX model ({reason.strip()[:200]}): export the bundle again."
        ) from error
    _within_limits(file, check_cost, model, grid)


def _within_limits(file: str, check: Callable[..., None], *values: Any) -> None:
    try:
        check(*values)
    except TooLarge as error:
        raise BundleDamaged(f"{file} {error}: do not use this bundle, or export it again.") from error


def _check_simple(file: str, model: onnx.ModelProto) -> None:
    """Refuse what no graph of a bundle has: other operators than ONNX's own, functions, graphs within graphs."""
    domains = {o.domain for o in model.opset_import} | {n.domain for n in model.graph.node}
    inner = any(a.HasField("g") or a.graphs for n in model.graph.node for a in n.attribute)
    found = {
        f"operators of {', '.join(sorted(domains - {'', 'ai.onnx'}))}": domains - {"", "ai.onnx"},
        "functions": model.functions,
        "training": model.training_info,
        "sparse weights": model.graph.sparse_initializer,
        "graphs within its graph": inner,
    }
    if kinds := [kind for kind, there in found.items() if there]:
        raise BundleDamaged(
            f"{file} holds {', '.join(kinds)}, which a bundle may not: export it again with standard operators."
        )
    for tensor in model.graph.initializer:
        size = math.prod(tensor.dims)
        if any(d < 0 for d in tensor.dims) or size > _LARGEST_TENSOR:
            raise BundleDamaged(
                f"{file} has the weights {tensor.name!r} of {size} elements, and 0 to {_LARGEST_TENSOR} are read: "
                "export the bundle again."
            )


def _said(names: set[str]) -> str:
    """Return names in order for a sentence; a damaged file's may be of any length."""
    return ", ".join(sorted(names))[:200] or "none"


def _tensors_of_model(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from _tensors_of_graph(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _tensors_of_node(node)
    for training in model.training_info:
        yield from _tensors_of_graph(training.initialization)
        yield from _tensors_of_graph(training.algorithm)


def _tensors_of_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _tensors_of_node(node)


def _tensors_of_node(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        sparse = [
            *attribute.sparse_tensors,
            *([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []),
        ]
        for tensor in sparse:
            yield from (tensor.values, tensor.indices)
        graphs = [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]
        for graph in graphs:
            yield from _tensors_of_graph(graph)
