"""The process that trains while a session records: it reads raw frames, and writes bundles beside them."""

from __future__ import annotations

import faulthandler
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from denoscope.acquisition.errors import one_line
from denoscope.acquisition.processes.child import end_with, speak
from denoscope.acquisition.processes.memory import peak_bytes, resident_bytes
from denoscope.acquisition.processes.priority import come_last, go_first
from denoscope.acquisition.processes.wire import Wire

from .plan import TrainingRequest

__all__ = ["main"]

_BEAT_S = 0.5
_WAIT_S = 0.1
_FAILURES = 3  # rounds in a row


class _Ended(Exception):
    """The session has ended."""


class _Process:
    """Do what the session says, and tell it what comes of it."""

    def __init__(self, wire: Wire, make: Callable[[TrainingRequest, Callable[[], None]], Any]) -> None:
        self._wire = wire
        self._make = make
        self._request: TrainingRequest | None = None
        self._frames = 0
        self._pause = True
        self._verdict: tuple[str, bool] | None = None
        self._back = 0  # times that the bundle in use failed
        self._ended = False
        self._ticks = 0
        self._works = False
        self._begun = threading.Event()

    def run(self) -> None:
        """Train until the session ends."""
        threading.Thread(target=self._listen, name="denoscope-session", daemon=True).start()
        self._begun.wait()
        request = self._request
        if request is None:
            return
        threading.Thread(target=self._beat, args=(request,), name="denoscope-beat", daemon=True).start()
        _use(request)
        try:
            self._train(self._make(request, self._tick), request)
        except _Ended:
            return

    def _listen(self) -> None:
        while (message := self._wire.receive()) is not None:
            words = message.words
            match words.get("do"):
                case "begin":
                    self._request = TrainingRequest.from_words(words["request"])
                    self._begun.set()
                case "frames":
                    self._frames, self._pause = int(words["frames"]), bool(words["pause"])
                case "verdict":
                    self._verdict = str(words["bundle"]), bool(words["used"])
                case "back":
                    self._back += 1
        self._ended = True
        self._begun.set()
        os._exit(0)  # whatever it computes, nobody waits for it

    def _beat(self, request: TrainingRequest) -> None:
        """Tell the session that this process lives, and end it where it takes too much memory."""
        while True:
            time.sleep(_BEAT_S)
            resident = resident_bytes()
            if resident is not None and resident > request.memory_mb * 2**20:
                print(
                    f"it took {resident / 2**20:.0f} MB of memory, and {request.memory_mb} MB are the limit",
                    file=sys.stderr,
                    flush=True,
                )
                os._exit(1)
            beat = {"beat": self._ticks, "works": self._works and not self._pause}
            used = {"processor_s": time.process_time(), "peak_bytes": peak_bytes()}
            try:
                self._wire.send({**beat, **used})
            except OSError:
                os._exit(0)

    def _tick(self) -> None:
        """Count progress, and wait while training is held up."""
        self._ticks += 1
        while self._pause and not self._ended:
            time.sleep(_WAIT_S)
        if self._ended:
            raise _Ended

    def _train(self, learner: Any, request: TrainingRequest) -> None:
        wanted, made, failures, back = request.least_frames, 0, 0, 0
        while True:
            self._works = False
            while self._frames < wanted or self._pause:
                if self._ended:
                    raise _Ended
                time.sleep(_WAIT_S)
            while back < self._back:
                back += 1
                learner.go_back()
            self._works, frames = True, self._frames
            try:
                done = learner.learn(frames)
                failures = 0
            except _Ended:
                raise
            except Exception as error:
                failures += 1
                if failures == _FAILURES:
                    raise
                self._wire.send({"failed": f"a round of training failed: {one_line(error)}"})
                wanted = int(frames * request.growth)
                continue
            self._wire.send({"round": done.as_json()})
            if back < self._back:  # it began with the weights that failed
                continue
            if not done.offered:
                wanted = int(frames * request.growth)
                continue
            made += 1
            folder = Path(request.run) / f"adapted-{made}.denoscope"
            try:
                digest = learner.save(folder, done)
            except OSError as error:
                shutil.rmtree(folder, ignore_errors=True)
                made -= 1
                self._wire.send({"failed": f"the new bundle could not be saved ({one_line(error)})"})
                wanted = int(frames * request.growth)
                continue
            self._wire.send({"offer": str(folder), "sha256": digest, "round": done.as_json()})
            learner.judge(used=self._decided(folder.name))
            # Nothing is judged twice by the same frames.
            wanted = int(frames * (1 + request.hold_out))

    def _decided(self, bundle: str) -> bool:
        """Wait until the session has tried a bundle; return whether it is in use."""
        self._works = False
        while self._verdict is None or self._verdict[0] != bundle:
            if self._ended:
                raise _Ended
            time.sleep(_WAIT_S)
        return self._verdict[1]


def _use(request: TrainingRequest) -> None:
    """Take so many threads and no graphics card, before torch is loaded."""
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(request.threads)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if request.idle:
        come_last()


def _make(request: TrainingRequest, tick: Callable[[], None]) -> Any:
    import torch

    from .learner import Learner

    torch.set_num_threads(request.threads)

    return Learner(request, tick)


def main(make: Callable[[TrainingRequest, Callable[[], None]], Any] = _make) -> None:
    """Train for one session and leave.

    Parameters
    ----------
    make
        Makes what trains, like a `Learner`.
    """
    wire = speak()
    faulthandler.enable()
    end_with(int(sys.argv[1]))
    go_first(1000)
    _Process(wire, make).run()


if __name__ == "__main__":
    main()
