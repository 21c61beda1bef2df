"""The small interface that every backend implements: compile, bind fixed buffers, run, close."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from denoscope.runtime.errors import InvalidInput

if TYPE_CHECKING:
    from denoscope.runtime.bundle.bundle import Bundle

__all__ = [
    "Backend",
    "Buffer",
    "FrameCall",
    "Graph",
    "HostBuffer",
    "check_dtype",
    "check_names",
    "default_threads",
]

Array = npt.NDArray[Any]

_ALIGNMENT = 64


class Buffer(ABC):
    """Fixed memory of one element type where a backend computes.

    Attributes
    ----------
    shape
        Shape of the tensor it holds.
    """

    shape: tuple[int, ...]

    @property
    def array(self) -> Array | None:
        """The memory itself when the processor can read and write it, else None."""
        return None

    @property
    def staging(self) -> Array | None:
        """Host memory that `upload` and `download` move without a further copy, None for no such."""
        return None

    def settle(self) -> None:  # noqa: B027  most buffers have nothing to wait for
        """Return when `staging` may be written again after an upload of it."""

    @abstractmethod
    def upload(self, source: Array) -> None:
        """Copy an array of this shape and element type into the buffer."""

    @abstractmethod
    def download(self, out: Array) -> None:
        """Copy the buffer into an array of this shape and element type."""

    def clear(self) -> None:
        """Fill the buffer of float32 with zeros, after all runs that were begun before."""
        self.upload(np.zeros(self.shape, np.float32))

    def fetch(self, to: Buffer | None = None) -> None:  # noqa: B027  memory that the processor reads is there already
        """Begin to copy the buffer to a `Backend.landing`, None for `staging`; return at once.

        `arrive` must be called before a run writes to the buffer again.
        """

    def arrive(self) -> None:  # noqa: B027
        """Return when what the last `fetch` began is done."""


class FrameCall(ABC):
    """Everything that one frame of a window needs, as one call: see `Backend.together`."""

    @abstractmethod
    def __call__(self, landings: Sequence[Buffer | None]) -> None:
        """Begin it, and return before it is done.

        Parameters
        ----------
        landings
            For each fetched buffer the memory that it comes down to; None for its own `staging`. `arrive` of the
            fetched buffer waits for it.
        """


class Graph(ABC):
    """One compiled ONNX graph.

    Attributes
    ----------
    inputs, outputs
        Names, in the graph's order.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @abstractmethod
    def bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> Callable[..., None]:
        """Tie every input and output to a buffer of the same backend.

        Parameters
        ----------
        inputs, outputs
            A buffer for each name; an output buffer must not be an input buffer as well.

        Returns
        -------
        Callable
            Runs the graph on what the buffers hold at that time; returns when the outputs are there, or
            when whatever is done next with a buffer of this backend is sure to find them. Of a backend that
            `redirects` it takes a mapping of outputs' names to buffers that stand in for the bound ones in
            that run.

        Raises
        ------
        InvalidInput
            If a name is missing or unknown.
        """

    @abstractmethod
    def close(self) -> None:
        """Release the graph; callables bound to it must not be used any more. Safe to call twice."""


