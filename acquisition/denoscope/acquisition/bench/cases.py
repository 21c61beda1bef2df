"""Cases to measure: every combination of the bundles, backends, sizes and look-aheads asked for."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_serializer

from denoscope.runtime import BackendUnavailable, InvalidInput, counted

if TYPE_CHECKING:
    from denoscope.runtime import Bundle

__all__ = ["Case", "parse_size", "plan_cases"]

_SIZE = re.compile(r"(\d{1,5})[xX](\d{1,5})")
_SMALLEST = 16


class Case(BaseModel):
    """One benchmark, run in a separate process.

    Attributes
    ----------
    bundle
        Folder of the bundle; in a result file its name only.
    bundle_name, bundle_sha256
        What it is called, and its digest.
    backend
        Name of the backend.
    height, width
        Of the frames, in pixels.
    look_ahead
        Frames that each output waits for.
    fps
        Frames per second of the camera's clock.
    frames
        Measured frames.
    align
        Whether the stream follows the motion of the scene.
    threads
        Threads of one graph; None for the backend's default.
    highest_rate
        Whether to search for the highest rate that is sustained.
    in_process
        Whether the denoiser runs in the process that is measured, not in a separate one as in a session.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    bundle: str
    bundle_name: str
    bundle_sha256: str
    backend: str
    height: int = Field(ge=_SMALLEST, le=16384)
    width: int = Field(ge=_SMALLEST, le=16384)
    look_ahead: int = Field(ge=0)
    fps: float = Field(30.0, gt=0, le=100_000)
    frames: int = Field(300, ge=1, le=1_000_000)
    align: bool = False
    threads: int | None = Field(None, ge=1)
    highest_rate: bool = True
    in_process: bool = False

    @field_serializer("bundle", when_used="json")
    def _name_only(self, folder: str) -> str:
        return Path(folder).name  # a result says nothing of the folders of a computer

    def __eq__(self, other: object) -> bool:
        """Compare what a result file holds: the digest says which bundle it is, wherever its folder lies."""
        if not isinstance(other, Case):
            return NotImplemented
        return self.model_dump(mode="json") == other.model_dump(mode="json")

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    @property
    def label(self) -> str:
        """One line for tables and pictures."""
        more = " aligned" if self.align else ""
        return f"{self.bundle_name} {self.backend} {self.height}x{self.width} +{self.look_ahead}{more}"


def parse_size(text: str) -> tuple[int, int]:
    """Return (H, W) of ``HxW``.

    Raises
    ------
    InvalidInput
        If the text is no size.
    """
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise InvalidInput(f"`size` {text} is not a size: write height x width in pixels, as in 512x512.")
    return int(found[1]), int(found[2])


def plan_cases(
    bundles: Sequence[str | os.PathLike[str]],
    backends: Sequence[str],
    sizes: Sequence[str],
    look_aheads: Sequence[int],
    *,
    fps: float,
    frames: int,
    align: bool = False,
    threads: int | None = None,
    highest_rate: bool = True,
    in_process: bool = False,
) -> tuple[list[Case], dict[str, str]]:
    """Return the cases, and why each backend that was not asked for by name is left out.

    Parameters
    ----------
    bundles
        Folders or names of shipped bundles.
    backends
        Names, ``auto`` among them; empty for every backend that can run here.
    sizes
        ``HxW`` in pixels.
    look_aheads
        Frames; empty for each bundle's own.

    Raises
    ------
    InvalidInput
        If a value is out of its range.
    BackendUnavailable
        If a backend asked for by name cannot run here, or none can.
    """
    from denoscope.runtime import Bundle

    loaded = [Bundle.load(bundle) for bundle in bundles]
    names, left_out = _backends(backends, loaded)
    shapes = [parse_size(size) for size in sizes]
    cases = []
    for bundle, (height, width), backend in product(loaded, shapes, names):
        for look_ahead in _look_aheads(bundle, look_aheads):
            try:
                case = Case(
                    bundle=str(bundle.folder.absolute()),
                    bundle_name=bundle.manifest.name,
                    bundle_sha256=bundle.digest,
                    backend=backend,
                    height=height,
                    width=width,
                    look_ahead=look_ahead,
                    fps=fps,
                    frames=frames,
                    align=align,
                    threads=threads,
                    highest_rate=highest_rate,
                    in_process=in_process,
                )
            except ValidationError as error:
                raise InvalidInput(_sentence(error)) from error
            if case not in cases:
                cases.append(case)
    return cases, left_out


def _backends(asked: Sequence[str], bundles: Sequence[Bundle]) -> tuple[list[str], dict[str, str]]:
    from denoscope.runtime import choose_backend, list_backends

    obstacles = list_backends()
    for bundle in bundles:
        obstacles |= {name: why for name, why in list_backends(bundle).items() if why is not None}
    if not asked:
        names = [name for name, obstacle in obstacles.items() if obstacle is None]
        left_out = {name: obstacle for name, obstacle in obstacles.items() if obstacle is not None}
        if not names:
            reasons = "; ".join(f"{name}: {why}" for name, why in left_out.items())
            raise BackendUnavailable(
                f"No backend can run here ({reasons}): denoscope doctor names what to install."
            )
        return names, left_out
    names = []
    for name in asked:
        opened, choice = choose_backend(name, bundle=bundles[0])
        opened.close()
        if choice.name not in names:
            names.append(choice.name)
    return names, {}


def _look_aheads(bundle: Bundle, asked: Sequence[int]) -> list[int]:
    largest = bundle.manifest.look_ahead
    for frames in asked:
        if not 0 <= frames <= largest:
            raise InvalidInput(
                f"A look-ahead of {counted(frames, 'frame')} was asked for; the bundle {bundle.manifest.name} offers "
                f"0 to "
                f"{largest}: choose one of these."
            )
    return list(asked) or [largest]


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    name = str(first["loc"][0])
    option = "size" if name in ("height", "width") else name
    return f"`{option}` {first['input']}: {first['msg'][0].lower()}{first['msg'][1:]}."
