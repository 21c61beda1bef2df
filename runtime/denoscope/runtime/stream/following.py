"""Register the frames of a moving scene before the graphs see them; a still scene is left as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.motion.field import inverse, lead
from denoscope.runtime.motion.placement import Placement
from denoscope.runtime.window.window import BoundWindow

from .arrivals import Entry

__all__ = ["Route", "off_the_scene", "onto_the_centre", "onto_the_next", "onto_the_scene"]

Field = npt.NDArray[Any]


@dataclass(slots=True)
class Route:
    """Displacements of the frames of a movie by their numbers, as they are found, and how many scenes it has."""

    found: dict[int, npt.NDArray[np.float32]] = field(default_factory=dict)
    scenes: int = 0


def off_the_scene(
    window: BoundWindow, placement: Placement | None
) -> tuple[Field, Field] | tuple[None, None]:
    """Return how far each part of the frame placed last lies off the scene, and the way back."""
    if not window.follows or placement is None:
        return None, None
    displacement = placement.displacement
    return displacement, inverse(displacement, window.scene)


def onto_the_next(window: BoundWindow, before: Entry, slot: int, back: Field | None) -> None:
    """Put a frame onto the one after it, whose way back is given, for the flow between them."""
    if before.field is not None and back is not None:
        window.align(slot, lead(before.field, back, window.scene))


def onto_the_centre(
    window: BoundWindow, entries: Sequence[Entry | None], centre: Entry, rotation: int
) -> None:
    """Put the other frames of the window, the oldest in the slot `rotation`, and the long memory onto the centre."""
    if centre.back is None:
        return
    for i, entry in enumerate(entries):
        if entry is not None and entry is not centre and entry.field is not None:
            window.align((rotation + i) % len(entries), lead(entry.field, centre.back, window.scene))
    window.recall(-centre.back)


def onto_the_scene(window: BoundWindow, leaving: Entry, slot: int) -> None:
    """Put a frame that leaves the window onto the scene, for the long memory."""
    if leaving.field is not None:
        window.lay(slot, leaving.field)
