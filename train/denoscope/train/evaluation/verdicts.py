"""Judgements in plain words, made from the measurements of an evaluation or a training.

The limits are sizes that matter to a reader of the movie, and never below what white noise gives by chance.
"""

from __future__ import annotations

from collections.abc import Sequence

from denoscope.runtime import counted

from .records import Level, ResidualRecord, TraceRecord, Verdict

__all__ = [
    "gain_verdict",
    "margin_verdict",
    "object_verdicts",
    "residual_verdicts",
    "serious_first",
    "trace_verdicts",
]

_CORRELATION = (0.02, 0.1)  # of the residual: look here, do not trust
_LEFT = -0.1  # negative correlation: an average over ten values gives as much
_VARIANCE = (0.15, 0.5)  # share by which the removed variance misses the expected one
_DRIFT_SIGMA = (0.05, 0.3)  # of the mean of a frame, in standard deviations of a pixel
_FRAME_SIGMA = 0.1  # the same of the worst single frame
_GRID_SIGMA = 0.1
_SLOPE = (0.1, 0.3)  # share by which activity is shown too small or too large
_UNSUPPORTED = 1 / 3  # share of objects that raw counts do not support


def residual_verdicts(residual: ResidualRecord) -> list[Verdict]:
    """Judge what a denoiser took away: structure, amount, brightness, grid; one verdict each."""
    return [_structure(residual), _amount(residual), _brightness(residual), _grid(residual)]


def trace_verdicts(traces: TraceRecord | None) -> list[Verdict]:
    """Judge the height of activity; nothing without regions."""
    if traces is None:
        return []
    shown = 1 / traces.slope if traces.slope > 0 else 0.0
    off = abs(traces.slope - 1)
    if off <= _SLOPE[0]:
        return [Verdict(level="fine", about="activity", why="Traces of cells keep their height.")]
    way = "small" if traces.slope > 1 else "large"
    return [
        Verdict(
            level=_level(off, *_SLOPE),
            about="activity",
            why=f"Activity looks too {way}: a rise of 100 counts in the raw movie is shown as {100 * shown:.0f}.",
            todo="Measure amplitudes in the raw movie; compare the traces in the picture of the traces.",
        )
    ]


def object_verdicts(objects: int, supported: int) -> list[Verdict]:
    """Judge whether the raw counts support the objects that the denoised movie shows."""
    if objects == 0:
        return []
    missing = objects - supported
    if missing == 0:
        why = f"All {objects} objects are supported by the raw counts."
        return [Verdict(level="fine", about="objects", why=why)]
    return [
        Verdict(
            level="do not trust" if missing > _UNSUPPORTED * objects else "look here",
            about="objects",
            why=f"{missing} of {objects} objects are not supported by the raw counts.",
            todo="Check them in the picture of the projections before you count them.",
        )
    ]


def margin_verdict(margin_db: float) -> Verdict:
    """Judge a bundle by its lead (dB) over the best simple filter on a movie with truth."""
    about = "truth"
    if margin_db >= 0:
        why = f"{margin_db:.1f} dB closer to the truth than the best simple filter."
        return Verdict(level="fine", about=about, why=why)
    return Verdict(
        level="look here",
        about=about,
        why=f"{-margin_db:.1f} dB farther from the truth than the best simple filter (which was tuned on the truth).",
        todo="Train on a movie of this kind, or take another bundle.",
    )


def gain_verdict(before: float, after: float, *, improved: bool, from_nothing: bool) -> Verdict:
    """Judge a training by its score on frames that it never saw; lower scores are better."""
    change = f"({before:.4f} -> {after:.4f}, lower is better)"
    about = "training"
    if not improved:
        return Verdict(
            level="look here",
            about=about,
            why=f"Training did not help on unseen frames {change}: the bundle is the model that it began with.",
            todo="Use that model as it is, or train longer or on a longer movie.",
        )
    gain = before - after
    if from_nothing and gain <= 0:
        return Verdict(
            level="do not trust",
            about=about,
            why=f"The network learned nothing that helps on unseen frames {change}.",
            todo="Train much longer, or start from a shipped bundle.",
        )
    size = "Slightly better" if gain < 0.02 else "Better" if gain < 0.1 else "Much better"
    return Verdict(level="fine", about=about, why=f"{size} on unseen frames {change}.")


