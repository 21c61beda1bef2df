"""The `live` network: blind prediction of the centre frame, then the measurement itself.

Three pure functions share one set of weights (the streaming split): `encode` runs once per frame,
`remember` folds a frame that leaves the window into exponential averages, `fuse` predicts the mean
and variance of the clean centre from its neighbours in time, the long memory and its neighbours in
space (never the pixel itself), and combines that with the measurement through the camera's noise
model: posterior mean (mu s2 + y v) / (s2 + v) (Laine et al. 2019; Krull et al. 2020).

Everything works at half resolution: a frame (H, W) becomes (4, H/2, W/2) by pixel unshuffling, so
a *cell* is a block of 2 x 2 pixels. Intensities are normalised, z = (x - offset) / scale, with the
noise variance max(slope z + 1, floor).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["LiveNet", "LiveSettings", "Prediction"]

_CELL = 4  # pixels in a cell
_TINY = 1e-6


@dataclass(frozen=True)
class LiveSettings:
    """Shape of the network.

    Attributes
    ----------
    window
        Number of frames N that one output sees, odd.
    look_ahead
        Frames after the centre, at most N // 2. Fewer may be used live with the same weights.
    memory_decay
        Time constants of the exponential averages of the past, in frames.
    encode_channels
        Learned features per frame.
    encode_width, trunk_width, deep_width
        Channels inside `encode`, of the half-resolution and of the quarter-resolution trunk.
    spatial_channels
        Features of each ring of spatial neighbours.
    """

    window: int = 7
    look_ahead: int = 3
    memory_decay: tuple[float, ...] = (4.0, 16.0, 64.0, 256.0)
    encode_channels: int = 16
    encode_width: int = 24
    trunk_width: int = 32
    deep_width: int = 48
    spatial_channels: int = 8

    @property
    def feature_channels(self) -> int:
        """Channels of one frame's features: the cell's four pixels, then the learned ones."""
        return _CELL + self.encode_channels

    @property
    def memory_channels(self) -> int:
        """Channels of the long memory."""
        return _CELL * len(self.memory_decay)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Prediction:
    """What `LiveNet.predict` returns; each (B, 1, H, W), normalised units.

    Attributes
    ----------
    blind_mean, blind_variance
        Mean and variance of the clean centre given everything but the pixel itself.
    noise_variance
        Variance that the camera adds at the blind mean.
    mean, variance
        Posterior mean and variance after the measurement itself.
    sigma
        Noise level of the neighbourhood: a smooth scale for losses.
    """

    blind_mean: Tensor
    blind_variance: Tensor
    noise_variance: Tensor
    mean: Tensor
    variance: Tensor
    sigma: Tensor


class _RingConvolution(nn.Module):
    """3 x 3 convolution over cells that never sees the centre cell.

    The kernel is multiplied by a mask, so the centre's influence is exactly zero. With
    `whole_row` the cells left and right are hidden too: pixel bleed correlates them with the target.
    """

    def __init__(self, inputs: int, outputs: int, dilation: int, *, whole_row: bool) -> None:
        super().__init__()
        self.dilation = dilation
        self.weight = nn.Parameter(torch.empty(outputs, inputs, 3, 3))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        mask = torch.ones(1, 1, 3, 3)
        mask[..., 1, 1] = 0
        if whole_row:
            mask[..., 1, :] = 0
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        mask = self.mask
        assert isinstance(mask, Tensor)
        return functional.conv2d(x, self.weight * mask, padding=self.dilation, dilation=self.dilation)


class LiveNet(nn.Module):
    """The network behind the methods `live-fast`, `live` and `live-hq`.

    Parameters
    ----------
    settings
        Shape of the network.
    """

    stride = 4  # frame sizes must be multiples: two halvings
    scale = 2  # features are at half resolution

    def __init__(self, settings: LiveSettings | None = None) -> None:
        super().__init__()
        self.settings = s = settings or LiveSettings()
        if s.window % 2 == 0 or not 0 <= s.look_ahead <= s.window // 2:
            raise ValueError(
                f"window {s.window} with look-ahead {s.look_ahead} cannot be built: the window must be odd "
                f"and the look-ahead at most half of it."
            )
        neighbours = s.window - 1
        memories = len(s.memory_decay)
        self.encoder = nn.Sequential(
            nn.Conv2d(_CELL, s.encode_width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(s.encode_width, s.encode_width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(s.encode_width, s.encode_channels, 3, padding=1),
        )
        context = neighbours * s.encode_channels + s.memory_channels + _CELL
        self.entry = nn.Conv2d(context, s.trunk_width, 1)
        self.presence = nn.Linear(s.window + memories, s.trunk_width, bias=False)
        self.before = nn.Sequential(
            nn.Conv2d(s.trunk_width, s.trunk_width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(s.trunk_width, s.trunk_width, 3, padding=1),
            nn.ReLU(),
        )
        self.deep = nn.Sequential(
            nn.Conv2d(s.trunk_width, s.deep_width, 3, padding=1, stride=2),
            nn.ReLU(),
            nn.Conv2d(s.deep_width, s.deep_width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(s.deep_width, s.deep_width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(s.deep_width, s.trunk_width, 1),
        )
        self.after = nn.Sequential(
            nn.Conv2d(s.trunk_width, s.trunk_width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(s.trunk_width, s.trunk_width, 3, padding=1),
            nn.ReLU(),
        )
        self.candidates = neighbours + memories + 1
        self.mix = nn.Conv2d(s.trunk_width, self.candidates + _CELL, 1)
        self.rings = nn.ModuleList(
            _RingConvolution(_CELL, s.spatial_channels, d, whole_row=d == 1) for d in (1, 2, 4)
        )
        self.head = nn.Sequential(
            nn.Conv2d(s.trunk_width + 3 * s.spatial_channels, s.deep_width, 1),
            nn.ReLU(),
            nn.Conv2d(s.deep_width, s.deep_width, 1),
            nn.ReLU(),
            nn.Conv2d(s.deep_width, 2 * _CELL, 1),
        )
        keep = torch.exp(-1.0 / torch.tensor(s.memory_decay, dtype=torch.float32))
        self.register_buffer("keep", keep, persistent=False)
        self._start_as_average()

    def _start_as_average(self) -> None:
        """Start as a plain average of the candidates with a cautious variance."""
        with torch.no_grad():
            self.mix.weight.mul_(0.1)
            assert self.mix.bias is not None
            self.mix.bias.zero_()
            last = self.head[-1]
            assert isinstance(last, nn.Conv2d)
            assert last.bias is not None
            last.weight.mul_(0.1)
            last.bias.zero_()
            last.bias[_CELL:] = -2.0

    def encode(self, frame: Tensor, noise: Tensor) -> Tensor:
        """Encode one frame on its own.

        Parameters
        ----------
        frame
            (B, 1, H, W) float, normalised; H and W multiples of `stride`.
        noise
            (B, 2) or (2,): slope and floor of the noise variance.

        Returns
        -------
        Tensor
            Features (B, F, H/2, W/2): the cell's four pixels, then the learned channels.
        """
        cells = functional.pixel_unshuffle(frame, self.scale)
        level = functional.avg_pool2d(
            cells.mean(1, keepdim=True), 7, stride=1, padding=3, count_include_pad=False
        )
        learned = self.encoder(cells / _noise_level(level, noise))
        return torch.cat([cells, learned], dim=1)

    def remember(self, features: Tensor, memory: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Fold one frame into the exponential averages, O(1) whatever their length.

        Parameters
        ----------
        features
            (B, F, h, w) of the frame that leaves the window.
        memory, weight
            (B, M, h, w) running averages, biased towards zero, and (B, m) or (m,) their total weights.

        Returns
        -------
        memory, weight
            After the frame, same shapes.
        """
        assert isinstance(self.keep, Tensor)
        cells = features[:, :_CELL]
        keep = self.keep.repeat_interleave(_CELL).view(1, -1, 1, 1)
        repeated = torch.cat([cells] * len(self.settings.memory_decay), dim=1)
        return memory * keep + repeated * (1 - keep), weight * self.keep + (1 - self.keep)

    def fuse(
        self, features: Sequence[Tensor], valid: Tensor, memory: Tensor, weight: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Denoise the centre of a window.

        Parameters
        ----------
        features
            N tensors (B, F, h, w), oldest first; index N // 2 is the centre.
        valid
            (B, N) or (N,): 1 where the frame exists, 0 where it is missing.
        memory, weight
            State of `remember` before any frame of the window.
        noise
            (B, 2) or (2,).

        Returns
        -------
        mean, std
            (B, 1, H, W): posterior mean and its predicted standard deviation, normalised units.
        """
        p = self.predict(features, valid, memory, weight, noise)
        return p.mean, torch.sqrt(p.variance)

    def predict(
        self, features: Sequence[Tensor], valid: Tensor, memory: Tensor, weight: Tensor, noise: Tensor
    ) -> Prediction:
        """Do what `fuse` does and keep the blind prediction; see there for the parameters."""
        s = self.settings
        centre = s.window // 2
        valid = valid.reshape(-1, s.window)
        weight = weight.reshape(-1, len(s.memory_decay))
        present = [valid[:, i].view(-1, 1, 1, 1) for i in range(s.window)]
        others = [i for i in range(s.window) if i != centre]
        target = features[centre][:, :_CELL]

        averages = [
            memory[:, _CELL * m : _CELL * (m + 1)] / weight[:, m].clamp_min(_TINY).view(-1, 1, 1, 1)
            for m in range(len(s.memory_decay))
        ]
        counts = [present[i] for i in others] + [
            # A running average stands for about twice its time constant of frames.
            (weight[:, m] * 2 * tau).view(-1, 1, 1, 1)
            for m, tau in enumerate(s.memory_decay)
        ]
        frames = [features[i][:, :_CELL] * present[i] for i in others] + averages
        total = torch.stack(counts).sum(0)
        average = sum((f * c for f, c in zip(frames, counts, strict=True)), torch.zeros_like(target))
        average = average / total.clamp_min(_TINY)
        level = functional.avg_pool2d(
            average.mean(1, keepdim=True), 3, stride=1, padding=1, count_include_pad=False
        )
        sigma = _noise_level(level, noise)

        context = [features[i][:, _CELL:] * present[i] for i in others]
        context += [a / sigma for a in averages] + [average / sigma]
        x = self.entry(torch.cat(context, dim=1))
        x = x + self.presence(torch.cat([valid, weight], dim=1)).unsqueeze(-1).unsqueeze(-1)
        x = self.before(functional.relu(x))
        deep = functional.interpolate(self.deep(x), scale_factor=2.0, mode="nearest")
        trunk = self.after(x + deep)

        mixed = self.mix(trunk)
        missing = torch.cat([(c <= 0).to(x.dtype) for c in counts], dim=1)
        logits = mixed[:, : self.candidates - 1] - 100.0 * missing
        logits = torch.cat([logits, mixed[:, self.candidates - 1 : self.candidates]], dim=1)
        share = torch.exp(logits.clamp(-30.0, 30.0))  # a softmax written out: faster over channels
        share = share / share.sum(1, keepdim=True)
        temporal = sigma * mixed[:, self.candidates :] + level * share[:, self.candidates - 1 :]
        for index, frame in enumerate(frames):
            temporal = temporal + frame * share[:, index : index + 1]

        residual = (target - temporal) / sigma
        around = torch.cat([trunk] + [ring(residual) for ring in self.rings], dim=1)
        correction = self.head(around)
        mu = temporal + sigma * correction[:, :_CELL]
        variance = sigma * sigma * torch.exp(correction[:, _CELL:].clamp(-8.0, 6.0))
        noise_variance = _noise_level(mu, noise).square()
        share_of_measurement = variance / (variance + noise_variance)
        mean = mu + share_of_measurement * (target - mu)
        up = functional.pixel_shuffle
        return Prediction(
            blind_mean=up(mu, self.scale),
            blind_variance=up(variance, self.scale),
            noise_variance=up(noise_variance, self.scale),
            mean=up(mean, self.scale),
            variance=up(share_of_measurement * noise_variance, self.scale),
            sigma=up(sigma.expand_as(mu), self.scale),
        )

    def forward(self, window: Tensor, valid: Tensor, past: Tensor, noise: Tensor) -> Prediction:
        """Compute the whole window at once: the reference that the streaming split must equal.

        Parameters
        ----------
        window
            (B, N, H, W) frames, oldest first.
        valid
            (B, N) or (N,).
        past
            (B, P, H, W) all frames before the window, oldest first; P may be 0.
        noise
            (B, 2) or (2,).

        Returns
        -------
        Prediction
            For the centre frame.
        """
        memory, weight = self.memory_of(past)
        features = [self.encode(window[:, i : i + 1], noise) for i in range(self.settings.window)]
        return self.predict(features, valid, memory, weight, noise)

    def memory_of(self, past: Tensor) -> tuple[Tensor, Tensor]:
        """Return the state that `remember` reaches after all frames of `past` (B, P, H, W)."""
        assert isinstance(self.keep, Tensor)
        age = torch.arange(past.shape[1] - 1, -1, -1, dtype=past.dtype, device=past.device)
        share = (1 - self.keep)[:, None] * self.keep[:, None] ** age[None, :]
        averages = torch.einsum("mp,bphw->bmhw", share, past)
        memory = functional.pixel_unshuffle(averages, self.scale)
        return memory, share.sum(1).expand(past.shape[0], -1)


def _noise_level(level: Tensor, noise: Tensor) -> Tensor:
    """Standard deviation of the camera's noise at a clean value, both normalised."""
    noise = noise.reshape(-1, 2)
    slope = noise[:, 0].view(-1, 1, 1, 1)
    floor = noise[:, 1].view(-1, 1, 1, 1)
    return torch.sqrt(torch.maximum(slope * level + 1.0, floor))
