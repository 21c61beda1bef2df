"""``denoscope build``: engines of a bundle for GPUs that need not be in this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from denoscope.acquisition.cli.shell import DebugOption, JsonOption, QuietOption, Shell

if TYPE_CHECKING:
    from denoscope.export import EnginePlan
    from denoscope.runtime.engines import CachedEngine, EngineCache

__all__ = ["build"]


def build(
    bundle: Annotated[str, typer.Argument(help="Bundle to build (name or folder).")],
    targets: Annotated[
        str,
        typer.Option("--for", help="GPUs or compute capabilities, for example rtx3060,rtx4090,sm120."),
    ],
    size: Annotated[
        list[str] | None, typer.Option(help="Frame size HEIGHTxWIDTH to be fastest at; again for more.")
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

    def action() -> tuple[dict[str, Any], int]:
        from denoscope.export import parse_range, parse_size, parse_targets, plan_engines
        from denoscope.runtime import Bundle
        from denoscope.runtime.engines import EngineCache

        plans = plan_engines(
            Bundle.load(bundle),
            parse_targets(targets),
            [parse_size(text) for text in size or []],
            dynamic=None if dynamic is None else parse_range(dynamic),
            flavour=flavour,
            tf32=tf32,
        )
        for why in dict.fromkeys(plan.why for plan in plans):
            shell.say(why)
        folder = EngineCache(cache)
        engines: list[CachedEngine] = []
        code = 0
        try:
            _build_all(shell, plans, folder, engines)
        except KeyboardInterrupt:
            code = 130
        built = sum(engine.built for engine in engines)
        shell.say(
            f"{'interrupted: ' if code else ''}{built} of {len(plans)} built, "
            f"{len(engines) - built} were already there: {folder.folder}"
        )
        return {"folder": str(folder.folder), "engines": [_record(engine) for engine in engines]}, code

    shell.run(action)


def _build_all(
    shell: Shell, plans: tuple[EnginePlan, ...], cache: EngineCache, engines: list[CachedEngine]
) -> None:
    """Build in order and append each finished engine to `engines`, which is kept if the user stops it."""
    from denoscope.export import build_engine

    with _bar(shell, len(plans)) as show:
        for index, plan in enumerate(plans):
            what = f"{plan.spec.graph} for {plan.spec.target}"

            def progress(done: float, phase: str, what: str = what, index: int = index) -> None:
                show(index + done, f"{what}: {phase}")

            def waiting(what: str = what, index: int = index) -> None:
                show(index, f"{what}: another process is building, waiting for it")

            show(index, what)
            engines.append(build_engine(plan, cache, on_progress=progress, on_wait=waiting))
            shell.say(_line(engines[-1]))
        show(len(plans), "")


@contextmanager
def _bar(shell: Shell, total: int) -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(
        TextColumn("building"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        console=Console(file=shell.stream),
        disable=shell.quiet or not shell.stream.isatty(),
        transient=True,
    ) as bar:
        task = bar.add_task("", total=total)
        yield lambda done, text: bar.update(task, completed=done, description=text)


def _line(engine: CachedEngine) -> str:
    spec = engine.manifest.spec
    state = "already there"
    if engine.built:
        state = "built" if engine.reason == "not built yet" else f"built again, since {engine.reason}"
    sizes = ", ".join(str(profile) for profile in spec.profiles)
    return f"{spec.graph} for {spec.target}, {sizes}: {engine.manifest.size / 1e6:.1f} MB, {state}"


def _record(engine: CachedEngine) -> dict[str, Any]:
    return {
        "path": str(engine.path),
        "built": engine.built,
        "reason": engine.reason,
        **engine.manifest.model_dump(mode="json"),
    }
