"""Training of STS-UVD: sampled clips, a consistency loss, flows refined from the denoised frames every epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from denoscope.runtime import Intensity, InvalidInput
from denoscope.train.data.movie import TrainingMovie
from denoscope.train.fit_settings import FitResult, FitSettings
from denoscope.train.task import Task, Tensors, device_of, first_held_out

from .sts_uvd import (
    FlowEstimator,
    Flows,
    StsUvd,
    StsUvdSettings,
    consistency_loss,
    default_flow,
    denoise_sts_uvd,
    estimate_flows,
    first_kappa,
    kappa_at,
    replace_pixels,
)
from .umvd import SCORE_BATCHES, SCORE_WINDOWS, cut_window, random_area

__all__ = ["StsUvdFit", "StsUvdFitSettings", "StsUvdTask", "estimator_for", "is_plateau"]

_LINE_BATCHES = 4  # of SCORE_WINDOWS windows, from which the line to the mean is fitted
_USUAL_SLOPES = (0.5, 2.0)  # of that line; others mean that the output hardly follows the scene
_LEAST_GAIN = 0.01  # of the consistency loss that an epoch must gain not to count as a plateau
_MAGNITUDE_CENTRES = 16
_MOST_FLOW_BYTES = 4 << 30


@dataclass(frozen=True)
class StsUvdFitSettings(FitSettings):
    """How long and how to train; see `FitSettings` for the rest. A step's windows are clips here.

    Attributes
    ----------
    clip
        Successive centres in a clip.
    alpha, radius, replaced
        Fall-off of P(q|p) per pixel, half-width of its window, share of pixels replaced in training.
    eta
        Growth of kappa_0 with the motion, per pixel.
    patience
        Epochs without a gain of 1 % in the consistency loss after which training stops.
    to_mean
        Whether a line fitted to noisy centres afterwards turns the median, which the published L1 loss
        aims at and which lies below the mean of photon noise, into the mean.
    """

    epochs: int | None = 10
    batch: int = 2
    learning_rate: float = 1e-3
    clip: int = 2
    alpha: float = 0.5
    radius: int = 2
    replaced: float = 0.1
    eta: float = 0.25
    patience: int = 3
    to_mean: bool = True


@dataclass(frozen=True)
class StsUvdFit(FitResult[StsUvd]):
    """Result of a training; see `FitResult` for the rest.

    Attributes
    ----------
    flows
        The last flows of each movie, estimated from its denoised frames.
    kappa_0
        First weight of the centre.
    plateau
        Whether the consistency loss ended the training.
    consistency
        Mean consistency loss of each epoch.
    to_mean
        Scale and shift of the line to the mean.
    follows
        Whether that line has a usual slope, which it has where the output follows the scene.
    """

    flows: list[Flows] = field(default_factory=list)
    kappa_0: float = 0.0
    plateau: bool = False
    consistency: list[float] = field(default_factory=list)
    to_mean: tuple[float, float] = (1.0, 0.0)
    follows: bool = True

    def warning(self) -> str | None:
        """Say in a sentence that the output hardly follows the scene; None where it does."""
        if self.follows:
            return None
        return (
            "the output of STS-UVD hardly follows the scene: its L1 loss aims at the median, which is the same for "
            "every pixel where less than about one photon arrives, or the training was too short. Train longer, "
            "or use the `method` live or umvd"
        )


def estimator_for(
    flow: nn.Module | None, intensity: Intensity, otherwise: FlowEstimator = default_flow
) -> FlowEstimator:
    """Return a flow network as the function of (target, source) frames of one movie; `otherwise` for None."""
    if flow is None:
        return otherwise
    from denoscope.train.flow.net import FlowNet, flow_estimator

    assert isinstance(flow, FlowNet)
    return flow_estimator(flow, intensity)


class StsUvdTask(Task):
    """Clips of noisy movies with their flows, estimated anew after every epoch; no truth is looked at.

    Each movie is held in memory with its flows, and denoised whole after every epoch. The flows cover
    the held-out end too, since they are not trained; no trained window reaches into it.

    Parameters
    ----------
    movies
        What to train on.
    settings, network
        How to train and what.
    estimator
        Function of (target, source) frames that returns the flow from source to target.
    flow
        A flow network instead.
    """

    def __init__(
        self,
        movies: Sequence[TrainingMovie],
        settings: StsUvdFitSettings,
        network: StsUvdSettings,
        estimator: FlowEstimator = default_flow,
        flow: nn.Module | None = None,
    ) -> None:
        self.movies, self.settings, self.network = list(movies), settings, network
        self._estimators = [estimator_for(flow, m.intensity, estimator) for m in self.movies]
        if self.held_bytes() > _MOST_FLOW_BYTES:
            raise InvalidInput(
                f"The flows of these movies would take {self.held_bytes() / 2**30:.1f} GiB of memory and STS-UVD "
                f"keeps at most {_MOST_FLOW_BYTES / 2**30:.0f} GiB: train on fewer frames, for example "
                "the first 500 (`frames`)."
            )
        self._ends = [first_held_out(len(m.frames), settings.hold_out) for m in self.movies]
        self._flows: list[Flows] = []
        self._kappa_0 = self._kappa = 0.0
        self._consistency: list[float] = []
        self._of_epoch: list[float] = []
        self._plateau = False
        self._to_mean = (1.0, 0.0)
        self._follows = True
        self._pair_s = 0.0

    def prepare(self) -> None:
        """Estimate the flows between the noisy frames, and kappa_0 from their length."""
        began = time.perf_counter()
        pairs = zip(self.movies, self._estimators, strict=True)
        self._flows = [estimate_flows(movie.frames, estimator) for movie, estimator in pairs]
        self._pair_s = (time.perf_counter() - began) / sum(len(m.frames) - 1 for m in self.movies)
        magnitude = float(np.mean([_mean_magnitude(f, self.network.window) for f in self._flows]))
        self._kappa_0 = first_kappa(magnitude, self.settings.eta)

    def begin_epoch(self, network: nn.Module, epoch: int, done: float) -> None:
        """Estimate the flows anew from the denoised frames, after the first epoch; anneal kappa."""
        if epoch > 0:
            assert isinstance(network, StsUvd)
            pairs = zip(self.movies, self._flows, strict=True)
            denoised = (denoise_sts_uvd(network, m.frames, m.intensity, flows=f) for m, f in pairs)
            self._flows = [estimate_flows(d, e) for d, e in zip(denoised, self._estimators, strict=True)]
        self._kappa = kappa_at(self._kappa_0, done)

    def draw(self, rng: np.random.Generator, step: int) -> Tensors:  # noqa: ARG002
        """Draw clips from the part that is trained on, some of their pixels replaced by neighbours."""
        choices = [int(rng.integers(len(self.movies))) for _ in range(self.settings.batch)]
        k = min(self.settings.clip, *self._ends)
        return self._clips(
            [(c, int(rng.integers(self._ends[c] - k + 1)), k) for c in choices], rng, train=True
        )

    def loss(self, network: nn.Module, batch: Tensors) -> tuple[Tensor, dict[str, Tensor]]:
        """Return L1 to the noisy centres plus the consistency loss between neighbouring denoised frames."""
        window, valid, leads, reference, forward = batch
        denoised = network(window, valid, leads, self._kappa)
        first = functional.l1_loss(denoised[:, 0], reference)
        clips = denoised.view(len(forward), -1, *denoised.shape[2:])
        second = consistency_loss(clips, forward)
        return first + second, {"consistency": second.detach()}

    def score(self, network: nn.Module) -> float:
        """Return the squared error to held-out noisy centres, in variances of the noise at the median."""
        total = 0.0
        network.eval()
        with torch.inference_mode():
            for index in range(SCORE_BATCHES):
                rng = np.random.default_rng((self.settings.seed, 2, index))
                places = []
                for choice in rng.integers(len(self.movies), size=SCORE_WINDOWS):
                    length, end = len(self.movies[choice].frames), self._ends[choice]
                    places.append((int(choice), int(rng.integers(end if end < length else 0, length)), 1))
                batch = self._clips(places, rng, train=False)
                window, valid, leads, reference, _ = (t.to(device_of(network)) for t in batch)
                total += float(functional.mse_loss(network(window, valid, leads)[:, 0], reference))
        return total / SCORE_BATCHES

    def note(self, parts: Mapping[str, float]) -> None:
        """Keep the consistency loss of one step."""
        self._of_epoch.append(parts["consistency"])

    def end_epoch(self) -> str | None:
        """Close the epoch; a plateau of the consistency loss ends the training."""
        if self._of_epoch:
            self._consistency.append(float(np.mean(self._of_epoch)))
        self._of_epoch = []
        self._plateau = is_plateau(self._consistency, self.settings.patience)
        return "the consistency loss gained nothing more" if self._plateau else None

    def log(self) -> dict[str, float]:
        """Return kappa and the consistency loss of this epoch so far."""
        return {"kappa": self._kappa, "consistency_loss": float(np.mean(self._of_epoch or [math.nan]))}

    def values(self) -> dict[str, object]:
        """Return kappa and the course of the consistency loss."""
        return {
            "kappa_0": self._kappa_0,
            "kappa": self._kappa,
            "consistency": self._consistency,
            "of_epoch": self._of_epoch,
            "plateau": self._plateau,
        }

    def tensors(self) -> dict[str, Tensor]:
        """Return the flows: they come from a chain of networks that are gone, so they are kept."""
        return {
            f"{index}.{f.name}": torch.from_numpy(getattr(flow, f.name))
            for index, flow in enumerate(self._flows)
            for f in fields(flow)
        }

    def restore(self, values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Take up kappa, the consistency loss and the flows of an interrupted training."""
        self._kappa_0, self._kappa, self._plateau = values["kappa_0"], values["kappa"], values["plateau"]
        self._consistency, self._of_epoch = list(values["consistency"]), list(values["of_epoch"])
        self._flows = [
            Flows(**{f.name: tensors[f"{index}.{f.name}"].numpy() for f in fields(Flows)})
            for index in range(len(self.movies))
        ]

    def outcome(self) -> dict[str, object]:
        """Return the fields that `StsUvdFit` adds."""
        return {
            "flows": self._flows,
            "kappa_0": self._kappa_0,
            "plateau": self._plateau,
            "consistency": self._consistency,
            "to_mean": self._to_mean,
            "follows": self._follows,
        }

    def finish(self, network: nn.Module) -> bool:
        """Fit the line from the output to the mean by least squares on noisy centres that were trained on.

        The output is blind for given flows, so a noisy centre is its clean value plus noise of mean zero
        that the output does not share, and the line needs no truth.
        """
        assert isinstance(network, StsUvd)
        if not self.settings.to_mean:
            return False
        outputs, centres = [], []
        with torch.inference_mode():
            for index in range(_LINE_BATCHES):
                rng = np.random.default_rng((self.settings.seed, 4, index))
                choices = rng.integers(len(self.movies), size=SCORE_WINDOWS)
                places = [(int(c), int(rng.integers(self._ends[c])), 1) for c in choices]
                window, valid, leads, reference, _ = self._clips(places, rng, train=True, replaced=0.0)
                outputs.append(network(window, valid, leads)[:, 0].double().flatten())
                centres.append(reference.double().flatten())
        x, y = torch.cat(outputs), torch.cat(centres)
        slope = float(((x - x.mean()) * y).mean() / x.var().clamp_min(1e-12))
        self._follows = _USUAL_SLOPES[0] <= slope <= _USUAL_SLOPES[1]
        if not self._follows:
            slope = 1.0
        shift = float(y.mean() - slope * x.mean())
        assert isinstance(network.to_mean, Tensor)
        scale, before = network.to_mean.tolist()
        self._to_mean = (slope * scale, slope * before + shift)
        network.to_mean.copy_(torch.tensor(self._to_mean))
        return True

    def held_bytes(self) -> int:
        """Return the memory of the flows: four numbers a pixel a frame."""
        return sum(16 * (len(m.frames) - 1) * math.prod(m.frames.shape[1:]) for m in self.movies)

    def epoch_s(self) -> float:
        """Return how long the flows took; denoising before them is left out."""
        return self._pair_s * sum(len(m.frames) - 1 for m in self.movies)

    def _clips(
        self,
        places: Sequence[tuple[int, int, int]],
        rng: np.random.Generator,
        *,
        train: bool,
        replaced: float | None = None,
    ) -> Tensors:
        """Cut clips given as (movie, first centre, centres): windows, masks, flows, noisy centres, flows on.

        In training no window reaches into the held-out end, and a share of the pixels is replaced.
        """
        share = self.settings.replaced if replaced is None else replaced
        s, n, windows, valids, leads, references, forwards = (
            self.settings,
            self.network.window,
            [],
            [],
            [],
            [],
            [],
        )
        for choice, first, k in places:
            movie, flow, stop = (
                self.movies[choice],
                self._flows[choice],
                self._ends[choice] if train else None,
            )
            area = random_area(movie, s.crop, rng)
            for centre in range(first, first + k):
                raw, valid = cut_window(movie.frames, centre, n, area, stop=stop)
                z = np.asarray((raw - movie.intensity.offset) / movie.intensity.scale, np.float32)
                windows.append(replace_pixels(z, share, s.radius, s.alpha, rng) if train else z)
                valids.append(valid)
                leads.append(flow.to_centre(centre, n, area))
                references.append(z[n // 2])
            forwards.append(flow.from_next[first : first + k - 1, :, area[0], area[1]])
        return (
            torch.from_numpy(np.stack(windows)),
            torch.from_numpy(np.stack(valids)),
            torch.stack(leads),
            torch.from_numpy(np.stack(references)),
            torch.from_numpy(np.stack(forwards)),
        )


def _mean_magnitude(flows: Flows, window: int) -> float:
    """Mean length of the flows to the centre over windows spread along the movie, in pixels."""
    length, half = len(flows.from_next) + 1, window // 2
    lengths = []
    for centre in np.unique(np.linspace(0, length - 1, _MAGNITUDE_CENTRES).astype(int)):
        leading = flows.to_centre(int(centre), window)
        present = [i for i in range(window) if i != half and 0 <= centre + i - half < length]
        lengths.append(float(leading[present].square().sum(1).sqrt().mean()))
    return float(np.mean(lengths))


def is_plateau(consistency: list[float], patience: int) -> bool:
    """Return whether the last `patience` epochs gained too little in the consistency loss."""
    if len(consistency) <= patience:
        return False
    return min(consistency[-patience:]) > (1 - _LEAST_GAIN) * min(consistency[:-patience])
