"""Objects are found where they are, nowhere else, and followed."""

from __future__ import annotations

import numpy as np
import pytest

from denoscope.runtime import InvalidInput
from denoscope.train.evaluation import cells as cells_module
from denoscope.train.evaluation.cells import (
    Objects,
    count_supported,
    find_objects,
    match_objects,
    region_traces,
    track_objects,
)

CENTRES = np.array([[20, 20], [20, 60], [50, 40], [75, 75], [78, 14]])
SHAPE = (96, 96)
RADIUS = 4.0


def discs(centres: np.ndarray, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    y, x = np.indices(shape)
    return np.any([np.hypot(y - cy, x - cx) <= RADIUS for cy, cx in centres], axis=0).astype(np.float32)


def noise(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((frames, *SHAPE)).astype(np.float32)


def test_discs_are_found_and_outlined() -> None:
    found = find_objects(10 * discs(CENTRES) + noise(1)[0], RADIUS)
    assert (
        match_objects(found, Objects(CENTRES, np.zeros(SHAPE, np.int32), np.ones(5)), 1.5) == len(found) == 5
    )
    area = np.bincount(found.labels.ravel())[1:]
    assert np.all(np.abs(area - np.pi * RADIUS**2) < 0.5 * np.pi * RADIUS**2)
    assert np.all(np.diff(found.strength) <= 0)


@pytest.mark.parametrize("radius", [2, 4, 8])
def test_noise_holds_no_objects(radius: float) -> None:
    assert len(find_objects(noise(1)[0], radius)) == 0
    assert len(find_objects(noise(60).max(axis=0), radius)) == 0
    assert len(find_objects(np.full(SHAPE, 7.0), radius)) == 0


def test_each_object_is_matched_once() -> None:
    blank = np.zeros(SHAPE, np.int32)
    one = Objects(np.array([[20.0, 21.0]]), blank, np.ones(1))
    two = Objects(np.array([[20.0, 20.0], [20.0, 23.0]]), blank, np.ones(2))
    assert match_objects(one, two, RADIUS) == 1
    assert match_objects(two, one, RADIUS) == 1
    assert match_objects(two, Objects(np.empty((0, 2)), blank, np.empty(0)), RADIUS) == 0


def test_raw_counts_support_what_is_there_and_not_what_is_painted() -> None:
    steady, active, painted = CENTRES[:2], CENTRES[2:4], CENTRES[4:]
    movie = noise(200) + 0.5 * discs(steady)
    # Bright half of the time and dark the other half: nothing in the mean.
    movie += np.where(np.arange(200) % 20 < 10, 1.5, -1.5)[:, None, None] * discs(active)
    objects = find_objects(10 * discs(CENTRES) + 1e-3 * noise(1)[0], RADIUS)
    assert count_supported(movie, objects, RADIUS) == 4
    only = find_objects(10 * discs(painted) + 1e-3 * noise(1)[0], RADIUS)
    assert count_supported(movie, only, RADIUS) == 0


def test_noise_alone_rarely_supports_an_object() -> None:
    centres = np.stack(np.meshgrid(np.arange(8, 90, 14), np.arange(8, 90, 14)), -1).reshape(-1, 2)
    painted = find_objects(10 * discs(centres) + 1e-3 * noise(1)[0], RADIUS)
    assert len(painted) == 36
    assert sum(count_supported(noise(80, seed), painted, RADIUS) for seed in range(5)) <= 2


def test_region_traces_are_means() -> None:
    labels = np.zeros((4, 5), np.int32)
    labels[0, :2], labels[3, 3:] = 1, 2
    movie = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    expected = [[m[labels == i].mean() for m in movie] for i in (1, 2)]
    np.testing.assert_allclose(region_traces(movie, labels), expected)
    assert region_traces(movie, labels, most=1).shape == (1, 3)
    assert region_traces(movie, np.zeros((4, 5), np.int32)).shape == (0, 3)


def test_moving_objects_are_followed() -> None:
    frames = 24
    paths = np.array([[[20 + t, 15 + 2 * t], [70 - t, 80 - 2 * t]] for t in range(frames)])
    movie = np.stack([10 * discs(p) for p in paths]) + noise(frames)
    movie[10] = noise(1)[0]  # lost for a frame
    tracks = track_objects(movie, RADIUS)
    assert tracks.count == 2
    assert tracks.median_frames == frames
    assert tracks.share_tracked == 1
    for path in tracks.paths:
        t = path[:, 0].astype(int)
        assert min(np.abs(path[:, 1:] - paths[t, i]).max() for i in (0, 1)) < 2


def test_nothing_to_follow() -> None:
    tracks = track_objects(noise(8), RADIUS)
    assert (tracks.count, tracks.paths, tracks.share_tracked) == (0, [], 0)


def test_a_radius_that_does_not_fit() -> None:
    with pytest.raises(InvalidInput, match="radius of 80 px does not fit frames of 96 x 96"):
        find_objects(np.zeros(SHAPE), 80)


def test_the_tracker_is_named_when_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells_module, "find_spec", lambda _: None)
    with pytest.raises(InvalidInput, match=r"\.\[tracking\]"):
        track_objects(noise(3), RADIUS)
