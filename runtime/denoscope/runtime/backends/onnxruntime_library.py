"""Import of ONNX Runtime without its telemetry."""

from __future__ import annotations

import os
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
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime
