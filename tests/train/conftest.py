"""Fixtures that tests of tiny networks share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from support.quick_backend import without_openvino


@pytest.fixture(scope="module", autouse=True)
def quick_backend() -> Iterator[None]:
    """Let `auto` pass over OpenVINO, see `support.quick_backend`."""
    with without_openvino():
        yield


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Tiny tensors are slower on many threads, much slower on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def short_rehearsals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an adaptation rehearse two movies of a few frames: simulating the usual ones takes three seconds."""
    monkeypatch.setattr("denoscope.train.networks.live.rehearsal._FRAMES", 40)
    monkeypatch.setattr("denoscope.train.networks.live.rehearsal._MOVIES", 2)
