"""A stream of slow frames shows its first output early, and then refines its noise model unseen."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from denoscope.runtime import Bundle, Denoised, FrameMeta, Stream, estimate_intensity
from support.field_inputs import active_cells, counts
from support.tiny_bundle import tiny_bundle

CALIBRATION = 32
LENGTH = 48

Movie = npt.NDArray[Any]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundle") / "tiny.denoscope"
    return tiny_bundle(folder, window=7, intensity=None, calibration_frames=CALIBRATION)


@pytest.fixture(scope="module")
def movie() -> Movie:
    return counts(active_cells(LENGTH, 48, 56)[1])


def push_all(
    bundle: Bundle, movie: Movie, interval_s: float, *, numbers: range | None = None, **settings: Any
) -> tuple[list[list[Denoised]], Stream]:
    """Return what each push gave, the last frames' outputs at the end, and the stream."""
    numbers = range(len(movie)) if numbers is None else numbers
    with Stream(bundle, "onnxruntime-cpu", **settings) as stream:
        pushes = [
            stream.push(frame, FrameMeta(number=number, t_received_s=50.0 + i * interval_s))
            for i, (number, frame) in enumerate(zip(numbers, movie, strict=True))
        ]
        pushes.append(stream.flush())
        counters = stream.counters
    assert counters.received == counters.emitted == len(movie)
    assert counters.in_flight == 0
    assert [o.meta.number for push in pushes for o in push] == list(numbers)
    return pushes, stream


def first_push(pushes: list[list[Denoised]]) -> int:
    """Return how many frames had come when the first output was there."""
    return next(i for i, push in enumerate(pushes) if push) + 1


@pytest.mark.parametrize("look_ahead", [0, 1, 3])
@pytest.mark.parametrize("interval_s", [1.0, 30.0])
def test_slow_frames_are_shown_after_the_look_ahead_and_three(
    bundle: Bundle, movie: Movie, look_ahead: int, interval_s: float
) -> None:
    pushes, _ = push_all(bundle, movie, interval_s, look_ahead=look_ahead)
    assert first_push(pushes) == look_ahead + 3
    # From then on the outputs are never later than the look-ahead.
    for number, push in enumerate(pushes[look_ahead + 2 : -1], look_ahead + 2):
        assert push[-1].meta.number == number - look_ahead


@pytest.mark.parametrize("rate_hz", [2.1, 5.0, 9.0, 15.0])
@pytest.mark.parametrize("look_ahead", [0, 3])
def test_the_first_output_comes_within_two_seconds(
    bundle: Bundle, movie: Movie, rate_hz: float, look_ahead: int
) -> None:
    pushes, _ = push_all(bundle, movie, 1 / rate_hz, look_ahead=look_ahead)
    frames = first_push(pushes)
    assert frames <= look_ahead + 3 or (frames - 1) / rate_hz <= 2.0


@pytest.mark.parametrize("interval_s", [0.0, 1 / 400])
def test_very_fast_frames_are_held_until_the_noise_is_known(
    bundle: Bundle, movie: Movie, interval_s: float
) -> None:
    pushes, stream = push_all(bundle, movie, interval_s)
    assert first_push(pushes) == CALIBRATION
    assert stream.refinements == 0


def scene(photons: float, *, steps_px: float = 0.0, size: int = 64) -> Movie:
    """Return a movie of fine structures with Poisson noise, still or walking about."""
    rng = np.random.default_rng(5)
    rough = rng.normal(size=(size + 40, size + 40))
    for axis in (0, 1):
        rough = sum(np.roll(rough, step, axis) for step in (-1, 0, 1)) / 3
    light = photons * np.exp(0.8 * rough / rough.std())
    places = (rng.normal(0, steps_px, (LENGTH, 2)).cumsum(axis=0).clip(-20, 20) + 20).round().astype(int)
    return counts(np.stack([rng.poisson(light[y : y + size, x : x + size]) for y, x in places]))


