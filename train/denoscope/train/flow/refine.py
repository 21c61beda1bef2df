"""Refine a flow network on a user's own movie, which has no true flow.

The network sees two frames; its flow is judged on two others with the same scene and motion but
independent noise: adding tau n to a frame and subtracting n / tau from its copy, n drawn like the
camera's noise, makes the noise of both independent (Pang et al. 2021, recorrupted-to-recorrupted). Were
it judged on the frames it has seen, it would learn to align their noise. What interpolation takes
from the noise's variance is computed and added back, or fractional shifts would always look better.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from denoscope.runtime import AnyMovie, Intensity, InvalidInput, counted

from .net import FlowNet, average_frames
from .warp import warp

__all__ = ["FlowRefinement", "RefineSettings", "photometric_score", "refine_flow"]

_TAU = 0.7  # share of the added noise that the network sees: its input gets 1.5 times the variance
_BLUR_PX = 1.5  # of the frames that are compared
_TEXTURE = 0.05  # of the local contrast's variance that counts like noise, so that bright cells do not rule
_HELD_OUT_BATCHES = 4


@dataclass(frozen=True)
class RefineSettings:
    """Settings of `refine_flow`.

    Attributes
    ----------
    steps, batch, crop
        Optimiser steps, pairs per step and their edge in pixels.
    average
        Frames averaged into each of the two that are compared: 1 for neighbours; more where light is
        scarce and motion slow.
    learning_rate
        Rate of Adam; it falls to zero along a half cosine.
    smoothness
        Weight of the flow's squared gradient, in pixels of flow per pixel.
    seed
        Seed of every choice.
    """

    steps: int = 200
    batch: int = 4
    crop: int = 96
    average: int = 1
    learning_rate: float = 1e-4
    smoothness: float = 0.3
    seed: int = 0


@dataclass(frozen=True)
class FlowRefinement:
    """Result of `refine_flow`.

    Attributes
    ----------
    network
        The refined network, or the one it started from if that scored as well.
    score_before, score_after
        Photometric score on held-out frames (lower is better; 0 is perfect alignment).
    improved
        Whether the refined weights were kept.
    """

    network: FlowNet
    score_before: float
    score_after: float
    improved: bool


def refine_flow(
    network: FlowNet,
    frames: AnyMovie,
    intensity: Intensity,
    *,
    settings: RefineSettings | None = None,
    on_progress: Callable[[int, float], None] = lambda _step, _loss: None,
) -> FlowRefinement:
    """Refine on a noisy movie; the result is never worse on the held-out last 15 % of it.

    Parameters
    ----------
    network
        Where to start; it is not changed.
    frames
        (T, H, W) raw counts.
    intensity
        Their transform and noise.
    settings
        How to refine.
    on_progress
        Called after every step with the steps done and the loss.

    Returns
    -------
    FlowRefinement
        Refined network, and the held-out loss before and after.

    Raises
    ------
    InvalidInput
        If the movie is too short or too small.
    """
    s = settings or RefineSettings()
    length, need = len(frames), 2 * s.average
    cut = length - max(need, round(0.15 * length))
    crop = min(s.crop, min(frames.shape[1:]) // 16 * 16)
    if cut < need or crop < 32:
        raise InvalidInput(
            f"A movie of {counted(length, 'frame')} of {frames.shape[1]} x {frames.shape[2]} pixels is too small to "
            "refine the "
            f"flow network with averages of {s.average}: give at least {counted(2 * need, 'frame')} of 32 x 32 pixels."
        )
    source = _Pairs(frames, intensity, s.average, s.batch, crop)
    held_out = [source.draw(cut, length, (s.seed, 2, index)) for index in range(_HELD_OUT_BATCHES)]
    model = copy.deepcopy(network).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=s.learning_rate)
    for step in range(s.steps):
        for group in optimizer.param_groups:
            group["lr"] = s.learning_rate * 0.5 * (1 + math.cos(math.pi * step / s.steps))
        loss = _loss(model, source.draw(0, cut, (s.seed, 1, step)), s.smoothness)
        if not math.isfinite(float(loss.detach())):
            break  # what diverged scores no better, and is thrown away below
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        on_progress(step + 1, float(loss.detach()))
    before, after = photometric_score(network, held_out), photometric_score(model, held_out)
    improved = after < before
    return FlowRefinement(
        network=(model if improved else copy.deepcopy(network)).eval(),
        score_before=before,
        score_after=after,
        improved=improved,
    )


@dataclass(frozen=True)
class _Judged:
    """Pairs to estimate from (a, b, noise) and, with independent noise and blurred, to judge on.

    `variance` is that of the noise of a judged frame before blurring.
    """

    a: Tensor
    b: Tensor
    noise: Tensor
    judge_a: Tensor
    judge_b: Tensor
    variance: Tensor


class _Pairs:
    """Draws neighbouring averages from a movie and splits their noise in two."""

    def __init__(self, frames: AnyMovie, intensity: Intensity, average: int, batch: int, crop: int) -> None:
        self.frames, self.unit = frames, intensity
        self.average, self.batch, self.crop = average, batch, crop

    def draw(self, first: int, last: int, seed: tuple[int, int, int]) -> _Judged:
        """Draw a batch from the frames first to last - 1."""
        rng, k, crop = np.random.default_rng(seed), self.average, self.crop
        windows = []
        for _ in range(self.batch):
            t = int(rng.integers(first, last - 2 * k + 1))
            y, x = (int(rng.integers(0, size - crop + 1)) for size in self.frames.shape[1:])
            window = np.stack([self.frames[i][y : y + crop, x : x + crop] for i in range(t, t + 2 * k)])
            windows.append((window.astype(np.float32) - self.unit.offset) / self.unit.scale)
        z = torch.from_numpy(np.stack(windows).astype(np.float32))
        single = torch.tensor([self.unit.noise_slope, self.unit.noise_floor], dtype=torch.float32)
        a, noise = average_frames(z[:, :k], single)
        b, _ = average_frames(z[:, k:], single)
        level = functional.avg_pool2d((a + b) / 2, 9, stride=1, padding=4, count_include_pad=False)
        variance = torch.maximum(noise[0] * level + 1.0, noise[1])
        generator = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
        seen, judged = [], []
        for frame in (a, b):
            added = variance.sqrt() * torch.randn(frame.shape, generator=generator)
            seen.append(frame + _TAU * added)
            judged.append(_blur(frame - added / _TAU))
        unit = math.sqrt(1 + _TAU**2)  # brings the noise of what is seen back to its unit
        return _Judged(
            a=seen[0] / unit,
            b=seen[1] / unit,
            noise=noise * noise.new_tensor([unit, 1.0]),
            judge_a=judged[0],
            judge_b=judged[1],
            variance=variance * (1 + 1 / _TAU**2),
        )


def photometric_score(network: FlowNet, pairs: list[_Judged]) -> float:
    """Return the mean squared misalignment beyond noise, in units of noise and contrast."""
    with torch.inference_mode():
        values = [float(_misalignment(network(p.a, p.b, p.noise), p)) for p in pairs]
    return sum(values) / len(values)


def _loss(model: FlowNet, p: _Judged, smoothness: float) -> Tensor:
    flow = model(p.a, p.b, p.noise)
    rough = (flow[..., 1:, :] - flow[..., :-1, :]).square().mean()
    rough = rough + (flow[..., 1:] - flow[..., :-1]).square().mean()
    loss: Tensor = _misalignment(flow, p) + smoothness / model.scale**2 * rough
    return loss


def _misalignment(flow: Tensor, p: _Judged) -> Tensor:
    full = functional.interpolate(
        flow, scale_factor=float(FlowNet.scale), mode="bilinear", align_corners=False
    )
    error = (warp(p.judge_a, full) - p.judge_b).square()
    # Noise in the difference: b's, and a's after blurring and interpolation between pixels.
    kernel = _kernel(p.variance)
    own, next_one = kernel.square().sum(), (kernel[1:] * kernel[:-1]).sum()
    part = full - full.floor()
    kept = ((1 - part).square() + part.square()) * own + 2 * part * (1 - part) * next_one
    expected = p.variance * (own.square() + kept[:, :1] * kept[:, 1:])
    contrast = functional.avg_pool2d(p.judge_b, 15, stride=1, padding=7, count_include_pad=False)
    contrast = (p.judge_b - contrast).square() - p.variance * own.square()
    contrast = functional.avg_pool2d(contrast, 15, stride=1, padding=7, count_include_pad=False).clamp_min(0)
    weight = 1 / (p.variance * own.square() + _TEXTURE * contrast)
    inner = slice(8, -8)  # what moved in from outside cannot be aligned
    return (weight * (error - expected))[..., inner, inner].mean()


def _blur(x: Tensor) -> Tensor:
    kernel = _kernel(x)
    edge = len(kernel) // 2
    x = functional.pad(x, (edge, edge, edge, edge), mode="reflect")
    return functional.conv2d(functional.conv2d(x, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))


def _kernel(like: Tensor) -> Tensor:
    """Return the blur's weights along one axis; they sum to 1."""
    edge = math.ceil(3 * _BLUR_PX)
    at = torch.arange(-edge, edge + 1, dtype=like.dtype, device=like.device)
    weights = torch.exp(-0.5 * (at / _BLUR_PX) ** 2)
    return weights / weights.sum()
