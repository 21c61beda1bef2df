"""Predict the denoised picture at less light, from frames that were recorded at full light."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from denoscope.acquisition.results import LightBudget, LightStep
from denoscope.runtime import FrameMeta, InvalidInput, Stream, counted

if TYPE_CHECKING:
    from denoscope.runtime import AnyMovie, Bundle, Intensity

__all__ = ["LEAST_FRAMES", "draw_light_budget", "light_budget"]

LEAST_FRAMES = 60
"""Frames that a movie needs."""

_FRAMES = 120
_WARM_UP = 40  # frames before the memory is filled
_SIDE = 192  # pixels of the part that is looked at
_SHARES = (0.5, 0.25)
_TRUE_VARIANCE = 0.72  # of the predicted one, over simulated movies of all kinds
_TRUE_LOSS = 1.1  # in decibels, of the predicted one: with less light deviations grow less than errors do

Frames = npt.NDArray[np.float32]


def light_budget(
    movie: AnyMovie | npt.NDArray[Any],
    bundle: str | Bundle = "live",
    *,
    backend: str = "auto",
    look_ahead: int | None = None,
    dark: float | None = None,
    pictures: bool = False,
    shares: Sequence[float] = _SHARES,
    frames: int = _FRAMES,
    side: int = _SIDE,
    on_share: Callable[[float], None] = lambda _: None,
) -> LightBudget:
    """Predict how good the denoised picture would be at half and at a quarter of the light.

    The middle of up to 120 frames is dimmed: counts above dark are halved and the photon noise that half of the light
    has more is added, by the movie's own noise model. It is denoised like the movie, and the predicted deviations of
    both are compared.

    Parameters
    ----------
    movie
        (T, H, W), as recorded.
    bundle, backend, look_ahead
        As for `denoscope.runtime.Stream`.
    dark
        Counts of the camera without light, from which its read noise follows; None for a camera without read noise.
    pictures
        Keep one frame of each, for `draw_light_budget`.
    shares
        Of the light, for which to predict.
    frames, side
        Frames that are used at most, and pixels of the part of them that is looked at.
    on_share
        Called with the share of the work that is done, up to 1.

    Returns
    -------
    LightBudget
        Predicted PSNR, and loss at each share of the light, in dB.

    Raises
    ------
    InvalidInput
        When the movie is too short, or the bundle predicts no deviation.

    Examples
    --------
    >>> from denoscope.acquisition import demo_movie, light_budget
    >>> found = light_budget(demo_movie().frames[:60, 60:92, 60:92], "live-fast", shares=(0.5,))
    >>> [step.share for step in found.steps]
    [0.5]
    """
    first = max(0, (len(movie) - frames) // 2)
    count = min(len(movie), frames)
    if count < LEAST_FRAMES:
        raise InvalidInput(
            f"the movie has {counted(count, 'frame')}, and a light budget needs {LEAST_FRAMES}: give a "
            "longer movie."
        )
    height, width = movie.shape[1:]
    rows = slice(max(0, (height - side) // 2), max(0, (height - side) // 2) + side)
    columns = slice(max(0, (width - side) // 2), max(0, (width - side) // 2) + side)
    used = np.stack([np.asarray(movie[first + n])[rows, columns] for n in range(count)])
    full, variance, intensity = _denoised(used, bundle, backend, look_ahead)
    least, most = float(np.min(full)), float(np.max(full))
    photon, level = intensity.gain, _without_light(intensity, dark)
    read = 0.0 if dark is None else max(0.0, photon * (dark - (intensity.offset - _line(intensity))))
    best_db = _decibels(most - least, _TRUE_VARIANCE * variance)
    steps = []
    shown = [used[-1], full[-1]]
    on_share(1 / (1 + len(shares)))
    for done, share in enumerate(shares, 2):
        dimmed = _dimmed(used, full, share, level, photon, read)
        dim, dim_variance, _ = _denoised(dimmed, bundle, backend, look_ahead)
        loss_db = _TRUE_LOSS * 10 * math.log10(dim_variance / share**2 / variance)
        steps.append(LightStep(share=share, psnr_db=best_db - loss_db, loss_db=loss_db))
        shown.append(level + (dim[-1] - level) / share)
        on_share(done / (1 + len(shares)))
    result = LightBudget(
        psnr_db=best_db,
        steps=steps,
        dark=level,
        read_noise=math.sqrt(read),
        photons=_photons(full, level, photon),
    )
    if pictures:
        result.keep_pictures(shown)
    return result


def _line(intensity: Intensity) -> float:
    """Return how far below its offset the noise model's line reaches zero, in counts."""
    return intensity.scale / intensity.noise_slope if intensity.noise_slope else math.inf


def _without_light(intensity: Intensity, dark: float | None) -> float:
    if dark is not None:
        return dark
    if not intensity.noise_slope:
        raise InvalidInput(
            "the noise of this movie does not grow with its light, so that less light cannot be predicted; give `dark`."
        )
    return intensity.offset - _line(intensity)


def _photons(full: Frames, level: float, photon: float) -> float | None:
    return max(0.0, float(full.mean()) - level) / photon if photon else None


def _denoised(
    frames: npt.NDArray[Any], bundle: str | Bundle, backend: str, look_ahead: int | None
) -> tuple[Frames, float, Intensity]:
    """Return the denoised frames after the warm-up, their mean predicted variance, and the noise model."""
    with Stream(bundle, backend, look_ahead=look_ahead, std=True) as stream:
        outputs = []
        for number, frame in enumerate(frames):
            outputs += stream.push(
                frame.astype(np.float32), FrameMeta(number=number, t_received_s=time.perf_counter())
            )
        outputs += stream.flush()
        intensity = stream.intensity
    assert intensity is not None
    used = outputs[_WARM_UP:]
    variance = float(
        np.mean([np.mean(np.square(out.std, dtype=np.float64)) for out in used if out.std is not None])
    )
    return np.stack([out.frame for out in outputs]).astype(np.float32), variance, intensity


def _dimmed(
    frames: npt.NDArray[Any], full: Frames, share: float, level: float, photon: float, read: float
) -> Frames:
    """Return the frames as a camera gives them at a share of the light, in counts."""
    light = np.maximum(full - level, 0.0)
    more = photon * share * (1 - share) * light + read * (1 - share**2)
    noise = np.random.default_rng(0).standard_normal(frames.shape, np.float32)
    dimmed: Frames = (
        level + share * (frames.astype(np.float32) - level) + np.sqrt(more, dtype=np.float32) * noise
    )
    return dimmed


def _decibels(span: float, variance: float) -> float:
    return 10 * math.log10(max(span, 1e-9) ** 2 / max(variance, 1e-12))


def draw_light_budget(budget: LightBudget, path: Path) -> None:
    """Draw the raw and the denoised picture, and the denoised ones at half and at a quarter of the light.

    Parameters
    ----------
    budget
        With its pictures.
    path
        PNG to write.

    Raises
    ------
    ImportError
        When matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    raw, full, *dims = budget.pictures
    low, high = np.percentile(full, (0.5, 99.8))
    names = ["raw, full light", f"denoised, full light: {budget.psnr_db:.1f} dB"]
    names += [f"denoised, {step.words} of the light: {step.psnr_db:.1f} dB" for step in budget.steps]
    for axes, picture, name in zip(figure.subplots(1, len(names)), [raw, full, *dims], names, strict=True):
        axes.imshow(picture, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        axes.set_title(name, fontsize=9)
        axes.set_axis_off()
    figure.savefig(path, dpi=110)
