"""Training while recording: another bundle takes over between two frames, and nothing of it can harm a recording."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from denoscope.acquisition.adaptation import adaptation as module
from denoscope.acquisition.adaptation.adaptation import check_adaptation
from denoscope.acquisition.adaptation.swapping import SwappingDenoiser, conditions
from denoscope.acquisition.adaptation.trial import Trial, TrialPlan
from denoscope.acquisition.denoisers.local import DenoiserRequest, LocalDenoiser
from denoscope.runtime import Denoised, FrameMeta, InvalidInput, StreamKey
from support.changed_bundle import changed_bundle
from support.tiny_bundle import tiny_bundle

KEY = StreamKey("A")
PLAN = TrialPlan(warm_frames=4, checked_frames=32, backlog_frames=64)


class Ahead(LocalDenoiser):
    """A denoiser of this process with the methods of one in another; `late` answers stay under way."""

    late = 0

    def __init__(self, request: DenoiserRequest) -> None:
        super().__init__(request)
        self._waiting: list[list[Denoised]] = []
        self.closed = False

    @property
    def under_way(self) -> int:
        return len(self._waiting)

    def begin(self, frame: Any, meta: FrameMeta, *, skip: str | None = None) -> list[Denoised]:
        self._waiting.append(self.push(frame, meta, skip=skip))
        return self.collect() if len(self._waiting) > self.late else []

    def collect(self) -> list[Denoised]:
        return self._waiting.pop(0)

    def times(self) -> list[Any]:
        return []

    def close(self) -> None:
        self.closed = True
        super().close()


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A bundle, and others that differ from it."""
    folder = tmp_path_factory.mktemp("bundles")
    tiny = folder / "tiny.denoscope"
    tiny_bundle(tiny, intensity=None, calibration_frames=8)
    changes: dict[str, dict[str, float]] = {
        "brighter": {"shift": 0.02},
        "nan": {"factor": float("nan")},
        "off": {"shift": 1.0},
    }
    for name, change in changes.items():
        changed_bundle(folder / f"{name}.denoscope", of=str(tiny), **change)
    return {"tiny": tiny, **{name: folder / f"{name}.denoscope" for name in changes}}


def movie(count: int) -> Any:
    return np.random.default_rng(5).poisson(150, (count, 32, 40)).astype(np.uint16)


def opened(bundle: Path, learned: Any = None) -> Ahead:
    told = {} if learned is None else conditions(learned)
    return Ahead(DenoiserRequest(str(bundle), "onnxruntime-cpu", threads=1, **told))


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


def play(
    denoiser: SwappingDenoiser, bundle: Path, frames: Any, at: int = 20, plan: TrialPlan = PLAN
) -> tuple[list[Denoised], Trial]:
    """Push frames, and try a bundle from frame `at` on; the trial finishes each frame before the next comes."""
    outputs: list[Denoised] = []

    def push(number: int) -> None:
        outputs.extend(denoiser.begin(frames[number], FrameMeta(number, 0.0, KEY, source_index=number)))

    for number in range(at):
        push(number)
    learned = denoiser.learned()
    trial = Trial(lambda: opened(bundle, learned), plan)
    denoiser.try_out(trial, conditions(learned))
    until(lambda: trial._open or trial.problem is not None)
    for number in range(at, len(frames)):
        push(number)
        until(lambda: trial.pushed == trial._offered or trial.problem is not None)
        counts = denoiser.counters
        assert counts.received == number + 1
        assert counts.emitted == len(outputs) + sum(map(len, denoiser._now._waiting))
        assert counts.received == counts.emitted + sum(counts.dropped.values()) + counts.in_flight
    while denoiser.under_way:
        outputs += denoiser.collect()
    return outputs + denoiser.flush(), trial


