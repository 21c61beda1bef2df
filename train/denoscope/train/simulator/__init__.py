"""Parts of the simulator: settings, shapes, traces, kinds of scene, motion, camera."""

from __future__ import annotations

from .camera import pixel_maps, record
from .draw import random_settings
from .flashes import add_flashes
from .motion import Motion, margin_px
from .scenes import SCENES, SceneTruth
from .settings import ALL_KINDS, CameraSettings, SceneSettings

__all__ = [
    "ALL_KINDS",
    "SCENES",
    "CameraSettings",
    "Motion",
    "SceneSettings",
    "SceneTruth",
    "add_flashes",
    "margin_px",
    "pixel_maps",
    "random_settings",
    "record",
]
