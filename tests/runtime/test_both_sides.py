"""A memory of both sides of time: what comes before a window and what comes after it, the same in every way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from denoscope.runtime import Bundle, FrameMeta, InvalidInput, Stream
from denoscope.runtime.window.both_sides import BothSides
from support.tiny_bundle import IDENTITY, stamped, tiny_bundle

DECAY = (1.0, 4.0)
WINDOW = 5
TINY_DECAY = 4.0


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundle") / "recorded.denoscope"
    return tiny_bundle(folder, window=WINDOW, two_sided=True)


def averages_of(frames: npt.NDArray[Any], decay: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return the averages (m, ...) of frames, the last one of which weighs most."""
    keep = np.exp(-1 / np.asarray(decay))[:, None]
    share = (1 - keep) * keep ** np.arange(len(frames))[::-1]
    return np.tensordot(share, frames, axes=1)


@pytest.mark.parametrize("in_memory", [10**9, 0])
@pytest.mark.parametrize("scenes", [[1], [40], [7, 1, 90], [8, 32, 33]])
def test_the_averages_are_those_of_their_definition(scenes: list[int], in_memory: int) -> None:
    """For scenes of any length, kept in memory or in a file."""
    rng = np.random.default_rng(0)
    movie = [rng.normal(100, 30, (length, 4, 3, 2)).astype(np.float32) for length in scenes]
    sides = BothSides(DECAY, in_memory=in_memory)
    sides.begin_look()
    for scene in movie:
        for frame in scene:
            sides.enter(frame)
        sides.end_scene()
    sides.end_look()
    memory, weight = np.empty((1, 2 * len(DECAY) * 4, 3, 2)), np.empty(2 * len(DECAY))
    for scene in movie:
        for number, frame in enumerate(scene):
            sides.enter(frame)
            before, after = scene[: max(0, number - 2)], scene[number + 1 :][::-1]
            if number > 2:
                sides.leave(scene[number - 3])
            sides.join(memory, weight)
            expected = np.concatenate([averages_of(before, DECAY), averages_of(after, DECAY)])
            np.testing.assert_allclose(memory.reshape(expected.shape), expected, rtol=0, atol=1e-6)
            ones = [averages_of(np.ones(len(part)), DECAY) for part in (before, after)]
            np.testing.assert_allclose(weight, np.concatenate(ones), atol=1e-12)
        sides.end_scene()
    sides.forget()


def test_without_a_first_look_nothing_comes_after() -> None:
    sides = BothSides(DECAY)
    memory, weight = np.full((1, 16, 3, 2), 7.0), np.full(4, 7.0)
    sides.enter(np.ones((4, 3, 2), np.float32))
    sides.join(memory, weight)
    assert not memory.any()
    assert not weight.any()


def expected_movie(
    frames: dict[int, npt.NDArray[Any]], *, look_ahead: int, last: int | None = None
) -> dict[int, npt.NDArray[np.float64]]:
    """Return what a tiny bundle with a memory of both sides makes of frames whose memory ends with `last`."""
    half, outputs = WINDOW // 2, {}
    for centre, frame in frames.items():
        window = {n: f for n, f in frames.items() if -half <= n - centre <= look_ahead}
        total = sum((n - centre + half + 1) * f.astype(np.float64) for n, f in window.items())
        weight = float(sum(n - centre + half + 1 for n in window))
        before = [f for n, f in frames.items() if n < centre - half]
        after = [f for n, f in frames.items() if n > centre + look_ahead and (last is None or n <= last)]
        for part in (before, after[::-1]):
            if part:
                total = total + averages_of(np.stack(part), [TINY_DECAY])[0]
                weight += 1 - np.exp(-len(part) / TINY_DECAY)
        outputs[centre] = np.asarray(total / max(weight, 1.0)).reshape(frame.shape)
    return outputs


def denoise(
    bundle: Bundle, frames: dict[int, npt.NDArray[Any]], *, survey: bool = True, **settings: Any
) -> dict[int, npt.NDArray[Any]]:
    movie = np.stack(list(frames.values()))
    with Stream(bundle, "onnxruntime-cpu", align=False, **settings) as stream:
        if survey:
            stream.survey(movie, 0, len(movie))
        outputs = []
        for number, frame in frames.items():
            outputs += stream.push(frame, FrameMeta(number, 0.0))
        outputs += stream.flush()
        counters = stream.counters
    assert (counters.received, counters.emitted, counters.in_flight, counters.dropped) == (
        len(frames),
        len(frames),
        0,
        {},
    )
    return {output.meta.number: output.frame for output in outputs}


