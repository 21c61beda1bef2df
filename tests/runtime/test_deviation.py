"""The factor of the predicted deviations: 1 for noise, more for a picture that lies beside the scene."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from denoscope.runtime import FrameMeta, Intensity, Stream
from denoscope.runtime.stream.residuals.deviation import DeviationFactor, rows_of
from support.tiny_bundle import tiny_bundle

UNIT = Intensity(offset=0.0, scale=10.0, noise_slope=0.1, noise_floor=0.1)
SHAPE = (70, 100)


def scene(shift: float = 0.0) -> npt.NDArray[np.float32]:
    rows, columns = np.indices(SHAPE)
    made = 200 + 60 * np.sin((rows + shift) / 3) * np.cos((columns - shift) / 4)
    return np.asarray(made, np.float32)


def learned(shift: float, frames: int, std: float = 2.0, seed: int = 3) -> DeviationFactor:
    """Return what is learned from pictures that lie beside the scene by up to `shift` pixels, each in its own way."""
    rng, found = np.random.default_rng(seed), DeviationFactor()
    truth = scene()
    sigma = 10.0 * np.sqrt(0.1 * truth / 10.0 + 1)
    for number in range(frames):
        measured = (truth + rng.normal(0, 1, SHAPE) * sigma).astype(np.float32)
        rows = rows_of(number, measured)
        assert rows is not None
        found.learn(rows, scene(shift * rng.choice([-1, 1])), np.full(SHAPE, std, np.float32), UNIT)
    return found


def test_noise_alone_changes_no_deviation() -> None:
    assert learned(0.0, 80).factor == pytest.approx(1, abs=0.04)


def test_what_the_noise_of_a_few_frames_shows_by_chance_does_not_count() -> None:
    factors = [learned(0.0, 12, std=1.0, seed=seed).factor for seed in range(20)]
    assert 1 <= np.mean(factors) < 1.01


def test_a_wrong_picture_makes_the_deviation_no_larger_than_it_may() -> None:
    assert learned(2.0, 40, std=1.0).factor == 1.6


def test_a_picture_beside_the_scene_makes_the_deviation_larger() -> None:
    factors = [learned(0.2, frames, std=4.0).factor for frames in (0, 1, 40)]
    assert factors[0] == 1
    assert factors[1] < 1.1, "a single frame says little"
    assert 1.2 < factors[2] < 1.6


def test_what_lies_within_a_large_deviation_changes_nothing() -> None:
    assert learned(0.1, 60, std=15.0).factor < 1.05


def test_another_scene_begins_anew_and_numbers_that_are_none_are_passed_over() -> None:
    found = learned(0.5, 20)
    before = found.factor
    rows = rows_of(0, np.full(SHAPE, np.nan, np.float32))
    assert rows is not None
    found.learn(rows, scene(), np.ones(SHAPE, np.float32), UNIT)
    assert found.factor == before > 1
    found.restart()
    assert found.factor == 1


def test_all_rows_of_a_large_frame_take_their_turn() -> None:
    frame = np.zeros((512, 512), np.uint16)
    taken = [rows_of(number, frame) for number in range(16)]
    seen = sorted(rows[0].start for rows in taken if rows is not None)
    assert seen == list(range(0, 512, 32))
    of_uneven = [rows_of(number, frame[:136, :136]) for number in range(4)]
    assert {row for rows in of_uneven if rows for row in range(rows[0].start, rows[0].stop)} == set(
        range(128)
    )
    assert rows_of(0, frame[:20]) is None


def test_outputs_tell_the_factor_that_is_in_their_deviation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tiny_bundle(tmp_path / "b.denoscope")
    movie = np.random.default_rng(1).poisson(200, (12, *SHAPE)).astype(np.uint16)

    def outputs() -> dict[int, Any]:
        with Stream(bundle, std=True, align=True, intensity=UNIT) as stream:
            pushed = [stream.push(frame, FrameMeta(n, n / 30)) for n, frame in enumerate(movie)]
        return {output.meta.number: output for each in pushed for output in each}

    def grows(self: DeviationFactor, *_: object) -> None:
        self.factor += 0.125

    monkeypatch.setattr(DeviationFactor, "learn", lambda *_: None)
    plain = outputs()
    monkeypatch.setattr(DeviationFactor, "learn", grows)
    found = outputs()
    assert {output.deviation_factor for output in plain.values()} == {1.0}
    assert [found[n].deviation_factor for n in sorted(found)] == [1.125 + 0.125 * n for n in sorted(found)]
    for number, output in found.items():
        np.testing.assert_allclose(output.std, plain[number].std * output.deviation_factor, rtol=1e-6)
