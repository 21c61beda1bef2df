"""Types that go into a stream with a frame, and that come out with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "Denoised",
    "FrameMeta",
    "Rebind",
    "StageClock",
    "StageSeconds",
    "StageTimes",
    "StreamCounters",
    "StreamKey",
]


@dataclass(frozen=True, slots=True)
class StreamKey:
    """Movie of a session that a frame belongs to, where several are interleaved; a `Stream` holds one of them.

    Attributes
    ----------
    camera, channel
        Names, empty when there is only one.
    z, position
        Indices of the slice and the stage position, from 0.
    """

    camera: str = ""
    channel: str = ""
    z: int = 0
    position: int = 0


@dataclass(frozen=True, slots=True)
class FrameMeta:
    """Facts that travel with a frame from the source to the sinks.

    Attributes
    ----------
    number
        Position of the frame in its movie, from 0 or any other start; a gap in the numbers is a
        frame that never arrived.
    t_received_s
        `time.perf_counter()` in seconds when the source handed the frame over.
    key
        The movie it belongs to.
    tags
        The source's own metadata, handed through untouched.
    source_index
        The caller's own index of the frame, for example its page in a recording, handed through untouched.
    """

    number: int
    t_received_s: float
    key: StreamKey = field(default_factory=StreamKey)
    tags: Mapping[str, Any] = field(default_factory=dict)
    source_index: int | None = None


@dataclass(frozen=True, slots=True)
class StageTimes:
    """When one frame passed each stage, in seconds of `time.perf_counter()`.

    Attributes
    ----------
    received
        The source handed the frame over (`FrameMeta.t_received_s`).
    pushed
        `Stream.push` began with it.
    encoded
        Its features, and its flow from the frame before, were ready.
    fuse_start
        The last frame it had to wait for was encoded, and fusing began.
    fused
        The backend had its denoised frame.
    emitted
        It was converted to the input's dtype and scale, ready to be returned.
    """

    received: float
    pushed: float
    encoded: float
    fuse_start: float
    fused: float
    emitted: float

    @property
    def latency_s(self) -> float:
        """Seconds from the source to the denoised frame, the wait for the look-ahead included."""
        return self.emitted - self.received

    def durations(self) -> dict[str, float]:
        """Return the seconds between the stages: queued, encode, wait, fuse and convert."""
        return {
            "queued_s": self.pushed - self.received,
            "encode_s": self.encoded - self.pushed,
            "wait_s": self.fuse_start - self.encoded,
            "fuse_s": self.fused - self.fuse_start,
            "convert_s": self.emitted - self.fused,
        }


@dataclass(frozen=True, slots=True)
class Denoised:
    """One denoised frame.

    Attributes
    ----------
    frame
        (H, W), dtype and scale of the input frame; integers are rounded half to even and clipped to
        the range of the dtype. NaN where the input frame is NaN or infinite, as in `std`.
    std
        (H, W) float32, the predicted standard deviation of `frame` in the input's units; None when
        the stream was opened without `std=True`.
    meta
        What was pushed with the frame.
    times
        When it passed each stage.
    deviation_factor
        Factor that is in `std`, by what the movie had shown by then (`Stream.deviation_factor`); 1 for a frame as
        measured, and where the frame comes from another process.
    """

    frame: npt.NDArray[np.generic]
    std: npt.NDArray[np.float32] | None
    meta: FrameMeta
    times: StageTimes
    deviation_factor: float = 1.0


@dataclass(frozen=True, slots=True)
class StreamCounters:
    """Counts of the pushed frames: `received == emitted + sum(dropped.values()) + in_flight`.

    Attributes
    ----------
    received
        Frames accepted by `Stream.push`.
    emitted
        Denoised frames returned.
    dropped
        Frames deliberately not denoised, by reason.
    in_flight
        Frames that wait for their look-ahead or for the calibration.
    unusual
        Emitted frames that do not show the scene (`dark`, `saturated`, `bright`, `partly dark`, `partly bright`,
        `of another picture`, `striped`), returned as measured.
    """

    received: int
    emitted: int
    dropped: Mapping[str, int]
    in_flight: int
    unusual: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StageSeconds:
    """Time that a stream has spent so far, in seconds summed over its frames.

    `encode_s`, `motion_s`, `fuse_s` and `remember_s` are the backend's; the rest is the runtime's own.

    Attributes
    ----------
    pushes, outputs
        How many frames were encoded and fused.
    align_s, normalise_s, encode_s
        Tracking the motion of incoming frames, and registering the frames of a window if the scene moves (the
        backend's graphs `align` and `recall`); copying them onto the canvas, with the conversion where the backend
        does not do it; computing their features.
    motion_s
        Flows between neighbouring frames.
    fuse_s, convert_s
        Fusing; copy of the results out of the backend's memory, with the conversion where the
        backend does not do it.
    remember_s
        Absorbing the frames that left the window.
    bind_s, calibrate_s
        Binding and warming the backend's graphs; estimating the intensity transform. Neither recurs
        from frame to frame.
    total_s
        All time inside `prepare`, `push` and `flush`.
    """

    pushes: int
    outputs: int
    align_s: float
    normalise_s: float
    encode_s: float
    fuse_s: float
    convert_s: float
    remember_s: float
    bind_s: float
    calibrate_s: float
    total_s: float
    motion_s: float = 0.0

    @property
    def own_s(self) -> float:
        """Seconds that recur with each frame and are not the backend's."""
        backend = self.encode_s + self.motion_s + self.fuse_s + self.remember_s
        return self.total_s - backend - self.bind_s - self.calibrate_s


@dataclass(slots=True)
class StageClock:
    """Time that a stream has spent so far, while it adds to it; see `StageSeconds` for the fields."""

    pushes: int = 0
    outputs: int = 0
    estimates: int = 0
    align: float = 0.0
    normalise: float = 0.0
    encode: float = 0.0
    motion: float = 0.0
    fuse: float = 0.0
    convert: float = 0.0
    remember: float = 0.0
    bind: float = 0.0
    calibrate: float = 0.0
    total: float = 0.0

    def snapshot(self) -> StageSeconds:
        """Return the present sums."""
        return StageSeconds(
            pushes=self.pushes,
            outputs=self.outputs,
            align_s=self.align,
            normalise_s=self.normalise,
            encode_s=self.encode,
            motion_s=self.motion,
            fuse_s=self.fuse,
            convert_s=self.convert,
            remember_s=self.remember,
            bind_s=self.bind,
            calibrate_s=self.calibrate,
            total_s=self.total,
        )


@dataclass(frozen=True, slots=True)
class Rebind:
    """A stream started anew: frames of another shape or dtype, or the scene changed, began to move or drifted away.

    Attributes
    ----------
    number
        First frame after the new start.
    old_shape, new_shape
        (H, W) before and from then on.
    old_dtype, new_dtype
        Names of the dtypes.
    motion
        ``moves`` if motion is tracked from then on, ``drifted`` if the scene had left the range of that, else None;
        shape and dtype are the same then. ``scene`` where it shows another scene, or the same in very different light.
    """

    number: int
    old_shape: tuple[int, int]
    new_shape: tuple[int, int]
    old_dtype: str
    new_dtype: str
    motion: Literal["moves", "drifted", "scene"] | None = None
