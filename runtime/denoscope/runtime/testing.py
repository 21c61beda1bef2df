"""The contract that every backend keeps, as a test class that third-party backends run too.

It needs pytest and is no part of the product: nothing in denoscope imports it.

Examples
--------
In a test module of your package::

    from denoscope.runtime.testing import BackendContract
    from my_package import MyBackend

    class TestMyBackend(BackendContract):
        backend_class = MyBackend
"""

# ruff: noqa: D102  (a test's name says what it tests)

from __future__ import annotations

import gc
import itertools
import threading
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper

from .backends.raw_count_graphs import FACTOR, OFFSET, RAW
from .backends.registry import Backend, Buffer, HostBuffer
from .errors import BackendUnavailable, InvalidInput
from .noise.counts import normalise_into, restore
from .noise.noise import Intensity

__all__ = ["BackendContract", "make_graph"]

Float32 = npt.NDArray[np.float32]
Shapes = Mapping[str, Sequence[int | str]]

_SIZES = [(8, 8), (24, 40), (17, 31)]
_IMAGE = (1, 1, "H", "W")


class BackendContract:
    """Tests of one backend; subclass it, name it `Test...`, and set `backend_class`.

    Attributes
    ----------
    backend_class
        The backend under test; its tests are skipped with the reason where it is unavailable.
    tolerance
        Largest accepted relative error of a 3 x 3 convolution; float32 by default.
    """

    backend_class: ClassVar[type[Backend]]
    tolerance: ClassVar[float] = 1e-5

    @pytest.fixture
    def backend(self) -> Iterator[Backend]:
        """An open backend with one thread."""
        reason = self.backend_class.unavailable()
        if reason is not None:
            pytest.skip(reason)
        with self.backend_class(threads=1) as backend:
            yield backend

    def test_says_whether_it_can_run(self) -> None:
        reason = self.backend_class.unavailable()
        assert reason is None or reason.strip()

    def test_describes_itself(self, backend: Backend) -> None:
        assert backend.name
        assert {"library", "device", "precision", "threads"} <= set(backend.describe())
        assert all(backend.describe().values())

    def test_refuses_no_threads(self, backend: Backend) -> None:
        with pytest.raises(InvalidInput, match="threads"):
            type(backend)(threads=0)

    def test_a_buffer_starts_with_zeros_and_holds_what_is_uploaded(self, backend: Backend) -> None:
        buffer = backend.buffer((1, 3, 5, 7))
        assert buffer.shape == (1, 3, 5, 7)
        out = np.full(buffer.shape, np.nan, np.float32)
        buffer.download(out)
        assert not out.any()
        values = _values(buffer.shape)
        buffer.upload(values)
        buffer.download(out)
        np.testing.assert_array_equal(out, values)

    def test_a_buffer_of_raw_counts_holds_what_is_uploaded(self, backend: Backend) -> None:
        for dtype in backend.raw_dtypes:
            limits = np.iinfo(dtype)
            counts = np.array([[limits.min, 0, 1], [limits.max - 1, limits.max, 7]], dtype)
            buffer, out = backend.buffer(counts.shape, dtype), np.empty_like(counts)
            buffer.upload(counts)
            buffer.download(out)
            np.testing.assert_array_equal(out, counts)

    def test_raw_counts_are_converted_as_numpy_does(self, backend: Backend) -> None:
        """Into normalised units and back: clipped, and rounded half to even."""
        for dtype in backend.raw_dtypes:
            limits, rng = np.iinfo(dtype), np.random.default_rng(0)
            counts = rng.integers(limits.min, limits.max, (1, 1, 24, 40), endpoint=True).astype(dtype)
            mean = rng.normal(0, limits.max, counts.shape).astype(np.float32)
            mean[..., :8] = np.arange(-96, 96).reshape(24, 8) / 2  # halves: to the even neighbour
            unit = Intensity(offset=0, scale=1, noise_slope=0, noise_floor=1)
            np.testing.assert_array_equal(_encoded(backend, counts, unit), counts)
            np.testing.assert_array_equal(
                _fused(backend, mean, unit, dtype)[0, 0], restore(mean[0, 0].copy(), unit, counts.dtype)
            )
            camera = Intensity(offset=37.3, scale=5.7, noise_slope=0, noise_floor=1)
            normalised = np.empty(counts.shape, np.float32)
            normalise_into(counts[0, 0], camera, normalised[0, 0], (slice(0, 24), slice(0, 40)))
            np.testing.assert_allclose(_encoded(backend, counts, camera), normalised, rtol=1e-6)
            found = _fused(backend, mean, camera, dtype).astype(np.float64)
            exact = np.clip(mean.astype(np.float64) * 5.7 + 37.3, limits.min, limits.max)
            # A fused multiply-add rounds once, which may turn a tie either way.
            assert np.abs(found - exact).max() <= 0.5 + 1e-6 * limits.max

    def test_refuses_a_type_that_graphs_cannot_have(self, backend: Backend) -> None:
        with pytest.raises(InvalidInput, match="float64"):
            backend.buffer((4, 4), "float64")

    def test_a_buffer_takes_no_other_shape(self, backend: Backend) -> None:
        buffer = backend.buffer((1, 1, 8, 8))
        with pytest.raises(InvalidInput, match="shape"):
            buffer.upload(np.zeros((1, 1, 8, 9), np.float32))
        with pytest.raises(InvalidInput, match="shape"):
            buffer.download(np.zeros((64,), np.float32))

    def test_a_host_array_is_the_buffer_itself(self, backend: Backend) -> None:
        buffer = backend.buffer((4, 4))
        array = buffer.array
        if array is None:
            pytest.skip("the backend's memory is not the host's")
        array[...] = 3
        out = np.zeros((4, 4), np.float32)
        buffer.download(out)
        assert (out == 3).all()
        again = buffer.array
        assert again is not None
        assert np.shares_memory(again, array)

    def test_names_come_in_the_graphs_order(self, backend: Backend) -> None:
        graph = backend.compile(_weighted_sum())
        assert graph.inputs == ("first", "second", "factor")
        assert graph.outputs == ("sum", "difference")

    @pytest.mark.parametrize("size", _SIZES)
    def test_computes_what_the_buffers_hold_when_it_runs(
        self, backend: Backend, size: tuple[int, int]
    ) -> None:
        graph = backend.compile(_weighted_sum())
        shape = (1, 1, *size)
        first, second, factor = backend.buffer(shape), backend.buffer(shape), backend.buffer((1,))
        total, difference = backend.buffer(shape), backend.buffer(shape)
        run = graph.bind(
            {"first": first, "second": second, "factor": factor}, {"sum": total, "difference": difference}
        )
        for turn in range(3):
            a, b = _values(shape) + turn, _values(shape)[..., ::-1].copy()
            first.upload(a)
            second.upload(b)
            factor.upload(np.array([turn], np.float32))
            run()
            np.testing.assert_array_equal(_content(total), a + turn * b)
            np.testing.assert_array_equal(_content(difference), a - turn * b)
            np.testing.assert_array_equal(_content(first), a, err_msg="an input was overwritten")

    def test_convolves_with_its_precision(self, backend: Backend) -> None:
        shape = (1, 1, 20, 26)
        kernel = np.random.default_rng(1).normal(size=(4, 1, 3, 3)).astype(np.float32)
        graph = backend.compile(_convolution(kernel))
        image, result = backend.buffer(shape), backend.buffer((1, 4, 20, 26))
        run = graph.bind({"image": image}, {"result": result})
        values = np.random.default_rng(2).normal(size=shape).astype(np.float32)
        image.upload(values)
        run()
        padded = np.pad(values[0, 0].astype(np.float64), 1)
        expected = sum(
            kernel[:, 0, dy, dx, None, None] * padded[dy : dy + 20, dx : dx + 26]
            for dy in range(3)
            for dx in range(3)
        )
        error = np.abs(_content(result)[0] - expected).max() / np.abs(expected).max()
        assert error <= self.tolerance

    def test_bindings_of_one_graph_are_independent(self, backend: Backend) -> None:
        graph = backend.compile(_increment())
        chain = [backend.buffer((1, 1, 8, 8)) for _ in range(5)]
        runs = [graph.bind({"x": a}, {"y": b}) for a, b in itertools.pairwise(chain)]
        for run in runs:
            run()
        assert [float(_content(b).mean()) for b in chain] == [0, 1, 2, 3, 4]

    def test_two_buffers_in_turn_count_the_runs(self, backend: Backend) -> None:
        graph = backend.compile(_increment())
        a, b = backend.buffer((1, 1, 8, 8)), backend.buffer((1, 1, 8, 8))
        turns = (graph.bind({"x": a}, {"y": b}), graph.bind({"x": b}, {"y": a}))
        for i in range(20):
            turns[i % 2]()
        assert (_content(a) == 20).all()
        assert (_content(b) == 19).all()

    def test_samples_along_a_flow(self, backend: Backend) -> None:
        """Sample along a flow as `fuse` with `motion` does: bilinear, borders repeated, from cell to cell."""
        node = helper.make_node("GridSample", ["x", "grid"], ["y"], padding_mode="border", align_corners=0)
        shapes: Shapes = {"x": _IMAGE, "grid": (1, "H", "W", 2)}
        graph = backend.compile(make_graph([node], shapes, {"y": _IMAGE}))
        rows, columns = np.indices((8, 16), np.float32)
        grid = np.stack([(2 * (columns + 2) + 1) / 16 - 1, (2 * (rows - 0.5) + 1) / 8 - 1], -1)[None]
        x, where, y = backend.buffer((1, 1, 8, 16)), backend.buffer(grid.shape), backend.buffer((1, 1, 8, 16))
        x.upload((rows * 2 + columns)[None, None])
        where.upload(grid)
        graph.bind({"x": x, "grid": where}, {"y": y})()
        expected = np.maximum(rows - 0.5, 0) * 2 + np.minimum(columns + 2, 15)
        np.testing.assert_allclose(_content(y)[0, 0], expected, atol=64 * self.tolerance)

    def test_two_frame_sizes_can_be_bound_at_once(self, backend: Backend) -> None:
        graph = backend.compile(_increment())
        runs, results = [], []
        for size in _SIZES:
            source, result = backend.buffer((1, 1, *size)), backend.buffer((1, 1, *size))
            source.upload(np.full((1, 1, *size), size[1], np.float32))
            runs.append(graph.bind({"x": source}, {"y": result}))
            results.append(result)
        for run in reversed(runs):
            run()
        assert [float(_content(r).max()) for r in results] == [size[1] + 1 for size in _SIZES]

    def test_one_graph_reads_what_another_wrote(self, backend: Backend) -> None:
        first, second = backend.compile(_increment()), backend.compile(_increment())
        a, b, c = (backend.buffer((1, 1, 8, 8)) for _ in range(3))
        runs = (first.bind({"x": a}, {"y": b}), second.bind({"x": b}, {"y": c}))
        for run in runs:
            run()
        assert (_content(c) == 2).all()

    def test_a_binding_keeps_its_buffers_alive(self, backend: Backend) -> None:
        graph = backend.compile(_increment())
        result = backend.buffer((1, 1, 64, 64))
        source = backend.buffer((1, 1, 64, 64))
        source.upload(np.full((1, 1, 64, 64), 6, np.float32))
        run = graph.bind({"x": source}, {"y": result})
        del source
        gc.collect()
        backend.buffer((1, 1, 64, 64)).upload(np.full((1, 1, 64, 64), 99, np.float32))
        run()
        assert (_content(result) == 7).all()

    def test_a_run_can_write_elsewhere_if_the_backend_redirects(self, backend: Backend) -> None:
        if not backend.redirects:
            pytest.skip(f"{backend.name} writes where it was bound to")
        graph = backend.compile(_increment())
        a, b, c = (backend.buffer((1, 1, 8, 8)) for _ in range(3))
        run = graph.bind({"x": a}, {"y": b})
        run({"y": c})
        assert (_content(b) == 0).all()
        assert (_content(c) == 1).all()
        a.upload(np.full((1, 1, 8, 8), 5, np.float32))
        run()
        assert (_content(b) == 6).all()
        assert (_content(c) == 1).all()

    def test_runs_on_another_thread_than_it_was_bound_on(self, backend: Backend) -> None:
        graph = backend.compile(_increment())
        a, b = backend.buffer((1, 1, 8, 8)), backend.buffer((1, 1, 8, 8))
        thread = threading.Thread(target=graph.bind({"x": a}, {"y": b}))
        thread.start()
        thread.join(60)
        assert (_content(b) == 1).all()

    def test_a_run_allocates_no_frame(self, backend: Backend) -> None:
        graph = backend.compile(_increment())
        a, b = backend.buffer((1, 1, 256, 256)), backend.buffer((1, 1, 256, 256))
        run = graph.bind({"x": a}, {"y": b})
        run()
        tracemalloc.start()
        try:
            for _ in range(5):
                run()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 256 * 256

    @pytest.mark.parametrize("change", ["missing", "unknown", "output"])
    def test_refuses_names_that_do_not_match(self, backend: Backend, change: str) -> None:
        graph = backend.compile(_increment())
        a, b = backend.buffer((1, 1, 8, 8)), backend.buffer((1, 1, 8, 8))
        inputs: dict[str, Buffer] = {"missing": {}, "unknown": {"x": a, "z": a}, "output": {"x": a}}[change]
        outputs: dict[str, Buffer] = {} if change == "output" else {"y": b}
        with pytest.raises(InvalidInput, match=r"missing|unknown"):
            graph.bind(inputs, outputs)

    def test_refuses_the_buffers_of_another_backend(self, backend: Backend) -> None:
        graph = backend.compile(_increment())
        with pytest.raises(InvalidInput, match="another backend"):
            graph.bind({"x": HostBuffer((1, 1, 8, 8))}, {"y": backend.buffer((1, 1, 8, 8))})

    def test_refuses_what_is_no_graph(self, backend: Backend) -> None:
        with pytest.raises(BackendUnavailable, match=backend.name):
            backend.compile(b"this is no ONNX model")

    def test_closes_twice_and_binds_no_more(self, backend: Backend) -> None:
        graph = backend.compile(_increment())
        graph.close()
        graph.close()
        a, b = backend.buffer((1, 1, 8, 8)), backend.buffer((1, 1, 8, 8))
        with pytest.raises(InvalidInput, match="closed"):
            graph.bind({"x": a}, {"y": b})
        backend.close()
        backend.close()


