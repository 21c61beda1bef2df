"""A bundle's graphs compiled by one backend, for the dtype of the frames that come."""

from __future__ import annotations

from typing import Any

import numpy as np

from denoscope.runtime.backends.raw_count_graphs import without_output
from denoscope.runtime.backends.registry import Backend, Graph

from .bundle import Bundle

__all__ = ["CompiledGraphs"]

_RAW = ("encode", "fuse")  # the graphs that touch raw frames


class CompiledGraphs:
    """The graphs of a bundle on a backend; only those that touch raw frames depend on their dtype.

    Parameters
    ----------
    backend
        Compiles them.
    bundle
        Whose graphs.
    std
        Whether the standard deviation will be read; without it a tenth of the work is left out.
    """

    def __init__(self, backend: Backend, bundle: Bundle, *, std: bool = True) -> None:
        self._backend, self._bundle = backend, bundle
        self._std = std
        self._kind: str | None = None
        self._graphs: dict[str, Graph] = {}

    def of(self, dtype: np.dtype[Any]) -> dict[str, Graph]:
        """Return the compiled graphs by name; those of another dtype are closed.

        Parameters
        ----------
        dtype
            Of the frames. Integers that the backend reads itself go into the graphs as they are.
        """
        kind = dtype.name if dtype.name in self._backend.raw_dtypes else "float32"
        for name in self._bundle.manifest.graphs:
            if name in self._graphs and (kind == self._kind or name not in _RAW):
                continue
            old = self._graphs.pop(name, None)
            if old is not None:
                old.close()
            data = self._bundle.graph_bytes(name)
            if (
                name == "fuse"
                and not self._std
                and self._backend.compiles(lean := without_output(data, "std"))
            ):
                data = lean
            if kind != "float32" and name in _RAW:
                self._graphs[name] = self._backend.compile_raw(data, name, kind)
            else:
                self._graphs[name] = self._backend.compile(data)
        self._kind = kind
        return self._graphs

    def close(self) -> None:
        """Release all graphs. Safe to call twice."""
        for graph in self._graphs.values():
            graph.close()
