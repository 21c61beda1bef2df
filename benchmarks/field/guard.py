"""False pictures that have to be said, and ordinary movies that must raise no alarm."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from denoscope.runtime import NotFinite, estimate_intensity
from support.changed_bundle import changed_bundle
from support.field_inputs import DETECTORS, active_cells, counts, detected

from . import Case, Outcome
from ._warm import denoised


def cases() -> list[Case]:
    """Return the cases of this module: detectors, wrong noise estimates and wrong bundles."""
    found = [
        Case(
            "guard",
            f"{detector}, {photons} photons, {length} frames, {'wrong' if wrong else 'right'} noise",
            "said" if wrong else "no alarm",
            lambda _folder, d=detector, p=photons, n=length, w=wrong: _noise(d, p, n, wrong=w),
        )
        for detector in DETECTORS
        for photons in (0.2, 2.0)
        for length in (5, 48)
        for wrong in (False, True)
        if not (wrong and detector == "scmos")
    ]
    found += [
        Case(
            "guard",
            f"output times {factor} plus {shift}",
            "no numbers: ends" if np.isnan(shift) else "said",
            lambda folder, f=factor, s=shift: _bundle(folder, f, s),
        )
        for factor, shift in ((1.2, 0.0), (0.8, 0.0), (1.0, 1.0), (1.0, -1.0), (1.0, np.nan))
    ]
    return found


def _noise(detector: str, photons: float, length: int, *, wrong: bool) -> Outcome:
    movie = detected(detector, photons, length, shape=(96, 96))[2]
    intensity = estimate_intensity(movie)
    if wrong:
        intensity = intensity.model_copy(update={"scale": intensity.scale / 100})
    guard = denoised(movie, intensity=intensity)[1].guard
    return Outcome((guard.sentence() or "no alarm")[:110], passed=(guard.off > 0) == wrong)


def _bundle(folder: Path, factor: float, shift: float) -> Outcome:
    bundle = changed_bundle(folder / "changed.denoscope", factor=factor, shift=shift)
    try:
        guard = denoised(counts(active_cells(64, photons=40)[1]), bundle)[1].guard
    except NotFinite as error:
        return Outcome(str(error)[:110], passed=bool(np.isnan(shift)))
    return Outcome((guard.sentence() or "no alarm")[:110], passed=guard.off > 0 and not np.isnan(shift))
