"""A small network for the motion between two noisy frames.

The slides leave "lightweight optical flow models" to future work. This one compares learned features
at a quarter, an eighth and a sixteenth of the resolution, coarse to fine: a cost volume of small
radius round the motion found so far (Sun et al. 2018, PWC-Net), and the damped equations of Lucas and
Kanade (1981) on learned features, whose answers a few convolutions choose between and correct. It is
trained on noise from 0.1 to 1,000 photons a pixel with the distance to the true flow as its loss, so
where a pair of frames says nothing it answers with no motion.

Large displacements of the whole frame are found outside the graph, by phase correlation with a test
of significance (`global_shift`); the network sees what is left.

Flows are in pixels of the frame, rows then columns, on b's grid: ``a(p + flow(p)) = b(p)``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from denoscope.runtime import Intensity, InvalidInput
from denoscope.runtime.motion.register import AT_FIRST, Registration
from denoscope.runtime.words import first_line

from .warp import warp

__all__ = [
    "FlowNet",
    "FlowSettings",
    "Motion",
    "average_frames",
    "estimate_flow",
    "flow_estimator",
    "global_shift",
    "load_flow",
]

FloatArray = npt.NDArray[np.float32]

_CELL = 4  # pixels in a cell of 2 x 2
_WINDOWS = (3, 7)  # of a level's own pixels, over which Lucas and Kanade's equations are averaged
_LARGEST = 1.5  # pixels of a level that one step of theirs can go
_WIDE = 15  # cells: what counts as background and as local contrast


@dataclass(frozen=True)
class FlowSettings:
    """Shape of the network.

    Attributes
    ----------
    channels
        Features of a frame at each of the three levels.
    width
        Channels inside the estimator of a level.
    radius
        Reach of the cost volumes of the two coarser levels, in their own pixels.
    passes
        How often to estimate, each time from where the last pass has led; weights do not depend on it.
    """

    channels: int = 24
    width: int = 24
    radius: int = 2
    passes: int = 2

    def to_dict(self) -> dict[str, object]:
        """Return the settings as plain values for JSON."""
        return asdict(self)


def _twice(x: Tensor, like: Tensor) -> Tensor:
    """Enlarge twofold and cut to the size of `like`, whose half (rounded up) `x` is."""
    large = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
    return large[:, :, : like.shape[2], : like.shape[3]]


class _LucasKanade(nn.Module):
    """Solve for the step that explains the difference of two feature maps, over windows of several sizes.

    The normal equations are damped, so that a window that holds little beyond noise gives a small step:
    the posterior mean under a Gaussian prior. Weights of the channels and damping are learned.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels))
        self.damping = nn.Parameter(torch.full((len(_WINDOWS),), -3.0))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Return a step (rows, columns) for each window, and how well each is determined."""
        middle = functional.pad((a + b) / 2, (1, 1, 1, 1), mode="replicate")
        rows = (middle[:, :, 2:, 1:-1] - middle[:, :, :-2, 1:-1]) / 2
        columns = (middle[:, :, 1:-1, 2:] - middle[:, :, 1:-1, :-2]) / 2
        change = b - a
        weight = torch.softmax(self.weight, 0).view(1, -1, 1, 1)
        products = torch.cat(
            [
                (weight * left * right).sum(1, keepdim=True)
                for left, right in (
                    (rows, rows),
                    (columns, columns),
                    (rows, columns),
                    (rows, change),
                    (columns, change),
                )
            ],
            1,
        )
        damping = functional.softplus(self.damping)
        results = []
        for index, window in enumerate(_WINDOWS):
            # Twice the mean over a square is close enough to a smooth window.
            pooled = products
            for _ in range(2):
                pooled = functional.avg_pool2d(
                    pooled, window, stride=1, padding=window // 2, count_include_pad=False
                )
            yy, xx, yx, y, x = (pooled[:, i : i + 1] for i in range(5))
            yy, xx = yy + damping[index], xx + damping[index]
            determinant = yy * xx - yx * yx
            step = torch.cat([xx * y - yx * x, yy * x - yx * y], 1) / determinant
            results += [_LARGEST * torch.tanh(step / _LARGEST), torch.log(determinant)]
        return torch.cat(results, 1)


class _Level(nn.Module):
    """Estimate what is left of the motion at one resolution."""

    def __init__(self, s: FlowSettings, *, radius: int, carried: int) -> None:
        super().__init__()
        self.radius = radius
        self.solve = _LucasKanade(s.channels)
        costs = (2 * radius + 1) ** 2 if radius else 0
        solved = 3 * len(_WINDOWS)
        self.entry = nn.Conv2d(costs + solved + s.channels + carried, s.width, 1)
        self.body = nn.Sequential(
            nn.Conv2d(s.width, s.width, 3, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(s.width, s.width, 3, padding=2, dilation=2),
            nn.LeakyReLU(0.1),
        )
        # A correction, and how far to trust the step of each window, or none.
        self.step = nn.Conv2d(s.width, 2 + len(_WINDOWS) + 1, 3, padding=1)

    def forward(self, a: Tensor, b: Tensor, carried: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the step of the flow, in pixels of this level, and the state for the next one."""
        solved = self.solve(a, b)
        parts = [solved, b]
        if self.radius:
            parts.append(self._costs(a, b))
        if carried is not None:
            parts.append(carried)
        x = functional.leaky_relu(self.entry(torch.cat(parts, 1)), 0.1)
        x = x + self.body(x)
        answer = self.step(x)
        share = torch.softmax(answer[:, 2:], 1)
        step = answer[:, :2]
        for index in range(len(_WINDOWS)):
            step = step + share[:, index : index + 1] * solved[:, 3 * index : 3 * index + 2]
        return step, x

    def _costs(self, a: Tensor, b: Tensor) -> Tensor:
        """Correlate b's features with a's at every displacement within the radius."""
        r, (height, width) = self.radius, b.shape[-2:]
        around = functional.pad(a, (r, r, r, r))
        return torch.cat(
            [
                (b * around[:, :, y : y + height, x : x + width]).mean(1, keepdim=True)
                for y in range(2 * r + 1)
                for x in range(2 * r + 1)
            ],
            1,
        )


