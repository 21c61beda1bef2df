"""``denoscope doctor``: what this computer has, what is broken, and what would make it better."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from denoscope.acquisition.cli.shell import DebugOption, JsonOption, QuietOption, Shell

if TYPE_CHECKING:
    from denoscope.acquisition.diagnostics.finding import Findings

__all__ = ["doctor"]

_STYLES = {"ok": "green", "note": "default", "improve": "yellow", "broken": "bold red"}


def doctor(
    output: Annotated[
        Path,
        typer.Option(help="Existing folder for recordings; a small test file measures its disk."),
    ] = Path(),
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Check this computer: what works, what to repair, what to improve. Exit code 1: it cannot record."""
    shell = Shell(json=json, quiet=quiet, debug=debug)

    def action() -> tuple[Findings, int]:
        from denoscope.acquisition.diagnostics.checks import doctor as run

        report = run(output)
        if not shell.quiet:
            _print(shell, report)
        return report, 0 if report.can_record else 1

    shell.run(action)


def _print(shell: Shell, report: Findings) -> None:
    """Say each thing once, then what to do."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=shell.stream)
    shell.say(f"denoscope {report.denoscope}, Python {report.python}, {report.platform}")
    table = Table(show_header=False, show_edge=False, pad_edge=False, box=None)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for finding in report.findings:
        status = finding.status.value
        table.add_row(Text(status, style=_STYLES[status]), Text(finding.topic), Text(finding.found))
    console.print(table)
    for finding in report.findings:
        if finding.remedy and finding.status.value == "broken":
            # Not wrapped, so that a command can be copied.
            shell.say(f"To repair {finding.topic}: {finding.remedy}")
    for finding in report.findings:
        if finding.remedy and finding.status.value == "improve":
            shell.say(f"To improve {finding.topic}: {finding.remedy}")
    if report.can_record:
        shell.say("Ready to record. Try it: denoscope demo")
    else:
        broken = ", ".join(finding.topic for finding in report.findings if finding.status.value == "broken")
        shell.say(f"Not ready to record: repair {broken} first, then run denoscope doctor again.")
