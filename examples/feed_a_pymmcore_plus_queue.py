"""Feed pymmcore-plus' queue with events whose exposure depends on the denoised frames."""

import queue

import pymmcore
import useq
from mm_test_adapters import device_adapter_path  # your Micro-Manager folder takes its place
from pymmcore_plus import CMMCorePlus

from denoscope.acquisition import attach

MOST = 60

# Denoising happens in another process, which imports this file: keep the guard.
if __name__ == "__main__":
    core = CMMCorePlus(mm_path=device_adapter_path())
    core.loadSystemConfiguration(f"{device_adapter_path()}/MMConfig_demo.cfg")
    events: queue.Queue = queue.Queue()
    exposures, looked_at = [10.0], []

    def look(frame) -> None:
        """Choose the exposure of the next events; called with each denoised frame."""
        looked_at.append(frame.number)
        exposures.append(5.0 if frame.denoised.mean() > 1000 else 10.0)

    def ask(number: int) -> None:
        """Ask for one more frame, or for the end."""
        last = number == MOST
        events.put(None if last else useq.MDAEvent(index={"t": number}, exposure=exposures[-1]))

    fast = {"bundle": "live-fast", "look_ahead": 0}
    with attach(core, output="followed_queue", on_denoised=look, **fast) as follower:
        core.mda.events.frameReady.connect(lambda _image, event, _meta: ask(event.index["t"] + 1))
        ask(0)
        core.mda.run(iter(events.get, None))
    result = follower.finish()
    print(f"{result.seen} frames acquired, {len(looked_at)} looked at")
    print(f"last exposure {exposures[-1]:g} ms")
    print(f"problem: {result.problem}")
    # Lets Python end while the core's thread still runs.
    pymmcore.CMMCore.registerCallback(core, None)
