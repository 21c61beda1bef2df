"""Denoise beside an acquisition that another program runs, without disturbing it.

::

    the user's process                                      denoscope's process
    image -> hook: copy into a bounded queue (never waits)
                 -> sender thread -> pipe ------------------> source -> stream -> denoised.ome.tif
    image <- the same objects, at once

An exception here is caught and counted, a denoscope process that hangs fills the queue and costs denoised
frames, and one that dies ends denoising; the acquisition sees none of it.
"""

from __future__ import annotations

import atexit
import json
import queue
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from denoscope.acquisition.contracts import Tags
from denoscope.acquisition.errors import OutputExists, SourceFailed, one_line
from denoscope.acquisition.frames.callback import CallbackThread
from denoscope.acquisition.frames.live_frame import LiveFrame
from denoscope.acquisition.frames.mailbox import EVERY, NEWEST, Mailbox
from denoscope.acquisition.frames.pipe import EVENT, FrameReader
from denoscope.acquisition.processes.child import Child, exit_words
from denoscope.acquisition.raw.plain_tags import plain_tags
from denoscope.acquisition.regions.reading import found_radius
from denoscope.acquisition.results import HookCounts, HookReport, SessionReport
from denoscope.acquisition.sinks.live import LiveFormat
from denoscope.acquisition.sources.pipe import end_words, frame_words, pixel_bytes
from denoscope.runtime import InvalidInput, counted

__all__ = ["HOOK_REPORT", "Follower", "FollowerStatus", "hook", "open_follower"]

HOOK_REPORT = "hook.json"
_READY_S = 120.0
_FINISH_S = 120.0
_FAILED = "hook failed"
_AFTER_THE_END = "after the end"
_SHORT = 10_000  # characters of a tag
_NOT_AFFECTED = "your acquisition was not affected, and `denoscope denoise` denoises its frames afterwards"
_WHY_LEFT_OUT = {
    "overrun": "the computer was too slow and the queue of `queue_mb` full",
    "denoiser ended": "the denoising process had ended",
    "not one channel of 8 or 16 bits": "not of one channel with 8 or 16 bits",
    _FAILED: "an error in the hook",
}
_DTYPES = (np.dtype(np.uint8), np.dtype(np.uint16))
OnDenoised = Callable[[LiveFrame], object] | Literal["frames"]


