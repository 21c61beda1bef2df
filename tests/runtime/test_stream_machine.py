"""Whatever order frames, gaps, changes, skips and flushes come in, every frame is accounted for."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from denoscope.runtime import Bundle, Denoised, FrameMeta, Stream
from denoscope.runtime.backends import choose_backend
from support.tiny_bundle import assert_answer, expected_movie, stamped, tiny_bundle

WINDOW = 5
CALIBRATION = 4
KINDS = [((16, 16), "uint16"), ((16, 24), "uint16"), ((24, 16), "uint8")]


class StreamMachine(RuleBasedStateMachine):
    """A stream beside a model that remembers every frame of the movie."""

    trained: dict[bool, Bundle]  # frozen intensity or not

    def __init__(self) -> None:
        super().__init__()
        self.kind = KINDS[0]
        self.last: int | None = None  # number of the movie's last frame, None after a flush
        self.number = 0
        self.missing = 0
        self.previous: dict[int, npt.NDArray[Any]] = {}
        self.segment: dict[int, npt.NDArray[Any]] = {}  # frames since the stream last started anew
        self.waiting: list[int] = []  # sent, not yet returned or skipped
        self.due: list[tuple[Denoised, dict[int, npt.NDArray[Any]]]] = []
        self.received = self.returned = 0
        self.skipped: dict[str, int] = {}

    @initialize(look_ahead=st.integers(0, WINDOW // 2), frozen=st.booleans())
    def open(self, look_ahead: int, frozen: bool) -> None:
        self.frozen, self.look_ahead = frozen, look_ahead
        self.backend = choose_backend("onnxruntime-cpu", threads=1)[0]
        self.stream = Stream(self.trained[frozen], self.backend, look_ahead=look_ahead)

    @rule(skip=st.sampled_from([None, None, None, "keep-up", "hidden"]), count=st.integers(1, 5))
    def push(self, skip: str | None, count: int) -> None:
        for _ in range(count):
            frame = stamped(self.number, *self.kind)
            if self.segment and next(iter(self.segment.values())).shape != frame.shape:
                self.start_anew()
            if self.last is not None:
                self.missing += self.number - self.last - 1
            self.segment[self.number] = frame
            self.waiting.append(self.number)
            self.received += 1
            before = self.stream.counters
            outputs = self.stream.push(frame, FrameMeta(number=self.number, t_received_s=0.0), skip=skip)
            self.account(outputs, before, skip)
            self.last = self.number
            self.number += 1

    @rule(frames=st.integers(1, 3 * WINDOW))
    def gap(self, frames: int) -> None:
        self.number += frames

    @rule(kind=st.sampled_from(KINDS))
    def change_shape_or_dtype(self, kind: tuple[tuple[int, int], str]) -> None:
        self.kind = kind

    @rule(skip=st.sampled_from([None, None, "stopped"]))
    def flush(self, skip: str | None) -> None:
        before = self.stream.counters
        self.account(self.stream.flush(skip=skip), before, skip)
        assert self.waiting == []
        assert self.stream.counters.in_flight == 0
        self.start_anew()
        self.last = None
        self.number = 0

    def account(self, outputs: list[Denoised], before: Any, skip: str | None) -> None:
        """Take the outputs, or the drops in their place, off the frames that wait."""
        after = self.stream.counters
        dropped = sum(after.dropped.values()) - sum(before.dropped.values())
        if skip is None:
            assert dropped == 0
        else:
            assert outputs == []
            self.skipped[skip] = self.skipped.get(skip, 0) + dropped
        assert [o.meta.number for o in outputs] == self.waiting[: len(outputs)]
        del self.waiting[: len(outputs) + dropped]
        self.returned += len(outputs)
        # The frames of a movie may grow after this output, but not by what it may have seen.
        self.due += [(o, self.segment) for o in outputs if o.meta.number in self.segment]
        old = [o for o in outputs if o.meta.number not in self.segment]
        self.due += [(o, self.previous) for o in old]

    def start_anew(self) -> None:
        self.previous, self.segment = self.segment, {}

    @invariant()
    def every_frame_is_accounted_for(self) -> None:
        if not hasattr(self, "stream"):
            return
        c = self.stream.counters
        assert c.received == c.emitted + sum(c.dropped.values()) + c.in_flight
        assert (c.received, c.emitted, c.in_flight) == (self.received, self.returned, len(self.waiting))
        assert c.dropped == {reason: n for reason, n in self.skipped.items() if n}
        assert self.stream.missing == self.missing
        most = self.look_ahead + (0 if self.frozen else CALIBRATION)
        assert c.in_flight <= most

    def teardown(self) -> None:
        if not hasattr(self, "stream"):
            return
        self.flush(None)
        self.stream.close()
        self.backend.close()
        if self.frozen:
            answers: dict[int, dict[int, npt.NDArray[np.float64]]] = {}
            for output, segment in self.due:
                if id(segment) not in answers:
                    answers[id(segment)] = expected_movie(segment, window=WINDOW, look_ahead=self.look_ahead)
                assert_answer(output.frame, answers[id(segment)][output.meta.number])


@pytest.mark.parametrize("examples", [30, pytest.param(200, marks=pytest.mark.slow)])
def test_stream_machine(tmp_path_factory: pytest.TempPathFactory, examples: int) -> None:
    root = tmp_path_factory.mktemp("bundles")
    StreamMachine.trained = {
        True: tiny_bundle(root / "frozen", window=WINDOW),
        False: tiny_bundle(root / "unfrozen", window=WINDOW, intensity=None, calibration_frames=CALIBRATION),
    }
    run_state_machine_as_test(
        StreamMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
