"""Put back what a denoised movie lacks in all frames: the slow part of the residual that noise does not explain.

The residual is the measured minus the denoised movie. Noise is spread evenly over its temporal frequencies; a structure
that the network smoothed away is there in every frame, and so in the lowest frequencies alone. There the residual of a
recorded movie is known to 1 / sqrt(256) of a frame's noise, and what exceeds noise is put back by a Wiener filter, for
each band of temporal and spatial frequency. Where nothing exceeds noise, nothing changes.

Outputs wait for that, and meanwhile the movie shows how true their deviations are: they leave with the factor of the
last output before they leave, not with the one that was known when they came (decision 109).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.noise.clipped import saturated_pixels
from denoscope.runtime.noise.noise import Intensity
from denoscope.runtime.types import Denoised
from denoscope.runtime.window.temporary import TemporaryArrays

if TYPE_CHECKING:
    from denoscope.runtime.stream.stream import Stream

__all__ = ["SlowResidual", "with_slow_residual"]

Floats = npt.NDArray[np.float32]
Frame = npt.NDArray[Any]

_BLOCK = 256
"""Frames that are looked at together; half of them overlap with the next block."""
_FEWEST = 12
"""Frames below which the residual says too little."""
_BATCH = 16
"""Frames that are transformed at once."""
_ROWS = 64
"""Rows of them at once, so that little memory is needed."""
_ADDED = 64_000_000
"""Bytes that are added to outputs at once."""
_PAIRS = 32
"""Pairs of neighbouring frames by whose difference the noise of a block is measured."""
_IN_MEMORY = 256_000_000
"""Bytes of outputs that wait in memory; beyond that they wait in a temporary file."""

_ANEW = 1.05
"""Factor of the deviations after which a factor of 1 is that of another scene; what is learned changes more slowly."""

_SLOW = (0, 1, 2, 3, 5, 9, 17, 33)
"""Edges of the temporal bands, in half periods a block."""
_FINE = (0.0, 0.06, 0.12, 0.2, 0.3, 0.42, 0.6, 1.5)
"""Edges of the spatial bands; 1 is the finest that pixels show along an edge of the frame."""
_ERRORS = 4.0
"""Standard errors by which the residual of a band must exceed its noise."""

_MEASURED_TO = 10.0
"""Power of noise and unequal pixels together, in powers of the noise, up to which the share below is counted: it was
measured with cameras whose pixels are unequal by 5 at most."""

# Share of the noise that is in the outputs too, and so missing in the residual: the least that was measured on seven
# movies, by denoising them again with a little noise added. Rows: frequency in periods a frame; columns: `_FINE`.
_STILL = (0.45, 0.75, 0.5, 0.15, 0.07, 0.02, 0.0)
_PERIODS = (0.003, 0.006, 0.01, 0.02, 0.05)
_LEFT_IN = (
    (0.45, 0.5, 0.31, 0.15, 0.07, 0.03, 0.0),
    (0.5, 0.41, 0.16, 0.06, 0.04, 0.02, 0.0),
    (0.5, 0.26, 0.1, 0.05, 0.03, 0.01, 0.0),
    (0.45, 0.16, 0.05, 0.02, 0.01, 0.0, 0.0),
    (0.3, 0.1, 0.02, 0.01, 0.0, 0.0, 0.0),
)


class SlowResidual:
    """Hold the outputs of a movie until its slow residual is known, and return them with it.

    Outputs are those of a stream with both sides of time; each is held for at most 256 frames.

    Parameters
    ----------
    length
        Outputs that will come, one for each frame, none left out.
    intensity
        Of the stream; says which pixels are saturated.
    in_memory
        Bytes of outputs that are held in memory.

    Notes
    -----
    With the residual ``R = (1 - a) n + e`` of a band, where the outputs contain the share ``a`` of its noise ``n`` and
    lack ``e``, the factor of least squared error of ``R`` is ``1 - (1 - a) N / P``, with the power ``N`` of the noise
    and ``P`` of ``R`` (Stein's unbiased estimate of the risk, for a linear filter). `a` too small puts back too little.
    """

    @classmethod
    def of(cls, stream: Stream, length: int) -> SlowResidual | None:
        """Return one for a movie that a stream is about to denoise; None where its outputs are to stay as they are.

        Only a stream with both sides of time knows that a movie is recorded; and where an offset between lines is
        corrected, outputs cannot be compared with what was measured.
        """
        if not stream.bundle.manifest.two_sided or stream.straightens_lines or length < _FEWEST:
            return None
        assert stream.intensity is not None
        return cls(length, stream.intensity)

    def __init__(self, length: int, intensity: Intensity, *, in_memory: int = _IN_MEMORY) -> None:
        self._length, self._intensity = length, intensity
        self._waiting = _Waiting(in_memory)
        self._blocks = deque(_Block(start, frames) for start, frames in _places(length))
        self._ended: deque[_Block] = deque()
        self._taken = self._given = 0
        self._at_once = _BATCH
        self._factors = [1.0]  # newest factor of the deviations, of each scene

    def begin_at(self, index: int) -> int:
        """Say from which output on this needs them, for outputs from `index` on; the same bits come as with all.

        Parameters
        ----------
        index
            Of the first output that is wanted, from 0.

        Returns
        -------
        int
            Index of the first output that `take` is to be given.
        """
        while self._blocks and self._blocks[0].stop <= index:
            self._blocks.popleft()
        first = self._blocks[0].start if self._blocks else index
        self._taken = self._given = first
        return first

    def take(self, measured: Frame, output: Denoised) -> list[Denoised]:
        """Take the next output, and return those whose slow residual is known now, in order.

        Parameters
        ----------
        measured
            (H, W), the frame that the output shows.
        output
            As it comes from the stream.

        Returns
        -------
        list of Denoised
            The same outputs with frames of the same dtype, and deviations with the factor that is known by now. Those
            that show the frame as measured, and pixels that are saturated or hold no number, stay as they are.
        """
        index, self._taken = self._taken, self._taken + 1
        residual = np.subtract(measured, output.frame, dtype=np.float32)
        kept = _kept(measured, residual, self._intensity)
        as_measured = not residual.any()
        if not as_measured:
            if output.deviation_factor == 1 and self._factors[-1] > _ANEW:
                self._factors.append(1.0)
            self._factors[-1] = output.deviation_factor
        bits = None if kept is None else np.packbits(kept)
        self._waiting.add(_Held(output, as_measured, bits, len(self._factors) - 1))
        self._at_once = max(1, min(_BATCH, _ADDED // residual.nbytes))
        for block in self._blocks:
            if block.start > index:
                break
            block.take(index - block.start, residual, usual=not as_measured)
        ready: list[Denoised] = []
        while self._blocks and self._blocks[0].stop <= self._taken:
            block = self._blocks.popleft()
            block.end()
            self._ended.append(block)
            ready += self._ready(self._blocks[0].start if self._blocks else self._length)
        return ready

    def close(self) -> None:
        """Forget what waits. Safe to call twice."""
        self._waiting.close()
        self._blocks.clear()
        self._ended.clear()

    def _ready(self, stop: int) -> list[Denoised]:
        ready: list[Denoised] = []
        while self._given < stop:
            count = min(self._at_once, stop - self._given)
            lacking = self._lacking(self._given, count)
            for n in range(count):
                held = self._waiting.pop()
                held = held.with_factor(self._factors[held.scene])
                ready.append(held.output if lacking is None else held.with_added(lacking[n]))
            self._given += count
            while self._ended and self._ended[0].stop <= self._given:
                self._ended.popleft()
        return ready

    def _lacking(self, index: int, count: int) -> Floats | None:
        """Return what `count` outputs from `index` on lack, (T, H, W); None for nothing."""
        at = np.arange(index, index + count)
        weights = [block.weight(at) for block in self._ended]
        whole = np.sum(weights, axis=0)
        parts = [
            block.lacking(at, weight / whole)
            for block, weight in zip(self._ended, weights, strict=True)
            if block.found and weight.any()
        ]
        return sum(parts[1:], parts[0]) if parts else None


def with_slow_residual(
    outputs: Iterable[Denoised], slow: SlowResidual | None, measured: Callable[[int], Frame]
) -> Generator[Denoised, None, None]:
    """Yield the outputs of a recorded movie in order, each with its slow residual, and close `slow` at the end.

    Parameters
    ----------
    outputs
        As they come from the stream; the first is the one that `SlowResidual.begin_at` asked for.
    slow
        As `SlowResidual.of` returns it; with None the outputs stay as they are.
    measured
        Function that returns the measured frame (H, W) of a frame number; called once for each output, in order.

    Returns
    -------
    generator of Denoised
        One for each output; where it is not read to its end, its ``close()`` closes `slow`.

    Raises
    ------
    InvalidInput
        If the temporary folder does not take the outputs that wait.

    Examples
    --------
    >>> import numpy as np
    >>> from denoscope.runtime import Denoised, FrameMeta, StageTimes
    >>> movie = np.zeros((3, 8, 8), np.uint16)
    >>> times = StageTimes(0, 0, 0, 0, 0, 0)
    >>> outputs = (Denoised(frame, None, FrameMeta(n, 0.0), times) for n, frame in enumerate(movie))
    >>> [each.meta.number for each in with_slow_residual(outputs, None, movie.__getitem__)]
    [0, 1, 2]
    """
    try:
        for output in outputs:
            if slow is None:
                yield output
            else:
                yield from slow.take(measured(output.meta.number), output)
    finally:
        if slow is not None:
            slow.close()


def _places(length: int) -> list[tuple[int, int]]:
    """Return the first frame and the number of frames of each block of a movie."""
    if length <= _BLOCK:
        return [(0, length)]
    steps = -(-(length - _BLOCK) // (_BLOCK // 2))
    return [(round(n * (length - _BLOCK) / steps), _BLOCK) for n in range(steps + 1)]


def _kept(measured: Frame, residual: Floats, intensity: Intensity) -> npt.NDArray[np.bool_] | None:
    """Return which pixels of an output stay as they are, and set their residual to 0; None for none."""
    kept = saturated_pixels(measured, intensity)
    if measured.dtype.kind == "f" and not np.isfinite(residual).all():
        lost = ~np.isfinite(residual)
        kept = lost if kept is None else kept | lost
    if kept is not None:
        residual[kept] = 0
    return kept


class _Waiting:
    """Outputs in their order: in memory, and in a temporary file what does not fit there.

    Parameters
    ----------
    limit
        Bytes in memory.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._outputs: deque[tuple[_Held, int | None]] = deque()
        self._in_memory = 0
        self._file = TemporaryArrays("of frames that wait for what is missing in all of them")
        self._free: deque[int] = deque()
        self._places = 0

    def add(self, held: _Held) -> None:
        """Keep an output, after those before it."""
        size = held.size_bytes
        if self._in_memory + size <= self._limit:
            self._in_memory += size
            self._outputs.append((held, None))
            return
        if not self._free:
            self._free.append(self._places)
            self._places += 1
        place = self._free.popleft()
        self._file.write(place * size, *held.images, in_all=size * _BLOCK)
        self._outputs.append((held.emptied(), place))

    def pop(self) -> _Held:
        """Return the first that is kept, and keep it no longer."""
        held, place = self._outputs.popleft()
        if place is None:
            self._in_memory -= held.size_bytes
            return held
        self._free.append(place)
        images = [np.empty(image.shape, image.dtype) for image in held.images]
        self._file.read(place * held.size_bytes, *images)
        return held.filled(images)

    def close(self) -> None:
        """Let all go."""
        self._outputs.clear()
        self._file.close()


@dataclass(frozen=True, slots=True)
class _Held:
    """An output of a scene that waits.

    `kept` has a bit for each pixel that stays as it is, `as_measured` says that all do.
    """

    output: Denoised
    as_measured: bool
    kept: npt.NDArray[np.uint8] | None
    scene: int

    @property
    def images(self) -> list[Frame]:
        """The frame, and its deviation where it has one."""
        output = self.output
        return [output.frame] if output.std is None else [output.frame, output.std]

    @property
    def size_bytes(self) -> int:
        """Size of the images."""
        return sum(image.size * image.itemsize for image in self.images)

    def filled(self, images: list[Frame]) -> _Held:
        """Return the same with other images."""
        frame, std = images[0], images[1] if len(images) > 1 else None
        return replace(self, output=replace(self.output, frame=frame, std=std))

    def emptied(self) -> _Held:
        """Return the same with images that take no memory, of the same shape and dtype."""
        empty = [np.broadcast_to(np.zeros((), image.dtype), image.shape) for image in self.images]
        return self.filled(empty)

    def with_factor(self, factor: float) -> _Held:
        """Return the same with another factor in the deviation."""
        output = self.output
        if self.as_measured or output.std is None or factor == output.deviation_factor:
            return self
        std = output.std * np.float32(factor / output.deviation_factor)
        if self.kept is not None:
            np.copyto(std, output.std, where=self._kept_pixels(std.shape))
        return replace(self, output=replace(output, std=std, deviation_factor=factor))

    def _kept_pixels(self, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
        assert self.kept is not None
        return np.unpackbits(self.kept, count=shape[0] * shape[1]).view(bool).reshape(shape)

    def with_added(self, lacking: Floats) -> Denoised:
        """Return the output with what it lacks, rounded to whole counts where it is of such."""
        if self.as_measured:
            return self.output
        if self.kept is not None:
            lacking[self._kept_pixels(lacking.shape)] = 0
        frame: Frame = self.output.frame
        if frame.dtype.kind == "f":
            return replace(self.output, frame=frame + lacking)
        limits = np.iinfo(frame.dtype)
        counts = np.rint(lacking, out=lacking) + frame
        return replace(self.output, frame=np.clip(counts, limits.min, limits.max).astype(frame.dtype))


class _Block:
    """Slow residual of some frames.

    Parameters
    ----------
    start, frames
        Index of its first output, and how many.
    """

    def __init__(self, start: int, frames: int) -> None:
        self.start, self.stop, self.frames = start, start + frames, frames
        rows = min(_SLOW[-1], max(1, frames // 3))
        self._waves = _waves(frames)[:rows]
        self._slow: Floats = np.empty(0, np.float32)
        self._batch: list[Floats] = []
        self._usual = 0
        self._pair_every = max(2, frames // _PAIRS)
        self._before: Floats | None = None
        self._noise = np.zeros(len(_FINE) - 1)
        self._pairs = 0

    @property
    def found(self) -> bool:
        """True where the outputs lack something, once the block has ended."""
        return bool(self._slow.size)

    def take(self, index: int, residual: Floats, *, usual: bool) -> None:
        """Take the next residual (H, W); that of a frame that is shown as measured is 0."""
        self._batch.append(residual)
        self._usual += usual
        within = index % self._pair_every
        if within == 0:
            self._before = residual if usual else None
        elif within == 1 and usual and self._before is not None:
            between = _transformed((residual - self._before)[None]) ** 2 / 2
            self._noise += [float(between[:, band].mean(dtype=np.float64)) for band in _bands(residual.shape)]
            self._pairs += 1
            self._before = None
        if len(self._batch) == _BATCH or index == self.frames - 1:
            self._transform(index)

    def _transform(self, index: int) -> None:
        height, width = self._batch[0].shape
        waves = self._waves[:, index + 1 - len(self._batch) : index + 1]
        if not self._slow.size:
            self._slow = np.zeros((len(waves), height, width), np.float32)
        for top in range(0, height, _ROWS):
            rows = np.stack([residual[top : top + _ROWS] for residual in self._batch])
            self._slow[:, top : top + _ROWS] += np.tensordot(waves, rows, 1)
        self._batch = []

    def end(self) -> None:
        """Turn the slow residual into what the outputs lack."""
        if not self._pairs:
            self._slow = np.empty(0, np.float32)
            return
        noise = self._noise / self._pairs * (self._usual / self.frames)
        shape = self._slow.shape[1:]
        spatial = _frequencies((shape[0], shape[1]))
        lacking: list[int] = []
        for first, stop in pairwise(min(edge, len(self._slow)) for edge in _SLOW):
            rows = slice(first, stop)
            if first == stop:
                break
            transformed = _transformed(self._slow[rows])
            factors = self._factors(transformed, noise, (first + stop - 1) / 2)
            if factors.any():
                transformed *= np.interp(spatial, _centres(), [factors[0], *factors]).astype(np.float32)
                self._slow[rows] = _transformed(transformed, back=True)
                lacking += range(first, stop)
        self._slow, self._waves = self._slow[lacking], self._waves[lacking]

    def _factors(self, transformed: Floats, noise: npt.NDArray[np.float64], row: float) -> npt.NDArray[Any]:
        """Return the factor of each spatial band."""
        shape = transformed.shape[1:]
        bands = _bands((shape[0], shape[1]))
        square = np.square(transformed)
        power = [float(square[:, band].mean(dtype=np.float64)) for band in bands]
        # Pixels that are unequal by themselves are no structure of the scene: they have all spatial frequencies alike,
        # and the finest shows them.
        unequal = max(0.0, power[-1] - noise[-1])
        left_in = _left_in(row / (2 * self.frames))
        factors = np.zeros(len(bands))
        for n, band in enumerate(bands):
            count = int(np.count_nonzero(band)) * len(transformed)
            both = noise[n] + unequal
            both -= left_in[n] * min(both, _MEASURED_TO * noise[n])
            bound = both * (1 + _ERRORS * (2 / max(count, 1)) ** 0.5)
            if power[n] > bound:
                factors[n] = 1 - bound / power[n]
        return factors

    def weight(self, at: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        """Return how much this block counts for the outputs `at`: most in its middle, nothing beyond its ends."""
        return np.clip(np.minimum(at + 1 - self.start, self.stop - at), 0, None).astype(np.float64)

    def lacking(self, at: npt.NDArray[np.intp], weight: npt.NDArray[np.float64]) -> Floats:
        """Return what the outputs `at` lack, (T, H, W), times their weight."""
        within = np.clip(at - self.start, 0, self.frames - 1)
        waves = (self._waves[:, within] * weight).astype(np.float32)
        return np.asarray(np.tensordot(waves.T, self._slow, 1), np.float32)


def _left_in(periods: float) -> npt.NDArray[np.float64]:
    """Return the share of the noise of each spatial band that outputs contain, at a temporal frequency."""
    if periods <= 0:
        return np.array(_STILL)
    return np.array([np.interp(periods, _PERIODS, column) for column in zip(*_LEFT_IN, strict=True)])


def _centres() -> list[float]:
    """Return the spatial frequencies between which factors are interpolated: 0, and the middle of each band."""
    middles = [(low + high) / 2 for low, high in pairwise(_FINE[:-1])]
    return [0.0, *middles, 0.8]


_WAVES: dict[int, Floats] = {}
_BANDS: dict[tuple[int, ...], list[npt.NDArray[np.bool_]]] = {}


def _waves(length: int) -> Floats:
    """Return the orthonormal cosine transform of a length, (frequency, place)."""
    if length not in _WAVES:
        place, wave = np.arange(length) + 0.5, np.arange(length)[:, None]
        matrix = np.cos(np.pi / length * wave * place) * (2 / length) ** 0.5
        matrix[0] /= 2**0.5
        _WAVES[length] = matrix.astype(np.float32)
    return _WAVES[length]


def _transformed(maps: Floats, *, back: bool = False) -> Floats:
    """Return the cosine transform of maps (N, H, W) over their edges, or the maps of transforms."""
    rows, columns = _waves(maps.shape[1]), _waves(maps.shape[2])
    if back:
        rows, columns = rows.T, columns.T
    return np.asarray(rows @ maps @ columns.T, np.float32)


def _frequencies(shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    return np.hypot(np.arange(shape[0])[:, None] / shape[0], np.arange(shape[1]) / shape[1])


def _bands(shape: tuple[int, ...]) -> list[npt.NDArray[np.bool_]]:
    """Return the places of each spatial band in a transform."""
    if shape not in _BANDS:
        _BANDS.clear()
        spatial = _frequencies((shape[0], shape[1]))
        _BANDS[shape] = [(spatial >= low) & (spatial < high) for low, high in pairwise(_FINE)]
    return _BANDS[shape]
