"""Refuse bundles that would read devices, wait for pipes, or take gigabytes or minutes."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from denoscope.runtime import Bundle, BundleDamaged, write_bundle
from denoscope.runtime.bundle import bundle as module
from denoscope.runtime.bundle.bundle import (
    checksum_of,
)  # damaged bundles are signed again, as an attacker would
from denoscope.runtime.bundle.regular_file import NotReadable, read_regular
from support.hostile_graphs import HOSTILE, hostile_bundle
from support.tiny_bundle import tiny_bundle, tiny_files, tiny_manifest

posix = pytest.mark.skipif(sys.platform == "win32", reason="pipes and devices are files on POSIX only")
PARTS = ["bundle.json", "encode.onnx", "fuse.onnx", "remember.onnx", "weights.safetensors", "README.md"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_bundle(tmp_path / "tiny.denoscope").folder


def refused(folder: Path) -> str:
    """Return the sentence with which a bundle is refused, within seconds."""
    began = time.perf_counter()
    with pytest.raises(BundleDamaged) as caught:
        Bundle.load(folder)
    assert time.perf_counter() - began < 200
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", PARTS)
def test_sparse_files_of_12_gb_are_refused_unread(folder: Path, name: str) -> None:
    with (folder / name).open("wb") as file:
        file.truncate(12_000_000_000)
    assert name in refused(folder)


def test_parts_are_not_read_when_they_are_too_large_together(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    total = sum(p.stat().st_size for p in folder.iterdir() if p.name != "bundle.json")
    monkeypatch.setattr(module, "_BUNDLE_LIMIT", total)
    Bundle.load(folder)
    monkeypatch.setattr(module, "_BUNDLE_LIMIT", total - 1)
    monkeypatch.setattr(module, "_read_checked", lambda *_: pytest.fail("a part was read"))
    assert f"more than {total - 1} bytes" in refused(folder)


@posix
@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("kind", ["pipe", "device", "link to a device", "folder", "link to nothing"])
def test_only_regular_files_are_opened(folder: Path, name: str, kind: str) -> None:
    part = folder / name
    part.unlink()
    if kind == "pipe":
        os.mkfifo(part)
    elif kind == "folder":
        part.mkdir()
    else:
        part.symlink_to({"device": "/dev/zero", "link to a device": "other"}.get(kind, "nowhere"))
        if kind == "link to a device":
            (folder.parent / "other").symlink_to("/dev/zero")
            part.unlink()
            part.symlink_to(folder.parent / "other")
    words = {"pipe": "is a pipe", "folder": "is a folder", "link to nothing": "cannot be read"}
    assert f"{name} in {folder} {words.get(kind, 'is a device')}" in refused(folder)


@posix
def test_a_link_to_a_regular_file_is_read(folder: Path) -> None:
    (folder / "encode.onnx").rename(folder.parent / "kept.onnx")
    (folder / "encode.onnx").symlink_to(folder.parent / "kept.onnx")
    Bundle.load(folder)


def test_a_file_that_grows_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(11))
    assert read_regular(path, 11) == bytes(11)
    monkeypatch.setattr("denoscope.runtime.bundle.regular_file._size_of", lambda _: 0)
    with pytest.raises(NotReadable, match="11 bytes, and at most 10"):
        read_regular(path, 10)


@pytest.mark.parametrize(
    "changes",
    [
        {"stride": 10**9, "scale": 1},
        {"feature_channels": 10**9},
        {"memory_channels": 10**9},
        {"memory_decay": [4.0] * 1000},
        {"calibration_frames": 10**9},
    ],
)
def test_numbers_that_would_take_all_memory_are_refused(folder: Path, changes: dict[str, Any]) -> None:
    content = json.loads((folder / "bundle.json").read_text(encoding="utf-8")) | changes
    content["checksum"] = checksum_of(content)
    (folder / "bundle.json").write_text(json.dumps(content), encoding="utf-8")
    assert next(iter(changes)) in refused(folder)


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000, "9" * 100_000])
def test_a_manifest_of_any_depth_is_refused(folder: Path, text: str) -> None:
    (folder / "bundle.json").write_text(text, encoding="utf-8")
    assert "bundle.json" in refused(folder)


@pytest.mark.parametrize("case", HOSTILE)
def test_graphs_that_take_gigabytes_or_minutes_are_refused(tmp_path: Path, case: str) -> None:
    complaint = hostile_bundle(tmp_path / "b", case)
    message = refused(tmp_path / "b")
    assert message.startswith("encode.onnx ")
    assert re.search(complaint, message), message


def test_a_larger_network_than_any_published_one_is_accepted(tmp_path: Path) -> None:
    """Eight convolutions of 256 channels: 60 times the arithmetic of `live`."""
    manifest = tiny_manifest()
    files = tiny_files(manifest)
    model = onnx.load_model_from_string(files["encode.onnx"])
    widths = [4, *[256] * 8, 4]
    node = model.graph.node[-1]
    node.output[0] = "value_0"
    for place, (wide_in, wide_out) in enumerate(itertools.pairwise(widths)):
        weights = np.zeros((wide_out, wide_in, 3, 3), np.float32)
        model.graph.initializer.append(numpy_helper.from_array(weights, f"weights_{place}"))
        name = "features" if place == len(widths) - 2 else f"value_{place + 1}"
        convolution = helper.make_node("Conv", [f"value_{place}", f"weights_{place}"], [name], pads=[1] * 4)
        model.graph.node.append(convolution)
    write_bundle(tmp_path / "b", manifest, {**files, "encode.onnx": model.SerializeToString()})
    digest = hashlib.sha256((tmp_path / "b" / "encode.onnx").read_bytes()).hexdigest()
    assert Bundle.load(tmp_path / "b").manifest.files["encode.onnx"] == digest
