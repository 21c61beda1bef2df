"""Choice of channel, plane and position: the part of a file that is the movie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from denoscope.runtime.errors import InvalidInput

__all__ = ["Axis", "Picked", "Wanted", "pick", "pick_index"]

_PLURAL = {"channel": "channels", "plane": "planes", "position": "positions"}
_SHOWN = 12
_MOST_CHANNELS = 8


@dataclass(frozen=True)
class Wanted:
    """The user's choice, None where there is none: see `open_movie`."""

    channel: int | str | None = None
    plane: int | str | None = None
    position: int | str | None = None
    interleaved: int | None = None
    axes: str | None = None

    def of(self, kind: str) -> int | str | None:
        """Return the choice for an axis of this kind."""
        value: int | str | None = getattr(self, kind, None)
        return value


@dataclass(frozen=True)
class Axis:
    """One axis of a file before rows and columns.

    Attributes
    ----------
    kind
        ``time``, ``channel``, ``plane``, ``position`` or ``other``.
    size
        Its length.
    labels
        Names of its entries where the file has them, else empty.
    """

    kind: str
    size: int
    labels: tuple[str, ...] = ()


class Picked(list[int | None]):
    """The index to take of each axis, None for the one that is time; `note` says where planes stand in for time."""

    note = ""


def pick(name: str, axes: Sequence[Axis], wanted: Wanted) -> Picked:
    """Return the index to take of each axis, and None for the one that is time.

    An axis of one entry is taken whatever it is. Where nothing varies in time, a stack of planes, an axis
    without a name, or more unnamed channels than microscopes have, is the movie if nobody chose from it:
    Fiji and many scripts store movies so.

    Raises
    ------
    InvalidInput
        If an axis has several entries and none was chosen, or there is no such entry.
    """
    time = next((i for i, a in enumerate(axes) if a.kind == "time" and a.size > 1), None)
    if time is None:
        stacks = [
            i
            for i, a in enumerate(axes)
            if a.size > 1 and wanted.of(a.kind) is None and (a.kind in ("plane", "other") or _is_frames(a))
        ]
        if len(stacks) == 1:
            time = stacks[0]
    chosen = Picked()
    for i, axis in enumerate(axes):
        if i == time:
            chosen.append(None)
        elif axis.kind in _PLURAL:
            chosen.append(pick_index(name, axis, wanted.of(axis.kind)))
        elif axis.size == 1:
            chosen.append(0)
        else:
            sizes = ", ".join(f"{a.size} {_PLURAL.get(a.kind, a.kind)}" for a in axes)
            raise InvalidInput(
                f"{name} has axes that denoscope cannot tell apart ({sizes}): "
                f"save one channel and plane over time, (T, H, W)."
            )
    present = {a.kind for a in axes}
    for kind, plural in _PLURAL.items():
        if kind not in present and wanted.of(kind) is not None:
            pick_index(name, Axis(kind, 1), wanted.of(kind))
        if sum(a.kind == kind and a.size > 1 for a in axes) > 1:
            raise InvalidInput(f"{name} has two axes of {plural}: save one of them as a separate file.")
    if time is not None and axes[time].kind == "plane":
        planes = f"{Path(name).name} has {axes[time].size} planes and one time point"
        chosen.note = f"{planes}: the planes are taken for points in time"
    return chosen


def _is_frames(axis: Axis) -> bool:
    return axis.kind == "channel" and axis.size > _MOST_CHANNELS and not axis.labels


def pick_index(name: str, axis: Axis, wanted: int | str | None) -> int:
    """Return the entry of `axis` that is wanted by number or name, or the only one there is."""
    if wanted is None and axis.size == 1:
        return 0
    if wanted is not None:
        if axis.labels.count(str(wanted)) == 1 and isinstance(wanted, str):
            return axis.labels.index(wanted)
        if isinstance(wanted, int) or wanted.isdecimal():
            number = int(wanted)
            if number < axis.size:
                return number
    if axis.size == 1 and not axis.labels:
        raise InvalidInput(
            f"{name} has 1 {axis.kind}, so there is no {axis.kind} {wanted}: leave `{axis.kind}` out."
        )
    entries = [f"{i} `{label}`" for i, label in enumerate(axis.labels[:_SHOWN])] or [f"0 to {axis.size - 1}"]
    if len(axis.labels) > _SHOWN:
        entries.append("...")
    what = (
        f"{name} has {axis.size} {_PLURAL[axis.kind] if axis.size > 1 else axis.kind}: {', '.join(entries)}"
    )
    if wanted in axis.labels:
        raise InvalidInput(
            f"{what}; several are called {wanted}: choose one by its number with `{axis.kind}`."
        )
    if wanted is not None:
        raise InvalidInput(f"{what}; there is no {axis.kind} {wanted}: choose another with `{axis.kind}`.")
    raise InvalidInput(f"{what}: choose with `{axis.kind}`.")
