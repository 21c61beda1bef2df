"""Denoise beside pymmcore-plus: frames of its acquisition engine and of sequences, without taking any away."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from denoscope.acquisition.contracts import Tags
from denoscope.acquisition.sinks.live import LiveFormat
from denoscope.runtime import InvalidInput

from .hook import Follower, OnDenoised, open_follower

__all__ = ["Following", "attach"]

_POLL_S = 0.001
_TRIES = 3


class Following:
    """Connection of a `Follower` to a core; a context manager, made by `attach`.

    Entering connects to ``core.mda.events.frameReady`` and to the events of sequence acquisition, and
    returns the follower. Leaving disconnects and waits for the denoiser.
    """

    def __init__(self, core: Any, follower: Follower) -> None:
        self._core = core
        self._follower = follower
        self._stop = threading.Event()
        self._peeking: threading.Thread | None = None
        self._connections = [
            (core.mda.events.frameReady, self._frame_ready),
            (core.events.sequenceAcquisitionStarted, self._sequence_started),
            (core.events.continuousSequenceAcquisitionStarted, self._sequence_started),
        ]

    def __enter__(self) -> Follower:
        for signal, slot in self._connections:
            signal.connect(slot)
        return self._follower

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for signal, slot in self._connections:
            # The user may have disconnected everything.
            with suppress(Exception):
                signal.disconnect(slot)
        self._stop.set()
        if self._peeking is not None:
            self._peeking.join(5)
        self._follower.finish()

    def _frame_ready(self, image: Any, event: Any, metadata: Any) -> None:
        """Pass on a frame of the acquisition engine; an exception here would end the acquisition."""
        try:
            self._follower.push(image, self._tags_of(event, metadata))
        except Exception as error:  # noqa: BLE001
            self._follower.failed(error)

    def _tags_of(self, event: Any, metadata: Any) -> Tags:
        """Return the tags of a frame, none where they cannot be read: the frame is kept."""
        try:
            return _tags_of(event, metadata)
        except Exception as error:  # noqa: BLE001
            self._follower.say_odd_tags(self._follower.status.seen, type(error).__name__)
            return {}

    def _sequence_started(self, *_: Any) -> None:
        try:
            if self._core.mda.is_running() or (self._peeking is not None and self._peeking.is_alive()):
                return  # the engine shows these frames itself, or they are being looked at
            self._peeking = threading.Thread(target=self._peek, name="denoscope-follow", daemon=True)
            self._peeking.start()
        except Exception as error:  # noqa: BLE001  the user's sequence goes on
            self._follower.failed(error)

    def _peek(self) -> None:
        """Look at the frames in the core's buffer until the sequence ends; they stay there."""
        last = -1
        try:
            while not self._stop.is_set():
                running = self._core.isSequenceRunning()
                last = self._look(last)
                if not running:
                    return
                self._stop.wait(_POLL_S)
        except Exception as error:  # noqa: BLE001  the user's sequence goes on
            self._follower.failed(error)

    def _look(self, last: int) -> int:
        """Pass on what came after frame `last`, and return the number of the newest."""
        while (newest := self._before(0)) is not None and newest[2] > last:
            found = newest
            for _ in range(_TRIES):
                # Frames come while we count back, so that what is found may be younger than what is wanted.
                older = self._before(newest[2] - last - 1)
                if older is None or older[2] == last + 1:
                    found = older or newest
                    break
                newest = self._before(0) or newest
            image, tags, number = found
            self._follower.push(image, {**tags, "following": "sequence"}, missing=number - last - 1)
            last = number
        return last

    def _before(self, count: int) -> tuple[Any, Mapping[str, Any], int] | None:
        """Return the frame `count` before the newest in the buffer, its tags and its number."""
        try:
            image, metadata = self._core.getNBeforeLastImageAndMD(count)
        except (IndexError, RuntimeError):
            return None  # popped by the user, or not there yet
        tags = dict(metadata)
        return image, tags, int(tags.get("ImageNumber", 0))


