"""Denoised frames on their way from the denoising process to the user's, as messages of `Wire`."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.acquisition.processes.wire import Message
from denoscope.acquisition.regions.measure import FrameTraces
from denoscope.runtime import StreamKey

from .live_frame import LiveFrame

__all__ = ["EVENT", "FrameReader", "FrameWriter"]

EVENT = "denoised"
_DTYPES = ("uint8", "uint16", "float32")
_KINDS = ("raw", "denoised", "std", "dff")


class FrameWriter:
    """Pack frames for `FrameReader`; names of regions are sent once."""

    def __init__(self) -> None:
        self._names: list[tuple[str, ...]] = []

    def pack(self, frame: LiveFrame) -> tuple[dict[str, object], list[memoryview]]:
        """Return the words of a frame, and the bytes of its arrays, which are the body."""
        arrays = [frame.raw, frame.denoised] + ([] if frame.std is None else [frame.std])
        head: dict[str, object] = {
            "event": EVENT,
            "number": frame.number,
            "index": frame.index,
            "shape": frame.denoised.shape,
            "dtypes": [array.dtype.name for array in arrays],
            "stream": asdict(frame.stream),
            "times": [frame.t_received_s, frame.t_denoised_s, frame.core_unix_s, frame.core_lag_s],
            "tags": dict(frame.tags),
        }
        sets = [] if frame.traces is None else [frame.traces, *frame.earlier]
        names = [traces.names for traces in sets]
        if names != self._names:
            self._names, head["names"] = names, names
        arrays += [np.stack([getattr(traces, kind) for kind in _KINDS]) for traces in sets]
        # numpy's stubs do not say that an array is a buffer
        bodies: list[Any] = [np.ascontiguousarray(array) for array in arrays]
        return head, [memoryview(body).cast("B") for body in bodies]


class FrameReader:
    """Read frames as `FrameWriter` packed them."""

    def __init__(self) -> None:
        self._names: list[tuple[str, ...]] = []

    def read(self, message: Message) -> LiveFrame:
        """Return the frame of a message.

        Raises
        ------
        ValueError
            When it holds no frame.
        """
        head, whole = message
        body = memoryview(bytearray(whole) if isinstance(whole, bytes) else whole)
        shape = tuple(int(length) for length in head["shape"])
        pictures: list[npt.NDArray[Any]] = []
        for name in head["dtypes"]:
            if name not in _DTYPES:
                raise ValueError(f"a frame of {name}")
            picture, body = _array(body, np.dtype(name), shape)
            pictures.append(picture)
        if "names" in head:
            self._names = [tuple(names) for names in head["names"]]
        sets = []
        for names in self._names:
            values, body = _array(body, np.dtype(np.float64), (len(_KINDS), len(names)))
            sets.append(FrameTraces(names, *values))
        received_s, denoised_s, core_unix_s, core_lag_s = head["times"]
        return LiveFrame(
            number=head["number"],
            index=head["index"],
            raw=pictures[0],
            denoised=pictures[1],
            std=pictures[2] if len(pictures) > 2 else None,
            stream=StreamKey(**head["stream"]),
            t_received_s=received_s,
            t_denoised_s=denoised_s,
            core_unix_s=core_unix_s,
            core_lag_s=core_lag_s,
            tags=head["tags"],
            traces=sets[0] if sets else None,
            earlier=tuple(sets[1:]),
        )


def _array(
    body: memoryview, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> tuple[npt.NDArray[Any], memoryview]:
    """Return an array that lies at the beginning of a body, which the user may write to, and the rest."""
    count = math.prod(shape) * dtype.itemsize
    if not 0 < count <= len(body):
        raise ValueError(f"a frame of {count} bytes in a message of {len(body)}")
    return np.frombuffer(body[:count], dtype).reshape(shape), body[count:]
