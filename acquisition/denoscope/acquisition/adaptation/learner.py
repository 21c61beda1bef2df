"""Rounds of training on the raw frames of a running session; imports torch when it is made."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from denoscope.acquisition.denoisers.converting import load_camera
from denoscope.acquisition.raw.writer import RAW_MOVIE
from denoscope.acquisition.results import AdaptationRound

from .plan import TrainingRequest

if TYPE_CHECKING:
    from denoscope.train import TrainingMovie

__all__ = ["Learner"]

_MOST_BYTES = 192 * 2**20  # of raw frames in memory: the newest ones


class Learner:
    """Train on what is recorded so far, round by round, each from where the one before ended.

    Parameters
    ----------
    request
        Run folder, bundle, and how to train.
    tick
        Called about once a second while training; it may wait, and ends the training by raising.

    Raises
    ------
    DenoscopeError
        When the bundle cannot be trained.
    """

    def __init__(self, request: TrainingRequest, tick: Callable[[], None] = lambda: None) -> None:
        from denoscope.export import load_network
        from denoscope.runtime import Bundle

        self._request = request
        self._tick = tick
        self._parent = Bundle.load(request.bundle)
        first: Any = load_network(self._parent)
        self._shape: Any = first.settings
        self._flow = getattr(first, "flow", None)
        self._first = self._in_use = self._latest = first
        self._before: list[Any] = []  # in use before, oldest first
        self._hidden = False  # whether the blind spot was fitted to the noise
        self._made = 0

    def learn(self, frames: int) -> AdaptationRound:
        """Train on the newest of so many raw frames and judge the result by the last of them."""
        from denoscope.train import ADAPTATION_RATE, METHODS, fit
        from denoscope.train.networks.live.gain import held_out_gain
        from denoscope.train.task import first_held_out

        began_s, request = time.perf_counter(), self._request
        movie = self._movie(frames)
        self._tick()
        cut = first_held_out(len(movie.frames), request.hold_out)
        settings = METHODS["live"].settings(
            steps=request.steps[min(self._made, len(request.steps) - 1)],
            batch=request.batch,
            crop=request.crop,
            learning_rate=ADAPTATION_RATE,
            seed=self._made,
        )
        result = fit(
            [movie.part(0, cut)],
            method="live",
            settings=settings,
            network=self._shape,
            start=self._latest.state_dict(),
            flow=self._flow,
            on_progress=lambda _: self._tick(),
        )
        self._latest, held_out = result.network, [movie.ending(cut)]
        self._made += 1
        crop = min(request.crop, *movie.frames.shape[1:])
        crop -= crop % METHODS["live"].stride
        gain = held_out_gain(self._in_use, self._latest, held_out, seed=self._made, crop=crop)
        self._tick()
        total = held_out_gain(self._first, self._latest, held_out, seed=self._made, crop=crop)
        return AdaptationRound(
            frames=frames,
            held_out=len(movie.frames) - cut,
            steps=result.steps,
            seconds=time.perf_counter() - began_s,
            processor_s=result.processor_s,
            gain_nats=gain.nats,
            error_nats=gain.nats_error,
            total_nats=total.nats,
            total_error_nats=total.nats_error,
            total_db=total.db,
            total_error_db=total.db_error,
            offered=gain.sure,
        )

    def save(self, folder: Path, done: AdaptationRound) -> str:
        """Write the newest weights as a bundle; return the SHA-256 of its files.

        Raises
        ------
        OSError
            When the disk refuses.
        """
        from denoscope.export import export_bundle
        from denoscope.runtime import QualityRecord, counted

        parent = self._parent.manifest.name
        record = QualityRecord(
            movie=f"{Path(self._request.run).name}, {counted(done.held_out, 'frame')} not trained on",
            metric="held-out gain in nats a pixel over the bundle of the session's beginning, higher is better",
            value=done.total_nats,
            baseline=0.0,
            baseline_name=parent,
        )
        bundle = export_bundle(
            copy.deepcopy(self._latest),
            folder,
            name=folder.name.removesuffix(".denoscope"),
            trained_on=[
                f"started from {parent} ({self._parent.digest[:12]})",
                f"{Path(self._request.run).name} while it was recorded, {counted(done.frames, 'frame')}, "
                f"the last {done.held_out} held out",
            ],
            quality=[record],
        )
        return bundle.digest

    def judge(self, *, used: bool) -> None:
        """Go on from the newest weights where they are in use now, else from those in use."""
        if used:
            self._before.append(self._in_use)
            self._in_use = self._latest
        else:
            self._latest = self._in_use

    def go_back(self) -> None:
        """Go on from the weights that were in use before, because those in use failed."""
        if self._before:
            self._in_use = self._latest = self._before.pop()

    def _movie(self, frames: int) -> TrainingMovie:
        """Return the newest frames that fit into memory, as a session would see them."""
        from denoscope.runtime import open_movie
        from denoscope.train import aligned, blind_spots_for, hiding_noise, movie_from_file

        request = self._request
        path = Path(request.run) / RAW_MOVIE
        camera = load_camera(_path(request.camera_gain), _path(request.camera_offset), request.camera_roi)
        opened = open_movie(path, mapped=False)
        a_frame = max(1, opened.nbytes // max(1, len(opened)))
        first = max(0, frames - max(request.least_frames, _MOST_BYTES // a_frame))
        movie = movie_from_file(path, slice(first, frames), camera=camera)
        if not self._hidden:
            self._hidden = True
            needed, _ = blind_spots_for([movie])
            self._shape, _ = hiding_noise(self._shape, needed, trained=True)
            self._first = self._in_use = self._latest = self._rebuilt(self._first)
        return aligned(movie)

    def _rebuilt(self, network: Any) -> Any:
        """Return a network of the shape that hides this movie's noise, with the weights of another."""
        from denoscope.train import METHODS

        rebuilt = METHODS["live"].network(self._shape, self._flow)
        rebuilt.load_state_dict(network.state_dict())
        return rebuilt.eval()


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
