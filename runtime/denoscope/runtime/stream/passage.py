"""The way of frames through the ring: which output is due, which frame the long memory absorbs, which are missing."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from time import perf_counter

from denoscope.runtime.types import Denoised
from denoscope.runtime.window.both_sides import BothSides

from .accounts import Accounts
from .arrivals import Entry
from .binder import Bound
from .following import onto_the_scene
from .outputs import OutputMaker, Pending
from .ring import Ring, Step

__all__ = ["Passage", "Turn"]

_UNDER_WAY = 1  # outputs that a push may leave under way


@dataclass(slots=True)
class Turn:
    """One push or flush.

    Attributes
    ----------
    skip
        Reason not to compute the outputs that become due; None to compute them.
    outputs
        Those that became due so far.
    ahead
        Whether the last output may stay under way.
    """

    skip: str | None
    outputs: list[Denoised]
    ahead: bool = False


class Passage:
    """Let frames and gaps enter the ring, in the order of their numbers.

    Parameters
    ----------
    ring
        Of the stream.
    maker
        Makes outputs.
    accounts
        Are told of dropped frames and of seconds.
    sides
        Long memory of both sides, where the bundle has one.

    Attributes
    ----------
    ring
        As given.
    last_entered
        Number of the frame that entered last; None where the ring holds no movie.
    last_due
        Number of the last frame that was emitted or dropped.
    wanted_from
        Number of the first frame whose output is wanted; None for all.
    under_way
        Outputs that were begun and not waited for, the oldest first.
    ahead
        Count of outputs that were begun while the one before was under way.
    """

    def __init__(
        self, ring: Ring[Entry], maker: OutputMaker, accounts: Accounts, sides: BothSides | None = None
    ) -> None:
        self.ring = ring
        self._sides = sides
        self._maker = maker
        self._accounts = accounts
        self.last_entered: int | None = None
        self.last_due: int | None = None
        self.wanted_from: int | None = None
        self.under_way: deque[Pending] = deque()
        self.ahead = 0

    def finish(self, turn: Turn, leave: int = 0) -> None:
        """Wait for the outputs under way, but for the last ones, and return them with this turn."""
        while len(self.under_way) > leave:
            # It stays in its place until it is made, so that a failure counts it.
            turn.outputs.append(self._maker.finish(self.under_way[0]))
            self.under_way.popleft()

    def abandon(self) -> None:
        """Let the outputs under way go; nothing may be written to their memory any more."""
        self.under_way.clear()

    def enter(self, bound: Bound, entry: Entry, turn: Turn) -> None:
        """Let an encoded frame enter."""
        self.last_entered = entry.meta.number
        self._advance(bound, self.ring.enter(entry), turn)

    def pass_by(self, bound: Bound, entry: Entry, turn: Turn) -> None:
        """Let a frame without a picture of the scene enter: missing for all others, shown as measured."""
        bound.window.unrelate(self.ring.slot)
        self.last_entered = entry.meta.number
        self._advance(bound, self.ring.enter(entry, usable=False), turn)

    def miss_until(self, bound: Bound, number: int, turn: Turn) -> None:
        """Let each frame that is missing before a number enter as a gap."""
        gap = 0 if self.last_entered is None else number - self.last_entered - 1
        if gap:
            self._miss(bound, min(gap, self.ring.size), turn)

    def pass_over(self, bound: Bound, number: int, turn: Turn) -> None:
        """Let a frame without values enter as a gap, after those missing before it."""
        self.miss_until(bound, number + 1, turn)
        self.last_entered = number

    def leave(self, bound: Bound, turn: Turn) -> None:
        """Finish what waits in the ring."""
        self.finish(turn)
        while self.ring.waiting:
            self._miss(bound, 1, turn)
        self.finish(turn)

    def clear(self) -> None:
        """Empty the ring."""
        self.ring.clear()
        self._maker.forget()
        self.last_entered = None
        if self._sides is not None:
            self._sides.end_scene()

    def end_movie(self) -> None:
        """Forget the numbers, because those of another movie may follow."""
        self.last_due = self.wanted_from = None
        self._maker.learns_from = None

    def _miss(self, bound: Bound, frames: int, turn: Turn) -> None:
        for _ in range(frames):
            bound.window.unrelate(self.ring.slot)
            self._advance(bound, self.ring.enter(None), turn)

    def _advance(self, bound: Bound, step: Step[Entry], turn: Turn) -> None:
        """Emit or drop the centre that became due, then absorb the frame that leaves the window."""
        centre, rotation, begun = step.centre, step.rotation, False
        # Frames that are encoded anew have been returned already.
        if centre is not None and (self.last_due is None or centre.meta.number > self.last_due):
            self.last_due = due = centre.meta.number
            skip = turn.skip
            if skip is None and self.wanted_from is not None and due < self.wanted_from:
                skip = "warm-up"
            if skip is None:
                self._begin(bound, centre, rotation, turn)
                begun = True
            else:
                if self._maker.must_learn(due):
                    self.finish(turn)
                    self._maker.learn(bound, centre, rotation)
                self._accounts.drop(skip)
        if step.leaving:
            started = perf_counter()
            oldest = self.ring.entries[0]
            assert oldest is not None
            if self._sides is None:
                onto_the_scene(bound.window, oldest, rotation)
                bound.window.remember(rotation)
            elif oldest.cells is not None:
                self._sides.leave(oldest.cells)
            self._accounts.seconds.remember += perf_counter() - started
        self.finish(turn, leave=_UNDER_WAY if turn.ahead and begun else 0)

    def _begin(self, bound: Bound, centre: Entry, rotation: int, turn: Turn) -> None:
        """Begin an output, after those whose place it takes were waited for."""
        window = bound.window
        if any(each.made is None or each.made.side == window.side for each in self.under_way):
            self.finish(turn)
        self.ahead += bool(self.under_way)
        self.under_way.append(self._maker.begin(bound, centre, rotation))
        if not window.overlaps:
            self.finish(turn)