def dark(length: int, size: int = 64) -> Movie:
    """Return frames of a closed shutter: read noise alone."""
    return counts(np.random.default_rng(1).normal(20, 3, (length, size, size)))


@pytest.mark.parametrize("look_ahead", [0, 3])
def test_a_stream_begins_as_soon_as_the_noise_is_certain(bundle: Bundle, look_ahead: int) -> None:
    movie = scene(50.0)
    pushes, stream = push_all(bundle, movie, 1 / 30, look_ahead=look_ahead)
    assert first_push(pushes) <= 6
    assert not stream.provisional
    # In step with the camera after a few pushes, also while the noise model is confirmed.
    assert all(push[-1].meta.number == number - look_ahead for number, push in enumerate(pushes[12:-1], 12))
    found, final = stream.intensity, estimate_intensity(movie[:CALIBRATION])
    assert found is not None
    assert abs(found.scale / final.scale - 1) < 0.05
    assert abs(found.gain / final.gain - 1) < 0.1


@pytest.mark.parametrize(
    "movie",
    [
        pytest.param(scene(0.1), id="few photons"),
        pytest.param(scene(0.5, steps_px=1.0), id="dim and moving"),
        pytest.param(scene(50.0, steps_px=1.0), id="bright and moving"),
        pytest.param(scene(50.0, size=32), id="small"),
        pytest.param(np.concatenate((dark(10), scene(50.0)[10:])), id="dark at first"),
    ],
)
def test_a_stream_waits_where_few_frames_do_not_tell(bundle: Bundle, movie: Movie) -> None:
    pushes, stream = push_all(bundle, movie, 1 / 30)
    assert first_push(pushes) >= 16
    assert not stream.provisional


def test_a_scene_that_begins_to_move_after_the_first_frames_is_followed(bundle: Bundle) -> None:
    still, moving = scene(20.0, size=96), scene(20.0, steps_px=1.5, size=96)
    movie = np.concatenate((still[:5], moving[5:]))
    pushes, early = push_all(bundle, movie, 1 / 30)
    assert first_push(pushes) == 4
    assert early.refinements > 0
    assert early.tracks_motion


def test_a_noise_model_that_more_frames_deny_is_replaced(bundle: Bundle) -> None:
    movie = scene(50.0)
    noisier = np.random.default_rng(0).normal(0, 0.5 * movie.std(), movie[5:].shape)
    movie = np.concatenate((movie[:5], (movie[5:] + noisier).clip(0, None).astype(np.uint16)))
    # Among so much noise the finest peaks look like hot pixels, whose noise would be left out.
    pushes, early = push_all(bundle, movie, 1 / 30, light=False)
    assert first_push(pushes) == 4
    assert early.refinements == 1
    assert early.intensity == estimate_intensity(movie[:CALIBRATION])


def test_a_stream_may_wait_however_slow_the_frames_are(bundle: Bundle, movie: Movie) -> None:
    pushes, _ = push_all(bundle, movie, 30.0, start_within_s=None)
    assert first_push(pushes) == CALIBRATION


