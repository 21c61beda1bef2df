"""A bundle is loaded whole and unchanged, or refused in one sentence."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from pydantic import ValidationError

from denoscope.runtime import (
    Bundle,
    BundleDamaged,
    BundleManifest,
    BundleNotFound,
    FrameMeta,
    Intensity,
    InvalidInput,
    QualityRecord,
    Stream,
    list_bundles,
    write_bundle,
)
from denoscope.runtime.bundle.bundle import (
    checksum_of,
)  # damaged bundles are signed again, as an attacker would
from support.tiny_bundle import (
    assert_answer,
    expected_movie,
    stamped,
    tiny_bundle,
    tiny_files,
    tiny_manifest,
)

FILES = ["README.md", "bundle.json", "encode.onnx", "fuse.onnx", "remember.onnx", "weights.safetensors"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_bundle(tmp_path / "tiny.denoscope", look_ahead=2).folder


def refuse(folder: Path, pattern: str) -> None:
    with pytest.raises(BundleDamaged, match=pattern) as caught:
        Bundle.load(folder)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message


def rewrite_manifest(folder: Path, **changes: Any) -> None:
    """Change the manifest and give it a checksum that fits."""
    content = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    content.update(changes)
    content["checksum"] = checksum_of(content)
    (folder / "bundle.json").write_text(json.dumps(content), encoding="utf-8")


def replace_graph(folder: Path, name: str, model: onnx.ModelProto) -> None:
    """Put another graph into a bundle, with checksums that fit."""
    data = model.SerializeToString()
    (folder / name).write_bytes(data)
    files = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))["files"]
    rewrite_manifest(folder, files={**files, name: hashlib.sha256(data).hexdigest()})


def test_what_is_written_is_loaded(tmp_path: Path) -> None:
    quality = [
        QualityRecord(movie="m", metric="PSNR (dB)", value=40.5, baseline=38, baseline_name="gaussian")
    ]
    intensity = Intensity(offset=100.5, scale=3, noise_slope=0.25, noise_floor=0.5)
    manifest = tiny_manifest(intensity=intensity).model_copy(update={"quality": quality})
    files = tiny_files(manifest)
    write_bundle(tmp_path / "deep" / "b.denoscope", manifest, files)
    bundle = Bundle.load(str(tmp_path / "deep" / "b.denoscope"))
    assert bundle.manifest.model_copy(update={"files": {}, "checksum": ""}) == manifest
    assert bundle.manifest.quality == quality
    assert bundle.graph_bytes("fuse") == files["fuse.onnx"]
    assert len(bundle.digest) == 64
    assert sorted(p.name for p in bundle.folder.iterdir()) == FILES
    assert [p.name for p in bundle.folder.parent.iterdir()] == ["b.denoscope"]
    assert "tiny" in repr(bundle)


@pytest.mark.parametrize("place", [0.0, 0.37, 0.999])
@pytest.mark.parametrize("flip", [0x01, 0xFF])
@pytest.mark.parametrize("name", FILES)
def test_one_flipped_byte_in_any_file_is_found(folder: Path, name: str, place: float, flip: int) -> None:
    data = bytearray((folder / name).read_bytes())
    data[int(place * len(data))] ^= flip
    (folder / name).write_bytes(data)
    refuse(folder, name)


def test_every_byte_of_the_manifest_counts(folder: Path) -> None:
    path = folder / "bundle.json"
    good = path.read_bytes()
    for place in range(0, len(good) - 1, 7):
        bad = bytearray(good)
        bad[place] ^= 0x04
        path.write_bytes(bad)
        with pytest.raises(BundleDamaged):
            Bundle.load(folder)


@pytest.mark.parametrize("name", [n for n in FILES if n != "bundle.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    refuse(folder, f"lacks {name}")


def test_a_surplus_file_is_named(folder: Path) -> None:
    (folder / "model.pkl").write_bytes(b"")
    refuse(folder, r"model\.pkl.*move")


def test_a_card_added_later_has_no_checksum(tmp_path: Path) -> None:
    manifest = tiny_manifest()
    files = {n: d for n, d in tiny_files(manifest).items() if n != "README.md"}
    write_bundle(tmp_path / "b", manifest, files)
    Bundle.load(tmp_path / "b")
    (tmp_path / "b" / "README.md").write_text("new", encoding="utf-8")
    refuse(tmp_path / "b", r"README\.md without a checksum")


def test_what_file_browsers_leave_does_no_harm(folder: Path) -> None:
    (folder / ".DS_Store").write_bytes(b"x")
    Bundle.load(folder)


@pytest.mark.parametrize("where", ["initializer", "constant", "branch"])
def test_weights_outside_the_file_are_refused(folder: Path, where: str) -> None:
    model = onnx.load_model(folder / "encode.onnx")
    tensor = onnx.numpy_helper.from_array(np.zeros(4, np.float32), "stray")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../secret.bin")
    if where == "initializer":
        model.graph.initializer.append(tensor)
    else:
        node = onnx.helper.make_node("Constant", [], ["stray_value"], value=tensor)
        if where == "branch":
            value = onnx.helper.make_tensor_value_info("stray_value", onnx.TensorProto.FLOAT, [4])
            branch = onnx.helper.make_graph([node], "branch", [], [value])
            node = onnx.helper.make_node("If", ["c"], ["o"], then_branch=branch, else_branch=branch)
        model.graph.node.append(node)
    replace_graph(folder, "encode.onnx", model)
    refuse(folder, r"encode\.onnx keeps the tensor 'stray' outside itself, in '\.\./\.\./secret\.bin'")


def test_a_graph_with_other_names_is_refused(folder: Path) -> None:
    model = onnx.load_model(folder / "encode.onnx")
    model.graph.input[0].name = "image"
    replace_graph(folder, "encode.onnx", model)
    refuse(folder, r"encode\.onnx has the inputs image, noise instead of frame, noise")


def test_a_graph_in_another_precision_is_refused(folder: Path) -> None:
    model = onnx.load_model(folder / "fuse.onnx")
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    replace_graph(folder, "fuse.onnx", model)
    refuse(folder, "'mean' in another type than float32")


@pytest.mark.parametrize("name", ["encode.onnx", "weights.safetensors"])
def test_content_of_another_kind_is_refused(tmp_path: Path, name: str) -> None:
    manifest = tiny_manifest()
    write_bundle(tmp_path / "b", manifest, {**tiny_files(manifest), name: b"\x80\x04junk that is neither"})
    refuse(tmp_path / "b", f"{name} is not")


def test_a_newer_bundle_asks_for_an_update(folder: Path) -> None:
    rewrite_manifest(folder, schema_version=3)
    refuse(folder, "schema version 3.*update denoscope")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"colour": "green"}, "colour"),
        ({"window": 8}, "must be odd"),
        ({"window": 65}, "window"),
        ({"look_ahead": 4}, "look_ahead is 4"),
        ({"stride": 3}, "stride is 3"),
        ({"memory_channels": 0}, "memory_decay and memory_channels"),
        ({"method": "magic"}, "method"),
        ({"intensity": {"offset": 0, "scale": 0, "noise_slope": 0, "noise_floor": 1}}, r"intensity\.scale"),
    ],
)
def test_a_manifest_out_of_range_is_refused(folder: Path, changes: dict[str, Any], complaint: str) -> None:
    rewrite_manifest(folder, **changes)
    refuse(folder, complaint)
    with pytest.raises(ValidationError):
        BundleManifest.model_validate({**tiny_manifest().model_dump(), **changes})


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"schema_version": 1}'])
def test_what_is_no_manifest_is_refused(folder: Path, text: str) -> None:
    (folder / "bundle.json").write_text(text, encoding="utf-8")
    refuse(folder, r"bundle\.json")


def test_a_missing_bundle_lists_the_shipped(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFound, match=r"no bundle 'nonsense'.*shipped bundles"):
        Bundle.load("nonsense")
    with pytest.raises(BundleNotFound, match="shipped bundles"):
        Bundle.load(tmp_path / "nothing")
    with pytest.raises(BundleNotFound, match=r"holds no bundle\.json"):
        Bundle.load(tmp_path)


def test_shipped_bundles_load_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("denoscope.runtime.bundle.bundle._SHIPPED", tmp_path)
    assert list_bundles() == ()
    tiny_bundle(tmp_path / "small.denoscope")
    assert list_bundles() == ("small",)
    assert Bundle.load("small").folder == tmp_path / "small.denoscope"
    with pytest.raises(BundleNotFound):
        Bundle.load("./small")


@pytest.mark.parametrize("name", list_bundles())
def test_every_shipped_bundle_is_sound_and_small(name: str) -> None:
    bundle = Bundle.load(name)
    assert bundle.manifest.name == name
    most = 7 if name in ("live-hq", "recorded") else 2
    assert sum(p.stat().st_size for p in bundle.folder.iterdir()) <= most * 2**20


def test_writing_replaces_a_bundle_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    manifest = tiny_manifest(window=5)
    write_bundle(folder, manifest, tiny_files(manifest))
    assert Bundle.load(folder).manifest.window == 5
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "data.tif").write_bytes(b"raw")
    with pytest.raises(InvalidInput, match="nothing was overwritten"):
        write_bundle(precious, manifest, tiny_files(manifest))
    assert (precious / "data.tif").read_bytes() == b"raw"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["precious", "tiny.denoscope"]


def test_writing_refuses_other_files(tmp_path: Path) -> None:
    manifest = tiny_manifest()
    files = tiny_files(manifest)
    with pytest.raises(InvalidInput, match=r"unknown: \.\./evil"):
        write_bundle(tmp_path / "b", manifest, {**files, "../evil": b""})
    del files["fuse.onnx"]
    with pytest.raises(InvalidInput, match=r"missing: fuse\.onnx"):
        write_bundle(tmp_path / "b", manifest, files)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_without_memory_has_no_remember_graph(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "b", memory=False)
    assert bundle.manifest.graphs == ("encode", "fuse")
    with pytest.raises(InvalidInput, match="no graph 'remember'"):
        bundle.graph_bytes("remember")


def test_a_copy_is_the_same_bundle(folder: Path, tmp_path: Path) -> None:
    bundle = Bundle.load(folder)
    assert bundle.save(tmp_path / "copy").digest == bundle.digest


def test_a_bundle_says_which_graphs_and_outputs_it_has(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "b", motion=True, std=False)
    assert bundle.manifest.graphs == ("encode", "motion", "remember", "fuse")
    outputs = onnx.load_model_from_string(bundle.graph_bytes("fuse")).graph.output
    assert [o.name for o in outputs] == ["mean"]
    (bundle.folder / "motion.onnx").unlink()
    refuse(bundle.folder, r"lacks motion\.onnx")


def test_a_graph_must_give_what_the_manifest_says(tmp_path: Path) -> None:
    without, with_std = tiny_manifest(std=False), tiny_manifest()
    write_bundle(tmp_path / "a", without, tiny_files(with_std))
    refuse(tmp_path / "a", r"fuse\.onnx has the outputs mean, std instead of mean")
    write_bundle(tmp_path / "b", with_std, tiny_files(without))
    refuse(tmp_path / "b", r"fuse\.onnx has the outputs mean instead of mean, std")


def test_a_graph_may_do_without_the_noise_but_not_without_the_frame(tmp_path: Path) -> None:
    manifest = tiny_manifest()
    files = tiny_files(manifest)
    cells = onnx.helper.make_node("SpaceToDepth", ["frame"], ["features"], blocksize=2)
    model = onnx.load_model_from_string(files["encode.onnx"])
    del model.graph.node[:], model.graph.input[1:]
    model.graph.node.append(cells)
    write_bundle(tmp_path / "a", manifest, {**files, "encode.onnx": model.SerializeToString()})
    frames = {n: stamped(n) for n in range(10)}
    with Stream(tmp_path / "a", "onnxruntime-cpu", align=False) as stream:
        outputs = [o for n, frame in frames.items() for o in stream.push(frame, FrameMeta(n, 0.0))]
        outputs += stream.flush()
    expected = expected_movie(frames, window=7, look_ahead=3)
    for output in outputs:
        assert_answer(output.frame, expected[output.meta.number])
    model.graph.input[0].name = "noise"
    write_bundle(tmp_path / "b", manifest, {**files, "encode.onnx": model.SerializeToString()})
    refuse(tmp_path / "b", r"encode\.onnx has the inputs noise instead of frame, noise")


def test_flows_must_fit_the_stride() -> None:
    with pytest.raises(ValidationError, match="a multiple of flow_scale = 3"):
        BundleManifest.model_validate({**tiny_manifest().model_dump(), "flow_scale": 3})
