"""Is the noise of a movie what the denoiser takes it for? Measured once, said once, kept in the report."""

from __future__ import annotations

from typing import Any

__all__ = ["check_noise"]


def check_noise(frames: Any) -> dict[str, Any] | None:
    """Measure the noise's correlation, as it goes into reports; None where there are too few frames.

    Parameters
    ----------
    frames
        (T, H, W) raw counts; parts of them are read.

    Returns
    -------
    dict or None
        ``kind``, ``along_row``, ``across_rows``, ``row``, ``time``, ``limit`` and ``warning`` (or None).
    """
    from denoscope.runtime import InvalidInput, measure_noise_correlation

    try:
        found = measure_noise_correlation(frames)
    except InvalidInput:  # a short or tiny movie is no reason to complain
        return None
    return {
        "kind": found.kind,
        "along_row": found.along_row,
        "across_rows": found.across_rows,
        "row": found.row,
        "time": found.time,
        "limit": found.limit,
        "warning": found.warning(),
    }
