"""The bundles' convolutions one by one in float16: by cuDNN, by its fused one, and by a kernel of our own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import Plan

# Input and output channels, kernel, height and width: of `live` and `live-hq` at 512 x 512.
SHAPES = (
    (32, 32, 3, 256),
    (48, 48, 3, 128),
    (128, 32, 1, 256),
    (64, 64, 3, 256),
    (128, 128, 3, 128),
)


def pack_weights(weights: npt.NDArray[np.float16]) -> npt.NDArray[np.float16]:
    """Return weights (out, in, k, k) in the order in which the lanes of a warp feed them to mma.m16n8k16."""
    out, inputs, size, _ = weights.shape
    taps = weights.transpose(2, 3, 1, 0).reshape(size * size, inputs // 16, 2, 4, 2, out // 8, 8)
    # tap, part, which register, quad, half of the register, tile, group -> tap, part, tile, group, quad, register, half
    return np.ascontiguousarray(taps.transpose(0, 1, 5, 6, 3, 2, 4))


def compile_kernel(inputs: int, outputs: int, size: int, architecture: str) -> Any:
    """Compile the kernel for fixed channels; it needs no GPU."""
    from cuda.core import Program, ProgramOptions

    source = Path(__file__).with_name("convolution.cu").read_text(encoding="utf-8")
    macros = [f"CIN={inputs}", f"COUT={outputs}", f"KS={size}", f"TY={rows_of_a_block(inputs)}"]
    options = ProgramOptions(arch=architecture, std="c++17", define_macro=macros)
    return Program(source, "c++", options).compile("cubin")


def rows_of_a_block(inputs: int) -> int:
    """Return how many rows of pixels a block computes, so that its input fits into 48 KiB of shared memory."""
    return 8 if inputs <= 64 else 4


def rows(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yield the time of each way for each shape, and how far our kernel is from cuDNN's result."""
    if plan.dry:
        for inputs, outputs, size, _ in SHAPES:
            compiled = compile_kernel(inputs, outputs, size, "sm_90")
            yield {"shape": [inputs, outputs, size], "compiled_bytes": len(compiled.code)}
        return
    import torch
    from cuda.core import Device, LaunchConfig, Stream, launch

    from .torch_network import _captured, seconds_on_gpu

    torch.backends.cudnn.benchmark = True
    torch.zeros(1, device="cuda")
    core = Device(0)
    core.set_current()
    major, minor = core.compute_capability
    for inputs, outputs, size, edge in SHAPES:
        x = torch.randn(1, inputs, edge, edge, device="cuda", dtype=torch.float16)
        x = x.to(memory_format=torch.channels_last)
        convolution = torch.nn.Conv2d(inputs, outputs, size, padding=size // 2).cuda().half()
        convolution = convolution.to(memory_format=torch.channels_last).requires_grad_(requires_grad=False)
        w, b = convolution.weight, convolution.bias
        row: dict[str, Any] = {
            "shape": [inputs, outputs, size, edge],
            "flop": 2 * inputs * outputs * size**2 * edge**2,
        }
        padding = [size // 2] * 2
        ways = {
            "convolution": lambda x=x, w=w, p=padding: torch.nn.functional.conv2d(x, w, None, padding=p),
            "convolution_bias_relu": lambda c=convolution, x=x: torch.relu_(c(x)),
            "cudnn_fused": lambda x=x, w=w, b=b, p=padding: torch.cudnn_convolution_relu(
                x, w, b, [1, 1], p, [1, 1], 1
            ),
        }
        for name, way in ways.items():
            try:
                row[f"{name}_s"] = seconds_on_gpu(_captured(way)[0], 200)
            except Exception as error:  # noqa: BLE001  what the library refuses is a result
                row[f"{name}_problem"] = str(error).splitlines()[0][:200]
        kernel = compile_kernel(inputs, outputs, size, f"sm_{major}{minor}").get_kernel("convolution")
        packed = torch.from_numpy(pack_weights(w.contiguous().cpu().numpy())).cuda()
        y = torch.full((edge, edge, outputs), float("nan"), device="cuda", dtype=torch.float16)
        high = rows_of_a_block(inputs)
        config = LaunchConfig(grid=(-(-edge // 16), -(-edge // high)), block=high // 2 * 32)
        bias = b.float().contiguous()
        pointers = [np.uint64(t.data_ptr()) for t in (x, packed, bias, y)]

        def own(
            kernel: Any = kernel, config: Any = config, pointers: Any = pointers, edge: int = edge
        ) -> None:
            stream = Stream.from_handle(torch.cuda.current_stream().cuda_stream)
            launch(stream, config, kernel, *pointers, np.int32(edge), np.int32(edge))

        own()
        torch.cuda.synchronize()
        expected = torch.relu(torch.nn.functional.conv2d(x.float(), w.float(), b.float(), padding=padding))
        found = y.permute(2, 0, 1)[None].float()
        row["own_largest_error"] = float((found - expected).abs().max())
        row["largest_value"] = float(expected.max())
        row["own_s"] = seconds_on_gpu(_captured(own)[0], 200)
        yield row
