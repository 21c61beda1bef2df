"""A shipped bundle whose denoised frames are falsified: scaled, shifted, or no numbers at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from denoscope.runtime import Bundle, write_bundle

__all__ = ["changed_bundle"]


def changed_bundle(folder: Path, *, factor: float = 1.0, shift: float = 0.0, of: str = "live-fast") -> Bundle:
    """Write a bundle whose `mean` is ``factor * mean + shift``, in units of the noise at the median."""
    bundle = Bundle.load(of)
    names = [*bundle.manifest.files]
    files = {name: (bundle.folder / name).read_bytes() for name in names}
    model = onnx.load_model_from_string(files["fuse.onnx"])
    for node in model.graph.node:
        for i, name in enumerate(node.output):
            if name == "mean":
                node.output[i] = "true::mean"
        for i, name in enumerate(node.input):
            if name == "mean":
                node.input[i] = "true::mean"
    for name, value in (("wrong::factor", factor), ("wrong::shift", shift)):
        model.graph.initializer.append(numpy_helper.from_array(np.float32([value]), name))
    model.graph.node.extend(
        [
            helper.make_node("Mul", ["true::mean", "wrong::factor"], ["wrong::mean"]),
            helper.make_node("Add", ["wrong::mean", "wrong::shift"], ["mean"]),
        ]
    )
    files["fuse.onnx"] = model.SerializeToString()
    write_bundle(folder, bundle.manifest, files)
    return Bundle.load(folder)
