"""Engines and the private cache that keeps them; nothing here imports TensorRT."""

from __future__ import annotations

from ._cache import BuiltEngine, CachedEngine, EngineCache, EngineState, default_cache_folder
from ._driver import LocalGpu, local_gpu
from ._log import error_log
from ._records import EngineContents, EngineManifest, EngineSpec, SizeRange, TensorRecord

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
