"""The frame that goes into a window's graphs, the camera's numbers beside it, and the picture that comes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.backends.base import FrameCall
from denoscope.runtime.backends.raw_count_graphs import FACTOR, OFFSET, RAW
from denoscope.runtime.backends.registry import Backend, Buffer
from denoscope.runtime.noise.counts import Region, cut_out, normalise_into, place_into, restore, restore_std
from denoscope.runtime.noise.noise import Intensity

from .pool import Pool
from .ports import Array, Call, Port

__all__ = ["UNIT", "CameraNumbers", "Made", "Picture"]

# Not validated, since pydantic would build the model for it while this module is imported.
UNIT = Intensity.model_construct(offset=0.0, scale=1.0, noise_slope=0.0, noise_floor=1.0)


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

    def knows(self, intensity: Intensity) -> bool:
        """Say whether the graphs were given this transform last."""
        return intensity is self._told

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


@dataclass(frozen=True, slots=True)
class Made:
    """One run of `fuse`, whose picture may still be on its way to the host.

    Attributes
    ----------
    side
        Number of the window's output that it is in.
    place
        Where on the canvas the frame lies; None for nowhere.
    intensity
        Transform of its counts.
    frame
        (H, W), where the picture comes down to the very memory that is handed out.
    """

    side: int
    place: Region | None
    intensity: Intensity
    frame: Array | None = None


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
    sides
        Frames that may be under way at once: 1, or 2 on backends that overlap.
    keeps_mean
        True where the graphs give the picture in normalised units beside the raw counts.
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
        sides: int = 1,
        keeps_mean: bool = False,
    ) -> None:
        self._numbers, self._raw, self._dtype = numbers, raw, dtype
        kind, full = dtype.name if raw else "float32", (1, 1, *shape)
        self._frames = [Port(backend, full, kind) for _ in range(sides)]
        self._made = [Port(backend, full, kind) for _ in range(sides)]
        self._stds = [Port(backend, full) for _ in range(sides)] if std else []
        self._means = [Port(backend, full) for _ in range(sides)] if keeps_mean else []
        # Where frames fill the canvas, the picture is written into the very frame that is handed out.
        self._redirects = raw and backend.redirects
        self._pool: Pool | None = None
        if self._redirects:
            self._pool = Pool(lambda: backend.buffer(full, kind))
        elif sides > 1:
            self._pool = Pool(lambda: backend.landing(full, kind))
        self._canvas = (slice(0, shape[0]), slice(0, shape[1]))

    @property
    def keeps_mean(self) -> bool:
        """True where a picture can be converted to counts once more."""
        return bool(self._means)

    def inputs(self, side: int = 0) -> dict[str, Buffer]:
        """Return the measured frame as `encode` reads it."""
        return {RAW if self._raw else "frame": self._frames[side].buffer}

    def outputs(self, side: int = 0) -> dict[str, Buffer]:
        """Return the buffers that `fuse` writes."""
        written = {RAW if self._raw else "mean": self._made[side].buffer}
        if self._stds:
            written["std"] = self._stds[side].buffer
        if self._means:
            written["mean"] = self._means[side].buffer
        return written

    def uploads(self, side: int) -> list[Buffer]:
        """Return what goes up for a frame."""
        return [self._frames[side].buffer]

    def fetches(self, side: int) -> list[Buffer]:
        """Return what comes down for a frame."""
        return [self._made[side].buffer, *(port.buffer for port in self._stds[side : side + 1])]

    def write(self, frame: Array, place: Region, side: int = 0) -> None:
        """Put a frame (H, W) where the graphs see it, its edges repeated around it."""
        canvas = self._frames[side].ready()[0, 0]
        if self._raw:
            place_into(frame, canvas, place)
        else:
            normalise_into(frame, self._numbers.intensity, canvas, place)

    def normalised(self) -> npt.NDArray[np.float32]:
        """Return the canvas (H, W) with the written frame in normalised units, as a new array."""
        canvas = self._frames[0].ready()[0, 0]
        if not self._raw:
            return np.array(canvas, np.float32)
        intensity = self._numbers.intensity
        made = np.empty(canvas.shape, np.float32)
        np.subtract(canvas, np.float32(intensity.offset), out=made, dtype=np.float32)
        return np.multiply(made, np.float32(1 / intensity.scale), out=made)

    def send(self, side: int = 0) -> None:
        """Hand the written frame over to the backend."""
        self._frames[side].send()

    def make(self, call: Call, place: Region | None, side: int = 0) -> Made:
        """Call a bound `fuse`, and begin to bring its picture to the host."""
        frame, buffer = self._memory(place)
        if self._redirects and buffer is not None:
            call({RAW: buffer})
        else:
            call()
            self._made[side].fetch(buffer)
            for port in self._stds[side : side + 1]:
                port.fetch()
        return Made(side, place, self._numbers.intensity, frame)

    def make_together(self, call: FrameCall, place: Region | None, side: int) -> Made:
        """Call everything that a frame needs; its picture is on its way to the host then."""
        frame, buffer = self._memory(place)
        call([buffer, *(None for _ in self._stds[side : side + 1])])
        return Made(side, place, self._numbers.intensity, frame)

    def arrive(self, made: Made) -> None:
        """Return when a picture has come to the host."""
        for port in (self._made[made.side], *self._stds[made.side : made.side + 1]):
            port.arrive()

    def read(self, made: Made) -> Array:
        """Return an array of the caller's own with a picture that has arrived, in the frame's dtype and scale."""
        if made.frame is not None:
            return made.frame
        picture = self._made[made.side].host[0, 0]
        assert made.place is not None
        if self._raw:
            return cut_out(picture, made.place)
        return restore(picture[made.place], made.intensity, self._dtype)

    def read_std(self, made: Made) -> npt.NDArray[np.float32]:
        """Return a new array with the standard deviation, in raw counts, rounding included."""
        assert made.place is not None
        return restore_std(self._stds[made.side].host[0, 0][made.place], made.intensity, self._dtype)

    def convert_again(self, made: Made, intensity: Intensity) -> Array:
        """Return a new array with a picture in the counts of another transform, rounded once."""
        port = self._means[made.side]
        port.fetch()
        port.arrive()
        assert made.place is not None
        return restore(port.host[0, 0][made.place], intensity, self._dtype)

    def _memory(self, place: Region | None) -> tuple[Array | None, Buffer | None]:
        """Return memory to hand out with a picture at a place, and its buffer; None where it is to be copied."""
        if self._pool is None or place != self._canvas:
            return None, None
        lent = self._pool.take() if self._redirects else self._pool.lend()
        return (None, None) if lent is None else lent
