"""Light that changes as a whole is kept, frames without a picture are passed by, and steady movies are left alone."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from denoscope.runtime import (
    Denoised,
    FrameMeta,
    Intensity,
    ScannerArtefacts,
    Stream,
    StreamCounters,
    estimate_intensity,
)
from denoscope.runtime.artefacts.hot_pixels import hot_pixels
from denoscope.runtime.artefacts.kept_light import (
    Change,
    changed,
    lost_in_rounding,
    missing_light,
    some_counts_more,
)  # the sums themselves, without a network
from denoscope.runtime.artefacts.light import (
    STEADY,
    Light,
    LightMeter,
    Lit,
    lit_as_one,
    under,
)
from support.field_inputs import active_cells, active_light, counts

Movie = npt.NDArray[Any]
OFFSET = 100.0


def denoised(movie: Movie, *, light: bool = True) -> tuple[Movie, list[Denoised], StreamCounters]:
    with Stream(
        "live-fast", "onnxruntime-cpu", threads=1, look_ahead=1, std=True, light=light, align=False
    ) as stream:
        outputs = []
        for number, frame in enumerate(movie):
            outputs += stream.push(frame, FrameMeta(number, 0.0))
        outputs += stream.flush()
        return np.stack([o.frame for o in outputs]), outputs, stream.counters


def lit(factor: Movie, length: int = 48, photons: float = 20.0) -> tuple[Movie, Movie]:
    """Return (clean, counts) of a still scene whose light is multiplied frame by frame."""
    y, x = np.mgrid[:64, :64]
    scene = 1 + 0.5 * np.sin(x / 9) * np.cos(y / 7)
    clean = scene * factor[:length, None, None]
    noisy = np.random.default_rng(2).poisson(clean * photons) * 5 + OFFSET
    return clean * photons * 5 + OFFSET, counts(noisy)


def test_flicker_is_kept_in_bright_and_dim_tissue() -> None:
    clean, movie = lit(1 + 0.15 * np.random.default_rng(0).uniform(-1, 1, 48))
    found = denoised(movie)[0]
    dim = clean.mean(0) < np.quantile(clean.mean(0), 0.3)
    for part, within in ((np.ones_like(dim), 0.02), (dim, 0.05)):
        slope = np.polyfit(clean[:, part].mean(1)[5:], found[:, part].mean(1)[5:], 1)[0]
        assert abs(slope - 1) < within
    erased = np.polyfit(clean.mean((1, 2)), denoised(movie, light=False)[0].mean((1, 2)), 1)[0]
    assert erased < 0.8, "what this is for"


def test_light_that_is_added_to_all_pixels_is_kept() -> None:
    clean, movie = lit(np.ones(48))
    added = np.where(np.arange(48) % 10 > 7, 60, 0)
    movie = counts(movie + np.random.default_rng(3).poisson(added[:, None, None] / 5, movie.shape) * 5.0)
    truth = clean.mean((1, 2)) + added
    assert 0.97 < np.polyfit(truth[5:], denoised(movie)[0].mean((1, 2))[5:], 1)[0] < 1.03


@cache
def cells_without_gaps() -> tuple[Movie, Movie]:
    """Return counts of active cells, and the denoised movie."""
    movie = counts(active_cells(48, 64, 64)[1])
    return movie, denoised(movie)[0]


@pytest.mark.parametrize("dark", [[0], [12], list(range(20, 30)), [40, 41]])
def test_dark_frames_stay_dark_and_their_neighbours_bright(dark: list[int]) -> None:
    movie, plain = cells_without_gaps()
    movie = movie.copy()
    movie[dark] = counts(OFFSET + np.random.default_rng(5).normal(0, 3, (len(dark), 64, 64)))
    found, outputs, counters = denoised(movie)
    assert counters.unusual == {"dark": len(dark)}
    assert (found[dark] == movie[dark]).all()
    std = outputs[dark[0]].std
    assert std is not None
    assert std.shape == (64, 64)
    assert (std > 0).all()
    near = np.arange(max(dark[0] - 3, 0), min(dark[-1] + 4, 48))
    others = np.setdiff1d(near, dark)
    means = np.abs(found.mean((1, 2)) - plain.mean((1, 2)))[others]
    assert means.max() < 6, "of 80 counts of light, where a cell begins to flash beside the gap"


def test_a_steady_movie_comes_out_as_without() -> None:
    movie = lit(np.ones(48))[1]
    found, _, counters = denoised(movie)
    assert counters.unusual == {}
    assert (found == denoised(movie, light=False)[0]).all()
    assert lit_as_one(movie) is movie


@pytest.mark.parametrize("ramp", [0, 6])
def test_light_that_comes_on_late_becomes_the_scene(ramp: int) -> None:
    clean, noisy = active_cells(110, 64, 64)
    light = np.clip((np.arange(110) - 49) / max(ramp, 1), 0, 1)[:, None, None]
    noise = np.random.default_rng(5).normal(0, 3, noisy.shape)
    movie = counts(np.where(light == 1, noisy, (noisy - OFFSET) * light + OFFSET + noise * (light < 1)))
    found, _, counters = denoised(movie)
    assert sum(counters.unusual.values()) < 12
    assert np.abs(found[:49].mean((1, 2)) - OFFSET).max() < 1
    late = slice(70, None)
    left, raw = (np.mean((frames[late] - clean[late]) ** 2) for frames in (found, movie.astype(float)))
    assert left < 0.35 * raw
    assert np.abs(found[late].mean((1, 2)) - movie[late].mean((1, 2))).max() < 8


def test_dark_frames_do_not_spoil_the_noise() -> None:
    movie = counts(active_cells(32, 64, 64)[1])
    right = estimate_intensity(movie)
    movie[10:14] = 100
    assert estimate_intensity(lit_as_one(movie)).scale == pytest.approx(right.scale, rel=0.05)


def test_transform_of_a_frame_in_other_light() -> None:
    camera = Intensity(offset=200, scale=40, noise_slope=0.5, noise_floor=0.5)
    dim = under(camera, Light(0.5, 50))
    assert (200 * 0.5 + 50 - dim.offset) / dim.scale == pytest.approx(0)
    assert (240 * 0.5 + 50 - dim.offset) / dim.scale == pytest.approx(1)
    assert dim.noise_floor > camera.noise_floor
    assert LightMeter((64, 64), camera).see(np.full((64, 64), 200, np.uint16)) is STEADY


@pytest.mark.parametrize("gain", [20.0, 1.0])
@pytest.mark.parametrize("kind", ["step", "bleaching"])
def test_the_mean_of_a_frame_is_the_measured_one_where_light_changes(kind: str, gain: float) -> None:
    t = np.arange(48)
    light = {"step": np.where(t < 20, 1.4, 1.0), "bleaching": np.exp(-t / 80) * np.where(t < 24, 1, 0.75)}[
        kind
    ]
    clean = (active_cells(48, 64, 64)[0] - OFFSET) / 20 * light[:, None, None]
    movie = counts(np.random.default_rng(4).poisson(clean) * gain + OFFSET)
    truth, found = clean * gain, denoised(movie)[0] - OFFSET
    dim = clean.mean(0) <= np.quantile(clean.mean(0), 0.3)
    # Whole counts cannot follow an even background of four counts.
    for part, within in ((np.ones_like(dim), 0.02), (dim, 0.06 if gain > 1 else 0.15)):
        slope = np.polyfit(truth[:, part].mean(1)[5:], found[:, part].mean(1)[5:], 1)[0]
        assert abs(slope - 1) < within
    raw = np.abs(movie.mean((1, 2)) - OFFSET - truth.mean((1, 2)))[5:].max()
    assert np.abs(found.mean((1, 2)) - truth.mean((1, 2)))[5:].max() < raw + 0.03 * truth.mean()


def test_stripes_are_found_in_another_light_too() -> None:
    random = np.random.default_rng(5)
    y, x = np.mgrid[:96, :96]
    rate = np.full((64, 96, 96), 2 * (1 + 0.5 * np.sin(x / 9) * np.cos(y / 7)))
    rate[6:] *= 3  # the light stays changed
    rate[60, 1::2] += 9
    noise = 400 * 2 + 9.0
    camera = Intensity(offset=140, scale=noise**0.5, noise_slope=20 / noise**0.5, noise_floor=9 / noise)
    meter = LightMeter((96, 96), camera)
    lights = [meter.see(frame) for frame in counts(random.poisson(rate) * 20 + OFFSET)]
    assert lights[59].gain == pytest.approx(3, rel=0.05)
    assert [t for t, light in enumerate(lights) if light.unusual == "striped"] == [60]


@pytest.mark.parametrize("sudden", [False, True])
def test_a_glow_that_comes_slowly_is_activity_and_one_that_comes_at_once_is_light(sudden: bool) -> None:
    y, x = np.mgrid[:96, :96]
    t = np.arange(60)
    glow = np.where(t < 38, 0, 0.3) if sudden else 0.3 * np.clip((t - 24) / 14, 0, 1)
    rate = 0.4 * (1 + 0.4 * np.sin(x / 9) * np.cos(y / 7) + glow[:, None, None])
    noise = 40 * 0.4 * 40 + 100.0
    camera = Intensity(offset=116, scale=noise**0.5, noise_slope=40 / noise**0.5, noise_floor=100 / noise)
    for seed in (3, 6, 8, 19):
        random = np.random.default_rng(seed)
        movie = random.poisson(rate) * 40.0 + OFFSET
        movie += np.random.default_rng(seed + 1).normal(0, 10, rate.shape)
        meter = LightMeter((96, 96), camera)
        changed = [meter.see(frame) is not STEADY for frame in counts(movie)]
        assert not any(changed[:38])
        assert (sum(changed) > 15) if sudden else not any(changed)


@pytest.mark.parametrize(("period", "size"), [(2, 96), (8, 96), (2, 256)])
def test_light_that_only_some_lines_got_is_not_spread_over_all(period: int, size: int) -> None:
    random = np.random.default_rng(5)
    y, x = np.mgrid[:size, :size]
    rate = np.full((16, size, size), 6 * (1 + 0.5 * np.sin(x / 9) * np.cos(y / 7)))
    rate[8, 1::period] += 6 * period
    rate[11] += 6  # all lines
    noise = 400 * 6 + 9.0
    camera = Intensity(offset=220, scale=noise**0.5, noise_slope=20 / noise**0.5, noise_floor=9 / noise)
    meter = LightMeter((size, size), camera)
    lights = [meter.see(frame) for frame in counts(random.poisson(rate) * 20 + OFFSET)]
    assert [t for t, light in enumerate(lights) if light.unusual == "striped"] == [8]
    assert lights[11] is not STEADY
    assert not any(light.unusual for light in lights[9:])


def test_light_that_fades_and_drops_is_not_taken_for_dark() -> None:
    t = np.arange(64)
    light = np.exp(-t / 60) * np.where(t < 32, 1, 0.75)
    clean = (active_cells(64, 160, 160, photons=20)[0] - OFFSET) / 20 * light[:, None, None]
    meter_sees = counts(np.random.default_rng(4).poisson(clean) * 20.0 + OFFSET)
    meter = LightMeter((160, 160), estimate_intensity(lit_as_one(meter_sees[:32])))
    meter.begin(meter_sees[:32])
    assert {meter.see(frame).unusual for frame in meter_sees} == {""}


def test_a_movie_that_bleaches_to_a_tenth_is_denoised_to_its_end() -> None:
    clean, movie = lit(0.5 ** (np.arange(72) / 20), length=72)
    found, _, counters = denoised(movie)
    assert not counters.unusual, "no frame is dark"
    assert found[60:].mean() == pytest.approx(clean[60:].mean(), abs=0.2)
    late = np.square(found[60:] - clean[60:]).mean() / np.square(movie[60:] - clean[60:]).mean()
    assert late < 0.1, "shown as measured it is 1"


def hot_and_alternating(photons: float) -> tuple[Movie, Movie, npt.NDArray[np.bool_]]:
    """Return clean and measured counts of cells at full and half light in turn, and which pixels are hot."""
    random = np.random.default_rng(511)
    rate = active_light(72, 96, 96, np.random.default_rng(111)) * photons
    rate *= np.where(np.arange(72) % 2, 1, 0.5)[:, None, None]
    hot = random.random((96, 96)) < 0.003
    noisy = random.poisson(rate) * 20.0 + OFFSET + random.normal(0, 3, rate.shape) + 3000 * hot
    return rate * 20 + OFFSET + 3000 * hot, counts(noisy), hot


@pytest.mark.parametrize("photons", [1, 6])
def test_hot_pixels_do_not_follow_light_that_alternates(photons: float) -> None:
    clean, movie, hot = hot_and_alternating(photons)
    found, _, counters = denoised(movie)
    assert not counters.unusual, "no frame is dark"
    left, raw = (np.square(frames - clean).mean((1, 2)) for frames in (found, movie.astype(float)))
    assert (left[5:] / raw[5:]).max() < 0.5, "it was 2.5 to 8"
    beside = ~hot & (np.roll(hot, 1, 0) | np.roll(hot, 1, 1) | np.roll(hot, -1, 0) | np.roll(hot, -1, 1))
    off = (found - clean)[5:, beside].mean(1)
    assert np.abs(off).max() < 0.3 * 20 * photons


def test_hot_pixels_are_found_and_structures_are_not() -> None:
    camera = Intensity(offset=220, scale=409**0.5 * 6**0.5, noise_slope=0.4, noise_floor=0.02)
    _, movie, hot = hot_and_alternating(6)
    assert hot_pixels(movie[:32], camera).tolist() == np.flatnonzero(hot).tolist()
    assert not hot_pixels(active_cells(32, 96, 96)[1], camera).size
    struck = counts(active_cells(32, 96, 96)[1])
    struck[7, 40, 40] = 60000
    assert not hot_pixels(struck, camera).size


@pytest.mark.parametrize("closing", [1, 3])
def test_a_shutter_that_closes_within_some_frames_leaves_dark_frames(closing: int) -> None:
    light = np.interp(np.arange(60), [30, 30 + closing, 40, 41], [1.0, 0.0, 0.0, 1.0])
    movie = lit(light, length=60)[1]
    meter = LightMeter((64, 64), estimate_intensity(movie[:30]))
    lights = [meter.see(frame) for frame in movie]
    assert {each.unusual for each in lights[30 + closing : 41]} == {"dark"}
    assert not any(each.anew for each in lights)


def test_light_that_is_missing_is_found_and_a_wrong_picture_is_left_alone() -> None:
    camera = Intensity(offset=200, scale=40, noise_slope=0.4, noise_floor=0.5)
    scene = 100 + 120 * np.random.default_rng(0).random((8, 8)).repeat(8, 0).repeat(8, 1)
    meter = LightMeter((64, 64), camera)
    meter.begin_with(scene)
    around = [
        Lit(t, meter.blocks_of(scene * f), Light(f, 0), float(scene.mean()) * f)
        for t, f in enumerate((1.0, 1.3))
    ]
    off = missing_light(scene * 1.25 + 3, around[1], around, meter)
    assert off is not None
    found = changed((scene * 1.25 + 3).astype(np.float32), off)
    assert found.mean() == pytest.approx(1.3 * scene.mean(), rel=0.003)
    assert found.std() == pytest.approx(1.3 * scene.std(), rel=0.03)
    assert missing_light(scene * 2.6, around[1], around, meter) is None, "this is for the guard"
    steady = [Lit(t, meter.blocks_of(scene), STEADY, float(scene.mean())) for t in range(3)]
    assert missing_light(scene + 3, steady[1], steady, meter) is None


@pytest.mark.parametrize(("bright", "contrast"), [(True, 0.9), (False, 1.16)])
def test_all_frames_of_the_window_tell_the_contrast_where_light_alternates(
    bright: bool, contrast: float
) -> None:
    random = np.random.default_rng(7)
    y, x = np.mgrid[:96, :96]
    scene = 1 + 0.5 * np.sin(x / 9) * np.cos(y / 7)  # photons
    light = np.where(np.arange(60) % 2, 1.0, 0.5)
    movie = counts(
        random.poisson(light[:, None, None] * scene) * 20.0 + OFFSET + random.normal(0, 3, (60, 96, 96))
    )
    noise = 400 + 9.0
    camera = Intensity(offset=120, scale=noise**0.5, noise_slope=20 / noise**0.5, noise_floor=9 / noise)
    meter = LightMeter((96, 96), camera)
    meter.begin_with(scene * 20 + OFFSET)
    lit = [
        Lit(t, meter.blocks_of(frame), Light(gain, OFFSET * (1 - gain)), float(frame.mean()))
        for t, (frame, gain) in enumerate(zip(movie, light, strict=True))
    ]
    made = 20 * (1 + contrast * (scene - 1)) * (1.0 if bright else 0.5) + OFFSET
    changes = [
        missing_light(made.astype(np.float32), lit[t], lit[t - 5 : t + 2], meter)
        for t in range(6 - bright, 58, 2)
    ]
    assert np.mean([1 if each is None else each.factor for each in changes]) == pytest.approx(
        1 / contrast, abs=0.012
    )


def test_frames_of_a_light_that_stays_changed_have_the_same_light() -> None:
    y, x = np.mgrid[:96, :96]
    light = np.where(np.arange(60) < 30, 1.0, 1.4)
    photons = light[:, None, None] * (1 + 0.5 * np.sin(x / 9) * np.cos(y / 7))
    movie = counts(np.random.default_rng(4).poisson(photons) * 20.0 + OFFSET)
    meter = LightMeter((96, 96), estimate_intensity(movie[:30]))
    lights = [meter.see(frame) for frame in movie]
    assert len({id(each) for each in lights[40:]}) == 1
    assert lights[-1].gain * 120 + lights[-1].offset == pytest.approx(20 * 1.4 + OFFSET, abs=0.2)
    assert meter.see(movie[0]).gain == pytest.approx(1, abs=0.1), "another light is seen at once"


def test_a_light_that_stays_is_learned_by_several_frames() -> None:
    y, x = np.mgrid[:48, :48]
    light = np.where(np.arange(60) < 30, 1.0, 1.4)
    photons = light[:, None, None] * (1 + 0.5 * np.sin(x / 9) * np.cos(y / 7))
    off = []
    for seed in range(16):
        movie = counts(np.random.default_rng(seed).poisson(photons) * 20.0 + OFFSET)
        meter = LightMeter((48, 48), estimate_intensity(movie[:30]))
        last = [meter.see(frame) for frame in movie][-1]
        off.append(last.gain * 120 + last.offset - (20 * 1.4 + OFFSET))
    # Learned by one frame alone it is 0.5 counts off.
    assert np.median(np.abs(off)) < 0.35


@pytest.mark.parametrize("photons", [6, 60])
def test_cells_that_grow_dim_do_not_pull_the_light_that_a_step_left(photons: int) -> None:
    """Light of dim tissue as the meter gives it, without a network, 30 frames after a step of 40 %."""
    off = []
    for seed in range(4):
        random = np.random.default_rng(seed)
        scene = active_light(64, 96, 96, random) * photons
        dim = scene.mean(0) <= np.quantile(scene.mean(0), 0.3)
        lit = scene * np.where(np.arange(64) < 30, 1, 1.4)[:, None, None]
        movie = counts(random.poisson(lit) * 20.0 + OFFSET + random.normal(0, 3, lit.shape))
        meter = LightMeter((96, 96), estimate_intensity(movie[:32]))
        last = [meter.see(frame) for frame in movie][-1]
        brought = (lit[-1][dim].mean() * 20 + OFFSET - last.offset) / last.gain
        off.append((brought - OFFSET) / (scene[-1][dim].mean() * 20) - 1)
    # Against the last frames alone it is 7 to 10 % off.
    assert abs(np.mean(off)) < 0.03, off


def test_a_slow_fade_of_few_photons_is_seen_within_the_window() -> None:
    camera = Intensity(offset=200, scale=40, noise_slope=0.2, noise_floor=0.5)
    scene = 100 + 120 * np.random.default_rng(0).random((8, 8)).repeat(8, 0).repeat(8, 1)
    meter = LightMeter((64, 64), camera)
    meter.begin_with(scene)
    lit = [Lit(t, meter.blocks_of(scene - 2 * t), STEADY, float(scene.mean()) - 2 * t) for t in range(7)]
    off = missing_light((scene - 7).astype(np.float32), lit[5], lit, meter)
    assert off is not None
    assert off.shift + (off.factor - 1) * (scene.mean() - 7) == pytest.approx(-3, abs=0.5)


def test_most_of_the_light_that_a_fade_of_single_photons_left_in_the_memory_is_taken_away() -> None:
    camera = Intensity(offset=114, scale=17, noise_slope=1.0, noise_floor=0.1)
    scene = 110 + 8 * np.random.default_rng(0).random((8, 8)).repeat(12, 0).repeat(12, 1)
    meter = LightMeter((96, 96), camera)
    meter.begin_with(scene)
    lit = [Lit(t, meter.blocks_of(scene), STEADY, float(scene.mean())) for t in range(7)]
    off = missing_light((scene * 1.004).astype(np.float32), lit[5], lit, meter, unseen=True)
    assert off is not None
    lag = 0.004 * scene.mean()
    assert off.shift + (off.factor - 1) * (scene.mean() + lag) == pytest.approx(-lag, rel=0.08)


def cells_that_move(photons: float, seed: int) -> tuple[Movie, Movie, Intensity]:
    """Return (clean, counts) of a small field through which bright cells move in steady light, and its noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:96, :96]
    cells = [
        (*random.uniform(-10, 106, 2), random.uniform(3, 6), random.uniform(0.5, 4.0)) for _ in range(14)
    ]
    path = np.cumsum(random.normal(0, 0.25, (50, 2)), 0) + 3 * np.sin(np.arange(50) / 9)[:, None]
    rate = np.full((50, 96, 96), 0.6 * photons)
    for frame, (down, right) in zip(rate, path, strict=True):
        for cy, cx, radius, light in cells:
            away = (y - cy - down) ** 2 + (x - cx - right) ** 2
            frame += photons * light * np.exp(-away / (2 * radius**2))
    noise = 400 * photons + 9.0
    camera = Intensity(
        offset=OFFSET + 20 * photons,
        scale=noise**0.5,
        noise_slope=20 / noise**0.5,
        noise_floor=9 / noise,
    )
    return rate * 20 + OFFSET, counts(random.poisson(rate) * 20 + OFFSET), camera


