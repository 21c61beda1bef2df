"""Layout of what a recording and its denoiser's process exchange for each frame: records and shared memory.

::

    | count of frames sent | inputs: IN_FLIGHT frames | outputs: SLOTS frames, each with room for its deviation |

A `QUESTION` is the body of the message that hands over a frame; its pixels lie in an input, which is free again with
the answer. An `ANSWER` is followed by a `RESULT` for each output, whose pixels lie in a slot that belongs to the
recording until a later question gives it back. The count of frames sent is there before the question, so that the
process knows whether another frame follows at once.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from denoscope.acquisition.processes.shared_memory import Slab

__all__ = [
    "ANSWER",
    "COUNT",
    "DTYPES",
    "HEADER",
    "IN_FLIGHT",
    "QUESTION",
    "RESULT",
    "SLOTS",
    "STAGES",
    "Description",
    "Inputs",
    "Layout",
    "PushTimes",
]

IN_FLIGHT = 3  # frames that are handed over before the answer to the first of them must be there
HEADER = 4096  # bytes before the first input: a page, since frames are copied faster from one to another
SLOTS = 8  # outputs that fit into the memory at once; a flush sends more in several turns

# Input, stream, reason to skip and dtype as their places among the terms sent so far (0 for none), height, width,
# bits of the slots that are given back, number, source index (-1 for none), received.
QUESTION = struct.Struct("<7Iqqd")
# Began, ended; received, emitted, in flight; outputs, whether more wait, numbers of `STAGES` that follow them.
ANSWER = struct.Struct("<2d3q3I")
# Slot, stream, height, width, dtype, whether there is a deviation; number, source index; `StageTimes`.
RESULT = struct.Struct("<6I2q6d")

STAGES = ("align", "normalise", "encode", "motion", "fuse", "convert", "remember", "own", "total")
"""Work of a frame, by the fields of `StageSeconds`; "own" is the runtime's share."""

COUNT = np.dtype(np.int64)
"""Of the frames sent, at the beginning of the memory."""

DTYPES = ("uint8", "uint16", "int16", "float32")
"""Of outputs; those that a stream takes."""

_ALIGNMENT = 64
_MOST_KINDS = 64  # arrays of inputs


class Description(TypedDict):
    """Backend of a denoiser (library, version, device, precision, threads), and the memory of its process in bytes."""

    backend: dict[str, str]
    resident_bytes: int | None
    peak_bytes: int | None


class Layout:
    """Places of frames in the shared memory.

    Parameters
    ----------
    base
        First byte.
    frame_bytes
        Size of the largest frame.
    pixels
        Its number of pixels.
    """

    def __init__(self, base: int, frame_bytes: int, pixels: int) -> None:
        self.values = (base, frame_bytes, pixels)
        self._base = base
        self.frame_bytes = -(-frame_bytes // _ALIGNMENT) * _ALIGNMENT
        self.std_bytes = -(-4 * pixels // _ALIGNMENT) * _ALIGNMENT
        self.end = self.output(SLOTS)

    def input(self, place: int) -> int:
        """Return the first byte of an input."""
        return self._base + place * self.frame_bytes

    def output(self, slot: int) -> int:
        """Return the first byte of an output."""
        return self.input(IN_FLIGHT) + slot * (self.frame_bytes + self.std_bytes)

    def std(self, slot: int) -> int:
        """Return the first byte of its deviation."""
        return self.output(slot) + self.frame_bytes


class Inputs:
    """Frames that are handed over, in the memory of a layout, as arrays that are made once.

    Parameters
    ----------
    slab
        The shared memory.
    layout
        Of it.

    Attributes
    ----------
    sent
        (1,), the count of frames sent.
    """

    def __init__(self, slab: Slab, layout: Layout) -> None:
        self._slab, self._layout = slab, layout
        self._made: dict[tuple[int, int, int, Any], npt.NDArray[Any]] = {}
        self.sent = slab.view(0, (1,), COUNT)

    def frame(self, place: int, height: int, width: int, dtype: Any) -> npt.NDArray[Any]:
        """Return the array of one place for frames of a shape and dtype."""
        kind = place, height, width, dtype
        array = self._made.get(kind)
        if array is None:
            if len(self._made) >= _MOST_KINDS:
                self._made.clear()
            array = self._made[kind] = self._slab.view(self._layout.input(place), (height, width), dtype)
        return array


@dataclass(frozen=True, slots=True)
class PushTimes:
    """Time that one frame took in the denoiser, in seconds.

    Attributes
    ----------
    hop_to_s
        From the recording's hands to the start of the denoiser's work, the wait for the frame before included.
    compute_s
        Work of the denoiser.
    hop_back_s
        From its end until the recording had the outputs.
    stages
        Seconds that each of `STAGES` has taken until then, where they were asked for.
    """

    hop_to_s: float
    compute_s: float
    hop_back_s: float
    stages: tuple[float, ...] = ()
