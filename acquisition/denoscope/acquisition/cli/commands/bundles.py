"""``denoscope bundles``: the bundles that ship with the package."""

from __future__ import annotations

from typing import Any

from denoscope.acquisition.cli.shell import DebugOption, JsonOption, QuietOption, Shell
from denoscope.runtime import counted

__all__ = ["bundles"]


def bundles(json: JsonOption = False, quiet: QuietOption = False, debug: DebugOption = False) -> None:
    """List the bundles that ship with the package."""
    shell = Shell(json=json, quiet=quiet, debug=debug)

    def action() -> tuple[dict[str, Any], int]:
        from denoscope.runtime import Bundle, list_bundles

        found = []
        for name in list_bundles():
            manifest = Bundle.load(name).manifest
            found.append(
                {
                    "name": name,
                    "method": manifest.method,
                    "window": manifest.window,
                    "look_ahead": manifest.look_ahead,
                    "trained_on": list(manifest.trained_on),
                    "quality": [record.model_dump() for record in manifest.quality],
                    "license": manifest.license,
                }
            )
            shell.say(
                f"{name}: {manifest.method}, window of {counted(manifest.window, 'frame')}, look-ahead "
                f"{manifest.look_ahead}, "
                f"trained on {', '.join(manifest.trained_on)}"
            )
        if not found:
            shell.say("no bundle ships with this installation")
        return {"bundles": found}, 0

    shell.run(action)