@pytest.mark.parametrize(("photons", "seed"), [(1.0, 4), (6.0, 2)])
def test_cells_that_move_through_a_small_field_change_no_light(photons: float, seed: int) -> None:
    clean, movie, camera = cells_that_move(photons, seed)
    meter = LightMeter((96, 96), camera)
    lit = [meter.lit(t, meter.see(frame)) for t, frame in enumerate(movie)]
    assert all(each.light is STEADY for each in lit)
    changes = [
        missing_light(clean[t].astype(np.float32), lit[t], lit[t - 5 : t + 2], meter, moves=True)
        for t in range(6, 49)
    ]
    assert changes == [None] * 43


def test_frames_of_a_scene_that_moves_are_not_averaged_for_its_contrast() -> None:
    camera = Intensity(offset=200, scale=40, noise_slope=0.4, noise_floor=0.5)
    y, x = np.mgrid[:96, :96]
    scenes = [300 + 120 * np.sin((x + t) / 5) * np.cos((y - t) / 4) for t in range(7)]
    meter = LightMeter((96, 96), camera)
    meter.begin_with(scenes[0])
    brighter = Light(1.2, -20)
    lit = [Lit(t, meter.blocks_of(each), brighter, float(each.mean())) for t, each in enumerate(scenes)]
    change = missing_light(scenes[5].astype(np.float32), lit[5], lit, meter)
    assert change is not None
    assert change.factor == pytest.approx(1, abs=0.002)


