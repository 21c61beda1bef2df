"""The sentence about pixels that are NaN in the denoised movie because they were not measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["NanCount"]


@dataclass(slots=True)
class NanCount:
    """How many pixels of a denoised movie are NaN, and how many frames hold nothing else."""

    pixels: int = 0
    frames: int = 0

    def add(self, frame: npt.NDArray[Any]) -> None:
        """Count the pixels of a denoised frame."""
        if frame.dtype.kind != "f" or not np.isnan(frame.min()):
            return
        pixels = int(np.count_nonzero(np.isnan(frame)))
        self.pixels += pixels
        self.frames += pixels == frame.size

    def note(self) -> str | None:
        """Return one sentence for the user, None where no pixel is NaN."""
        if not self.pixels:
            return None
        which, are = ("pixel that is", "is") if self.pixels == 1 else ("pixels that are", "are")
        said = f"{self.pixels:,} {which} NaN or infinite in the raw movie {are} NaN in the denoised movie"
        if not self.frames:
            return said
        return f"{said}, among them {self.frames:,} whole frame{'s' * (self.frames > 1)}"
