"""Simulated two-photon movies with known truth, to train on and to measure against.

The scene is a sum of non-negative parts, each a fixed image times a trace: smooth neuropil with
dark vessels, ring-shaped somata, thin processes, small puncta. Traces follow GCaMP kinetics:
Poisson spike trains convolved with a double exponential. Rigid and local motion move the whole
scene. The camera turns expected photons into counts: Poisson arrivals, spread of the detector's
gain, Gaussian read noise, bleed of a share of each pixel into the next one of its row, offset.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

__all__ = ["CameraSettings", "SceneSettings", "SimulatedMovie", "random_settings", "simulate", "test_movie"]

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SceneSettings:
    """What is in the field of view.

    Attributes
    ----------
    frames, height, width
        Size of the movie.
    frame_rate_hz
        Sampling rate; with the GCaMP time constants it sets how many frames a transient lasts.
    soma_radius_px
        Mean radius of the somata, in pixels.
    somata_per_10000_px
        Mean number of somata in 100 x 100 pixels.
    process_count, punctum_count
        Number of thin processes and of small bright spots per 100 x 100 pixels.
    spike_rate_hz
        Mean rate of activity bursts of one cell.
    rise_s, decay_s
        GCaMP rise and decay times, in seconds.
    neuropil_contrast
        Depth of the smooth background structure, 0 (flat) to 1.
    motion_px
        Root-mean-square rigid displacement from the rest position, in pixels.
    jitter_px
        Root-mean-square displacement between neighbouring frames, in pixels.
    bleaching
        Share of the signal lost to bleaching over the movie.
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
    """

    photons: float = 1.5
    gain: float = 100.0
    gain_spread: float = 0.3
    read_noise: float = 8.0
    bleed: float = 0.0
    offset: float = 100.0


@dataclass(frozen=True)
class SimulatedMovie:
    """One simulated recording.

    Attributes
    ----------
    noisy
        Counts as the camera delivers them, (T, H, W) float32, not rounded or clipped.
    clean
        Expected counts before bleed, (T, H, W) float32; shares the motion with `noisy`.
    shifts
        Displacement of each frame from rest, (T, 2) float32 as (y, x) in pixels.
    traces
        Relative fluorescence of each soma, (cells, T) float32.
    centres
        Position of each soma at rest, (cells, 2) float32 as (y, x) in pixels.
    """

    noisy: FloatArray
    clean: FloatArray
    shifts: FloatArray
    traces: FloatArray
    centres: FloatArray

    def as_uint16(self) -> npt.NDArray[np.uint16]:
        """Return the noisy movie rounded and clipped to a camera's 16 bits, (T, H, W)."""
        return np.clip(np.rint(self.noisy), 0, 65535).astype(np.uint16)


def random_settings(
    rng: np.random.Generator, *, frames: int, height: int, width: int
) -> tuple[SceneSettings, CameraSettings]:
    """Draw a scene and a camera from the range that the shipped models are trained for."""
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


def simulate(
    scene: SceneSettings | None = None, camera: CameraSettings | None = None, *, seed: int
) -> SimulatedMovie:
    """Simulate one movie; the same settings and seed give the same movie.

    Parameters
    ----------
    scene, camera
        What is seen and how it is recorded; the defaults are a 30 Hz movie at 1.5 photons a pixel.
    seed
        Seed of every random choice.

    Returns
    -------
    SimulatedMovie
        The noisy movie with its truth.
    """
    scene = scene or SceneSettings()
    camera = camera or CameraSettings()
    rng = np.random.default_rng(seed)
    margin = int(np.ceil(3 * scene.motion_px + 3 * scene.jitter_px)) + 2 if scene.motion_px else 0
    padded = replace(scene, height=scene.height + 2 * margin, width=scene.width + 2 * margin)
    brightness, traces, centres = _scene(padded, rng)
    shifts = _motion(scene, rng)
    if margin:
        brightness = _move(brightness, shifts, margin, scene)
    brightness *= camera.photons / float(brightness.mean())
    clean = brightness * np.float32(camera.gain) + np.float32(camera.offset)
    noisy = _record(brightness, camera, rng)
    return SimulatedMovie(noisy, clean, shifts, traces, centres - np.float32(margin))


def test_movie() -> SimulatedMovie:
    """Return the simulated movie that results are quoted on; nothing is ever trained on its seed.

    30 Hz GCaMP, 1.5 photons a pixel, 6 % bleed, 300 frames of 128 x 128 pixels.
    """
    scene = SceneSettings(frames=300, height=128, width=128)
    return simulate(scene, CameraSettings(photons=1.5, bleed=0.06), seed=2_000_000_001)


