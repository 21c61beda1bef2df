"""A denoised picture that is not the measured one is noticed while the movie runs, and nothing else is."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from denoscope.runtime import FrameMeta, GuardFinding, NotFinite, Stream, estimate_intensity
from denoscope.runtime.stream.residuals.guard import Guard  # by itself, without a network
from support.changed_bundle import changed_bundle
from support.field_inputs import active_cells, counts, detected, lines_shifted

Movie = npt.NDArray[Any]


def guarded(movie: Movie, bundle: Any = "live-fast", **settings: Any) -> GuardFinding:
    with Stream(bundle, "onnxruntime-cpu", threads=1, **settings) as stream:
        for number, frame in enumerate(movie):
            stream.push(frame, FrameMeta(number, 0.0))
        stream.flush()
        return stream.guard


def cells(length: int = 48) -> Movie:
    return counts(active_cells(length)[1])


ORDINARY = (
    "cells",
    "float32",
    "flicker",
    "dark frames",
    "shifted lines",
    "saturated",
    "clipped at 0",
    "row noise",
    "moves",
    "five frames of few photons",
    "photon counting",
    "constant",
    "constant floats",
    "zeros as floats",
    "waves whose sum is flat",
)


@cache
def ordinary() -> dict[str, Movie]:
    return dict(_ordinary())


def _ordinary() -> Iterator[tuple[str, Movie]]:
    random = np.random.default_rng(0)
    movie = cells()
    dark, flicker = movie.copy(), 100 + (movie - 100.0) * random.normal(1, 0.15, (len(movie), 1, 1))
    dark[0] = dark[20:26] = random.normal(100, 3, dark[0].shape)
    yield "cells", movie
    yield "float32", movie.astype(np.float32) / 1e4
    yield "flicker", counts(flicker)
    yield "dark frames", dark
    yield "shifted lines", lines_shifted(3, 40)[0]
    yield "saturated", np.minimum(movie, np.uint16(np.quantile(movie, 0.9)))
    yield "clipped at 0", counts(movie.astype(np.float64) - np.quantile(movie, 0.3))
    yield "row noise", counts(movie + random.normal(0, 60, (len(movie), 96, 1)))
    yield "moves", np.stack([np.roll(each, i // 2, 1) for i, each in enumerate(movie)])
    yield "five frames of few photons", detected("gamma pulses", 0.1, 5)[2]
    yield "photon counting", random.poisson(0.02, (40, 64, 64)).astype(np.uint8)
    yield "constant", np.full((20, 32, 32), 7, np.uint16)
    yield "constant floats", np.full((20, 32, 32), -300, np.float32)
    yield "zeros as floats", np.zeros((20, 32, 32), np.float32)
    phase = np.arange(64) / 30 - np.arange(48)[:, None, None] / 8 + np.zeros((64, 1))
    yield "waves whose sum is flat", counts(3276 + 2570 * np.sin(2 * np.pi * phase))


def test_all_ordinary_movies_are_named() -> None:
    assert tuple(ordinary()) == ORDINARY


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_movies_raise_no_alarm(name: str) -> None:
    movie = ordinary()[name]
    found = guarded(movie)
    assert found.off == 0, found
    assert found.sentence() is None
    dark = sum(frame.mean() < 101 < movie.mean() for frame in movie)  # shown as measured: nothing to compare
    assert found.checked == len(movie) - dark


@pytest.mark.parametrize("length", [5, 40])
def test_a_noise_estimate_a_hundred_times_too_small_is_said(length: int) -> None:
    movie = detected("gamma pulses", 0.2, length, shape=(64, 64))[2]
    right = estimate_intensity(movie)
    assert guarded(movie, intensity=right).off == 0
    wrong = right.model_copy(update={"scale": right.scale / 100})
    found = guarded(movie, intensity=wrong)
    assert found.off >= length // 2
    assert found.kind == "mean"
    assert found.largest > 0.1
    assert "not to be trusted" in (found.sentence() or "")


@pytest.mark.parametrize(
    ("factor", "shift", "kinds"),
    [(1.2, 0.0, {"contrast", "mean"}), (1.0, 1.0, {"mean"}), (1.0, -1.0, {"mean"})],
)
def test_a_bundle_that_scales_or_shifts_is_said(
    tmp_path: Path, factor: float, shift: float, kinds: set[str]
) -> None:
    bundle = changed_bundle(tmp_path / "changed.denoscope", factor=factor, shift=shift)
    found = guarded(counts(active_cells(64, photons=40)[1]), bundle)
    assert found.off >= 16
    assert found.kind in kinds
    assert found.first is not None
    assert found.last is not None
    assert 0 <= found.first < found.last < 64
    assert found.off <= found.last - found.first + 1 <= found.checked == 64


@pytest.mark.parametrize(
    ("backend", "dtype", "value"),
    [
        *(("onnxruntime-cpu", dtype, np.nan) for dtype in ("uint8", "uint16", "int16", "float32")),
        *(("openvino", dtype, np.nan) for dtype in ("uint8", "uint16", "int16", "float32")),
        ("onnxruntime-cpu", "uint16", np.inf),
        ("onnxruntime-cpu", "int16", -np.inf),
        ("openvino", "uint16", -np.inf),
    ],
)
def test_no_frame_comes_out_where_a_bundle_gives_no_numbers(
    tmp_path: Path, dtype: str, value: float, backend: str
) -> None:
    bundle = changed_bundle(tmp_path / "changed.denoscope", shift=value)
    movie = (cells(12) // 8).clip(0, 250).astype(dtype)
    with Stream(bundle, backend, threads=1, intensity=estimate_intensity(movie)) as stream:
        last = stream.look_ahead
        for number in range(last):
            assert not stream.push(movie[number], FrameMeta(number, 0.0))
        with pytest.raises(NotFinite, match=r"denoised frame 0 holds no numbers.*`backend`"):
            stream.push(movie[last], FrameMeta(last, 0.0))
        assert (stream.counters.emitted, stream.counters.in_flight) == (0, 0)


def test_pixels_far_outside_what_was_measured_are_said(tmp_path: Path) -> None:
    movie = cells(40)
    guard_of = []
    with Stream("live-fast", "onnxruntime-cpu", threads=1) as stream:
        guard = stream._guard  # private: no bundle that is at hand has single wrong pixels
        check = guard.check

        def checked(number: int, made: Movie) -> None:
            wrong = made.copy()
            wrong[::4, ::4][5, 5] = wrong[1::3, 1::3][5, 5] = 40_000
            wrong[5, 5] = wrong[11, 11] = 40_000
            guard_of.append(number)
            check(number, wrong)

        guard.check = checked  # type: ignore[method-assign]
        for number, frame in enumerate(movie):
            stream.push(frame, FrameMeta(number, 0.0))
        stream.flush()
    assert len(guard_of) == 40
    assert stream.guard.off >= 30


def test_two_findings_together() -> None:
    nothing, one = (
        GuardFinding(checked=10),
        GuardFinding(checked=20, off=9, first=4, last=15, largest=-0.2, kind="mean"),
    )
    assert nothing.and_of(nothing) == GuardFinding(checked=20)
    assert nothing.and_of(one) == one.and_of(nothing) == one.model_copy(update={"checked": 30})
    both = one.and_of(one.model_copy(update={"first": 2, "last": 30, "largest": 0.3}))
    assert (both.checked, both.off, both.first, both.last, both.largest) == (40, 18, 2, 30, 0.3)
    for size, said in (
        (-0.2, "up to 20% less"),
        (30.0, "up to 30 times more"),
        (-4e24, "more than 1000 times less"),
    ):
        assert f"show {said} light" in (one.model_copy(update={"largest": size}).sentence() or "")


@pytest.mark.parametrize(("factor", "more"), [(1.05, "more"), (0.95, "less"), (1.0, "")])
def test_five_percent_of_the_light_are_seen_although_cells_flash(factor: float, more: str) -> None:
    """Frame means of the measured movie vary by more than that; sums of sixteen frames do not lag behind them."""
    clean, noisy = active_cells(96)
    guard = Guard()
    for number, (frame, true) in enumerate(zip(counts(noisy), clean, strict=True)):
        guard.saw(number, frame)
        guard.look_until(guard.seen)
        guard.check(number, counts(100 + factor * (true - 100)))
    said = guard.finding.sentence()
    assert guard.finding.off == (96 if more else 0)
    assert (said is None) if not more else (said is not None and f"{more} light" in said)
