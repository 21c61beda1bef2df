"""UMVD, the first published method: neighbours weighted by a DeepTemporal filter, then a U-Net.

Aiyetigbo et al. 2024, "Unsupervised Microscopy Video Denoising": three 3 x 3 convolutions make
features of every frame alone, a fixed filter weights them by their distance to the centre (zero for
the centre itself), a U-Net predicts the centre from all of them, and the loss is the squared error
to the noisy centre. Because the centre never enters, its noise cannot be copied.

The pre-processing for one-photon movies "to amplify the neuron response" (slides) is not public. Here a causal running
baseline is removed (`running_baseline`), and what is left is multiplied by a gain that is high where the neighbouring
frames rise above the baseline (`response_gain`); both are undone after denoising.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from denoscope.runtime import AnyMovie, Intensity, InvalidInput, counted
from denoscope.train.data.movie import TrainingMovie
from denoscope.train.fit_settings import FitSettings
from denoscope.train.task import Task, Tensors, device_of, first_held_out

__all__ = [
    "FeatureGenerator",
    "Umvd",
    "UmvdFitSettings",
    "UmvdSettings",
    "UmvdTask",
    "denoise_umvd",
    "next_baseline",
    "response_gain",
    "running_baseline",
    "temporal_weights",
]

FloatArray = npt.NDArray[np.float32]
CentreRange = tuple[TrainingMovie, range]  # where centres are drawn from

STRIDE = 4  # two halvings
SCORE_BATCHES, SCORE_WINDOWS = 6, 8
_NEAR, _HALF_GAIN = 5, 0.5  # pixels a side; response with half of the gain, in noise deviations
_LONGEST_PAST = 5  # time constants of the baseline that training reads back: all but 0.7 % of its weight


def temporal_weights(window: int, level: float = 1.0, kappa: float = 0.0) -> tuple[float, ...]:
    """Return the weights of the frames of a window, the DeepTemporal filter (slides, "Weighted Temporal Sampling").

    ``w_t = kappa + (1 - kappa) (1 - (t / C)^L)`` for t <= C = N // 2, mirrored after.

    Parameters
    ----------
    window
        Number of frames N, odd, at least 3.
    level
        L: 1 falls linearly (slides), 64 is a step with only the centre at `kappa` (released code).
    kappa
        Weight of the centre; 0 hides it.

    Returns
    -------
    tuple of float
        N weights; 1 at both ends, `kappa` in the middle.

    Raises
    ------
    InvalidInput
        If `window` is even or below 3, `level` is not above 0, or `kappa` is not between 0 and 1.

    Examples
    --------
    >>> temporal_weights(5)
    (1.0, 0.5, 0.0, 0.5, 1.0)
    """
    if window < 3 or window % 2 == 0:
        raise InvalidInput(
            f"A window of {counted(window, 'frame')} has no centre: choose an odd number from 3 on."
        )
    if level <= 0 or not 0 <= kappa <= 1:
        raise InvalidInput(
            f"The temporal filter takes L above 0 and kappa from 0 to 1, not L = {level:g} and kappa = {kappa:g}."
        )
    c = window // 2
    return tuple(kappa + (1 - kappa) * (1 - (min(t, 2 * c - t) / c) ** level) for t in range(window))


@dataclass(frozen=True)
class UmvdSettings:
    """Shape of a `Umvd` network; the defaults are the published one with 1,786,191 parameters.

    Attributes
    ----------
    window
        Frames N that one output sees, any odd number from 3 on.
    level, kappa
        L and kappa of `temporal_weights`. With kappa 0 the centre has no influence.
    features
        Channels of a frame's features.
    width, wide
        Channels of the encoder levels and of the decoder levels.
    head
        Channels inside the 1 x 1 head.
    baseline_frames
        Time constant of the running baseline that is removed first, in frames; None for two-photon
        movies, whose background is low.
    amplify
        Largest gain of the response above that baseline; 1 for none. It needs `baseline_frames`.
    """

    window: int = 7
    level: float = 1.0
    kappa: float = 0.0
    features: int = 21
    width: int = 48
    wide: int = 96
    head: int = 384
    baseline_frames: float | None = None
    amplify: float = 1.0

    def __post_init__(self) -> None:
        if self.amplify < 1 or (self.amplify > 1 and self.baseline_frames is None):
            raise InvalidInput(
                f"The response above a baseline is amplified by 1 or more, not by {self.amplify:g} with a baseline of "
                f"{self.baseline_frames} frames: give both, for example amplify=4 and baseline_frames=100."
            )

    @classmethod
    def one_photon(cls, **changes: Any) -> UmvdSettings:
        """Return the settings for one-photon movies: a baseline of 100 frames, a response that is amplified 4 times."""
        return cls(**{"baseline_frames": 100.0, "amplify": 4.0, **changes})


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="replicate", bias=False)
    return nn.Sequential(convolution, nn.ReLU())


def _level(inputs: int, inside: int, outputs: int, count: int) -> nn.Sequential:
    widths = [inputs, *[inside] * (count - 1), outputs]
    return nn.Sequential(*(_convolution(a, b) for a, b in itertools.pairwise(widths)))


class FeatureGenerator(nn.Module):
    """Three 3 x 3 convolutions on each frame alone, the same weights for every frame.

    With one input channel this is what the published group convolution does.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _convolution(1, features), _convolution(features, features), _convolution(features, features)
        )

    def forward(self, frames: Tensor) -> Tensor:
        """Map frames (B, N, H, W) to features (B, N, C, H, W)."""
        b, n, h, w = frames.shape
        maps: Tensor = self.layers(frames.reshape(b * n, 1, h, w))
        return maps.reshape(b, n, -1, h, w)


