"""Findings of a check of the computer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

__all__ = ["Finding", "Status"]


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
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "topic": self.topic,
            "status": self.status.value,
            "found": self.found,
            "remedy": self.remedy,
            "facts": dict(self.facts),
        }
