"""Every method as the pure functions of the streaming split: encode, motion, align, recall, remember, fuse.

Each function is a separate module that shares the trained network's weights; together they compute
exactly what the network computes from the whole window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any, Literal

import torch
from torch import Tensor, nn

from denoscope.runtime import InvalidInput
from denoscope.train import LiveNet, StsUvd, Umvd, temporal_weights
from denoscope.train.data.sampling import align_features, recall_memory
from denoscope.train.flow.warp import warp
from denoscope.train.networks.live.guide import lead_to_centre, resize_flow
from denoscope.train.networks.published.umvd import response_gain

__all__ = ["AnyNetwork", "Split", "split"]

AnyNetwork = LiveNet | Umvd | StsUvd

_STRIDE = 4  # of the published U-Net: two halvings
_FLOW_SCALE = 4  # flow networks answer at a quarter of the resolution


@dataclass(frozen=True)
class Split:
    """A network in the parts that a bundle holds.

    Attributes
    ----------
    method
        As in the manifest.
    encode
        (frame, noise) -> features; without `noise` where `uses_noise` is False.
    motion
        (features a, features b, noise) -> flow, or None.
    align
        (features, places, rows, columns) -> features there, or None.
    recall
        (memory, places, rows, columns) -> memory there, or None.
    remember
        (features, memory, weight) -> (memory, weight), or None.
    fuse
        (features of the window, flows, valid, memory, weight, noise) -> mean, or (mean, std). What the method does
        not have is left out of the arguments.
    window, look_ahead, stride, scale, feature_channels, memory_decay, memory_channels, two_sided,
    flow_scale
        As in the manifest.
    uses_noise
        Whether `encode` and `fuse` take the camera's noise.
    uses_weight
        Whether `fuse` takes the memory's weight.
    predicts_std
        Whether `fuse` gives a standard deviation.
    """

    method: Literal["live", "umvd", "sts-uvd"]
    encode: nn.Module
    motion: nn.Module | None
    remember: nn.Module | None
    fuse: nn.Module
    window: int
    look_ahead: int
    stride: int
    scale: int
    feature_channels: int
    memory_decay: tuple[float, ...] = ()
    memory_channels: int = 0
    two_sided: bool = False
    flow_scale: int = 0
    align: nn.Module | None = None
    recall: nn.Module | None = None
    uses_noise: bool = True
    uses_weight: bool = True
    predicts_std: bool = True


def split(network: AnyNetwork, flow: nn.Module | None = None) -> Split:
    """Return a trained network as the parts of a bundle.

    Parameters
    ----------
    network
        Of any method.
    flow
        STS-UVD only: the flow network that goes with it, frames a and b (B, 1, H, W) and `noise` to
        (B, 2, H/4, W/4) in pixels.

    Raises
    ------
    InvalidInput
        If STS-UVD comes without a flow network, or another method with one.
    """
    if needs_flow(network) != (flow is not None):
        raise InvalidInput(
            f"A flow network goes with STS-UVD and with it alone, not with {type(network).__name__}: "
            "give both or neither."
        )
    return _parts(network, flow)


def needs_flow(network: AnyNetwork) -> bool:
    """Return True for a network that is exported with a flow network beside it."""
    return isinstance(network, StsUvd)


@singledispatch
def _parts(network: Any, flow: nn.Module | None) -> Split:  # noqa: ARG001  for methods that register theirs
    raise InvalidInput(
        f"A network of the class {type(network).__name__} cannot be exported: register its parts in "
        "denoscope/export/split.py."
    )


@_parts.register(LiveNet)
def _parts_of_live(network: LiveNet, _flow: nn.Module | None) -> Split:
    s = network.settings
    return Split(
        method="live",
        encode=_LiveEncode(network),
        motion=_LiveMotion(network) if s.guided else None,
        remember=None if s.two_sided else _LiveRemember(network),
        fuse=_LiveGuidedFuse(network) if s.guided else _LiveFuse(network),
        window=s.window,
        look_ahead=s.look_ahead,
        stride=network.stride,
        scale=network.scale,
        feature_channels=s.feature_channels,
        memory_decay=s.memory_decay,
        memory_channels=s.memory_channels,
        two_sided=s.two_sided,
        flow_scale=_FLOW_SCALE if s.guided else 0,
        align=_LiveAlign() if s.subpixel else None,
        recall=_LiveRecall() if s.subpixel else None,
    )


@_parts.register(Umvd)
def _parts_of_umvd(network: Umvd, _flow: nn.Module | None) -> Split:
    s = network.settings
    adapts = s.baseline_frames is not None
    return Split(
        method="umvd",
        encode=_Frame() if adapts else _UmvdEncode(network),
        motion=None,
        remember=_Baseline(s.baseline_frames) if s.baseline_frames is not None else None,
        fuse=_UmvdBaselineFuse(network) if adapts else _UmvdFuse(network),
        window=s.window,
        look_ahead=s.window // 2,
        stride=_STRIDE,
        scale=1,
        feature_channels=1 if adapts else s.features,
        memory_decay=(s.baseline_frames,) if s.baseline_frames is not None else (),
        memory_channels=1 if adapts else 0,
        uses_noise=False,
        uses_weight=False,
        predicts_std=False,
    )


@_parts.register(StsUvd)
def _parts_of_sts_uvd(network: StsUvd, flow: nn.Module) -> Split:
    s = network.settings
    return Split(
        method="sts-uvd",
        encode=_StsUvdEncode(network),
        motion=_FirstChannelMotion(flow),
        remember=None,
        fuse=_StsUvdFuse(network),
        window=s.window,
        look_ahead=s.window // 2,
        stride=math.lcm(_STRIDE, _FLOW_SCALE, int(getattr(flow, "stride", 1))),
        scale=1,
        feature_channels=1 + s.features,
        flow_scale=_FLOW_SCALE,
        uses_noise=False,
        predicts_std=False,
    )


class _LiveEncode(nn.Module):
    def __init__(self, network: LiveNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, frame: Tensor, noise: Tensor) -> Tensor:
        return self.network.encode(frame, noise)


class _LiveMotion(nn.Module):
    def __init__(self, network: LiveNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, a: Tensor, b: Tensor, noise: Tensor) -> Tensor:
        return self.network.motion(a, b, noise)


class _LiveAlign(nn.Module):
    def forward(self, features: Tensor, places: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        return align_features(features, places, rows, columns)


class _LiveRecall(nn.Module):
    def forward(self, memory: Tensor, places: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        return recall_memory(memory, places, rows, columns)


class _LiveRemember(nn.Module):
    def __init__(self, network: LiveNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor, memory: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.remember(features, memory, weight)


class _LiveFuse(nn.Module):
    def __init__(self, network: LiveNet) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        features: list[Tensor],
        valid: Tensor,
        memory: Tensor,
        weight: Tensor,
        noise: Tensor,
    ) -> tuple[Tensor, Tensor]:
        return self.network.fuse(features, valid, memory, weight, noise)


class _LiveGuidedFuse(nn.Module):
    def __init__(self, network: LiveNet) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        features: list[Tensor],
        flows: list[Tensor],
        valid: Tensor,
        memory: Tensor,
        weight: Tensor,
        noise: Tensor,
    ) -> tuple[Tensor, Tensor]:
        return self.network.fuse(features, valid, memory, weight, noise, flows)


class _UmvdEncode(nn.Module):
    def __init__(self, network: Umvd) -> None:
        super().__init__()
        self.layers = network.generator.layers

    def forward(self, frame: Tensor) -> Tensor:
        features: Tensor = self.layers(frame)
        return features


class _UmvdFuse(nn.Module):
    def __init__(self, network: Umvd) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: list[Tensor], valid: Tensor) -> Tensor:
        weights = self.network.weights
        assert isinstance(weights, Tensor)
        share = weights * valid
        weighted = [frame * share[i] for i, frame in enumerate(features)]
        mean: Tensor = self.network.denoiser(torch.cat(weighted, dim=1))
        return mean


class _Frame(nn.Module):
    """One-photon UMVD keeps the frame itself: its features depend on the baseline of the *centre*.

    The baseline moves with every frame, and the convolutions are not linear, so a frame's features
    cannot be computed once. They are 4.5 % of the arithmetic and done in `fuse`, exactly.
    """

    def forward(self, frame: Tensor) -> Tensor:
        return frame.clone()


class _Baseline(nn.Module):
    """The running baseline of the frames that left the window, as the bundle's long memory."""

    def __init__(self, baseline_frames: float) -> None:
        super().__init__()
        self.rate = -math.expm1(-1 / baseline_frames)

    def forward(self, features: Tensor, memory: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        # It starts from zero, which is the movie's median: that of an empty past in `denoise_umvd`.
        return memory + self.rate * (features - memory), weight + self.rate * (1 - weight)


class _UmvdBaselineFuse(nn.Module):
    def __init__(self, network: Umvd) -> None:
        super().__init__()
        self.encode = _UmvdEncode(network)
        self.fuse = _UmvdFuse(network)
        self.amplify = network.settings.amplify

    def forward(self, features: list[Tensor], valid: Tensor, memory: Tensor) -> Tensor:
        above = [frame - memory for frame in features]
        if self.amplify == 1:
            mean: Tensor = self.fuse([self.encode(frame) for frame in above], valid)
            return mean + memory
        gain = response_gain(torch.cat(above, 1), valid[None], self.amplify)
        mean = self.fuse([self.encode(frame * gain) for frame in above], valid)
        return mean / gain + memory


class _StsUvdEncode(nn.Module):
    """The frame itself, which `motion` looks at, then its features."""

    def __init__(self, network: StsUvd) -> None:
        super().__init__()
        self.layers = network.generator.layers

    def forward(self, frame: Tensor) -> Tensor:
        return torch.cat([frame, self.layers(frame)], dim=1)


class _FirstChannelMotion(nn.Module):
    def __init__(self, flow: nn.Module) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, a: Tensor, b: Tensor, noise: Tensor) -> Tensor:
        flow: Tensor = self.flow(a[:, :1], b[:, :1], noise)
        return flow