def _scene(scene: SceneSettings, rng: np.random.Generator) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return expected brightness (T, H, W) in arbitrary units, soma traces and soma centres."""
    area = scene.height * scene.width / 1e4
    shape = (scene.height, scene.width)
    vessels = _vessels(shape, rng)
    texture = _neuropil(shape, scene.neuropil_contrast, rng) * vessels
    images = [texture]
    traces = [1.0 + 0.15 * _smooth_trace(scene.frames, scene.frame_rate_hz, rng)]
    for _ in range(3):  # neuropil activity that is shared by wide regions
        images.append(texture * _blurred_noise(shape, min(shape) / 6, rng).clip(0))
        traces.append(0.25 * _smooth_trace(scene.frames, scene.frame_rate_hz, rng).clip(-0.5) + 0.15)

    count = max(1, int(rng.poisson(scene.somata_per_10000_px * area)))
    centres = rng.uniform((0, 0), shape, size=(count, 2)).astype(np.float32)
    soma_traces = np.empty((count, scene.frames), np.float32)
    for index, centre in enumerate(centres):
        images.append(_soma(shape, centre, scene.soma_radius_px, rng))
        soma_traces[index] = _activity(scene, rng)
        traces.append(soma_traces[index])
    for _ in range(int(rng.poisson(scene.process_count * area))):
        images.append(_process(shape, scene.soma_radius_px, rng))
        traces.append(_activity(scene, rng))
    for _ in range(int(rng.poisson(scene.punctum_count * area))):
        images.append(_punctum(shape, rng))
        traces.append(_activity(scene, rng))

    footprints = np.stack(images).reshape(len(images), -1).astype(np.float32)
    movie = np.stack(traces).astype(np.float32).T @ footprints
    movie = np.maximum(movie, 0.02 * movie.mean()).reshape(scene.frames, *shape)
    if scene.bleaching:
        decay = 1.0 - scene.bleaching * (1.0 - np.exp(-3.0 * np.arange(scene.frames) / scene.frames))
        movie *= decay.astype(np.float32)[:, None, None]
    return movie, soma_traces, centres


def _blurred_noise(shape: tuple[int, int], sigma: float, rng: np.random.Generator) -> FloatArray:
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap")
    return np.asarray(noise / (noise.std() + 1e-9), np.float32)


def _neuropil(shape: tuple[int, int], contrast: float, rng: np.random.Generator) -> FloatArray:
    """Multi-scale log-normal texture with mean near one."""
    scales = np.exp(rng.uniform(np.log(0.8), np.log(min(shape) / 4), size=5))
    weights = scales ** rng.uniform(0.1, 0.8)
    field = sum(w * _blurred_noise(shape, s, rng) for w, s in zip(weights, scales, strict=True))
    field = np.asarray(field) / np.asarray(field).std()
    return np.asarray(np.exp(contrast * 0.5 * field), np.float32)


def _vessels(shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    """Transmission (H, W): low in the shadow of vessels, one elsewhere."""
    shade = np.ones(shape, np.float32)
    for _ in range(rng.integers(0, 4)):
        path = _path(shape, rng, length=int(1.5 * max(shape)), wander=0.08)
        mask = np.zeros(shape, np.float32)
        mask[path[:, 0], path[:, 1]] = 1
        outside = (ndimage.distance_transform_edt(1 - mask) - rng.uniform(1.5, 6.0)) / 1.2
        shade *= 1 - rng.uniform(0.4, 0.95) / (1 + np.exp(np.clip(outside, -30, 30))).astype(np.float32)
    for _ in range(rng.poisson(shape[0] * shape[1] / 3000)):  # nuclei of unlabelled cells
        shade *= 1 - rng.uniform(0.2, 0.7) * _disc(shape, rng.uniform((0, 0), shape), rng.uniform(2, 7), 1.0)
    return shade


def _disc(
    shape: tuple[int, int],
    centre: npt.ArrayLike,
    radius: float,
    edge: float,
    stretch: float = 1.0,
    angle: float = 0.0,
) -> FloatArray:
    """Soft ellipse (H, W) in 0..1."""
    cy, cx = np.asarray(centre, float)
    y, x = np.ogrid[: shape[0], : shape[1]]
    dy, dx = y - cy, x - cx
    u = (np.cos(angle) * dx + np.sin(angle) * dy) * stretch
    v = (-np.sin(angle) * dx + np.cos(angle) * dy) / stretch
    distance = np.sqrt(u * u + v * v)
    return np.asarray(1 / (1 + np.exp(np.clip((distance - radius) / (0.4 * edge), -30, 30))), np.float32)


def _soma(
    shape: tuple[int, int], centre: npt.ArrayLike, mean_radius: float, rng: np.random.Generator
) -> FloatArray:
    """Ring (nucleus-excluded GCaMP) or filled body, with texture, (H, W)."""
    radius = mean_radius * rng.uniform(0.7, 1.3)
    stretch, angle = rng.uniform(0.8, 1.25), rng.uniform(0, np.pi)
    edge = rng.uniform(0.7, 1.6)
    body = _disc(shape, centre, radius, edge, stretch, angle)
    if rng.random() < 0.75:
        nucleus = np.asarray(centre) + rng.normal(0, 0.08 * radius, 2)
        body = body * (1 - rng.uniform(0.5, 1.0) * _disc(shape, nucleus, 0.6 * radius, edge, stretch, angle))
    texture = 1 + 0.25 * _blurred_noise(shape, 1.2, rng)
    brightness = np.exp(rng.normal(0.3, 0.7))
    return np.asarray(body * texture.clip(0.2) * brightness, np.float32)


def _process(shape: tuple[int, int], soma_radius: float, rng: np.random.Generator) -> FloatArray:
    """Thin winding process, (H, W)."""
    path = _path(shape, rng, length=int(rng.uniform(2, 12) * soma_radius) + 4, wander=0.25)
    image = np.zeros(shape)
    image[path[:, 0], path[:, 1]] = 1.0
    width = rng.uniform(0.5, 1.3)
    return np.asarray(
        ndimage.gaussian_filter(image, width) * width * 2.5 * np.exp(rng.normal(-0.7, 0.6)), np.float32
    )


def _punctum(shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    centre = rng.uniform((0, 0), shape)
    return _disc(shape, centre, rng.uniform(0.6, 1.8), 0.8) * np.float32(np.exp(rng.normal(0.3, 0.8)))


def _path(
    shape: tuple[int, int], rng: np.random.Generator, *, length: int, wander: float
) -> npt.NDArray[np.intp]:
    """Pixels (n, 2) of a random smooth walk inside the frame."""
    angle = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, wander, length))
    steps = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    points = np.rint(rng.uniform((0, 0), shape) + np.cumsum(steps, axis=0)).astype(np.intp)
    inside = ((points >= 0) & (points < np.asarray(shape))).all(axis=1)
    return points[inside] if inside.any() else np.asarray([[0, 0]], np.intp)


def _smooth_trace(frames: int, rate: float, rng: np.random.Generator) -> FloatArray:
    trace = ndimage.gaussian_filter1d(rng.standard_normal(frames), max(rate * rng.uniform(0.2, 2.0), 1.0))
    trace -= trace.mean()
    return np.asarray(trace / (trace.std() + 1e-9), np.float32)


def _activity(scene: SceneSettings, rng: np.random.Generator) -> FloatArray:
    """Relative fluorescence (T,): baseline plus bursts through GCaMP rise and decay."""
    rate = scene.spike_rate_hz / scene.frame_rate_hz * np.exp(rng.normal(0, 0.8))
    lead = int(min(5 * scene.decay_s * scene.frame_rate_hz, 2000))
    bursts = rng.random(scene.frames + lead) < rate
    train = bursts * rng.gamma(1.5, 1.0, size=bursts.size)
    rise = 1 - np.exp(-1 / max(scene.rise_s * scene.frame_rate_hz, 1e-3))
    keep = np.exp(-1 / max(scene.decay_s * scene.frame_rate_hz, 1e-3))
    calcium = np.empty(bursts.size)
    slow = fast = 0.0
    for index, spike in enumerate(train):
        slow = slow * keep + spike
        fast += rise * (slow - fast)
        calcium[index] = fast
    baseline = rng.uniform(0.1, 1.0)
    return np.asarray(baseline + rng.uniform(0.5, 2.0) * calcium[lead:], np.float32)


def _motion(scene: SceneSettings, rng: np.random.Generator) -> FloatArray:
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


def _move(movie: FloatArray, shifts: FloatArray, margin: int, scene: SceneSettings) -> FloatArray:
    """Shift each padded frame and cut the margin off: (T, H, W)."""
    moved = np.empty((scene.frames, scene.height, scene.width), np.float32)
    inner = slice(margin, margin + scene.height), slice(margin, margin + scene.width)
    for index, shift in enumerate(shifts):
        moved[index] = ndimage.shift(movie[index], shift, order=1, mode="nearest")[inner]
    return moved


def _record(photons: FloatArray, camera: CameraSettings, rng: np.random.Generator) -> FloatArray:
    """Counts (T, H, W) float32 for expected photons (T, H, W)."""
    counts = rng.poisson(photons).astype(np.float32)
    if camera.gain_spread:
        counts += camera.gain_spread * np.sqrt(counts) * rng.standard_normal(counts.shape, np.float32)
    counts *= camera.gain
    if camera.read_noise:
        counts += camera.read_noise * rng.standard_normal(counts.shape, np.float32)
    if camera.bleed:
        counts[:, :, 1:] = (1 - camera.bleed) * counts[:, :, 1:] + camera.bleed * counts[:, :, :-1]
    return counts + np.float32(camera.offset)
