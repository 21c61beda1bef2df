"""Frames converted before they are denoised: by a camera's calibration maps, or to float32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from denoscope.runtime import InvalidInput

if TYPE_CHECKING:
    from denoscope.acquisition.contracts import Denoiser
    from denoscope.runtime import CameraCalibration, Denoised, FrameMeta, StreamCounters, StreamKey

    from .exchange import PushTimes
    from .facts import MovieFacts

__all__ = ["Convert", "ConvertingDenoiser", "conversion", "load_camera"]

Convert = Callable[[Any], Any]  # of arrays (H, W); numpy is not imported for the command line


def load_camera(
    gain: Path | str | None, offset: Path | str | None, roi: str | None
) -> CameraCalibration | None:
    """Return the calibration of a camera, None where no map is given.

    Parameters
    ----------
    gain, offset
        Maps of the gain (counts per photo-electron) and of the offset (counts): ``.mat``, ``.tif``, ``.npy``, ``.npz``.
    roi
        Region ``"x,y,width,height"`` of the maps, in pixels, that the frames show; None for all of them.

    Returns
    -------
    CameraCalibration or None
        Converts counts to photo-electrons.

    Raises
    ------
    InvalidInput
        If a map cannot be used, or the region is not four numbers or names no map.

    Examples
    --------
    >>> load_camera(None, None, None) is None
    True
    """
    from denoscope.runtime import CameraCalibration

    gain, offset = (None if path is None else Path(path) for path in (gain, offset))
    if gain is None and offset is None:
        if roi is not None:
            raise InvalidInput(
                f"`camera_roi` {roi} crops calibration maps: give `camera_gain` or `camera_offset`."
            )
        return None
    region = None
    if roi is not None:
        parts = roi.split(",")
        if len(parts) != 4 or not all(part.strip().isdecimal() for part in parts):
            raise InvalidInput(
                f"`camera_roi` {roi} is not four whole numbers: give x,y,width,height, like 128,0,512,512."
            )
        x, y, width, height = (int(part) for part in parts)
        region = (x, y, width, height)
    return CameraCalibration.load(gain, offset, roi=region)


def conversion(camera: CameraCalibration | None, *, float32: bool) -> Convert | None:
    """Return what is done to a frame before it is denoised, which gives float32; None for nothing."""
    if camera is not None:
        return camera.correct
    return (lambda frame: frame.astype("float32")) if float32 else None


class ConvertingDenoiser:
    """A denoiser that is given photo-electrons, or float32, in place of the camera's counts.

    Parameters
    ----------
    denoiser
        Takes the converted frames.
    convert
        Returns a frame (H, W) as the denoiser shall have it, like `CameraCalibration.correct`.
    """

    def __init__(self, denoiser: Denoiser, convert: Convert) -> None:
        self._denoiser: Any = denoiser
        self._convert = convert
        # One in another process takes frames ahead of its answers; see `RemoteDenoiser`.
        self._hand_over: Callable[..., list[Denoised]] = getattr(denoiser, "begin", denoiser.push)

    @property
    def counters(self) -> StreamCounters:
        """Counts of the pushed frames: denoised, dropped and held."""
        counters: StreamCounters = self._denoiser.counters
        return counters

    @property
    def under_way(self) -> int:
        """Frames that the denoiser was given and has not answered yet."""
        return int(getattr(self._denoiser, "under_way", 0))

    def begin(self, frame: Any, meta: FrameMeta, *, skip: str | None = None) -> list[Denoised]:
        """Convert one frame and hand it over, ahead of the answer where the denoiser takes it so."""
        return self._hand_over(self._convert(frame), meta, skip=skip)

    def collect(self) -> list[Denoised]:
        """Wait for the oldest frame under way; return its outputs."""
        outputs: list[Denoised] = self._denoiser.collect() if self.under_way else []
        return outputs

    @property
    def steps(self) -> int:
        """Count of finished steps, as the denoiser's."""
        return int(getattr(self._denoiser, "steps", 0))

    def times(self) -> list[PushTimes]:
        """Return the times of the frames that were answered since the last call, where the denoiser has them."""
        times: list[PushTimes] = self._denoiser.times() if hasattr(self._denoiser, "times") else []
        return times

    def push(self, frame: Any, meta: FrameMeta, *, skip: str | None = None) -> list[Denoised]:
        """Convert one frame and push it; return the outputs that are due."""
        outputs: list[Denoised] = self._denoiser.push(self._convert(frame), meta, skip=skip)
        return outputs

    def flush(self) -> list[Denoised]:
        """Return the outputs of all frames still held."""
        outputs: list[Denoised] = self._denoiser.flush()
        return outputs

    def learned(self) -> MovieFacts:
        """Return what the denoiser has found out."""
        learned: Callable[[], MovieFacts] = self._denoiser.learned
        return learned()

    def restart(self, key: StreamKey, *, recalibrate: bool) -> list[Denoised]:
        """Begin one of the denoiser's streams anew; return its outputs until then.

        A calibration is that of the pixels the run began with: a changed ROI has another size, which
        `CameraCalibration.correct` refuses.
        """
        restart: Callable[..., list[Denoised]] = self._denoiser.restart
        return restart(key, recalibrate=recalibrate)
