"""A writer that goes on between any two calls of a reader: every interleaving, without threads or luck."""

from __future__ import annotations

import builtins
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from denoscope.acquisition.contracts import Frame
from denoscope.acquisition.sources.growing import watch
from denoscope.acquisition.sources.growing.tails import TiffTail
from denoscope.acquisition.sources.growing.watch import WatchSource
from denoscope.runtime import DenoscopeError

Step = Callable[[], None]


class Recorded(io.BytesIO):
    """A file in memory that keeps every write as a step on a real file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.steps: list[Step] = [lambda: put(path, 0, b"")]

    def write(self, data: Any, /) -> int:
        """Write, and keep it."""
        at, kept = self.tell(), bytes(data)
        half = len(kept) // 2
        for start, piece in ((0, kept[:half]), (half, kept[half:])):
            if piece:
                self.steps.append(lambda at=at + start, piece=piece: put(self.path, at, piece))  # type: ignore[misc]
        return super().write(data)


def put(path: Path, at: int, data: bytes) -> None:
    """Write some bytes into a file, which is made where there is none."""
    with builtins.open(path, "r+b" if os.path.exists(path) else "w+b", buffering=0) as file:  # noqa: PTH110, PTH123
        file.seek(at)
        file.write(data)


def replace(old: Path, new: Path) -> None:
    """Give a file another name, whatever has it."""
    os.replace(old, new)  # noqa: PTH105


def cut(path: Path, size: int) -> None:
    """Cut a file short, or make it longer."""
    os.truncate(path, size)


def whole_files(written: Path, watched: Path, files: list[str], *, renamed: bool = False) -> list[Step]:
    """Return the steps that write the files of a folder in halves, in place or under a name that they lose."""
    steps: list[Step] = []
    for name in files:
        data, target = (written / name).read_bytes(), watched / name
        folder = target.parent
        steps.append(lambda folder=folder: os.makedirs(folder, exist_ok=True))  # type: ignore[misc]  # noqa: PTH103
        first = folder / (target.name + ".partial") if renamed else target
        half = len(data) // 2
        steps += [
            lambda first=first: put(first, 0, b""),  # type: ignore[misc]
            lambda first=first, data=data[:half]: put(first, 0, data),  # type: ignore[misc]
            lambda first=first, at=half, data=data[half:]: put(first, at, data),  # type: ignore[misc]
        ]
        if renamed:
            steps.append(lambda first=first, target=target: replace(first, target))  # type: ignore[misc]
    return steps


@dataclass
class Race:
    """The state of one run: steps that are left, calls that were made, and what the reader may not open."""

    steps: list[Step]
    plan: Callable[[int], int]  # how many steps to take before a call with this number
    pause_s: float = 0.0  # added to the clock with each step that is taken between looks
    calls: int = 0
    taken: int = 0
    now_s: float = 1000.0
    locked: set[str] = field(default_factory=set)
    inside: bool = False

    def advance(self, count: int) -> None:
        """Take some steps of the writer."""
        self.inside = True
        try:
            for step in self.steps[self.taken : self.taken + count]:
                step()
                self.taken += 1
        finally:
            self.inside = False

    def before_call(self) -> None:
        """Let the writer go on before a call of the reader."""
        if self.inside:
            return
        self.advance(self.plan(self.calls))
        self.calls += 1

    def between_looks(self, seconds: float) -> None:
        """Let time pass, and the writer take a step."""
        self.now_s += max(seconds, self.pause_s)
        self.advance(1)


@contextmanager
def interleaved(race: Race) -> Iterator[None]:
    """Let a writer go on before every call of the reader to the file system."""
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in (
            (Path, "stat"), (Path, "open"), (Path, "iterdir"), (os, "fstat"), (os, "scandir"), (TiffTail, "_bytes"),
        ):  # fmt: skip
            real = getattr(owner, name)

            def hooked(*args: Any, real: Any = real, name: str = name, **kwargs: Any) -> Any:
                race.before_call()
                if name == "open" and str(args[0]) in race.locked and not race.inside:
                    raise PermissionError(13, "The process cannot access the file", str(args[0]))
                return real(*args, **kwargs)

            patch.setattr(owner, name, hooked)
        clock = type("Clock", (), {"perf_counter": lambda: race.now_s, "sleep": race.between_looks})
        patch.setattr(watch, "time", clock)
        yield


@dataclass
class Outcome:
    """Frames, notes and error of a race."""

    frames: list[Frame]
    notes: list[str]
    error: DenoscopeError | None


def run_race(watched: Path, race: Race, *, most_looks: int = 4000) -> Outcome:
    """Watch a path while the steps of a race are taken, and end when they are and all was read."""
    frames: list[Frame] = []
    source = WatchSource(watched, idle_s=0.6, start_s=30)
    error = None
    with interleaved(race):
        try:
            source.open()
            source.start()
            for _ in range(most_looks):
                if (frame := source.pop()) is not None:
                    frames.append(frame)
                elif source.finished():
                    break
                else:
                    race.between_looks(0.05)
            else:
                raise AssertionError("it never ended")
        except DenoscopeError as raised:
            error = raised
        finally:
            notes = source.notes()
            source.close()
    return Outcome(frames, notes, error)