class FlowNet(nn.Module):
    """The flow between two frames, at a quarter of their resolution.

    Parameters
    ----------
    settings
        Shape of the network.
    """

    stride = 4  # frame sizes must be multiples
    scale = 4  # of the flow's grid

    def __init__(self, settings: FlowSettings | None = None) -> None:
        super().__init__()
        self.settings = s = settings or FlowSettings()
        c = s.channels
        self.quarter = nn.Sequential(
            nn.Conv2d(_CELL + 1, 16, 3, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(16, c, 3, padding=1, stride=2),
            nn.LeakyReLU(0.1),
            nn.Conv2d(c, c, 3, padding=1),
        )
        self.eighth, self.sixteenth = (
            nn.Sequential(
                nn.LeakyReLU(0.1),
                nn.Conv2d(c, c, 3, padding=1, stride=2),
                nn.LeakyReLU(0.1),
                nn.Conv2d(c, c, 3, padding=1),
            )
            for _ in range(2)
        )
        carried = s.width + 2
        self.levels = nn.ModuleList(
            [
                _Level(s, radius=s.radius, carried=0),
                _Level(s, radius=s.radius, carried=carried),
                _Level(s, radius=0, carried=carried),
                _Level(s, radius=0, carried=carried),
            ]
        )
        self._start_without_motion()

    def _start_without_motion(self) -> None:
        """Keep signals at unit size through all layers, and start with small steps."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=0.1, nonlinearity="leaky_relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        for level in self.levels:
            assert isinstance(level, _Level)
            nn.init.normal_(level.step.weight, std=0.002)

    def forward(self, a: Tensor, b: Tensor, noise: Tensor) -> Tensor:
        """Estimate the flow that brings frame a onto frame b.

        Parameters
        ----------
        a, b
            (B, 1, H, W) normalised frames (`Intensity`); H and W multiples of `stride`.
        noise
            (B, 2) or (2,): slope and floor of the noise variance. For averages of several frames see
            `average_frames`.

        Returns
        -------
        Tensor
            (B, 2, H/4, W/4) in pixels of the frame, rows then columns: a(p + flow(p)) = b(p).
        """
        return self.match(functional.pixel_unshuffle(a, 2), functional.pixel_unshuffle(b, 2), noise)

    def match(self, a: Tensor, b: Tensor, noise: Tensor) -> Tensor:
        """Return the flow from frame a to frame b, given as cells.

        Parameters
        ----------
        a, b
            Cells (B, 4, H/2, W/2) float32 of the normalised frames, as pixel unshuffling gives them.
        noise
            (B, 2): as for `forward`.

        Returns
        -------
        Tensor
            (B, 2, H/4, W/4) in pixels of the frame: rows, columns.
        """
        there = self.encode(b, noise)
        flow = self.pyramid(self.encode(a, noise), there)[-1]
        frame = functional.pixel_shuffle(a, 2)
        for _ in range(self.settings.passes - 1):
            full = functional.interpolate(
                flow, scale_factor=float(self.scale), mode="bilinear", align_corners=False
            )
            moved = functional.pixel_unshuffle(warp(frame, full), 2)
            left = self.pyramid(self.encode(moved, noise), there)[-1]
            flow = left + warp(flow, left / self.scale)
        return flow

    def encode(self, cells: Tensor, noise: Tensor) -> list[Tensor]:
        """Return one frame's features at a quarter, an eighth and a sixteenth of the resolution."""
        quarter = self.quarter(_standardised(cells, noise))
        eighth = self.eighth(quarter)
        return [quarter, eighth, self.sixteenth(eighth)]

    def pyramid(self, a: list[Tensor], b: list[Tensor]) -> list[Tensor]:
        """Return the flows after each step, coarse to fine, each in pixels of the frame."""
        flow, state = self.levels[0](a[2], b[2], None)
        flows = [flow * (4 * self.scale)]
        # The finest level takes a second step from where the first one led.
        for level, index, finer in zip(self.levels[1:], (1, 0, 0), (True, True, False), strict=True):
            near = b[index]
            if finer:
                flow, state = 2 * _twice(flow, near), _twice(state, near)
            step, state = level(warp(a[index], flow), near, torch.cat([state, flow], 1))
            flow = flow + step
            flows.append(flow * (self.scale * 2**index))
        return flows


def _standardised(cells: Tensor, noise: Tensor) -> Tensor:
    """Remove the background and bring noise or structure, whichever is stronger, to unit size.

    The last channel says how far structure exceeds noise, so that nothing is lost.
    """
    noise = noise.reshape(-1, 2)
    slope, floor = noise[:, 0].view(-1, 1, 1, 1), noise[:, 1].view(-1, 1, 1, 1)
    grey = cells.mean(1, keepdim=True)
    level = functional.avg_pool2d(grey, 7, stride=1, padding=3, count_include_pad=False)
    x = (cells - _wide_mean(grey)) / torch.sqrt(torch.maximum(slope * level + 1.0, floor))
    energy = _wide_mean(x.square().mean(1, keepdim=True))
    return torch.cat([x / torch.sqrt(1.0 + energy), 0.5 * torch.log(0.1 + energy)], 1)


def _wide_mean(x: Tensor) -> Tensor:
    """Mean over about 30 pixels of the frame, computed at an eighth of its resolution."""
    coarse = functional.avg_pool2d(x, _WIDE, stride=4, padding=_WIDE // 2, count_include_pad=False)
    large = functional.interpolate(coarse, scale_factor=4.0, mode="bilinear", align_corners=False)
    return large[:, :, : x.shape[2], : x.shape[3]]


class Motion(nn.Module):
    """The form in which a bundle holds the network: motion(features_a, features_b, noise) -> flow.

    Parameters
    ----------
    network
        The flow network.
    cells
        Whether the features begin with the cells (4, H/2, W/2) of the frame, as those of `live` do; else
        their first channel is the frame at full resolution.
    """

    def __init__(self, network: FlowNet, *, cells: bool = True) -> None:
        super().__init__()
        self.network = network
        self.cells = cells

    def forward(self, features_a: Tensor, features_b: Tensor, noise: Tensor) -> Tensor:
        """Return (B, 2, H/4, W/4) as `FlowNet.forward` does; the other channels are not looked at."""
        if self.cells:
            return self.network.match(features_a[:, :_CELL], features_b[:, :_CELL], noise)
        flow: Tensor = self.network(features_a[:, :1], features_b[:, :1], noise)
        return flow


def average_frames(frames: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Average normalised frames and keep the unit of noise: what `FlowNet` takes for a single frame.

    The mean of K frames varies K times less. Multiplied by the root of K it has the variance
    ``max(slope' z + 1, floor)`` again, with slope' = slope / root K.

    Parameters
    ----------
    frames
        (B, K, H, W) normalised.
    noise
        (B, 2) or (2,) of a single frame.

    Returns
    -------
    frame, noise
        (B, 1, H, W), and slope and floor to go with it.
    """
    root = frames.shape[1] ** 0.5
    return frames.mean(1, keepdim=True) * root, noise * noise.new_tensor([1 / root, 1.0])


def load_flow(path: Path | None = None, *, passes: int = 2) -> FlowNet:
    """Load a flow network, ready to use.

    Parameters
    ----------
    path
        Safetensors file of `FlowNet`'s weights with the default settings; the shipped ones when None.
    passes
        As in `FlowSettings`: 1 for speed.

    Returns
    -------
    FlowNet
        On the CPU, for evaluation.

    Raises
    ------
    InvalidInput
        If the file is not there or holds something else.
    """
    network = FlowNet(FlowSettings(passes=passes))
    try:
        if path is not None:
            network.load_state_dict(load_file(path))
        else:
            with resources.as_file(resources.files("denoscope.train") / "weights/flow.safetensors") as file:
                network.load_state_dict(load_file(file))
    except (SafetensorError, OSError, RuntimeError) as error:
        reason = first_line(error)
        raise InvalidInput(
            f"{path or 'The shipped file'} does not hold the weights of a flow network ({reason}): "
            "give a file that fit_flow wrote, or none for the shipped weights."
        ) from error
    return network.eval()


def global_shift(
    a: npt.NDArray[Any], b: npt.NDArray[Any], intensity: Intensity, *, reach: int = 16
) -> tuple[int, int]:
    """Return the displacement (y, x) in whole pixels with a(p + displacement) = b(p), over the whole frame.

    Phase correlation of the band-passed frames, as the runtime aligns movies; (0, 0) unless another
    displacement correlates better by more than the noise would do.

    Parameters
    ----------
    a, b
        (H, W) raw counts.
    intensity
        Their transform and noise.
    reach
        Largest displacement looked for, in pixels.
    """
    # Of two frames alone nothing is known yet, so the strict threshold of a session's start applies.
    registration = Registration((a.shape[0], a.shape[1]), intensity, reach, sigmas=AT_FIRST)
    registration.follow(a)
    y, x = registration.follow(b)
    return -y, -x


def estimate_flow(
    network: FlowNet, a: npt.NDArray[Any], b: npt.NDArray[Any], intensity: Intensity, *, reach: int = 16
) -> FloatArray:
    """Estimate the flow between two frames of any size: the global shift, then the network.

    Parameters
    ----------
    network
        The flow network.
    a, b
        (H, W) raw counts.
    intensity
        Their transform and noise.
    reach
        Largest shift of the whole frame looked for, in pixels; 0 to look for none.

    Returns
    -------
    numpy.ndarray
        (2, H, W) float32 in pixels, rows then columns: a(p + flow(p)) = b(p).

    Examples
    --------
    >>> a = np.random.default_rng(0).poisson(100, (32, 48)).astype(np.uint16)
    >>> intensity = Intensity(offset=100, scale=10, noise_slope=0.1, noise_floor=0.1)
    >>> estimate_flow(load_flow(), a, a, intensity).shape
    (2, 32, 48)
    """
    height, width = a.shape
    shift = global_shift(a, b, intensity, reach=reach) if reach else (0, 0)
    rows = np.clip(np.arange(height) + shift[0], 0, height - 1)
    columns = np.clip(np.arange(width) + shift[1], 0, width - 1)
    pad = (0, -width % network.stride, 0, -height % network.stride)
    frames = [
        functional.pad(
            torch.from_numpy(
                (np.asarray(frame, np.float32) - np.float32(intensity.offset)) / np.float32(intensity.scale)
            )[None, None],
            pad,
            mode="replicate",
        )
        for frame in (a[np.ix_(rows, columns)], b)
    ]
    noise = torch.tensor([intensity.noise_slope, intensity.noise_floor], dtype=torch.float32)
    with torch.inference_mode():
        flow = network(frames[0], frames[1], noise)
        flow = functional.interpolate(
            flow, scale_factor=float(network.scale), mode="bilinear", align_corners=False
        )
    left = flow[0, :, :height, :width].numpy()
    return np.asarray(left + np.array(shift, np.float32)[:, None, None], np.float32)


def flow_estimator(
    network: FlowNet, intensity: Intensity, *, reach: int = 16
) -> Callable[[FloatArray, FloatArray], FloatArray]:
    """Return `estimate_flow` as the function of (target, source) frames that STS-UVD asks for.

    Parameters
    ----------
    network
        Flow network.
    intensity
        Transform and noise of the frames.
    reach
        Largest displacement that is looked for, in pixels.

    Returns
    -------
    callable
        Of (H, W) target and source in raw counts; returns (2, H, W) in pixels.
    """
    return lambda target, source: estimate_flow(network, source, target, intensity, reach=reach)
