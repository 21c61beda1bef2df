"""The slow part of a residual is put back where noise does not explain it; nothing else changes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import closing, nullcontext

import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import gaussian_filter

from denoscope.runtime import Denoised, FrameMeta, InvalidInput, SlowResidual, StageTimes, with_slow_residual
from denoscope.runtime.noise.noise import Intensity
from denoscope.runtime.window import temporary

FLOATS = npt.NDArray[np.float32]
NOISE = 10.0
INTENSITY = Intensity(offset=100.0, scale=NOISE, noise_slope=0.0, noise_floor=1.0)


def _scene(side: int = 48) -> FLOATS:
    """Return stripes of 8 pixels, 6 counts high: invisible in a frame, plain in 100."""
    return 500 + 6 * np.sin(np.arange(side) * 2 * np.pi / 8, dtype=np.float32) * np.ones(
        (side, 1), np.float32
    )


def _movie(length: int, scene: FLOATS) -> FLOATS:
    rng = np.random.default_rng(length)
    return scene + rng.normal(0, NOISE, (length, *scene.shape)).astype(np.float32)


def _output(frame: npt.NDArray[np.generic], number: int) -> Denoised:
    return Denoised(frame, None, FrameMeta(number, 0.0), StageTimes(0, 0, 0, 0, 0, 0))


def _put_back(
    measured: FLOATS, outputs: FLOATS, start: int = 0, in_memory: int = 10**9
) -> npt.NDArray[np.generic]:
    slow = SlowResidual(len(measured), INTENSITY, in_memory=in_memory)
    given = (_output(outputs[number], number) for number in range(slow.begin_at(start), len(measured)))
    done = list(with_slow_residual(given, slow, measured.__getitem__))
    assert [each.meta.number for each in done if each.meta.number >= start] == list(
        range(start, len(measured))
    )
    return np.stack([each.frame for each in done if each.meta.number >= start])


@pytest.mark.parametrize("length", [40, 300, 700])
def test_a_structure_that_every_frame_lacks_is_put_back(length: int) -> None:
    scene = _scene()
    smooth = np.full((length, *scene.shape), 500, np.float32)
    shown = _put_back(_movie(length, scene), smooth)
    lacking = float(np.square(smooth - scene).mean())
    assert float(np.square(shown - scene).mean()) < 0.2 * lacking
    # In whole counts the same, where it is more than one.
    counts = _put_back(_movie(length, scene), smooth.astype(np.uint16))
    assert counts.dtype == np.uint16
    assert float(np.square(counts - scene).mean()) < 0.25 * lacking


def test_nothing_is_put_back_where_noise_explains_the_residual() -> None:
    scene = np.full((48, 48), 500, np.float32)
    outputs = np.repeat(scene[None], 300, axis=0)
    for length in (40, 300):
        shown = _put_back(_movie(length, scene), outputs[:length])
        # A network's outputs contain some of the slow noise, and these none; even so hardly any is added.
        assert float(np.square(shown - scene).mean()) < 0.001 * NOISE**2
        counts = outputs[:length].astype(np.uint16)
        assert np.array_equal(_put_back(_movie(length, scene), counts), counts)


def test_what_pixels_are_unequal_by_is_not_put_back() -> None:
    scene = np.full((48, 48), 500, np.float32)
    pattern = np.random.default_rng(1).normal(0, 4, scene.shape).astype(np.float32)
    outputs = np.repeat(scene[None], 60, axis=0)
    shown = _put_back(_movie(60, scene) + pattern, outputs)
    assert float(np.square(shown - scene).mean()) < 0.05 * 4**2


def test_a_strong_pattern_is_not_put_back_where_the_outputs_hold_less_of_it_than_of_noise() -> None:
    scene = np.full((48, 48), 500, np.float32)
    pattern = np.random.default_rng(1).normal(0, 6, scene.shape).astype(np.float32)
    measured = _movie(120, scene) + pattern
    outputs = np.repeat(scene[None] + 0.2 * gaussian_filter(pattern, 2), 120, axis=0)
    shown = _put_back(measured, outputs)
    before, after = (float(np.square(each - scene).mean()) for each in (outputs, shown))
    assert after < before + 1e-4 * NOISE**2


def test_a_structure_that_moves_is_left_to_the_network() -> None:
    scene = _scene()
    moving = np.stack([np.roll(scene, shift, axis=1) for shift in range(64)])
    noise = _movie(64, np.zeros_like(scene))
    smooth = np.full_like(moving, 500)
    shown = _put_back(moving + noise, smooth)
    before, after = (float(np.square(each - moving).mean()) for each in (smooth, shown))
    assert after <= 1.02 * before


def test_measured_saturated_and_missing_pixels_stay() -> None:
    scene = _scene()
    measured = _movie(40, scene)
    measured[:, 3, 4:9] = np.nan
    outputs = np.full_like(measured, 500)
    outputs[:, 3, 4:9] = np.nan
    outputs[7] = measured[7]
    shown = _put_back(measured, outputs)
    assert np.array_equal(shown[7], measured[7], equal_nan=True)
    assert np.isnan(shown[:, 3, 4:9]).all()
    assert np.isnan(shown).sum() == 40 * 5

    counts = np.clip(np.rint(np.nan_to_num(_movie(40, scene), nan=500)), 0, 4095).astype(np.uint16)
    counts[:, 20:30, 20:30] = 4095
    filled = np.full_like(counts, 500)
    filled[:, 20:30, 20:30] = 4095
    filled[:, 25, 25] = 5000  # a network may well say more than the camera could
    assert (_put_back(counts, filled)[:, 25, 25] == 5000).all()


def test_outputs_from_the_middle_on_have_the_same_bits() -> None:
    scene = _scene(24)
    measured = _movie(700, scene)
    outputs = np.full_like(measured, 500)
    whole = _put_back(measured, outputs)
    for start in (1, 255, 256, 430, 699):
        assert np.array_equal(_put_back(measured, outputs, start), whole[start:]), start


def test_outputs_that_wait_on_the_disk_have_the_same_bits() -> None:
    scene = _scene(24)
    measured = _movie(300, scene)
    outputs = np.full_like(measured, 500)
    assert np.array_equal(_put_back(measured, outputs, in_memory=50_000), _put_back(measured, outputs))


def test_a_full_temporary_folder_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> object:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(temporary.tempfile, "TemporaryFile", full)
    with pytest.raises(InvalidInput, match="temporary folder"):
        _put_back(_movie(20, _scene(24)), np.full((20, 24, 24), 500, np.float32), in_memory=0)


def test_a_temporary_folder_that_fills_later_is_said_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def flush(self) -> None:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            super().close()
            self.flush()

    monkeypatch.setattr(temporary.tempfile, "TemporaryFile", lambda **_: Full())
    slow = SlowResidual(20, INTENSITY, in_memory=0)
    with pytest.raises(InvalidInput, match="temporary folder"):
        slow.take(_scene(24), _output(_scene(24), 0))
    slow.close()


@pytest.mark.parametrize("ends", ["error", "left"])
def test_the_temporary_file_is_closed_whatever_ends_the_movie(
    ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows removes no file that is open."""
    file = io.BytesIO()
    monkeypatch.setattr(temporary.tempfile, "TemporaryFile", lambda **_: file)
    scene = _scene(24)

    def outputs() -> Iterator[Denoised]:
        for number in range(20):
            yield _output(scene, number)
        if ends == "error":
            raise KeyboardInterrupt

    slow = SlowResidual(20 if ends == "left" else 40, INTENSITY, in_memory=0)
    done = with_slow_residual(outputs(), slow, lambda _: scene)
    with closing(done), pytest.raises(KeyboardInterrupt) if ends == "error" else nullcontext():
        next(done)
    assert file.closed