def test_noise_of_single_photons_is_no_change_of_light() -> None:
    random = np.random.default_rng(1)
    y, x = np.mgrid[:60, :60]
    rate = 0.1 * (1 + 0.3 * np.sin(x / 9) * np.cos(y / 7))
    photons = random.poisson(np.broadcast_to(rate, (40, 60, 60)))
    movie = np.rint(photons * 100.0 + 10 + random.normal(0, 3, photons.shape)).astype(np.int16)
    noise = 100 * 10 + 9.0
    camera = Intensity(offset=20, scale=noise**0.5, noise_slope=100 / noise**0.5, noise_floor=9 / noise)
    meter = LightMeter((60, 60), camera)
    assert all(meter.see(frame) is STEADY for frame in movie)


def test_less_than_a_count_is_seen_to_be_lost_in_rounding() -> None:
    made = np.random.default_rng(1).integers(100, 200, (64, 64)).astype(np.uint16)
    little = Change(1.0, 0.3, 0.02)
    assert lost_in_rounding(made, changed(made, little), little)
    more = Change(1.05, 0.3, 0.1)  # rounded up and down alike
    assert not lost_in_rounding(made, changed(made, more), more)


@pytest.mark.parametrize("missing", [0.3, -0.04])
def test_an_even_frame_gets_a_part_of_a_count_in_some_of_its_pixels(missing: float) -> None:
    even = np.full((96, 120), 7, np.uint16)
    made = [some_counts_more(even, missing, number) for number in (4, 5)]
    for each in made:
        assert each.dtype == np.uint16
        assert float(each.mean()) == pytest.approx(7 + missing, abs=0.003)
        assert abs(each.astype(int) - 7).max() == 1
        blocks = each.reshape(4, 24, 5, 24).mean(axis=(1, 3))
        assert abs(blocks - 7 - missing).max() < 0.01
    assert (made[0] != made[1]).any()
    full = np.full((8, 8), 255 if missing > 0 else 0, np.uint8)
    assert (some_counts_more(full, missing, 0) == full).all()


