"""Findings of a check of the computer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from denoscope.acquisition.results import Record

__all__ = ["Finding", "Findings", "Status"]


class Status(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    NOTE = "note"  # worth knowing, nothing to do
    IMPROVE = "improve"  # works, and the remedy would make it better
    BROKEN = "broken"  # would stop a recording


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    topic
        What it is about.
    status
        How much it matters.
    found
        What is there, in words.
    remedy
        The command, or the sentence, that would improve it; None where there is nothing to improve.
    facts
        The same as numbers and names, SI units in the keys.
    """

    topic: str
    status: Status
    found: str
    remedy: str | None = None
    facts: Mapping[str, object] = field(default_factory=dict)


class Findings(Record):
    """Result of `denoscope.acquisition.doctor`.

    Attributes
    ----------
    can_record
        Whether nothing would stop a recording.
    findings
        One for each thing that was looked at.
    denoscope, python, platform
        Versions, and the operating system.
    """

    schema_version: int = 2
    can_record: bool
    findings: list[Finding]
    denoscope: str
    python: str
    platform: str

    def of(self, status: Status) -> list[Finding]:
        """Return the findings of one status."""
        return [finding for finding in self.findings if finding.status is status]
