"""Events are as large as said, and what is measured of them is what was done to them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from denoscope.runtime import Bundle, InvalidInput
from denoscope.train.evaluation.transients import (
    SHAPES,
    EventMovie,
    TransientSettings,
    event_movie,
    false_events,
    gcamp_shape,
    measure_recovery,
    measure_transients,
)

SMALL = TransientSettings(frames=200, size=48, photons=5)


@pytest.fixture(scope="module", params=list(SHAPES))
def movie(request: pytest.FixtureRequest) -> EventMovie:
    return event_movie(SMALL, SHAPES[request.param])


def test_gcamp_rises_fast_and_decays_slowly() -> None:
    shape = gcamp_shape(30, 0.07, 0.6)
    peak = int(shape.argmax())
    assert shape.max() == pytest.approx(1)
    assert 3 <= peak <= 6
    assert np.all(np.diff(shape[: peak + 1]) > 0)
    assert shape[peak + 18] == pytest.approx(np.exp(-1), abs=0.06)


def test_events_have_the_size_that_was_asked_for(movie: EventMovie) -> None:
    assert len(movie.starts) > 5
    peak = int(movie.shape.argmax())
    for place, start in movie.starts:
        inside = movie.places[place]
        rise = (movie.clean[start + peak] - movie.base)[inside].max()
        assert rise == pytest.approx(SMALL.contrast * (movie.base[inside].mean() - 100), rel=0.01)
        assert np.abs(movie.clean[start - 1] - movie.base)[inside].max() < 1e-2 * rise


def test_the_noise_is_drawn_after_the_events(movie: EventMovie) -> None:
    error = movie.noisy.astype(np.float64) - movie.clean
    assert abs(error.mean()) < 1
    rising = (movie.clean - movie.base) > 0.5 * (movie.base - 100)
    # Poisson counts of 100 each with a spread of 0.3, and read noise of 8.
    for where in (rising, ~rising):
        expected = 100 * 1.09 * (movie.clean[where].mean() - 100) + 64
        assert error[where].var() == pytest.approx(expected, rel=0.05)
    signal_to_noise = [
        (movie.noisy[start + int(movie.shape.argmax())] - movie.base)[movie.places[place]].mean()
        for place, start in movie.starts
    ]
    assert np.mean(signal_to_noise) / np.std(signal_to_noise) < movie.snr


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_known_share_is_measured(movie: EventMovie, share: float) -> None:
    recovered = measure_recovery(movie, movie.base + share * (movie.clean - movie.base))
    assert recovered.peak_share == pytest.approx(share, rel=1e-3)
    assert recovered.slope == pytest.approx(share, rel=1e-3)
    assert recovered.slope_se < 1e-3
    assert len(recovered.snrs) == len(recovered.peak_shares) == recovered.events
    np.testing.assert_allclose(recovered.peak_shares, share, rtol=1e-2)
    assert np.median(recovered.snrs) == pytest.approx(recovered.snr, abs=1e-3)
    np.testing.assert_allclose(recovered.profile, share * np.array(recovered.true_profile), atol=1e-3)


def test_the_raw_movie_keeps_all(movie: EventMovie) -> None:
    raw = measure_recovery(movie, movie.noisy)
    assert abs(raw.peak_share - 1) < 4 * raw.peak_share_se < 0.3
    assert raw.slope == pytest.approx(1, abs=0.1)


def test_an_average_of_five_frames_keeps_a_fifth() -> None:
    movie = event_movie(SMALL, SHAPES["one frame"])
    recovered = measure_recovery(movie, ndimage.uniform_filter1d(movie.clean, 5, axis=0))
    assert recovered.peak_share == pytest.approx(0.2, abs=0.005)
    assert recovered.profile[10 - 2 : 10 + 3] == pytest.approx([0.2] * 5, abs=0.005)


def test_false_events_of_normal_errors() -> None:
    base = np.full((40, 50), 300, np.float32)
    std = np.full((300, 40, 50), 7, np.float32)
    rng = np.random.default_rng(0)
    shown = base + 7 * rng.standard_normal(std.shape)
    result = false_events(base, shown, std)
    np.testing.assert_allclose(result.observed[:2], result.nominal[:2], rtol=0.1)
    assert false_events(base, shown, 2 * std).observed[0] < result.observed[2] * 3
    shown[:100] += 100
    assert false_events(base, shown, std, first=100).observed[0] < 0.03


def test_without_events_nothing_changes() -> None:
    still = event_movie(SMALL, None)
    assert still.starts.shape == (0, 2)
    assert np.ptp(still.clean, axis=0).max() == 0
    np.testing.assert_array_equal(event_movie(SMALL, None).noisy, still.noisy)
    assert not np.array_equal(event_movie(replace(SMALL, seed=1), None).noisy, still.noisy)


def test_a_movie_too_short_for_events() -> None:
    with pytest.raises(InvalidInput, match="50 frames of 48 x 48 pixels hold no events"):
        TransientSettings(frames=50, size=48)


@pytest.mark.slow
def test_a_bundle() -> None:
    report = measure_transients(Bundle.load("live"), (30.0,), settings=SMALL, backend="onnxruntime-cpu")
    (level,) = report["levels"]
    shares = {name: both["denoised"]["peak_share"] for name, both in level["recovery"].items()}
    assert all(0.8 < share < 1.1 for share in shares.values())
    assert shares["GCaMP"] == pytest.approx(1, abs=0.15)
    assert level["false_events"]["observed"][1] < 0.02
