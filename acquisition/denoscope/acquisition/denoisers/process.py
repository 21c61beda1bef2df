"""The process that denoises for a session: messages in, messages out, frames in shared memory."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from denoscope.acquisition.errors import one_line
from denoscope.acquisition.processes.child import end_with
from denoscope.acquisition.processes.shared_memory import Slab
from denoscope.acquisition.processes.wire import Wire

from .remote import SLOTS, Layout

if TYPE_CHECKING:
    from denoscope.runtime import Denoised

    from .local import LocalDenoiser

__all__ = ["main"]

_TELL_EVERY_S = 0.25


class _Server:
    """Does what the messages of a `RemoteDenoiser` say."""

    def __init__(self, wire: Wire, slab: Slab) -> None:
        self._wire = wire
        self._slab = slab
        self._layout = Layout(0, 0)
        self._denoiser: LocalDenoiser | None = None
        self._due: deque[Denoised] = deque()
        self._told: Mapping[str, Any] | None = None
        self._writing = threading.Lock()
        self._works = False

    def serve(self) -> None:
        """Answer until the other side says `close` or is gone."""
        threading.Thread(target=self._tell_steps, name="denoscope-steps", daemon=True).start()
        while (message := self._wire.receive()) is not None and (do := message.pop("do")) != "close":
            self._works = True
            try:
                answer = getattr(self, f"do_{do}")(**message)
            except Exception as error:  # noqa: BLE001  it is raised there, where the session can say it
                answer = {"error": one_line(error), "kind": type(error).__name__}
            with self._writing:
                self._works = False
                self._wire.send(answer)
        if self._denoiser is not None:
            self._denoiser.close()

    def _tell_steps(self) -> None:
        """Send the count of finished steps before an answer that takes long, each time it has grown."""
        told = 0
        while True:
            time.sleep(_TELL_EVERY_S)
            steps = 0 if self._denoiser is None else self._denoiser.steps
            with self._writing:
                if self._works and steps != told:
                    try:
                        self._wire.send({"steps": steps})
                    except OSError:  # the recording is gone, and this process goes too
                        return
            told = steps

    @property
    def denoiser(self) -> LocalDenoiser:
        if self._denoiser is None:
            raise ValueError("the denoiser was not opened")
        return self._denoiser

    def do_open(self, request: dict[str, Any]) -> dict[str, Any]:
        from .local import DenoiserRequest, LocalDenoiser

        self._denoiser = LocalDenoiser(DenoiserRequest(**request))
        provenance = self._denoiser.provenance
        return {
            "look_ahead": self._denoiser.look_ahead,
            "provenance": provenance,
            "clock_s": time.perf_counter(),
        }

    def do_grow(self, name: str, largest: list[int], nbytes: int) -> dict[str, Any]:
        self._layout = Layout(*largest)
        self._slab.follow(name, nbytes)
        return {}

    def do_prepare(self, shape: list[int], dtype: str, streams: int) -> dict[str, Any]:
        self.denoiser.prepare((shape[0], shape[1]), dtype, streams)
        return {}

    def do_push(
        self,
        key: list[Any],
        number: int,
        source_index: int | None,
        received_s: float,
        shape: list[int],
        dtype: str,
        skip: str | None,
    ) -> dict[str, Any]:
        from denoscope.runtime import FrameMeta, StreamKey

        frame = self._slab.view(0, tuple(shape), dtype)
        meta = FrameMeta(number, received_s, StreamKey(*key), source_index=source_index)
        self._due.extend(self.denoiser.push(frame, meta, skip=skip))
        return self.do_more()

    def do_restart(self, key: list[Any], recalibrate: bool) -> dict[str, Any]:
        from denoscope.runtime import StreamKey

        self._due.extend(self.denoiser.restart(StreamKey(*key), recalibrate=recalibrate))
        return self.do_more()

    def do_flush(self) -> dict[str, Any]:
        self._due.extend(self.denoiser.flush())
        return self.do_more()

    def do_more(self) -> dict[str, Any]:
        """Put as many outputs into the shared memory as fit, and describe them."""
        outputs = []
        for slot in range(min(SLOTS, len(self._due))):
            output = self._due.popleft()
            frame, std, key = output.frame, output.std, output.meta.key
            self._slab.view(self._layout.output(slot), frame.shape, frame.dtype)[...] = frame
            if std is not None:
                self._slab.view(self._layout.std(slot), std.shape, np.float32)[...] = std
            times = output.times
            outputs.append(
                {
                    "key": [key.camera, key.channel, key.z, key.position],
                    "number": output.meta.number,
                    "source_index": output.meta.source_index,
                    "shape": frame.shape,
                    "dtype": frame.dtype.name,
                    "std": std is not None,
                    "times": [
                        *(times.received, times.pushed, times.encoded),
                        *(times.fuse_start, times.fused, times.emitted),
                    ],
                }
            )
        counters = self.denoiser.counters
        answer: dict[str, Any] = {
            "outputs": outputs,
            "more": len(self._due) > 0,
            "counters": [
                *(counters.received, counters.emitted, counters.dropped),
                *(counters.in_flight, counters.unusual),
            ],
        }
        learned = self.denoiser.learned()
        if learned is not self._told:
            self._told = learned
            answer["learned"] = dict(learned)
        return answer


def _be_first_to_go() -> None:
    """Ask Linux to end this process rather than the recording where memory runs out."""
    if sys.platform == "linux":
        try:
            Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
        except OSError:  # not allowed here; nothing depends on it
            return


def main() -> None:
    """Serve one session and leave."""
    # What a library prints must not be taken for a message.
    outgoing = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    faulthandler.enable()
    end_with(int(sys.argv[1]))
    _be_first_to_go()
    slab = Slab(int(sys.argv[2]) if len(sys.argv) > 2 else None)
    _Server(Wire(cast("Any", sys.stdin.buffer), cast("Any", outgoing)), slab).serve()


if __name__ == "__main__":
    main()