def _with_factors(
    factors: list[float], measured: npt.NDArray[np.generic], shown: npt.NDArray[np.generic]
) -> list[Denoised]:
    """Return what becomes of outputs whose deviations are their factor."""
    outputs = (
        Denoised(
            frame.copy(),
            np.full(frame.shape, factor, np.float32),
            FrameMeta(number, 0.0),
            StageTimes(0, 0, 0, 0, 0, 0),
            factor,
        )
        for number, (frame, factor) in enumerate(zip(shown, factors, strict=True))
    )
    slow = SlowResidual(len(measured), INTENSITY)
    return list(with_slow_residual(outputs, slow, measured.__getitem__))


def test_outputs_that_wait_leave_with_the_factor_that_the_movie_has_shown_by_then() -> None:
    scene = np.full((32, 32), 500, np.float32)
    measured = np.rint(_movie(40, scene)).astype(np.uint16)
    measured[3, 0, 0] = 65535  # saturated
    shown = np.repeat(scene[None], 40, axis=0).astype(np.uint16)
    shown[7] = measured[7]  # shown as measured
    factors = [float(factor) for factor in np.linspace(1.0, 1.5, 40, dtype=np.float32)]
    factors[7] = 1.0
    done = _with_factors(factors, measured, shown)
    for number, output in enumerate(done):
        assert output.std is not None
        wanted = 1.0 if number == 7 else 1.5
        assert output.deviation_factor == wanted
        np.testing.assert_allclose(output.std[8:], wanted, rtol=1e-6)
        np.testing.assert_allclose(output.std[0, 0], factors[3] if number == 3 else wanted, rtol=1e-6)


def test_a_factor_that_comes_and_goes_is_of_the_same_scene() -> None:
    scene = np.full((32, 32), 500, np.float32)
    factors = [1.0, 1.02, 1.0, 1.0] * 4 + [1.2] * 4
    done = _with_factors(factors, _movie(20, scene), np.repeat(scene[None], 20, axis=0))
    assert {output.deviation_factor for output in done} == {1.2}


def test_the_factor_of_a_scene_is_not_that_of_the_next_one() -> None:
    scene = np.full((32, 32), 500, np.float32)
    done = _with_factors(
        [1.1] * 5 + [1.4] * 9 + [1.0] * 6, _movie(20, scene), np.repeat(scene[None], 20, axis=0)
    )
    assert [output.deviation_factor for output in done] == [1.4] * 14 + [1.0] * 6