@pytest.mark.parametrize(
    ("numbers", "light"),
    [
        (range(LENGTH), True),
        (range(5, 5 + 3 * LENGTH, 3), False),
        pytest.param(range(LENGTH), False, marks=pytest.mark.slow),
        pytest.param(range(5, 5 + 3 * LENGTH, 3), True, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("interval_s", [0.1, 0.3, 1.0])
def test_after_the_calibration_it_does_not_matter_when_the_frames_came(
    bundle: Bundle, movie: Movie, interval_s: float, numbers: range, light: bool
) -> None:
    slow, early = push_all(bundle, movie, interval_s, numbers=numbers, light=light)
    fast, late = push_all(bundle, movie, 0.0, numbers=numbers, light=light)
    assert early.refinements > 0
    assert not early.provisional
    assert early.intensity == late.intensity
    pairs = zip((o for push in slow for o in push), (o for push in fast for o in push), strict=True)
    for number, (a, b) in enumerate(pairs):
        if number >= CALIBRATION:
            np.testing.assert_array_equal(a.frame, b.frame)
        elif not light:  # another noise model, the same picture within a count: the tiny bundle is linear
            assert np.abs(a.frame.astype(int) - b.frame.astype(int)).max() <= 1


def test_a_scene_that_moves_is_followed_as_soon_as_that_is_seen(bundle: Bundle) -> None:
    wide = counts(active_cells(LENGTH, 128, 128, photons=200)[1])
    steps = np.random.default_rng(1).integers(-3, 4, (LENGTH, 2)).cumsum(axis=0).clip(-12, 12) + 16
    moving = np.stack([frame[y : y + 96, x : x + 96] for frame, (y, x) in zip(wide, steps, strict=True)])
    slow, early = push_all(bundle, moving, 1.0)
    fast, late = push_all(bundle, moving, 0.0)
    assert early.tracks_motion
    assert late.tracks_motion
    assert early.intensity == late.intensity
    for a, b in zip(
        (o for push in slow for o in push if o.meta.number >= CALIBRATION),
        (o for push in fast for o in push if o.meta.number >= CALIBRATION),
        strict=True,
    ):
        np.testing.assert_array_equal(a.frame, b.frame)


def test_a_change_of_size_while_the_noise_model_is_provisional(bundle: Bundle, movie: Movie) -> None:
    with Stream(bundle, "onnxruntime-cpu", look_ahead=1) as stream:
        outputs = []
        for number, frame in enumerate(movie):
            cut = frame if number < 6 else frame[:32, :40]
            outputs += stream.push(cut, FrameMeta(number=number, t_received_s=float(number)))
        assert stream.provisional  # of the first size, and it stays
        outputs += stream.flush()
    assert [o.meta.number for o in outputs] == list(range(LENGTH))
    assert [o.frame.shape for o in outputs] == [(48, 56)] * 6 + [(32, 40)] * (LENGTH - 6)


def test_skipped_outputs_are_counted_once(bundle: Bundle, movie: Movie) -> None:
    with Stream(bundle, "onnxruntime-cpu", look_ahead=1) as stream:
        for number, frame in enumerate(movie):
            skip = "keep-up" if number % 2 else None
            stream.push(frame, FrameMeta(number=number, t_received_s=float(number)), skip=skip)
            counters = stream.counters
            assert counters.received == counters.emitted + sum(counters.dropped.values()) + counters.in_flight
        stream.flush()
        assert stream.counters.emitted + stream.counters.dropped["keep-up"] == LENGTH


def test_the_baseline_does_not_jump_when_the_noise_model_is_refined() -> None:
    """With a real network: the same frame, seen with each of the noise models, has the same baseline."""
    clean, noisy = active_cells(40, 48, 56, seed=3)
    slow, _ = push_all(Bundle.load("live-fast"), counts(noisy), 1.0, look_ahead=1)
    fast, _ = push_all(Bundle.load("live-fast"), counts(noisy), 0.0, look_ahead=1)
    noise = np.sqrt(np.mean((noisy - clean) ** 2))
    for a, b in zip((o for push in slow for o in push), (o for push in fast for o in push), strict=True):
        difference = a.frame.astype(float) - b.frame
        assert abs(difference.mean()) < 0.05 * noise
        assert np.sqrt(np.mean(difference**2)) < 0.25 * noise


def test_no_frame_is_kept_after_the_calibration(bundle: Bundle, movie: Movie) -> None:
    with Stream(bundle, "onnxruntime-cpu") as stream:
        for number, frame in enumerate(movie):
            stream.push(frame, FrameMeta(number=number, t_received_s=float(number)))
        assert stream._intake.calibration is None
        assert not stream._intake.held
