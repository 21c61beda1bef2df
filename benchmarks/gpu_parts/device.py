"""The calls of CUDA that a frame needs, one by one and as one captured graph, through the product's `CudaDevice`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import Any

import numpy as np

from . import Plan, quantiles


def rows(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yield the host's seconds for each call, and whether the conversion kernels give numpy's numbers."""
    device: Any
    if plan.dry:
        from support.lazy_device import LazyDevice

        device = LazyDevice(0)
    else:
        from denoscope.runtime.backends.device.cuda import CudaDevice

        device = CudaDevice()
    count = plan.size**2
    stream, event = device.stream(), device.event()
    raw, out = device.allocate(2 * count, stream), device.allocate(2 * count, stream)
    number, offset = device.allocate(4 * count, stream), device.allocate(4, stream)
    factor, back = device.allocate(4, stream), device.allocate(4, stream)
    up, down = device.pinned(2 * count), device.pinned(2 * count)
    scalar = device.pinned(4)
    for memory, value in ((offset, 100.0), (factor, 1 / 12.5), (back, 12.5)):
        scalar.array.view(np.float32)[0] = value
        device.copy_in(memory, scalar, stream)
        device.record(event, stream)
        device.synchronise(event)
    counts = np.random.default_rng(0).integers(0, 65536, count, dtype=np.uint16)
    up.array.view(np.uint16)[:] = counts

    def frame(on: Any) -> None:
        device.copy_in(raw, up, on)
        device.launch("uint16_to_float32", count, (raw, offset, factor, number), on)
        device.launch("float32_to_uint16", count, (number, offset, back, out), on)
        device.copy_out(out, down, on)

    def whole(work: Any) -> None:
        device.submit(stream, work)
        device.record(event, stream)
        device.synchronise(event)

    whole(frame)
    above = (counts.astype(np.float32) - np.float32(100)) * np.float32(1 / 12.5)
    expected = np.rint(np.clip(above * np.float32(12.5) + np.float32(100), 0, 65535)).astype(np.uint16)
    wrong = int((down.array.view(np.uint16) != expected).sum())
    yield {"what": "counts to units and back", "pixels": count, "pixels_unlike_numpy": wrong}

    calls = {
        "copy_in": lambda: device.copy_in(raw, up, stream),
        "launch": lambda: device.launch("uint16_to_float32", count, (raw, offset, factor, number), stream),
        "record": lambda: device.record(event, stream),
        "wait": lambda: device.wait(stream, event),
    }
    for name, call in calls.items():
        device.record(event, stream)
        device.synchronise(event)
        yield {"what": f"host time of {name}", **quantiles(call, min(plan.repeats, 100))}
    device.record(event, stream)
    device.synchronise(event)
    yield {
        "what": "frame up, two kernels, frame down: call by call",
        **quantiles(lambda: whole(frame), plan.repeats),
    }
    replay = device.capture(stream, frame)
    yield {"what": "the same as one captured graph", **quantiles(lambda: whole(replay), plan.repeats)}
    other = device.pinned(2 * count)
    turns = cycle((down, other))
    yield {
        "what": "the same, its copy down aimed elsewhere each time",
        **quantiles(lambda: (device.aim(replay, out, next(turns)), whole(replay)), plan.repeats),
    }
    device.aim(replay, out, other)
    other.array[:] = 0
    whole(replay)
    wrong = int((other.array.view(np.uint16) != expected).sum())
    yield {"what": "a copy that was aimed elsewhere", "pixels_unlike_numpy": wrong}

    def forked(on: Any) -> None:
        device.launch("uint16_to_float32", count, (raw, offset, factor, number), on)
        device.launch("float32_to_uint16", count, (number, offset, back, out), on)
        device.beside(
            on,
            lambda s: device.launch("uint16_to_float32", count, (raw, offset, factor, number), s),
            lambda s: device.copy_out(out, down, s),
        )

    branches = device.capture(stream, forked)
    down.array[:] = 0
    whole(branches)
    wrong = int((down.array.view(np.uint16) != expected).sum())
    yield {"what": "a copy down beside a kernel", "pixels_unlike_numpy": wrong}
    yield {
        "what": "two kernels, one beside the copy down",
        **quantiles(lambda: whole(branches), plan.repeats),
    }
    yield {
        "what": "wait for an event that is done",
        **quantiles(lambda: device.synchronise(event), plan.repeats),
    }
    yield {
        "what": "copy of a frame into pinned memory",
        **quantiles(lambda: np.copyto(up.array, down.array), plan.repeats),
    }
    device.close()