def test_what_is_changed_beyond_the_dtype_ends_at_its_limits() -> None:
    made = np.array([[0, 9, 65500, 65535]], np.uint16).repeat(16, 0)
    assert changed(made, Change(1.1, -5)).tolist()[0] == [0, 5, 65535, 65535]
    assert changed(made[:, :3], Change(1.0, 10)).tolist()[0] == [10, 19, 65510]


@cache
def still(photons: float = 20.0, length: int = 40) -> tuple[Movie, Movie]:
    """Return counts of a still scene, and of another one."""
    y, x = np.mgrid[:96, :96]
    random = np.random.default_rng(6)
    scenes = (1 + 0.6 * np.sin(x / 11) * np.cos(y / 9), 1 + 0.6 * np.sin(y / 6 + 1) * np.cos(x / 15 + 2))
    first, other = (
        counts(random.poisson(np.broadcast_to(s * photons, (length, 96, 96))) * 20.0 + OFFSET) for s in scenes
    )
    return first, other


@cache
def still_denoised() -> Movie:
    return denoised(still()[0])[0]


@pytest.mark.parametrize(
    "kind", ["partly dark", "rows of zeros", "partly bright", "of another picture", "saturated", "bright"]
)
def test_single_frames_of_something_else_are_shown_as_measured(kind: str) -> None:
    movie, other = still()
    plain = still_denoised()
    odd = movie.copy()
    for t in (20, 31):
        if kind == "partly dark":
            odd[t, 48:] = counts(OFFSET + np.random.default_rng(t).normal(0, 3, (48, 96)))
        elif kind == "rows of zeros":
            odd[t, 60:] = 0
        elif kind == "partly bright":
            odd[t, :40, :60] = counts(np.random.default_rng(t).normal(9000, 200, (40, 60)))
        elif kind == "of another picture":
            odd[t] = other[t]
        elif kind == "saturated":
            odd[t] = 65535
        else:
            odd[t] = counts((odd[t] - OFFSET) * 12 + OFFSET)
    found, _, counters = denoised(odd)
    assert sum(counters.unusual.values()) == 2
    assert kind in counters.unusual or kind == "rows of zeros"
    assert (found[[20, 31]] == odd[[20, 31]]).all()
    others = np.setdiff1d(np.arange(40), [20, 31])
    assert np.abs(found[others].astype(float) - plain[others]).mean() < 6, "of 400 counts of light"


