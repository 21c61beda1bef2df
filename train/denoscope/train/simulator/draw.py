"""Random scenes and cameras: the ranges that models are trained for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypedDict

import numpy as np

from denoscope.runtime import InvalidInput

from .displacement import position_rms
from .settings import ALL_KINDS, CameraSettings, SceneSettings

__all__ = ["random_settings"]

_SCANNED = ("two-photon", "confocal")
_BITS = (8, 10, 11, 12, 14, 16)
_WITH_FLASHES = 0.7  # of the movies
_FASTEST_MOTION_PX = 3.0  # a frame
_FARTHEST_LOCAL_PX = 6.0  # from rest, root mean square


def random_settings(
    rng: np.random.Generator,
    *,
    frames: int,
    height: int,
    width: int,
    kinds: Sequence[str] = ("two-photon",),
    fine: float = 0.0,
) -> tuple[SceneSettings, CameraSettings]:
    """Draw a scene and a camera from the range that models are trained for.

    Parameters
    ----------
    rng
        Source of every choice.
    frames, height, width
        Size of the movie.
    kinds
        Kinds of scene to choose from. The default, two-photon alone, draws 7 to 120 Hz, 0.1 to 100
        photons a pixel, rigid motion, and a camera without limits. Any other choice draws the full
        variety: 7 to 1,000 Hz, 0.1 to 1,000 photons, up to 3 pixels of motion a frame, rigid and local,
        raster scans, events of a single frame, 8 to 16 bits with saturation, bleed, row noise, unequal pixels.
    fine
        Share of the scenes that have fine structure, drawn last; with 0 the other choices are as they always were.

    Returns
    -------
    SceneSettings, CameraSettings
        For `simulate`.

    Raises
    ------
    InvalidInput
        If a kind of scene is not known.

    Examples
    --------
    >>> import numpy as np
    >>> scene, camera = random_settings(np.random.default_rng(1), frames=8, height=48, width=64)
    >>> scene.frames, scene.height, scene.width
    (8, 48, 64)
    """
    unknown = [kind for kind in kinds if kind not in ALL_KINDS]
    if unknown or not kinds:
        raise InvalidInput(
            f"The simulator knows no scenes of kind {', '.join(map(repr, unknown)) or 'none'}; "
            f"choose from {', '.join(ALL_KINDS)}."
        )
    scene, camera = _scene_and_camera(rng, frames, height, width, kinds)
    if fine and rng.random() < fine:
        scene = replace(scene, fine_structure=_log_uniform(rng, 0.15, 1.0))
    return scene, camera


def _scene_and_camera(
    rng: np.random.Generator, frames: int, height: int, width: int, kinds: Sequence[str]
) -> tuple[SceneSettings, CameraSettings]:
    scene, camera = _plain_two_photon(rng, frames, height, width)
    if tuple(kinds) == ("two-photon",):
        return scene, camera
    kind = str(kinds[int(rng.integers(len(kinds)))])
    scene = replace(
        scene,
        kind=kind,
        frame_rate_hz=_log_uniform(rng, 7.0, 1000.0),
        background=_log_uniform(rng, 0.1, 3.0)
        if kind in ("moving-cells", "confocal")
        else _log_uniform(rng, 1, 30),
        background_drift=_log_uniform(rng, 0.003, 0.1),
        blurred_per_10000_px=float(rng.uniform(0.0, 30.0)),
        falloff=float(rng.uniform(0.0, 0.6)) if kind == "one-photon" else 0.0,
        particles_per_10000_px=_log_uniform(rng, 5.0, 120.0),
        particle_radius_px=float(rng.uniform(0.8, 2.5)),
        speed_px=_log_uniform(rng, 0.02, 1.5) if kind == "moving-cells" else _log_uniform(rng, 0.1, 3.0),
        diffusion_px=_log_uniform(rng, 0.05, 1.5),
        directed=float(rng.uniform(0.0, 0.7)),
        deformation=float(rng.uniform(0.0, 0.3)),
        **_motion(rng, kind),
    )
    camera = _camera(rng, kind)
    flashes = _log_uniform(rng, 0.1, 6.0) if rng.random() < _WITH_FLASHES else 0.0
    return replace(scene, flashes=flashes), camera


def _plain_two_photon(
    rng: np.random.Generator, frames: int, height: int, width: int
) -> tuple[SceneSettings, CameraSettings]:
    moving = rng.random() < 0.4
    scene = SceneSettings(
        frames=frames,
        height=height,
        width=width,
        frame_rate_hz=float(np.exp(rng.uniform(np.log(7.0), np.log(120.0)))),
        soma_radius_px=float(rng.uniform(2.5, 10.0)),
        somata_per_10000_px=float(rng.uniform(3.0, 25.0)),
        process_count=float(rng.uniform(0.0, 40.0)),
        punctum_count=float(rng.uniform(0.0, 20.0)),
        spike_rate_hz=float(np.exp(rng.uniform(np.log(0.05), np.log(1.0)))),
        rise_s=float(np.exp(rng.uniform(np.log(0.02), np.log(0.3)))),
        decay_s=float(np.exp(rng.uniform(np.log(0.15), np.log(2.0)))),
        neuropil_contrast=float(rng.uniform(0.1, 0.9)),
        motion_px=float(rng.uniform(0.3, 4.0)) if moving else 0.0,
        jitter_px=float(rng.uniform(0.05, 1.2)) if moving else 0.0,
        bleaching=float(rng.uniform(0.0, 0.3)) if rng.random() < 0.3 else 0.0,
    )
    gain = float(np.exp(rng.uniform(np.log(0.5), np.log(200.0))))
    camera = CameraSettings(
        photons=float(np.exp(rng.uniform(np.log(0.1), np.log(100.0)))),
        gain=gain,
        gain_spread=float(rng.uniform(0.0, 0.5)),
        read_noise=gain * float(rng.uniform(0.02, 0.8)),
        bleed=float(rng.uniform(0.0, 0.1)) if rng.random() < 0.5 else 0.0,
        offset=float(rng.uniform(0.0, 500.0)),
    )
    return scene, camera


class _Motion(TypedDict, total=False):
    """Fields of `SceneSettings` that say how a scene moves."""

    motion_px: float
    jitter_px: float
    raster: bool
    row_jitter_px: float
    local_motion_px: float
    local_time_frames: float
    local_length_px: float


def _motion(rng: np.random.Generator, kind: str) -> _Motion:
    """Half of the movies hold still; the others move by up to 3 pixels a frame, small motion most often."""
    scanned = kind in _SCANNED
    motion: _Motion = {
        "motion_px": 0.0,
        "jitter_px": 0.0,
        "raster": scanned and bool(rng.random() < 0.5),
    }
    if scanned and rng.random() < 0.3:
        motion["row_jitter_px"] = float(rng.uniform(0.05, 0.5))
    if rng.random() < 0.5:
        return motion
    speed = _FASTEST_MOTION_PX * float(rng.random()) ** 2
    local = speed * float(rng.uniform(0.0, 1.0)) if rng.random() < 0.6 else 0.0
    motion |= {"motion_px": float(rng.uniform(0.0, 4.0)), "jitter_px": float(np.sqrt(speed**2 - local**2))}
    if local:
        constant = float(rng.uniform(0.0, min(8.0, _FARTHEST_LOCAL_PX / (1.5 * local))))
        least = position_rms(local, constant) / 0.28  # shorter would fold the picture
        motion |= {
            "local_motion_px": local,
            "local_time_frames": constant,
            "local_length_px": max(least, float(rng.uniform(12.0, 60.0))),
        }
    return motion


def _camera(rng: np.random.Generator, kind: str) -> CameraSettings:
    """Photons, then a gain that puts the mean light at 0.3 to 25 % of what the converter can count.

    One photon is at most a fortieth of the range, and the offset keeps most of the dark noise above
    zero: where counts end at zero their mean is no longer the expected count.
    """
    photons = _log_uniform(rng, 0.1, 1000.0)
    bits = int(rng.choice(_BITS))
    full = 2.0**bits - 1
    gain = float(np.clip(full * _log_uniform(rng, 0.003, 0.25) / photons, 0.02, min(300.0, full / 40)))
    scanned = kind in _SCANNED
    electrons = float(rng.uniform(0.02, 0.8)) if scanned else _log_uniform(rng, 0.5, 5.0)
    read = max(
        gain * min(electrons, 1 + 2 * np.sqrt(photons)), 0.3
    )  # below, the converter's steps are the noise
    spread = float(rng.uniform(0.0, 0.5)) if scanned else 0.0
    noise = float(np.hypot(gain * np.sqrt(photons * (1 + spread**2)), read))
    row = noise * float(rng.uniform(0.05, 0.5)) if rng.random() < 0.3 else 0.0
    uneven = not scanned and rng.random() < 0.5
    pixel_offset = read * float(rng.uniform(0.0, 1.0)) if uneven else 0.0
    dark = float(np.sqrt(read**2 + row**2 + pixel_offset**2))
    return CameraSettings(
        photons=photons,
        gain=gain,
        gain_spread=spread,
        read_noise=float(read),
        bleed=float(rng.uniform(0.0, 0.1)) if scanned and rng.random() < 0.5 else 0.0,
        offset=full * float(rng.uniform(0.0, 0.03)) + dark * float(rng.uniform(2.0, 4.0)),
        row_noise=row,
        pixel_gain_spread=float(rng.uniform(0.0, 0.03)) if uneven else 0.0,
        pixel_offset_spread=pixel_offset,
        bits=bits,
    )


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
