"""``denoscope export``: a bundle in another precision, with the loss measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from denoscope.acquisition.cli.shell import DebugOption, JsonOption, QuietOption, Shell

if TYPE_CHECKING:
    from denoscope.acquisition.learning.results import PrecisionExport, PrecisionLoss

__all__ = ["export"]


def export(
    bundle: Annotated[str, typer.Argument(help="Float32 bundle (name or folder).")],
    output: Annotated[Path, typer.Option(help="Bundle folder to write, NAME.denoscope.")],
    precision: Annotated[
        str, typer.Option(help="fp32, fp16 or bf16 (for GPUs), or int8 (GPUs and CPUs).")
    ] = "fp16",
    calibrate: Annotated[
        Path | None,
        typer.Option(
            help="A movie like yours, to measure the loss on; int8 is adjusted to it (default: the demo movie)."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write it even if it loses too much.")] = False,
    details: Annotated[bool, typer.Option("--details", help="Print the differences too.")] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a bundle in another precision, if it loses less than 0.05 dB (int8: 0.3 dB)."""
    shell = Shell(json=json, quiet=quiet, debug=debug)

    def action() -> tuple[PrecisionExport, int]:
        from denoscope.acquisition.learning.precision import export_bundle_precision

        def measured(loss: PrecisionLoss) -> None:
            change = f"loses {loss.lost_db:.4f} dB" if loss.lost_db > 0 else "loses nothing"
            numbers = ""
            if details:
                numbers = (
                    f" ({loss.reference_db:.2f} dB in float32; differences {loss.rms_error:.1e} of the noise, "
                    f"largest {loss.max_error:.1e})"
                )
            shell.say(f"{loss.movie}: {precision} {change}{numbers}")

        result = export_bundle_precision(
            bundle, output, precision, calibrate=calibrate, force=force, on_movie=measured
        )
        worst = max(loss.lost_db for loss in result.movies)
        fine = worst <= result.limit_db
        shell.say(
            f"{'fine' if fine else 'do not trust'}: {precision} loses {_at_most(worst)} dB "
            f"({result.limit_db:g} dB is the limit)."
        )
        shell.say(f"Bundle: {result.bundle}")
        return result, 0

    shell.run(action)


def _at_most(lost_db: float) -> str:
    return f"at most {lost_db:.3f}" if lost_db >= 0.001 else "less than 0.001"
