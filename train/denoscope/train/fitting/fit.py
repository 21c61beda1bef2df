"""The training loop, the same for every method: from movies to weights, resumable at any moment.

`fit` checks what it is given and decides where to run; `_train` is the loop itself, from top to bottom.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from denoscope.runtime import InvalidInput
from denoscope.train.data.movie import TrainingMovie
from denoscope.train.fit_settings import FitPlan, FitProgress, FitResult, FitSettings
from denoscope.train.networks.live.rehearsal import rehearsal_movies
from denoscope.train.networks.live.task import self_supervised_score
from denoscope.train.networks.published.sts_uvd import FlowEstimator, StsUvdSettings, default_flow
from denoscope.train.networks.published.sts_uvd_task import StsUvdFit, StsUvdFitSettings
from denoscope.train.networks.published.umvd import Umvd, UmvdFitSettings, UmvdSettings
from denoscope.train.task import Task, Tensors

from .checkpoint import refuse_missing
from .kept import Job, Kept, State, copied
from .launch import on_devices
from .logs import TrainingLog
from .methods import Method, method_named

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = [
    "FitPlan",
    "FitProgress",
    "FitResult",
    "FitSettings",
    "UmvdFit",
    "fit",
    "fit_sts_uvd",
    "fit_umvd",
    "is_better",
    "self_supervised_score",
]

UmvdFit = FitResult[Umvd]
"""Result of `fit_umvd`."""
Report = Callable[[FitPlan | FitProgress], None]

_WEIGHT_AVERAGE = 0.998
_LOG_STEPS = 10
_LEAST_STEPS_BETWEEN_SCORES = 100
_MOST_TIME_FOR_SCORES = 0.05
_MEASURED_STEPS = 3


def fit(
    movies: Sequence[TrainingMovie],
    checkpoint: Path | None = None,
    *,
    method: str = "live",
    settings: FitSettings | None = None,
    network: Any = None,
    start: Mapping[str, Tensor] | None = None,
    flow: nn.Module | None = None,
    estimator: FlowEstimator = default_flow,
    resume: bool = False,
    log: Path | None = None,
    events: Path | None = None,
    on_plan: Callable[[FitPlan], None] | None = None,
    on_progress: Callable[[FitProgress], None] = lambda _: None,
) -> FitResult[Any]:
    """Train a network on movies.

    The last 15 % of every real movie are held out in time and never trained on. The result holds the
    weights that scored best on them; if weights to start from are given, it is never worse than they
    are by that score, and a short movie does not teach them away what it did not show
    (`FitSettings.caution`).

    Parameters
    ----------
    movies
        Noisy movies; simulated ones bring their truth, which only `live` looks at.
    checkpoint
        Safetensors file that holds the complete state; rewritten about once a minute and at the end.
        None keeps none.
    method
        `live`, `umvd` or `sts-uvd`.
    settings, network
        How to train and what, of the method's own classes; None takes the defaults.
    start
        Weights to begin with (adaptation); random ones otherwise.
    flow
        The flow network of a guided `live` network or of STS-UVD; it is not trained here.
    estimator
        Of STS-UVD without `flow`: function of (target, source) frames that returns the flow from
        source to target.
    resume
        Continue from `checkpoint`, with the settings stored there.
    log, events
        CSV file of the course of the training, and folder for TensorBoard events.
    on_plan
        Called once before the first step with what the training will take; a few steps are measured
        for it.
    on_progress
        Called about once a second.

    Returns
    -------
    FitResult
        Network with the best weights, their score on the held-out frames, and the course of the training.

    Raises
    ------
    InvalidInput
        If there is nothing to train on, a movie is too small, `checkpoint` is not one of this training,
        the precision or the devices are not there, or the loss is not finite.
    """
    kind = method_named(method)
    settings = kind.settings() if settings is None else settings
    network = kind.shape() if network is None else network
    if not isinstance(settings, kind.settings) or not isinstance(network, kind.shape):
        raise InvalidInput(
            f"The method {method} takes {kind.settings.__name__} and {kind.shape.__name__}, not "
            f"{type(settings).__name__} and {type(network).__name__}."
        )
    if resume and checkpoint is None:
        raise InvalidInput("There is no checkpoint to go on from: name the file that the training wrote.")
    if resume and checkpoint is not None:
        refuse_missing(checkpoint)  # before anything that takes seconds
    settings = replace(settings, crop=_usable_crop(movies, settings.crop, kind))
    caution = 0.0 if start is None or kind.caution is None else kind.caution(settings, movies)
    if caution and all(movie.clean is None for movie in movies):
        movies = [*movies, *rehearsal_movies(settings.seed, settings.crop)]
        settings = replace(settings, real_share=1 - caution)
    settings = replace(settings, caution=caution)
    job = Job(
        kind,
        list(movies),
        checkpoint,
        settings,
        network,
        start,
        flow,
        estimator,
        resume,
        log,
        events,
        on_plan is not None,
    )

    def report(news: FitPlan | FitProgress) -> None:
        if isinstance(news, FitProgress):
            on_progress(news)
        elif on_plan is not None:
            on_plan(news)

    return on_devices(_train, job, report)


def fit_umvd(
    movies: Sequence[TrainingMovie],
    checkpoint: Path | None = None,
    *,
    settings: UmvdFitSettings | None = None,
    network: UmvdSettings | None = None,
    **options: Any,
) -> UmvdFit:
    """Train UMVD on noisy movies.

    Parameters
    ----------
    movies, checkpoint
        See `fit`.
    settings, network
        How to train, and the shape of the network; None takes the defaults.
    options
        Further keywords of `fit`.

    Returns
    -------
    UmvdFit
        The network that scored best.
    """
    return fit(movies, checkpoint, method="umvd", settings=settings, network=network, **options)


def fit_sts_uvd(
    movies: Sequence[TrainingMovie],
    checkpoint: Path | None = None,
    *,
    settings: StsUvdFitSettings | None = None,
    network: StsUvdSettings | None = None,
    **options: Any,
) -> StsUvdFit:
    """Train STS-UVD on noisy movies.

    Parameters
    ----------
    movies, checkpoint
        See `fit`.
    settings, network
        How to train, and the shape of the network; None takes the defaults.
    options
        Further keywords of `fit`.

    Returns
    -------
    StsUvdFit
        The network that scored best, with its flows.
    """
    result = fit(movies, checkpoint, method="sts-uvd", settings=settings, network=network, **options)
    assert isinstance(result, StsUvdFit)
    return result


class _Hidden:
    """Tensors that mixed precision must not round: frames, flows and targets stay in 32 bits."""

    def __init__(self, tensors: Tensors) -> None:
        self.tensors = tensors


class _Objective(nn.Module):
    """Network and loss as one module, so that precision and several devices wrap a single call."""

    def __init__(self, network: nn.Module, task: Task) -> None:
        super().__init__()
        self.network = network
        self.task = task

    def forward(self, batch: _Hidden) -> tuple[Tensor, dict[str, Tensor]]:
        return self.task.loss(self.network, batch.tensors)


def _train(fabric: Fabric, job: Job, report: Report) -> FitResult[Any]:
    """Train on this process's device; with several, each runs this on different batches."""
    method, network = job.method, job.network()
    kept = Kept(job, network)
    settings, state, task = kept.settings, kept.state, kept.task
    optimizer = kept.optimizer
    objective, stepper = fabric.setup(_Objective(network, task), optimizer)
    probe = job.network().to(fabric.device)
    if job.resume:
        kept.restore(fabric)
    else:
        kept.begin()
        state.score_before = _score(task, probe, kept.average)
    if not state.stopped and job.plan:
        report(_plan(fabric, network, kept))

    began, processor_began = time.perf_counter() - state.elapsed_s, time.process_time() - state.processor_s
    saved, shown = time.perf_counter(), 0.0
    done = _agreed(fabric, settings.share_done(state.step, state.elapsed_s, state.processor_s))
    first = fabric.is_global_zero
    with TrainingLog(job.log if first else None, job.events if first else None, after=state.step) as log:
        while not state.stopped:
            epoch, within = divmod(state.step, settings.steps_per_epoch)
            if within == 0:
                task.begin_epoch(network, epoch, done)
                network.train()
            rate = _learning_rate(state.step, done, settings.learning_rate, warm_up=method.warm_up)
            for group in optimizer.param_groups:
                group["lr"] = rate
            batch = task.draw(_random(settings, state.step, fabric.global_rank), state.step)
            loss, parts = _descend(fabric, objective, stepper, batch, clip=method.clip)
            if method.average:
                _update_average(kept.average, network, state.step)
            state.step += 1
            state.smoothed = _smoothed(state.smoothed, float(loss.detach()), state.step, settings)
            task.note({name: float(part) for name, part in parts.items()})

            now = time.perf_counter()
            state.elapsed_s, state.processor_s = now - began, time.process_time() - processor_began
            done = _agreed(fabric, settings.share_done(state.step, state.elapsed_s, state.processor_s))
            row = {"learning_rate": rate, **task.log()}
            if done >= 1:
                state.stopped = "the budget is spent"
            if done >= 1 or within + 1 == settings.steps_per_epoch:
                plateau = _agreed(fabric, task.end_epoch())
                state.stopped = state.stopped or plateau or ""
            if state.step % _LOG_STEPS == 0:
                row["loss"] = state.smoothed
                state.losses.append((state.step, state.smoothed))
            if _agreed(fabric, bool(state.stopped) or _score_is_due(state, settings, done)):
                row["held_out_score"] = _judge(fabric, kept, probe, done)
            if {"loss", "held_out_score"} & row.keys():
                log.write({"step": state.step, "done": done, **_times(state), **row})
            if first and (state.stopped or now - saved >= settings.checkpoint_s):
                kept.save(fabric)
                saved = time.perf_counter()
            if state.stopped or now - shown > 1.0:
                shown = now
                report(_progress(state, min(done, 1.0)))
    return kept.result()