def floats(length: int) -> dict[int, npt.NDArray[np.float32]]:
    return {n: stamped(n, (24, 32), np.float32) + np.float32(n * n % 97) for n in range(length)}


@pytest.mark.parametrize("look_ahead", [0, 1, 2])
@pytest.mark.parametrize("length", [1, 3, 60])
def test_a_stream_knows_both_sides(bundle: Bundle, look_ahead: int, length: int) -> None:
    frames = floats(length)
    found = denoise(bundle, frames, look_ahead=look_ahead)
    expected = expected_movie(frames, look_ahead=look_ahead)
    assert list(found) == list(expected)
    for number, frame in found.items():
        np.testing.assert_allclose(frame, expected[number], rtol=1e-5, atol=1e-4)


def test_without_a_survey_it_knows_the_past_alone(bundle: Bundle) -> None:
    frames = floats(30)
    found = denoise(bundle, frames, survey=False, look_ahead=0)
    expected = expected_movie(frames, look_ahead=0, last=-1)
    for number, frame in found.items():
        np.testing.assert_allclose(frame, expected[number], rtol=1e-5, atol=1e-4)


def test_time_runs_alike_both_ways(bundle: Bundle) -> None:
    """A movie turned round gives the memory turned round: what is far from both ends of a still scene is the same."""
    frames = floats(40)
    turned = dict(zip(frames, [*frames.values()][::-1], strict=True))
    sides = [BothSides([TINY_DECAY]) for _ in range(2)]
    memories = []
    for both, movie in zip(sides, (frames, turned), strict=True):
        both.begin_look()
        for frame in movie.values():
            both.enter(frame[None])
        both.end_look()
        for number in range(23):
            both.enter(movie[number][None])
            if number >= 5:
                both.leave(movie[number - 5][None])
        memory, weight = np.empty((1, 2, 24, 32)), np.empty(2)
        both.join(memory, weight)
        memories.append(memory[0])
    # 18 frames before and 17 after; turned round 18 of what was after and 17 of what was before.
    again = [
        averages_of(np.stack([frames[n] for n in part]), [TINY_DECAY])[0]
        for part in (range(18), range(39, 22, -1))
    ]
    np.testing.assert_allclose(memories[0], again, atol=1e-4)
    again = [
        averages_of(np.stack([turned[n] for n in part]), [TINY_DECAY])[0]
        for part in (range(18), range(39, 22, -1))
    ]
    np.testing.assert_allclose(memories[1], again, atol=1e-4)


def test_frames_without_a_picture_are_missing_on_both_sides(tmp_path: Path) -> None:
    """A dark frame leaves no trace in the frames before it, as it leaves none in those after it."""
    free = tiny_bundle(tmp_path / "b", window=WINDOW, two_sided=True, intensity=None)
    rng = np.random.default_rng(1)
    scene = 400 + 200 * rng.random((48, 48))
    movie = rng.poisson(scene, (60, 48, 48)).astype(np.uint16) + 100
    dark = movie.copy()
    dark[30] = rng.poisson(4, (48, 48)) + 98
    known = IDENTITY.model_copy(update={"offset": 100.0, "scale": 4.0, "noise_slope": 0.06})
    with Stream(free, "onnxruntime-cpu", intensity=known, align=False) as stream:
        stream.survey(dark, 0, len(dark))
        outputs = [o for n, f in enumerate(dark) for o in stream.push(f, FrameMeta(n, 0.0))] + stream.flush()
        assert stream.counters.unusual == {"dark": 1}
    before = np.stack([o.frame for o in outputs[20:28]]).mean()
    assert before == pytest.approx(np.delete(movie, 30, axis=0).mean(), rel=0.01)


def test_what_a_survey_cannot_do_is_said(bundle: Bundle) -> None:
    frames = np.stack([*floats(12).values()])
    with Stream(bundle, "onnxruntime-cpu", align=False) as stream:
        stream.push(frames[0], FrameMeta(0, 0.0))
        with pytest.raises(
            InvalidInput, match="survey a movie with a stream that was calibrated and flushed"
        ):
            stream.survey(frames, 0, 12)
    with Stream(tiny_bundle(bundle.folder.with_name("one.denoscope")), "onnxruntime-cpu") as stream:
        stream.survey(frames, 0, 12)
        assert stream.counters.received == 0
