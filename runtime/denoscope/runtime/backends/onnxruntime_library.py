"""Import of ONNX Runtime without its telemetry."""

from __future__ import annotations

import os
import sys
from typing import Any

__all__ = ["onnxruntime_library"]


def onnxruntime_library() -> Any:
    """Import ONNX Runtime without its telemetry, which writes an identity into the home folder and reports its use.

    Who wants it sets ``ORT_DISABLE_TELEMETRY=0``.

    Raises
    ------
    ImportError
        When it is not installed, or its libraries do not load.
    """
    off = os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1") != "0"
    first = "onnxruntime" not in sys.modules
    import onnxruntime

    if first and off:
        onnxruntime.disable_telemetry_events()  # those of Windows do not heed the variable
    return onnxruntime
