"""The camera: expected photons become counts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .settings import CameraSettings

__all__ = ["pixel_maps", "record"]

FloatArray = npt.NDArray[np.float32]


def pixel_maps(
    camera: CameraSettings, shape: tuple[int, int], rng: np.random.Generator
) -> tuple[FloatArray, FloatArray] | None:
    """Draw counts per photon and counts without light of each pixel, (H, W) each; None if all are alike."""
    if not camera.pixel_gain_spread and not camera.pixel_offset_spread:
        return None
    gain = 1 + camera.pixel_gain_spread * rng.standard_normal(shape, np.float32)
    offset = camera.pixel_offset_spread * rng.standard_normal(shape, np.float32)
    return np.float32(camera.gain) * gain.clip(0.05), np.float32(camera.offset) + offset


def record(
    photons: FloatArray,
    camera: CameraSettings,
    maps: tuple[FloatArray, FloatArray] | None,
    rng: np.random.Generator,
) -> FloatArray:
    """Return counts (T, H, W) float32 for expected photons (T, H, W)."""
    gain, offset = maps if maps is not None else (np.float32(camera.gain), np.float32(camera.offset))
    counts = rng.poisson(photons).astype(np.float32)
    if camera.gain_spread:
        counts += camera.gain_spread * np.sqrt(counts) * rng.standard_normal(counts.shape, np.float32)
    counts *= gain
    if camera.read_noise:
        counts += camera.read_noise * rng.standard_normal(counts.shape, np.float32)
    if camera.bleed:
        counts[:, :, 1:] = (1 - camera.bleed) * counts[:, :, 1:] + camera.bleed * counts[:, :, :-1]
    if camera.row_noise:
        counts += camera.row_noise * rng.standard_normal((*counts.shape[:2], 1), np.float32)
    counts += offset
    if camera.bits is not None:
        np.clip(np.rint(counts, out=counts), 0, camera.most_counts, out=counts)
    return counts
