"""A training that was killed at any moment ends with the same bits; what is no checkpoint of it is refused."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from denoscope.runtime import InvalidInput, estimate_intensity
from denoscope.train import METHODS, FitResult, FitSettings, LiveNetSettings, TrainingMovie, fit
from denoscope.train.fitting.checkpoint import refuse_pickle, remove_checkpoint
from denoscope.train.fitting.logs import read_log
from support.tiny_training import STEPS_OF_KILLED, same_weights, train

pytestmark = pytest.mark.usefixtures("one_thread")


def course(log: Path) -> list[tuple[float, ...]]:
    """Everything in a log that is not a time."""
    names = ("step", "loss", "held_out_score", "kappa", "consistency_loss", "learning_rate")
    return [tuple(row.get(name, -1.0) for name in names) for row in read_log(log)]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_killed_process_is_resumed_to_the_same_bits(method: str, tmp_path: Path) -> None:
    whole = train(
        method,
        tmp_path / "whole" / "s.safetensors",
        steps=STEPS_OF_KILLED[method],
        log=tmp_path / "whole.csv",
    )
    state = tmp_path / "state.safetensors"
    log = tmp_path / "log.csv"

    def has_begun() -> bool:
        """Return whether it is among its steps; what it writes at this moment, nobody knows."""
        return state.exists() and log.exists() and len(log.read_bytes().splitlines()) > 1

    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen(
        [sys.executable, "-m", "support.tiny_training", method, str(tmp_path)],
        env=environment,
        stderr=subprocess.PIPE,
    )
    try:
        deadline = time.monotonic() + 250
        while not has_begun() and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
    finally:
        ended = child.poll()
        child.kill()
        _, complaints = child.communicate()
    assert state.exists(), complaints.decode()
    assert ended in (None, 0), complaints.decode()
    resumed = train(method, state, steps=STEPS_OF_KILLED[method], log=tmp_path / "log.csv", resume=True)
    assert resumed.steps == whole.steps
    assert resumed.losses == whole.losses
    assert resumed.scores == whole.scores
    assert same_weights(resumed.network, whole.network)
    assert course(tmp_path / "log.csv") == course(tmp_path / "whole.csv")


class Interrupted(Exception):
    pass


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], FitResult[Any]]:
    """Train a method from its beginning to its end, once."""
    return cache(lambda method: train(method, tmp_path_factory.mktemp(method) / "whole.safetensors"))


MORE = {("live", 8), ("umvd", 8), ("umvd", 23), ("sts-uvd", 23)}


@pytest.mark.parametrize(
    ("method", "stop_at"),
    [
        # Within an epoch, and between two for the method that keeps most beside weights; the rest is slow.
        pytest.param(m, s, marks=pytest.mark.slow if (m, s) in MORE else ())
        for m in METHODS
        for s in (3, 8, 23)
    ],
)
def test_every_step_of_an_epoch_can_be_the_last(
    method: str,
    stop_at: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    uninterrupted: Callable[[str], FitResult[Any]],
) -> None:
    whole = uninterrupted(method)
    task, steps = METHODS[method].task, 0
    assert isinstance(task, type)
    loss = task.loss  # type: ignore[attr-defined]

    def fail(self: Any, network: torch.nn.Module, batch: Any) -> Any:
        nonlocal steps
        if network.training:
            steps += 1
            if steps > stop_at:
                raise Interrupted
        return loss(self, network, batch)

    monkeypatch.setattr(task, "loss", fail)
    with pytest.raises(Interrupted):
        train(method, tmp_path / "part.safetensors")
    monkeypatch.undo()
    resumed = train(method, tmp_path / "part.safetensors", resume=True)
    assert resumed.losses == whole.losses
    assert resumed.scores == whole.scores
    assert same_weights(resumed.network, whole.network)
    if method == "sts-uvd":
        assert np.array_equal(resumed.flows[0].from_next, whole.flows[0].from_next)  # type: ignore[attr-defined]
        assert resumed.consistency == whole.consistency  # type: ignore[attr-defined]


def test_a_finished_training_is_not_trained_again_and_its_files_go_together(tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    whole = train("sts-uvd", path)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["s.epoch-2.safetensors", "s.safetensors"]
    again = train("sts-uvd", path, resume=True)
    assert again.steps == whole.steps
    assert again.stopped == whole.stopped
    assert same_weights(again.network, whole.network)
    remove_checkpoint(path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["state.pt", "state.ckpt", "state.pth", "state.safetensors"])
def test_a_pickle_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(pickle.dumps({"model": 1}))
    with pytest.raises(InvalidInput, match="is a pickle checkpoint"):
        train("live", path, resume=True)
    torch.save({"model": torch.zeros(3)}, path)
    with pytest.raises(InvalidInput, match="is a pickle checkpoint"):
        refuse_pickle(path)


def test_what_is_no_checkpoint_of_this_training_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    with pytest.raises(InvalidInput, match="no checkpoint at"):
        train("live", path, resume=True)
    path.write_bytes(b"neither")
    with pytest.raises(InvalidInput, match="not a checkpoint"):
        train("live", path, resume=True)
    train("live", path, steps=8)
    with pytest.raises(InvalidInput, match=r"another training \(method live, now umvd\)"):
        train("umvd", path, resume=True)
    movie = TrainingMovie(
        "other", np.zeros((12, 20, 20), np.uint16), None, estimate_intensity(np.eye(8)[None])
    )
    with pytest.raises(InvalidInput, match="another training"):
        fit([movie], path, settings=FitSettings(crop=16), network=LiveNetSettings(), resume=True)
    damaged = bytearray(path.read_bytes())
    damaged[5] ^= 0xFF
    path.write_bytes(damaged)
    with pytest.raises(InvalidInput, match="not a checkpoint"):
        train("live", path, resume=True)
