"""Let the denoised frames decide what pycromanager acquires next; your dataset stays as it is."""

import queue
import tempfile
import time

from mm_test_adapters import device_adapter_path  # your Micro-Manager folder takes its place
from pycromanager import Acquisition, start_headless, stop_headless

from denoscope.acquisition import hook

# Denoising happens in another process, which imports this file: keep the guard.
if __name__ == "__main__":
    seen: queue.SimpleQueue = queue.SimpleQueue()
    start_headless(device_adapter_path(), "MMConfig_demo.cfg", python_backend=True)
    fast = {"bundle": "live-fast", "look_ahead": 0}
    with hook(output="denoised", on_denoised=seen.put, **fast) as follower:
        with Acquisition(tempfile.mkdtemp(), name="cells", image_process_fn=follower) as acq:
            interval_s, time_point, changes = 0.02, 0, 0
            while time_point < 60:
                acq.acquire({"axes": {"time": time_point}})
                time_point += 1
                time.sleep(interval_s)
                # Never wait for a denoised frame: take what has come, and go on with the newest.
                newest = None
                while not seen.empty():
                    newest = seen.get()
                if newest is not None:
                    bright = newest.denoised.mean() > 1.05 * newest.denoised.min()
                    wanted_s = 0.01 if bright else 0.05  # more often when there is something to see
                    changes += wanted_s != interval_s
                    interval_s = wanted_s
    stop_headless()
    result = follower.finish()
    print(f"{result.seen} frames seen, {result.on_denoised.called} looked at")
    print(f"interval changed {changes} time(s)")
    print(f"problem: {result.problem}")
