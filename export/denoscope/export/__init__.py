"""Freeze: trained networks into bundles of ONNX graphs (needs the extra `train`)."""

from __future__ import annotations

from denoscope.export._bundle import export_bundle, load_network
from denoscope.export._onnx import OPSET, export_graphs

__all__ = ["OPSET", "export_bundle", "export_graphs", "load_network"]
