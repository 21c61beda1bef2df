"""Raw frames for graphs that take normalised ones, by a kernel before `encode` and after `fuse`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files

from denoscope.runtime.backends.raw_count_graphs import FACTOR, OFFSET, RAW

from .device import DeviceBuffer, DeviceGraph, Work

__all__ = ["ConvertedGraph", "kernel_source"]

_NORMALISED = {"encode": "frame", "fuse": "mean"}


def kernel_source() -> str:
    """Return the CUDA source of the kernels, named `uint16_to_float32`, `float32_to_uint16` and so on."""
    return files(__package__).joinpath("convert.cu").read_text(encoding="utf-8")


class ConvertedGraph(DeviceGraph):
    """`encode` with the input `raw` in place of `frame`, or `fuse` with the output `raw` in place of `mean`.

    Names are those of `raw_encode` and `raw_fuse`, so that whoever binds it need not know which it is.

    Parameters
    ----------
    inner
        The graph of normalised frames; closed with this one.
    graph
        `encode` or `fuse`.
    dtype
        Of the raw frames.
    """

    def __init__(self, inner: DeviceGraph, graph: str, dtype: str) -> None:
        self._inner, self._dtype, self._name = inner, dtype, _NORMALISED[graph]
        self._encodes = graph == "encode"
        self.captures = inner.captures
        kept_in = [name for name in inner.inputs if name != self._name]
        kept_out = [name for name in inner.outputs if name != self._name]
        numbers = [OFFSET, FACTOR]
        inputs = [RAW, *numbers, *kept_in] if self._encodes else [*kept_in, *numbers]
        # In full precision it can be converted to counts once more, for other light.
        self._keeps = not self._encodes and inner.dtype_of(self._name) == "float32"
        outputs = kept_out if self._encodes else [RAW, *inner.outputs] if self._keeps else [RAW, *kept_out]
        super().__init__(inner.owner, inputs, outputs)

    def work(self, inputs: Mapping[str, DeviceBuffer], outputs: Mapping[str, DeviceBuffer]) -> Work:
        raw = inputs[RAW] if self._encodes else outputs[RAW]
        normalised = outputs[self._name] if self._keeps else self._own(raw)
        kept_in = {name: b for name, b in inputs.items() if name not in (RAW, OFFSET, FACTOR)}
        kept_out = {name: b for name, b in outputs.items() if name not in (RAW, self._name)}
        device, offset, factor = self.owner.device, inputs[OFFSET].memory, inputs[FACTOR].memory
        count = raw.memory.size // raw.dtype.itemsize
        if self._encodes:
            kernel = f"{self._dtype}_to_{normalised.dtype.name}"
            run = self._inner.work({self._name: normalised, **kept_in}, kept_out)
            around = (raw.memory, offset, factor, normalised.memory)

            def encode(stream: object) -> None:
                device.launch(kernel, count, around, stream)
                run(stream)

            return encode
        kernel = f"{normalised.dtype.name}_to_{self._dtype}"
        run = self._inner.work(kept_in, {self._name: normalised, **kept_out})
        after = (normalised.memory, offset, factor, raw.memory)

        def fuse(stream: object) -> None:
            run(stream)
            device.launch(kernel, count, after, stream)

        return fuse

    def _own(self, raw: DeviceBuffer) -> DeviceBuffer:
        return DeviceBuffer(self.owner, raw.shape, self._inner.dtype_of(self._name))

    def close(self) -> None:
        super().close()
        self._inner.close()