def _encoded(backend: Backend, counts: npt.NDArray[Any], intensity: Intensity) -> Float32:
    """Run `encode` on raw counts; its features are the frame."""
    dtype = counts.dtype.name
    node = helper.make_node("Identity", ["frame"], ["features"])
    onnx_bytes = make_graph([node], {"frame": _IMAGE}, {"features": _IMAGE})
    graph = backend.compile_raw(onnx_bytes, "encode", dtype)
    raw, features = backend.buffer(counts.shape, dtype), backend.buffer(counts.shape)
    raw.upload(counts)
    numbers = _numbers(backend, intensity.offset, 1 / intensity.scale)
    graph.bind({RAW: raw, **numbers}, {"features": features})()
    return _content(features)


def _fused(backend: Backend, mean: Float32, intensity: Intensity, dtype: str) -> npt.NDArray[Any]:
    """Run `fuse` to raw counts; its mean is its only input."""
    node = helper.make_node("Identity", ["features_0"], ["mean"])
    onnx_bytes = make_graph([node], {"features_0": _IMAGE}, {"mean": _IMAGE})
    graph = backend.compile_raw(onnx_bytes, "fuse", dtype)
    given, raw = backend.buffer(mean.shape), backend.buffer(mean.shape, dtype)
    given.upload(mean)
    outputs = {RAW: raw, **({"mean": backend.buffer(mean.shape)} if "mean" in graph.outputs else {})}
    graph.bind({"features_0": given, **_numbers(backend, intensity.offset, intensity.scale)}, outputs)()
    out = np.empty(mean.shape, dtype)
    raw.download(out)
    return out


