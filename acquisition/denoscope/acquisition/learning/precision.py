"""A bundle in another precision, with the loss measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from denoscope.acquisition.errors import OutputExists
from denoscope.acquisition.extras import require
from denoscope.acquisition.raw.in_the_way import refuse_name

from .results import PrecisionExport, PrecisionLoss

if TYPE_CHECKING:
    from denoscope.export import ParityRow
    from denoscope.runtime import Bundle

__all__ = ["export_bundle_precision"]

_FRAMES = 96  # of the movie: what the measurement looks at


def export_bundle_precision(
    bundle: Bundle | Path | str,
    output: Path | str,
    precision: str = "fp16",
    *,
    calibrate: Path | str | None = None,
    force: bool = False,
    on_movie: Callable[[PrecisionLoss], None] | None = None,
) -> PrecisionExport:
    """Write a bundle in another precision, as ``denoscope export`` does; refused if that costs too much.

    Parameters
    ----------
    bundle
        Float32 bundle, its name or its folder.
    output
        Bundle folder to write, ``NAME.denoscope``.
    precision
        ``fp32``, ``fp16`` or ``bf16`` (for GPUs), or ``int8`` (GPUs and CPUs).
    calibrate
        Movie like the user's: measured on, and ``int8`` takes its ranges from it. None for the demo movie.
    force
        Write it even if it loses more than the limit (0.05 dB, ``int8``: 0.3 dB).
    on_movie
        Called with the loss on each movie.

    Returns
    -------
    PrecisionExport
        The bundle, and for each movie by how many dB it is worse than in float32.

    Raises
    ------
    OutputExists
        If `output` exists.
    InvalidInput
        If the precision is unknown, the bundle is in a lower one already, or the movie is too short.
    PrecisionRefused
        If it loses too much.

    Examples
    --------
    >>> from pathlib import Path
    >>> from denoscope.acquisition import export_bundle_precision
    >>> export_bundle_precision("live", Path("small.denoscope"), "int4")
    Traceback (most recent call last):
        ...
    denoscope.runtime.errors.InvalidInput: `precision` int4 is unknown: choose fp32, fp16, bf16 or int8.
    """
    require("torch", extra="train", purpose="measuring the loss")
    import numpy as np

    from denoscope.acquisition.sources.movies import demo_movie
    from denoscope.export import LOSS_LIMIT_DB
    from denoscope.export import export_precision as write
    from denoscope.runtime import Bundle, InvalidInput, counted, open_movie
    from denoscope.runtime.words import either

    output, calibrate = Path(output), None if calibrate is None else Path(calibrate)
    refuse_name(output)
    if output.exists():
        raise OutputExists(f"`output` {output} exists: name another folder.")
    if precision not in LOSS_LIMIT_DB:
        raise InvalidInput(f"`precision` {precision} is unknown: choose {either(LOSS_LIMIT_DB)}.")
    loaded = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
    if calibrate is None:
        demo = demo_movie()
        movie, name = demo.frames, demo.name
    else:
        movie, name = np.asarray(open_movie(calibrate, mapped=False)[:_FRAMES]), calibrate.name
        if len(movie) < loaded.manifest.calibration_frames:
            raise InvalidInput(
                f"`calibrate` {calibrate} has {counted(len(movie), 'frame')}: give a movie of at least "
                f"{loaded.manifest.calibration_frames}."
            )

    def measured(row: ParityRow) -> None:
        if on_movie is not None:
            on_movie(_loss(row))

    written, rows = write(
        loaded, output, precision, movie=movie, movie_name=name, force=force, on_movie=measured
    )
    return PrecisionExport(
        bundle=output,
        bundle_sha256=written.digest,
        precision=precision,
        limit_db=LOSS_LIMIT_DB[precision],
        movies=[_loss(row) for row in rows],
    )


def _loss(row: ParityRow) -> PrecisionLoss:
    return PrecisionLoss(**asdict(row), lost_db=row.lost_db)
