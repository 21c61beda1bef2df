"""Freeze a trained network into the ONNX graphs of a bundle."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from denoscope.export.split import AnyNetwork, Split, split
from denoscope.runtime.motion.field import KNOTS

__all__ = ["OPSET", "export_graphs"]

OPSET = 20
_EXAMPLE = (48, 64)  # frame size the exporter traces with; the graphs take any multiple of the stride


def export_graphs(network: AnyNetwork, flow: nn.Module | None = None) -> dict[str, bytes]:
    """Export the graphs of a bundle with the weights inside and free height and width.

    Parameters
    ----------
    network
        The trained network of any method; float32, on the CPU.
    flow
        STS-UVD only: the flow network that goes with it.

    Returns
    -------
    dict[str, bytes]
        Serialised ONNX models by file name (`encode.onnx`, `fuse.onnx`, and those of `motion`, `align`, `recall` and
        `remember` that the method has), checked with full shape inference.
    """
    for module in (network, flow):
        if module is not None:
            module.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return _graphs(split(network, flow))


def _graphs(parts: Split) -> dict[str, bytes]:
    """Export each part, with the inputs that the runtime will give it."""
    height, width = _EXAMPLE
    h, w = height // parts.scale, width // parts.scale

    def free(scale: int) -> dict[int, str]:
        return {2: _times(parts.stride // scale, "rows"), 3: _times(parts.stride // scale, "columns")}

    frame = _Input("frame", torch.zeros(1, 1, height, width), free(1))
    noise = _Input("noise", torch.tensor([0.1, 0.1]))
    features = torch.zeros(1, parts.feature_channels, h, w)
    valid = _Input("valid", torch.ones(parts.window))
    memory = _Input("memory", torch.zeros(1, parts.memory_channels, h, w), free(parts.scale))
    weight = _Input("weight", torch.zeros((2 if parts.two_sided else 1) * len(parts.memory_decay)))

    def of_frame(name: str) -> _Input:
        return _Input(name, features.clone(), free(parts.scale))

    graphs = {
        "encode.onnx": _export(
            parts.encode, [frame, *([noise] if parts.uses_noise else [])], {"features": free(parts.scale)}
        )
    }

    window: list[_Input | list[_Input]] = [[of_frame(f"features_{i}") for i in range(parts.window)]]
    if parts.motion is not None:
        graphs["motion.onnx"] = _export(
            parts.motion,
            [of_frame("features_a"), of_frame("features_b"), noise],
            {"flow": free(parts.flow_scale)},
        )
        grid = (height // parts.flow_scale, width // parts.flow_scale)
        window.append(
            [
                _Input(f"flow_{i}", torch.zeros(1, 2, *grid), free(parts.flow_scale))
                for i in range(parts.window - 1)
            ]
        )
    at, made = _sampled(parts)
    if parts.align is not None:
        graphs["align.onnx"] = _export(parts.align, [of_frame("features"), *at], {"aligned": made})
    if parts.recall is not None:
        graphs["recall.onnx"] = _export(parts.recall, [memory, *at], {"recalled": made})
    window.append(valid)
    if parts.remember is not None:
        graphs["remember.onnx"] = _export(
            parts.remember,
            [of_frame("features"), memory, weight],
            {"memory_out": free(parts.scale), "weight_out": {}},
        )
    if parts.memory_channels:
        window += [memory, *([weight] if parts.uses_weight else [])]
    if parts.uses_noise:
        window.append(noise)
    results = {name: free(1) for name in (["mean", "std"] if parts.predicts_std else ["mean"])}
    graphs["fuse.onnx"] = _export(parts.fuse, window, results)
    return graphs


def _sampled(parts: Split) -> tuple[list[_Input], dict[int, str]]:
    """Return the inputs that say where to sample, and the free sizes of the result.

    The result may be larger or smaller than what is sampled: one is a frame, the other the scene.
    """
    height, width = _EXAMPLE
    at = [
        _Input("places", torch.zeros(1, 2, KNOTS, KNOTS)),
        _Input("rows", torch.zeros(1, 1, height, KNOTS), {2: _times(parts.stride, "made_rows")}),
        _Input("columns", torch.zeros(1, 1, KNOTS, width), {3: _times(parts.stride, "made_columns")}),
    ]
    of_cells = parts.stride // parts.scale
    return at, {2: _times(of_cells, "made_rows"), 3: _times(of_cells, "made_columns")}


def _times(factor: int, size: str) -> str:
    """Return the name of a free size that is a multiple of another, as engines and people read it in a graph."""
    return size if factor == 1 else f"{factor}*{size}"


@dataclass(frozen=True)
class _Input:
    """An input of a graph: its name, an example, and which of its sizes are free."""

    name: str
    example: Tensor
    free: dict[int, str] | None = None


def _export(
    module: nn.Module,
    arguments: Sequence[_Input | list[_Input]],
    outputs: Mapping[str, dict[int, str]],
) -> bytes:
    groups = (argument if isinstance(argument, list) else [argument] for argument in arguments)
    inputs = [i for group in groups for i in group]
    with _quiet():
        model = _written(module.eval(), arguments, inputs, outputs)
    for opset in model.opset_import:
        if opset.domain == "" and opset.version < OPSET:
            raise RuntimeError(f"The exporter wrote opset {opset.version}; {OPSET} or later is required.")
    names = [i.name for i in model.graph.input], [o.name for o in model.graph.output]
    wanted = [i.name for i in inputs], list(outputs)
    if names != wanted:
        raise RuntimeError(f"The exporter wrote the inputs and outputs {names}; {wanted} are required.")
    with torch.inference_mode():
        found = module(*_each(arguments, "example"))
    examples = found if isinstance(found, tuple) else (found,)
    for value, example, free in zip(model.graph.output, examples, outputs.values(), strict=True):
        _declare_shape(value, example.shape, free)
    _share_constants(model)
    _drop_what_changes_nothing(model)
    _strip(model)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _each(arguments: Sequence[_Input | list[_Input]], field: str) -> tuple[Any, ...]:
    return tuple(
        [getattr(i, field) for i in argument] if isinstance(argument, list) else getattr(argument, field)
        for argument in arguments
    )


def _written(
    module: nn.Module,
    arguments: Sequence[_Input | list[_Input]],
    inputs: Sequence[_Input],
    outputs: Iterable[str],
) -> onnx.ModelProto:
    """Record one run of a module and write it as a graph.

    The torch exporter that has replaced this one computes with sizes as symbols, again for every operator and in
    several passes: seconds to minutes where this one takes a tenth of a second for an equal graph (decisions 0009 and
    0071). A recorded run has one path, so modules must not branch on values or sizes.
    """
    buffer = io.BytesIO()
    torch.onnx.export(
        module,
        _each(arguments, "example"),
        buffer,  # type: ignore[arg-type]  # this exporter writes to open files too
        dynamo=False,
        opset_version=OPSET,
        input_names=[i.name for i in inputs],
        output_names=list(outputs),
        dynamic_axes={i.name: i.free for i in inputs if i.free is not None},
    )
    return onnx.load_model_from_string(buffer.getvalue())


def _declare_shape(value: onnx.ValueInfoProto, shape: Sequence[int], free: dict[int, str]) -> None:
    """Name each size of an output, or give its number; exporters leave some of them nameless and free."""
    tensor = value.type.tensor_type
    tensor.ClearField("shape")
    for axis, size in enumerate(shape):
        dim = tensor.shape.dim.add()
        if axis in free:
            dim.dim_param = free[axis]
        else:
            dim.dim_value = size


def _share_constants(model: onnx.ModelProto) -> None:
    """Keep constants beside the weights, equal ones once: a recorded run has a node for every place of use."""
    first: dict[bytes, str] = {}
    same: dict[str, str] = {}
    kept = []
    for node in model.graph.node:
        if node.op_type == "Constant" and [a.name for a in node.attribute] == ["value"]:
            tensor, name = node.attribute[0].t, node.output[0]
            tensor.name = ""
            same[name] = first.setdefault(tensor.SerializeToString(), name)
            if same[name] == name:
                tensor.name = name
                model.graph.initializer.append(tensor)
            continue
        for index, name in enumerate(node.input):
            node.input[index] = same.get(name, name)
        kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _drop_what_changes_nothing(model: onnx.ModelProto) -> None:
    """Remove casts of a value to the type that it has, and products with the number 1."""
    typed = onnx.shape_inference.infer_shapes(model).graph
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in (*typed.value_info, *typed.input, *typed.output)
    }
    ones = {
        tensor.name
        for tensor in model.graph.initializer
        if not tensor.dims and numpy_helper.to_array(tensor) == 1
    }
    public = {o.name for o in model.graph.output}
    same: dict[str, str] = {}
    kept = []
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = same.get(name, name)
        source = _unchanged(node, types, ones)
        if source is None or node.output[0] in public:
            kept.append(node)
        else:
            same[node.output[0]] = source
    del model.graph.node[:]
    model.graph.node.extend(kept)
    used = {name for node in kept for name in node.input}
    constants = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(constants)


def _unchanged(node: onnx.NodeProto, types: Mapping[str, int], ones: Collection[str]) -> str | None:
    """Return the input that a node hands on as it is, or None where the node computes something."""
    if node.op_type == "Cast" and types.get(node.input[0]) == node.attribute[0].i:
        return str(node.input[0])
    if node.op_type == "Mul":
        a, b = node.input
        return str(a) if b in ones else str(b) if a in ones else None
    return None


def _strip(model: onnx.ModelProto) -> None:
    """Remove the exporter's notes (source paths, stack traces), which are of no use in a bundle."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output]:
        del value.metadata_props[:]
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]
        tensor.doc_string = ""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    model.producer_name = "denoscope"
    model.graph.doc_string = model.doc_string = ""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notes off the user's screen; errors are raised all the same, and so are lost branches."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(record=True) as branches, contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            warnings.filterwarnings("always", "Converting a tensor to a Python")
            yield
    finally:
        logger.setLevel(level)
    if branches:
        raise RuntimeError(
            "A part of the network takes one way or another by the values of a tensor, and a graph has one way: write "
            f"it without that branch, {branches[0].filename}:{branches[0].lineno}."
        )
