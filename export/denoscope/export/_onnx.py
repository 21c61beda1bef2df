"""Freeze a trained network into the three ONNX graphs of a bundle."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence

import onnx
import torch
from torch import Tensor, nn

from denoscope.train import LiveNet

__all__ = ["OPSET", "export_graphs"]

OPSET = 20
_RESERVED = "output::"  # the exporter names inner values after operators, and one of them is `mean`
_EXAMPLE = (48, 64)  # frame size the exporter traces with; the graphs take any multiple of the stride


class _Encode(nn.Module):
    def __init__(self, network: LiveNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, frame: Tensor, noise: Tensor) -> Tensor:
        return self.network.encode(frame, noise)


class _Remember(nn.Module):
    def __init__(self, network: LiveNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor, memory: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.remember(features, memory, weight)


class _Fuse(nn.Module):
    def __init__(self, network: LiveNet) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, features: list[Tensor], valid: Tensor, memory: Tensor, weight: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        return self.network.fuse(features, valid, memory, weight, noise)


def export_graphs(network: LiveNet) -> dict[str, bytes]:
    """Export `encode`, `remember` and `fuse` with the weights inside and free height and width.

    Parameters
    ----------
    network
        The trained network; float32, on the CPU.

    Returns
    -------
    dict[str, bytes]
        Serialised ONNX models by file name (`encode.onnx`, ...), checked with full shape inference.
    """
    network = network.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    settings = network.settings
    height, width = _EXAMPLE
    h, w = height // network.scale, width // network.scale
    frame = torch.zeros(1, 1, height, width)
    noise = torch.tensor([0.1, 0.1])
    features = torch.zeros(1, settings.feature_channels, h, w)
    memory = torch.zeros(1, settings.memory_channels, h, w)
    weight = torch.zeros(len(settings.memory_decay))
    valid = torch.ones(settings.window)

    rows, columns = torch.export.Dim("rows", min=4), torch.export.Dim("columns", min=4)
    full = {2: network.stride * rows, 3: network.stride * columns}
    per_cell = network.stride // network.scale
    cells = {2: per_cell * rows, 3: per_cell * columns}
    window = [features] * settings.window
    slots = [f"features_{i}" for i in range(settings.window)]
    return {
        "encode.onnx": _export(
            _Encode(network), (frame, noise), (full, None), ["frame", "noise"], ["features"]
        ),
        "remember.onnx": _export(
            _Remember(network),
            (features, memory, weight),
            (cells, cells, None),
            ["features", "memory", "weight"],
            ["memory_out", "weight_out"],
        ),
        "fuse.onnx": _export(
            _Fuse(network),
            ([f.clone() for f in window], valid, memory, weight, noise),
            ([cells] * settings.window, None, cells, None, None),
            [*slots, "valid", "memory", "weight", "noise"],
            ["mean", "std"],
        ),
    }


def _export(
    module: nn.Module,
    arguments: tuple[object, ...],
    dynamic_shapes: tuple[object, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> bytes:
    with _quiet():
        program = torch.onnx.export(
            module.eval(),
            arguments,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=[_RESERVED + name for name in outputs],
            dynamic_shapes=dynamic_shapes,
            optimize=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    for opset in model.opset_import:
        if opset.domain == "" and opset.version < OPSET:
            raise RuntimeError(f"The exporter wrote opset {opset.version}; {OPSET} or later is required.")
    _free_output_names(model)
    names = [i.name for i in model.graph.input], [o.name for o in model.graph.output]
    if names != (list(inputs), list(outputs)):
        raise RuntimeError(
            f"The exporter wrote the inputs and outputs {names}; {inputs}, {outputs} are required."
        )
    _strip(model)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


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
