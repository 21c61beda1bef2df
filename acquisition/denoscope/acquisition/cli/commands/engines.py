"""``denoscope engines``: what lies in the folder of engines."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from denoscope.acquisition.cli.shell import DebugOption, JsonOption, QuietOption, Shell

if TYPE_CHECKING:
    from denoscope.runtime.engines import EngineCache

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

    def run() -> tuple[dict[str, Any], int]:
        from denoscope.runtime import InvalidInput
        from denoscope.runtime.engines import EngineCache

        if everything and action is not EnginesAction.PRUNE:
            raise InvalidInput(f"--all goes with prune, not with {action}: leave it out.")
        folder = EngineCache(cache)
        shell.say(str(folder.folder))
        if action is EnginesAction.PRUNE:
            return _prune(shell, folder, everything=everything)
        return _report(shell, folder, strict=action is EnginesAction.VERIFY)

    shell.run(run)


def _report(shell: Shell, cache: EngineCache, *, strict: bool) -> tuple[dict[str, Any], int]:
    found = []
    for state in cache.verify():
        manifest = state.manifest
        if manifest is None:
            what = "unknown"
        else:
            spec = manifest.spec
            sizes = ", ".join(str(profile) for profile in spec.profiles)
            what = (
                f"{manifest.bundle} {spec.graph} for {spec.target}, {sizes}, {manifest.size / 1e6:.1f} MB, "
                f"{spec.flavour} {spec.flavour_version}, {manifest.created}"
            )
        shell.say(f"{state.path.stem[:12]}  {what}: {state.problem or 'good'}")
        found.append(
            {
                "path": str(state.path),
                "problem": state.problem,
                "manifest": None if manifest is None else manifest.model_dump(mode="json"),
            }
        )
    bad = sum(entry["problem"] is not None for entry in found)
    shell.say(f"{len(found) - bad} good, {bad} unusable" if found else "no engine was built yet")
    return {"folder": str(cache.folder), "engines": found}, 1 if strict and bad else 0


def _prune(shell: Shell, cache: EngineCache, *, everything: bool) -> tuple[dict[str, Any], int]:
    from denoscope.export import installed_versions

    gone = cache.prune(installed_versions(), everything=everything)
    for path, reason in gone:
        shell.say(f"{path.stem[:12]}  deleted: {reason}")
    shell.say(f"{len(gone)} deleted")
    deleted = [{"path": str(path), "reason": reason} for path, reason in gone]
    return {"folder": str(cache.folder), "deleted": deleted}, 0
