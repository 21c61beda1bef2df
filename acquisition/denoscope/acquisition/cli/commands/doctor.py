"""``denoscope doctor``: what this computer has, what is broken, and what would make it better."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from denoscope.acquisition.cli.shell import DebugOption, JsonOption, QuietOption, Shell

__all__ = ["doctor"]

_WIDTH = 110
_STYLES = {"ok": "green", "note": "default", "improve": "yellow", "broken": "bold red"}


def doctor(
    output: Annotated[
        Path,
        typer.Option(
            help="Folder that recordings would be written to, which must exist; a small file tries its disk."
        ),
    ] = Path(),
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Say what this computer has, what would stop a recording (exit code 1), and what would improve it."""
    shell = Shell(json=json, quiet=quiet, debug=debug)

    def action() -> tuple[dict[str, Any], int]:
        from denoscope.acquisition.diagnostics.checks import doctor as run
        from denoscope.runtime import InvalidInput, bad_link

        if (why := bad_link(output)) is not None:
            raise InvalidInput(f"--output cannot be used: {why}; name a folder.")
        if not output.exists():
            raise InvalidInput(
                f"--output {output} does not exist: name a folder that does, on the disk that recordings would be "
                "written to."
            )
        if not output.is_dir():
            raise InvalidInput(
                f"--output {output} is a file: name a folder, on the disk that recordings would be written to."
            )
        report = run(output)
        if not shell.quiet:
            _print(shell, report)
        return report, 0 if report["can_record"] else 1

    shell.run(action)


def _print(shell: Shell, report: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=shell.stream, width=_WIDTH)
    table = Table(
        title=f"denoscope {report['denoscope']}, Python {report['python']}, {report['platform']}",
        title_justify="left",
    )
    for title in ("topic", "", "found"):
        table.add_column(title)
    for finding in report["findings"]:
        status = str(finding["status"])
        table.add_row(finding["topic"], Text(status, style=_STYLES[status]), Text(finding["found"]))
    console.print(table)
    for finding in report["findings"]:
        if finding["remedy"] and finding["status"] != "ok":
            # Not wrapped, so that a command can be copied.
            shell.say(f"{finding['topic']} ({finding['status']}): {finding['remedy']}")
    broken = [finding["topic"] for finding in report["findings"] if finding["status"] == "broken"]
    shell.say(
        f"A recording would be stopped by: {', '.join(broken)}." if broken else "Nothing stops a recording."
    )
