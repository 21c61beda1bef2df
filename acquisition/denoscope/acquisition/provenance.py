"""Provenance of denoised frames: versions, bundle, backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .results import Provenance

if TYPE_CHECKING:
    from denoscope.runtime import Choice, Stream

__all__ = ["package_version", "provenance_of"]


def package_version() -> str:
    """Return the installed version of denoscope, or ``unknown`` in a checkout that is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("denoscope")
    except PackageNotFoundError:
        return "unknown"


def provenance_of(stream: Stream, choice: Choice | None = None) -> Provenance:
    """Return what produced the denoised frames, as it goes into reports and OME-XML.

    Parameters
    ----------
    stream
        What denoises.
    choice
        Backend that was chosen and why, where it was opened for the stream; None for the stream's own.
    """
    import platform

    bundle, choice = stream.bundle, choice or stream.choice
    return Provenance(
        version=package_version(),
        bundle=bundle.manifest.name,
        bundle_sha256=bundle.digest,
        method=bundle.manifest.method,
        window=bundle.manifest.window,
        look_ahead=stream.look_ahead,
        backend=choice.name,
        backend_reason=choice.reason,
        backends_rejected=dict(choice.rejected),
        backend_details=dict(stream.backend_info),
        platform=platform.platform(),
    )
