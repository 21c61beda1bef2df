"""Motion of the whole scene: rigid, local, and what a raster scan does to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from .displacement import position_rms, smooth_displacement
from .settings import SceneSettings

__all__ = ["Motion", "margin_px", "still"]

FloatArray = npt.NDArray[np.float32]

_ROW_LENGTH = 2.0  # rows over which a scanner's jitter lasts, as the standard deviation of a Gaussian


@dataclass(frozen=True)
class Motion:
    """Displacement of every frame from rest.

    Attributes
    ----------
    shifts
        Rigid part, (T, 2) as (y, x) in pixels.
    local
        Part that differs from place to place, (T, 2, H + 2 margin, W + 2 margin).
    rows
        Shift of each row along itself, (T, H + 2 margin).
    raster
        Whether the rigid part goes on within the frame, from the first row to the last.
    margin
        Width of the scene beyond the frame on each side.
    size
        (H, W) of the frame.
    """

    shifts: FloatArray
    local: FloatArray | None
    rows: FloatArray | None
    raster: bool
    margin: int
    size: tuple[int, int]

    @classmethod
    def draw(cls, scene: SceneSettings, margin: int, rng: np.random.Generator) -> Motion:
        """Draw the motion of one movie."""
        size = (scene.height, scene.width)
        padded = (scene.height + 2 * margin, scene.width + 2 * margin)
        shifts = _rigid(scene, rng)
        local = rows = None
        if scene.local_motion_px:
            local = smooth_displacement(
                rng,
                scene.frames,
                padded,
                rms_px=scene.local_motion_px,
                length_px=scene.local_length_px,
                time_constant_frames=scene.local_time_frames,
            )
        if scene.row_jitter_px:
            noise = rng.standard_normal((scene.frames, padded[0]))
            smooth = ndimage.gaussian_filter1d(noise, _ROW_LENGTH, axis=1, mode="wrap")
            rows = (smooth * scene.row_jitter_px * np.sqrt(2 * np.sqrt(np.pi) * _ROW_LENGTH)).astype(
                np.float32
            )
        return cls(shifts, local, rows, scene.raster, margin, size)

    @property
    def is_rigid(self) -> bool:
        """True where frames only shift as a whole."""
        return self.local is None and self.rows is None and not self.raster

    @property
    def inner(self) -> tuple[slice, slice]:
        """The frame within the padded scene."""
        return tuple(slice(self.margin, self.margin + n) for n in self.size)  # type: ignore[return-value]

    def position(self, frame: int) -> FloatArray:
        """Displacement (2, H + 2 margin, W + 2 margin) of one frame."""
        height, width = (n + 2 * self.margin for n in self.size)
        shift = np.broadcast_to(self.shifts[frame][:, None, None], (2, height, 1))
        if self.raster:
            after = min(frame + 1, len(self.shifts) - 1)
            late = ((np.arange(height, dtype=np.float32) - self.margin) / self.size[0]).clip(0, 1)
            shift = shift + late[:, None] * (self.shifts[after] - self.shifts[frame])[:, None, None]
        position = np.repeat(shift, width, axis=2)
        if self.local is not None:
            position += self.local[frame]
        if self.rows is not None:
            position[1] += self.rows[frame][:, None]
        return np.asarray(position, np.float32)

    def seen_at(self, point: FloatArray, frame: int) -> FloatArray:
        """Return where a point (y, x) at rest, counted from the frame's corner, is seen in one frame."""
        position, at = self.position(frame), point + self.margin
        seen = at
        for _ in range(20):  # p = rest + d(p), as in `flow_between`
            here = [ndimage.map_coordinates(d, seen[:, None], order=1, mode="nearest")[0] for d in position]
            seen = at + np.asarray(here, np.float32)
        return np.asarray(seen - self.margin, np.float32)

    def apply(self, image: FloatArray, frame: int) -> FloatArray:
        """Displace a padded image as in one frame and cut the margin off, (H, W)."""
        if self.is_rigid:
            return np.asarray(
                ndimage.shift(image, self.shifts[frame], order=1, mode="nearest")[self.inner], np.float32
            )
        at = np.mgrid[self.inner] - self.position(frame)[:, self.inner[0], self.inner[1]]
        return np.asarray(ndimage.map_coordinates(image, at, order=1, mode="nearest"), np.float32)


def still(scene: SceneSettings) -> bool:
    """True where the scene as a whole never moves."""
    return not (scene.motion_px or scene.jitter_px or scene.local_motion_px or scene.row_jitter_px)


def margin_px(scene: SceneSettings) -> int:
    """Return how many pixels the scene must reach beyond the frame for the motion not to show its border."""
    if still(scene):
        return 0
    local = position_rms(scene.local_motion_px, scene.local_time_frames)
    reach = 3 * scene.motion_px + 3 * scene.jitter_px + 4 * local + 3 * scene.row_jitter_px
    return int(np.ceil(reach)) + 2


def _rigid(scene: SceneSettings, rng: np.random.Generator) -> FloatArray:
    """Displacements (T, 2): slow wander of the given size plus frame-to-frame jitter."""
    if not scene.motion_px and not scene.jitter_px:
        return np.zeros((scene.frames, 2), np.float32)
    wander = ndimage.gaussian_filter1d(
        rng.standard_normal((scene.frames, 2)), max(scene.frame_rate_hz * 0.5, 2.0), axis=0
    )
    wander -= wander.mean(axis=0)
    wander *= scene.motion_px / (wander.std() + 1e-9)
    jitter = rng.standard_normal((scene.frames, 2)) * scene.jitter_px / np.sqrt(2)
    limit = 3 * scene.motion_px + 3 * scene.jitter_px
    return np.asarray(np.clip(wander + jitter, -limit, limit), np.float32)