def test_another_bundle_takes_over_between_two_frames(
    bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ahead, "late", 2)
    frames, first = movie(80), opened(bundles["tiny"])
    denoiser = SwappingDenoiser(first)
    outputs, trial = play(denoiser, bundles["brighter"], frames)
    assert trial.problem is None
    point = denoiser.points.get_nowait()
    assert denoiser.points.empty()
    # 36 frames of trial after frame 20; the look-ahead of 3 frames is still held by then.
    assert (point.frame, point.memory_frames) == (53, 33)
    assert [output.meta.source_index for output in outputs] == list(range(80))
    assert denoiser.counters.emitted == 80
    assert denoiser.counters.dropped == {}

    alone, new, right = opened(bundles["tiny"]), opened(bundles["brighter"], first.learned()), {}
    for number, frame in enumerate(frames):
        meta = FrameMeta(number, 0.0, KEY, source_index=number)
        old_ones = alone.push(frame, meta)
        new_ones = new.push(frame, meta) if number >= 20 else []
        right.update({each.meta.number: each.frame for each in old_ones if each.meta.number < point.frame})
        right.update({each.meta.number: each.frame for each in new_ones if each.meta.number >= point.frame})
    assert len(right) == 77  # the others wait for frames that never come
    for output in outputs[:77]:
        np.testing.assert_array_equal(output.frame, right[output.meta.number], str(output.meta.number))
    until(lambda: first.closed)
    denoiser.close()


@pytest.mark.parametrize(
    ("name", "words"), [("nan", "no numbers|not finite|NaN"), ("off", "beyond what noise")]
)
def test_a_bad_bundle_is_never_used(bundles: dict[str, Path], name: str, words: str) -> None:
    denoiser = SwappingDenoiser(opened(bundles["tiny"]))
    outputs, trial = play(denoiser, bundles[name], movie(80))
    assert trial.problem is not None
    assert re.search(words, trial.problem), trial.problem
    assert not trial.again
    assert denoiser.points.empty()
    assert [output.meta.source_index for output in outputs] == list(range(80))
    denoiser.close()


def test_a_restart_ends_a_trial_and_another_may_follow(bundles: dict[str, Path]) -> None:
    denoiser = SwappingDenoiser(opened(bundles["tiny"]))
    frames = movie(40)
    for number, frame in enumerate(frames):
        denoiser.push(frame, FrameMeta(number, 0.0, KEY, source_index=number))
    learned = denoiser.learned()
    trial = Trial(lambda: opened(bundles["brighter"], learned), PLAN)
    denoiser.try_out(trial, conditions(learned))
    until(lambda: trial._open)
    denoiser.push(frames[0], FrameMeta(40, 0.0, KEY, source_index=40))
    denoiser.restart(KEY, recalibrate=False)
    assert trial.problem is not None
    assert trial.again
    trial.join(10)
    denoiser.close()


def test_a_trial_that_is_too_slow_gives_up_and_never_waits(bundles: dict[str, Path]) -> None:
    denoiser, gate = SwappingDenoiser(opened(bundles["tiny"])), threading.Event()

    class Slow(Ahead):
        def push(self, *values: Any, **more: Any) -> list[Denoised]:
            gate.wait(60)
            return super().push(*values, **more)

    trial = Trial(lambda: Slow(DenoiserRequest(str(bundles["brighter"]), "onnxruntime-cpu")), PLAN)
    frames = movie(90)
    denoiser.try_out(trial, {})
    until(lambda: trial._open)
    outputs = []
    for number, frame in enumerate(frames):
        outputs += denoiser.push(frame, FrameMeta(number, 0.0, KEY, source_index=number))
    gate.set()
    assert trial.problem is not None
    assert "too slow" in trial.problem
    assert trial.again
    assert len(outputs) == 87
    trial.join(10)
    denoiser.close()


def test_what_cannot_work_is_said_before_anything_is_recorded(
    bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = str(bundles["tiny"])
    check_adaptation(tiny, denoiser="process", keep_raw=True)
    with pytest.raises(InvalidInput, match="`denoiser` process, not thread"):
        check_adaptation(tiny, denoiser="thread", keep_raw=True)
    with pytest.raises(InvalidInput, match=r"raw\.tif"):
        check_adaptation(tiny, denoiser="process", keep_raw=False)
    monkeypatch.setattr(module, "_processors", lambda: 1)
    with pytest.raises(InvalidInput, match="this computer has 1"):
        check_adaptation(tiny, denoiser="process", keep_raw=True)
    monkeypatch.setattr("denoscope.acquisition.extras.find_spec", lambda _: None)
    with pytest.raises(InvalidInput, match=r'pip install "\.\[train\]"'):
        check_adaptation(tiny, denoiser="process", keep_raw=True)
