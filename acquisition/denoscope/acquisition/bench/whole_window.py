"""The same network without the streaming split: every output encodes all the frames of its window anew.

It is made from the bundle's own graphs, so that nothing but the split differs: `encode` only hands the
frame on, and `fuse` holds a copy of the encoder for each frame of the window, with one set of weights,
and of the flow estimator for each pair. The motion of a scene is tracked in whole pixels only.
The long memory of a bundle that has one stays as it is: it
takes the frame's pixels only, the first channels of the features, in cells of 2 x 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from denoscope.runtime import Bundle, write_bundle

__all__ = ["SUFFIX", "whole_window"]

SUFFIX = "-whole-window"  # of the name of the bundle without the split

_FRAME: list[int | str | None] = [1, 1, "height", "width"]
_CELL = 2  # pixels of a cell's edge


def whole_window(bundle: Bundle, folder: Path) -> Bundle:
    """Write a bundle that computes the same outputs without the streaming split.

    Parameters
    ----------
    bundle
        The bundle to compare with.
    folder
        Where to write, `NAME.denoscope`.
    """
    manifest = bundle.manifest
    graphs: dict[str, ModelProto] = {
        name: onnx.load_from_string(bundle.graph_bytes(name)) for name in manifest.graphs
    }
    cell = _CELL if "remember" in graphs or manifest.two_sided else 1
    whole = {"encode": _hand_on(graphs["encode"], cell), "fuse": _whole_fuse(graphs, manifest.window, cell)}
    if "remember" in graphs:
        whole["remember"] = _of_cells_only(graphs["remember"])
    files = {f"{name}.onnx": model.SerializeToString() for name, model in whole.items()}
    files["weights.safetensors"] = (bundle.folder / "weights.safetensors").read_bytes()
    changed = manifest.model_copy(
        update={
            "name": f"{manifest.name}{SUFFIX}",
            "feature_channels": cell**2,
            "scale": cell,
            "flow_scale": type(manifest).model_fields["flow_scale"].default,
            "subpixel": False,
            "files": {},
        }
    )
    write_bundle(folder, changed, files)
    return Bundle.load(folder)


def _hand_on(encode: ModelProto, cell: int) -> ModelProto:
    frame = helper.make_tensor_value_info("frame", TensorProto.FLOAT, _FRAME)
    node = helper.make_node("SpaceToDepth", ["frame"], ["features"], blocksize=cell)
    return _model([node], [frame], [_slot("features", cell)], [], like=encode)


def _slot(name: str, cell: int) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, cell**2, "rows", "columns"])


def _of_cells_only(remember: ModelProto) -> ModelProto:
    nodes, weights = remember.graph.node, remember.graph.initializer
    inputs = [_slot("features", _CELL) if i.name == "features" else i for i in remember.graph.input]
    return _model(nodes, inputs, remember.graph.output, weights, like=remember)


def _whole_fuse(graphs: Mapping[str, ModelProto], window: int, cell: int) -> ModelProto:
    """Put a copy of `encode` before each frame of `fuse`, and of `motion` before each flow."""
    model, encode = graphs["fuse"], graphs["encode"]
    slots = [f"features_{i}" for i in range(window)]
    nodes: list[NodeProto] = []
    weights = list(_renamed_weights(encode, "encode"))
    weights += [helper.make_tensor(f"index_{i}", TensorProto.INT64, [1], [i]) for i in range(window)]
    for i, slot in enumerate(slots):
        nodes.append(helper.make_node("DepthToSpace", [slot], [f"{slot}/frame"], blocksize=cell))
        nodes += _copy_of(encode, "encode", slot, {"frame": f"{slot}/frame", "features": f"{slot}/encoded"})
        nodes += _zero_where_missing(i, slot)
    given = {slot: f"{slot}/features" for slot in slots}
    if "motion" in graphs:
        weights += _renamed_weights(graphs["motion"], "motion")
        for i in range(window - 1):
            ends = {"features_a": given[slots[i]], "features_b": given[slots[i + 1]]}
            nodes += _copy_of(graphs["motion"], "motion", f"flow_{i}", {**ends, "flow": f"flow_{i}/all"})
            nodes += _only_between_frames(i)
            given[f"flow_{i}"] = f"flow_{i}/valid"
    for node in model.graph.node:
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [given.get(name, name) for name in node.input]
        nodes.append(copy)
    flows = set(given) - set(slots)
    inputs = [_slot(i.name, cell) if i.name in slots else i for i in model.graph.input if i.name not in flows]
    names = {i.name for i in inputs}
    inputs += [i for i in encode.graph.input if i.name == "noise" and "noise" not in names]
    return _model(nodes, inputs, model.graph.output, [*weights, *model.graph.initializer], like=model)


def _zero_where_missing(i: int, slot: str) -> list[NodeProto]:
    """Make the features of a missing frame zero, as the stream makes its slot."""
    return [
        helper.make_node("Gather", ["valid", f"index_{i}"], [f"{slot}/valid"]),
        helper.make_node("Mul", [f"{slot}/encoded", f"{slot}/valid"], [f"{slot}/features"]),
    ]


def _only_between_frames(i: int) -> list[NodeProto]:
    """Make a flow zero where one of its frames is missing."""
    return [
        helper.make_node("Gather", ["valid", f"index_{i}"], [f"flow_{i}/before"]),
        helper.make_node("Gather", ["valid", f"index_{i + 1}"], [f"flow_{i}/after"]),
        helper.make_node("Mul", [f"flow_{i}/before", f"flow_{i}/after"], [f"flow_{i}/both"]),
        helper.make_node("Mul", [f"flow_{i}/all", f"flow_{i}/both"], [f"flow_{i}/valid"]),
    ]


def _renamed_weights(model: ModelProto, prefix: str) -> Iterable[TensorProto]:
    for weight in model.graph.initializer:
        copy = TensorProto()
        copy.CopyFrom(weight)
        copy.name = f"{prefix}/{weight.name}"
        yield copy


def _copy_of(model: ModelProto, weights: str, place: str, ends: Mapping[str, str]) -> list[NodeProto]:
    """Return the nodes of a graph under new names; weights are shared by all copies."""
    shared = {w.name: f"{weights}/{w.name}" for w in model.graph.initializer} | {"noise": "noise", "": ""}

    def name(old: str) -> str:
        return ends.get(old) or shared.get(old, f"{place}/{old}" if old else "")

    copies = []
    for node in model.graph.node:
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.name = f"{place}/{node.name}"
        copy.input[:] = [name(n) for n in node.input]
        copy.output[:] = [name(n) for n in node.output]
        copies.append(copy)
    return copies


def _model(
    nodes: Iterable[NodeProto],
    inputs: Iterable[ValueInfoProto],
    outputs: Iterable[ValueInfoProto],
    weights: Iterable[TensorProto],
    *,
    like: ModelProto,
) -> ModelProto:
    graph = helper.make_graph(list(nodes), "whole_window", list(inputs), list(outputs), list(weights))
    model: ModelProto = helper.make_model(
        graph, opset_imports=list(like.opset_import), ir_version=like.ir_version
    )
    onnx.checker.check_model(model, full_check=True)
    return model
