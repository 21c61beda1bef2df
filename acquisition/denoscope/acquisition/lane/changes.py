"""Changes of a session's streams: told to the denoiser once, and listed for the report."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from denoscope.acquisition.contracts import Frame
from denoscope.acquisition.denoisers.routing import Change, Route, Routes

if TYPE_CHECKING:
    from denoscope.runtime import StreamKey

__all__ = ["StreamChanges"]

_LISTED = 100  # described one by one; more are only counted


class StreamChanges:
    """Find a frame's stream, and announce each change of it exactly once.

    Parameters
    ----------
    routes
        Says which stream a frame belongs to; None where there is one stream.

    Attributes
    ----------
    listed, count
        The first hundred changes as values for JSON, and how many there were.
    pause
        What each stream is told after a pause.
    """

    def __init__(self, routes: Routes | None) -> None:
        self._routes = routes
        self._unannounced: dict[StreamKey, Change] = {}
        self.listed: list[dict[str, object]] = []
        self.count = 0
        self.pause = Change("pause", "", "", recalibrate=False)

    def route(self, index: int, frame: Frame) -> Route | None:
        """Return a frame's stream with the change that is due, None where there are too many streams."""
        if self._routes is None:
            from denoscope.runtime import StreamKey

            return Route(StreamKey(camera=frame.camera), frame.number, index)
        route = self._routes.of(frame)
        if route is None:
            return None
        if route.change is not None:
            self.count += 1
            if len(self.listed) < _LISTED:
                self.listed.append({"frame": index, **asdict(route.key), **asdict(route.change)})
        elif (change := self._unannounced.pop(route.key, None)) is not None:
            # The frame that brought the change found no room; the next one drains in its place.
            route = replace(route, change=change)
        return route

    def not_taken(self, route: Route) -> None:
        """Note that a frame found no room, so that the next one brings its change."""
        if route.change is not None:
            self._unannounced[route.key] = route.change

    def paused(self, route: Route) -> None:
        """Let the first frame after the pause drain its stream, in case the pause found no room to."""
        known = self._unannounced.get(route.key, self.pause)
        worse = known if route.change is None or known.recalibrate else route.change
        self._unannounced[route.key] = worse