class Backend(ABC):
    """Executes a bundle's graphs on this machine.

    Parameters
    ----------
    threads
        Threads for one graph; None leaves it to `default_threads`.

    Attributes
    ----------
    raw_dtypes
        Integer types that graphs may read and write beside float32. Frames of these are converted to
        normalised units and back inside the graphs, all others by the processor around them.
    warm_runs
        How often each bound call wants to be run before the first frame, so that none is slow later;
        0 where one run of each graph is enough.
    redirects
        Whether bound calls can be told to write into other buffers.
    overlaps
        Whether calls return before they are done, so that the next frame can go up meanwhile.
    as_exported
        Whether it knows graphs by their bytes (engines built before), so that none may be changed when loaded.
    """

    name: ClassVar[str]
    raw_dtypes: frozenset[str] = frozenset()
    warm_runs: ClassVar[int] = 0
    redirects: ClassVar[bool] = False
    overlaps: ClassVar[bool] = False
    as_exported: ClassVar[bool] = False

    def __init__(self, *, threads: int | None = None) -> None:
        if threads is not None and threads < 1:
            raise InvalidInput(
                f"{threads} threads were asked for; give 1 or more, or leave it out for the default."
            )
        self.threads = default_threads() if threads is None else threads

    @classmethod
    @abstractmethod
    def unavailable(cls) -> str | None:
        """Return why this backend cannot run here and what to install, or None when it can."""

    @classmethod
    def obstacle(cls, bundle: Bundle) -> str | None:  # noqa: ARG003  for backends that ask
        """Return why a backend that can run here cannot run this bundle, or None when it can."""
        return None

    @classmethod
    def unsuited(cls, bundle: Bundle) -> str | None:  # noqa: ARG003  for backends that ask
        """Return why `auto` passes over a backend that can run a bundle, or None where it takes it."""
        return None

    @abstractmethod
    def describe(self) -> dict[str, str]:
        """Return what a report should say: library, version, device, precision, threads."""

    @abstractmethod
    def compile(self, onnx: bytes) -> Graph:
        """Make a graph ready for this machine.

        Parameters
        ----------
        onnx
            A serialised ONNX model with its weights inside; inputs and outputs are float32, but for a
            raw frame in `encode` and in `fuse`, which may be one of `raw_dtypes`.

        Raises
        ------
        BackendUnavailable
            If the library refuses the graph.
        """

    def compiles(self, onnx: bytes) -> bool:  # noqa: ARG002  for backends that know graphs by their bytes
        """Say whether a graph can be made ready that differs from those of a bundle; see `as_exported`."""
        return not self.as_exported

    def compile_raw(self, onnx: bytes, graph: str, dtype: str) -> Graph:
        """Make `encode` or `fuse` ready for raw frames: `raw` in place of `frame` or of `mean`, see `_raw`.

        Parameters
        ----------
        onnx
            As for `compile`.
        graph
            `encode` or `fuse`.
        dtype
            Of the raw frames, one of `raw_dtypes`.
        """
        from .raw_count_graphs import raw_encode, raw_fuse

        if graph == "encode":
            return self.compile(raw_encode(onnx, dtype))
        return self.compile(raw_fuse(onnx, dtype, keep_mean=self.overlaps))

    @abstractmethod
    def buffer(self, shape: Sequence[int], dtype: str = "float32") -> Buffer:
        """Return new memory for this shape, filled with zeros.

        Parameters
        ----------
        shape
            Of the tensor.
        dtype
            `float32` or one of `raw_dtypes`.

        Raises
        ------
        InvalidInput
            For another dtype.
        """

    def features(self, shape: Sequence[int], planes: int) -> Buffer:  # noqa: ARG002  for backends that order them
        """Return new memory for features that graphs hand on to graphs, filled with zeros.

        Parameters
        ----------
        shape
            (1, C, h, w).
        planes
            How many channels come first that are used on their own, as cells of the frame; 0 where none are.
            The backend may keep the other channels in another order and type, as long as zeros are zeros.
        """
        return self.buffer(shape)

    def finish(self) -> None:  # noqa: B027  a run of most backends has ended when it returns
        """Return when everything that was run is done, so that graphs and buffers may be let go."""

    def landing(self, shape: Sequence[int], dtype: str) -> Buffer | None:  # noqa: ARG002  for backends that overlap
        """Return host memory for an output of a shape and dtype, readable as `array`; None without `overlaps`."""
        return None

    def together(
        self,
        uploads: Sequence[Buffer],  # noqa: ARG002  for backends that can
        calls: Sequence[Callable[..., None]],  # noqa: ARG002
        fetches: Sequence[Buffer],  # noqa: ARG002
        beside: Sequence[Callable[..., None]],  # noqa: ARG002
    ) -> FrameCall | None:
        """Return one call for all that a frame needs, None where there is no such.

        Parameters
        ----------
        uploads
            Buffers whose `staging` goes up first.
        calls
            Bound calls, which have run before, in their order.
        fetches
            Buffers that come down after them.
        beside
            Bound calls that follow, beside the copies down.
        """
        return None

    @abstractmethod
    def close(self) -> None:
        """Release what the backend holds. Safe to call twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class HostBuffer(Buffer):
    """Memory of the processor, aligned so that libraries can use it without a copy."""

    def __init__(self, shape: Sequence[int], dtype: str = "float32") -> None:
        self.shape = tuple(int(n) for n in shape)
        size = int(np.prod(self.shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        memory = np.zeros(size + _ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % _ALIGNMENT
        self._array: Array = memory[start : start + size].view(dtype).reshape(self.shape)

    @property
    def array(self) -> Array:
        return self._array

    def upload(self, source: Array) -> None:
        self._check(source)
        np.copyto(self._array, source)

    def download(self, out: Array) -> None:
        self._check(out)
        np.copyto(out, self._array)

    def clear(self) -> None:
        self._array[...] = 0

    def _check(self, array: Array) -> None:
        if array.shape != self.shape or array.dtype != self._array.dtype:
            raise InvalidInput(
                f"An array of shape {array.shape} and type {array.dtype} does not fit a buffer of shape "
                f"{self.shape} and type {self._array.dtype}: give equal ones."
            )


def check_dtype(backend: Backend, dtype: str) -> None:
    """Raise InvalidInput unless a backend's buffers may hold the dtype."""
    if dtype != "float32" and dtype not in backend.raw_dtypes:
        known = ", ".join(("float32", *sorted(backend.raw_dtypes)))
        raise InvalidInput(f"Buffers of {backend.name} hold {known}, not {dtype}: choose one of these.")


def check_names(kind: str, expected: Sequence[str], given: Mapping[str, Buffer]) -> None:
    """Raise InvalidInput unless a buffer is given for each name and for no other."""
    missing = [n for n in expected if n not in given]
    unknown = [n for n in given if n not in expected]
    if missing or unknown:
        raise InvalidInput(
            f"The graph's {kind} are {', '.join(expected)}; missing: {', '.join(missing) or 'none'}; "
            f"unknown: {', '.join(unknown) or 'none'}: bind each name once."
        )


def default_threads() -> int:
    """Return how many threads a graph gets: all cores up to three, one fewer from four on.

    The core left free takes the threads of camera and disk. With two or three cores those threads
    sleep most of the time and no backend spins while it waits, so the scheduler serves them.

    Returns
    -------
    int
        Threads, at least 1.

    Examples
    --------
    >>> default_threads() >= 1
    True
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores if cores < 4 else cores - 1
