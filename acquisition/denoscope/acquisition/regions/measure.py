"""Traces of regions: for each frame the raw and the denoised mean, its predicted deviation, and its change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime import InvalidInput

from .baseline import Baseline
from .deviation import MeanDeviation
from .regions import Regions

__all__ = ["FrameTraces", "RegionMeter"]

Values = npt.NDArray[np.float64]

_DENSE = 8  # regions are dense where they hold one of so many pixels


@dataclass(frozen=True, slots=True)
class FrameTraces:
    """Values of all regions in one frame.

    Attributes
    ----------
    names
        Of the regions.
    raw, denoised
        Mean of the pixels in the raw and in the denoised frame, in their unit.
    std
        Predicted standard deviation of `denoised`; NaN where the bundle predicts none.
    dff
        Change over the baseline, ``(denoised - baseline) / (baseline - dark)``; NaN where there is no light.
    """

    names: tuple[str, ...]
    raw: Values
    denoised: Values
    std: Values
    dff: Values

    def copy(self) -> FrameTraces:
        """Return the same values in copied arrays."""
        return FrameTraces(
            self.names, self.raw.copy(), self.denoised.copy(), self.std.copy(), self.dff.copy()
        )

    def of(self, region: str) -> dict[str, float]:
        """Return ``raw``, ``denoised``, ``std`` and ``dff`` of one region."""
        try:
            place = self.names.index(region)
        except ValueError:
            raise InvalidInput(f"there is no region {region}: the first is {self.names[0]}.") from None
        return {name: float(getattr(self, name)[place]) for name in ("raw", "denoised", "std", "dff")}


class RegionMeter:
    """Measure the regions of one stream, frame after frame.

    Parameters
    ----------
    regions
        What to measure.
    dark
        Counts of the camera without light, which `FrameTraces.dff` takes off.

    Examples
    --------
    >>> meter = RegionMeter(Regions.from_labels([[1, 1], [0, 2]]))
    >>> frame = np.array([[1, 3], [9, 5]], np.uint16)
    >>> traces = meter.measure(frame, frame, None)
    >>> traces.denoised.tolist()
    [2.0, 5.0]
    """

    def __init__(self, regions: Regions, *, dark: float = 0.0) -> None:
        self.regions = regions
        self._dark = dark
        self._sizes = regions.sizes.astype(np.float64)
        self._baseline = Baseline(len(regions))
        self._deviation = MeanDeviation(regions.sizes)
        self._gathered: dict[np.dtype[Any], npt.NDArray[Any]] = {}
        self._pictures: dict[np.dtype[Any], npt.NDArray[Any]] = {}
        pixels = regions.shape[0] * regions.shape[1]
        self._dense = len(regions.flat) * _DENSE >= pixels
        self._wide = int(regions.sizes.max()) >= 1 << 16

    def measure(
        self, raw: npt.NDArray[Any], denoised: npt.NDArray[Any], std: npt.NDArray[Any] | None
    ) -> FrameTraces:
        """Return the traces of the next frame.

        Parameters
        ----------
        raw, denoised, std
            ``(H, W)``; `std` is the predicted standard deviation of `denoised`, or None.

        Raises
        ------
        InvalidInput
            When the frame has another size than the regions' frames.
        """
        self.regions.check((denoised.shape[0], denoised.shape[1]))
        measured, mean = self._mean(raw), self._mean(denoised)
        if std is None:
            deviation: Values = np.full(len(self.regions), np.nan)
        else:
            deviation = self._deviation.add(measured, mean, self._mean(std, square=True))
        return FrameTraces(self.regions.names, measured, mean, deviation, self._change(mean))

    def replay(self, raw: Values, denoised: Values, std: Values) -> None:
        """Take a frame that was measured before, so that `measure` goes on after it."""
        if np.isfinite(std).any():
            self._deviation.replay(raw, denoised, std)
        self._change(denoised)

    def _change(self, mean: Values) -> Values:
        baseline = self._baseline.add(mean)
        light = baseline - self._dark
        change: Values = np.full(len(mean), np.nan)
        np.divide(mean - baseline, light, out=change, where=light > 0)
        return change

    def _mean(self, frame: npt.NDArray[Any], *, square: bool = False) -> Values:
        """Return the mean of each region; one pass over its pixels, in memory that is used again."""
        gathered = self._gathered.get(frame.dtype)
        if gathered is None:
            gathered = self._gathered[frame.dtype] = np.empty(len(self.regions.flat), frame.dtype)
        values = frame.ravel()
        if self._dense:
            # A frame comes from afar: read in order, and then by regions, it is there three times as fast.
            picture = self._pictures.get(frame.dtype)
            if picture is None:
                picture = self._pictures[frame.dtype] = np.empty(len(values), frame.dtype)
            if square:
                np.multiply(values, values, out=picture)
            else:
                np.copyto(picture, values)
            values = picture
        np.take(values, self.regions.flat, out=gathered, mode="clip")
        if square and not self._dense:
            np.multiply(gathered, gathered, out=gathered)
        kind: Any = np.float64
        if frame.dtype.kind == "u" and frame.dtype.itemsize <= 2:
            kind = np.uint64 if self._wide else np.uint32  # several times faster than floats
        sums = np.add.reduceat(gathered, self.regions.starts, dtype=kind)
        return np.asarray(sums / self._sizes, np.float64)
