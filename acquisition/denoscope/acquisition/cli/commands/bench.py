"""``denoscope bench``: how long a frame takes from the camera to its denoised output."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from denoscope.acquisition.cli.flags import with_flags
from denoscope.acquisition.cli.progress import ProgressLine
from denoscope.acquisition.cli.shell import DebugOption, JsonOption, QuietOption, Shell
from denoscope.acquisition.processes.signals import CommandEnd

if TYPE_CHECKING:
    from denoscope.acquisition.bench.cases import Case
    from denoscope.acquisition.bench.results import Benchmark, CaseResult

__all__ = ["bench"]


def bench(
    output: Annotated[Path, typer.Option(help="Folder for bench.json, bench.md and bench.png.")],
    bundle: Annotated[
        list[str] | None, typer.Option(help="Bundle (name or folder); may be repeated.")
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            help="auto, or a backend that denoscope doctor names; may be repeated. Default: every one that runs here."
        ),
    ] = None,
    size: Annotated[
        list[str] | None, typer.Option(metavar="HxW", help="Frame size in pixels; may be repeated.")
    ] = None,
    look_ahead: Annotated[
        list[int] | None, typer.Option(help="Later frames that each output uses; may be repeated.")
    ] = None,
    fps: Annotated[float, typer.Option(help="Frames per second of the simulated camera.")] = 30.0,
    frames: Annotated[int, typer.Option(help="Frames to measure in each case.")] = 300,
    threads: Annotated[int | None, typer.Option(help="Processor threads to denoise with.")] = None,
    align: Annotated[bool, typer.Option("--align", help="Track the motion of the scene too.")] = False,
    highest_rate: Annotated[bool, typer.Option(help="Search for the highest frame rate.")] = True,
    in_process: Annotated[
        bool,
        typer.Option("--in-process", help="Denoise in the measuring process; live uses another one."),
    ] = False,
    compare: Annotated[
        str | None,
        typer.Option(
            help="whole-window: also measure each bundle without reusing features of earlier frames."
        ),
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="bench.json of an earlier run to compare with.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the benchmark that the folder holds.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted run, if there is one.")
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Measure delay and the highest frame rate."""
    shell = Shell(json=json, quiet=quiet, debug=debug)

    def action() -> tuple[Benchmark | dict[str, object], int]:
        from denoscope.acquisition import benchmark
        from denoscope.acquisition.bench.against import read_report
        from denoscope.acquisition.bench.run import PICTURE, REPORT, TABLES
        from denoscope.acquisition.bench.tables import line, sentences
        from denoscope.runtime import counted

        measured = False

        def on_case(position: int, count: int, case: Case, result: CaseResult | None) -> None:
            nonlocal measured
            measured |= result is not None
            if result is None:
                progress.show(position, count, case.label)
            else:
                progress.interrupt()
                shell.say(line(result))

        with ProgressLine(shell, "measuring", "case", waits=False) as progress:
            try:
                report = benchmark(
                    output,
                    bundles=bundle or ["live"],
                    backends=backend or [],
                    sizes=size or ["256x256", "512x512"],
                    look_aheads=look_ahead or [],
                    fps=fps,
                    frames=frames,
                    threads=threads,
                    align=align,
                    highest_rate=highest_rate,
                    in_process=in_process,
                    compare=compare,
                    against=against,
                    overwrite=overwrite,
                    resume=resume,
                    on_case=on_case,
                )
            except KeyboardInterrupt:
                CommandEnd.is_near()
                kept = "nothing was measured"
                if measured or (resume and (output / REPORT).exists()):
                    there = len(read_report(output).cases)
                    kept = f"{output / REPORT} holds {counted(there, 'case')}; add `resume` to go on"
                text = with_flags(f"interrupted; {kept}")
                shell.complain(text)
                return {"error": text, "exit_code": 130}, 130
        for sentence in sentences(report):
            shell.say(sentence)
        written = ", ".join(n for n in (REPORT, TABLES, PICTURE) if (output / n).exists())
        shell.say(f"Wrote {written} to {output}")
        return report, int(not report.complete)

    shell.run(action)