@pytest.mark.parametrize(("photons", "ceiling"), [(6, 65535), (60, 4095)])
def test_a_flash_that_saturates_a_part_is_told_from_a_structure_that_always_does(
    photons: float, ceiling: int
) -> None:
    movie = np.minimum(still(photons, 26)[0], ceiling).astype(np.uint16)
    movie[:, 70:, 30:] = ceiling
    flash = movie.copy()
    for t, part in ((16, np.s_[:40, :60]), (21, np.s_[:, 40:])):
        flash[t][part] = ceiling
    plain, found = (denoised(each) for each in (movie, flash))
    assert plain[2].unusual == {}
    assert found[2].unusual == {"partly bright": 2}
    assert (found[0][[16, 21]] == flash[[16, 21]]).all()
    others = np.setdiff1d(np.arange(10, 26), [16, 21])
    away = np.abs(found[0][others, :60].astype(float) - plain[0][others, :60])
    assert away.mean() < 0.02 * movie[:, :60].mean()


def test_a_flash_is_found_beside_a_pattern_and_lines_that_are_straightened() -> None:
    movie = still(20, 20)[0].copy()
    movie[15, :, 40:] = 65535
    pattern = ScannerArtefacts(line_offset=1.5, columns=tuple(float(x % 5) for x in range(96)))
    with Stream(
        "live-fast", "onnxruntime-cpu", threads=1, scanner=pattern, fix_line_offset=True, align=False
    ) as stream:
        for number, frame in enumerate(movie):
            stream.push(frame, FrameMeta(number, 0.0))
        stream.flush()
        assert stream.counters.unusual == {"partly bright": 1}


