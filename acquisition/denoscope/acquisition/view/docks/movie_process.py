"""The process that denoises a recorded movie for the plugin: a request in, progress and the result out."""

from __future__ import annotations

import _thread
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from denoscope.acquisition.processes.child import speak
from denoscope.acquisition.processes.wire import Wire, Words
from denoscope.runtime import DenoscopeError, counted
from denoscope.runtime.words import rounded

if TYPE_CHECKING:
    from denoscope.acquisition.results import Denoising

__all__ = ["main"]

_TELL_EVERY_S = 0.1


class _Dock:
    """The dock that started this process, and may be gone."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._told_s = 0.0
        self.done = (0, 0)

    def tell(self, event: str, **values: Any) -> None:
        """Tell it what happened."""
        with suppress(OSError):
            self._wire.send({"event": event, **values})

    def progress(self, done: int, total: int) -> None:
        """Tell it how many frames are done, now and then."""
        self.done = done, total
        now_s = time.perf_counter()
        if done == total or now_s - self._told_s >= _TELL_EVERY_S:
            self._told_s = now_s
            self.tell("progress", what="denoising", done=done, total=total)


def _interrupt_when_told(wire: Wire) -> None:
    """Interrupt the work when the dock cancels it or is gone."""
    with suppress(OSError, ValueError):
        wire.receive()
    _thread.interrupt_main()


def _run(request: Words, dock: _Dock) -> None:
    from denoscope.acquisition.offline.denoise import denoise_movie
    from denoscope.acquisition.offline.journal import Journal

    judge = request.pop("judge")
    output = Path(request["output"])
    first, last = request.pop("frames")
    frames = slice(first, last)
    done = denoise_movie(**request, frames=frames, resume=Journal(output).exists(), on_frame=dock.progress)
    pixel_m = done.source.pixel_size_m
    dock.tell(
        "denoised",
        output=str(done.output),
        pixel_um=None if pixel_m is None else pixel_m * 1e6,
        words=list(_sentences(done)),
    )
    verdicts = _judge(request, frames, output, dock) if judge else []
    dock.tell("finished", verdicts=verdicts)


def _sentences(done: Denoising) -> Iterator[str]:
    rate = f" ({rounded(1 / done.frame_s)} frames/s with {done.denoiser.backend})" if done.frame_s else ""
    yield f"Done. {counted(done.frames, 'frame')} denoised{rate}."
    yield f"Saved as {done.output}."
    for sentence in done.incomplete:
        yield f"Missing: {sentence}."
    if done.untrue:
        yield f"Problem: {done.untrue}."
    if done.traces is not None and done.traces.frames:
        yield f"Traces of {counted(done.traces.regions, 'region')}: {done.traces.file}."
    for note in filter(None, [done.movie_note, *done.notes]):
        yield f"Note: {note.rstrip('.')}."


def _judge(request: Words, frames: slice, output: Path, dock: _Dock) -> list[dict[str, str]]:
    """Return what ``denoscope evaluate`` says of the bundle on this movie, for each method that it judges."""
    from denoscope.acquisition.learning.evaluation import EvaluationListener, evaluate, reasons

    class _Told(EvaluationListener):
        total = 0

        def began(self, name: str, frames: int, bundles: int) -> None:  # noqa: ARG002
            self.total = frames

        def progressed(self, frames: int) -> None:
            dock.tell("progress", what="judging", done=frames, total=self.total)

    dock.tell("progress", what="judging", done=0, total=0)
    folder = output.with_name(output.name.partition(".")[0] + "_verdict")
    found = evaluate(
        folder,
        movie=[Path(request["movie"])],
        bundle=[request["bundle"]],
        frames=frames,
        axes=request["axes"],
        listener=_Told(),
    )
    return [
        {"method": each.method, "level": each.verdict, "words": reasons(each.verdicts)}
        for record in found.movies
        for each in record.methods
        if each.verdict is not None
    ]


def main() -> None:
    """Denoise one movie and leave."""
    wire = speak()
    dock = _Dock(wire)
    request = wire.receive()
    if request is None:
        return
    threading.Thread(target=_interrupt_when_told, args=(wire,), name="denoscope-cancel", daemon=True).start()
    try:
        _run(request.words, dock)
    except KeyboardInterrupt:
        dock.tell("cancelled", done=dock.done[0], total=dock.done[1])
        sys.exit(130)
    except DenoscopeError as error:
        dock.tell("failed", message=str(error))
        sys.exit(2)


if __name__ == "__main__":
    main()
