"""A user's pymmcore-plus script, with or without us, in a separate process.

    python attach_peer.py FOLDER MODE BUNDLE

MODE is `none`, `plain`, `raises`, `killed`, or `sequence` (a sequence acquisition without the engine).
The user's own frames go to `frames.npy`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np


def make_core() -> Any:
    from mm_test_adapters import device_adapter_path
    from pymmcore_plus import CMMCorePlus

    core = CMMCorePlus(mm_path=device_adapter_path())
    core.loadSystemConfiguration(Path(device_adapter_path()) / "MMConfig_demo.cfg")
    for name, value in (("OnCameraCCDXSize", 64), ("OnCameraCCDYSize", 48), ("PixelType", "16bit")):
        core.setProperty("Camera", name, value)
    core.setExposure(10.0)
    return core


def run_mda(core: Any) -> list[Any]:
    import useq

    frames = []
    core.mda.events.frameReady.connect(lambda image, event, metadata: frames.append(image.copy()))
    plan = useq.MDASequence(time_plan={"interval": 0, "loops": 15}, channels=["DAPI", "FITC"])
    core.mda.run(plan)
    return frames


def run_sequence(core: Any) -> list[Any]:
    """Record 40 frames and read them all when the camera stands still, as a script may do."""
    core.setExposure(25.0)
    core.startSequenceAcquisition(40, 0, True)
    while core.isSequenceRunning():
        time.sleep(0.01)
    time.sleep(0.2)
    return [core.popNextImage() for _ in range(core.getRemainingImageCount())]


def main() -> None:
    folder, mode, bundle = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    folder.mkdir()
    core = make_core()
    following: Any = nullcontext()
    if mode != "none":
        from denoscope.acquisition import attach

        # A busy computer may take long to start the denoiser; nothing is to be skipped for it.
        following = attach(
            core, output=folder / "denoised", bundle=bundle, backend="onnxruntime-cpu", lag_s=100
        )
    with following as follower:
        if mode == "raises":
            follower.push = None
        if mode == "killed":
            os.kill(follower._child.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        frames = run_sequence(core) if mode == "sequence" else run_mda(core)
    np.save(folder / "frames.npy", np.stack(frames))
    if mode != "none":
        print(json.dumps(follower.finish().as_json()))
    import pymmcore

    # pymmcore's own thread must not call into an interpreter that is ending.
    pymmcore.CMMCore.registerCallback(core, None)


if __name__ == "__main__":
    main()
