"""Settings of the simulator: the scene and the camera."""

from __future__ import annotations

import math
from dataclasses import dataclass

from denoscope.runtime import InvalidInput, counted

__all__ = ["ALL_KINDS", "CameraSettings", "SceneSettings"]

ALL_KINDS = ("two-photon", "one-photon", "moving-cells", "confocal")


@dataclass(frozen=True)
class SceneSettings:
    """Contents of the field of view.

    Attributes
    ----------
    frames, height, width
        Size of the movie.
    frame_rate_hz
        Sampling rate; with the GCaMP time constants it sets how many frames a transient lasts.
    soma_radius_px
        Mean radius of the somata, and of the cells of `moving-cells`, in pixels.
    somata_per_10000_px
        Mean number of somata or cells in 100 x 100 pixels.
    process_count, punctum_count
        Number of thin processes and of small bright spots per 100 x 100 pixels (two-photon).
    spike_rate_hz
        Mean rate of activity bursts of one cell.
    rise_s, decay_s
        GCaMP rise and decay times, in seconds.
    neuropil_contrast
        Depth of the smooth background structure, 0 (flat) to 1.
    motion_px
        Root-mean-square rigid displacement from the rest position, in pixels.
    jitter_px
        Root-mean-square rigid displacement between neighbouring frames, in pixels.
    bleaching
        Share of the signal lost to bleaching over the movie.
    kind
        One of `ALL_KINDS`.
    local_motion_px, local_length_px, local_time_frames
        Motion that differs from place to place: root-mean-square displacement between neighbouring
        frames, correlation length, and how many frames the motion keeps its direction.
    row_jitter_px
        Root-mean-square shift of a row along itself, new in every frame, in pixels.
    raster
        Rows are recorded one after the other, so that motion within a frame shears it.
    background
        Light of the unstructured background over that of the cells at rest (one-photon,
        moving-cells, confocal).
    background_drift
        Standard deviation of the slow changes of the background, relative to it.
    blurred_per_10000_px
        Mean number of cells out of focus in 100 x 100 pixels (one-photon).
    falloff
        Share of the light that is missing in the corners; it stays where it is when the tissue moves.
    particles_per_10000_px, particle_radius_px
        Number and size (standard deviation of the spot) of the particles (confocal).
    speed_px
        Mean speed of crawling cells and of particles on directed runs, in pixels a frame.
    diffusion_px
        Root-mean-square step of a diffusing particle along each axis, in pixels a frame.
    directed
        Share of the time that particles spend on directed runs.
    deformation
        Standard deviation of the logarithm of a crawling cell's stretch.
    flashes
        Mean number of short events, one to a few frames long, that begin in each frame and 100 x 100
        pixels, see `add_flashes`.
    fine_structure
        How much fine structure there is, 0 (none) to 1: grains in the neuropil or in the background, dendrites, axons
        and capillaries of a pixel or two across. With 0 a seed gives the movies that it always gave.
    """

    frames: int = 400
    height: int = 128
    width: int = 128
    frame_rate_hz: float = 30.0
    soma_radius_px: float = 6.0
    somata_per_10000_px: float = 10.0
    process_count: float = 12.0
    punctum_count: float = 6.0
    spike_rate_hz: float = 0.15
    rise_s: float = 0.07
    decay_s: float = 0.6
    neuropil_contrast: float = 0.6
    motion_px: float = 0.0
    jitter_px: float = 0.0
    bleaching: float = 0.0
    kind: str = "two-photon"
    local_motion_px: float = 0.0
    local_length_px: float = 30.0
    local_time_frames: float = 4.0
    row_jitter_px: float = 0.0
    raster: bool = False
    background: float = 4.0
    background_drift: float = 0.03
    blurred_per_10000_px: float = 12.0
    falloff: float = 0.0
    particles_per_10000_px: float = 40.0
    particle_radius_px: float = 1.4
    speed_px: float = 0.5
    diffusion_px: float = 0.4
    directed: float = 0.3
    deformation: float = 0.15
    flashes: float = 0.0
    fine_structure: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ALL_KINDS:
            raise InvalidInput(
                f"The simulator knows no scene of kind {self.kind!r}; choose one of {', '.join(ALL_KINDS)}."
            )
        if min(self.frames, self.height, self.width) < 1:
            raise InvalidInput(
                f"A movie of {counted(self.frames, 'frame')} of {self.height} x {self.width} pixels cannot be "
                f"simulated; "
                "each must be at least 1."
            )


@dataclass(frozen=True)
class CameraSettings:
    """How expected photons become counts.

    Attributes
    ----------
    photons
        Mean expected photons per pixel and frame.
    gain
        Counts per photon.
    gain_spread
        Standard deviation of one photon's response divided by its mean.
    read_noise
        Gaussian noise, in counts.
    bleed
        Share of a pixel's signal that appears in the next pixel of its row.
    offset
        Counts without light.
    row_noise
        Standard deviation, in counts, of an offset that all pixels of a row share in one frame.
    pixel_gain_spread
        Standard deviation of the pixels' own gain divided by its mean; it never changes (sCMOS).
    pixel_offset_spread
        Standard deviation of the pixels' own offset, in counts; it never changes (sCMOS).
    bits
        Bits of the converter, 8 to 16: counts are rounded and end at 0 and 2^bits - 1. None leaves
        them as they are.
    """

    photons: float = 1.5
    gain: float = 100.0
    gain_spread: float = 0.3
    read_noise: float = 8.0
    bleed: float = 0.0
    offset: float = 100.0
    row_noise: float = 0.0
    pixel_gain_spread: float = 0.0
    pixel_offset_spread: float = 0.0
    bits: int | None = None

    def __post_init__(self) -> None:
        if self.bits is not None and not 8 <= self.bits <= 16:
            raise InvalidInput(f"A camera of {self.bits} bits cannot be simulated; choose 8 to 16.")
        if self.photons <= 0 or self.gain <= 0:
            raise InvalidInput(
                f"{self.photons:g} photons a pixel at a gain of {self.gain:g} leave no picture; both must be positive."
            )

    @property
    def most_counts(self) -> float:
        """Largest count of the converter; infinite where it leaves counts as they are."""
        return math.inf if self.bits is None else 2.0**self.bits - 1
