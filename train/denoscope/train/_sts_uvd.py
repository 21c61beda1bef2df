"""STS-UVD, the second published method: weighted spatio-temporal sampling and guided fusion.

From the slides ("Unsupervised Denoising for Multi-Modal Microscopy Imaging for Small Data
Scenarios"): the centre's weight kappa starts from the measured motion and falls to zero, random
pixels are replaced by near ones, the neighbours' features are warped to the centre and fused under
a gate, and flows are estimated anew from the denoised frames after every epoch. What the slides
leave open is a setting: alpha, eta, L, the share of replaced pixels, the flow estimator.

Flows are (2, H, W) in pixels, rows then columns, on the grid of the frame they lead to: a flow from
i to t satisfies ``frame_i(p + flow(p)) = frame_t(p)``. Only neighbouring frames are compared; the
other flows of a window are composed from those.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from skimage.registration import optical_flow_ilk
from torch import Tensor, nn
from torch.nn import functional

from denoscope.runtime import AnyMovie, Intensity
from denoscope.train._data import TrainingMovie
from denoscope.train._umvd import (
    FeatureGenerator,
    UNetDenoiser,
    cut_window,
    initialise,
    pad_to_stride,
    random_area,
    smooth_loss,
    temporal_weights,
    training_crop,
)

__all__ = [
    "Flows",
    "StsUvd",
    "StsUvdFit",
    "StsUvdFitSettings",
    "StsUvdSettings",
    "consistency_loss",
    "denoise_sts_uvd",
    "estimate_flows",
    "first_kappa",
    "fit_sts_uvd",
    "kappa_at",
    "replace_pixels",
    "spatial_probabilities",
    "warp",
]

FloatArray = npt.NDArray[np.float32]
FlowEstimator = Callable[[FloatArray, FloatArray], FloatArray]  # (target, source) -> flow from source

_LEAST_GAIN = 0.01  # of the consistency loss that an epoch must gain not to count as a plateau
_MAGNITUDE_CENTRES = 16


@dataclass(frozen=True)
class StsUvdSettings:
    """Shape of the network: the window, L of the temporal filter, and channels as in `UmvdSettings`."""

    window: int = 7
    level: float = 1.0
    features: int = 21
    width: int = 48
    wide: int = 96
    head: int = 384


def first_kappa(mean_magnitude: float, eta: float) -> float:
    """Return kappa_0 = 0.2 (1 - exp(-eta M)) from the mean flow magnitude M in pixels."""
    return -0.2 * math.expm1(-eta * mean_magnitude)


def kappa_at(kappa_0: float, share_done: float) -> float:
    """Return kappa = max(0, kappa_0 (1 - epoch / max_epoch))."""
    return max(0.0, kappa_0 * (1 - share_done))


def spatial_probabilities(radius: int, alpha: float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Offsets (n, 2) of the neighbours q of a pixel p, and P(q|p) ~ exp(-alpha d), d the l1 distance.

    The window is the square of `radius` round p without p itself.
    """
    side = np.arange(-radius, radius + 1)
    offsets = np.stack(np.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
    offsets = offsets[np.abs(offsets).sum(1) > 0]
    weight = np.exp(-alpha * np.abs(offsets).sum(1))
    return offsets, weight / weight.sum()


def replace_pixels(
    frames: FloatArray, share: float, radius: int, alpha: float, rng: np.random.Generator
) -> FloatArray:
    """Replace a random `share` of the pixels of (N, H, W) frames by a neighbour drawn from P(q|p).

    At borders the draw is repeated until q lies inside, which normalises P over what exists.
    """
    offsets, probability = spatial_probabilities(radius, alpha)
    chosen = np.argwhere(rng.random(frames.shape) < share)
    source, pending = chosen.copy(), np.arange(len(chosen))
    edge = np.array(frames.shape[1:])
    while len(pending):
        drawn = chosen[pending, 1:] + offsets[rng.choice(len(offsets), len(pending), p=probability)]
        source[pending, 1:] = drawn
        pending = pending[((drawn < 0) | (drawn >= edge)).any(1)]
    result = frames.copy()
    result[tuple(chosen.T)] = frames[tuple(source.T)]
    return result


def warp(x: Tensor, flow: Tensor) -> Tensor:
    """Sample (B, C, H, W) at p + flow(p), bilinear, the border repeated; flow (B, 2, H, W), rows first."""
    height, width = x.shape[-2:]
    rows = torch.arange(height, dtype=x.dtype).view(-1, 1) + flow[:, 0]
    columns = torch.arange(width, dtype=x.dtype) + flow[:, 1]
    grid = torch.stack([2 * columns / max(width - 1, 1) - 1, 2 * rows / max(height - 1, 1) - 1], -1)
    return functional.grid_sample(x, grid, padding_mode="border", align_corners=True)


class StsUvd(nn.Module):
    """The network: features, temporal weights, guided temporal fusion, the U-Net of UMVD.

    What the fusion does with the centre: W averages the warped features of the *other* frames only;
    the centre's features enter the gate and the residual candidate, multiplied by kappa. At
    inference kappa is 0, so they are exactly zero and, **for given flows**, no pixel of the centre
    frame has any influence on the output; the same holds for missing frames. The flows themselves are
    an input: an estimator that compares a neighbour with the centre has seen the centre, so its noise
    can bend a flow. That is in the published method; estimating from denoised frames reduces it.
    """

    def __init__(self, settings: StsUvdSettings | None = None) -> None:
        super().__init__()
        self.settings = s = settings or StsUvdSettings()
        temporal_weights(s.window, s.level)
        self.generator = FeatureGenerator(s.features)
        self.gate = nn.Sequential(
            nn.Conv2d(2 + 2 * s.features, s.features, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(s.features, 1, 3, padding=1),
        )
        self.candidate = nn.Conv2d(2 + s.features, s.features, 3, padding=1)
        self.denoiser = UNetDenoiser(s.features, s.width, s.wide, s.head)
        initialise(self)

    def forward(self, window: Tensor, valid: Tensor, flows: Tensor, kappa: float = 0.0) -> Tensor:
        """Predict the centre of a window.

        Parameters
        ----------
        window, valid
            (B, N, H, W) normalised frames and (B, N), as for UMVD.
        flows
            (B, N, 2, H, W) from each frame to the centre, in pixels.
        kappa
            Weight of the centre; 0 at inference.

        Returns
        -------
        Tensor
            (B, 1, H, W), normalised.
        """
        s, centre = self.settings, self.settings.window // 2
        weights = window.new_tensor(temporal_weights(s.window, s.level, kappa))
        features = self.generator(window) * (weights * valid)[:, :, None, None, None]
        others = [i for i in range(s.window) if i != centre]
        count = valid[:, others].sum(1).clamp_min(1).view(-1, 1, 1, 1)
        exists = valid[:, :, None, None, None]
        mean_flow = (flows * exists)[:, others].sum(1) / count
        warped = torch.zeros_like(features[:, 0])
        for i in others:
            warped = warped + warp(features[:, i], flows[:, i]) * exists[:, i]
        warped = warped / count
        attention = torch.sigmoid(self.gate(torch.cat([mean_flow, warped, features[:, centre]], 1)))
        residual = self.candidate(torch.cat([mean_flow, features[:, centre]], 1))
        frame: Tensor = self.denoiser(warped + attention * residual)
        return frame


def consistency_loss(denoised: Tensor, forward: Tensor) -> Tensor:
    """Return 1/K sum over t of ||warp(I_{t+1}) - I_t||^2, per pixel.

    Parameters
    ----------
    denoised
        (B, K, H, W) successive denoised frames.
    forward
        (B, K - 1, 2, H, W) flows that bring frame t + 1 onto frame t.
    """
    b, k, height, width = denoised.shape
    later = denoised[:, 1:].reshape(-1, 1, height, width)
    moved = warp(later, forward.reshape(-1, 2, height, width)).view(b, k - 1, height, width)
    return (moved - denoised[:, :-1]).square().mean((0, 2, 3)).sum() / k


@dataclass(frozen=True)
class Flows:
    """Flows between neighbouring frames of a movie, each (T - 1, 2, H, W): 16 bytes a pixel a frame.

    Attributes
    ----------
    from_next
        Entry t brings frame t + 1 onto frame t.
    from_previous
        Entry t brings frame t onto frame t + 1.
    """

    from_next: FloatArray
    from_previous: FloatArray

    def to_centre(
        self, centre: int, window: int, area: tuple[slice, slice] = (slice(None), slice(None))
    ) -> Tensor:
        """Compose the flows (N, 2, h, w) from every frame of a window to its centre; 0 where missing."""
        half, length = window // 2, len(self.from_next) + 1
        sample = self.from_next[:1, :, area[0], area[1]]
        result = torch.zeros(window, 2, *sample.shape[2:])
        for side, steps in ((1, self.from_next), (-1, self.from_previous)):
            for distance in range(1, half + 1):
                index = centre + side * distance
                if not 0 <= index < length:
                    break
                step = steps[index - 1 if side == 1 else index][:, area[0], area[1]]
                so_far = result[half + side * (distance - 1)]
                onward = warp(torch.from_numpy(np.ascontiguousarray(step))[None], so_far[None])[0]
                result[half + side * distance] = so_far + onward
        return result


def default_flow(target: FloatArray, source: FloatArray) -> FloatArray:
    """Flow from `source` to `target` by iterative Lucas-Kanade (Le Besnerais & Champagnat 2005), smoothed."""
    smooth = [ndimage.gaussian_filter(frame, 2.0) for frame in (target, source)]
    flow = np.asarray(optical_flow_ilk(smooth[0], smooth[1], radius=9, num_warp=5), np.float32)
    return np.nan_to_num(flow, posinf=0.0, neginf=0.0)


def estimate_flows(frames: AnyMovie, estimator: FlowEstimator = default_flow) -> Flows:
    """Estimate the flows between neighbouring frames (T, H, W), T at least 2, both ways."""
    pairs = [(np.asarray(a, np.float32), np.asarray(b, np.float32)) for a, b in _pairs(frames)]
    return Flows(
        from_next=np.stack([estimator(a, b) for a, b in pairs]),
        from_previous=np.stack([estimator(b, a) for a, b in pairs]),
    )


def _pairs(frames: AnyMovie) -> list[tuple[npt.NDArray[np.generic], npt.NDArray[np.generic]]]:
    return [(frames[t], frames[t + 1]) for t in range(len(frames) - 1)]


@dataclass(frozen=True)
class StsUvdFitSettings:
    """How long and how to train.

    Attributes
    ----------
    epochs, steps_per_epoch
        Length; with these the same seed gives the same weights on a processor.
    minutes
        Wall-clock budget instead of epochs; an epoch in progress ends with it.
    batch, clip, crop
        Clips per step, successive centres in a clip, their edge in pixels.
    learning_rate
        Peak rate of Adam; it falls to zero along a half cosine.
    alpha, radius, replaced
        Fall-off of P(q|p) per pixel, half-width of its window, share of pixels replaced in training.
    eta
        Growth of kappa_0 with the motion, per pixel.
    patience
        Epochs without a gain of 1 % in the consistency loss after which training stops.
    seed
        Seed of the initial weights and of every choice.
    """

    epochs: int = 10
    steps_per_epoch: int = 200
    minutes: float | None = None
    batch: int = 2
    clip: int = 2
    crop: int = 64
    learning_rate: float = 1e-3
    alpha: float = 1.0
    radius: int = 2
    replaced: float = 0.1
    eta: float = 1.0
    patience: int = 3
    seed: int = 0


@dataclass(frozen=True)
class StsUvdFit:
    """What training gave.

    Attributes
    ----------
    network, flows
        The network, and the last flows of each movie, estimated from its denoised frames.
    steps, seconds, kappa_0
        What was spent, and the first weight of the centre.
    losses, consistency
        (step, smoothed loss) every ten steps; mean consistency loss of each epoch.
    plateau
        Whether the consistency loss ended the training.
    """

    network: StsUvd
    flows: list[Flows]
    steps: int
    seconds: float
    kappa_0: float
    plateau: bool
    losses: list[tuple[int, float]] = field(default_factory=list)
    consistency: list[float] = field(default_factory=list)


def fit_sts_uvd(
    movies: Sequence[TrainingMovie],
    *,
    settings: StsUvdFitSettings | None = None,
    network: StsUvdSettings | None = None,
    estimator: FlowEstimator = default_flow,
    on_progress: Callable[[int, float], None] = lambda _step, _loss: None,
) -> StsUvdFit:
    """Train STS-UVD on noisy movies; a movie's truth is never looked at.

    Each movie is held in memory with its flows, and denoised whole after every epoch.

    Parameters
    ----------
    movies
        What to train on.
    settings, network
        How to train and what.
    estimator
        Function of (target, source) frames that returns the flow from source to target.
    on_progress
        Called after every step with the steps done and the smoothed loss.

    Raises
    ------
    InvalidInput
        If there is no movie, a movie has fewer than two frames or is too small, or the loss is not finite.
    """
    settings, network = settings or StsUvdFitSettings(), network or StsUvdSettings()
    crop = training_crop(movies, settings.crop)
    torch.manual_seed(settings.seed)
    model = StsUvd(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    began, step, smoothed = time.perf_counter(), 0, math.nan

    def share_done() -> float:
        if settings.minutes is None:
            return step / (settings.epochs * settings.steps_per_epoch)
        return (time.perf_counter() - began) / (60 * settings.minutes)

    flows = [estimate_flows(movie.frames, estimator) for movie in movies]
    magnitude = float(np.mean([_mean_magnitude(f, network.window) for f in flows]))
    kappa_0 = first_kappa(magnitude, settings.eta)
    losses: list[tuple[int, float]] = []
    consistency: list[float] = []
    plateau = False
    while share_done() < 1 and not plateau:
        kappa = kappa_at(kappa_0, share_done())
        of_epoch: list[float] = []
        while len(of_epoch) < settings.steps_per_epoch and (done := share_done()) < 1:
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
            rng = np.random.default_rng((settings.seed, step))
            first, second = _loss_of_batch(model, movies, flows, settings, crop, kappa, rng)
            loss = first + second
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            step += 1
            of_epoch.append(float(second.detach()))
            smoothed = smooth_loss(smoothed, float(loss.detach()), step)
            if step % 10 == 0:
                losses.append((step, smoothed))
            on_progress(step, smoothed)
        if of_epoch:
            consistency.append(float(np.mean(of_epoch)))
        plateau = _is_plateau(consistency, settings.patience)
        if share_done() < 1 and not plateau:
            flows = [_refined(model, m, f, estimator) for m, f in zip(movies, flows, strict=True)]
            model.train()
    seconds = time.perf_counter() - began
    return StsUvdFit(model.eval(), flows, step, seconds, kappa_0, plateau, losses, consistency)


def denoise_sts_uvd(
    network: StsUvd,
    frames: AnyMovie,
    intensity: Intensity,
    *,
    flows: Flows | None = None,
    estimator: FlowEstimator = default_flow,
) -> FloatArray:
    """Denoise every frame of a movie, the ends too; missing neighbours are left out, never replaced.

    Parameters
    ----------
    network
        The trained network; kappa is 0 here, so for given flows the centre has no influence.
    frames
        (T, H, W) raw counts, T at least 2.
    intensity
        The transform that the network was trained with.
    flows
        Flows between neighbours, for example the last ones of the training. When None they are
        estimated from the noisy frames, the movie is denoised, and they are estimated again from that.
    estimator
        Used when `flows` is None.

    Returns
    -------
    ndarray
        (T, H, W) float32 in raw counts.
    """
    if flows is None:
        rough = denoise_sts_uvd(network, frames, intensity, flows=estimate_flows(frames, estimator))
        flows = estimate_flows(rough, estimator)
    s, result = network.settings, np.empty(frames.shape, np.float32)
    network.eval()
    for centre in range(len(frames)):
        window, valid = cut_window(frames, centre, s.window)
        z = torch.from_numpy((window - np.float32(intensity.offset)) / np.float32(intensity.scale))
        with torch.inference_mode():
            leading = pad_to_stride(flows.to_centre(centre, s.window))
            predicted = network(pad_to_stride(z[None]), torch.from_numpy(valid)[None], leading[None])
        frame = predicted[0, 0, : frames.shape[1], : frames.shape[2]].numpy()
        result[centre] = frame * intensity.scale + intensity.offset
    return result


def _refined(model: StsUvd, movie: TrainingMovie, flows: Flows, estimator: FlowEstimator) -> Flows:
    """Estimate the flows anew from the denoised frames."""
    return estimate_flows(denoise_sts_uvd(model, movie.frames, movie.intensity, flows=flows), estimator)


def _mean_magnitude(flows: Flows, window: int) -> float:
    """Mean length of the flows to the centre over windows spread along the movie, in pixels."""
    length, half = len(flows.from_next) + 1, window // 2
    lengths = []
    for centre in np.unique(np.linspace(0, length - 1, _MAGNITUDE_CENTRES).astype(int)):
        leading = flows.to_centre(int(centre), window)
        present = [i for i in range(window) if i != half and 0 <= centre + i - half < length]
        lengths.append(float(leading[present].square().sum(1).sqrt().mean()))
    return float(np.mean(lengths))


def _is_plateau(consistency: list[float], patience: int) -> bool:
    if len(consistency) <= patience:
        return False
    return min(consistency[-patience:]) > (1 - _LEAST_GAIN) * min(consistency[:-patience])


def _loss_of_batch(
    model: StsUvd,
    movies: Sequence[TrainingMovie],
    flows: Sequence[Flows],
    settings: StsUvdFitSettings,
    crop: int,
    kappa: float,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """L1 to the noisy centres, and the consistency loss between neighbouring denoised frames."""
    n, windows, valids, leads, references, forwards = model.settings.window, [], [], [], [], []
    k = min(settings.clip, *(len(m.frames) for m in movies))
    for _ in range(settings.batch):
        choice = int(rng.integers(len(movies)))
        movie, flow = movies[choice], flows[choice]
        first, area = int(rng.integers(len(movie.frames) - k + 1)), random_area(movie, crop, rng)
        for centre in range(first, first + k):
            raw, valid = cut_window(movie.frames, centre, n, area)
            z = np.asarray((raw - movie.intensity.offset) / movie.intensity.scale, np.float32)
            windows.append(replace_pixels(z, settings.replaced, settings.radius, settings.alpha, rng))
            valids.append(valid)
            leads.append(flow.to_centre(centre, n, area))
            references.append(z[n // 2])
        forwards.append(flow.from_next[first : first + k - 1, :, area[0], area[1]])
    denoised = model(
        torch.from_numpy(np.stack(windows)), torch.from_numpy(np.stack(valids)), torch.stack(leads), kappa
    )
    first_loss = functional.l1_loss(denoised[:, 0], torch.from_numpy(np.stack(references)))
    clips = denoised.view(settings.batch, k, crop, crop)
    return first_loss, consistency_loss(clips, torch.from_numpy(np.stack(forwards)))
