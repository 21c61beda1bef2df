"""One channel, plane and position of a movie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

from denoscope.runtime import InvalidInput

__all__ = ["WHOLE", "Part", "PartChoice"]

_NAMES = {"channel": "channel", "z": "plane", "position": "position"}


class PartChoice(TypedDict):
    """A choice as keywords of `denoscope.runtime.open_movie`."""

    channel: int | str | None
    plane: int | str | None
    position: int | str | None
    interleaved: int | None
    axes: str | None


@dataclass(frozen=True, slots=True)
class Part:
    """A channel, plane and position, by number or name, or None; and how many channels alternate.

    Attributes
    ----------
    channel, plane, position
        As for `denoscope.runtime.open_movie`.
    interleaved
        Channels that take turns frame by frame in a file that does not say so, or None.
    axes
        Order of the axes of a file that names none, or None.
    """

    channel: str | None = None
    plane: str | None = None
    position: str | None = None
    interleaved: int | None = None
    axes: str | None = None

    def choice(self) -> PartChoice:
        """Return the choice as keywords of `denoscope.runtime.open_movie`."""
        return {
            "channel": self.channel,
            "plane": self.plane,
            "position": self.position,
            "interleaved": self.interleaved,
            "axes": self.axes,
        }

    def given(self) -> list[str]:
        """Return the parameters that were given."""
        return [f"`{name}` {value}" for name, value in self.choice().items() if value is not None]

    def takes(self, axes: Mapping[str, Any], known: dict[str, list[str]]) -> bool:
        """Say whether a frame with these axes belongs to the part.

        Parameters
        ----------
        axes
            Of the frame: ``channel``, ``z`` and ``position``.
        known
            Entries of each axis in the order in which they came; the frame's are added.
        """
        taken = True
        for axis, name in _NAMES.items():
            wanted, entry = getattr(self, name), str(axes.get(axis, 0))
            entries = known.setdefault(axis, [])
            if entry not in entries:
                entries.append(entry)
            if wanted is not None and entry != str(wanted):
                numbered = str(wanted).isdecimal() and not entry.isdecimal()
                taken &= numbered and entries.index(entry) == int(wanted)
        return taken

    def refuse(self, what: str) -> None:
        """Refuse a choice where there is nothing to choose from.

        Raises
        ------
        InvalidInput
            Where one was made.
        """
        if self.given():
            raise InvalidInput(
                f"{self.given()[0]} chooses from a recorded or growing movie, and {what} records every frame that the "
                "camera sends: leave it out."
            )


WHOLE = Part()
