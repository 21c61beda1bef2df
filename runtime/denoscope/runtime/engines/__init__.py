"""Engines and the private cache that keeps them; nothing here imports TensorRT.

Examples
--------
>>> from denoscope.runtime.engines import SizeRange
>>> SizeRange(minimum=(64, 64), typical=(512, 512), maximum=(2048, 2048)).covers(480, 640)
True
"""

from __future__ import annotations

from .cache import BuiltEngine, CachedEngine, EngineCache, EngineState, default_cache_folder
from .driver import LocalGpu, local_gpu
from .log import error_log
from .records import EngineContents, EngineManifest, EngineSpec, SizeRange, TensorRecord

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
