"""Denoise a recorded movie: every frame, nothing skipped, memory for a few frames only."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ._disk import check_space
from ._errors import OutputExists
from ._frames import SourceInfo
from ._lane import Stamp
from ._live import provenance_of
from ._noise_check import check_noise
from ._ome import DenoisedWriter
from ._pages import PageFile

if TYPE_CHECKING:
    from denoscope.runtime import CameraCalibration, Denoised, Stream

__all__ = ["denoise_movie"]

_RESERVE_BYTES = 200_000_000


def denoise_movie(
    movie: Path,
    output: Path,
    *,
    bundle: str = "live",
    backend: str = "auto",
    look_ahead: int | None = None,
    std: Path | None = None,
    channel: str | None = None,
    plane: str | None = None,
    position: str | None = None,
    camera: CameraCalibration | None = None,
    on_frame: Callable[[int, int], None] = lambda _done, _total: None,
) -> dict[str, Any]:
    """Denoise a movie into an OME-TIFF of the same dtype and scale, frame by frame.

    Parameters
    ----------
    movie
        Of any format that `denoscope.runtime.open_movie` opens; a recording's ``raw.tif`` is one.
    output
        OME-TIFF to write; it appears under this name when it is complete.
    bundle, backend, look_ahead
        As for `denoscope.runtime.Stream`.
    std
        BigTIFF to write with the predicted standard deviation, float32, in the movie's units.
    channel, plane, position
        Which, where the movie has several.
    camera
        Calibration to correct the frames with; the output then is float32, in photo-electrons.
    on_frame
        Called with the number of frames done, and of all.

    Returns
    -------
    dict
        ``output``, ``std``, ``frames``, ``frame_s`` (mean time a frame), ``noise`` (see `check_noise`),
        ``denoiser`` (provenance).

    Raises
    ------
    DenoscopeError
        If the movie, the bundle, the backend or the disk do not allow it.
    """
    from denoscope.runtime import FrameMeta, LazyMovie, Stream, open_movie

    for path in filter(None, (output, std)):
        if path.exists():
            raise OutputExists(f"{path} exists and is never overwritten; name another file.")
        if not path.parent.is_dir():
            raise OutputExists(f"the folder {path.parent} for {path.name} does not exist; make it first.")
    frames = open_movie(movie, channel=channel, plane=plane, position=position)
    note = frames.note if isinstance(frames, LazyMovie) else ""
    noise = check_noise(frames, camera)
    if camera is not None:
        frames = camera.correct_movie(frames)
    length = len(frames)
    info = SourceInfo("file", movie.name, "", (frames.shape[1], frames.shape[2]), frames.dtype, frames=length)
    per_frame = info.frame_bytes + (4 * info.shape[0] * info.shape[1] if std else 0)
    check_space(output.parent, info, -(-length * per_frame // info.frame_bytes), _RESERVE_BYTES)
    partial = output.with_name(output.name + ".partial")
    partial_std = None if std is None else std.with_name(std.name + ".partial")
    started = time.perf_counter()
    with ExitStack() as stack:
        stream: Stream = stack.enter_context(
            Stream(bundle, backend, look_ahead=look_ahead, std=std is not None)
        )
        for path in filter(None, (partial, partial_std)):
            path.unlink(missing_ok=True)  # of a run that was interrupted
        provenance = provenance_of(stream) | {
            "movie": movie.name,
            "camera": None if camera is None else camera.describe(),
        }
        writer = DenoisedWriter(output.parent, info, provenance, file_name=partial.name, timed=False)
        stack.callback(writer.close)
        deviations = None if partial_std is None else stack.enter_context(PageFile(partial_std))
        done = 0

        def write(outputs: Iterable[Denoised]) -> None:
            nonlocal done
            for out in outputs:
                writer.append(out, Stamp(out.meta.number, 0.0, None, 0.0))
                if deviations is not None:
                    assert out.std is not None
                    deviations.append(out.std)
                done += 1
                on_frame(done, length)

        for number in range(length):
            meta = FrameMeta(number=number, t_received_s=time.perf_counter())
            write(stream.push(np.asarray(frames[number]), meta))
        write(stream.flush())
        writer.length = length
        assert stream.intensity is not None
        provenance |= {"intensity": stream.intensity.model_dump(), "aligned": stream.aligned}
    partial.replace(output)
    if std is not None and partial_std is not None:
        partial_std.replace(std)
    return {
        "output": str(output),
        "std": None if std is None else str(std),
        "frames": done,
        "frame_s": (time.perf_counter() - started) / max(done, 1),
        "movie_note": note,
        "noise": noise,
        "denoiser": provenance,
    }