class _StsUvdFuse(nn.Module):
    """The part of `StsUvd.forward` after its features, with kappa = 0 and flows between neighbours."""

    def __init__(self, network: StsUvd) -> None:
        super().__init__()
        self.network = network
        s = network.settings
        self.weights: Sequence[float] = temporal_weights(s.window, s.level)

    def forward(self, features: list[Tensor], flows: list[Tensor], valid: Tensor) -> Tensor:
        network, window = self.network, len(features)
        centre = window // 2
        others = [i for i in range(window) if i != centre]
        leads = lead_to_centre(flows, centre, _FLOW_SCALE)
        # The frames of a window as one batch: one operator warps them all.
        along = resize_flow(torch.cat([leads[i] for i in others]), float(_FLOW_SCALE))
        there = torch.stack([valid[i] for i in others]).view(-1, 1, 1, 1)
        neighbours = torch.cat([features[i][:, 1:] * (self.weights[i] * valid[i]) for i in others])
        count = there.sum().clamp_min(1)
        mean_flow = (along * there).sum(0, keepdim=True) / count
        warped = (warp(neighbours, along) * there).sum(0, keepdim=True) / count
        target = features[centre][:, 1:] * (self.weights[centre] * valid[centre])
        attention = torch.sigmoid(network.gate(torch.cat([mean_flow, warped, target], 1)))
        residual = network.candidate(torch.cat([mean_flow, target], 1))
        return network.predict(warped + attention * residual)
