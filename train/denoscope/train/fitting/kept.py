"""Request and state of a training; all of it survives a kill."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from denoscope.runtime import InvalidInput
from denoscope.train.data.movie import TrainingMovie
from denoscope.train.fit_settings import FitResult, FitSettings
from denoscope.train.networks.live.rehearsal import blended
from denoscope.train.networks.published.sts_uvd import FlowEstimator
from denoscope.train.task import Task

from .checkpoint import digest_of, load_tensors, optimizer_tensors, restore_optimizer, save_tensors, split
from .methods import Method

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["Job", "Kept", "State", "copied"]


@dataclass(frozen=True)
class Job:
    """Checked arguments of `fit`, as they are sent to the processes of several devices."""

    method: Method
    movies: list[TrainingMovie]
    checkpoint: Path | None
    settings: FitSettings
    shape: Any
    start: Mapping[str, Tensor] | None
    flow: nn.Module | None
    estimator: FlowEstimator
    resume: bool
    log: Path | None
    events: Path | None
    plan: bool

    def network(self) -> nn.Module:
        """Return the network with the weights that training starts from."""
        torch.manual_seed(self.settings.seed)
        network = self.method.network(self.shape, self.flow)
        if self.start is not None:
            network.load_state_dict(dict(self.start))
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def identity(self, initial: Mapping[str, Tensor]) -> dict[str, object]:
        """Return what a checkpoint must agree with to be one of this training."""
        shape = json.loads(json.dumps(asdict(self.shape)))
        movies = [f"{m.name} {list(m.frames.shape)} {m.intensity.offset:g}" for m in self.movies]
        start = digest_of(initial)
        return {"version": 1, "method": self.method.name, "network": shape, "movies": movies, "start": start}

    def task(self, settings: FitSettings) -> Task:
        """Return the method's own part of the training."""
        return self.method.make_task(
            self.movies, settings, self.shape, estimator=self.estimator, flow=self.flow
        )


@dataclass
class State:
    """Everything of a training that is neither weights nor moments nor the method's own."""

    step: int = 0
    elapsed_s: float = 0.0
    processor_s: float = 0.0
    scoring_s: float = 0.0
    smoothed: float = math.nan
    score_before: float = math.nan
    best_score: float = math.inf
    without_gain: int = 0
    next_score: float = 0.0  # share of the training done at which a score is due
    stopped: str = ""
    losses: list[tuple[int, float]] = field(default_factory=list)
    scores: list[tuple[int, float]] = field(default_factory=list)


class Kept:
    """State of a training, kept from step to step and in the checkpoint."""

    def __init__(self, job: Job, network: nn.Module) -> None:
        self.job, self.network, self.settings, self.state = job, network, job.settings, State()
        self._initial = copied(network.state_dict())
        self._identity = job.identity(self._initial)
        self._stored: tuple[dict[str, Tensor], dict[str, Any]] | None = None
        self._epoch_saved = -1
        if job.resume:
            self._stored = self._load()
            metadata = self._stored[1]
            self.settings = type(job.settings)(**metadata["settings"])
            pairs = {name: [tuple(p) for p in metadata["state"][name]] for name in ("losses", "scores")}
            self.state = State(**{**metadata["state"], **pairs})
        self.task = job.task(self.settings)
        trained = [p for p in network.parameters() if p.requires_grad]
        self.optimizer = job.method.optimizer(trained, self.settings.learning_rate)
        self.average: dict[str, Tensor] = {}
        self.best: dict[str, Tensor] = {}

    def begin(self) -> None:
        """Begin anew: the weights are where they will be trained by now."""
        self.average, self.best = copied(self.network.state_dict()), copied(self.network.state_dict())
        self.task.prepare()

    def candidate(self) -> dict[str, Tensor]:
        """Return the weights that training would end with now."""
        trained = self.average if self.job.method.average else self.network.state_dict()
        caution = self.settings.caution
        return blended(self._initial, trained, caution) if caution else dict(trained)

    def restore(self, fabric: Fabric) -> None:
        """Take up the stored state."""
        assert self._stored is not None
        assert self.job.checkpoint is not None
        tensors, metadata = self._stored
        self.network.load_state_dict(split(tensors, "model"))
        on_device = {name: value.to(fabric.device) for name, value in tensors.items()}
        self.average, self.best = split(on_device, "average"), split(on_device, "best")
        restore_optimizer(self.optimizer, split(tensors, "optimizer"))
        fabric.strategy.precision.load_state_dict(metadata["scaler"])
        large: dict[str, Tensor] = {}
        if metadata["epoch_file"] is not None:
            large, _ = load_tensors(self.job.checkpoint.with_name(metadata["epoch_file"]))
            self._epoch_saved = metadata["epoch"]
        self.task.restore(metadata["task"], large)
        self._stored = None

    def save(self, fabric: Fabric) -> None:
        """Write the checkpoint; what changes with the epoch only has a separate file, written once."""
        path = self.job.checkpoint
        if path is None:
            return
        epoch = (self.state.step - 1) // self.settings.steps_per_epoch
        epoch_file = path.with_name(f"{path.stem}.epoch-{epoch}.safetensors")
        large = self.task.tensors()
        if large and epoch != self._epoch_saved:
            save_tensors(epoch_file, large, {})
            self._epoch_saved = epoch
        parts = {
            "model": self.network.state_dict(),
            "average": self.average,
            "best": self.best,
            "optimizer": optimizer_tensors(self.optimizer),
        }
        metadata = {
            "state": asdict(self.state),
            "settings": asdict(self.settings),
            "identity": self._identity,
            "task": self.task.values(),
            "scaler": fabric.strategy.precision.state_dict(),
            "epoch": epoch,
            "epoch_file": epoch_file.name if large else None,
        }
        tensors = {f"{part}.{name}": value for part, of in parts.items() for name, value in of.items()}
        save_tensors(path, tensors, metadata)
        for old in path.parent.glob(f"{path.stem}.epoch-*"):
            if old.name != metadata["epoch_file"]:
                old.unlink(missing_ok=True)

    def result(self) -> FitResult[Any]:
        """Return the network that scored best, on the processor."""
        job, state = self.job, self.state
        network = job.network().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        improved = job.start is None or state.best_score < state.score_before
        network.load_state_dict(self.best if improved else self._initial)
        network.eval()
        finished = improved and self.task.finish(network)
        common = FitResult(
            network=network,
            steps=state.step,
            seconds=state.elapsed_s,
            processor_s=state.processor_s,
            score_before=state.score_before,
            score_after=self.task.score(network) if finished else state.best_score,
            improved=improved,
            stopped=state.stopped,
            caution=self.settings.caution or 0.0,
            losses=state.losses,
            scores=state.scores,
        )
        return job.method.result.of(common, self.task.outcome())

    def _load(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        path = self.job.checkpoint
        assert path is not None
        tensors, metadata = load_tensors(path)
        if "identity" not in metadata:
            raise InvalidInput(f"{path} is not a checkpoint of a training: start anew without `resume`.")
        for what, now in self._identity.items():
            then = metadata["identity"].get(what)
            if then != now:
                raise InvalidInput(
                    f"{path} is the checkpoint of another training ({what} {then}, now {now}): "
                    "give the same movies and options, or start anew without `resume`."
                )
        return tensors, metadata


def copied(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies of tensors, without their gradients."""
    return {name: value.detach().clone() for name, value in weights.items()}
