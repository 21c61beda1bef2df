"""A small bundle with a known answer, built without torch: a weighted mean of the window and the memory.

Frame i of the window (0 oldest) has the weight i + 1, every frame before the window the weight 1, so
that an output shows which frames were in which place, and what is left of others. With `motion`, the flow between
two neighbours is the difference of their even rows, and i + 1 times the mean of flow i is added to the output.
Without `std` it predicts no deviation. `expected_movie` is the same in numpy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper
from safetensors.numpy import save

from denoscope.runtime import Bundle, BundleManifest, Intensity, write_bundle

__all__ = [
    "IDENTITY",
    "assert_answer",
    "expected_movie",
    "stamped",
    "tiny_bundle",
    "tiny_files",
    "tiny_manifest",
]

IDENTITY = Intensity(offset=0.0, scale=1.0, noise_slope=0.0, noise_floor=1.0)

SCALE = 2
STRIDE = 8
FLOW_SCALE = 4
CHANNELS = SCALE * SCALE


def tiny_manifest(
    *,
    window: int = 7,
    look_ahead: int | None = None,
    memory: bool = True,
    two_sided: bool = False,
    motion: bool = False,
    std: bool = True,
    intensity: Intensity | None = IDENTITY,
    calibration_frames: int = 32,
    name: str = "tiny",
) -> BundleManifest:
    """Return the manifest of a tiny bundle; `files` and `checksum` are filled in when it is written."""
    return BundleManifest(
        schema_version=1,
        name=name,
        method="live",
        window=window,
        look_ahead=window // 2 if look_ahead is None else look_ahead,
        stride=STRIDE,
        scale=SCALE,
        feature_channels=CHANNELS,
        memory_decay=(4.0,) if memory else (),
        memory_channels=CHANNELS * (1 + two_sided) if memory else 0,
        two_sided=two_sided,
        flow_scale=FLOW_SCALE if motion else 0,
        predicts_std=std,
        calibration_frames=calibration_frames,
        intensity=intensity,
        trained_on=["nothing: a known answer for the tests"],
        created="2026-01-01T00:00:00+00:00",
        license="BSD-3-Clause",
    )


def tiny_bundle(folder: str | Path, **settings: Any) -> Bundle:
    """Write a tiny bundle (see `tiny_manifest` for the settings) to `folder` and load it."""
    manifest = tiny_manifest(**settings)
    write_bundle(folder, manifest, tiny_files(manifest))
    return Bundle.load(Path(folder))


def tiny_files(manifest: BundleManifest) -> dict[str, bytes]:
    """Return the files of a tiny bundle by name."""
    window, memory, motion = manifest.window, manifest.memories, manifest.flow_scale > 0
    places = np.arange(1, window + 1, dtype=np.float32)
    files = {
        "encode.onnx": _encode(),
        "fuse.onnx": _fuse(window, places, memory=memory, motion=motion, std=manifest.predicts_std),
        "weights.safetensors": save({"places": places}),
        "README.md": b"# tiny\n\nA known answer for the tests.\n",
    }
    if memory == 1:
        files["remember.onnx"] = _remember()
    if motion:
        files["motion.onnx"] = _motion()
    return files


def stamped(
    number: int, shape: tuple[int, int] = (24, 32), dtype: npt.DTypeLike = np.uint16
) -> npt.NDArray[Any]:
    """Return a frame whose content tells its number, with a gradient that tells its orientation."""
    rows, columns = np.indices(shape)
    return (3 * (number % 60) + (rows * 2 + columns) % 64).astype(dtype)


def expected_movie(
    frames: Mapping[int, npt.NDArray[Any]],
    *,
    window: int,
    look_ahead: int,
    memory: bool = True,
    motion: bool = False,
    intensity: Intensity = IDENTITY,
) -> dict[int, npt.NDArray[np.float64]]:
    """Return what a tiny bundle must make of one uninterrupted movie, by frame number, not yet rounded."""
    half = window // 2
    outputs = {}
    for centre, raw in frames.items():
        total, weight = np.zeros(raw.shape, np.float64), 0.0
        for number, frame in frames.items():
            place = number - centre + half
            share = 0.0
            if place < 0:
                share = 1.0 if memory else 0.0
            elif place <= half + look_ahead:
                share = place + 1.0
            total += share * ((frame.astype(np.float64) - intensity.offset) / intensity.scale)
            weight += share
        answer = total / weight
        for place in range(window - 1 if motion else 0):
            before, after = centre - half + place, centre - half + place + 1
            if before in frames and after in frames and after <= centre + look_ahead:
                step = frames[after][::2].astype(np.float64) - frames[before][::2]
                answer = answer + (place + 1) * step.mean() / intensity.scale
        outputs[centre] = answer * intensity.scale + intensity.offset
    return outputs


def assert_answer(found: npt.NDArray[Any], expected: npt.NDArray[np.float64]) -> None:
    """Compare an output with the unrounded answer: integers must lie within half a count of it."""
    assert found.shape == expected.shape
    if found.dtype.kind == "f":
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)
    else:
        # An engine's last bit may turn a tie either way.
        assert np.abs(found.astype(np.float64) - expected).max() <= 0.5 + 1e-3


def _encode() -> bytes:
    # The noise takes part with the weight 0: some engines remove inputs that are not used.
    nodes = [
        helper.make_node("SpaceToDepth", ["frame"], ["cells"], blocksize=SCALE),
        *_nothing("noise"),
        helper.make_node("Add", ["cells", "nothing"], ["features"]),
    ]
    return _model(
        "encode",
        nodes,
        {"frame": (1, 1, "H", "W"), "noise": (2,)},
        {"features": (1, CHANNELS, "h", "w")},
        {"zero": np.zeros((), np.float32)},
    )


def _remember() -> bytes:
    nodes = [
        helper.make_node("Add", ["memory", "features"], ["memory_out"]),
        helper.make_node("Add", ["weight", "one"], ["weight_out"]),
    ]
    cells = (1, CHANNELS, "h", "w")
    return _model(
        "remember",
        nodes,
        {"features": cells, "memory": cells, "weight": (1,)},
        {"memory_out": cells, "weight_out": (1,)},
        {"one": np.ones(1, np.float32)},
    )


def _motion() -> bytes:
    # Cells are (even row, even column), (even row, odd column), ...: the first two are the even rows.
    pool = {"kernel_shape": [FLOW_SCALE // SCALE] * 2, "strides": [FLOW_SCALE // SCALE] * 2}
    nodes = [
        helper.make_node("Sub", ["features_b", "features_a"], ["step"]),
        helper.make_node("Slice", ["step", "first", "last", "axis"], ["rows"]),
        helper.make_node("AveragePool", ["rows"], ["flow"], **pool),
    ]
    cells = (1, CHANNELS, "h", "w")
    places = {"first": [0], "last": [2], "axis": [1]}
    return _model(
        "motion",
        nodes,
        {"features_a": cells, "features_b": cells},
        {"flow": (1, 2, "y", "x")},
        {name: np.array(value, np.int64) for name, value in places.items()},
    )


def _fuse(window: int, places: npt.NDArray[np.float32], *, memory: int, motion: bool, std: bool) -> bytes:
    cells = (1, CHANNELS, "h", "w")
    nodes = [helper.make_node("Mul", ["valid", "places"], ["shares"])]
    slices = [f"share_{i}" for i in range(window)]
    # Features of a missing frame are zero by the bundle's contract, so that nothing is multiplied with `valid`.
    nodes.append(helper.make_node("Split", ["places"], slices, axis=0, num_outputs=window))
    nodes += [helper.make_node("Mul", [f"features_{i}", slices[i]], [f"part_{i}"]) for i in range(window)]
    parts, weights = [f"part_{i}" for i in range(window)], ["in_window"]
    nodes.append(helper.make_node("ReduceSum", ["shares"], ["in_window"], keepdims=1))
    inputs: dict[str, Sequence[int | str]] = {f"features_{i}": cells for i in range(window)}
    if motion:
        flows = [f"flow_{i}" for i in range(window - 1)]
        inputs |= dict.fromkeys(flows, (1, 2, "y", "x"))
    inputs["valid"] = (window,)
    if memory:
        # Of both sides: the sum of what came before the window and of what comes after it.
        inputs |= {"memory": (1, memory * CHANNELS, "h", "w"), "weight": (memory,)}
        sides = [f"memory_{i}" for i in range(memory)]
        nodes.append(helper.make_node("Split", ["memory"], sides, axis=1, num_outputs=memory))
        nodes.append(helper.make_node("ReduceSum", ["weight"], ["remembered"], keepdims=1))
        parts += sides
        weights.append("remembered")
    inputs["noise"] = (2,)
    nodes += [
        helper.make_node("Sum", parts, ["total"]),
        helper.make_node("Sum", weights, ["sum_of_weights"]),
        helper.make_node("Max", ["sum_of_weights", "one"], ["divisor"]),
        helper.make_node("Div", ["total", "divisor"], ["average"]),
        *_nothing("noise"),
        helper.make_node("Add", ["average", "nothing"], ["still"]),
        *_moved(window - 1 if motion else 0),
        helper.make_node("DepthToSpace", ["answer"], ["mean"], blocksize=SCALE, mode="DCR"),
    ]
    full = (1, 1, "H", "W")
    outputs: dict[str, Sequence[int | str]] = {"mean": full}
    if std:
        # The predicted deviation is 1 / (sum of weights) everywhere.
        nodes += [
            helper.make_node("Mul", ["mean", "zero"], ["flat"]),
            helper.make_node("Reciprocal", ["divisor"], ["deviation"]),
            helper.make_node("Add", ["flat", "deviation"], ["std"]),
        ]
        outputs["std"] = full
    constants = {"places": places, "one": np.ones(1, np.float32), "zero": np.zeros((), np.float32)}
    constants |= {f"times_{i}": np.array(i + 1, np.float32) for i in range(window - 1 if motion else 0)}
    return _model("fuse", nodes, inputs, outputs, constants)


def _moved(flows: int) -> list[onnx.NodeProto]:
    """Add i + 1 times the mean of flow i to `still`."""
    nodes = []
    for i in range(flows):
        nodes += [
            helper.make_node("ReduceMean", [f"flow_{i}"], [f"way_{i}"], keepdims=0),
            helper.make_node("Mul", [f"way_{i}", f"times_{i}"], [f"far_{i}"]),
        ]
    return [*nodes, helper.make_node("Sum", ["still", *(f"far_{i}" for i in range(flows))], ["answer"])]


def _nothing(name: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("ReduceSum", [name], [f"{name}_sum"], keepdims=0),
        helper.make_node("Mul", [f"{name}_sum", "zero"], ["nothing"]),
    ]


def _model(
    name: str,
    nodes: list[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Mapping[str, Sequence[int | str]],
    constants: Mapping[str, npt.NDArray[Any]],
) -> bytes:
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(s)) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(s)) for n, s in outputs.items()],
        [onnx.numpy_helper.from_array(value, n) for n, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())
