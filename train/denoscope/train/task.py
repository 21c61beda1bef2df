"""Part of a method in the training loop: windows to draw, loss to lower, score to judge by."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from denoscope.runtime import InvalidInput
from denoscope.train.data.movie import TrainingMovie

__all__ = ["Task", "Tensors", "device_of", "first_held_out", "split_in_time"]

Tensors = tuple[Tensor, ...]

_LEAST_TO_SPLIT = 10


class Task(ABC):
    """One training of one method: its movies and whatever it estimates from them on the way.

    The loop calls `prepare` once (or `restore`, with what `values` and `tensors` returned), then
    `begin_epoch`, `draw`, `loss` and `note` for every step, `end_epoch`; `score` whenever it likes.
    """

    def prepare(self) -> None:  # noqa: B027  most methods need nothing
        """Estimate what must be known before the first step."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, step: int) -> Tensors:
        """Return one batch on the processor, decided by `rng` and `step` alone."""

    @abstractmethod
    def loss(self, network: nn.Module, batch: Tensors) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what is lowered, and detached parts of it that `note` keeps."""

    @abstractmethod
    def score(self, network: nn.Module) -> float:
        """Return the held-out self-supervised score, lower is better, on the same windows every time."""

    def begin_epoch(self, network: nn.Module, epoch: int, done: float) -> None:  # noqa: B027
        """Get ready for the epoch that starts now, `done` of the training being over."""

    def note(self, parts: Mapping[str, float]) -> None:  # noqa: B027
        """Keep the parts of one step's loss."""

    def end_epoch(self) -> str | None:
        """Close an epoch; return in words why training should stop here, else None."""
        return None

    def log(self) -> dict[str, float]:
        """Return what the log should show beside the loss."""
        return {}

    def values(self) -> dict[str, object]:
        """Return the plain part of the state, for JSON."""
        return {}

    def tensors(self) -> dict[str, Tensor]:
        """Return the large part of the state, which changes with the epoch only."""
        return {}

    def restore(self, values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:  # noqa: B027
        """Take up the state of an interrupted training instead of `prepare`."""

    def finish(self, network: nn.Module) -> bool:  # noqa: ARG002
        """Set what is found after the training, with the weights that were kept; return whether anything was."""
        return False

    def outcome(self) -> dict[str, object]:
        """Return what the method adds to the result."""
        return {}

    def held_bytes(self) -> int:
        """Return the memory that the method holds of its movies beyond the movies themselves."""
        return 0

    def epoch_s(self) -> float:
        """Return about how long `begin_epoch` takes, in seconds."""
        return 0.0


def split_in_time(
    movies: Sequence[TrainingMovie], hold_out: float, simulated_hold_out: float = 0.0
) -> tuple[list[TrainingMovie], list[TrainingMovie]]:
    """Split every real movie in time: what to train on, and what is held out at its end.

    Of the simulated movies the last ones are held out whole, `simulated_hold_out` of their number, or
    one where nothing else is. A movie too short to split, or with `hold_out` 0, is in both parts.
    """
    if not movies:
        raise InvalidInput("There is no movie to train on: give at least one.")
    training, held_out = [], []
    for movie in movies:
        if movie.clean is not None:
            training.append(movie)
            continue
        cut = first_held_out(len(movie.frames), hold_out)
        training.append(movie.part(0, cut))
        # Held-out centres see the frames before them, as a session would: the long memory comes from there.
        held_out.append(movie.ending(cut if cut < len(movie.frames) else 0))
    simulated = [movie for movie in training if movie.clean is not None]
    if count := round(simulated_hold_out * len(simulated)):
        held_out += simulated[-count:]
        kept = {id(movie) for movie in simulated[:-count]}
        training = [movie for movie in training if movie.clean is None or id(movie) in kept]
    if not held_out:
        held_out = [training.pop()] if len(training) > 1 else list(training)
    return training, held_out


def first_held_out(length: int, hold_out: float) -> int:
    """Return the first frame of a movie that is not trained on; `length` where all are."""
    if hold_out == 0 or length < _LEAST_TO_SPLIT:
        return length
    return length - max(3, round(hold_out * length))


def device_of(network: nn.Module) -> torch.device:
    """Return where a network's weights lie."""
    return next(network.parameters()).device
