"""Public names of the engine cache.

Examples
--------
>>> from denoscope.runtime.engines import SizeRange
>>> SizeRange(minimum=(64, 64), typical=(512, 512), maximum=(2048, 2048)).covers(480, 640)
True
"""

from __future__ import annotations

from ._engines import (
    BuiltEngine,
    CachedEngine,
    EngineCache,
    EngineContents,
    EngineManifest,
    EngineSpec,
    EngineState,
    LocalGpu,
    SizeRange,
    TensorRecord,
    default_cache_folder,
    error_log,
    local_gpu,
)

__all__ = [
    "BuiltEngine",
    "CachedEngine",
    "EngineCache",
    "EngineContents",
    "EngineManifest",
    "EngineSpec",
    "EngineState",
    "LocalGpu",
    "SizeRange",
    "TensorRecord",
    "default_cache_folder",
    "error_log",
    "local_gpu",
]
