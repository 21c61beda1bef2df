"""Places of a recorded movie's frames are found from those before and after each."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from denoscope.runtime import Intensity, estimate_intensity
from denoscope.runtime.motion import both_ways
from denoscope.runtime.motion.both_ways import placed_both_ways
from denoscope.runtime.motion.field import KNOTS, between, interpolation, inverse
from denoscope.runtime.motion.placement import Placement

SHAPE = (96, 96)
FRAMES = 40


def _wandering(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return fields (T, 2, KNOTS, KNOTS) whose parts wander by 4 pixels, smooth in space and time."""
    size = FRAMES, 2, KNOTS, KNOTS
    fields = ndimage.gaussian_filter(rng.normal(size=size), (4, 0, 2, 2), mode="wrap")
    return np.asarray(4 * (fields - fields.mean(axis=(2, 3), keepdims=True)) / fields.std())


def _recorded(fields: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.uint16]:
    scene = ndimage.gaussian_filter(rng.random((SHAPE[0] + 40, SHAPE[1] + 40)) ** 6, 1.5)
    scene *= 5.0 / scene.mean()
    rows, columns = (interpolation((np.arange(n) + 0.5) / n) for n in SHAPE)
    at = np.mgrid[: SHAPE[0], : SHAPE[1]] + 20.0
    backs = (rows @ inverse(field, SHAPE) @ columns.T for field in fields)
    clean = [ndimage.map_coordinates(scene, at - back, order=3) for back in backs]
    return rng.poisson(np.maximum(clean, 0)).astype(np.uint16)


def test_places_are_closer_than_those_found_forwards_from_the_first_frame_on() -> None:
    rng = np.random.default_rng(4)
    true = _wandering(rng)
    movie = _recorded(true, rng)
    placement = Placement(SHAPE, estimate_intensity(movie[:32]), follow=True, parts=True)
    found = {}
    for number, frame in enumerate(movie):
        placement.find(frame)
        found[number] = placement.displacement
    scene, home = placement.scene, placement.home
    made = placed_both_ways(placement, found, lambda number: movie[number])
    assert list(made) == list(found)

    def off(places: list[npt.NDArray[np.float32]], frames: slice) -> float:
        apart = (between(np.array(places), scene, home) - true)[:, :, 1:-1, 1:-1]
        return float(np.sqrt(np.square(apart - np.median(apart, axis=0))[frames].mean()))

    for frames in (slice(10), slice(FRAMES)):
        assert off(list(made.values()), frames) < 0.8 * off(list(found.values()), frames)


class _Counts(Placement):
    """A placement that counts frames and drifts away at one of them."""

    def __init__(self, end: int) -> None:
        super().__init__(
            SHAPE, Intensity(offset=0, scale=1, noise_slope=0, noise_floor=1), follow=True, parts=True
        )
        self._left = end
        self.seen: list[int] = []

    def find(
        self, frame: npt.NDArray[np.generic]
    ) -> tuple[tuple[slice, slice], Literal["moves", "drifted"] | None]:
        self._left -= 1
        self.seen.append(int(frame.item()))
        self.put(np.full((2, KNOTS, KNOTS), float(frame.item()), np.float32))
        return (slice(0), slice(0)), None if self._left else "drifted"


def test_a_frame_with_holes_keeps_its_place_and_a_scene_that_drifts_away_has_none() -> None:
    ramp = np.linspace(-1, 1, KNOTS, dtype=np.float32) * np.ones((2, KNOTS, 1), np.float32)
    found = {3: -ramp, 4: ramp, 7: -ramp}

    def frame_of(number: int) -> npt.NDArray[np.int64] | None:
        return None if number == 4 else np.array(number)

    made = placed_both_ways(_Counts(end=99), found, frame_of)
    assert {number: float(place[0, 0, 0]) for number, place in made.items()} == {3: 3, 4: -1, 7: 7}
    assert placed_both_ways(_Counts(end=3), found, frame_of) == {}
    together = dict.fromkeys(found, ramp)  # nothing to gain where parts do not move from frame to frame
    assert placed_both_ways(_Counts(end=99), together, frame_of) == together


@pytest.mark.parametrize(
    ("together", "order"), [(1, [7, 4, 3, 3, 4, 7]), (2, [7, 3, 4, 3, 4, 7]), (9, [3, 4, 7] * 2)]
)
def test_frames_are_read_forwards_in_blocks_on_the_way_back(
    monkeypatch: pytest.MonkeyPatch, together: int, order: list[int]
) -> None:
    monkeypatch.setattr(both_ways, "_TOGETHER", together * SHAPE[0] * SHAPE[1])
    ramp = np.linspace(-1, 1, KNOTS, dtype=np.float32) * np.ones((2, KNOTS, 1), np.float32)
    read: list[int] = []

    def frame_of(number: int) -> npt.NDArray[np.int64]:
        read.append(number)
        return np.array(number)

    placement = _Counts(end=99)
    made = placed_both_ways(placement, {3: -ramp, 4: ramp, 7: -ramp}, frame_of)
    assert read == order
    assert placement.seen == [7, 4, 3, 3, 4, 7]
    assert {number: float(place[0, 0, 0]) for number, place in made.items()} == {3: 3, 4: 4, 7: 7}
