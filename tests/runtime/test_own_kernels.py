"""The backend of our own kernels, compiled as C on a device that lies in the host's memory, and on a GPU if any."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest

from denoscope.acquisition.bench.scene import make_scene
from denoscope.runtime import Bundle, FrameMeta, Stream
from denoscope.runtime.backends import Backend
from denoscope.runtime.backends.device.cuda import compile_kernels
from denoscope.runtime.backends.device.kernels.plan import pack_weights, plan_kernels
from denoscope.runtime.backends.device.kernels.read import read_program
from denoscope.runtime.backends.onnxruntime_gpu import with_shapes
from denoscope.runtime.backends.own_kernels import (
    OwnKernels,
    _places,
    kernel_prelude,
)  # run as C, without a GPU
from denoscope.runtime.testing import BackendContract
from support.gpu_on_host import KernelsOnHost
from support.nvrtc import nvrtc

HALF = 2e-3  # convolutions take numbers of eleven bits


class TestOnHost(BackendContract):
    backend_class = KernelsOnHost
    tolerance = HALF


@pytest.mark.gpu
class TestOwnKernels(BackendContract):
    backend_class = OwnKernels
    tolerance = HALF


def denoised(bundle: Bundle, backend: str | Backend, *, align: bool = False, std: bool = False) -> Any:
    """Denoise a few frames of a known scene that drifts by a third of a pixel a frame."""
    scene = make_scene((32, 24))
    with Stream(bundle, backend, intensity=scene.intensity, align=align, std=std) as stream:
        outputs = []
        for number in range(9):
            frame = scene.frames[number % len(scene.frames)]
            frame = np.roll(frame, number // 3, axis=1) if align else frame
            outputs += stream.push(frame, FrameMeta(number=number, t_received_s=0.0))
        outputs += stream.flush()
    frames = np.stack([output.frame for output in outputs]).astype(np.float64)
    deviations = np.stack([output.std for output in outputs]) if std else None
    return frames, deviations, scene.intensity.scale


@pytest.mark.parametrize(
    ("name", "align"),
    [
        pytest.param("live-fast", True, marks=pytest.mark.slow),
        ("live", False),
        pytest.param("live-fast", False, marks=pytest.mark.slow),
        pytest.param("live", True, marks=pytest.mark.slow),
    ],
)
def test_the_shipped_bundles_give_the_processors_picture(name: str, align: bool) -> None:
    bundle = Bundle.load(name)
    expected, std, sigma = denoised(bundle, "onnxruntime-cpu", align=align, std=True)
    with KernelsOnHost() as backend:
        assert backend.obstacle(bundle) is None
        found, deviations, _ = denoised(bundle, backend, align=align, std=True)
    assert len(found) == 9
    assert np.sqrt(np.mean((found - expected) ** 2)) < 0.02 * sigma
    assert np.abs(found - expected).max() < 0.2 * sigma
    assert np.sqrt(np.mean((deviations - std) ** 2)) < 0.02 * sigma


def test_the_deviation_is_not_computed_where_nobody_reads_it() -> None:
    bundle = Bundle.load("live-fast")
    with KernelsOnHost() as backend:
        with_it, _, _ = denoised(bundle, backend, std=True)
        before = backend.device.counts["start"]
        without, _, _ = denoised(bundle, backend)
        starts = backend.device.counts["start"] - before
    np.testing.assert_array_equal(with_it, without)
    assert starts < 0.95 * before


def test_a_bundle_with_operators_that_have_no_kernel_is_refused_by_name() -> None:
    reason = OwnKernels.obstacle(Bundle.load("live-hq"))
    assert reason is not None
    assert re.fullmatch(r"it has no kernel yet for .*Log.*, which live-hq uses", reason)


def test_weights_lie_in_the_order_of_the_lanes() -> None:
    weights = np.arange(16 * 32 * 9, dtype=np.float16).reshape(16, 32, 3, 3) % 2048
    packed = pack_weights(weights)
    assert packed.shape == (9, 2, 2, 8, 4, 2, 2)
    # Lane (group 5, quad 3) holds in its second register the inputs 14 and 15 of output 5 of its tile.
    assert packed[4, 1, 1, 5, 3, 1].tolist() == [weights[13, 30, 1, 1], weights[13, 31, 1, 1]]


def test_memory_is_shared_only_by_what_is_never_needed_at_once() -> None:
    program = read_program(with_shapes(Bundle.load("live").graph_bytes("fuse"), fuse_shapes(32)))
    plan = plan_kernels(program)
    offsets, size = _places(plan)
    assert size < 0.7 * sum(plan.buffers.values())
    for a, b in itertools.combinations(plan.buffers, 2):
        apart = offsets[a] + plan.buffers[a] <= offsets[b] or offsets[b] + plan.buffers[b] <= offsets[a]
        (first_a, last_a), (first_b, last_b) = plan.use[a], plan.use[b]
        assert apart or last_a < first_b or last_b < first_a


def fuse_shapes(edge: int) -> dict[str, tuple[int, ...]]:
    cells = edge // 2
    fields = {f"features_{i}": (1, 20, cells, cells) for i in range(7)} | {"memory": (1, 16, cells, cells)}
    return fields | {"mean": (1, 1, edge, edge), "std": (1, 1, edge, edge)}


@pytest.mark.parametrize("architecture", ["sm_80", "sm_89", "sm_90", "sm_120"])
def test_the_kernels_compile_for_every_generation_of_gpus(architecture: str) -> None:
    if reason := nvrtc():
        pytest.skip(reason)
    program = read_program(with_shapes(Bundle.load("live-fast").graph_bytes("encode"), encode_shapes(512)))
    source = kernel_prelude() + plan_kernels(program).source
    assert len(compile_kernels(architecture, source, exact=False).code) > 1000


def encode_shapes(edge: int) -> dict[str, tuple[int, ...]]:
    return {"frame": (1, 1, edge, edge), "features": (1, 16, edge // 2, edge // 2)}
