"""Backends around another one: count what runs, hide the host's memory, run slowly, or fail."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from denoscope.runtime.backends import Backend, Buffer, Graph, choose_backend
from denoscope.runtime.backends.base import check_dtype

__all__ = ["DeviceBackend", "WrappedBackend"]

# An input that tells which graph it is; `encode` takes a frame, normalised or raw.
_TELLING = {"features_0": "fuse", "features_a": "motion", "frame": "encode", "raw": "encode"}


class WrappedBackend(Backend):
    """Run another backend's graphs and count them as `encode`, `motion`, `fuse` and `remember`.

    Parameters
    ----------
    name
        The backend to wrap.
    fuse_delay_s
        Seconds to sleep before each `fuse`.
    fail_at
        Index of the `fuse`, from 0 and the warm-up's not counted, that raises RuntimeError.
    """

    name: ClassVar[str] = "wrapped"

    def __init__(
        self, name: str = "onnxruntime-cpu", *, fuse_delay_s: float = 0.0, fail_at: int | None = None
    ) -> None:
        super().__init__(threads=1)
        self._inner = choose_backend(name, threads=1)[0]
        self.raw_dtypes = self._inner.raw_dtypes
        self._delay, self._fail_at = fuse_delay_s, fail_at
        self.runs: Counter[str] = Counter()

    @classmethod
    def unavailable(cls) -> str | None:
        return None

    def describe(self) -> dict[str, str]:
        return self._inner.describe()

    def compile(self, onnx: bytes) -> Graph:
        return _WrappedGraph(self, self._inner.compile(onnx))

    def buffer(self, shape: Sequence[int], dtype: str = "float32") -> Buffer:
        return self._inner.buffer(shape, dtype)

    def close(self) -> None:
        self._inner.close()

    def before(self, kind: str) -> None:
        """Count a run, and delay or fail it if it is the one."""
        self.runs[kind] += 1
        if kind == "fuse" and self.runs["fuse"] > 1:
            time.sleep(self._delay)
            if self._fail_at is not None and self.runs["fuse"] - 2 == self._fail_at:
                raise RuntimeError("the device was lost")


class _WrappedGraph(Graph):
    def __init__(self, owner: WrappedBackend, inner: Graph) -> None:
        self._owner, self._inner = owner, inner
        self.inputs, self.outputs = inner.inputs, inner.outputs
        self._kind = next((kind for name, kind in _TELLING.items() if name in self.inputs), "remember")

    def bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> Callable[[], None]:
        execute = self._inner.bind(inputs, outputs)

        def run() -> None:
            self._owner.before(self._kind)
            execute()

        return run

    def close(self) -> None:
        self._inner.close()


class DeviceBackend(Backend):
    """ONNX Runtime whose buffers can be reached by upload and download only, as on a GPU."""

    name: ClassVar[str] = "device"

    def __init__(self, *, threads: int | None = None) -> None:
        super().__init__(threads=threads)
        self._inner = choose_backend("onnxruntime-cpu", threads=threads)[0]

    @classmethod
    def unavailable(cls) -> str | None:
        return None

    def describe(self) -> dict[str, str]:
        return self._inner.describe()

    def compile(self, onnx: bytes) -> Graph:
        from denoscope.runtime import BackendUnavailable

        try:
            return _DeviceGraph(self._inner.compile(onnx))
        except BackendUnavailable as error:
            raise BackendUnavailable(f"{self.name}: {error}") from error

    def buffer(self, shape: Sequence[int], dtype: str = "float32") -> Buffer:
        check_dtype(self, dtype)
        return _DeviceBuffer(self._inner.buffer(shape))

    def close(self) -> None:
        self._inner.close()


class _DeviceBuffer(Buffer):
    def __init__(self, inner: Buffer) -> None:
        self.inner, self.shape = inner, inner.shape

    def upload(self, source: npt.NDArray[np.float32]) -> None:
        self.inner.upload(source)

    def download(self, out: npt.NDArray[np.float32]) -> None:
        self.inner.download(out)


class _DeviceGraph(Graph):
    def __init__(self, inner: Graph) -> None:
        self._inner = inner
        self.inputs, self.outputs = inner.inputs, inner.outputs

    def bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> Callable[[], None]:
        def unwrap(buffers: Mapping[str, Buffer]) -> dict[str, Buffer]:
            return {n: b.inner if isinstance(b, _DeviceBuffer) else b for n, b in buffers.items()}

        return self._inner.bind(unwrap(inputs), unwrap(outputs))

    def close(self) -> None:
        self._inner.close()
