"""Is the noise of a movie what the denoiser takes it for? Measured once, said once, kept in the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from denoscope.acquisition.results import NoiseCheck

if TYPE_CHECKING:
    from denoscope.runtime import CameraCalibration, Intensity, ScannerArtefacts

__all__ = ["check_noise", "late_offset_note", "noise_note", "rounding_note", "scanner_notes"]

_NO_NOISE = 1.001 / 12**0.5  # counts: that of rounding, which a movie without any noise is given
_FEW_COUNTS = 4.0  # of noise: below, rounding costs about a decibel of what is denoised and more


def check_noise(frames: Any, camera: CameraCalibration | None = None) -> NoiseCheck | None:
    """Measure the noise's correlation and what saturates, as it goes into reports; None where there are too few frames.

    Parameters
    ----------
    frames
        (T, H, W) raw counts; parts of them are read.
    camera
        Calibration that they are corrected with: a warning says if it does not fit them.

    """
    from denoscope.runtime import InvalidInput, measure_noise_correlation, measure_saturation

    try:
        found, full = measure_noise_correlation(frames), measure_saturation(frames)
    except InvalidInput:  # a short or tiny movie is no reason to complain
        return None
    sentences = [full.warning(), found.warning(), camera.warning(frames) if camera is not None else None]
    return NoiseCheck(
        kind=found.kind,
        along_row=found.along_row,
        across_rows=found.across_rows,
        row=found.row,
        time=found.time,
        limit=found.limit,
        saturated=full.share,
        warning="; ".join(filter(None, sentences)) or None,
    )


def rounding_note(intensity: Intensity | None, dtype: npt.DTypeLike) -> str | None:
    """Return a sentence where whole counts are too coarse for what is left of the noise, else None.

    Parameters
    ----------
    intensity
        Intensity that a movie was denoised with; None where it is not known.
    dtype
        Of the denoised movie.
    """
    if intensity is None or np.dtype(dtype).kind == "f" or intensity.scale >= _FEW_COUNTS:
        return None
    if intensity.scale <= _NO_NOISE:
        return None
    return (
        f"the noise is only {intensity.scale:.2g} counts, so rounding to whole counts makes the denoised movie "
        "noisier; add `float32` to keep the fractions"
    )


def noise_note(intensity: Intensity | None) -> str | None:
    """Return a sentence where the noise could not be estimated the usual way, else None.

    Parameters
    ----------
    intensity
        Intensity that a movie was denoised with; None where it is not known.
    """
    return None if intensity is None else intensity.warning()


def scanner_notes(scanner: ScannerArtefacts | None, *, fixed: bool = False) -> list[str]:
    """Return a sentence for each artefact of the scanner or detector that was found.

    Parameters
    ----------
    scanner
        Artefacts of the movie that was denoised; None where they are not known.
    fixed
        Whether the offset between odd and even lines was corrected.
    """
    return [] if scanner is None else scanner.sentences(fixed=fixed)


def late_offset_note(scanner: ScannerArtefacts | None, frames: Any) -> str | None:
    """Return a sentence where a whole recording shows an offset between lines that its first frames did not, else None.

    Parameters
    ----------
    scanner
        Artefacts that were found in the first frames; None where they are not known.
    frames
        (T, H, W) raw counts; up to 256 of them are read.
    """
    from denoscope.runtime import frames_to_measure, measure_scanner

    if scanner is None or scanner.line_offset:
        return None
    offset = measure_scanner(frames_to_measure(frames)).line_offset
    if not offset:
        return None
    way = "right" if offset > 0 else "left"
    return (
        f"odd lines are shifted by {abs(offset):.1f} pixels to the {way}, which the first "
        "frames were too few or too dim to show: the denoised movie blurs this; denoise the raw movie again, with "
        "`fix_line_offset` to correct it"
    )
