"""Train the flow network on simulated motion, and refine it on a user's own movie."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from denoscope.runtime import InvalidInput

from .net import FlowNet, FlowSettings
from .pairs import FlowPairs, PairSettings, draw_pairs, still_scenes

__all__ = ["FlowFit", "FlowFitSettings", "end_point_error", "fit_flow", "held_out_pairs"]

_CHECKPOINT_EVERY_S = 60.0
_WEIGHT_AVERAGE = 0.998
_LEVEL_SHARES = (0.1, 0.2, 0.3, 1.0)  # of the steps in the loss, coarse to fine
_ROUNDING_PX = 0.05  # errors well below this count by their square
_HELD_OUT_BATCHES = 8
_BRIGHT, _BRIGHT_SHARE = 20.0, 0.15  # photons, and share of the training until the darkest pairs come


@dataclass(frozen=True)
class FlowFitSettings:
    """How long and how `fit_flow` trains.

    Attributes
    ----------
    steps
        Optimiser steps; the learning rate falls to zero over them. With steps, an interrupted and
        resumed training ends with the same bits on a processor.
    minutes
        Wall-clock budget instead of steps.
    batch, crop
        Pairs per step and their edge in pixels.
    learning_rate
        Peak rate of AdamW.
    scenes
        Still scenes that the pairs are cut from.
    seed
        Seed of the weights, the scenes and every pair.
    pairs
        What noise and motion the pairs have.
    """

    steps: int = 6000
    minutes: float | None = None
    batch: int = 8
    crop: int = 80
    learning_rate: float = 2e-3
    scenes: int = 96
    seed: int = 0
    pairs: PairSettings = field(default_factory=PairSettings)


@dataclass(frozen=True)
class FlowFit:
    """Result of `fit_flow`.

    Attributes
    ----------
    network
        With the averaged weights.
    steps, seconds
        What was spent.
    error_px, zero_px
        Mean end-point error on held-out pairs, of the network and of the answer 'no motion'.
    losses
        Smoothed loss every 20 steps as (step, loss).
    """

    network: FlowNet
    steps: int
    seconds: float
    error_px: float
    zero_px: float
    losses: list[tuple[int, float]] = field(default_factory=list)


@dataclass
class _State:
    step: int = 0
    elapsed_s: float = 0.0
    smoothed: float = math.nan
    losses: list[tuple[int, float]] = field(default_factory=list)


def fit_flow(
    checkpoint: Path,
    *,
    settings: FlowFitSettings | None = None,
    network: FlowSettings | None = None,
    start: Mapping[str, Tensor] | None = None,
    resume: bool = False,
    on_progress: Callable[[int, float, float], None] = lambda _step, _done, _loss: None,
) -> FlowFit:
    """Train a flow network on simulated motion with known flow.

    Parameters
    ----------
    checkpoint
        Safetensors file of the complete state, rewritten once a minute and at the end.
    settings, network
        How to train and what.
    start
        Weights to begin with; random ones otherwise.
    resume
        Continue from `checkpoint` with the settings stored there.
    on_progress
        Called every 20 steps with the steps done, the share of the training done and the smoothed loss.

    Returns
    -------
    FlowFit
        Network, and its error on held-out scenes in pixels.

    Raises
    ------
    InvalidInput
        If the loss is not finite, or `checkpoint` is not one.
    """
    settings = settings or FlowFitSettings()
    torch.manual_seed(settings.seed)
    model = FlowNet(network)
    if start is not None:
        model.load_state_dict(dict(start))
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=1e-4)
    average = {name: value.clone() for name, value in model.state_dict().items()}
    state = _State()
    if resume:
        state, settings = _load(checkpoint, model, average, optimizer)
    scenes = still_scenes(settings.scenes, seed=settings.seed)
    saved = time.perf_counter()
    began = saved - state.elapsed_s
    while (done := _done(state, settings)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = _rate(state.step, done, settings.learning_rate)
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + state.step)
        pairs = draw_pairs(
            scenes,
            batch=settings.batch,
            crop=settings.crop,
            generator=generator,
            settings=_easy_at_first(settings.pairs, done),
        )
        value = _descend(model, optimizer, pairs)
        if not math.isfinite(value):
            raise InvalidInput(
                f"Training of the flow network diverged at step {state.step} (loss {value}): "
                f"lower the learning rate ({settings.learning_rate:g})."
            )
        keep = min(_WEIGHT_AVERAGE, (state.step + 1) / (state.step + 10))
        for name, weights in model.state_dict().items():
            average[name].lerp_(weights, 1 - keep)
        state.step += 1
        state.smoothed = value if math.isnan(state.smoothed) else 0.98 * state.smoothed + 0.02 * value
        now = time.perf_counter()
        state.elapsed_s = now - began
        if state.step % 20 == 0:
            state.losses.append((state.step, state.smoothed))
            on_progress(state.step, _done(state, settings), state.smoothed)
        if now - saved > _CHECKPOINT_EVERY_S:
            saved = now
            _save(checkpoint, model, average, optimizer, state, settings)
    _save(checkpoint, model, average, optimizer, state, settings)
    result = FlowNet(model.settings)
    result.load_state_dict(average)
    held_out = held_out_pairs(settings)
    return FlowFit(
        network=result.eval(),
        steps=state.step,
        seconds=state.elapsed_s,
        error_px=end_point_error(result, held_out),
        zero_px=end_point_error(None, held_out),
        losses=state.losses,
    )


def _descend(model: FlowNet, optimizer: torch.optim.Optimizer, pairs: FlowPairs) -> float:
    """Take one step down the loss of some pairs and return that loss; take none where it is not finite."""
    loss = _loss(model, pairs)
    value = float(loss.detach())
    if math.isfinite(value):  # torch cannot take the gradient of a flow that is not a number
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return value


def held_out_pairs(settings: FlowFitSettings) -> list[FlowPairs]:
    """Return pairs of scenes that no training with these settings sees, the same ones every time."""
    scenes = still_scenes(min(24, settings.scenes), seed=settings.seed + 1_000_000)
    return [
        draw_pairs(
            scenes,
            batch=8,
            crop=settings.crop,
            generator=torch.Generator().manual_seed(index),
            settings=settings.pairs,
        )
        for index in range(_HELD_OUT_BATCHES)
    ]


def end_point_error(network: FlowNet | None, pairs: list[FlowPairs]) -> float:
    """Return the mean distance in pixels between estimated and true flow; None estimates no motion."""
    total = 0.0
    with torch.inference_mode():
        for p in pairs:
            true = functional.avg_pool2d(p.flow, FlowNet.scale)
            error = true if network is None else network(p.a, p.b, p.noise) - true
            total += float(error.square().sum(1).sqrt().mean())
    return total / len(pairs)


def _loss(model: FlowNet, p: FlowPairs) -> Tensor:
    """Return the distance to the true flow over the levels.

    Its expectation is least at the middle of what the pair leaves possible, which is no motion when it
    leaves everything possible.
    """
    a, b = (functional.pixel_unshuffle(x, 2) for x in (p.a, p.b))
    total = p.flow.new_zeros(())
    for flow, share in zip(
        model.pyramid(model.encode(a, p.noise), model.encode(b, p.noise)), _LEVEL_SHARES, strict=True
    ):
        true = functional.avg_pool2d(p.flow, p.flow.shape[-1] // flow.shape[-1])
        total = total + share * torch.sqrt((flow - true).square().sum(1) + _ROUNDING_PX**2).mean()
    return total


def _easy_at_first(pairs: PairSettings, done: float) -> PairSettings:
    """Begin with bright pairs: from noise alone the network does not find out what matching is."""
    least, most = pairs.photons
    bright = max(least, min(_BRIGHT, most))
    share = max(0.0, 1 - done / _BRIGHT_SHARE)
    return replace(pairs, photons=(least ** (1 - share) * bright**share, most))


def _done(state: _State, settings: FlowFitSettings) -> float:
    if settings.minutes is None:
        return state.step / settings.steps
    return state.elapsed_s / (60 * settings.minutes)


def _rate(step: int, done: float, peak: float) -> float:
    """Warm up over the first steps, then fall to zero along a half cosine."""
    return peak * min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def _save(
    path: Path,
    model: FlowNet,
    average: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    state: _State,
    settings: FlowFitSettings,
) -> None:
    """Write the complete state in one step: a kill leaves the old file or the new one."""
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in values.items()}
    metadata = {"state": json.dumps(asdict(state)), "settings": json.dumps(asdict(settings))}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    save_file({k: v.clone().contiguous() for k, v in tensors.items()}, partial, metadata=metadata)
    partial.replace(path)


def _load(
    path: Path, model: FlowNet, average: dict[str, Tensor], optimizer: torch.optim.Optimizer
) -> tuple[_State, FlowFitSettings]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        stored = json.loads(metadata["state"])
        losses = [(int(step), float(value)) for step, value in stored.pop("losses")]
        state = _State(**stored, losses=losses)
        plain = json.loads(metadata["settings"])
        ranges: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in plain.pop("pairs").items()
        }
        settings = replace(FlowFitSettings(**plain), pairs=PairSettings(**ranges))
        model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
        average.update({k[8:]: v for k, v in tensors.items() if k.startswith("average.")})
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".", 2)
                moments.setdefault(int(index), {})[key] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": moments, "param_groups": groups})
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise InvalidInput(
            f"{path} is not a checkpoint of the flow network ({error}): start anew without resuming."
        ) from error
    return state, settings
