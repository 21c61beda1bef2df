"""Facts about a movie that a denoiser finds out and another is told: plain values that cross processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

__all__ = ["UNKNOWN", "MovieFacts", "SameTreatment", "same_treatment"]

Plain = Mapping[str, object]
"""A pydantic model as plain values (`model_dump`)."""


class MovieFacts(TypedDict, total=False):
    """Facts about a movie that its denoiser found out while recording.

    Attributes
    ----------
    intensity, intensity_provisional, intensity_refinements
        Transform of the first stream (`Intensity`), None before it is known; whether it is from fewer frames than
        wanted; and how often any stream has replaced its own.
    scanner
        Artefacts of the scanner (`ScannerArtefacts`), None before they are known.
    aligned, followed_since
        Whether motion is tracked, and the number of the frame from which it is, where the scene began to move.
    guard
        Denoised frames that are not to be trusted (`GuardFinding`).
    backend, backend_reason, backends_rejected, backend_details
        As in `Provenance`; there only where they are not those that the denoiser was opened with.
    """

    intensity: Plain | None
    intensity_provisional: bool | None
    intensity_refinements: int
    scanner: Plain | None
    aligned: bool | None
    followed_since: int | None
    guard: Plain | None
    backend: str
    backend_reason: str
    backends_rejected: dict[str, str]
    backend_details: Plain


UNKNOWN: MovieFacts = {
    "intensity": None,
    "intensity_provisional": None,
    "intensity_refinements": 0,
    "scanner": None,
    "aligned": None,
    "followed_since": None,
    "guard": None,
}
"""Facts that a denoiser knows before its first frame."""


class SameTreatment(TypedDict):
    """Fields of a `DenoiserRequest` with which a second denoiser treats frames as the first does."""

    intensity: Plain | None
    scanner: Plain | None
    align: bool | None


def same_treatment(facts: MovieFacts) -> SameTreatment:
    """Return what a second denoiser must be told, so that it treats frames as the one that found out these facts."""
    return {
        "intensity": facts.get("intensity"),
        "scanner": facts.get("scanner"),
        "align": True if facts.get("aligned") else None,
    }
