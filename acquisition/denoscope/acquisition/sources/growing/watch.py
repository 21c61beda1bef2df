"""Source ``watch:PATH``: a file or folder that other software is writing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from denoscope.acquisition.contracts import Frame, SourceInfo
from denoscope.acquisition.errors import SourceFailed, SourceUnavailable, one_line
from denoscope.acquisition.sources.part import WHOLE, Part
from denoscope.acquisition.sources.uncored import UncoredSource, describe_frame
from denoscope.runtime import InvalidInput, bad_link, counted
from denoscope.runtime.movies import other_parts

from .tails import FolderTail, Grown, Tail, open_tail

__all__ = ["STOP_SUFFIX", "WatchSource"]

STOP_SUFFIX = ".stop"
_SETTLE_S = 0.25
_LOOK_S = 0.01
_OLD_TAGS = {
    "channel": ("Channel", "ChannelName", "ChannelIndex"),
    "z": ("SliceIndex",),
    "position": ("PositionIndex",),
}


class WatchSource(UncoredSource):
    """Hand on the frames of a growing file, from its first on, each once it is complete.

    It ends when nothing was written for `idle_s`, or when a file with the name of the watched one and
    ``.stop`` behind it appears (``movie.tif.stop``); what is complete then is still handed on.

    Parameters
    ----------
    path
        TIFF, BigTIFF, a folder of numbered TIFF or PNG files, an NDTiff folder or an OME-Zarr; it need not
        exist yet.
    idle_s
        Seconds without any change after which it counts as finished.
    start_s
        Seconds to wait for the first frame.
    part
        Frames of which channel, plane and position are handed on, by default all; and how many channels alternate.
    """

    patient: ClassVar[bool] = True

    def __init__(
        self, path: Path, *, idle_s: float = 10.0, start_s: float = 60.0, part: Part = WHOLE
    ) -> None:
        self._part = part
        self._entries: dict[str, list[str]] = {}
        self._read = 0
        self._left_out = 0
        self._path = path
        self._idle_s = idle_s
        self._start_s = start_s
        self._tail: Tail | None = None
        self._first: Grown | None = None
        self._hindered: OSError | None = None
        self._camera = ""
        self._number = 0
        self._mark: object = None
        self._changed_s = self._looked_s = 0.0
        self._ended = False
        self._notes: list[str] = []

    def open(self) -> SourceInfo:
        """Wait for the first frame and describe it."""
        if self._part.axes is not None:
            raise InvalidInput(
                f"`axes` {self._part.axes} is for complete files, and a movie that grows has time first: leave it "
                "out, or denoise the file when it is complete."
            )
        if (why := bad_link(self._path, may_come=True)) is not None:
            raise SourceUnavailable(f"no frame can appear at {self._path}: {why}.")
        began_s = time.perf_counter()
        while (first := self._look_or_close()) is None:
            now_s = time.perf_counter()
            unwanted = self._left_out > 0 and now_s - self._changed_s > self._idle_s
            if unwanted or now_s - began_s > self._start_s or self._stop_file.exists():
                self._close_checked()
                if self._left_out:
                    raise InvalidInput(
                        f"{counted(self._left_out, 'frame')} appeared at {self._path}, none of the wanted "
                        f"{', '.join(self._part.given())}: there {self._there()}; choose another one."
                    )
                why = f" (the last look ended with: {one_line(self._hindered)})" if self._hindered else ""
                raise SourceUnavailable(
                    f"no complete frame appeared at {self._path} within {self._start_s:g} s{why}; check the path, "
                    "and start the other software's recording."
                )
            if isinstance(self._tail, FolderTail) and (others := self._tail.never_watched()):
                self.close()
                raise InvalidInput(
                    f"{self._path} holds {others}, which cannot be watched while they are written: let the other "
                    "software write TIFF, PNG, NDTiff or OME-Zarr."
                )
            time.sleep(_LOOK_S)
        self._first = first
        try:
            info = describe_frame("watch", str(self._path), first.pixels, first.tags)
        except InvalidInput:
            self.close()
            raise
        self._camera = info.camera
        return info

    def _look_or_close(self) -> Grown | None:
        """Return the first frame if it is complete; look from the beginning again where the files went away.

        Programs make a file or folder, remove it and make it again when a recording begins, and lock it meanwhile.
        """
        try:
            first = self._look()
        except (InvalidInput, SourceFailed):
            self.close()
            raise
        except OSError as error:
            self.close()
            self._entries, self._read, self._left_out = {}, 0, 0
            self._hindered = error
            return None
        self._hindered = None
        return first

    def _close_checked(self) -> None:
        """Let go of the file; say where its first frame cannot be read though later ones are there."""
        try:
            if self._tail is not None:
                self._tail.check_rest()
        finally:
            self.close()

    def _there(self) -> str:
        """Return which channels, planes and positions have appeared."""
        entries = [
            f"{'plane' if axis == 'z' else axis} {' and '.join(f'`{e}`' for e in self._entries[axis])}"
            for axis in self._entries
        ]
        return f"is {', '.join(entries)}"

    @property
    def _stop_file(self) -> Path:
        return self._path.with_name(self._path.name + STOP_SUFFIX)

    def _look(self) -> Grown | None:
        """Return the next frame if it is complete; keep note of when something changed last."""
        now_s = time.perf_counter()
        if self._tail is None or not self._tail.found():
            self._let_go()  # a folder may become an NDTiff or a Zarr with its first file
            if self._tail_or_none() is None:
                self._changed_s = now_s
                return None
        assert self._tail is not None
        grown = self._next(settled=False)
        if grown is not None:
            self._changed_s = now_s
            return grown
        mark = self._tail.mark()
        if mark != self._mark:
            self._mark, self._changed_s = mark, now_s
            return None
        if self._tail.replaced():
            if self._number or self._first is not None:
                raise SourceFailed(
                    f"{self._path} was removed, made again or cut short after {counted(self._number, 'frame')}, so "
                    "that the rest cannot be read: watch the new file in a separate recording."
                )
            self._let_go()
            self._entries, self._read, self._left_out = {}, 0, 0
            return None
        settled = now_s - self._changed_s > _SETTLE_S
        return self._next(settled=True) if settled else None

    def _tail_or_none(self) -> Tail | None:
        if self._tail is None:
            self._tail = open_tail(self._path)
        return self._tail

    def _let_go(self) -> None:
        if self._tail is not None:
            self._tail.close()
            self._tail = None

    def _next(self, *, settled: bool) -> Grown | None:
        """Return the next frame of the wanted part, with its place among channels that alternate."""
        assert self._tail is not None
        lost = 0
        while (grown := self._tail.read(settled=settled)) is not None:
            count, self._read = self._read + grown.lost, self._read + grown.lost + 1
            if turns := self._part.interleaved:
                if grown.tags.get("Axes"):
                    raise InvalidInput(
                        f"{self._path} says itself which channel or plane its frames show: leave out `interleaved` "
                        f"{turns}."
                    )
                axes = {"time": count // turns, "channel": count % turns}
                grown = Grown(grown.pixels, {**grown.tags, "Axes": axes}, grown.lost)
            if not self._part.given() or self._part.takes(_axes(grown.tags), self._entries):
                return Grown(grown.pixels, grown.tags, grown.lost + lost)
            self._left_out += 1
            lost += grown.lost
        return None

    def pop(self) -> Frame | None:
        """Return the next complete frame, or None when there is none at this moment."""
        if self._first is not None:
            grown, self._first = self._first, None
            return self._frame(grown)
        now_s = time.perf_counter()
        if self._ended or now_s - self._looked_s < _LOOK_S:
            return None
        try:
            found = self._look()
            self._looked_s = 0.0 if found is not None else now_s
            if found is None:
                self._end_if_idle(now_s)
                return None
        except OSError as error:
            raise SourceFailed(
                f"{self._path} cannot be read any more after {counted(self._number, 'frame')}: {error}"
            ) from error
        return self._frame(found)

    def _end_if_idle(self, now_s: float) -> None:
        idle_s = now_s - self._changed_s
        asked = idle_s > 2 * _SETTLE_S and self._stop_file.exists()
        if not asked and idle_s < self._idle_s:
            return
        assert self._tail is not None
        self._ended = True
        self._tail.check_rest()
        if self._tail.unfinished():
            self._notes.append(f"the last frame of {self._path.name} was never completed and is left out")
        if self._left_out:
            self._notes.append(
                f"left out {counted(self._left_out, 'frame')} of {self._path.name} of another channel, plane or "
                "position"
            )
        if self._path.is_file() and (others := other_parts(self._path)):
            files = counted(others, "other file of this recording lies", "other files of this recording lie")
            self._notes.append(f"{files} beside {self._path.name}, not watched: watch the folder to take all")
        if isinstance(self._tail, FolderTail) and self._tail.locked:
            self._notes.append(
                f"{self._tail.locked} of {self._path.name} could not be opened: another program did not let go of it"
            )
        if isinstance(self._tail, FolderTail) and self._tail.made_again:
            again = counted(len(self._tail.made_again), "file")
            self._notes.append(
                f"{again} of {self._path.name} came again after they had been read: the first ones were recorded"
            )
        if isinstance(self._tail, FolderTail) and self._tail.late:
            self._notes.append(
                f"left out {counted(self._tail.late, 'file')} of {self._path.name} that came after later ones"
            )
        if isinstance(self._tail, FolderTail) and self._tail.other_kind:
            self._notes.append(
                f"left out {counted(self._tail.other_kind, 'image')} of {self._path.name}: a recording is TIFF "
                "or PNG, not both"
            )
        if isinstance(self._tail, FolderTail) and self._tail.unclear:
            self._notes.append(
                f"nothing says whether the cycles of {self._path.name} are stacks or time series: they were "
                "recorded as one time series"
            )

    def _frame(self, grown: Grown) -> Frame:
        number = self._number + grown.lost
        self._number = number + 1
        return Frame(
            pixels=grown.pixels,
            number=number,
            t_received_s=time.perf_counter(),
            camera=str(grown.tags.get("Camera") or self._camera),
            tags=grown.tags,
        )

    def finished(self) -> bool:
        """Say whether the file counts as finished and every frame was popped."""
        return self._ended and self._first is None

    def stop(self) -> None:
        """Read no further; what is in the file stays there."""
        self._ended = True
        self._first = None

    def notes(self) -> list[str]:
        """Return what the user should know in the end."""
        return list(self._notes)

    def close(self) -> None:
        """Let go of the file; a second call does nothing."""
        self._let_go()


def _axes(tags: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return channel, plane and position of a frame, as newer or older versions of Micro-Manager write them."""
    axes = tags.get("Axes")
    if isinstance(axes, Mapping):
        return axes
    found = ((axis, next((tags[n] for n in names if n in tags), None)) for axis, names in _OLD_TAGS.items())
    return {axis: value for axis, value in found if isinstance(value, int | str)}
