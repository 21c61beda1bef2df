"""Settings of a stream, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from denoscope.runtime.artefacts.scanner import ScannerArtefacts
from denoscope.runtime.bundle.bundle import BundleManifest
from denoscope.runtime.errors import InvalidInput
from denoscope.runtime.noise.noise import Intensity
from denoscope.runtime.words import counted

from .arguments import check_flag, check_instance, check_seconds, whole_number

__all__ = ["StreamSettings", "check_settings"]


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """Parameters of a stream, as `Stream` documents them; `look_ahead` and `intensity` are the bundle's where left out.

    Attributes
    ----------
    look_ahead, intensity, scanner, fix_line_offset, std, align, start_within_s, light
        As of `Stream`.
    """

    look_ahead: int
    intensity: Intensity | None
    scanner: ScannerArtefacts | None
    fix_line_offset: bool
    std: bool
    align: bool | None
    start_within_s: float | None
    light: bool


def check_settings(
    manifest: BundleManifest,
    look_ahead: Any,
    intensity: Any,
    scanner: Any,
    start_within_s: Any,
    *,
    fix_line_offset: bool,
    std: bool,
    align: bool | None,
    light: bool,
) -> StreamSettings:
    """Return the settings of a stream of a bundle.

    Raises
    ------
    InvalidInput
        For what `Stream` refuses.
    """
    check_instance(intensity, Intensity, "intensity")
    check_instance(scanner, ScannerArtefacts, "scanner")
    check_seconds(start_within_s, "start_within_s")
    for name, flag in (("fix_line_offset", fix_line_offset), ("std", std), ("light", light)):
        check_flag(flag, name)
    check_flag(align, "align", optional=True)
    if std and not manifest.predicts_std:
        raise InvalidInput(
            f"The bundle {manifest.name} ({manifest.method}) predicts no standard deviation: "
            "leave it out, or use a bundle of the method live."
        )
    return StreamSettings(
        look_ahead=_look_ahead(manifest, look_ahead),
        intensity=intensity if intensity is not None else manifest.intensity,
        scanner=scanner,
        fix_line_offset=fix_line_offset,
        std=std,
        align=align,
        start_within_s=start_within_s,
        light=light,
    )


def _look_ahead(manifest: BundleManifest, given: Any) -> int:
    if given is None:
        return manifest.look_ahead
    offered = f"the bundle {manifest.name} offers 0 to {manifest.look_ahead}"
    frames = whole_number(given, "number of frames to look ahead", f"{offered}, choose one of these")
    if not 0 <= frames <= manifest.look_ahead:
        raise InvalidInput(
            f"A look-ahead of {counted(frames, 'frame')} was asked for; {offered}: choose one of these."
        )
    return frames
