"""Denoise beside your own pycromanager acquisition; your dataset stays exactly as it is."""

import tempfile

from mm_test_adapters import device_adapter_path  # your Micro-Manager folder takes its place
from pycromanager import Acquisition, multi_d_acquisition_events, start_headless, stop_headless

from denoscope.acquisition import hook

# Denoising happens in another process, which imports this file: keep the guard.
if __name__ == "__main__":
    start_headless(device_adapter_path(), "MMConfig_demo.cfg", python_backend=True)
    with hook(output="denoised") as follower:
        with Acquisition(tempfile.mkdtemp(), name="cells", image_process_fn=follower) as acq:
            acq.acquire(multi_d_acquisition_events(num_time_points=12))
    stop_headless()
    result = follower.finish()
    print(f"{result.seen} frames seen, {result.sent} sent, problem: {result.problem}")