_Item = tuple[npt.NDArray[Any], int, float, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class FollowerStatus:
    """Counts of the acquisition's frames: ``seen == sent + sum(dropped.values()) + waiting``.

    Attributes
    ----------
    seen
        Frames that the acquisition showed.
    sent
        Frames handed to the denoising process.
    dropped
        Frames that were not, by reason.
    waiting
        Frames in the queue.
    problem
        What went wrong, in one sentence; None while all is well.
    """

    seen: int
    sent: int
    dropped: Mapping[str, int]
    waiting: int
    problem: str | None


class Follower:
    """Passes copies of frames to a denoising process; made by `hook` and `attach`.

    Calling it with ``(image, metadata)`` returns these two objects at once, whatever happens, which is
    what pycromanager asks of an ``image_process_fn``.

    Parameters
    ----------
    settings
        Of the session, as for `denoscope.acquisition.make_settings`, without ``core``.
    queue_mb
        Frames that may wait for the denoising process, in MB.
    on_denoised
        Function that gets denoised frames, in a thread of this process; ``"frames"`` for `frames`; None for neither.
    newest_only
        Give the function the newest frame only.

    Raises
    ------
    DenoscopeError
        When the settings, the bundle or the backend do not work; before the acquisition starts.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        *,
        queue_mb: float,
        on_denoised: OnDenoised | None = None,
        newest_only: bool = False,
    ) -> None:
        self.output = Path(settings["output"])
        self._backlog_s = float(settings.get("finish_s", 0.0))
        self._limit_bytes = int(queue_mb * 2**20)
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting_bytes = 0
        self._seen = self._sent = self._number = 0
        self._dropped: Counter[str] = Counter()
        self._problem: str | None = None
        self._odd_tags: str | None = None
        self._report: SessionReport | None = None
        self._ready = threading.Event()
        self._finished: HookReport | None = None
        self._box: Mailbox | None = None
        self._callback: CallbackThread | None = None
        if on_denoised == "frames":
            self._box = Mailbox(NEWEST if newest_only else EVERY)
        elif callable(on_denoised):
            self._callback = CallbackThread(on_denoised, newest=newest_only)
        self._child = Child(
            "denoscope.acquisition.integrations.hook_process",
            name="denoscope-hook",
            low_priority=True,
            keep=5,
        )
        self._threads = [
            threading.Thread(target=self._send, name="denoscope-hook", daemon=True),
            threading.Thread(target=self._listen, name="denoscope-hook-answers", daemon=True),
        ]
        self._threads[1].start()
        self._begin(settings)
        self._threads[0].start()
        atexit.register(self.finish)

    # -- the acquisition's thread

    def __call__(self, image: Any, metadata: Any) -> tuple[Any, Any]:
        """Take over a copy of the frame and return both arguments unchanged."""
        self.push(image, metadata)
        return image, metadata

    def push(self, image: Any, metadata: Mapping[str, Any] | None, *, missing: int = 0) -> None:
        """Take over a copy of one frame; never waits and never raises.

        Parameters
        ----------
        image
            ``(H, W)``, uint8 or uint16.
        metadata
            Its tags; ``Axes`` (time, channel, z, position) say which movie the frame belongs to. Tags that cannot be
            taken over are left out, and the frame is not.
        missing
            Frames of the camera that were not seen since the last one.
        """
        with self._lock:
            number = self._number + missing
            self._number, self._seen = number + 1, self._seen + 1
        try:
            reason = self._take(image, metadata, number)
        except Exception as error:  # noqa: BLE001  whatever it is, the acquisition goes on
            reason = _FAILED
            self._say_failed(error)
        if reason is not None:
            with self._lock:
                self._dropped[reason] += 1

    def failed(self, error: Exception) -> None:
        """Count a frame that could not even be taken over."""
        self._say_failed(error)
        with self._lock:
            self._seen, self._number = self._seen + 1, self._number + 1
            self._dropped[_FAILED] += 1

    def _say_failed(self, error: Exception) -> None:
        what = f"{type(error).__name__}: {one_line(error)}"
        self._say(f"Frames were left out by an error in the hook ({what}); {_NOT_AFFECTED}.")

    def _say(self, problem: str | None) -> None:
        """Keep a problem for the report; the first one is what the user needs to know."""
        self._problem = self._problem or problem

    def say_odd_tags(self, number: int, error: str) -> None:
        """Note that tags of a frame could not be taken over, for the report; the first such frame is named."""
        self._odd_tags = self._odd_tags or (
            f"Metadata of frame {number} could not be read ({error}) and is missing in the denoised movie; the frame "
            "itself was denoised."
        )

    def _take(self, image: Any, metadata: Mapping[str, Any] | None, number: int) -> str | None:
        """Queue a copy of the frame, or return the reason why not."""
        if self._finished is not None:
            return _AFTER_THE_END
        if self._child.poll() is not None:
            return "denoiser ended"
        dtype = image.dtype.newbyteorder("=")
        if image.ndim != 2 or dtype not in _DTYPES or not image.size:
            return "not one channel of 8 or 16 bits"
        size = int(image.nbytes)
        with self._lock:
            if self._waiting_bytes + size > self._limit_bytes:
                return "overrun"
            self._waiting_bytes += size
        try:
            tags, failed = _tags_of(metadata)
            if failed is not None:
                self.say_odd_tags(number, failed)
            self._queue.put((np.array(image, dtype, order="C"), number, time.time(), tags))
        except BaseException:
            with self._lock:
                self._waiting_bytes -= size
            raise
        return None

    # -- our threads

    def _send(self) -> None:
        while (item := self._queue.get()) is not None:
            pixels = item[0]
            reason: str | None = "denoiser ended"
            if self._child.poll() is None:
                try:
                    self._send_frame(item)
                    reason = None
                except OSError:
                    pass  # counted below: it ended between the question and the answer
                except Exception as error:  # noqa: BLE001  whatever it is, the next frame is sent
                    reason = _FAILED
                    self._say_failed(error)
            with self._lock:
                self._waiting_bytes -= pixels.nbytes
                if reason is None:
                    self._sent += 1
                else:
                    self._dropped[reason] += 1
        self._child.tell(end_words(self._counts().as_json()))  # where it ended before, `finish` says so
        self._child.hang_up()

    def _send_frame(self, item: _Item) -> None:
        """Send a frame, without its tags where these are too long."""
        pixels, number, unix_s, tags = item
        try:
            self._child.wire.send(frame_words(*item), pixel_bytes(pixels))
        except ValueError as error:
            self.say_odd_tags(number, one_line(error))
            names = [name for name in ("Axes", "Camera") if name in tags and len(str(tags[name])) < _SHORT]
            kept = {name: tags[name] for name in names}
            self._child.wire.send(frame_words(pixels, number, unix_s, kept), pixel_bytes(pixels))

    def _listen(self) -> None:
        frames = FrameReader()
        while (message := self._child.receive()) is not None:
            event = message.words
            if event.get("event") == EVENT:
                try:
                    self._hand_over(frames.read(message))
                except (ValueError, KeyError, TypeError) as error:
                    self._say(
                        f"Denoised frames did not reach your program ({one_line(error)}); the files in {self.output} "
                        "have them."
                    )
            elif event.get("event") == "ready":
                self._ready.set()
            elif event.get("event") == "finished":
                self._report = SessionReport.model_validate(event["report"])
            elif event.get("event") == "failed":
                self._say(str(event["message"]))
        self._ready.set()

    def _hand_over(self, frame: LiveFrame) -> None:
        """Let the user's program have a denoised frame; never waits for it."""
        for taker in (self._box, self._callback):
            if taker is not None:
                taker.offer(frame)

    def frames(self) -> Iterator[LiveFrame]:
        """Yield denoised frames until `finish`; for a loop in a separate thread.

        Raises
        ------
        InvalidInput
            When the follower was not made with ``on_denoised="frames"``.
        """
        if self._box is None:
            raise InvalidInput(
                "frames() needs hook(..., on_denoised='frames'), so that frames are sent back."
            )
        return iter(self._box)

    # -- begin and end

    def _begin(self, settings: Mapping[str, Any]) -> None:
        """Send the settings and wait until the bundle runs, so that mistakes come before the acquisition."""
        self._child.tell(dict(settings))  # where it ended at once, the wait below says why
        answered = self._ready.wait(_READY_S)
        if answered and self._child.poll() is None and self._problem is None:
            return
        if answered:
            self._child.process.wait(10)
            self._threads[1].join(5)
        self._kill()
        if self._problem is not None:
            raise InvalidInput(self._problem)
        raise SourceFailed(
            f"{self._why_it_ended()}: look at `denoscope doctor`."
            if answered
            else f"The denoising process did not start within {_READY_S:g} s: look at `denoscope doctor`."
        )

    def _why_it_ended(self) -> str:
        last = f"its last line: {self._child.said[-1]}" if self._child.said else "it printed nothing"
        return f"The denoising process {exit_words(self._child.poll())} ({last})"

    def _counts(self) -> HookCounts:
        with self._lock:
            return HookCounts(seen=self._seen, sent=self._sent, dropped=dict(self._dropped))

    @property
    def status(self) -> FollowerStatus:
        """A snapshot; may be read from any thread."""
        with self._lock:
            waiting = self._seen - self._sent - sum(self._dropped.values())
            problem = self._problem or self._odd_tags
            return FollowerStatus(self._seen, self._sent, dict(self._dropped), waiting, problem)

    def finish(self, timeout_s: float | None = None) -> HookReport:
        """Say that no frame follows, wait for the backlog, and return the report; never raises.

        Parameters
        ----------
        timeout_s
            How long the denoising process may take; then it is ended. None for two minutes and twice `finish_s`.

        Returns
        -------
        HookReport
            As written to ``hook.json``.
        """
        with self._lock:
            if self._finished is not None:
                return self._finished
            self._finished = HookReport()
        atexit.unregister(self.finish)
        self._queue.put(None)
        timeout_s = _FINISH_S + 2 * self._backlog_s if timeout_s is None else timeout_s
        try:
            self._child.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._say(
                f"The denoising process did not end within {timeout_s:g} s and was ended by force; {_NOT_AFFECTED}."
            )
        self._kill()
        self._close_frames()
        with self._lock:
            left = self._seen - self._sent - sum(self._dropped.values())
            if left:
                self._dropped["denoiser ended"] += left
        if self._report is None and self._seen:
            self._say(f"{self._why_it_ended()}; {_NOT_AFFECTED}.")
        self._say(self._odd_tags or self._left_out())
        self._finished = HookReport(**self._counts().model_dump(), problem=self._problem, report=self._report)
        self._finished.on_denoised = None if self._callback is None else self._callback.counts
        self._write(self._finished)
        return self._finished

    def _left_out(self) -> str | None:
        """Return how many frames were left out and why, None where none was."""
        dropped = {reason: count for reason, count in self._dropped.items() if reason != _AFTER_THE_END}
        if not dropped:
            return None
        reasons = ", ".join(
            f"{count}: {_WHY_LEFT_OUT.get(reason, reason)}" for reason, count in dropped.items()
        )
        return (
            f"{sum(dropped.values())} of {counted(self._seen, 'frame')} did not reach the denoiser ({reasons}); "
            f"{_NOT_AFFECTED}."
        )

    def _close_frames(self) -> None:
        if self._box is not None:
            self._box.close()
        if self._callback is not None:
            self._callback.close()
            self._say(self._callback.problem())

    def _write(self, result: HookReport) -> None:
        try:
            self.output.mkdir(parents=True, exist_ok=True)
            text = json.dumps(result.as_json(), indent=2) + "\n"
            (self.output / HOOK_REPORT).write_text(text, encoding="utf-8")
        except OSError as error:
            self._say(
                f"{self.output / HOOK_REPORT} could not be written ({one_line(error)}); `finish()` returns the "
                "same report."
            )

    def _kill(self) -> None:
        """End the process, which ends the threads that listen to it, and let go of its pipes."""
        self._child.end(*self._threads)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()


def _tags_of(metadata: Mapping[str, Any] | None) -> tuple[Tags, str | None]:
    """Return a copy of the tags that can be sent, and the kind of error where some cannot."""
    try:
        tags = {} if metadata is None else dict(metadata)
        axes = tags.pop("Axes", None)
        plain, failed = plain_tags(tags)
    except Exception as error:  # noqa: BLE001  whatever such metadata does, the frame is taken
        return {}, type(error).__name__
    if axes is not None:
        try:
            plain["Axes"], odd = plain_tags(dict(axes))
        except Exception as error:  # noqa: BLE001
            odd = type(error).__name__
        failed = failed or odd
    return plain, failed


def hook(
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
    keep_raw: bool = False,
    on_denoised: OnDenoised | None = None,
    newest_only: bool = False,
    regions: Path | str | None = None,
    dark: float = 0.0,
    trigger: Sequence[str] = (),
    hold_off_s: float = 1.0,
    trigger_limit: int | None = None,
    dry_run: bool = False,
    denoised_format: LiveFormat = "ome-tiff",
) -> Follower:
    """Return an ``image_process_fn`` for pycromanager's ``Acquisition`` that denoises beside it.

    Parameters
    ----------
    output
        Run folder for the denoised movie and the reports; it must not hold a recording yet.
    bundle, look_ahead, backend, threads, float32, fix_line_offset
        As for `denoscope.acquisition.SessionSettings`.
    lag_s
        Seconds that a frame may wait in the denoising process before outputs are skipped.
    finish_s
        Seconds that the denoising process may take for its backlog in the end, as for `live`.
    queue_mb
        Frames that may wait for the denoiser, in MB; what comes beyond is counted and not denoised.
    keep_raw
        Write ``raw.tif`` too. The acquisition's own dataset holds every raw frame, so it is off.
    denoised_format
        Of the denoised movie: ``ome-tiff``, ``ome-zarr`` or ``ndtiff``.

    on_denoised
        Called with each denoised frame (`LiveFrame`, the raw frame of the same number with it), in a thread of this
        process; or ``"frames"``, for a loop over `Follower.frames`. A function that is slow or raises costs the
        acquisition nothing.
    newest_only
        Give the function the newest frame only, instead of every frame in order.
    regions, dark, trigger, hold_off_s, trigger_limit, dry_run
        As for `denoscope.acquisition.SessionSettings`. Triggers can send a line to a socket or a serial port; what
        moves the microscope is best done in `on_denoised`.

    Returns
    -------
    Follower
        To be given to the acquisition, or called with each frame; ``finish`` ends it and returns the `HookReport`.

    Raises
    ------
    DenoscopeError
        When the folder, the bundle or the backend do not work: before the acquisition starts. Once it
        runs, nothing is raised; `Follower.finish` says what happened.

    Examples
    --------
    With pycromanager, give it to the acquisition:

    >>> with hook(output="denoised") as follower:  # doctest: +SKIP
    ...     with Acquisition("data", name="cells", image_process_fn=follower) as acquisition:
    ...         acquisition.acquire(multi_d_acquisition_events(num_time_points=1000))

    It can be called by any loop too:

    >>> with hook(output="mine") as follower:
    ...     for frame in demo_movie().frames[:24]:
    ...         unchanged = follower(frame, {"Camera": "mine"})
    >>> result = follower.finish()
    >>> result.seen, result.problem
    (24, None)
    """
    return open_follower(
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


def open_follower(
    output: Path | str,
    queue_mb: float,
    *,
    keep_raw: bool,
    on_denoised: OnDenoised | None,
    newest_only: bool,
    regions: Path | str | None,
    trigger: Sequence[str],
    bundle: Path | str,
    **settings: Any,
) -> Follower:
    """Return a follower whose denoising process runs; `hook` and `attach` share this."""
    if queue_mb <= 0:
        raise InvalidInput(f"queue_mb is {queue_mb:g}, and frames need room to wait in; give more than 0.")
    folder = Path(output).absolute()
    if (folder / HOOK_REPORT).exists():
        raise OutputExists(f"{folder / HOOK_REPORT} exists and is never overwritten; name another output.")
    if regions is not None and found_radius(str(regions)) is None:
        if not Path(regions).exists():
            raise InvalidInput(
                f"`regions` {regions}: there is no such file; name one, or find to find cells."
            )
        regions = Path(regions).absolute()
    words = {
        "regions": None if regions is None else str(regions),
        "trigger": list(trigger),
        "bundle": str(Path(bundle).absolute()) if Path(bundle).is_dir() else str(bundle),
        "send_frames": on_denoised is not None,
        "output": str(folder),
        "keep_raw": keep_raw,
        "picture": keep_raw,
        # The process is our own already; raw frames that it writes must survive a crash of the denoiser.
        "denoiser": "process" if keep_raw else "thread",
    }
    return Follower(
        {**words, **settings}, queue_mb=queue_mb, on_denoised=on_denoised, newest_only=newest_only
    )
