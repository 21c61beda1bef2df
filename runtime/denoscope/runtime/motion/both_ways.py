"""Places of the frames of a recorded movie on their scene, from frames on both sides of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from .placement import Placement

__all__ = ["Displacement", "placed_both_ways"]

_LEAST = 0.4  # pixels that parts move from frame to frame: below, tracking forwards follows them
_TOGETHER = 2**24  # pixels of frames that are read at once

Displacement = npt.NDArray[np.float32]
"""How far each part of a frame lies off the scene, (2, KNOTS, KNOTS), in pixels; see `Placement.displacement`."""


def placed_both_ways(
    placement: Placement,
    found: Mapping[int, Displacement],
    frame_of: Callable[[int], npt.NDArray[np.generic] | None],
) -> dict[int, Displacement]:
    """Return the displacements of the frames of a scene as all frames of it show them.

    Tracked forwards, the first frames are compared with a reference of few frames, and parts that move fast are found
    late. The scene is tracked backwards from its last frame and then forwards once more, against a reference that is
    settled. The mean of both is returned. Where parts hardly move from frame to frame, what was found is returned.

    Parameters
    ----------
    placement
        As it is after the last frame of the scene; it is used up.
    found
        Displacements as it found them, by frame number, in order.
    frame_of
        Function that returns the frame (H, W) of a number, in raw counts; None for one that keeps what was found.

    Returns
    -------
    dict of int to numpy.ndarray
        By the same numbers; empty where the scene drifts out of reach.
    """
    if _parts_move_by(found) < _LEAST:
        return dict(found)
    placement.search_longer()
    backwards: dict[int, Displacement] = {}
    made = dict(found)
    for step in (-1, 1):
        for number, frame in _in_turn(
            list(found), frame_of, max(1, _TOGETHER // math.prod(placement.shape)), step
        ):
            if frame is None:
                continue
            _, change = placement.find(frame)
            if change is not None:
                return {}
            if number in backwards:
                made[number] = np.float32(0.5) * (backwards[number] + placement.displacement)
            else:
                backwards[number] = placement.displacement
    return made


def _in_turn(
    numbers: Sequence[int],
    frame_of: Callable[[int], npt.NDArray[np.generic] | None],
    together: int,
    step: int,
) -> Iterator[tuple[int, npt.NDArray[np.generic] | None]]:
    """Yield frames with their numbers, forwards (step 1) or backwards (-1), so many of which are read at once.

    They are read forwards in either case. To read one frame, a video is decoded from the key frame before it.
    """
    for begin in range(0, len(numbers), together)[::step]:
        block = [(number, frame_of(number)) for number in numbers[begin : begin + together]]
        yield from block[::step]


def _parts_move_by(found: Mapping[int, Displacement]) -> float:
    """Return by how many pixels the parts move from frame to frame, beyond the whole, as root mean square."""
    places = np.array(list(found.values()))
    if len(places) < 2:
        return 0.0
    parts = places - places.mean(axis=(2, 3), keepdims=True)
    return float(np.sqrt(np.square(np.diff(parts, axis=0)).sum(axis=1).mean()))