class UNetDenoiser(nn.Module):
    """U-Net of three encoder and two decoder levels, replicate padding, nearest upsampling, no bias."""

    def __init__(self, inputs: int, width: int, wide: int, head: int) -> None:
        super().__init__()
        self.encoder1 = _level(inputs, width, width, 5)
        self.encoder2 = _level(width, width, width, 5)
        self.encoder3 = _level(width, wide, width, 5)
        self.decoder2 = _level(2 * width, wide, wide, 6)
        self.decoder1 = _level(wide + inputs, wide, wide, 6)
        self.head = nn.Sequential(
            nn.Conv2d(wide, head, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(head, wide, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(wide, 1, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map features (B, C, H, W) to one frame (B, 1, H, W); H and W multiples of 4."""
        half = functional.max_pool2d(self.encoder1(x), 2)
        deep = self.encoder3(functional.max_pool2d(self.encoder2(half), 2))
        middle = self.decoder2(torch.cat([_double(deep), half], dim=1))
        full = self.decoder1(torch.cat([_double(middle), x], dim=1))
        frame: Tensor = self.head(full)
        return frame


def _double(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


class Umvd(nn.Module):
    """Network of UMVD as it was published.

    With kappa 0 the centre's features are multiplied by exactly zero, so no pixel of the centre frame
    has any influence on the output; nor has a missing frame, whose features are multiplied by zero too.

    Parameters
    ----------
    settings
        Shape of the network.
    """

    def __init__(self, settings: UmvdSettings | None = None) -> None:
        super().__init__()
        self.settings = s = settings or UmvdSettings()
        self.generator = FeatureGenerator(s.features)
        self.denoiser = UNetDenoiser(s.window * s.features, s.width, s.wide, s.head)
        weights = torch.tensor(temporal_weights(s.window, s.level, s.kappa))
        self.register_buffer("weights", weights, persistent=False)
        initialise(self)

    def forward(self, window: Tensor, valid: Tensor) -> Tensor:
        """Predict the centre of a window.

        Parameters
        ----------
        window
            (B, N, H, W) normalised frames, H and W multiples of 4; missing frames hold anything finite.
        valid
            (B, N): 1 where the frame exists, 0 where it is missing.

        Returns
        -------
        Tensor
            (B, 1, H, W), normalised.
        """
        assert isinstance(self.weights, Tensor)
        gain = self.gain(window, valid)
        features = self.generator(window * gain) * (self.weights * valid)[:, :, None, None, None]
        frame: Tensor = self.denoiser(features.flatten(1, 2))
        return frame / gain

    def gain(self, window: Tensor, valid: Tensor) -> Tensor:
        """Return the gain (B, 1, H, W) of a window's response; ones where nothing is amplified."""
        if self.settings.amplify == 1:
            return torch.ones_like(window[:, :1])
        return response_gain(window, valid, self.settings.amplify)


def response_gain(window: Tensor, valid: Tensor, most: float) -> Tensor:
    """Return how much a window is amplified at each pixel: up to `most` where its other frames rise above the baseline.

    ``g = 1 + (most - 1) m^2 / (m^2 + 1/4)`` with m the mean of the frames beside the centre, averaged over 5 x 5
    pixels, where positive, in noise deviations at the movie's median. The centre has no influence on its own gain, so
    the network stays blind, and the loss that is weighted by it stays that of the clean frame.

    Parameters
    ----------
    window
        (B, N, H, W) frames above their baseline, normalised.
    valid
        (B, N): 1 where the frame exists.
    most
        Largest gain.

    Returns
    -------
    Tensor
        (B, 1, H, W), from 1 to `most`.
    """
    n = window.shape[1]
    beside = torch.cat([valid[:, : n // 2], torch.zeros_like(valid[:, :1]), valid[:, n // 2 + 1 :]], 1)
    total = (window * beside[:, :, None, None]).sum(1, keepdim=True)
    mean = total / beside.sum(1).clamp_min(1)[:, None, None, None]
    near = functional.avg_pool2d(mean, _NEAR, stride=1, padding=_NEAR // 2, count_include_pad=False)
    power = functional.relu(near).square()
    return 1 + (most - 1) * power / (power + _HALF_GAIN**2)


def initialise(network: nn.Module) -> None:
    """Draw every convolution for ReLU after it (He et al. 2015), so that twenty layers pass a signal."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
            if module.out_channels == 1:
                module.weight.data.mul_(0.1)  # the first prediction is near the movie's median


def next_baseline(baseline: FloatArray, frame: npt.NDArray[np.generic], baseline_frames: float) -> FloatArray:
    """Move a running baseline (H, W) by one frame: ``b + (1 - exp(-1 / tau)) (V - b)``."""
    rate = -math.expm1(-1 / baseline_frames)
    return np.asarray(baseline + rate * (np.asarray(frame, np.float32) - baseline), np.float32)


def running_baseline(frames: AnyMovie, baseline_frames: float, start: float) -> FloatArray:
    """Return the baseline that UMVD subtracts from a window: an average of the frames before it.

    A window is denoised as ``network(V - b) + b`` with one b for all its frames, made of the frames
    before the window. So the operation is undone exactly whatever the network does, runs live, and
    carries nothing of the centre past the network, which a baseline of each frame's own past would.

    Parameters
    ----------
    frames
        (T, H, W) raw counts before the window; T may be 0.
    baseline_frames
        Time constant tau.
    start
        Baseline before the first frame: the movie's median, so that the baseline of a young session
        is smooth rather than one noisy frame.

    Returns
    -------
    ndarray
        (H, W) float32 in raw counts.
    """
    baseline = np.full(frames.shape[1:], start, np.float32)
    for frame in frames:
        baseline = next_baseline(baseline, frame, baseline_frames)
    return baseline


@dataclass(frozen=True)
class UmvdFitSettings(FitSettings):
    """How long and how to train; see `FitSettings` for the rest.

    Attributes
    ----------
    end_share
        Share of windows that are cut as at a movie's start or end, so that the ends are learned.
    """

    steps: int = 2000
    batch: int = 4
    learning_rate: float = 1e-3
    end_share: float = 0.1


class UmvdTask(Task):
    """Windows of noisy movies, and the squared error to their noisy centres; no truth is looked at.

    Parameters
    ----------
    movies
        What to train on.
    settings, network
        How to train and what.
    """

    def __init__(
        self, movies: Sequence[TrainingMovie], settings: UmvdFitSettings, network: UmvdSettings
    ) -> None:
        ends = [first_held_out(len(m.frames), settings.hold_out) for m in movies]
        self._training = [(m.part(0, end), range(end)) for m, end in zip(movies, ends, strict=True)]
        # Held-out centres see the frames before them, as a session would: the baseline comes from there.
        self._held_out = [
            (m, range(end if end < len(m.frames) else 0, len(m.frames)))
            for m, end in zip(movies, ends, strict=True)
        ]
        self.settings, self.network = settings, network

    def draw(self, rng: np.random.Generator, step: int) -> Tensors:  # noqa: ARG002
        """Draw windows from the part that is trained on."""
        return self._windows(self._training, self.settings.batch, self.settings.end_share, rng)

    def loss(self, network: nn.Module, batch: Tensors) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean squared error to the noisy centre, both amplified."""
        assert isinstance(network, Umvd)
        window, valid = batch
        centre, gain = self.network.window // 2, network.gain(window, valid)
        return functional.mse_loss(gain * network(window, valid), gain * window[:, centre : centre + 1]), {}

    def score(self, network: nn.Module) -> float:
        """Return the squared error to held-out noisy centres, in variances of the noise at the median."""
        total = 0.0
        network.eval()
        with torch.inference_mode():
            for index in range(SCORE_BATCHES):
                rng = np.random.default_rng((self.settings.seed, 2, index))
                batch = self._windows(self._held_out, SCORE_WINDOWS, 0.0, rng)
                window, valid = (t.to(device_of(network)) for t in batch)
                centre = self.network.window // 2
                total += float(functional.mse_loss(network(window, valid), window[:, centre : centre + 1]))
        return total / SCORE_BATCHES

    def _windows(
        self, places: Sequence[CentreRange], count: int, end_share: float, rng: np.random.Generator
    ) -> Tensors:
        drawn = [_draw(places, self.network, self.settings.crop, end_share, rng) for _ in range(count)]
        window, valid = (np.stack(part) for part in zip(*drawn, strict=True))
        return torch.from_numpy(window), torch.from_numpy(valid)


def denoise_umvd(
    network: Umvd,
    frames: AnyMovie,
    intensity: Intensity,
    *,
    on_share: Callable[[float], None] = lambda _: None,
) -> FloatArray:
    """Denoise every frame of a movie, the ends too.

    Neighbours before the first and after the last frame are missing: their features count as zero and
    no frame stands in for them.

    Parameters
    ----------
    network
        The trained network.
    frames
        (T, H, W) raw counts.
    intensity
        The transform that the network was trained with.
    on_share
        Called after every frame with the share of the movie that is done, up to 1.

    Returns
    -------
    ndarray
        (T, H, W) float32 in raw counts.
    """
    s, result = network.settings, np.empty(frames.shape, np.float32)
    half, offset = s.window // 2, np.float32(intensity.offset)
    baseline, device = np.full(frames.shape[1:], offset, np.float32), device_of(network)
    network.eval()
    for centre in range(len(frames)):
        if s.baseline_frames is not None and centre > half:
            baseline = next_baseline(baseline, frames[centre - half - 1], s.baseline_frames)
        window, valid = cut_window(frames, centre, s.window)
        z = torch.from_numpy((window - baseline) / np.float32(intensity.scale))[None].to(device)
        with torch.inference_mode():
            predicted = network(pad_to_stride(z), torch.from_numpy(valid)[None].to(device))
        frame = predicted[0, 0, : frames.shape[1], : frames.shape[2]].cpu().numpy()
        result[centre] = frame * intensity.scale + baseline
        on_share((centre + 1) / len(frames))
    return result


def cut_window(
    frames: AnyMovie,
    centre: int,
    window: int,
    area: tuple[slice, slice] = (slice(None), slice(None)),
    first: int = 0,
    stop: int | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Cut the window round `centre`; frames outside `first` to `stop` are missing.

    Returns
    -------
    window, valid
        (N, h, w) raw counts as float32, 0 where missing, and (N,): 1 where the frame exists.
    """
    stop = len(frames) if stop is None else stop
    indices = range(centre - window // 2, centre + window // 2 + 1)
    valid = np.array([first <= i < stop for i in indices], np.float32)
    shape = frames[centre][area].shape
    cut = np.zeros((window, *shape), np.float32)
    for place, index in enumerate(indices):
        if valid[place]:
            cut[place] = frames[index][area]
    return cut, valid


def random_area(movie: TrainingMovie, crop: int, rng: np.random.Generator) -> tuple[slice, slice]:
    """Choose a square of `crop` pixels of a movie."""
    height, width = movie.frames.shape[1:]
    y, x = int(rng.integers(height - crop + 1)), int(rng.integers(width - crop + 1))
    return slice(y, y + crop), slice(x, x + crop)


def pad_to_stride(x: Tensor) -> Tensor:
    """Pad (..., H, W) below and at the right to multiples of the network's stride."""
    height, width = x.shape[-2:]
    return functional.pad(x, (0, -width % STRIDE, 0, -height % STRIDE), mode="replicate")


def _draw(
    places: Sequence[CentreRange],
    network: UmvdSettings,
    crop: int,
    end_share: float,
    rng: np.random.Generator,
) -> tuple[FloatArray, FloatArray]:
    """Draw one window, normalised, with its mask of existing frames."""
    movie, centres = places[int(rng.integers(len(places)))]
    length, half = len(movie.frames), network.window // 2
    centre, area = int(rng.integers(centres.start, centres.stop)), random_area(movie, crop, rng)
    first, stop = 0, length
    if rng.random() < end_share:  # as if the movie began or ended here; one neighbour is left at least
        if rng.random() < 0.5 and centre + 1 < length:
            first = max(0, centre - int(rng.integers(half)))
        elif centre > 0:
            stop = min(length, centre + 1 + int(rng.integers(half)))
    window, valid = cut_window(movie.frames, centre, network.window, area, first, stop)
    baseline: FloatArray | float = movie.intensity.offset
    if network.baseline_frames is not None:
        end = max(first, centre - half)
        start = max(first, end - math.ceil(_LONGEST_PAST * network.baseline_frames))
        past = movie.frames[start:end, area[0], area[1]]
        baseline = running_baseline(past, network.baseline_frames, movie.intensity.offset)
    z = np.asarray((window - baseline) / movie.intensity.scale, np.float32)
    return z[:, :: _flip(rng), :: _flip(rng)].copy(), valid


def _flip(rng: np.random.Generator) -> int:
    return 1 if rng.random() < 0.5 else -1
