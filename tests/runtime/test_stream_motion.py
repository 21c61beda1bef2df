"""Flows between neighbouring frames: one run for each pair, nothing for a neighbour that is missing."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from denoscope.runtime import Bundle, Denoised, FrameMeta, InvalidInput, Stream
from denoscope.runtime.backends import Backend, choose_backend
from support.tiny_bundle import assert_answer, expected_movie, stamped, tiny_bundle
from support.wrapped_backends import DeviceBackend, WrappedBackend

WINDOW = 7


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundle") / "moving.denoscope"
    return tiny_bundle(folder, window=WINDOW, motion=True)


@pytest.fixture(scope="module", params=["onnxruntime-cpu", "openvino", "device"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    opened = (
        DeviceBackend(threads=1) if request.param == "device" else choose_backend(request.param, threads=1)[0]
    )
    with opened:
        yield opened


def unlike(number: int) -> npt.NDArray[Any]:
    """A frame whose step from the one before it is like no other: float, so that nothing is clipped."""
    return stamped(0, dtype=np.float32) + np.float32(number * number % 97)


def run(stream: Stream, frames: dict[int, npt.NDArray[Any]], **settings: Any) -> list[Denoised]:
    outputs = []
    for number, frame in frames.items():
        outputs += stream.push(frame, FrameMeta(number, 0.0), **settings)
    return outputs + stream.flush()


def check(outputs: list[Denoised], frames: dict[int, npt.NDArray[Any]], look_ahead: int, window: int) -> None:
    expected = expected_movie(frames, window=window, look_ahead=look_ahead, motion=True)
    assert [o.meta.number for o in outputs] == list(expected)
    for output in outputs:
        assert_answer(output.frame, expected[output.meta.number])


@pytest.mark.parametrize("look_ahead", [0, 1, 3])
def test_each_flow_is_in_its_place(bundle: Bundle, backend: Backend, look_ahead: int) -> None:
    frames = {n: unlike(n) for n in range(25)}
    with Stream(bundle, backend, look_ahead=look_ahead) as stream:
        check(run(stream, frames), frames, look_ahead, WINDOW)
        seconds = stream.stage_seconds
    assert seconds.motion_s > 0
    assert seconds.own_s < seconds.total_s - seconds.motion_s


@pytest.mark.parametrize("window", [3, 5, 15])
def test_other_windows(tmp_path: Path, window: int) -> None:
    bundle = tiny_bundle(tmp_path / "b", window=window, motion=True, memory=False, std=False)
    frames = {n: unlike(n) for n in range(window, 3 * window)}
    with Stream(bundle, "onnxruntime-cpu") as stream:
        outputs = run(stream, frames)
    expected = expected_movie(frames, window=window, look_ahead=window // 2, memory=False, motion=True)
    for output in outputs:
        assert_answer(output.frame, expected[output.meta.number])
    assert len(outputs) == len(frames)


@settings(max_examples=25)
@given(
    there=st.lists(st.booleans(), min_size=1, max_size=30),
    look_ahead=st.integers(0, WINDOW // 2),
    again=st.booleans(),
)
def test_one_run_for_each_pair_and_none_across_a_gap(
    bundle: Bundle, there: list[bool], look_ahead: int, again: bool
) -> None:
    frames = {n: unlike(n) for n, present in enumerate(there) if present}
    pairs = sum(b == a + 1 for a, b in pairwise(frames))
    with WrappedBackend() as counting, Stream(bundle, counting, look_ahead=look_ahead) as stream:
        stream.prepare((24, 32), np.float32)
        warm = counting.runs.copy()
        movies = 2 if again else 1  # flows of one movie must not reach into the next
        for _ in range(movies):
            check(run(stream, frames), frames, look_ahead, WINDOW)
        found = counting.runs - warm
    assert (found["encode"], found["motion"]) == (movies * len(frames), movies * pairs)


def test_a_skip_costs_the_neighbours_no_flow(bundle: Bundle) -> None:
    frames = {n: unlike(n) for n in range(15)}
    with WrappedBackend() as counting, Stream(bundle, counting, look_ahead=1) as stream:
        outputs = []
        for number, frame in frames.items():
            skip = "keep-up" if 4 <= number <= 6 else None
            outputs += stream.push(frame, FrameMeta(number, 0.0), skip=skip)
        outputs += stream.flush()
        assert counting.runs["motion"] == 1 + 14  # one to warm up
    expected = expected_movie(frames, window=WINDOW, look_ahead=1, motion=True)
    assert [o.meta.number for o in outputs] == [0, 1, 2, *range(6, 15)]
    for output in outputs:
        assert_answer(output.frame, expected[output.meta.number])


def test_a_method_without_deviation_is_not_asked_for_one(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "b", std=False)
    with pytest.raises(InvalidInput, match=r"tiny \(live\) predicts no standard deviation: leave it out"):
        Stream(bundle, "onnxruntime-cpu", std=True)
    with Stream(bundle, "onnxruntime-cpu") as stream:
        outputs = run(stream, {n: stamped(n) for n in range(8)})
    assert [o.std for o in outputs] == [None] * 8
