"""A frame of each bundle in torch: float32, TF32 and float16, as captured CUDA graphs; eager and compiled.

It is the yardstick for the other paths: what the GPU can do with the same network when kernels are fused.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from denoscope.acquisition.bench.scene import make_scene
from denoscope.export import load_network
from denoscope.runtime import Bundle
from denoscope.train import LiveNet

from . import BUNDLES, Plan

__all__ = ["compiled_rows", "profile_kernels", "rows", "seconds_on_gpu"]

_MODES = ("float32", "tf32", "float16")


class _Frame(nn.Module):
    """All that one frame of a stream costs: encode it, relate it, denoise the centre, remember the oldest."""

    def __init__(self, network: LiveNet) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        frame: Tensor,
        features: list[Tensor],
        flows: list[Tensor],
        memory: Tensor,
        weight: Tensor,
        noise: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        network = self.network
        newest = network.encode(frame, noise)
        if network.settings.guided:
            flows = [*flows[:-1], network.motion(features[-2], newest, noise)]
        valid = torch.ones(network.settings.window, device=frame.device)
        mean, _ = network.fuse([*features[:-1], newest], valid, memory, weight, noise, flows)
        kept, _ = network.remember(features[0], memory, weight)
        return mean, newest, kept


def seconds_on_gpu(call: Callable[[], object], repeats: int) -> float:
    """Return the median of five times the mean seconds that a call takes on the GPU."""
    for _ in range(3):
        call()
    times = []
    for _ in range(5):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(repeats):
            call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 1e-3 / repeats)
    return sorted(times)[2]


def _seconds(call: Callable[[], object], plan: Plan) -> float:
    if not plan.dry:
        return seconds_on_gpu(call, 50)
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _arguments(network: LiveNet, size: int, device: str) -> tuple[Any, ...]:
    s, half = network.settings, size // 2
    scene = make_scene((size, size))
    z = (scene.frames.astype("float32") - scene.intensity.offset) / scene.intensity.scale
    frames = torch.from_numpy(z)[:, None, None].to(device)
    noise = torch.tensor([scene.intensity.noise_slope, scene.intensity.noise_floor], device=device)
    with torch.no_grad():
        features = [network.encode(frame, noise) for frame in frames[: s.window]]
    flows = (
        [torch.zeros(1, 2, size // 4, size // 4, device=device) for _ in range(s.window - 1)]
        if s.guided
        else []
    )
    memory, weight = network.memory_of(frames[:, 0].transpose(0, 1))
    assert memory.shape[-1] == half
    return frames[-1], features, flows, memory, weight, noise


def _load(name: str, mode: str, size: int, device: str) -> tuple[LiveNet, tuple[Any, ...], Any]:
    """Return a bundle's network, the arguments of a frame, and the context that it computes in."""
    network = load_network(Bundle.load(name))
    assert isinstance(network, LiveNet)
    network = network.to(device).eval().requires_grad_(requires_grad=False)
    arguments = _arguments(network, size, device)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = mode == "tf32"
    torch.backends.cudnn.benchmark = True
    if mode != "float16":
        return network, arguments, contextlib.nullcontext
    network = network.to(memory_format=torch.channels_last)
    half = torch.float16 if device == "cuda" else torch.bfloat16
    for module in network.modules():
        if isinstance(module, nn.Conv2d):  # autocast would convert the weights anew for every frame
            module.to(half)
    return network, arguments, lambda: torch.autocast(device, half, cache_enabled=False)


def _captured(call: Callable[[], Any]) -> tuple[Callable[[], object], Any]:
    """Return what replays a call as one CUDA graph, and what it returned."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = call()
    return graph.replay, result


def profile_kernels(call: Callable[[], object], *, longest: int = 15) -> dict[str, Any]:
    """Return how many kernels a call runs, and those that take longest, in microseconds."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as found:
        call()
        torch.cuda.synchronize()
    kernels = [event for event in found.events() if str(event.device_type).endswith("CUDA")]
    by_name: dict[str, list[float]] = {}
    for kernel in kernels:
        by_name.setdefault(kernel.name[:90], []).append(kernel.time_range.elapsed_us())
    ordered = sorted(by_name.items(), key=lambda item: -sum(item[1]))[:longest]
    return {
        "kernels": len(kernels),
        "kernels_s": sum(sum(times) for times in by_name.values()) * 1e-6,
        "longest": [{"name": name, "runs": len(t), "s": round(sum(t) * 1e-6, 7)} for name, t in ordered],
    }


def _measure(
    name: str, mode: str, plan: Plan, exact: dict[str, Tensor], compiler: str | None
) -> dict[str, Any]:
    device = "cpu" if plan.dry else "cuda"
    network, arguments, cast = _load(name, mode, plan.size, device)
    frame = _Frame(network)
    run: Any = frame
    started = time.perf_counter()
    if compiler is not None:
        torch._dynamo.reset()
        run = torch.compile(frame, mode=None if compiler == "default" else compiler, fullgraph=True)

    def call() -> Any:
        with torch.no_grad(), cast():
            return run(*arguments)

    mean = call()[0].float().clone()
    prepared_s = time.perf_counter() - started
    row: dict[str, Any] = {
        "bundle": name,
        "precision": mode,
        "compiler": compiler or "eager",
        "prepared_s": prepared_s,
    }
    if compiler is None and mode == "float32":
        exact[name] = mean
    if name in exact:
        # In units of the noise at the movie's median.
        row["rms_difference_sigma"] = float((mean - exact[name]).square().mean().sqrt())
    if not plan.dry:
        replay, _ = _captured(call)
        row["s"] = seconds_on_gpu(replay, 50)
        with contextlib.suppress(Exception):  # a profile is a bonus
            row |= profile_kernels(replay)
    else:
        row["s"] = _seconds(call, plan)
    return row


def rows(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yield the time of a frame in eager mode, captured, with its kernels."""
    exact: dict[str, Tensor] = {}
    for name in BUNDLES:
        for mode in _MODES:
            yield _measure(name, mode, plan, exact, None)


def compiled_rows(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yield the time of a frame as torch's compiler fuses it, without and with its search for the fastest kernels."""
    compilers = ("eager",) if plan.dry else ("default", "max-autotune-no-cudagraphs")
    exact: dict[str, Tensor] = {}
    for compiler in compilers:
        for name in BUNDLES:
            if name not in exact:
                _measure(name, "float32", plan, exact, None)
            try:
                yield _measure(name, "float16", plan, exact, None if compiler == "eager" else compiler)
            except Exception as error:  # noqa: BLE001  what the compiler refuses is a result
                yield {"bundle": name, "compiler": compiler, "problem": str(error).splitlines()[0][:300]}
