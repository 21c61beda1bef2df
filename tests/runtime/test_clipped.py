"""Saturated structures with a sharp edge do not spoil what lies around them, and are shown as measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from denoscope.runtime import (
    FrameMeta,
    Intensity,
    ScannerArtefacts,
    Stream,
    estimate_intensity,
    measure_saturation,
    measure_scanner,
)
from denoscope.runtime.noise.clipped import take_out_clipped
from denoscope.runtime.noise.saturation import saturated_part
from support.field_inputs import active_cells, counts

_NOISE = Intensity(offset=180, scale=40, noise_slope=0.5, noise_floor=0.5)


def _movie(
    structure: np.ndarray | float, length: int = 44, ceiling: int = 65535
) -> tuple[np.ndarray, np.ndarray]:
    """Return (clean, noisy) with a structure (H, W) or (T, H, W) of so many counts on top of active cells."""
    clean, _ = active_cells(length)
    clean = clean + structure
    random = np.random.default_rng(5)
    noisy = random.poisson((clean - 100) / 20) * 20.0 + 100 + random.normal(0, 3, clean.shape)
    return np.minimum(clean, ceiling), np.minimum(counts(noisy), ceiling).astype(np.uint16)


def _distance(shape: tuple[int, int] = (96, 112), x: float = 56, y: float = 48) -> np.ndarray:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return np.hypot(rows - y, columns - x)


def _denoised(noisy: np.ndarray, **settings: Any) -> tuple[np.ndarray, Stream]:
    with Stream("live-fast", "onnxruntime-cpu", threads=1, look_ahead=1, **settings) as stream:
        outputs = [out for n, frame in enumerate(noisy) for out in stream.push(frame, FrameMeta(n, 0.01 * n))]
        outputs += stream.flush()
    return np.stack([out.frame for out in outputs]).astype(float), stream


@pytest.mark.parametrize("kind", ["still", "moves", "hot pixels", "half"])
def test_a_saturated_structure_leaves_its_surroundings_alone(kind: str) -> None:
    distance = _distance()
    structure: Any = np.where(distance < 6, 1e6, 0)
    if kind == "moves":
        structure = np.stack([np.where(_distance(x=40 + 0.7 * t) < 6, 1e6, 0) for t in range(44)])
    if kind == "hot pixels":
        structure = np.zeros((96, 112))
        structure[10::17, 9::19] = 1e6
    if kind == "half":
        structure = np.where(np.arange(112) >= 56, 1e6, 0)[None] * np.ones((96, 1))
    clean, noisy = _movie(structure)
    made, stream = _denoised(noisy)
    full = noisy == 65535
    assert np.array_equal(made[full], noisy[full])
    error = np.abs(made - clean)[36:][~full[36:]]
    noise = np.abs(noisy - clean)[36:][~full[36:]]
    assert error.mean() < 0.2 * noise.mean()
    assert error.max() <= noise.max()
    assert stream.scanner == ScannerArtefacts()
    assert not stream.tracks_motion
    assert not stream.guard.off


def test_the_deviation_of_a_saturated_pixel_is_that_of_the_measurement() -> None:
    _, noisy = _movie(np.where(_distance() < 6, 1e6, 0), 34)
    with Stream("live-fast", look_ahead=0, std=True) as stream:
        outputs = [out for n, frame in enumerate(noisy) for out in stream.push(frame, FrameMeta(n, 0.0))]
    std = outputs[-1].std
    assert std is not None
    assert std[48, 56] > 500
    assert np.median(std) < 20


def test_a_frame_without_saturated_pixels_is_the_same_object() -> None:
    _, noisy = _movie(0.0, 2)
    for frame in (noisy[0], noisy[0].astype(np.float32), (noisy[0] // 8).astype(np.uint8)):
        same, nothing = take_out_clipped(frame, _NOISE)
        assert same is frame
        assert nothing is None


def test_what_has_a_soft_edge_or_little_contrast_stays() -> None:
    soft = 3 * 4095 * np.exp(-np.square(_distance()) / 400)
    for structure, ceiling in ((soft, 4095), (np.where(_distance() < 6, 3000, 0), 1023)):
        _, noisy = _movie(structure, 2, ceiling)
        assert (noisy == ceiling).sum() > 50
        assert take_out_clipped(noisy[0], _NOISE)[1] is None


def test_the_flank_of_a_structure_belongs_to_it() -> None:
    _, noisy = _movie(1e6 * np.exp(-np.maximum(_distance() - 6, 0) / 0.4), 2)
    filled, clipped = take_out_clipped(noisy[0], _NOISE)
    assert clipped is not None
    assert filled.max() < 1500
    assert len(clipped.at) > (noisy[0] == 65535).sum()
    made = np.zeros((96, 112), np.uint16)
    clipped.put_back(made, None)
    assert np.array_equal(made.ravel()[clipped.at], noisy[0].ravel()[clipped.at])


@pytest.mark.parametrize(
    ("counts_of", "found"),
    [(4095, True), (4000, True), (255, True), (65535, True), (range(3900, 4060, 10), False)],
)
def test_what_has_noise_is_no_ceiling(counts_of: int | range, found: bool) -> None:
    frame = np.random.default_rng(0).poisson(2, (64, 64)).astype(np.uint16)
    frame[10:14, 10:14] = np.reshape(counts_of, (4, 4)) if isinstance(counts_of, range) else counts_of
    assert (
        take_out_clipped(frame, Intensity(offset=2, scale=1.4, noise_slope=0.7, noise_floor=0.1))[1]
        is not None
    ) is found


def test_the_end_of_a_distribution_is_no_ceiling() -> None:
    frame = (51 * np.random.default_rng(1).poisson(0.9, (64, 64)).clip(0, 5)).astype(np.uint16)
    assert frame.max() == 255
    low = Intensity(offset=1, scale=1, noise_slope=0, noise_floor=1)
    assert take_out_clipped(frame, low)[1] is None
    assert saturated_part(frame[None]) is None


@pytest.mark.parametrize(("count", "ceiling", "found"), [(3, 255, False), (4, 255, True), (3, 4095, True)])
def test_a_few_pixels_reach_a_low_ceiling_by_chance(count: int, ceiling: int, found: bool) -> None:
    frame = np.random.default_rng(2).poisson(9, (64, 64)).astype(np.uint16)
    frame[20, 20 : 20 + count] = ceiling
    assert (saturated_part(frame[None]) is not None) is found


def test_a_quarter_of_a_frame_at_most_reaches_a_ceiling_that_no_converter_has() -> None:
    frame = np.random.default_rng(2).poisson(100, (64, 64)).astype(np.uint16)
    frame[:16] = 3000
    assert saturated_part(frame[None]) is not None
    frame[:17] = 3000  # a scene of one brightness, as of a simulation, or a screen
    assert saturated_part(frame[None]) is None


def test_half_a_saturated_picture_changes_neither_light_nor_pattern() -> None:
    half = np.where(np.arange(112) >= 40, 1e6, 0)[None] * np.ones((96, 1))
    found = estimate_intensity(_movie(half, 32)[1])
    known = estimate_intensity(_movie(0.0, 32)[1])
    assert abs(found.offset - known.offset) < 20
    assert 0.8 < found.gain / known.gain < 1.25
    assert measure_scanner(_movie(half, 32)[1]) == ScannerArtefacts()


def test_a_pattern_beside_what_saturates_is_found() -> None:
    half = np.where(np.arange(112) >= 64, 1e6, 0)[None] * np.ones((96, 1))
    pattern = np.random.default_rng(3).normal(0, 25, 112)
    _, noisy = _movie(half + pattern, 32)
    columns = np.array(measure_scanner(noisy).columns)
    assert columns.shape == (112,)
    assert not columns[70:].any()
    assert np.corrcoef(columns[4:60], pattern[4:60])[0, 1] > 0.8


def test_saturated_pixels_move_with_the_lines_that_are_corrected() -> None:
    clean = np.full((96, 112), 200.0)
    clean[::7] += 300 * (np.random.default_rng(1).random(112) < 0.3)
    noisy = np.random.default_rng(2).normal(clean, 5, (6, 96, 112)).astype(np.uint16)
    noisy[:, 40:50, 50:60] = 65535
    noisy[:, 1::2] = np.roll(noisy[:, 1::2], 2, axis=2)
    made, _ = _denoised(noisy, scanner=ScannerArtefacts(line_offset=2.0), fix_line_offset=True)
    rows, columns = np.nonzero(made[4] == 65535)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (40, 49, 50, 59)


def _shifted(movie: np.ndarray, pixels: float, order: int) -> np.ndarray:
    """Return frames resampled by a part of a pixel down and across, by a line or a cubic (Catmull-Rom)."""
    x = pixels
    weights = {
        1: (0.0, 1 - x, x, 0.0),
        3: (
            0.5 * (-x + 2 * x**2 - x**3),
            0.5 * (2 - 5 * x**2 + 3 * x**3),
            0.5 * (x + 4 * x**2 - 3 * x**3),
            0.5 * (-(x**2) + x**3),
        ),
    }[order]
    for axis in (1, 2):
        movie = sum(w * np.roll(movie, 1 - i, axis) for i, w in enumerate(weights))
    return movie


_CEILINGS = {
    "12 bits times 16": lambda m: (np.minimum(m // 16, 4095) * 16).astype(np.uint16),
    "less an offset": lambda m: np.minimum(m, 16383).astype(np.int16) - np.int16(77),
    "14 bits": lambda m: np.minimum(m, 16383).astype(np.uint16),
    "floats from 0 to 1": lambda m: (np.minimum(m, 20000) / 20000).astype(np.float32),
    "8 bits": lambda m: (np.minimum(m, 25500) // 100).astype(np.uint8),
    "resampled by lines": lambda m: _shifted(np.minimum(m, 12000.0), 0.4, 1).astype(np.float32),
    "resampled by cubics": lambda m: _shifted(np.minimum(m, 12000.0), 0.4, 3).astype(np.float32),
    "resampled to counts": lambda m: counts(_shifted(np.minimum(m, 12000.0), 0.4, 3)),
}


@pytest.mark.parametrize("kind", list(_CEILINGS))
def test_a_ceiling_may_be_any_count(kind: str) -> None:
    clean, _ = active_cells(8)
    clean = clean + np.where(_distance() < 6, 1e6, 0)
    random = np.random.default_rng(5)
    scale = 4 if kind == "8 bits" else 1
    noisy = random.poisson((clean - 100) / 20) * 20.0 + 100 + random.normal(0, 3, clean.shape)
    noisy = _CEILINGS[kind](np.clip(np.rint(noisy * scale), 0, None).astype(np.int64))
    noise = estimate_intensity(noisy)
    filled, clipped = take_out_clipped(noisy[4], noise)
    assert clipped is not None
    inside = _distance() < 4
    assert np.isin(np.flatnonzero(inside), clipped.at).all()
    assert len(clipped.at) < 4 * np.count_nonzero(_distance() < 6)
    around = noisy[4][(_distance() > 12) & (_distance() < 30)].astype(float)
    near = filled[_distance() < 11].astype(float)
    assert near.max() < around.max() + 4 * around.std()
    assert near.min() > around.min() - 4 * around.std()


def test_bright_cells_and_beads_that_do_not_saturate_stay() -> None:
    random = np.random.default_rng(3)
    beads = sum(
        amplitude * np.exp(-np.square(_distance(x=x, y=y)) / 8)
        for amplitude, x, y in zip(random.uniform(400, 900, 12), *random.uniform(8, 88, (2, 12)), strict=True)
    )
    plate = np.where(_distance() < 8, 600, 0)  # even, but for its noise
    for structure in (beads, plate):
        noisy = counts(random.poisson(3 + np.broadcast_to(structure, (6, 96, 112))) * 20 + 100)
        noise = estimate_intensity(noisy)
        assert noisy.max() > noise.offset + 40 * noise.scale
        assert not any(take_out_clipped(frame, noise)[1] for frame in noisy)
        assert measure_saturation(noisy).share == 0


def test_stuck_pixels_do_not_count_as_saturation() -> None:
    _, noisy = _movie(0.0, 12)
    noisy[:, 10::7, 9::9] = 65535
    found = measure_saturation(noisy)
    assert found.share == 0
    assert found.warning() is None
    _, noisy = _movie(np.where(_distance() < 6, 1e6, 0), 12)
    assert measure_saturation(noisy).share == pytest.approx((_distance() < 6).mean(), rel=0.01)
    assert measure_saturation((noisy // 4).astype(np.int16) - np.int16(9)).share > 0.005
