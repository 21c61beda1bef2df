"""A recorded movie as the denoiser is given it: opened, cut, corrected for the camera, converted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from denoscope.acquisition.sources.part import Part

if TYPE_CHECKING:
    from denoscope.runtime import AnyMovie, CameraCalibration

__all__ = ["GivenMovie"]


@dataclass(frozen=True, slots=True)
class GivenMovie:
    """Movie to denoise, and what is done to its frames before.

    Attributes
    ----------
    path, part
        File or folder, and which of its movies.
    camera
        Calibration that the frames are corrected with, or None.
    float32
        Whether they are converted to float32.
    """

    path: Path
    part: Part
    camera: CameraCalibration | None
    float32: bool

    def open(self) -> AnyMovie:
        """Open the movie as it is stored, whole.

        Raises
        ------
        InvalidInput
            If it is no movie or has no such part.
        """
        from denoscope.runtime import open_movie

        return open_movie(self.path, mapped=False, **self.part.choice())

    def convert(self, frames: AnyMovie) -> AnyMovie:
        """Return frames of it, corrected and converted, each when it is read."""
        from denoscope.runtime import as_float32

        if self.camera is not None:
            frames = self.camera.correct_movie(frames)
        return as_float32(frames) if self.float32 else frames
