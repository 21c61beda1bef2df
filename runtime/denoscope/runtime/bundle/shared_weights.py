"""Weights stored once: graphs are written without those that lie in `weights.safetensors` too.

A graph of a bundle holds each of its weights, or says by name which tensor of `weights.safetensors` it is (an entry
`weights` in the metadata of an initializer without data). They are put together in memory when a bundle is loaded, so
that checks, backends and the keys of engines see complete graphs. No path is followed: the name is one of a file that
was read and checked before.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from denoscope.runtime.errors import BundleDamaged

if TYPE_CHECKING:
    import onnx

__all__ = ["Weights", "fill_in", "read_weights", "take_out"]

Weights = Mapping[str, Mapping[str, Any]]  # by name: `dtype`, `shape` and `data` (bytes)

_KEY = "weights"
_WORTH = 256  # bytes: below, a name takes as much room
_FLOAT = "F32"


def read_weights(data: bytes, file: str) -> Weights:
    """Return the tensors of a safetensors file.

    Raises
    ------
    BundleDamaged
        If it cannot be read.
    """
    from safetensors import SafetensorError, deserialize

    try:
        return dict(deserialize(data))  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise BundleDamaged(
            f"{file} is not a safetensors file ({error}): export the bundle again."
        ) from error


def take_out(graph: bytes, weights: Weights) -> bytes:
    """Return a serialised graph with names in place of the weights that lie in `weights`, each of these once.

    A graph that cannot be read is returned as it is; `check_graph` says what is wrong with it.
    """
    model = _parsed(graph)
    if model is None:
        return graph
    named = {
        (tuple(tensor["shape"]), bytes(tensor["data"])): name
        for name, tensor in weights.items()
        if tensor["dtype"] == _FLOAT and len(tensor["data"]) >= _WORTH
    }
    for tensor in model.graph.initializer:
        if tensor.data_type != tensor.FLOAT or tensor.metadata_props:
            continue
        name = named.pop((tuple(tensor.dims), tensor.raw_data), None)
        if name is not None:
            tensor.ClearField("raw_data")
            tensor.metadata_props.add(key=_KEY, value=name)
    return _serialised(model)


def fill_in(file: str, graph: bytes, weights: Weights) -> bytes:
    """Return a serialised graph with the weights that it names put in.

    Parameters
    ----------
    file
        Its file name, for the message.
    graph
        As it lies in the bundle.
    weights
        Of the bundle.

    Raises
    ------
    BundleDamaged
        If it names weights that are not there, have another type or shape, or are named twice.
    """
    model = _parsed(graph)
    if model is None:
        return graph
    used: set[str] = set()
    for tensor in model.graph.initializer:
        names = [entry.value for entry in tensor.metadata_props if entry.key == _KEY]
        if not names:
            continue
        name, found = names[0], weights.get(names[0])
        problem = ""
        if found is None:
            problem = "which it does not hold"
        elif name in used:
            problem = "which it has taken already"
        elif tensor.data_type != tensor.FLOAT or found["dtype"] != _FLOAT:
            problem = "which are no float32 numbers"
        elif list(tensor.dims) != list(found["shape"]):
            problem = f"whose shape is {_short(found['shape'])}, not {_short(tensor.dims)}"
        elif tensor.raw_data or tensor.float_data:
            problem = "and holds others itself"
        if problem:
            raise BundleDamaged(
                f"{file} takes {name[:100]!r} from the bundle's weights, {problem}: export the bundle again."
            )
        assert found is not None
        used.add(name)
        tensor.raw_data = bytes(found["data"])
        tensor.ClearField("metadata_props")
    return _serialised(model) if used else graph


def _parsed(graph: bytes) -> onnx.ModelProto | None:
    import onnx

    with contextlib.suppress(Exception):  # protobuf's two implementations raise different ones
        return onnx.load_model_from_string(graph)
    return None


def _serialised(model: onnx.ModelProto) -> bytes:
    return bytes(model.SerializeToString(deterministic=True))


def _short(shape: Any) -> str:
    return " x ".join(map(str, list(shape)[:8])) or "one number"
