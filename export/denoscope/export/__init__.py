"""Freeze: trained networks into bundles of ONNX graphs (extra `train`), bundles into engines (extra `gpu`).

Importing this package loads nothing heavy: each public name is imported when it is first used, and building
engines needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from denoscope.runtime.late import late_names

if TYPE_CHECKING:
    from ._bundle import export_bundle, load_bundle_flow, load_network
    from ._engines import EnginePlan, build_engine, installed_versions, plan_engines
    from ._errors import BuilderUnavailable, EngineBuildFailed, PrecisionRefused
    from ._onnx import OPSET, export_graphs
    from ._parity import LOSS_LIMIT_DB, ParityRow, export_precision
    from ._sizes import parse_range, parse_size
    from ._targets import GPUS, Target, parse_targets

# A literal, for type checkers and star imports; a test holds it equal to the table below.
__all__ = [
    "GPUS",
    "LOSS_LIMIT_DB",
    "OPSET",
    "BuilderUnavailable",
    "EngineBuildFailed",
    "EnginePlan",
    "ParityRow",
    "PrecisionRefused",
    "Target",
    "build_engine",
    "export_bundle",
    "export_graphs",
    "export_precision",
    "installed_versions",
    "load_bundle_flow",
    "load_network",
    "parse_range",
    "parse_size",
    "parse_targets",
    "plan_engines",
]

_MODULES = {
    "_bundle": ("export_bundle", "load_bundle_flow", "load_network"),
    "_engines": ("EnginePlan", "build_engine", "installed_versions", "plan_engines"),
    "_errors": ("BuilderUnavailable", "EngineBuildFailed", "PrecisionRefused"),
    "_onnx": ("OPSET", "export_graphs"),
    "_parity": ("LOSS_LIMIT_DB", "ParityRow", "export_precision"),
    "_sizes": ("parse_range", "parse_size"),
    "_targets": ("GPUS", "Target", "parse_targets"),
}
__getattr__ = late_names(__name__, _MODULES)


def __dir__() -> list[str]:
    return __all__
