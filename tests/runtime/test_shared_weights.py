"""Weights of a bundle lie in one file; graphs name them and are put together when the bundle is loaded."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save

from denoscope.runtime import Bundle, BundleDamaged, list_bundles, write_bundle
from denoscope.runtime.bundle.bundle import checksum_of  # changed bundles are signed again
from denoscope.runtime.bundle.shared_weights import fill_in, read_weights, take_out
from support.tiny_bundle import tiny_files, tiny_manifest

KERNEL = np.arange(16 * 4 * 9, dtype=np.float32).reshape(16, 4, 3, 3)
OTHER = KERNEL[:, ::-1].copy()


def graph(*values: np.ndarray[Any, Any]) -> bytes:
    """Return a chain of convolutions with these kernels, the first input `x`."""
    names = [f"k{i}" for i in range(len(values))]
    ends = ["x", *(f"y{i}" for i in range(len(values)))]
    nodes = [helper.make_node("Conv", [ends[i], name], [ends[i + 1]]) for i, name in enumerate(names)]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info(ends[-1], TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, n) for n, v in zip(names, values, strict=True)],
    )
    return bytes(helper.make_model(made).SerializeToString(deterministic=True))


def weights(**values: np.ndarray[Any, Any]) -> Any:
    return read_weights(save(values), "weights.safetensors")


def test_what_is_taken_out_is_put_in_to_the_byte() -> None:
    data, stored = graph(KERNEL, OTHER), weights(a=KERNEL, b=OTHER, c=np.zeros((4, 4), np.float32))
    small = take_out(data, stored)
    assert len(small) < 500 < KERNEL.nbytes
    assert fill_in("g.onnx", small, stored) == data
    assert take_out(small, stored) == small


def test_what_lies_nowhere_else_stays_inside() -> None:
    half = KERNEL.astype(np.float16)
    data = graph(half, OTHER, OTHER[:1, :1, :1, :1])
    assert take_out(data, weights(a=KERNEL, c=OTHER[:1, :1, :1, :1])) == data
    # A tensor is named once a graph, so that a small file cannot ask for much memory.
    twice = take_out(graph(KERNEL, KERNEL), weights(a=KERNEL))
    assert KERNEL.nbytes < len(twice) < 2 * KERNEL.nbytes


@pytest.mark.parametrize(
    ("stored", "complaint"),
    [
        (weights(b=KERNEL), "which it does not hold"),
        (weights(a=KERNEL[:, :2]), r"whose shape is 16 x 2 x 3 x 3, not 16 x 4 x 3 x 3"),
        (weights(a=KERNEL.astype(np.float16)), "no float32"),
    ],
)
def test_wrong_names_and_shapes_are_refused(stored: Any, complaint: str) -> None:
    small = take_out(graph(KERNEL), weights(a=KERNEL))
    with pytest.raises(
        BundleDamaged, match=f"g.onnx takes 'a' from the bundle's weights.*{complaint}.*again"
    ):
        fill_in("g.onnx", small, stored)


@pytest.mark.parametrize("change", ["twice", "double", "both"])
def test_a_forged_graph_is_refused(change: str) -> None:
    stored = weights(a=KERNEL)
    model = onnx.load_model_from_string(take_out(graph(KERNEL), stored))
    tensor = model.graph.initializer[0]
    if change == "twice":
        model.graph.initializer.add().CopyFrom(tensor)
    elif change == "double":
        tensor.data_type = TensorProto.DOUBLE
    else:
        tensor.float_data.append(1)
    with pytest.raises(BundleDamaged, match="export the bundle again"):
        fill_in("g.onnx", model.SerializeToString(), stored)


def test_a_bundle_holds_its_weights_once(tmp_path: Path) -> None:
    manifest = tiny_manifest().model_copy(update={"schema_version": 2})
    files = tiny_files(manifest)
    model = onnx.load_model_from_string(files["encode.onnx"])
    large = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(large, "large"))
    files["encode.onnx"] = model.SerializeToString(deterministic=True)
    files["weights.safetensors"] = save({"large": large})
    write_bundle(tmp_path / "b", manifest, files)
    assert (tmp_path / "b" / "encode.onnx").stat().st_size < large.nbytes
    bundle = Bundle.load(tmp_path / "b")
    assert bundle.graph_bytes("encode") == files["encode.onnx"]
    copy = bundle.save(tmp_path / "c")
    assert copy.digest == bundle.digest
    # The first version of the format kept everything inside, and is read as it was.
    write_bundle(tmp_path / "old", tiny_manifest(), files)
    assert (tmp_path / "old" / "encode.onnx").read_bytes() == files["encode.onnx"]
    assert Bundle.load(tmp_path / "old").graph_bytes("encode") == files["encode.onnx"]


def test_a_name_in_a_bundle_of_the_first_version_is_not_looked_up(tmp_path: Path) -> None:
    manifest = tiny_manifest().model_copy(update={"schema_version": 2})
    files = tiny_files(manifest)
    model = onnx.load_model_from_string(files["encode.onnx"])
    large = np.ones((64, 64), np.float32)
    model.graph.initializer.append(numpy_helper.from_array(large, "large"))
    files |= {"encode.onnx": model.SerializeToString(), "weights.safetensors": save({"large": large})}
    write_bundle(tmp_path / "b", manifest, files)
    content = json.loads((tmp_path / "b" / "bundle.json").read_text(encoding="utf-8"))
    content["schema_version"] = 1
    content["checksum"] = checksum_of(content)
    (tmp_path / "b" / "bundle.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(BundleDamaged, match=r"encode\.onnx is no valid ONNX model"):
        Bundle.load(tmp_path / "b")


@pytest.mark.parametrize("name", list_bundles())
def test_shipped_bundles_hold_their_weights_once(name: str) -> None:
    bundle = Bundle.load(name)
    sizes = {p.name: p.stat().st_size for p in bundle.folder.iterdir()}
    graphs = sum(size for file, size in sizes.items() if file.endswith(".onnx"))
    assert graphs < 0.25 * sizes["weights.safetensors"]
    whole = sum(len(bundle.graph_bytes(g)) for g in bundle.manifest.graphs)
    assert whole > sizes["weights.safetensors"] * 0.9
    assert all(len(hashlib.sha256(bundle.graph_bytes(g)).hexdigest()) == 64 for g in bundle.manifest.graphs)
