"""Windows of simulated scenes without end: processes that simulate and draw while one trains.

A GPU uses up a movie in a second and a processor simulates one in two. Each process keeps a few scenes, draws windows
from them into memory that it shares with the training, and simulates the next one whenever it is ahead.
"""

from __future__ import annotations

import math
import multiprocessing
import queue
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from denoscope.runtime import Intensity
from denoscope.train import LiveNetSettings, TrainingMovie, simulated_movies
from denoscope.train.networks.live.batch import Batch, draw_batch

_HELD_OUT_SEED = 1_000_000  # added to the seed of the scenes that are never trained on


@dataclass(frozen=True)
class StreamSettings:
    """Kinds of scenes to draw, and number of processes.

    Attributes
    ----------
    network
        Gives window and memory.
    kinds
        Kinds of scene to choose from.
    real
        Function that returns the real movies; each process calls it once.
    real_share
        Share of windows that show real movies.
    workers, windows
        Processes, and windows that each adds to a batch.
    crop, seed
        Edge of the windows in pixels, and the seed of every choice.
    pool
        Scenes that a process draws from; the oldest goes when a new one comes.
    held_out
        First batches, of scenes that are never trained on: one scene a process and batch.
    slots
        Batches that may be drawn ahead.
    frames, size
        Of a scene.
    """

    network: LiveNetSettings
    kinds: Sequence[str]
    real: Callable[[], list[TrainingMovie]]
    real_share: float = 0.2
    workers: int = 12
    windows: int = 32
    crop: int = 64
    seed: int = 0
    pool: int = 8
    held_out: int = 3
    slots: int = 24
    frames: int = 420
    size: int = 96


class SceneStream:
    """The processes and their memory; iterate over it for batches on `device`, in a `with` block.

    Parameters
    ----------
    settings
        What is drawn.
    device
        Where the batches are wanted.
    """

    def __init__(self, settings: StreamSettings, device: str) -> None:
        self.settings, self._device = settings, device
        context = multiprocessing.get_context("spawn")
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._shapes = _shapes(settings)
        self._length = sum(math.prod(shape) for shape in self._shapes)
        self.scenes = [context.Value("i", 0, lock=False) for _ in range(settings.workers)]
        self._free = [context.Semaphore(settings.slots) for _ in range(settings.workers)]
        self._ready = [context.Semaphore(0) for _ in range(settings.workers)]
        self._shared, self._processes = [], []
        for index in range(settings.workers):
            path = Path(self._folder.name) / f"{index}.float32"
            shape = (settings.slots, self._length)
            self._shared.append(np.memmap(path, np.float32, "w+", shape=shape))
            arguments = (settings, index, path, self._free[index], self._ready[index], self.scenes[index])
            self._processes.append(context.Process(target=_work, args=arguments, daemon=True))

    def __enter__(self) -> SceneStream:
        for process in self._processes:
            process.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._processes:
            process.terminate()
            process.join()
        self._shared.clear()
        self._folder.cleanup()

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield the arrays of `Batch` as tensors, workers x windows of each, for ever."""
        staged: queue.Queue[tuple[int, Any] | BaseException] = queue.Queue(1)
        pinned = self._device != "cpu"
        shape = (self.settings.workers, self._length)
        stages = [torch.empty(shape, pin_memory=pinned) for _ in range(3)]
        copied: list[Any] = [None] * len(stages)

        def collect() -> None:
            try:
                number = 0
                while True:
                    place = number % len(stages)
                    if copied[place] is not None:
                        copied[place].synchronize()
                    for index, shared in enumerate(self._shared):
                        self._await(index)
                        stages[place][index].copy_(torch.from_numpy(shared[number % self.settings.slots]))
                        self._free[index].release()
                    staged.put((place, None))
                    number += 1
            except BaseException as error:  # noqa: BLE001  raised again where the batches are used
                staged.put(error)

        threading.Thread(target=collect, name="batches", daemon=True).start()
        while True:
            found = staged.get()
            if isinstance(found, BaseException):
                raise found
            block = stages[found[0]].to(self._device, non_blocking=True)
            if pinned:
                copied[found[0]] = torch.cuda.Event()
                copied[found[0]].record()
            yield self._split(block)

    def _await(self, index: int) -> None:
        while not self._ready[index].acquire(timeout=5):
            if not self._processes[index].is_alive():
                raise RuntimeError(f"Process {index} that simulates scenes has ended; its error is above.")

    def _split(self, block: Tensor) -> tuple[Tensor, ...]:
        parts, at = [], 0
        for shape in self._shapes:
            stop = at + math.prod(shape)
            parts.append(block[:, at:stop].reshape(self.settings.workers * shape[0], *shape[1:]))
            at = stop
        return tuple(parts)


def _work(settings: StreamSettings, index: int, path: Path, free: Any, ready: Any, scenes: Any) -> None:
    """Draw one process's share of every batch, and simulate scenes when ahead of the training."""
    torch.set_num_threads(1)
    shared = np.memmap(path, np.float32, "r+", shape=(settings.slots, sum(map(math.prod, _shapes(settings)))))
    real = settings.real()
    pool: list[TrainingMovie] = []
    share = 0

    def another(seed: int) -> TrainingMovie:
        number = index + settings.workers * scenes.value
        scenes.value += 1
        (movie,) = simulated_movies(
            1, first=number, frames=settings.frames, size=settings.size, seed=seed, kinds=settings.kinds
        )
        return movie

    def put(movies: list[TrainingMovie], chances: npt.NDArray[np.float64]) -> None:
        nonlocal share
        rng = np.random.default_rng((settings.seed, index, share))
        batch = draw_batch(
            movies, chances, settings.network, size=settings.windows, crop=settings.crop, rng=rng
        )
        shared[share % settings.slots] = np.concatenate(
            [getattr(batch, field.name).ravel() for field in fields(batch)]
        )
        ready.release()
        share += 1

    for _ in range(settings.held_out):
        free.acquire()
        put([another(settings.seed + _HELD_OUT_SEED)], np.ones(1))
    while True:
        if len(pool) < settings.pool // 2 or not free.acquire(block=False):
            pool = [*pool[-settings.pool + 1 :], another(settings.seed)]
            continue
        chances = np.array(
            [settings.real_share / max(len(real), 1)] * len(real)
            + [(1 - settings.real_share) / len(pool)] * len(pool)
        )
        put([*real, *pool], chances / chances.sum())


def _shapes(settings: StreamSettings) -> list[tuple[int, ...]]:
    """Return the shapes of one process's share of a batch, in the order of `Batch`."""
    still = np.ones((16, settings.crop, settings.crop), np.float32)
    movie = TrainingMovie("shapes", still, still, Intensity(offset=0, scale=1, noise_slope=1, noise_floor=1))
    batch: Batch = draw_batch(
        [movie],
        np.ones(1),
        settings.network,
        size=settings.windows,
        crop=settings.crop,
        rng=np.random.default_rng(0),
    )
    return [getattr(batch, field.name).shape for field in fields(batch)]