def _descend(
    fabric: Fabric,
    objective: nn.Module,
    stepper: torch.optim.Optimizer,
    batch: Tensors,
    *,
    clip: float | None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Take one step down the loss of a batch; return that loss and its parts."""
    loss, parts = objective(_Hidden(tuple(fabric.to_device(tensor) for tensor in batch)))
    stepper.zero_grad(set_to_none=True)
    fabric.backward(loss)
    if clip is not None:
        fabric.clip_gradients(objective, stepper, max_norm=clip, error_if_nonfinite=False)
    stepper.step()
    return loss, parts


def _judge(fabric: Fabric, kept: Kept, probe: nn.Module, done: float) -> float:
    """Return the score of the weights on held-out frames, and keep them where they are the best so far."""
    began, weights = time.perf_counter(), kept.candidate()
    score: float = _agreed(fabric, _score(kept.task, probe, weights))
    if is_better(kept.state, kept.settings, score, done):
        kept.best = copied(weights)
    kept.state.scoring_s += time.perf_counter() - began
    return score


def _plan(fabric: Fabric, network: nn.Module, kept: Kept) -> FitPlan:
    """Time a few steps on a copy of the network and add up what one keeps in memory."""
    settings, task, state = kept.settings, kept.task, kept.state
    copied = copy.deepcopy(network).train()
    storages: dict[int, int] = {}

    def weigh(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    lasted = []
    for index in range(_MEASURED_STEPS):
        began = time.perf_counter()
        batch = task.draw(np.random.default_rng((settings.seed, 3, index)), index)
        moved = tuple(fabric.to_device(tensor) for tensor in batch)
        with torch.autograd.graph.saved_tensors_hooks(weigh, lambda t: t), fabric.autocast():
            loss, _ = task.loss(copied, moved)
        loss.backward()  # type: ignore[no-untyped-call]
        float(loss.detach())
        lasted.append(time.perf_counter() - began)
    step_s = min(lasted)
    weights = sum(t.numel() * t.element_size() for t in network.state_dict().values())
    memory = 7 * weights + sum(storages.values()) + task.held_bytes()  # with gradient, 2 moments, 3 copies
    if (total := settings.total_steps) is not None:
        left = total - state.step
        seconds = (
            left * step_s / (1 - _MOST_TIME_FOR_SCORES) + left / settings.steps_per_epoch * task.epoch_s()
        )
        return FitPlan(left, seconds, step_s, memory, str(fabric.device))
    minutes = min(m for m in (settings.minutes, settings.processor_minutes) if m is not None)
    seconds = 60 * minutes * (1 - settings.share_done(state.step, state.elapsed_s, state.processor_s))
    each = step_s + task.epoch_s() / settings.steps_per_epoch
    return FitPlan(int(seconds / each), seconds, step_s, memory, str(fabric.device))


def _score(task: Task, probe: nn.Module, weights: Mapping[str, Tensor]) -> float:
    """Score some weights in a separate network, in 32 bits."""
    probe.load_state_dict(dict(weights))
    return task.score(probe.eval())


def _score_is_due(state: State, settings: FitSettings, done: float) -> bool:
    if done < state.next_score or state.step < _LEAST_STEPS_BETWEEN_SCORES:
        return False
    if settings.total_steps is not None:
        return True  # decided by the step alone, so that a resumed training does the same
    return state.scoring_s <= _MOST_TIME_FOR_SCORES * state.elapsed_s


def is_better(state: State, settings: FitSettings, score: float, done: float) -> bool:
    """Book a score; after too many without a gain the training stops."""
    state.scores.append((state.step, score))
    state.next_score = done + 1 / settings.validations
    if settings.total_steps is not None:
        state.next_score = max(state.next_score, done + _LEAST_STEPS_BETWEEN_SCORES / settings.total_steps)
    better = score < state.best_score
    state.best_score = min(score, state.best_score)
    state.without_gain = 0 if better else state.without_gain + 1
    if not state.stopped and settings.stop_after is not None and state.without_gain >= settings.stop_after:
        state.stopped = f"the held-out score gained nothing in {state.without_gain} measurements"
    return better


def _agreed(fabric: Fabric, value: Any) -> Any:
    """Return the first process's value, so that several never part."""
    return value if fabric.world_size == 1 else fabric.broadcast(value)


def _random(settings: FitSettings, step: int, rank: int) -> np.random.Generator:
    return np.random.default_rng((settings.seed, 1, step) if rank == 0 else (settings.seed, 1, step, rank))


def _learning_rate(step: int, done: float, peak: float, *, warm_up: bool) -> float:
    """Rise over the first steps or tenth of the training if so wished, then fall to zero along a half cosine."""
    warm = min(1.0, max((step + 1) / 100, done / 0.1)) if warm_up else 1.0
    return peak * warm * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def _smoothed(smoothed: float, value: float, step: int, settings: FitSettings) -> float:
    """Return the running mean of the loss, or say that the training diverged."""
    if not math.isfinite(value):
        raise InvalidInput(
            f"Training diverged at step {step} (loss {value}): lower the learning rate "
            f"({settings.learning_rate:g}) or check the movie for constant or saturated frames."
        )
    return value if math.isnan(smoothed) else 0.95 * smoothed + 0.05 * value


def _update_average(average: dict[str, Tensor], network: nn.Module, step: int) -> None:
    keep = min(_WEIGHT_AVERAGE, (step + 1) / (step + 10))
    for name, value in network.state_dict().items():
        average[name].lerp_(value, 1 - keep)


def _progress(state: State, done: float) -> FitProgress:
    remaining = state.elapsed_s * (1 / done - 1) if done > 0 else math.inf
    newest = state.scores[-1][1] if state.scores else math.nan
    return FitProgress(state.step, done, state.smoothed, state.elapsed_s, remaining, newest)


def _times(state: State) -> dict[str, float]:
    return {"elapsed_s": state.elapsed_s, "processor_s": state.processor_s}


def _usable_crop(movies: Sequence[TrainingMovie], crop: int, method: Method) -> int:
    """Return the largest usable edge of a crop up to `crop`, after checking the movies."""
    if not movies:
        raise InvalidInput(
            "There is no movie to train on: give at least one movie, or some `simulated` ones."
        )
    for movie in movies:
        if len(movie.frames) < 2 or min(movie.frames.shape[1:]) < method.stride:
            raise InvalidInput(
                f"{movie.name} is {' x '.join(map(str, movie.frames.shape))} (frames, rows, columns); training "
                f"needs two frames and {method.stride} pixels each way."
            )
    smallest = min(int(min(movie.frames.shape[1:])) for movie in movies)
    return min(crop, smallest) // method.stride * method.stride
