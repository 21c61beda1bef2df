"""The kinds of scene, and what each must tell about itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

from .moving import confocal, moving_cells
from .settings import SceneSettings
from .still import one_photon, two_photon

__all__ = ["SCENES", "SceneTruth"]

FloatArray = npt.NDArray[np.float32]


class SceneTruth(Protocol):
    """Truth of a scene at rest, before motion and camera, in the arbitrary units of its movie."""

    @property
    def traces(self) -> FloatArray:
        """Light of each soma, cell or particle relative to its footprint, (cells, T)."""
        ...

    @property
    def paths(self) -> FloatArray:
        """Positions (cells, T, 2) as (y, x), or (cells, 1, 2) if none moves."""
        ...

    def footprint(self, cell: int, frame: int) -> FloatArray:
        """Light of one cell per unit of its trace in one frame, (H, W)."""
        ...

    def flow(self, a: int, b: int) -> FloatArray | None:
        """Flow (2, H, W) from frame a to frame b on the grid of b; None where nothing moves."""
        ...


SCENES: Mapping[str, Callable[[SceneSettings, np.random.Generator], tuple[FloatArray, SceneTruth]]] = {
    "two-photon": two_photon,
    "one-photon": one_photon,
    "moving-cells": moving_cells,
    "confocal": confocal,
}
