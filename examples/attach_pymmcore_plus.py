"""Denoise beside your own pymmcore-plus acquisition."""

import pymmcore
import useq
from mm_test_adapters import device_adapter_path  # your Micro-Manager folder takes its place
from pymmcore_plus import CMMCorePlus

from denoscope.acquisition import attach

# Denoising happens in another process, which imports this file: keep the guard.
if __name__ == "__main__":
    core = CMMCorePlus(mm_path=device_adapter_path())
    core.loadSystemConfiguration(f"{device_adapter_path()}/MMConfig_demo.cfg")
    with attach(core, output="followed") as follower:
        core.mda.run(useq.MDASequence(time_plan={"interval": 0, "loops": 12}))
    result = follower.finish()
    print(f"{result.seen} frames seen, {result.sent} sent, problem: {result.problem}")
    # Lets Python end while the core's thread still runs.
    pymmcore.CMMCore.registerCallback(core, None)
