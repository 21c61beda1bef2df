"""``denoscope build``: engines of a bundle for GPUs that need not be in this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from denoscope.acquisition.cli.progress import ProgressLine
from denoscope.acquisition.cli.shell import DebugOption, JsonOption, QuietOption, Shell

if TYPE_CHECKING:
    from denoscope.acquisition.learning.results import BuiltEngine, BuiltEngines

__all__ = ["build"]


def build(
    bundle: Annotated[str, typer.Argument(help="Bundle to build (name or folder).")],
    targets: Annotated[
        str,
        typer.Option("--for", help="GPUs or compute capabilities, for example rtx3060,rtx4090,sm120."),
    ],
    size: Annotated[
        list[str] | None, typer.Option(help="Frame size HEIGHTxWIDTH to be fastest at; may be repeated.")
    ] = None,
    dynamic: Annotated[
        str | None, typer.Option(help="Any frame with sides in SMALLEST..LARGEST, for example 64..2048.")
    ] = None,
    flavour: Annotated[
        str,
        typer.Option(
            help="tensorrt_rtx (RTX GPUs, ahead of time), tensorrt (on the GPU itself), or auto.",
        ),
    ] = "auto",
    precision: Annotated[
        str,
        typer.Option(help="fp16: convolutions in half precision, faster; fp32: graphs as they are."),
    ] = "fp16",
    tf32: Annotated[
        bool, typer.Option("--tf32", help="Let float32 convolutions round to 10 bits: faster, less exact.")
    ] = False,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of engines, instead of your own cache folder.")
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Build a bundle's GPU engines ahead of time, on any machine."""
    shell = Shell(json=json, quiet=quiet, debug=debug)

    def action() -> tuple[BuiltEngines, int]:
        from denoscope.acquisition.learning.engines import BuildListener, build_engines
        from denoscope.runtime import counted

        with ProgressLine(shell, "building", "engine") as line:

            class Screen(BuildListener):
                """Print each engine, with a bar while it is built."""

                total = 1

                def planned(self, engines: int, reasons: Sequence[str]) -> None:
                    for why in reasons:
                        shell.say(why)
                    self.total = engines

                def progressed(self, done: float, text: str) -> None:
                    line.show(done, self.total, text)

                def finished(self, engine: BuiltEngine) -> None:
                    shell.say(_line(engine))

            screen = Screen()
            result = build_engines(
                bundle,
                targets,
                size=size or [],
                dynamic=dynamic,
                flavour=flavour,
                tf32=tf32,
                precision=precision,
                cache=cache,
                listener=screen,
            )
        built = sum(engine.built for engine in result.engines)
        if result.interrupted:
            there = f"{len(result.engines)} of {counted(screen.total, 'engine')}"
            shell.complain(f"interrupted; {result.folder} holds {there}; the same command builds the others")
            return result, 130
        shell.say(f"{built} built, {len(result.engines) - built} were already there: {result.folder}")
        return result, 0

    shell.run(action)


def _line(engine: BuiltEngine) -> str:
    state = "already there"
    if engine.built:
        state = "built" if engine.reason == "not built yet" else f"built again, since {engine.reason}"
    sizes = ", ".join(str(profile) for profile in engine.spec.profiles)
    return f"{engine.spec.graph} for {engine.spec.target}, {sizes}: {engine.size / 1e6:.1f} MB, {state}"
