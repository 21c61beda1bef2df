"""Trainings of every method small enough for seconds, in this process or in one that is killed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from denoscope.runtime import estimate_intensity
from denoscope.train import (
    METHODS,
    FitResult,
    LiveNetSettings,
    StsUvdSettings,
    TrainingMovie,
    UmvdSettings,
    fit,
)

NARROW: dict[str, Any] = {
    "encode_channels": 4,
    "encode_width": 6,
    "trunk_width": 8,
    "deep_width": 8,
    "spatial_channels": 3,
}
SMALL: dict[str, Any] = {"features": 3, "width": 4, "wide": 6, "head": 8}
TINY: dict[str, Any] = {
    "live": LiveNetSettings(**NARROW),
    "umvd": UmvdSettings(window=3, **SMALL),
    "sts-uvd": StsUvdSettings(window=3, **SMALL),
}
STEPS_OF_KILLED = dict.fromkeys(TINY, 24)


def same_weights(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


def moving_movie() -> TrainingMovie:
    """A spot that moves by half a pixel a frame along the columns."""
    rng = np.random.default_rng(0)
    rows, columns = np.indices((18, 22))
    scene = [20 + 60 * np.exp(-((rows - 9) ** 2 + (columns - 6 - t / 2) ** 2) / 18) for t in range(12)]
    noisy = rng.poisson(np.stack(scene)).astype(np.uint16)
    return TrainingMovie("moving", noisy, None, estimate_intensity(noisy))


def train(method: str, checkpoint: Path, *, steps: int = 24, **options: Any) -> FitResult[Any]:
    """Train for `steps` in epochs of eight, with a checkpoint after every step."""
    settings = METHODS[method].settings(
        epochs=steps // 8, steps_per_epoch=8, batch=2, crop=16, seed=5, checkpoint_s=0.0
    )
    return fit(
        [moving_movie()], checkpoint, method=method, settings=settings, network=TINY[method], **options
    )


def main() -> None:
    """Train in the process that will be killed: METHOD FOLDER."""
    torch.set_num_threads(1)
    method, folder = sys.argv[1], Path(sys.argv[2])
    train(method, folder / "state.safetensors", steps=STEPS_OF_KILLED[method], log=folder / "log.csv")


if __name__ == "__main__":
    main()
