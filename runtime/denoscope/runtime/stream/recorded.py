"""A stream for a movie that was recorded: calibrated on the whole of it before its first frame is denoised."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from denoscope.runtime.artefacts.scanner import frames_to_measure, measure_scanner
from denoscope.runtime.errors import InvalidInput
from denoscope.runtime.motion.moves import moves_anywhere
from denoscope.runtime.types import FrameMeta
from denoscope.runtime.words import counted

if TYPE_CHECKING:
    from denoscope.runtime.movies import AnyMovie

    from .stream import Stream

__all__ = ["calibrate_stream"]


def calibrate_stream(stream: Stream, movie: AnyMovie) -> None:
    """Let a stream find out the movie's intensities, from its first frames, and whether it moves, there or later.

    Afterwards it is empty and behaves like one that was opened with its `intensity` and `tracks_motion`.

    Parameters
    ----------
    stream
        Opened without `intensity`; it has seen no frame yet.
    movie
        (T, H, W) raw counts.

    Raises
    ------
    InvalidInput
        If the movie holds nothing but NaN or infinite values.

    Examples
    --------
    >>> import numpy as np
    >>> from denoscope.runtime import Bundle, Stream, calibrate_stream
    >>> movie = np.random.default_rng(0).poisson(50, (40, 32, 32)).astype(np.uint16)
    >>> with Stream(Bundle.load("live-fast"), "onnxruntime-cpu") as stream:
    ...     calibrate_stream(stream, movie)
    ...     stream.intensity is not None
    True
    """
    first = min(stream.bundle.manifest.calibration_frames, len(movie))
    if stream.intensity is None:
        for number in range(len(movie)):
            stream.push(np.asarray(movie[number]), FrameMeta(number, 0.0), skip="calibration")
            if stream.intensity is not None:
                break  # frames of nothing but NaN do not count
        stream.flush(skip="calibration")
        if stream.intensity is None:
            raise InvalidInput(
                f"the {counted(len(movie), 'frame')} of the movie hold nothing but NaN or infinite values: choose "
                "another movie."
            )
        stream.use_scanner(measure_scanner(frames_to_measure(movie)))
    if stream.watches_for_motion:
        assert stream.intensity is not None
        stream.track_motion(moves_anywhere(movie, stream.intensity, first=first))
