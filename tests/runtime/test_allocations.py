"""The hot path allocates nothing that a movie's frames do not need, and nothing grows with the movie."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from denoscope import runtime
from denoscope.runtime import Bundle, FrameMeta, Stream
from support.tiny_bundle import tiny_bundle

SHAPE = (512, 512)
SMALL = 70_000  # bytes: own objects, and the block in which numpy converts; a frame has 262,144 or more


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny.denoscope", window=7, motion=True)


@pytest.fixture
def traced() -> Iterator[None]:
    gc.collect()
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.parametrize("backend", ["onnxruntime-cpu", "openvino"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_push_allocates_no_frame_once_one_has_come_back(
    bundle: Bundle, backend: str, dtype: str, traced: None
) -> None:
    """Except of float32 frames, which are converted into a new array outside the graphs.

    And where the scene is watched: one frame in four is then looked at as an image of at most 128 x 128.
    """
    frame = np.full(SHAPE, 7, dtype)
    with Stream(bundle, backend, look_ahead=1, threads=1, align=False) as stream:
        stream.prepare(SHAPE, dtype)
        for number in range(20):
            stream.push(frame, FrameMeta(number, 0.0))
        for number in range(20, 30):
            skip = "keep-up" if number % 2 else None
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            outputs = stream.push(frame, FrameMeta(number, 0.0), skip=skip)
            peak = tracemalloc.get_traced_memory()[1] - before
            assert len(outputs) == (skip is None)
            new = sum(o.frame.nbytes for o in outputs) if dtype == "float32" else 0
            assert new <= peak < SMALL + new
            del outputs


def test_nothing_grows_with_the_movie(bundle: Bundle, traced: None) -> None:
    frame = np.full((64, 64), 7, np.uint16)
    own = [tracemalloc.Filter(True, str(Path(runtime.__file__).parent / "*"))]
    with Stream(bundle, "onnxruntime-cpu", threads=1) as stream:

        def play(first: int, count: int) -> tracemalloc.Snapshot:
            for number in range(first, first + count):
                stream.push(frame, FrameMeta(number, 0.0))
            gc.collect()
            return tracemalloc.take_snapshot().filter_traces(own)

        play(0, 200)
        before = play(200, 100)
        after = play(300, 300)
    grown = sum(s.size_diff for s in after.compare_to(before, "lineno"))
    assert grown < 1000, after.compare_to(before, "lineno")[:5]
