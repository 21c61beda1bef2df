"""A user's pycromanager script, with or without us, in a separate process: one core a process.

    python acquire.py FOLDER MODE BUNDLE

MODE is `none`, `plain`, or what goes wrong on our side: `raises`, `hangs`, `killed`, `forgotten`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any


def acquire(folder: Path, follower: Any) -> None:
    from mm_test_adapters import device_adapter_path
    from pycromanager import Acquisition, Core, multi_d_acquisition_events, start_headless, stop_headless

    start_headless(device_adapter_path(), "MMConfig_demo.cfg", python_backend=True, buffer_size_mb=64)
    core = Core()
    # Its picture depends on nothing but how many were taken before.
    core.set_property("Camera", "Mode", "Artificial Waves")
    core.set_property("Camera", "OnCameraCCDXSize", 64)
    core.set_property("Camera", "OnCameraCCDYSize", 48)
    core.set_property("Camera", "PixelType", "16bit")
    core.set_exposure(2.0)
    images = {"image_process_fn": follower} if follower is not None else {}
    with Acquisition(directory=str(folder), name="data", show_display=False, **images) as acquisition:
        acquisition.acquire(
            multi_d_acquisition_events(num_time_points=30, channel_group="Channel", channels=["DAPI", "FITC"])
        )
    stop_headless()


def main() -> None:
    folder, mode, bundle = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    if mode == "none":
        acquire(folder, None)
        return
    from denoscope.acquisition import hook

    room = {"queue_mb": 0.05 if mode == "hangs" else 64}
    follower = hook(output=folder / "denoised", bundle=bundle, backend="onnxruntime-cpu", **room)
    pid = follower._child.pid
    passed = follower.push
    count = 0

    def push(image: Any, metadata: Any) -> None:
        nonlocal count
        count += 1
        if mode == "killed" and count == 20:
            os.kill(pid, signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
        if mode == "hangs" and count == 10 and hasattr(signal, "SIGSTOP"):
            os.kill(pid, signal.SIGSTOP)
        passed(image, metadata)

    if mode == "raises":

        def take(image: Any, metadata: Any, number: int) -> None:
            raise RuntimeError("a bad day")

        follower._take = take  # type: ignore[method-assign, assignment]
    else:
        follower.push = push  # type: ignore[method-assign]
    acquire(folder, follower)
    if mode != "forgotten":
        print(json.dumps(follower.finish(5.0 if mode == "hangs" else 60.0).as_json()))


if __name__ == "__main__":
    main()
