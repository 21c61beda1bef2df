"""The frame that goes into a window's graphs, the camera's numbers beside it, and the picture that comes out."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.backends.raw_count_graphs import FACTOR, OFFSET, RAW
from denoscope.runtime.backends.registry import Backend, Buffer
from denoscope.runtime.noise.counts import Region, cut_out, normalise_into, place_into, restore, restore_std
from denoscope.runtime.noise.noise import Intensity

from .pool import Pool
from .ports import Array, Call, Port

__all__ = ["UNIT", "CameraNumbers", "Picture"]

UNIT = Intensity(offset=0, scale=1, noise_slope=0, noise_floor=1)


class CameraNumbers:
    """Transform of the counts and the camera's noise model, as the graphs are given them.

    Attributes
    ----------
    intensity
        What frames are transformed with now.
    noise
        The buffer (2,) of slope and floor of the noise variance.
    """

    def __init__(self, backend: Backend) -> None:
        self.intensity: Intensity = UNIT
        self._told: Intensity | None = None  # what the graphs were given last
        self.noise = Port(backend, (2,))
        self._offset, self._factor, self._scale = (Port(backend, (1,)) for _ in range(3))

    def set(self, intensity: Intensity) -> None:
        """Take the transform of the frames to come, and give the graphs the camera's noise model."""
        if intensity is self._told:
            return
        self._told = self.intensity = intensity
        self.noise.fill(intensity.noise_slope, intensity.noise_floor)
        self._offset.fill(intensity.offset)
        self._factor.fill(float(np.float32(1 / intensity.scale)))
        self._scale.fill(intensity.scale)

    def from_counts(self) -> dict[str, Buffer]:
        """Return what a graph needs to turn counts into normalised units."""
        return {OFFSET: self._offset.buffer, FACTOR: self._factor.buffer}

    def to_counts(self) -> dict[str, Buffer]:
        """Return what a graph needs to turn normalised units into counts."""
        return {OFFSET: self._offset.buffer, FACTOR: self._scale.buffer}


class Picture:
    """The measured frame that is written for the graphs, and the denoised one that is read from them.

    Parameters
    ----------
    backend
        Owns the buffers.
    numbers
        The camera's numbers.
    shape
        (H, W) of the canvas that the graphs see.
    dtype
        Of the frames.
    raw
        True where the graphs take and give raw counts.
    std
        True where the graphs give standard deviations too.
    """

    def __init__(
        self,
        backend: Backend,
        numbers: CameraNumbers,
        shape: tuple[int, int],
        dtype: np.dtype[Any],
        *,
        raw: bool,
        std: bool,
    ) -> None:
        self._numbers, self._raw, self._dtype = numbers, raw, dtype
        kind = dtype.name if raw else "float32"
        self._frame = Port(backend, (1, 1, *shape), kind)
        self._mean = Port(backend, (1, 1, *shape), kind)
        self._std = Port(backend, (1, 1, *shape)) if std else None
        # Where frames fill the canvas, the graph writes into the very frame that is handed out.
        redirects = raw and backend.redirects
        self._pool = Pool(lambda: backend.buffer((1, 1, *shape), kind)) if redirects else None
        self._canvas = (slice(0, shape[0]), slice(0, shape[1]))
        self._made: Array | None = None

    def inputs(self) -> dict[str, Buffer]:
        """Return the measured frame as `encode` reads it."""
        return {RAW if self._raw else "frame": self._frame.buffer}

    def outputs(self) -> dict[str, Buffer]:
        """Return the buffers that `fuse` writes."""
        written = {RAW if self._raw else "mean": self._mean.buffer}
        return written if self._std is None else written | {"std": self._std.buffer}

    def write(self, frame: Array, place: Region) -> None:
        """Put a frame (H, W) where the graphs see it, its edges repeated around it."""
        canvas = self._frame.ready()[0, 0]
        if self._raw:
            place_into(frame, canvas, place)
        else:
            normalise_into(frame, self._numbers.intensity, canvas, place)

    def normalised(self) -> npt.NDArray[np.float32]:
        """Return the canvas (H, W) with the written frame in normalised units, as a new array."""
        canvas = self._frame.ready()[0, 0]
        if not self._raw:
            return np.array(canvas, np.float32)
        intensity = self._numbers.intensity
        made = np.empty(canvas.shape, np.float32)
        np.subtract(canvas, np.float32(intensity.offset), out=made, dtype=np.float32)
        return np.multiply(made, np.float32(1 / intensity.scale), out=made)

    def send(self) -> None:
        """Hand the written frame over to the backend."""
        self._frame.send()

    def make(self, call: Call, place: Region | None) -> None:
        """Call a bound `fuse`, whose picture will be read at `place`."""
        if self._pool is not None and place == self._canvas:
            self._made, buffer = self._pool.take()
            call({RAW: buffer})
            return
        call()
        self.fetch()

    def fetch(self) -> None:
        """Bring the picture to the host."""
        self._mean.fetch()

    def read(self, place: Region) -> Array:
        """Return an array of the caller's own with the picture at a place, in the frame's dtype and scale."""
        if self._made is not None:
            made, self._made = self._made, None
            return made
        mean = self._mean.host[0, 0]
        if self._raw:
            return cut_out(mean, place)
        return restore(mean[place], self._numbers.intensity, self._dtype)

    def read_std(self, place: Region) -> npt.NDArray[np.float32]:
        """Return a new array with the standard deviation there, in raw counts, rounding included."""
        assert self._std is not None
        self._std.fetch()
        return restore_std(self._std.host[0, 0][place], self._numbers.intensity, self._dtype)
