"""``denoscope export``: a bundle in a lower precision, with the loss measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from denoscope.acquisition._extras import require
from denoscope.acquisition._shell import DebugOption, JsonOption, QuietOption, Shell

__all__ = ["export"]


def export(
    bundle: Annotated[str, typer.Argument(help="Float32 bundle (name or folder).")],
    output: Annotated[Path, typer.Option(help="Bundle folder to write, NAME.denoscope.")],
    precision: Annotated[str, typer.Option(help="fp16: half precision for GPUs.")] = "fp16",
    force: Annotated[bool, typer.Option("--force", help="Write it even if it loses too much.")] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a bundle in a lower precision; refused if that costs more than 0.05 dB."""
    shell = Shell(json=json, quiet=quiet, debug=debug)

    def action() -> tuple[dict[str, Any], int]:
        require("torch", extra="train", purpose="measuring the loss")
        from denoscope.export import LOSS_LIMIT_DB, export_precision
        from denoscope.runtime import Bundle, InvalidInput

        if output.exists():
            raise InvalidInput(f"--output {output} exists: name another folder.")
        written, rows = export_precision(
            Bundle.load(bundle),
            output,
            precision,
            force=force,
            on_movie=lambda row: shell.say(
                f"{row.movie}: {row.reference_db:.2f} dB in float32, {row.lost_db:.4f} dB lost in {precision}, "
                f"differences {row.rms_error:.1e} of the noise (largest {row.max_error:.1e})"
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
