"""Make bundles of trained networks (extra `train`), and GPU engines of bundles (extra `gpu`).

Bundles:

- `export_bundle` writes a network as a bundle, `load_network` and `load_bundle_flow` get it back. `export_graphs`
  makes the ONNX graphs alone (version `OPSET`).
- `export_precision` writes a bundle in another precision, if it loses no more than `LOSS_LIMIT_DB` (`ParityRow`,
  `PrecisionRefused`).

Engines, which need no PyTorch:

- `plan_engines` decides which are needed (`EnginePlan`), `build_engine` builds one (`EngineBuildFailed`),
  `installed_versions` tells which TensorRT is there (`BuilderUnavailable`).
- `parse_targets` reads names of GPUs (`Target`, `GPUS`); `parse_size` and `parse_range` read sizes of frames.

Nothing is imported before it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from denoscope.runtime.late import late_names

if TYPE_CHECKING:
    from .bundle import export_bundle, load_bundle_flow, load_network
    from .engines import EnginePlan, build_engine, installed_versions, plan_engines
    from .errors import BuilderUnavailable, EngineBuildFailed, PrecisionRefused
    from .graphs import OPSET, export_graphs
    from .parity import LOSS_LIMIT_DB, ParityRow, export_precision
    from .sizes import parse_range, parse_size
    from .targets import GPUS, Target, parse_targets

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
    "bundle": ("export_bundle", "load_bundle_flow", "load_network"),
    "engines": ("EnginePlan", "build_engine", "installed_versions", "plan_engines"),
    "errors": ("BuilderUnavailable", "EngineBuildFailed", "PrecisionRefused"),
    "graphs": ("OPSET", "export_graphs"),
    "parity": ("LOSS_LIMIT_DB", "ParityRow", "export_precision"),
    "sizes": ("parse_range", "parse_size"),
    "targets": ("GPUS", "Target", "parse_targets"),
}
__getattr__ = late_names(__name__, _MODULES)


def __dir__() -> list[str]:
    return __all__
