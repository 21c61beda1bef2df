"""The precisions that a bundle's graphs can be put into, as a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from denoscope.export.half import BF16, FP16, Format, half_precision, rounded_like_half
from denoscope.export.int8 import int8, record_feeds
from denoscope.runtime import Bundle, InvalidInput, estimate_intensity

__all__ = ["PRECISIONS", "Lowered", "is_lowered", "lower"]

Graphs = Mapping[str, bytes]

_RUNS = 8  # of each graph, for int8: its percentiles no longer move with more
_MARKS = (b"::half", b"QuantizeLinear")


@dataclass(frozen=True)
class Lowered:
    """The graphs of a bundle in another precision.

    Attributes
    ----------
    graphs
        To be written.
    emulated
        With the same rounding, for a processor in float32: what the loss is measured with.
    """

    graphs: Graphs
    emulated: Graphs


@dataclass(frozen=True)
class Precision:
    """One row of the table.

    Attributes
    ----------
    limit_db
        The most that it may lose on any movie.
    lower
        Of a bundle and a movie.
    what
        What it changes, for the card.
    """

    limit_db: float
    lower: Callable[[Bundle, npt.NDArray[Any] | None], Lowered]
    what: str


def lower(bundle: Bundle, precision: str, movie: npt.NDArray[Any] | None) -> Lowered:
    """Return a float32 bundle's graphs in another precision.

    Parameters
    ----------
    bundle
        In float32.
    precision
        One of `PRECISIONS`.
    movie
        (T, H, W), for the ranges of `int8`.

    Raises
    ------
    InvalidInput
        If the bundle is in a lower precision already or has no convolution, or int8 comes without a movie.
    """
    before = _graphs(bundle)
    lowered = None if is_lowered(before) else PRECISIONS[precision].lower(bundle, movie)
    if lowered is None or (precision != "fp32" and not is_lowered(lowered.graphs)):
        raise InvalidInput(
            f"{bundle.manifest.name} has no float32 convolution to be put into {precision}: "
            "start from the bundle that was trained."
        )
    return lowered


def is_lowered(graphs: Graphs) -> bool:
    """Return whether any graph is in a lower precision than float32."""
    return any(mark in data for data in graphs.values() for mark in _MARKS)


def _as_trained(bundle: Bundle, _movie: npt.NDArray[Any] | None) -> Lowered:
    graphs = _graphs(bundle)
    return Lowered(graphs, graphs)


def _half(bundle: Bundle, _movie: npt.NDArray[Any] | None) -> Lowered:
    return _in_16_bits(bundle, FP16, ())


def _bfloat(bundle: Bundle, _movie: npt.NDArray[Any] | None) -> Lowered:
    return _in_16_bits(bundle, BF16, ("motion",))


def _in_16_bits(bundle: Bundle, form: Format, left: tuple[str, ...]) -> Lowered:
    graphs = _graphs(bundle)

    def each(rewrite: Callable[[bytes, Format], bytes]) -> dict[str, bytes]:
        return {n: data if n in left else rewrite(data, form) for n, data in graphs.items()}

    return Lowered(each(half_precision), each(rounded_like_half))


def _integers(bundle: Bundle, movie: npt.NDArray[Any] | None) -> Lowered:
    if movie is None:
        raise InvalidInput(
            "int8 needs a movie to find the range of every value: give one that is like yours (`calibrate`)."
        )
    intensity = bundle.manifest.intensity or estimate_intensity(movie[: bundle.manifest.calibration_frames])
    feeds = record_feeds(bundle, movie, intensity, _RUNS)
    graphs = {
        name: data if name == "motion" else int8(data, feeds[name]) for name, data in _graphs(bundle).items()
    }
    return Lowered(graphs, graphs)


def _graphs(bundle: Bundle) -> dict[str, bytes]:
    return {name: bundle.graph_bytes(name) for name in bundle.manifest.graphs}


PRECISIONS: Mapping[str, Precision] = {
    "fp32": Precision(0.001, _as_trained, "nothing is changed: the graphs are those of the bundle"),
    "fp16": Precision(0.05, _half, "convolutions and what lies between them are in float16"),
    "bf16": Precision(
        0.05, _bfloat, "convolutions and what lies between them are in bfloat16, but for those of `motion`"
    ),
    "int8": Precision(
        0.3, _integers, "what convolutions read is in 8-bit integers, but for those of `motion`"
    ),
}
