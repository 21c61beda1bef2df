"""A training process that trains nothing: it offers a changed bundle, or does what a bad one could do."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

from denoscope.acquisition.adaptation.plan import TrainingRequest
from denoscope.acquisition.adaptation.process import main
from denoscope.acquisition.results import AdaptationRound
from denoscope.runtime import Bundle

from .changed_bundle import changed_bundle

SHIFT = 0.02


class StubLearner:
    """Behave as the environment variable ``STUB_TRAINER`` says."""

    def __init__(self, request: TrainingRequest, tick: Callable[[], None]) -> None:
        self._request = request
        self._tick = tick
        self._how = os.environ.get("STUB_TRAINER", "good")

    def learn(self, frames: int) -> AdaptationRound:
        """Return a round that gained something, without one."""
        if self._how == "crash":
            os.abort()
        if self._how == "hang":
            time.sleep(1e6)
        if self._how == "memory":
            held = bytearray(os.urandom(1)) * (1 << 30)
            time.sleep(1e6)
            assert held
        time.sleep(0.05)
        self._tick()
        return AdaptationRound(
            frames=frames,
            held_out=frames // 5,
            steps=1,
            seconds=0.1,
            processor_s=0.1,
            gain_nats=0.02,
            error_nats=0.004,
            total_nats=0.02,
            total_error_nats=0.004,
            offered=self._how != "level",
        )

    def save(self, folder: Path, done: AdaptationRound) -> str:
        """Write a bundle whose output is a little brighter, or no number."""
        if self._how == "full":
            folder.mkdir()
            raise OSError(errno.ENOSPC, "No space left on device")
        bundle = Path(self._request.bundle)
        if self._how == "nan":
            return changed_bundle(folder, factor=float("nan"), of=str(bundle)).digest
        if self._how == "off":
            return changed_bundle(folder, shift=1.0, of=str(bundle)).digest
        if self._how == "tampered":
            changed_bundle(folder, shift=SHIFT, of=str(bundle))
            return Bundle.load(bundle).digest
        return changed_bundle(folder, shift=SHIFT, of=str(bundle)).digest

    def judge(self, *, used: bool) -> None:
        """Offer nothing more once a bundle is in use."""
        self._how = "level" if used else self._how


if __name__ == "__main__":
    main(StubLearner)
