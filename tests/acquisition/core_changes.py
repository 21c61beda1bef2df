"""Records from a real core while exposure and region change; run by `test_core_changes` in a separate process.

python core_changes.py FOLDER
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from denoscope.acquisition import Frame, SourceInfo, make_settings
from denoscope.acquisition.sources.micromanager.config import ConfigSource
from support.plain_results import live
from support.tiny_bundle import IDENTITY, tiny_bundle


class Changing(ConfigSource):
    """A user who turns the knobs while it records."""

    popped = 0

    def _describe(self, kind: str, name: str, **more: Any) -> SourceInfo:
        self._core.set_property("Camera", "Binning", "4")
        return super()._describe(kind, name, **more)

    def pop(self) -> Frame | None:
        frame = super().pop()
        if frame is not None:
            self.popped += 1
            if self.popped == 20:
                self._core.set_exposure(5.0)
                time.sleep(0.6)  # longer than the exposure is taken as known
            elif self.popped == 70:
                self._core.set_roi(8, 8, 64, 48)
        return frame


def main() -> None:
    folder = Path(sys.argv[1])
    tiny_bundle(folder / "tiny.denoscope", intensity=IDENTITY)
    settings = make_settings(
        core="MMConfig_demo.cfg",
        output=folder / "run",
        bundle=str(folder / "tiny.denoscope"),
        picture=False,
        backend="onnxruntime-cpu",  # starts sooner than OpenVINO
        frames=1000,
        lag_s=60,
        finish_s=60,
        denoiser="thread",
    )
    report = live(settings, source=Changing(Path("MMConfig_demo.cfg"), buffer_mb=256))
    print(json.dumps(report))


if __name__ == "__main__":
    main()