def _tags_of(event: Any, metadata: Mapping[str, Any] | None) -> Tags:
    """Return the tags that Micro-Manager would write, from the engine's event and metadata."""
    metadata = {} if metadata is None else metadata
    axes: Tags = dict(event.index)
    if event.channel is not None:
        axes["c"] = event.channel.config
    names = {"camera_device": "Camera", "exposure_ms": "Exposure", "pixel_size_um": "PixelSize_um"}
    tags = {ours: metadata[theirs] for theirs, ours in names.items() if metadata.get(theirs) is not None}
    for key in ("position", "runner_time_ms", "property_values"):
        if key in metadata:
            tags[key] = metadata[key]
    return {**tags, "Axes": axes}


def attach(
    core: Any,
    *,
    output: Path | str,
    bundle: Path | str = "live",
    look_ahead: int | None = None,
    backend: str = "auto",
    threads: int | None = None,
    float32: bool = False,
    fix_line_offset: bool = False,
    lag_s: float = 5.0,
    finish_s: float = 5.0,
    queue_mb: float = 256.0,
    keep_raw: bool = True,
    on_denoised: OnDenoised | None = None,
    newest_only: bool = False,
    regions: Path | str | None = None,
    dark: float = 0.0,
    trigger: Sequence[str] = (),
    hold_off_s: float = 1.0,
    trigger_limit: int | None = None,
    dry_run: bool = False,
    denoised_format: LiveFormat = "ome-tiff",
) -> Following:
    """Return a context manager that denoises what a pymmcore-plus core acquires inside its block.

    Frames of the acquisition engine (``core.run_mda``) come from its ``frameReady`` event. Frames of a
    sequence acquisition are looked at in the core's buffer and stay there; a loop that pops them as fast as
    they come can hand them over itself: ``follower.push(image, tags)``.

    Parameters
    ----------
    core
        A ``CMMCorePlus``.
    output
        Run folder for the denoised movie, ``raw.tif`` and the reports.
    bundle, look_ahead, backend, threads, float32, fix_line_offset, lag_s, finish_s, queue_mb
        As for `hook`.
    keep_raw
        Write ``raw.tif``, the frames that reached the denoising process; off where the acquisition writes
        its own data.
    denoised_format
        As for `hook`.

    on_denoised, newest_only, regions, dark, trigger, hold_off_s, trigger_limit, dry_run
        As for `hook`.

    Returns
    -------
    Follower
        Denoises beside the acquisition; ``finish`` ends it and returns the `HookReport`.

    Raises
    ------
    DenoscopeError
        When the core is none of pymmcore-plus, or the folder, the bundle or the backend do not work: before
        anything is acquired. Afterwards nothing is raised; `Follower.finish` says what happened.

    Examples
    --------
    >>> with denoscope.acquisition.attach(core, output="denoised") as follower:  # doctest: +SKIP
    ...     core.mda.run(sequence)
    """
    if not (hasattr(core, "mda") and hasattr(core, "events")):
        raise InvalidInput(
            f"attach() was given a {type(core).__name__}, and takes a CMMCorePlus of pymmcore-plus; for "
            "pycromanager use hook()."
        )
    follower = open_follower(
        output,
        queue_mb,
        keep_raw=keep_raw,
        on_denoised=on_denoised,
        newest_only=newest_only,
        regions=regions,
        dark=dark,
        trigger=trigger,
        hold_off_s=hold_off_s,
        trigger_limit=trigger_limit,
        dry_run=dry_run,
        bundle=bundle,
        look_ahead=look_ahead,
        backend=backend,
        threads=threads,
        float32=float32,
        fix_line_offset=fix_line_offset,
        lag_s=lag_s,
        finish_s=finish_s,
        denoised_format=denoised_format,
    )
    return Following(core, follower)
