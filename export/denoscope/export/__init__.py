"""Freeze: trained networks into bundles of ONNX graphs (extra `train`), bundles into engines (extra `gpu`).

Importing this package loads nothing heavy: each public name is imported when it is first used, and building
engines needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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

_HOME = {
    "export_bundle": "_bundle",
    "load_bundle_flow": "_bundle",
    "load_network": "_bundle",
    "EnginePlan": "_engines",
    "build_engine": "_engines",
    "installed_versions": "_engines",
    "plan_engines": "_engines",
    "BuilderUnavailable": "_errors",
    "EngineBuildFailed": "_errors",
    "PrecisionRefused": "_errors",
    "OPSET": "_onnx",
    "export_graphs": "_onnx",
    "LOSS_LIMIT_DB": "_parity",
    "ParityRow": "_parity",
    "export_precision": "_parity",
    "parse_range": "_sizes",
    "parse_size": "_sizes",
    "GPUS": "_targets",
    "Target": "_targets",
    "parse_targets": "_targets",
}


def __getattr__(name: str) -> object:
    """Import a public name from its module when it is first used."""
    try:
        home = _HOME[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
