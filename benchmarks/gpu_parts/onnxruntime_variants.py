"""ONNX Runtime's CUDA provider as the product uses it: float32, TF32 and float16, both layouts, fused convolutions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from denoscope.export.half import half_precision
from denoscope.runtime.backends.onnxruntime_gpu import OnnxRuntimeCuda

from . import BUNDLES, Plan
from .pushes import difference, measure_pushes

VARIANTS = (
    {"precision": "float32"},
    {"precision": "float16"},
    {"precision": "float16", "nhwc": True},
    {"precision": "float16", "fused": True},
    {"precision": "tf32"},
    {"precision": "float16", "nhwc": True, "fused": True},
)


def fuse_convolutions(data: bytes) -> bytes:
    """Return the graph with each convolution and the ReLU behind it as one `com.microsoft.FusedConv`."""
    import onnx
    from onnx import helper

    model = onnx.load_model_from_string(data)
    graph = model.graph
    users: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    outputs = {value.name for value in graph.output}
    dropped: set[str] = set()
    for node in graph.node:
        if node.op_type != "Conv" or node.output[0] in outputs:
            continue
        following = users.get(node.output[0], [])
        if len(following) != 1 or following[0].op_type != "Relu":
            continue
        node.op_type, node.domain = "FusedConv", "com.microsoft"
        node.attribute.append(helper.make_attribute("activation", "Relu"))
        dropped.add(following[0].output[0])
        node.output[0] = following[0].output[0]
    kept = [node for node in graph.node if not (node.op_type == "Relu" and node.output[0] in dropped)]
    del graph.node[:]
    graph.node.extend(kept)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return bytes(model.SerializeToString())


def _backend(variant: dict[str, Any], plan: Plan) -> Any:
    base: Any = OnnxRuntimeCuda
    if plan.dry:
        from support.gpu_on_host import CudaOnHost

        base = CudaOnHost

    class Variant(base):  # type: ignore[misc]
        """The product's backend with other options or a rewritten graph."""

        def options(self) -> dict[str, str]:
            options: dict[str, str] = super().options()
            if not plan.dry:
                options["use_tf32"] = "1" if variant["precision"] == "tf32" else "0"
                options["prefer_nhwc"] = "1" if variant.get("nhwc") else "0"
            return options

        def compile(self, onnx: bytes) -> Any:
            if variant["precision"] == "float16":
                onnx = half_precision(onnx)
            if variant.get("fused"):
                onnx = fuse_convolutions(onnx)
            return super().compile(onnx)

    return Variant()


def _measure(name: str, variant: dict[str, Any], plan: Plan, exact: dict[str, Any]) -> dict[str, Any]:
    with _backend(variant, plan) as backend:
        row, picture = measure_pushes(name, backend, plan)
    if variant["precision"] == "float32":
        exact[name] = picture
    if name in exact:
        row["rms_difference_sigma"] = difference(picture, exact[name], plan)
    return {"bundle": name, "variant": variant, **row}


def rows(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yield latency and rate of pushes, and how far the picture is from float32's."""
    exact: dict[str, Any] = {}
    for name in BUNDLES:
        for variant in VARIANTS:
            if plan.dry and variant.get("fused") and variant["precision"] == "float16":
                continue  # the processor's provider has no such kernel
            try:
                yield _measure(name, variant, plan, exact)
            except Exception as error:  # noqa: BLE001  what the library refuses is a result
                yield {"bundle": name, "variant": variant, "problem": str(error).splitlines()[0][:300]}