def _numbers(backend: Backend, offset: float, factor: float) -> dict[str, Buffer]:
    buffers = {OFFSET: backend.buffer((1,)), FACTOR: backend.buffer((1,))}
    for buffer, value in zip(buffers.values(), (offset, factor), strict=True):
        buffer.upload(np.array([value], np.float32))
    return buffers


def make_graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: Shapes,
    outputs: Shapes,
    constants: Mapping[str, Float32] | None = None,
    *,
    opset: int = 20,
) -> bytes:
    """Return a checked, serialised float32 ONNX model.

    Parameters
    ----------
    nodes
        In order.
    inputs, outputs
        Shapes by name; a string is a free dimension.
    constants
        Initial tensors by name.
    opset
        Of the default domain.
    """
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(s)) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(s)) for n, s in outputs.items()],
        [onnx.numpy_helper.from_array(value, n) for n, value in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _increment() -> bytes:
    node = helper.make_node("Add", ["x", "one"], ["y"])
    return make_graph([node], {"x": _IMAGE}, {"y": _IMAGE}, {"one": np.ones((), np.float32)})


def _weighted_sum() -> bytes:
    nodes = [
        helper.make_node("Mul", ["second", "factor"], ["scaled"]),
        helper.make_node("Add", ["first", "scaled"], ["sum"]),
        helper.make_node("Sub", ["first", "scaled"], ["difference"]),
    ]
    inputs: Shapes = {"first": _IMAGE, "second": _IMAGE, "factor": (1,)}
    return make_graph(nodes, inputs, {"sum": _IMAGE, "difference": _IMAGE})


def _convolution(kernel: Float32) -> bytes:
    node = helper.make_node("Conv", ["image", "kernel"], ["result"], pads=[1, 1, 1, 1])
    outputs: Shapes = {"result": (1, kernel.shape[0], "H", "W")}
    return make_graph([node], {"image": _IMAGE}, outputs, {"kernel": kernel})


def _values(shape: Sequence[int]) -> Float32:
    """Whole numbers, exact in every precision a backend may use."""
    return (np.arange(np.prod(shape)) % 32).astype(np.float32).reshape(tuple(shape))


def _content(buffer: Buffer) -> Float32:
    out = np.empty(buffer.shape, np.float32)
    buffer.download(out)
    return out
