"""Parts of the simulator: settings, shapes, traces, kinds of scene, motion, camera."""

from __future__ import annotations

from denoscope.train._simulator._camera import pixel_maps, record
from denoscope.train._simulator._draw import random_settings
from denoscope.train._simulator._flashes import add_flashes
from denoscope.train._simulator._motion import Motion, margin_px
from denoscope.train._simulator._scenes import SCENES, SceneTruth
from denoscope.train._simulator._settings import ALL_KINDS, CameraSettings, SceneSettings

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