def test_scenes_that_change_by_themselves_are_no_other_picture() -> None:
    clean, noisy = active_cells(64, 96, 96, photons=20)
    jump = counts(noisy)
    jump[40:] = np.roll(jump[40:], (14, -9), (1, 2))  # the animal moves
    wave = counts(
        np.random.default_rng(1).poisson(
            (clean - OFFSET) / 20 * (1 + 1.5 * (np.arange(64) > 40)[:, None, None])
        )
        * 20
        + OFFSET
    )
    for movie in (jump, wave):
        meter = LightMeter((96, 96), estimate_intensity(movie[:32]))
        assert not {meter.see(frame).unusual for frame in movie} - {"", "bright"}


def test_a_movie_goes_on_after_a_long_dark_and_after_another_scene() -> None:
    movie, other = still(length=20)
    meter = LightMeter((96, 96), estimate_intensity(movie))
    assert {meter.see(frame).unusual for frame in movie} == {""}
    dark = counts(OFFSET + np.random.default_rng(1).normal(0, 3, (130, 96, 96)))
    lights = [meter.see(frame) for frame in dark]
    assert {light.unusual for light in lights[:127]} == {"dark"}
    assert [light.anew for light in lights].index(True) == 127
    meter.begin_with(movie[0])
    for frame in movie:
        meter.see(frame)
    lights = [meter.see(frame) for frame in other]
    assert [light.unusual for light in lights[:3]] == ["of another picture"] * 3
    assert lights[3].anew
