"""Freeze a trained network into the ONNX graphs of a bundle."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from denoscope.export._split import AnyNetwork, split
from denoscope.runtime.motion.field import KNOTS

__all__ = ["OPSET", "export_graphs"]

OPSET = 20
_RESERVED = "output::"  # the exporter names inner values after operators, and one of them is `mean`
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
    parts = split(network, flow)
    height, width = _EXAMPLE
    h, w = height // parts.scale, width // parts.scale
    rows, columns = torch.export.Dim("rows", min=4), torch.export.Dim("columns", min=4)

    def free(scale: int) -> dict[int, Any]:
        return {2: parts.stride // scale * rows, 3: parts.stride // scale * columns}

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
            traced=True,
        )
        grid = (height // parts.flow_scale, width // parts.flow_scale)
        window.append(
            [
                _Input(f"flow_{i}", torch.zeros(1, 2, *grid), free(parts.flow_scale))
                for i in range(parts.window - 1)
            ]
        )
    # What is made by sampling may be larger or smaller than what is sampled: a frame, or the scene.
    made_rows, made_columns = torch.export.Dim("made_rows", min=4), torch.export.Dim("made_columns", min=4)
    at = [
        _Input("places", torch.zeros(1, 2, KNOTS, KNOTS)),
        _Input("rows", torch.zeros(1, 1, height, KNOTS), {2: parts.stride * made_rows}),
        _Input("columns", torch.zeros(1, 1, KNOTS, width), {3: parts.stride * made_columns}),
    ]
    of_cells = parts.stride // parts.scale
    made = {2: of_cells * made_rows, 3: of_cells * made_columns}
    if parts.align is not None:
        graphs["align.onnx"] = _export(
            parts.align, [of_frame("features"), *at], {"aligned": made}, traced=True
        )
    if parts.recall is not None:
        graphs["recall.onnx"] = _export(parts.recall, [memory, *at], {"recalled": made}, traced=True)
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
    graphs["fuse.onnx"] = _export(parts.fuse, window, results, traced=parts.motion is not None)
    return graphs


@dataclass(frozen=True)
class _Input:
    """An input of a graph: its name, an example, and which of its sizes are free."""

    name: str
    example: Tensor
    free: dict[int, Any] | None = None


def _export(
    module: nn.Module,
    arguments: Sequence[_Input | list[_Input]],
    outputs: Mapping[str, dict[int, Any]],
    *,
    traced: bool = False,
) -> bytes:
    groups = (argument if isinstance(argument, list) else [argument] for argument in arguments)
    inputs = [i for group in groups for i in group]
    with _quiet():
        write = _written_from_trace if traced else _written
        model = write(module.eval(), arguments, inputs, outputs)
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
    program = torch.onnx.export(
        module,
        _each(arguments, "example"),
        dynamo=True,
        opset_version=OPSET,
        input_names=[i.name for i in inputs],
        output_names=[_RESERVED + name for name in outputs],
        dynamic_shapes=_each(arguments, "free"),
        optimize=True,
        verbose=False,
    )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    _free_output_names(model)
    return model


def _written_from_trace(
    module: nn.Module,
    arguments: Sequence[_Input | list[_Input]],
    inputs: Sequence[_Input],
    outputs: Iterable[str],
) -> onnx.ModelProto:
    """Export a graph that estimates or follows motion from a recorded run.

    The other way computes with sizes as symbols, again for every operator and in several passes: minutes
    where this one takes seconds (decision 0009). A recorded run has one path, so this is for modules
    that do not branch on values or sizes.
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
        dynamic_axes={
            i.name: {axis: str(size.__name__) for axis, size in i.free.items()}
            for i in inputs
            if i.free is not None
        },
    )
    return onnx.load_model_from_string(buffer.getvalue())


def _declare_shape(value: onnx.ValueInfoProto, shape: Sequence[int], free: dict[int, Any]) -> None:
    """Name each size of an output, or give its number; exporters leave some of them nameless and free."""
    tensor = value.type.tensor_type
    tensor.ClearField("shape")
    for axis, size in enumerate(shape):
        dim = tensor.shape.dim.add()
        if axis in free:
            dim.dim_param = str(free[axis].__name__)
        else:
            dim.dim_value = size


def _free_output_names(model: onnx.ModelProto) -> None:
    """Give the outputs their public names, and inner values that have one of those another."""
    public = {o.name.removeprefix(_RESERVED) for o in model.graph.output}

    def renamed(name: str) -> str:
        return name.removeprefix(_RESERVED) if name.startswith(_RESERVED) else f"inner::{name}"

    for node in model.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name in public or name.startswith(_RESERVED):
                    names[index] = renamed(name)
    for value in [*model.graph.value_info, *model.graph.output, *model.graph.initializer]:
        if value.name in public or value.name.startswith(_RESERVED):
            value.name = renamed(value.name)


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
    """Keep the exporter's progress notes off the user's screen; errors are raised all the same."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
