"""Frames handed out are used again once nobody holds them, and never before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from denoscope.runtime import FrameMeta, Intensity, Stream
from denoscope.runtime.backends import HostBuffer
from denoscope.runtime.window.pool import Pool
from support.tiny_bundle import tiny_bundle


def new_pool() -> tuple[Pool, list[HostBuffer]]:
    made: list[HostBuffer] = []

    def make() -> HostBuffer:
        made.append(HostBuffer((1, 1, 4, 6), "uint16"))
        return made[-1]

    return Pool(make), made


def test_a_frame_lies_in_its_buffer() -> None:
    pool, _ = new_pool()
    frame, buffer = pool.take()
    frame[...] = 7
    assert frame.shape == (4, 6)
    assert buffer.array is not None
    assert (buffer.array == 7).all()


def test_one_frame_after_another_needs_two_buffers_at_most() -> None:
    """The next is taken before the last name for the one before is given up."""
    pool, made = new_pool()
    for _ in range(100):
        frame, _ = pool.take()
        frame[...] = 1
    assert len(made) == 2


@pytest.mark.parametrize(
    "hold",
    [
        lambda frame: frame,
        lambda frame: frame[1:, ::2],
        lambda frame: frame.view(np.uint8)[2],
        memoryview,
        lambda frame: frame.reshape(-1),
        lambda frame: np.asarray(memoryview(frame)),
    ],
    ids=["frame", "view", "view-of-view", "memoryview", "reshaped", "array-of-memoryview"],
)
def test_what_is_made_of_a_frame_keeps_it(hold: Callable[[np.ndarray], Any]) -> None:
    pool, made = new_pool()
    frame, _ = pool.take()
    frame[...] = 42
    held = hold(frame)
    del frame
    for _ in range(40):
        other, _ = pool.take()
        other[...] = 0
    assert (np.asarray(held).view(np.uint16).max()) == 42
    assert len(made) <= 3


@given(st.lists(st.integers(0, 40), max_size=120))
def test_held_frames_are_never_written_and_memory_stays_bounded(keeps: list[int]) -> None:
    pool, made = new_pool()
    held: list[tuple[int, np.ndarray]] = []
    for value, keep in enumerate(keeps):
        frame, _ = pool.take()
        frame[...] = value
        held.append((value, frame))
        del frame
        held = held[-keep:] if keep else []
        assert all((kept == number).all() for number, kept in held)
    most = max(keeps, default=0)
    assert len(made) <= most + 2 or most > 14
    assert len(pool) <= 16


@pytest.mark.parametrize("backend", ["onnxruntime-cpu", "openvino"])
def test_outputs_of_a_stream_stay_as_they_were(tmp_path: Any, backend: str) -> None:
    """Frames are the same whether all, some, or one at a time are kept."""
    bundle = tiny_bundle(tmp_path / "tiny.denoscope")
    movie = np.random.default_rng(0).integers(0, 900, (40, 32, 48)).astype(np.uint16)
    intensity = Intensity(offset=20, scale=4.5, noise_slope=0.2, noise_floor=0.5)

    def play(keep: Callable[[int], bool]) -> dict[int, np.ndarray]:
        kept, copied = {}, {}
        with Stream(bundle, backend, intensity=intensity, align=False) as stream:
            for number, frame in enumerate(movie):
                for output in stream.push(frame, FrameMeta(number=number, t_received_s=0.0)):
                    copied[output.meta.number] = output.frame.copy()
                    if keep(output.meta.number):
                        kept[output.meta.number] = output.frame
        assert all((kept[n] == copied[n]).all() for n in kept)
        return copied

    every, some, none = play(lambda _: True), play(lambda n: n % 3 == 0), play(lambda _: False)
    assert every.keys() == some.keys() == none.keys()
    assert len(every) > 30
    for number, frame in every.items():
        np.testing.assert_array_equal(frame, some[number])
        np.testing.assert_array_equal(frame, none[number])
