"""How long something has been waited for, not counting the time for which this computer or program stood still."""

from __future__ import annotations

import time

__all__ = ["Looks"]


class Looks:
    """Time of a wait, measured in looks at what is waited for.

    Each look counts for no longer than two of them should take. While this computer sleeps, or this program is
    stopped, the other side stands still too, and no clock of this system leaves that time out everywhere.

    Parameters
    ----------
    every_s
        Seconds from one look to the next.

    Attributes
    ----------
    waited_s
        Seconds that count.
    """

    def __init__(self, every_s: float) -> None:
        self._most_s = 2 * every_s
        self.begin()

    def begin(self) -> None:
        """Begin to wait anew."""
        self.waited_s, self._looked_s = 0.0, time.perf_counter()

    def look(self) -> float:
        """Note that one look was in vain; return the seconds that count."""
        now_s = time.perf_counter()
        self.waited_s += min(now_s - self._looked_s, self._most_s)
        self._looked_s = now_s
        return self.waited_s
