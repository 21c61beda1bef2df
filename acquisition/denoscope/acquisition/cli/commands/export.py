"""``denoscope export``: a bundle in another precision, with the loss measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from denoscope.acquisition.cli.shell import DebugOption, JsonOption, QuietOption, Shell
from denoscope.acquisition.extras import require
from denoscope.runtime import counted

__all__ = ["export"]

_FRAMES = 96  # of the movie: what the measurement looks at


def export(
    bundle: Annotated[str, typer.Argument(help="Float32 bundle (name or folder).")],
    output: Annotated[Path, typer.Option(help="Bundle folder to write, NAME.denoscope.")],
    precision: Annotated[
        str, typer.Option(help="fp32, fp16 or bf16 (for GPUs), or int8 (GPUs and CPUs).")
    ] = "fp16",
    calibrate: Annotated[
        Path | None,
        typer.Option(
            help="A movie like yours: measured on, and int8 takes its ranges from it; else the demo's."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write it even if it loses too much.")] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a bundle in another precision; refused if that costs too much (0.05 dB, int8: 0.3 dB)."""
    shell = Shell(json=json, quiet=quiet, debug=debug)

    def action() -> tuple[dict[str, Any], int]:
        require("torch", extra="train", purpose="measuring the loss")
        import numpy as np

        from denoscope.acquisition.sources.movies import demo_movie
        from denoscope.export import LOSS_LIMIT_DB, export_precision
        from denoscope.runtime import Bundle, InvalidInput, open_movie

        if output.exists():
            raise InvalidInput(f"--output {output} exists: name another folder.")
        if precision not in LOSS_LIMIT_DB:
            raise InvalidInput(f"--precision {precision} is unknown: choose {' or '.join(LOSS_LIMIT_DB)}.")
        loaded = Bundle.load(bundle)
        if calibrate is None:
            demo = demo_movie()
            movie, name = demo.frames, demo.name
        else:
            movie, name = np.asarray(open_movie(calibrate)[:_FRAMES]), calibrate.name
            if len(movie) < loaded.manifest.calibration_frames:
                raise InvalidInput(
                    f"--calibrate {calibrate} has {counted(len(movie), 'frame')}: give a movie of at least "
                    f"{loaded.manifest.calibration_frames}."
                )
        written, rows = export_precision(
            loaded,
            output,
            precision,
            movie=movie,
            movie_name=name,
            force=force,
            on_movie=lambda row: shell.say(
                f"{row.movie}: {row.reference_db:.2f} dB with torch in float32, {row.lost_db:.4f} dB lost in "
                f"{precision}, differences {row.rms_error:.1e} of the noise (largest {row.max_error:.1e})"
            ),
        )
        shell.say(f"Bundle: {output}")
        return {
            "bundle": str(output),
            "bundle_sha256": written.digest,
            "precision": precision,
            "limit_db": LOSS_LIMIT_DB[precision],
            "movies": [row.to_dict() for row in rows],
        }, 0

    shell.run(action)
