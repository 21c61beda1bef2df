"""Buffers of a backend, with the host's arrays that are written and read for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.backends.registry import Backend, Buffer, Graph

__all__ = ["Array", "Call", "Port", "wanted"]

Array = npt.NDArray[Any]
Call = Callable[..., None]


class Port:
    """A buffer with the host array that is written or read for it; one and the same on a processor.

    Parameters
    ----------
    backend
        Owns the buffer.
    shape, dtype
        Of the buffer.
    planes
        Given for features that the host does not see; see `Backend.features`.

    Attributes
    ----------
    buffer
        As graphs are bound to it.
    direct
        True where the host's array is the buffer itself.
    """

    def __init__(
        self, backend: Backend, shape: tuple[int, ...], dtype: str = "float32", *, planes: int = 0
    ) -> None:
        # Third-party backends that know nothing of raw frames need not know of the argument.
        if planes:
            self.buffer = backend.features(shape, planes)
        else:
            self.buffer = backend.buffer(shape) if dtype == "float32" else backend.buffer(shape, dtype)
        self._shape, self._dtype = shape, dtype
        self.direct = self.buffer.array is not None

    @cached_property
    def host(self) -> Array:
        """The host's array, made when it is first asked for: features are never seen by the host."""
        for array in (self.buffer.array, self.buffer.staging):
            if array is not None:
                return array
        return np.zeros(self._shape, self._dtype)

    def ready(self) -> Array:
        """Return the host's array once it may be written."""
        self.buffer.settle()
        return self.host

    def send(self) -> None:
        """Hand the host's array over to the backend."""
        if not self.direct:
            self.buffer.upload(self.host)

    def fetch(self, to: Buffer | None = None) -> None:
        """Begin to bring the buffer's values to the host's array, or to other memory (`Backend.landing`)."""
        if self.direct:
            return
        if self.buffer.staging is None:  # a backend that knows of no copies that take their time
            self.buffer.download(self.host)
        else:
            self.buffer.fetch(to)

    def arrive(self) -> None:
        """Return when what the last `fetch` began is done."""
        self.buffer.arrive()

    def fill(self, *values: float) -> None:
        """Write one value everywhere, or as many values as the buffer has."""
        self.ready()[...] = np.reshape(values, self._shape if len(values) > 1 else ())
        self.send()

    def put(self, values: Array) -> None:
        """Write an array of the buffer's shape."""
        self.ready()[...] = values
        self.send()


def wanted(graph: Graph, buffers: Mapping[str, Buffer]) -> dict[str, Buffer]:
    """Return the buffers of the inputs that a graph has; a method may do without some."""
    return {name: buffer for name, buffer in buffers.items() if name in graph.inputs}
