"""``denoscope bench``: how long a frame takes from the camera to its denoised output."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from denoscope.acquisition.cli.shell import DebugOption, JsonOption, QuietOption, Shell
from denoscope.runtime import counted

if TYPE_CHECKING:
    from denoscope.acquisition.bench.cases import Case

__all__ = ["bench"]


def bench(
    output: Annotated[Path, typer.Option(help="Folder for bench.json, bench.md and bench.png.")],
    bundle: Annotated[
        list[str] | None, typer.Option(help="Bundle (name or folder); may be repeated.")
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(help="Backend's name, or auto; may be repeated. Without it every one that runs here."),
    ] = None,
    size: Annotated[
        list[str] | None, typer.Option(metavar="HxW", help="Frame size in pixels; may be repeated.")
    ] = None,
    look_ahead: Annotated[
        list[int] | None, typer.Option(help="Frames to wait for after each frame; may be repeated.")
    ] = None,
    fps: Annotated[float, typer.Option(help="Frames per second of the camera's clock.")] = 30.0,
    frames: Annotated[int, typer.Option(help="Measured frames a case, after the warm-up.")] = 300,
    threads: Annotated[int | None, typer.Option(help="Threads of the backend.")] = None,
    align: Annotated[bool, typer.Option("--align", help="Follow the motion of the scene too.")] = False,
    highest_rate: Annotated[bool, typer.Option(help="Search for the highest rate that is sustained.")] = True,
    compare: Annotated[
        str | None,
        typer.Option(help="`whole-window`: measure each bundle without the streaming split as well."),
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="bench.json of an earlier run to compare with, as ratios.")
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Measure latency from camera to output, by a clock that never waits, and the rate that is sustained."""
    shell = Shell(json=json, quiet=quiet, debug=debug)

    def action() -> tuple[dict[str, Any], int]:
        from denoscope.acquisition.bench.cases import plan_cases
        from denoscope.acquisition.bench.run import PICTURE, REPORT, TABLES
        from denoscope.acquisition.bench.run import bench as run
        from denoscope.acquisition.bench.tables import line
        from denoscope.acquisition.bench.whole_window import whole_window
        from denoscope.runtime import Bundle, InvalidInput

        if compare not in (None, "whole-window"):
            raise InvalidInput(f"--compare {compare} is not known: the one comparison is whole-window.")
        bundles: list[str | Path] = [*(bundle or ["live"])]
        if compare is not None:
            for split in [Bundle.load(b) for b in bundles]:
                folder = output / "whole-window" / f"{split.manifest.name}.denoscope"
                bundles.append(whole_window(split, folder).folder)
        cases, left_out = plan_cases(
            bundles,
            backend or [],
            size or ["256x256", "512x512"],
            look_ahead or [],
            fps=fps,
            frames=frames,
            align=align,
            threads=threads,
            highest_rate=highest_rate,
        )

        def on_case(position: int, case: Case, result: Mapping[str, Any] | None) -> None:
            if result is not None:
                shell.say(line(result))
            else:
                shell.say(
                    f"[{position + 1}/{len(cases)}] {case.label}, {counted(frames, 'frame')} at {fps:g} frames/s ..."
                )

        report = run(cases, output, left_out=left_out, against=against, on_case=on_case)
        for name, reason in left_out.items():
            shell.say(f"{name} was not measured: {reason}")
        for note in report["notes"]:
            shell.say(f"Note: {note}")
        for pair in report["whole_window"]:
            ratio = pair["ratios"]["push_p50"]
            said = "not known: no push gave an output" if ratio is None else f"{ratio:.2f}"
            shell.say(f"{pair['label']}, a push of the whole window / one with the streaming split: {said}")
        comparison = report["comparison"]
        if comparison is not None:
            for case in comparison["cases"]:
                found = {n: r for n, r in case["ratios"].items() if r is not None}
                shell.say(
                    f"{case['label']}, this run / {comparison['against']}: "
                    + ", ".join(f"{name} {ratio:.2f}" for name, ratio in found.items())
                )
            if comparison["differences"]:
                shell.say("Not everything else was equal: " + "; ".join(comparison["differences"]))
        shell.say(
            f"Wrote {', '.join(n for n in (REPORT, TABLES, PICTURE) if (output / n).exists())} to {output}"
        )
        return report, 1 if any(result.get("problem") for result in report["cases"]) else 0

    shell.run(action)
