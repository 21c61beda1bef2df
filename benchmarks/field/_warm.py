"""Graphs that many cases share, compiled once for each size of frame, and movies denoised with them."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

import numpy.typing as npt

from denoscope.runtime import Bundle, Denoised, FrameMeta, Stream
from denoscope.runtime.backends.base import Graph
from denoscope.runtime.backends.openvino import OpenVino

__all__ = ["denoised", "keep_compiled", "shipped"]

_GRAPHS = 48  # that are kept; four of a bundle


def keep_compiled(threads: int | None = None) -> None:
    """Let OpenVINO keep the graphs that it compiled in this process: opening a stream took longer than a short movie.

    The graphs and their precision stay as `auto` chooses them, and so do their threads where none are given. A graph
    is compiled anew for frames of another size, so cases of one size should follow each other.
    """
    plain = OpenVino.compile

    @lru_cache(_GRAPHS)
    def kept(kind: type[OpenVino], count: int, onnx: bytes) -> Graph:
        graph = plain(kind(threads=count), onnx)
        graph.close = lambda: None  # type: ignore[method-assign]
        return graph

    OpenVino.compile = lambda self, onnx: kept(type(self), threads or self.threads, onnx)  # type: ignore[method-assign]


@cache
def shipped(name: str) -> Bundle:
    """Return a shipped bundle, which is read and checked once."""
    return Bundle.load(name)


def denoised(
    movie: npt.NDArray[Any], bundle: str | Bundle = "live", rate: float | None = None, **settings: Any
) -> tuple[list[Denoised], Stream, list[int]]:
    """Denoise a movie (T, H, W).

    Parameters
    ----------
    movie, bundle
        What to denoise with which bundle; the shipped ones by name.
    rate
        Frames a second; None for frames that come all at once.
    **settings
        Of `Stream`.

    Returns
    -------
    tuple
        The outputs, the stream, which is closed, and how many outputs there were after each frame.
    """
    outputs: list[Denoised] = []
    reached = []
    with Stream(shipped(bundle) if isinstance(bundle, str) else bundle, **settings) as stream:
        for number, frame in enumerate(movie):
            outputs += stream.push(frame, FrameMeta(number, 0.0 if rate is None else number / rate))
            reached.append(len(outputs))
        outputs += stream.flush()
    return outputs, stream, reached
