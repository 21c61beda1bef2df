"""``denoscope engines``: what lies in the folder of engines."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from denoscope.acquisition.cli.shell import DebugOption, JsonOption, QuietOption, Shell

if TYPE_CHECKING:
    from denoscope.acquisition.learning.results import DeletedEngines, EngineCheck, EngineChecks

__all__ = ["engines"]


class EnginesAction(StrEnum):
    """Action on the folder."""

    LIST = "list"
    VERIFY = "verify"
    PRUNE = "prune"


def engines(
    action: Annotated[
        EnginesAction,
        typer.Argument(help="list, verify (exit code 1 if one is unusable), or prune (delete the useless)."),
    ] = EnginesAction.LIST,
    everything: Annotated[bool, typer.Option("--all", help="prune: delete the good ones too.")] = False,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of engines, instead of your own cache folder.")
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """List, verify or prune the engines that were built on this machine."""
    shell = Shell(json=json, quiet=quiet, debug=debug)

    def run() -> tuple[DeletedEngines | EngineChecks, int]:
        from denoscope.acquisition.learning.engines import check_engines, prune_engines
        from denoscope.runtime import InvalidInput

        if everything and action is not EnginesAction.PRUNE:
            raise InvalidInput(f"--all goes with prune, not with {action}: leave it out.")
        if action is EnginesAction.PRUNE:
            gone = prune_engines(cache, everything=everything)
            shell.say(str(gone.folder))
            for engine in gone.deleted:
                shell.say(f"{engine.path.stem[:12]}  deleted: {engine.reason}")
            shell.say(f"{len(gone.deleted)} deleted")
            return gone, 0
        checks = check_engines(cache)
        shell.say(str(checks.folder))
        for check in checks.engines:
            shell.say(f"{check.path.stem[:12]}  {_what(check)}: {check.problem or 'good'}")
        good, bad = len(checks.engines) - checks.unusable, checks.unusable
        shell.say(f"{good} good, {bad} unusable" if checks.engines else "no engine was built yet")
        strict = action is EnginesAction.VERIFY
        return checks, 1 if strict and bad else 0

    shell.run(run)


def _what(check: EngineCheck) -> str:
    manifest = check.manifest
    if manifest is None:
        return "unknown"
    spec = manifest.spec
    sizes = ", ".join(str(profile) for profile in spec.profiles)
    return (
        f"{manifest.bundle} {spec.graph} for {spec.target}, {sizes}, {manifest.size / 1e6:.1f} MB, "
        f"{spec.flavour} {spec.flavour_version}, {manifest.created}"
    )
