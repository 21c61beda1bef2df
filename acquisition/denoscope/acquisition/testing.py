"""The contract that every source of frames keeps, as a test class that third-party sources run too.

It needs pytest and is no part of the product: nothing in denoscope imports it.

Examples
--------
In a test module of your package::

    from denoscope.acquisition.testing import SourceContract
    from my_package import MySource

    class TestMySource(SourceContract):
        def make(self, frames, folder):
            return MySource(frames)
"""

# ruff: noqa: D102  (a test's name says what it tests)

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from denoscope.runtime import DenoscopeError, counted

from .contracts import Frame
from .lane.lane import DenoiseLane
from .raw.writer import RawWriter, read_raw
from .session.recording.session import Session
from .session.states import FinishReason
from .sources import Source

__all__ = ["SourceContract", "numbered_frames", "pop_all"]

Movie = npt.NDArray[np.uint16]
_DEADLINE_S = 60.0


def numbered_frames(count: int, shape: tuple[int, int] = (24, 32)) -> Movie:
    """Return noise ``(T, H, W)`` uint16 whose corner tells the frame's number."""
    frames = np.random.default_rng(count).integers(100, 4000, (count, *shape)).astype(np.uint16)
    frames[:, 0, 0] = np.arange(count)
    return frames


def pop_all(source: Source, *, most: int = 10**9) -> list[Frame]:
    """Pop until the source has finished, or `most` frames came."""
    frames: list[Frame] = []
    deadline_s = time.perf_counter() + _DEADLINE_S
    while len(frames) < most:
        frame = source.pop()
        if frame is not None:
            frames.append(frame)
        elif source.finished():
            break
        else:
            assert time.perf_counter() < deadline_s, (
                f"the source stands still after {counted(len(frames), 'frame')}"
            )
            time.sleep(0.001)
    return frames


class SourceContract:
    """Tests of one source; subclass it, name it `Test...`, and say how the source is made.

    Attributes
    ----------
    length
        Frames that the source is asked to deliver.
    """

    length = 12

    def make(self, frames: Movie, folder: Path) -> Source:
        """Return a source, not opened, that delivers exactly `frames` and then ends by itself.

        The one thing that a source's own test class has to say.
        """
        raise NotImplementedError("A SourceContract needs its own `make`.")  # the one abstract method

    def make_absent(self, folder: Path) -> Source | None:  # noqa: ARG002
        """Return a source that cannot be opened because what it needs is not there; None where that cannot be."""
        return None

    @pytest.fixture
    def frames(self) -> Movie:
        """Frames that the source is to deliver."""
        return numbered_frames(self.length)

    @pytest.fixture
    def source(self, frames: Movie, tmp_path: Path) -> Any:
        """A source that is closed in the end."""
        source = self.make(frames, tmp_path)
        yield source
        source.close()

    def test_describes_what_comes(self, source: Source, frames: Movie) -> None:
        info = source.open()
        assert info.shape == frames.shape[1:]
        assert info.dtype == frames.dtype
        assert info.kind
        assert info.name
        described = info.as_json()
        assert described["shape"] == list(frames.shape[1:])

    def test_hands_on_every_frame_once_in_order_and_unchanged(self, source: Source, frames: Movie) -> None:
        info = source.open()
        source.start()
        popped = pop_all(source)
        np.testing.assert_array_equal([frame.pixels for frame in popped], frames)
        assert all(frame.pixels.dtype == info.dtype for frame in popped)
        assert all(frame.agrees for frame in popped)
        numbers = [frame.number for frame in popped]
        assert numbers == list(range(numbers[0], numbers[0] + len(frames)))
        received = [frame.t_received_s for frame in popped]
        assert received == sorted(received)
        assert not source.overflowed()

    def test_stays_finished(self, source: Source) -> None:
        source.open()
        source.start()
        pop_all(source)
        for _ in range(3):
            assert source.pop() is None
            assert source.finished()

    def test_frames_belong_to_the_receiver(self, source: Source, frames: Movie) -> None:
        source.open()
        source.start()
        popped = pop_all(source)
        assert not np.shares_memory(popped[0].pixels, popped[1].pixels)
        kept = popped[0].pixels.copy()
        del popped[1:]
        np.testing.assert_array_equal(kept, frames[0])
        np.testing.assert_array_equal(popped[0].pixels, frames[0])

    def test_stops_when_asked(self, source: Source, frames: Movie) -> None:
        source.open()
        source.start()
        first = pop_all(source, most=3)
        source.stop()
        rest = pop_all(source)
        came = [frame.pixels for frame in (*first, *rest)]
        np.testing.assert_array_equal(came, frames[: len(came)])
        assert source.finished()

    def test_closes_twice(self, source: Source) -> None:
        source.open()
        source.start()
        pop_all(source, most=1)
        source.close()
        source.close()

    def test_says_in_one_sentence_what_is_not_there(self, tmp_path: Path) -> None:
        absent = self.make_absent(tmp_path)
        if absent is None:
            pytest.skip("what this source needs is always there")
        with pytest.raises(DenoscopeError) as caught:
            absent.open()
        absent.close()
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) > 20

    def test_a_session_records_every_frame(self, source: Source, frames: Movie, tmp_path: Path) -> None:
        info = source.open()
        folder = tmp_path / "recording"
        folder.mkdir()
        lane = DenoiseLane(_Nothing(), _Nothing(), look_ahead=0, queue_frames=64, lag_s=10.0, finish_s=5.0)
        session = Session(source, RawWriter(folder, info, "test"), lane, frames=None, raw_queue_frames=8)
        session.start()
        assert session.wait(_DEADLINE_S)
        status = session.finish()
        assert status.reason is FinishReason.SOURCE_ENDED
        assert status.received == status.written_raw == len(frames)
        assert status.missing == 0
        np.testing.assert_array_equal(read_raw(folder).read(), frames)


class _Nothing:
    """A denoiser that takes every frame and gives none back, and a sink that is never given one."""

    def __init__(self) -> None:
        from denoscope.runtime import StreamCounters

        self.counters = StreamCounters(0, 0, {}, 0)

    def push(self, _frame: Any, _meta: Any, *, skip: str | None = None) -> list[Any]:  # noqa: ARG002
        return []

    def flush(self) -> list[Any]:
        return []

    def append(self, _output: Any, _stamp: Any) -> None:
        raise AssertionError("nothing was denoised")
