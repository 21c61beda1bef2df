"""``denoscope doctor``: what this computer has, what is broken, and what would make it better."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from denoscope.acquisition.cli.shell import DebugOption, JsonOption, QuietOption, Shell
from denoscope.acquisition.cli.visible import visible

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
    """Say whether this computer can record, each thing once, then what to do."""
    from rich.console import Console
    from rich.text import Text

    console = Console(file=shell.stream)
    if report.can_record:
        shell.say("Ready to record.")
    else:
        broken = ", ".join(finding.topic for finding in report.findings if finding.status.value == "broken")
        shell.say(f"Not ready to record: repair {broken}, then run denoscope doctor again.")
    shell.say(f"denoscope {report.denoscope}, Python {report.python}, {report.platform}")
    for status, topic, found in _grouped(report):
        first, *rest = textwrap.wrap(
            visible(f"{topic}: {found}"), max(console.width - 10, 30), break_on_hyphens=False
        ) or [topic]
        console.print(Text(f"{status:<9}", style=_STYLES[status]) + Text(first), soft_wrap=True)
        for line in rest:
            console.print(Text(" " * 9 + line), soft_wrap=True)
    for word, status in (("repair", "broken"), ("improve", "improve")):
        for finding in report.findings:
            if finding.remedy and finding.status.value == status:
                # Not wrapped, so that a command can be copied.
                shell.say(f"To {word} {finding.topic}: {finding.remedy}")
    if report.can_record:
        shell.say("To try it: denoscope demo")


def _grouped(report: Findings) -> Iterator[tuple[str, str, str]]:
    """Yield status, topics and text, backends and bundles of which the same is true in one line."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for finding in report.findings:
        kind, _, name = finding.topic.partition(" ")
        grouped = kind in ("backend", "bundle")
        # Why better backends cannot run stands in their own lines.
        found = finding.found.partition("; better ones")[0]
        key = finding.status.value, kind if grouped else finding.topic, found
        groups.setdefault(key, []).append(name if grouped else "")
    for (status, kind, found), names in groups.items():
        yield status, f"{kind}{'s' if len(names) > 1 else ''} {', '.join(names)}".strip(), found
