"""A long movie in chunks that depend on nothing but the movie, so that they can be done anywhere and any time.

What a stream remembers reaches back hundreds of frames. Work that is interrupted, or shared between machines,
gives the same bits as work in one go only if all of it forgets at the same places: every chunk begins with an
empty stream, which first takes a fixed number of frames before the chunk without giving outputs for them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from denoscope.runtime import AnyMovie, Denoised, Stream

__all__ = ["CHUNK", "WARM_UP", "Chunk", "Cut", "run_chunk"]

CHUNK = 2048
"""Frames in a chunk."""
WARM_UP = 512
"""Frames around a chunk that its stream takes too: twice the longest time constant of a memory.

It takes those before the chunk first. A memory of both sides of time knows as many after it.
"""
LEARNED_FROM = 256
"""First frames of a chunk that say how true its deviations are; denoised again where a run is resumed after them."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Frames `start` to `stop` - 1; their stream begins with `warm_from`, and may know those before `known_to`."""

    index: int
    warm_from: int
    start: int
    stop: int
    known_to: int


@dataclass(frozen=True, slots=True)
class Cut:
    """How a movie is cut.

    Parameters
    ----------
    length
        Frames of the movie.
    chunk, warm_up
        Frames of a chunk, and before and after it.
    """

    length: int
    chunk: int = CHUNK
    warm_up: int = WARM_UP

    def __iter__(self) -> Iterator[Chunk]:
        for index, start in enumerate(range(0, self.length, self.chunk)):
            stop = min(start + self.chunk, self.length)
            known_to = min(stop + self.warm_up, self.length)
            yield Chunk(index, max(start - self.warm_up, 0), start, stop, known_to)


def run_chunk(
    stream: Stream,
    movie: AnyMovie,
    chunk: Chunk,
    start: int | None = None,
    on_held: Callable[[int], None] = lambda _number: None,
) -> Iterator[Denoised]:
    """Yield the outputs of a chunk's frames, in order.

    Parameters
    ----------
    stream
        Calibrated and empty; it is empty again afterwards.
    movie
        The whole movie.
    chunk
        Frames to denoise, and those before them that warm the stream up.
    start
        First frame whose output is wanted, where the ones before are there already; None for all.
    on_held
        Called with the number of each frame that was denoised and whose output waits for its slow residual
        (`denoscope.runtime.SlowResidual`).
    """
    from denoscope.runtime import FrameMeta, SlowResidual, with_slow_residual

    start = chunk.start if start is None else start
    slow = SlowResidual.of(stream, chunk.stop - chunk.start)
    denoised_from = start if slow is None else chunk.start + slow.begin_at(start - chunk.start)
    # The last frames are denoised with the neighbours that follow the chunk.
    end = min(chunk.stop + stream.look_ahead, len(movie))
    seen = min(chunk.warm_from + stream.bundle.manifest.calibration_frames, len(movie))
    first = np.stack([np.asarray(movie[number]) for number in range(chunk.warm_from, seen)])
    if stream.bundle.manifest.two_sided:
        stream.expect(first, denoised_from)
        stream.survey(movie, chunk.warm_from, max(end, chunk.known_to))
    stream.expect(first, denoised_from, range(chunk.start, min(chunk.start + LEARNED_FROM, chunk.stop)))
    measured: dict[int, npt.NDArray[Any]] = {}

    def wanted(outputs: list[Denoised]) -> Iterator[Denoised]:
        for output in outputs:
            number = output.meta.number
            if denoised_from <= number < chunk.stop:
                if slow is not None:
                    on_held(number)
                yield output

    def denoised() -> Iterator[Denoised]:
        for number in range(chunk.warm_from, end):
            frame = np.asarray(movie[number])
            if slow is not None and denoised_from <= number < chunk.stop:
                measured[number] = frame
            # A push gives outputs of frames up to its own, when the scene drifts away; so until the first that is
            # wanted is pushed they can be skipped without looking.
            outputs = stream.push(
                frame,
                FrameMeta(number, time.perf_counter()),
                skip="warm-up" if number < denoised_from else None,
            )
            yield from wanted(outputs)
        # Where the movie goes on, every output of the chunk has come by now.
        whole = end == chunk.stop + stream.look_ahead
        yield from wanted(stream.flush(skip="beyond" if whole else None))

    with closing(with_slow_residual(denoised(), slow, measured.pop)) as outputs:
        yield from (each for each in outputs if each.meta.number >= start)
