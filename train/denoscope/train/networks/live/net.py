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

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from denoscope.runtime import InvalidInput
from denoscope.train.data.sampling import CELL
from denoscope.train.flow.warp import warp

from .guide import lead_to_centre, resize_flow
from .layers import BlindView, RingConvolution, SecondStage
from .settings import LiveNetSettings

__all__ = ["LiveNet", "LiveNetSettings", "Prediction"]

FlowEstimator = Callable[[Tensor, Tensor, Tensor], Tensor]  # frames a, b and noise -> flow from a to b

_DILATIONS = (1, 2, 4)

_TINY = 1e-6


@dataclass(frozen=True)
class Prediction:
    """Prediction of a clean frame by `LiveNet.predict`; each field (B, 1, H, W), normalised units.

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


@dataclass(frozen=True)
class _Estimate:
    """All that is known of the cells (B, 4, h, w) of the centre.

    Attributes
    ----------
    blind_mean, blind_variance, noise_variance, mean, sigma
        As in `Prediction`; `sigma` (B, 1, h, w).
    remaining, root
        Posterior variance without its correction, and its root.
    wider
        Factor that corrects the root.
    """

    blind_mean: Tensor
    blind_variance: Tensor
    noise_variance: Tensor
    mean: Tensor
    remaining: Tensor
    root: Tensor
    wider: Tensor
    sigma: Tensor


class _Light(NamedTuple):
    """Light around each cell (B, 1, h, w), and the noise that goes with it: slope, floor, variance, and its roots."""

    level: Tensor
    slope: Tensor
    floor: Tensor
    variance: Tensor
    sigma: Tensor
    inverse: Tensor


def _encoder(s: LiveNetSettings) -> nn.Sequential:
    """Return the layers from the cells of one frame to its features."""
    return nn.Sequential(
        nn.Conv2d(CELL, s.encode_width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(s.encode_width, s.encode_width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(s.encode_width, s.encode_channels, 3, padding=1),
    )


def _two_convolutions(width: int) -> nn.Sequential:
    """Return the layers of the trunk before, and again after, those at half its resolution."""
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
    )


def _half_resolution(s: LiveNetSettings) -> nn.Sequential:
    """Return the layers of the trunk at half its resolution."""
    return nn.Sequential(
        nn.Conv2d(s.trunk_width, s.deep_width, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Conv2d(s.deep_width, s.deep_width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(s.deep_width, s.deep_width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(s.deep_width, s.trunk_width, 1),
    )


def _head(seen: int, width: int) -> nn.Sequential:
    """Return the layers from the trunk and the blind views to the mean and the log variance of a cell."""
    return nn.Sequential(
        nn.Conv2d(seen, width, 1),
        nn.ReLU(),
        nn.Conv2d(width, width, 1),
        nn.ReLU(),
        nn.Conv2d(width, 2 * CELL, 1),
    )


class LiveNet(nn.Module):
    """The network behind the methods `live-fast`, `live` and `live-hq`.

    Parameters
    ----------
    settings
        Shape of the network.
    flow
        What `motion` asks for the flow between two frames, if `settings.guided`: a function of frames
        a and b (B, 1, H, W), normalised, and `noise` that returns (B, 2, H/4, W/4) in pixels. It is
        trained by itself and its weights are this network's too.
    """

    stride = 4  # frame sizes must be multiples: two halvings
    scale = 2  # features are at half resolution

    def __init__(self, settings: LiveNetSettings | None = None, flow: FlowEstimator | None = None) -> None:
        super().__init__()
        self.settings = s = settings or LiveNetSettings()
        if s.guided != (flow is not None):
            raise InvalidInput(
                "A guided network needs a flow estimator, any other takes none: give both or none."
            )
        self.flow = flow
        neighbours = s.window - 1
        constants = len(s.memory_decay)
        self.encoder = _encoder(s)
        context = neighbours * s.encode_channels + s.memory_channels + CELL + (1 if s.guided else 0)
        self.entry = nn.Conv2d(context, s.trunk_width, 1)
        self.presence = nn.Linear(s.window + s.memories, s.trunk_width, bias=False)
        self.before = _two_convolutions(s.trunk_width)
        self.deep = _half_resolution(s)
        self.after = _two_convolutions(s.trunk_width)
        self.candidates = neighbours + constants + 1
        leans = constants if s.two_sided else 0
        self.mix = nn.Conv2d(s.trunk_width, self.candidates + CELL + leans, 1)
        self.rings = nn.ModuleList(
            RingConvolution(CELL, s.spatial_channels, d, s.blind_spot) for d in _DILATIONS
        )
        self.blind_view = (
            BlindView(CELL, s.trunk_width, s.blind_width, s.blind_depth, s.blind_spot)
            if s.blind_depth
            else None
        )
        seen = s.trunk_width + len(_DILATIONS) * s.spatial_channels + (s.blind_width if s.blind_depth else 0)
        self.head = _head(seen, s.deep_width)
        self.spread = nn.Conv2d(s.deep_width, CELL, 1) if s.calibrated else None
        self.second = SecondStage(s.deep_width, s.second_width) if s.second_width else None
        keep = torch.exp(-1.0 / torch.tensor(s.memory_decay, dtype=torch.float32))
        self.register_buffer("keep", keep, persistent=False)
        # A running average stands for about twice its time constant of frames.
        self.register_buffer("stands_for", 2.0 * torch.tensor(s.memory_decay), persistent=False)
        others = [i for i in range(s.window) if i != s.window // 2]
        self.register_buffer("others", torch.tensor(others), persistent=False)
        of_cells = [m for m in range(s.memories) for _ in range(CELL)]
        self.register_buffer("of_cells", torch.tensor(of_cells), persistent=False)
        if s.guided:
            # Logarithm of how much a pixel of displacement speaks against a neighbour.
            self.distrust = nn.Parameter(torch.tensor(-1.0))
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
            last.bias[CELL:] = -2.0
            if self.spread is not None:
                self.spread.weight.zero_()
                assert self.spread.bias is not None
                self.spread.bias.zero_()

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
            (B, F, h, w) of the frame that leaves the window, on the scene.
        memory, weight
            (B, M, h, w) running averages, biased towards zero, and (B, m) or (m,) their total weights.

        Returns
        -------
        memory, weight
            After the frame, same shapes.
        """
        assert isinstance(self.keep, Tensor)
        cells = features[:, :CELL]
        keep = self.keep.repeat_interleave(CELL).view(1, -1, 1, 1)
        repeated = torch.cat([cells] * len(self.settings.memory_decay), dim=1)
        return memory * keep + repeated * (1 - keep), weight * self.keep + (1 - self.keep)

    def motion(self, a: Tensor, b: Tensor, noise: Tensor) -> Tensor:
        """Estimate the flow between two neighbouring frames from their features.

        Parameters
        ----------
        a, b
            (B, F, h, w) features of a frame and of the next one.
        noise
            (B, 2) or (2,).

        Returns
        -------
        Tensor
            (B, 2, H/4, W/4) in pixels, on b's grid: ``a(p + flow(p)) = b(p)``.
        """
        assert self.flow is not None
        return self.flow(_frame_of(a), _frame_of(b), noise)

    def fuse(
        self,
        features: Sequence[Tensor],
        valid: Tensor,
        memory: Tensor,
        weight: Tensor,
        noise: Tensor,
        flows: Sequence[Tensor] = (),
    ) -> tuple[Tensor, Tensor]:
        """Denoise the centre of a window.

        Parameters
        ----------
        features
            N tensors (B, F, h, w), oldest first; index N // 2 is the centre. In a movie whose scene is followed the
            others, and the memory, have been put onto the centre (`_places`).
        valid
            (B, N) or (N,): 1 where the frame exists, 0 where it is missing and its features are zero.
        memory, weight
            State of `remember` before any frame of the window; with `two_sided` followed by the state after the
            frames behind the window, the last one first.
        noise
            (B, 2) or (2,).
        flows
            A guided network's N - 1 outputs of `motion`, zero beside a missing frame.

        Returns
        -------
        mean, std
            (B, 1, H, W): posterior mean and its predicted standard deviation, normalised units.
        """
        e = self._estimate(features, valid, memory, weight, noise, flows)
        up = functional.pixel_shuffle
        return up(e.mean, self.scale), up(e.root * e.wider, self.scale)

    def predict(
        self,
        features: Sequence[Tensor],
        valid: Tensor,
        memory: Tensor,
        weight: Tensor,
        noise: Tensor,
        flows: Sequence[Tensor] = (),
    ) -> Prediction:
        """Do what `fuse` does and keep the blind prediction.

        See there for the parameters; the features of a missing frame may be any numbers here.
        """
        there = valid.reshape(-1, self.settings.window, 1, 1)
        features = [f * there[:, i : i + 1] for i, f in enumerate(features)]
        e = self._estimate(features, valid, memory, weight, noise, flows)
        up = functional.pixel_shuffle
        return Prediction(
            blind_mean=up(e.blind_mean, self.scale),
            blind_variance=up(e.blind_variance, self.scale),
            noise_variance=up(e.noise_variance, self.scale),
            mean=up(e.mean, self.scale),
            variance=up(e.remaining * e.wider.square(), self.scale),
            sigma=up(e.sigma.expand_as(e.mean), self.scale),
        )

    def _estimate(
        self,
        features: Sequence[Tensor],
        valid: Tensor,
        memory: Tensor,
        weight: Tensor,
        noise: Tensor,
        flows: Sequence[Tensor],
    ) -> _Estimate:
        """Return all that `fuse` and `predict` need, in cells; zero features stand for a missing frame."""
        s = self.settings
        centre = s.window // 2
        others = [i for i in range(s.window) if i != centre]
        slope, floor = torch.split(noise.reshape(-1, 2, 1, 1), 1, dim=1)
        target = features[centre][:, :CELL]
        features, travelled = self._warped(features, flows)

        # How many frames each candidate stands for; the last one, the level, for one.
        valid = valid.reshape(-1, s.window)
        past, weight, differences, imbalance = self._of_both_sides(memory, weight.reshape(-1, s.memories))
        assert isinstance(self.others, Tensor)
        assert isinstance(self.stands_for, Tensor)
        there = valid.index_select(1, self.others)
        counts = torch.cat([there, weight * self.stands_for, torch.ones_like(there[:, :1])], dim=1)
        counts = counts.unsqueeze(-1).unsqueeze(-1)
        averages = list(torch.split(past, CELL, dim=1))
        frames = [features[i][:, :CELL] for i in others]
        remembered = [
            a * c for a, c in zip(averages, torch.split(counts[:, len(frames) : -1], 1, dim=1), strict=True)
        ]
        total = counts[:, :-1].sum(1, keepdim=True).clamp_min(_TINY)
        average = sum([*frames[1:], *remembered], frames[0]) / total
        level = functional.avg_pool2d(
            average.mean(1, keepdim=True), 3, stride=1, padding=1, count_include_pad=False
        )
        variance = torch.maximum(slope * level + 1.0, floor)
        sigma = torch.sqrt(variance)
        light = _Light(level, slope, floor, variance, sigma, 1.0 / sigma)

        context = [features[i][:, CELL:] for i in others] + [past * light.inverse, average * light.inverse]
        far = [travelled[i] for i in others] if travelled else []
        if far:
            context.append(torch.stack(far).mean(0))
        if differences is not None:
            context.append(differences * light.inverse)
        x = self.entry(torch.cat(context, dim=1))
        x = x + self.presence(torch.cat([valid, weight, *imbalance], dim=1)).unsqueeze(-1).unsqueeze(-1)
        x = self.before(functional.relu(x))
        deep = functional.interpolate(self.deep(x), scale_factor=2.0, mode="nearest")
        trunk = self.after(x + deep)
        temporal = self._temporal(trunk, [*frames, *averages], counts, far, differences, light)
        return self._corrected(trunk, target, temporal, light)

    def _temporal(
        self,
        trunk: Tensor,
        candidates: Sequence[Tensor],
        counts: Tensor,
        far: Sequence[Tensor],
        differences: Tensor | None,
        light: _Light,
    ) -> Tensor:
        """Return the mean of frames, averages and level in the shares that the network chooses, with its offsets.

        Parameters
        ----------
        trunk
            What the convolutions make of the window.
        candidates, counts
            (B, CELL, h, w) each, and (B, candidates, 1, 1): how many frames each stands for, the level last.
        far
            How far each other frame was moved; empty without motion.
        differences
            As `_of_both_sides` returns them.
        light
            Of the mean of all candidates.
        """
        sigma, level, memories = light.sigma, light.level, len(self.settings.memory_decay)
        others = self.settings.window - 1
        # Shares of frames, whatever the convolutions' precision.
        mixed: Tensor = self.mix(trunk).to(candidates[0].dtype)
        logits = mixed[:, : self.candidates] - 100.0 * (counts <= 0).to(trunk.dtype)
        if far:
            moved = torch.cat(list(far), dim=1)
            still = torch.zeros_like(moved[:, :1]).expand(-1, memories + 1, -1, -1)
            logits = logits - torch.exp(self.distrust) * torch.cat([moved, still], dim=1)
        share = torch.exp(logits.clamp(-30.0, 30.0))  # a softmax written out: faster over channels
        share = share / share.sum(1, keepdim=True)
        if differences is None:
            temporal = sigma * mixed[:, self.candidates :] + level * share[:, self.candidates - 1 :]
        else:
            offsets, lean = torch.split(mixed[:, self.candidates :], [CELL, memories], dim=1)
            temporal = sigma * offsets + level * share[:, self.candidates - 1 :]
            # How much more like the centre one side of it is than the other.
            lean = torch.tanh(lean) * share[:, others : others + memories]
            for index, difference in enumerate(torch.split(differences, CELL, dim=1)):
                temporal = temporal + difference * lean[:, index : index + 1]
        for index, candidate in enumerate(candidates):
            temporal = temporal + candidate * share[:, index : index + 1]
        return temporal

    def _corrected(self, trunk: Tensor, target: Tensor, temporal: Tensor, light: _Light) -> _Estimate:
        """Return the blind prediction that the centre's surroundings correct, and its mean with the measurement."""
        sigma, inverse = light.sigma, light.inverse
        residual = (target - temporal) * inverse
        around = [trunk] + [ring(residual) for ring in self.rings]
        if self.blind_view is not None:
            around.append(self.blind_view(residual, trunk))
        hidden = self.head[:-1](torch.cat(around, dim=1))
        correction = self.head[-1](hidden).to(target.dtype)
        mu = temporal + sigma * correction[:, :CELL]
        variance = light.variance * torch.exp(correction[:, CELL:].clamp(-8.0, 6.0))
        noise_variance = torch.maximum(light.slope * mu + 1.0, light.floor)
        share_of_measurement = variance / (variance + noise_variance)
        above = target - mu
        gained = share_of_measurement * above
        mean = mu + gained
        remaining = share_of_measurement * noise_variance
        root = torch.sqrt(remaining)
        wider = torch.zeros_like(mean) if self.spread is None else self.spread(hidden.detach())
        if self.second is not None:
            seen = torch.cat([above - gained, gained, mean - light.level, root], dim=1) * inverse
            change, wider_still = self.second(seen, hidden)
            mean = mean + sigma * change.to(target.dtype)
            wider = wider + wider_still
        if self.spread is not None:
            # The squared error that is left has long tails, so its root mean is not what 68 % lie within.
            wider = torch.exp(wider.to(target.dtype).clamp(-1.5, 1.5))
            remaining, root = remaining.detach(), root.detach()
        else:
            wider = torch.ones_like(mean)
        return _Estimate(mu, variance, noise_variance, mean, remaining, root, wider, sigma)

    def _of_both_sides(
        self, memory: Tensor, weight: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None, list[Tensor]]:
        """Divide the averages by their weights; with `two_sided` join the two of a time constant by these.

        Parameters
        ----------
        memory, weight
            (B, M, h, w) and (B, memories).

        Returns
        -------
        averages, weight
            (B, m * CELL, h, w) and (B, m), one for each time constant.
        differences
            (B, m * CELL, h, w): what to add to an average to get from both sides to the one after the window, or, taken
            off, to the one before it, where both weigh the same; None with one side.
        imbalance
            (B, m) how much more there is after the window than before it; empty with one side.
        """
        assert isinstance(self.of_cells, Tensor)
        lasting = (1.0 / weight.clamp_min(_TINY)).index_select(1, self.of_cells)
        sides = memory * lasting.unsqueeze(-1).unsqueeze(-1)
        if not self.settings.two_sided:
            return sides, weight, None, []
        of_before, of_after = torch.chunk(weight, 2, dim=1)
        before, after = torch.chunk(sides, 2, dim=1)
        both, apart = of_before + of_after, after - before
        part = of_after / both.clamp_min(_TINY)
        cells = self.of_cells[: before.shape[1]]
        joined = part.index_select(1, cells).unsqueeze(-1).unsqueeze(-1)
        averages = before + joined * apart
        differences = torch.minimum(joined, 1.0 - joined) * apart
        return averages, both.clamp_max(1.0), differences, [of_after - of_before]

    def _warped(
        self, features: Sequence[Tensor], flows: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Warp every neighbour's features onto the centre; also return how far each pixel travelled.

        The four pixels of a cell are samples of one picture, so they are warped as that picture at
        full resolution; the learned channels belong to whole cells.
        """
        if not self.settings.guided:
            return list(features), []
        centre, warped, travelled = self.settings.window // 2, list(features), []
        for i, lead in enumerate(lead_to_centre(flows, centre, self.stride)):
            at_cells = resize_flow(lead, self.stride / self.scale)
            travelled.append(torch.sqrt(at_cells.square().sum(1, keepdim=True) + _TINY))
            if i != centre:
                frame = warp(_frame_of(features[i]), resize_flow(lead, self.stride))
                learned = warp(features[i][:, CELL:], at_cells / self.scale)
                warped[i] = torch.cat([functional.pixel_unshuffle(frame, self.scale), learned], dim=1)
        return warped, travelled

    def forward(
        self, window: Tensor, valid: Tensor, past: Tensor, noise: Tensor, future: Tensor | None = None
    ) -> Prediction:
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
        future
            (B, P, H, W) all frames after the window, for `two_sided`; none when None.

        Returns
        -------
        Prediction
            For the centre frame.
        """
        memory, weight = self.memory_of(past)
        if self.settings.two_sided:
            after = self.memory_of(past[:, :0] if future is None else future.flip(1))
            memory, weight = torch.cat([memory, after[0]], dim=1), torch.cat([weight, after[1]], dim=-1)
        features = [self.encode(window[:, i : i + 1], noise) for i in range(self.settings.window)]
        return self.predict(features, valid, memory, weight, noise, self.flows_of(features, valid, noise))

    def flows_of(self, features: Sequence[Tensor], valid: Tensor, noise: Tensor) -> list[Tensor]:
        """Return a guided network's flows between the frames of a window, zero beside a missing frame."""
        if not self.settings.guided:
            return []
        steps, batch = len(features) - 1, len(features[0])
        valid = valid.reshape(-1, self.settings.window)
        both = (valid[:, 1:] * valid[:, :-1])[:, :, None, None, None]
        cells = torch.cat([f[:, :CELL] for f in features]).detach()
        repeated = noise.reshape(-1, 2).expand(batch, 2).repeat(steps, 1)
        with torch.no_grad(), torch.autocast(cells.device.type, enabled=False):
            flows = self.motion(cells[:-batch], cells[batch:], repeated)
        return [flow * both[:, i] for i, flow in enumerate(flows.chunk(steps))]

    def memory_of(self, past: Tensor) -> tuple[Tensor, Tensor]:
        """Return the state that `remember` reaches after all frames of `past` (B, P, H, W)."""
        assert isinstance(self.keep, Tensor)
        age = torch.arange(past.shape[1] - 1, -1, -1, dtype=past.dtype, device=past.device)
        share = (1 - self.keep)[:, None] * self.keep[:, None] ** age[None, :]
        averages = torch.einsum("mp,bphw->bmhw", share, past)
        memory = functional.pixel_unshuffle(averages, self.scale)
        return memory, share.sum(1).expand(past.shape[0], -1)


def _frame_of(features: Tensor) -> Tensor:
    """Return the frame (B, 1, H, W) whose cells are the first channels of `features`."""
    return functional.pixel_shuffle(features[:, :CELL], LiveNet.scale)


def _noise_level(level: Tensor, noise: Tensor) -> Tensor:
    """Standard deviation of the camera's noise at a clean value, both normalised."""
    noise = noise.reshape(-1, 2)
    slope = noise[:, 0].view(-1, 1, 1, 1)
    floor = noise[:, 1].view(-1, 1, 1, 1)
    return torch.sqrt(torch.maximum(slope * level + 1.0, floor))