def serious_first(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return verdicts in the order in which they should be read."""
    order: tuple[Level, ...] = ("do not trust", "look here", "fine")
    return sorted(verdicts, key=lambda verdict: order.index(verdict.level))


def _level(size: float, look: float, distrust: float) -> Level:
    return "fine" if size <= look else "look here" if size <= distrust else "do not trust"


def _structure(r: ResidualRecord) -> Verdict:
    excess, limit, about = r.excess_correlation, max(r.white_noise_limit, _CORRELATION[0]), "structure"
    if excess > limit:
        frames, rows, columns = r.excess_at_lag
        away = max(abs(rows), abs(columns))
        where = f"{counted(frames, 'frame')} apart" if frames else f"{counted(away, 'pixel')} apart"
        return Verdict(
            level=_level(excess, limit, max(limit, _CORRELATION[1])),
            about=about,
            why=f"Some of the picture was removed with the noise: values {where} of what was removed are alike "
            f"(correlation {excess:.2f}; up to {limit:.2f} is fine).",
            todo="If you see cells in the picture of what was removed, train on this movie, or longer.",
        )
    if excess < _LEFT:
        return Verdict(
            level="look here",
            about=about,
            why=f"Much noise is left in the denoised movie (correlation {excess:.2f}).",
            todo="Train on this movie, or take a larger bundle.",
        )
    return Verdict(level="fine", about=about, why="What was removed looks like camera noise.")


def _amount(r: ResidualRecord) -> Verdict:
    expected = r.expected_variance_ratio or 1.0
    ratio, about = r.variance_ratio / max(expected, 1e-6), "amount of noise"
    off = abs(ratio - 1)
    if off <= _VARIANCE[0]:
        return Verdict(level="fine", about=about, why="As much was removed as the camera's noise explains.")
    more = f"{ratio:.1f} times as much" if ratio > 2 else f"{100 * off:.0f} % more"
    if ratio > 1:
        why = f"{more[0].upper()}{more[1:]} was removed than the camera's noise explains."
    else:
        why = f"{100 * off:.0f} % of the camera's noise is left, or the movie was filtered before."
    return Verdict(
        level=_level(off, *_VARIANCE) if ratio > 1 else "look here",
        about=about,
        why=why,
        todo="Look at the picture of what was removed; give camera files as recorded, not resized or compressed.",
    )


def _brightness(r: ResidualRecord) -> Verdict:
    base, about = r.baseline, "brightness"
    limit = max(base.white_noise_limit_sigma, _DRIFT_SIGMA[0])
    drift = max((base.first_frames_sigma, base.last_frames_sigma), key=abs)
    if abs(drift) <= limit:
        if abs(base.largest_sigma) <= max(base.white_noise_limit_sigma, _FRAME_SIGMA):
            return Verdict(level="fine", about=about, why="Brightness is kept.")
        way = "dark" if base.largest_sigma > 0 else "bright"
        return Verdict(
            level="look here",
            about=about,
            why=f"Frame {base.largest_at_frame} is too {way} by {abs(base.largest_sigma):.2f} of one pixel's noise.",
            todo="Look at that frame; measure brightness in the raw movie.",
        )
    when = "beginning" if drift == base.first_frames_sigma else "end"
    way = "dark" if drift > 0 else "bright"
    return Verdict(
        level=_level(abs(drift), limit, max(limit, _DRIFT_SIGMA[1])),
        about=about,
        why=f"The {when} of the movie is too {way} by {abs(drift):.2f} of one pixel's noise.",
        todo="Do not compare brightness across this movie; measure it in the raw movie.",
    )


def _grid(r: ResidualRecord) -> Verdict:
    about = "grid"
    if r.grid.found and r.grid.rms_sigma >= _GRID_SIGMA:
        return Verdict(
            level="look here",
            about=about,
            why=f"The denoised movie has a grid of {r.grid.stride_px} pixels "
            f"({r.grid.rms_sigma:.2f} of one pixel's noise).",
            todo="It adds up in averages: average the raw movie instead, or take another bundle.",
        )
    return Verdict(level="fine", about=about, why="There is no visible grid.")
