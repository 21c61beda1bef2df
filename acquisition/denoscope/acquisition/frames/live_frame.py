"""A denoised frame as a user's program gets it, together with the raw frame that it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from denoscope.runtime import StreamKey

if TYPE_CHECKING:
    from denoscope.acquisition.regions.measure import FrameTraces

__all__ = ["LiveFrame"]


@dataclass(frozen=True, slots=True)
class LiveFrame:
    """One denoised frame with everything that is known of it; the arrays belong to the receiver.

    Attributes
    ----------
    number
        Number of the frame in its stream; a jump is a frame that never arrived or was not denoised.
    index
        Page of the raw frame in ``raw.tif``, counted over all streams.
    raw
        ``(H, W)``, the raw frame of the same number: as the camera sent it, or in float32 or photo-electrons where the
        session denoises those.
    denoised
        ``(H, W)``, dtype and scale of `raw`.
    std
        ``(H, W)`` float32, the predicted standard deviation of `denoised` in the same unit; None where the bundle
        predicts none.
    stream
        Camera, channel, slice and position of the frame.
    t_received_s, t_denoised_s
        When the frame was received and when it was denoised, in seconds of `time.perf_counter()` of the process that
        records.
    core_unix_s
        When Micro-Manager received it, seconds since 1970; None where unknown.
    core_lag_s
        Seconds it waited in Micro-Manager's buffer; 0 where unknown.
    tags
        Metadata of the frame, as Micro-Manager wrote them.
    traces
        Means of the regions in this frame; None where the session has no regions. Where regions were found again, the
        newest ones.
    earlier
        Means of the regions that were found before those, each search's by itself, the newest first.
    """

    number: int
    index: int
    raw: npt.NDArray[Any]
    denoised: npt.NDArray[Any]
    std: npt.NDArray[Any] | None
    stream: StreamKey
    t_received_s: float
    t_denoised_s: float
    core_unix_s: float | None = None
    core_lag_s: float = 0.0
    tags: Mapping[str, Any] = field(default_factory=dict)
    traces: FrameTraces | None = None
    earlier: tuple[FrameTraces, ...] = ()

    def detached(self) -> LiveFrame:
        """Return the frame with copied arrays, for a program that may keep or change it."""
        return replace(
            self,
            raw=self.raw.copy(),
            denoised=self.denoised.copy(),
            std=None if self.std is None else self.std.copy(),
            traces=None if self.traces is None else self.traces.copy(),
            earlier=tuple(traces.copy() for traces in self.earlier),
        )

    @property
    def delay_s(self) -> float:
        """Seconds from the camera to the denoised frame."""
        return self.t_denoised_s - self.t_received_s + self.core_lag_s
