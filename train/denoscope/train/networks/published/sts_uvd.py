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
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from skimage.registration import optical_flow_ilk
from torch import Tensor, nn

from denoscope.runtime import AnyMovie, Intensity
from denoscope.train.flow.warp import warp
from denoscope.train.task import device_of

from .umvd import FeatureGenerator, UNetDenoiser, cut_window, initialise, pad_to_stride, temporal_weights

__all__ = [
    "FlowEstimator",
    "Flows",
    "StsUvd",
    "StsUvdSettings",
    "consistency_loss",
    "default_flow",
    "denoise_sts_uvd",
    "estimate_flows",
    "first_kappa",
    "kappa_at",
    "replace_pixels",
    "spatial_probabilities",
]

FloatArray = npt.NDArray[np.float32]
FlowEstimator = Callable[[FloatArray, FloatArray], FloatArray]  # (target, source) -> flow from source


@dataclass(frozen=True)
class StsUvdSettings:
    """Shape of a `StsUvd` network.

    Attributes
    ----------
    window
        Frames that one output sees, odd.
    level
        L of the temporal filter; see `temporal_weights`.
    features
        Channels of a frame's features.
    width, wide, head
        Channels of the U-Net; see `UmvdSettings`.
    """

    window: int = 7
    level: float = 4.0
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


class StsUvd(nn.Module):
    """Network of STS-UVD: features, temporal weights, guided temporal fusion, the U-Net of UMVD.

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
        # Scale and shift from the median, which L1 aims at, to the mean; found after the training.
        self.register_buffer("to_mean", torch.tensor([1.0, 0.0]))
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
        return self.predict(warped + attention * residual)

    def predict(self, fused: Tensor) -> Tensor:
        """Return the frame (B, 1, H, W) that the fused features (B, C, H, W) show."""
        assert isinstance(self.to_mean, Tensor)
        frame: Tensor = self.denoiser(fused)
        return frame * self.to_mean[0] + self.to_mean[1]


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
        """Compose the flows from every frame of a window to its centre.

        Parameters
        ----------
        centre
            Number of the centre frame in the movie.
        window
            Frames of the window, odd.
        area
            Rows and columns of the flow to return; all by default.

        Returns
        -------
        Tensor
            (window, 2, h, w) float32 in pixels: rows, columns; 0 for frames beyond the movie.
        """
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
    """Estimate the flows between neighbouring frames, both ways.

    Parameters
    ----------
    frames
        (T, H, W) raw counts, T at least 2.
    estimator
        Function of a target and a source frame (H, W) that returns the flow (2, H, W) in y and x, in pixels: each
        pixel of the target lies at its place plus the flow in the source.

    Returns
    -------
    Flows
        Flow of each pair of successive frames, forwards and backwards.
    """
    pairs = [(np.asarray(a, np.float32), np.asarray(b, np.float32)) for a, b in _pairs(frames)]
    return Flows(
        from_next=np.stack([estimator(a, b) for a, b in pairs]),
        from_previous=np.stack([estimator(b, a) for a, b in pairs]),
    )


def _pairs(frames: AnyMovie) -> list[tuple[npt.NDArray[np.generic], npt.NDArray[np.generic]]]:
    return [(frames[t], frames[t + 1]) for t in range(len(frames) - 1)]


def denoise_sts_uvd(
    network: StsUvd,
    frames: AnyMovie,
    intensity: Intensity,
    *,
    flows: Flows | None = None,
    estimator: FlowEstimator = default_flow,
    on_share: Callable[[float], None] = lambda _: None,
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
    on_share
        Called after every frame with the share of the work that is done, up to 1.

    Returns
    -------
    ndarray
        (T, H, W) float32 in raw counts.
    """
    before = 0.0
    if flows is None:
        before = 0.5
        flows = estimate_flows(frames, estimator)
        rough = denoise_sts_uvd(
            network, frames, intensity, flows=flows, on_share=lambda share: on_share(before * share)
        )
        flows = estimate_flows(rough, estimator)
    s, result, device = network.settings, np.empty(frames.shape, np.float32), device_of(network)
    network.eval()
    for centre in range(len(frames)):
        window, valid = cut_window(frames, centre, s.window)
        z = torch.from_numpy((window - np.float32(intensity.offset)) / np.float32(intensity.scale))
        with torch.inference_mode():
            leading = pad_to_stride(flows.to_centre(centre, s.window))
            batch = (pad_to_stride(z), torch.from_numpy(valid), leading)
            predicted = network(*(tensor[None].to(device) for tensor in batch))
        frame = predicted[0, 0, : frames.shape[1], : frames.shape[2]].cpu().numpy()
        result[centre] = frame * intensity.scale + intensity.offset
        on_share(before + (1 - before) * (centre + 1) / len(frames))
    return result
