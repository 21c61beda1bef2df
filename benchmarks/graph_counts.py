"""Count the nodes of a bundle's graphs, and the kernels and bytes of an engine that TensorRT for RTX builds of them.

    python benchmarks/graph_counts.py [BUNDLE ...] [--graph fuse] [--size 512]

BUNDLE is a name or a folder, such as a bundle of an earlier commit. No GPU is needed: the builder's log lists every
kernel with the tensors that it reads and writes. Built for compute capability 8.9, in float32 and float16.
"""

from __future__ import annotations

import argparse
import math
import re

import onnx

from denoscope.export.half import half_precision
from denoscope.runtime import Bundle, list_bundles
from denoscope.runtime.backends.raw_count_graphs import without_output

BYTES = {"Float": 4, "Half": 2, "Int32": 4, "Int64": 8, "Bool": 1, "BFloat16": 2}
_TENSOR = re.compile(r"Dimensions: \[([\d,]*)\][^{}]*?Datatype: (\w+)")
_IDLE = ("signal", "wait", "Constant", "shape_call")


def counted(data: bytes, size: int) -> tuple[int, int]:
    """Return kernels and bytes (read and written) of an engine for frames of this size."""
    import tensorrt_rtx as trt

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []

        def log(self, severity: object, message: str) -> None:  # noqa: ARG002
            self.lines.append(message)

    log = Log()
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    assert trt.OnnxParser(network, log).parse(data), log.lines[-3:]
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        if -1 in tuple(tensor.shape):
            part = 1 if tensor.name == "frame" else 4 if tensor.name.startswith("flow") else 2
            shape = (*tuple(tensor.shape)[:2], size // part, size // part)
            profile.set_shape(tensor.name, shape, shape, shape)
    config.add_optimization_profile(profile)
    assert builder.build_serialized_network(network, config) is not None, log.lines[-3:]
    lines = [line for text in log.lines for line in text.splitlines() if " LayerType: " in line]
    kernels = [line for line in lines if not any(f"LayerType: {kind}," in line for kind in _IDLE)]
    moved = 0
    for line in kernels:
        ends = line.split("Inputs:", 1)[1]
        ends = re.sub(r"Constants: \[.*?\], Outputs", "Outputs", ends)
        for dims, kind in _TENSOR.findall(ends):
            moved += math.prod(int(d) for d in dims.split(",") if d) * BYTES.get(kind, 4)
    return len(kernels), moved


def main() -> None:
    """Print a line for each bundle, output and precision."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundles", nargs="*", default=list(list_bundles()))
    parser.add_argument("--graph", default="fuse")
    parser.add_argument("--size", type=int, default=512)
    arguments = parser.parse_args()
    for name in arguments.bundles:
        bundle = Bundle.load(name)
        whole = bundle.graph_bytes(arguments.graph)
        for what, data in (("all outputs", whole), ("without std", without_output(whole, "std"))):
            nodes = len(onnx.load_model_from_string(data).graph.node)
            for precision, graph in (("float32", data), ("float16", half_precision(data))):
                kernels, moved = counted(graph, arguments.size)
                print(
                    f"{bundle.manifest.name} {bundle.digest[:8]} {arguments.graph}, {what}: {nodes} nodes, "
                    f"{precision}: {kernels} kernels, {moved / 1e6:.0f} MB",
                    flush=True,
                )


if __name__ == "__main__":
    main()
