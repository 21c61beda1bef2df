"""Stream that a frame belongs to: one for each camera, channel, slice and stage position.

Two questions are kept apart. `Routes` reads a frame's metadata and says its stream and its number there;
it is asked for every frame, in the order of arrival. `Router` owns the streams, and is a denoiser like
each of them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from denoscope.acquisition.contracts import Frame, Tags, number_step
from denoscope.runtime import GuardFinding, StreamCounters, StreamKey

if TYPE_CHECKING:
    import numpy.typing as npt

    from denoscope.runtime import Denoised, FrameMeta, Stream

__all__ = ["STREAMS", "Change", "Route", "Router", "Routes"]

STREAMS = 64
"""Streams that one session keeps unless told otherwise; each holds a window and a memory."""

# Where Micro-Manager's versions and pymmcore-plus write the axes, first found first used.
_AXES = {
    "time": ("time", "t", "FrameIndex"),
    "channel": ("channel", "c", "Channel", "ChannelName", "ChannelIndex"),
    "z": ("z", "SliceIndex"),
    "position": ("position", "p", "PositionIndex"),
}
_KNOWN = {"time", "t", "channel", "c", "z", "position", "p"}
# What makes frames before and after it pictures of another kind; True where photons are counted on
# another scale then, so that the intensities have to be estimated anew.
_CONDITIONS = {
    "exposure": (("Exposure", "Exposure-ms", "exposure_ms"), False),
    "binning": (("Binning",), True),
    "bit depth": (("BitDepth", "PixelType"), True),
    "ROI": (("ROI", "ROI-X-start", "ROI-Y-start"), False),
}


@dataclass(frozen=True, slots=True)
class Change:
    """Why a stream was drained and started anew.

    Attributes
    ----------
    what
        ``exposure``, ``binning``, ``bit depth``, ``ROI``, ``shape``, or ``time`` where a time axis or the
        camera's numbers went back: another recording began.
    old, new
        Values before and from then on.
    recalibrate
        Whether intensities have another scale now.
    """

    what: str
    old: str
    new: str
    recalibrate: bool


@dataclass(frozen=True, slots=True)
class Route:
    """Stream of one frame, and its number there.

    Attributes
    ----------
    key
        Its stream.
    number
        Its number there; numbers grow, and each one left out is a frame that never arrived.
    index
        How many frames of this stream arrived before it.
    change
        Why the stream has to be drained before this frame; None for nearly all.
    """

    key: StreamKey
    number: int
    index: int
    change: Change | None = None


@dataclass(slots=True)
class _Track:
    """Knowledge of `Routes` about one stream."""

    number: int
    time: int | None
    conditions: dict[str, str]
    received: int = 1
    lost: int = 0


class Routes:
    """Say for each frame to which stream it goes, from its metadata.

    A frame's number in its stream is that of the time axis where there is one. Otherwise it follows the
    camera's own numbers: with one stream on a camera these are the numbers themselves; with several that
    take turns, frames that the camera's numbers show to be lost are missed by each stream in equal shares.

    Parameters
    ----------
    limit
        Streams at most; frames of any further one have no route.
    """

    def __init__(self, limit: int = STREAMS) -> None:
        self.limit = limit
        self.refused: set[StreamKey] = set()
        self._tracks: dict[StreamKey, _Track] = {}
        self._cameras: dict[str, int] = {}
        self._places: dict[tuple[str, str], int] = {}

    @property
    def received(self) -> Mapping[StreamKey, int]:
        """Frames that arrived, by stream."""
        return {key: track.received for key, track in self._tracks.items()}

    def of(self, frame: Frame) -> Route | None:
        """Return where a frame goes, or None when that would be one stream too many."""
        axes = _axes(frame.tags)
        key = self._key(frame, axes)
        lost, restarted = self._count_camera(frame)
        time = _whole(axes.get("time"))
        for other, each in self._tracks.items():
            if other.camera == key.camera:
                each.lost += lost
        track = self._tracks.get(key)
        if track is None:
            if len(self._tracks) >= self.limit:
                self.refused.add(key)
                return None
            number = frame.number if time is None else time
            self._tracks[key] = _Track(number, time, _conditions(frame))
            return Route(key, number, 0)
        change = self._changed(track, frame, time, restarted=restarted)
        track.number += self._step(track, key, time, fresh=change is not None)
        track.time, track.lost = time, 0
        index, track.received = track.received, track.received + 1
        return Route(key, track.number, index, change)

    def _count_camera(self, frame: Frame) -> tuple[int, bool]:
        """Return how many frames the camera lost before this one, and whether its numbers went back."""
        last = self._cameras.get(frame.camera)
        self._cameras[frame.camera] = frame.number
        if last is None:
            return 0, False
        step = number_step(last, frame.number)
        return (step or 1) - 1, step is None

    def _step(self, track: _Track, key: StreamKey, time: int | None, *, fresh: bool) -> int:
        if fresh:
            return 1
        if time is not None and track.time is not None:
            return time - track.time
        sharing = sum(other.camera == key.camera for other in self._tracks)
        return 1 + -(-track.lost // sharing)

    def _changed(self, track: _Track, frame: Frame, time: int | None, *, restarted: bool) -> Change | None:
        conditions = _conditions(frame)
        before, track.conditions = track.conditions, {**track.conditions, **conditions}
        for what, new in conditions.items():
            old = before.get(what, new)
            if old != new:
                return Change(what, old, new, recalibrate=what in _RECALIBRATE)
        if time is not None and track.time is not None:
            return (
                Change("time", str(track.time), str(time), recalibrate=False) if time <= track.time else None
            )
        if restarted:
            return Change("time", str(track.number), str(frame.number), recalibrate=False)
        return None

    def _key(self, frame: Frame, axes: Mapping[str, Any]) -> StreamKey:
        place = {name: value for name, value in axes.items() if name not in _KNOWN}
        if "position" in axes:
            place["position"] = axes["position"]
        # A number that stands alone is the index itself; names and grids are numbered as they appear.
        alone = _whole(axes.get("position")) if set(place) <= {"position"} else None
        position = (
            alone
            if alone is not None
            else (self._index("place", repr(sorted(place.items()))) if place else 0)
        )
        z = axes.get("z", 0)
        slice_ = _whole(z)
        return StreamKey(
            camera=frame.camera,
            channel=str(axes.get("channel", "")),
            z=slice_ if slice_ is not None else self._index("z", str(z)),
            position=position,
        )

    def _index(self, axis: str, name: str) -> int:
        known = sum(each[0] == axis for each in self._places)
        return self._places.setdefault((axis, name), known)


_RECALIBRATE = {what for what, (_, recalibrate) in _CONDITIONS.items() if recalibrate}


def _axes(tags: Mapping[str, Any]) -> Tags:
    """Return the axes of a frame under our names, others under theirs."""
    axes = tags.get("Axes")
    if isinstance(axes, str):
        try:
            axes = json.loads(axes)
        except (ValueError, RecursionError):
            axes = None
    values = dict(axes) if isinstance(axes, Mapping) else {}
    found = {name: value for name, value in values.items() if name not in _KNOWN}
    for axis, names in _AXES.items():
        source: Mapping[str, Any] = values if values else tags
        for name in names:
            if source.get(name) not in (None, ""):
                found[axis] = source[name]
                break
    return found


def _conditions(frame: Frame) -> dict[str, str]:
    """Return what the picture depends on, where the metadata say it."""
    found = {"shape": f"{frame.pixels.shape[0]} x {frame.pixels.shape[1]} {frame.pixels.dtype.name}"}
    for what, (names, _) in _CONDITIONS.items():
        values = [str(frame.tags[name]) for name in names if frame.tags.get(name) not in (None, "")]
        if values:
            found[what] = " ".join(values)
    return found


def _whole(value: Any) -> int | None:
    try:
        number = int(value)
    except (OverflowError, TypeError, ValueError):
        return None
    return number if number >= 0 else None


class Router:
    """Denoise interleaved movies: one `Stream` each, opened when its first frame comes.

    Used by one thread. The streams share one backend.

    Parameters
    ----------
    first
        An open stream, which takes the first movie.
    another
        Opens one more like it.
    """

    def __init__(self, first: Stream, another: Callable[[], Stream]) -> None:
        self._spares = [first]
        self._another = another
        self._streams: dict[StreamKey, Stream] = {}
        self._left: Stream | None = None  # with an output under way
        self._retired = StreamCounters(0, 0, {}, 0)
        self._retired_guard = GuardFinding()

    @property
    def streams(self) -> Mapping[StreamKey, Stream]:
        """The open streams."""
        return dict(self._streams)

    @property
    def counters(self) -> StreamCounters:
        """Counts of the pushed frames, over all streams."""
        if len(self._streams) == 1 and not self._retired.received:  # asked for with every frame
            return next(iter(self._streams.values())).counters
        every = [self._retired, *(stream.counters for stream in self._streams.values())]
        dropped: dict[str, int] = {}
        for each in every:
            for reason, frames in each.dropped.items():
                dropped[reason] = dropped.get(reason, 0) + frames
        return StreamCounters(
            sum(each.received for each in every),
            sum(each.emitted for each in every),
            dropped,
            sum(each.in_flight for each in every),
            _sum(each.unusual for each in every),
        )

    @property
    def steps(self) -> int:
        """Count of finished steps of the open streams; it changes while they work. For any thread."""
        return sum(stream.steps for stream in tuple(self._streams.values()))

    @property
    def guard(self) -> GuardFinding:
        """Frames whose denoised picture is not to be trusted, over all streams."""
        found = self._retired_guard
        for stream in self._streams.values():
            found = found.and_of(stream.guard)
        return found

    def prepare(self, shape: tuple[int, int], dtype: npt.DTypeLike, streams: int) -> None:
        """Open so many streams for frames of a shape and dtype now, because it takes longer than a frame."""
        self._spares += [self._another() for _ in range(streams - len(self._spares))]
        for stream in self._spares:
            stream.prepare(shape, dtype)

    @property
    def overlaps(self) -> bool:
        """True where a frame may go up while the one before is being computed."""
        return any(stream.overlaps for stream in (*self._streams.values(), *self._spares[:1]))

    def push(
        self, frame: Any, meta: FrameMeta, *, skip: str | None = None, ahead: bool = False
    ) -> list[Denoised]:
        """Take one frame of the stream ``meta.key``; return the outputs that are due in it, see `Stream.push`."""
        stream = self._streams.get(meta.key)
        if stream is None:
            stream = self._spares.pop(0) if self._spares else self._another()
            self._streams[meta.key] = stream
        left, self._left = self._left, stream if ahead else None
        others = left.collect() if left is not None and left is not stream else []
        return others + stream.push(frame, meta, skip=skip, ahead=ahead)

    def restart(self, key: StreamKey, *, recalibrate: bool) -> list[Denoised]:
        """Finish what the stream holds, so that no frame after this meets one from before.

        Parameters
        ----------
        key
            The stream.
        recalibrate
            Start with a new stream, which estimates the intensities anew.
        """
        stream = self._streams.get(key)
        if stream is None:
            return []
        outputs = stream.flush()
        if self._left is stream:
            self._left = None
        if recalibrate:
            self._retire(stream)
            self._streams[key] = self._another()
        return outputs

    def _retire(self, stream: Stream) -> None:
        done, before = stream.counters, self._retired
        self._retired_guard = self._retired_guard.and_of(stream.guard)
        reasons = {*done.dropped, *before.dropped}
        self._retired = replace(
            before,
            received=before.received + done.received,
            emitted=before.emitted + done.emitted,
            dropped={r: before.dropped.get(r, 0) + done.dropped.get(r, 0) for r in reasons},
            unusual=_sum((before.unusual, done.unusual)),
        )
        stream.close()

    def flush(self) -> list[Denoised]:
        """Return the outputs of all frames still held."""
        self._left = None
        return [output for stream in self._streams.values() for output in stream.flush()]

    def close(self) -> None:
        """Close every stream."""
        for stream in (*self._spares, *self._streams.values()):
            stream.close()


def _sum(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Add up counts by name."""
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(total)
