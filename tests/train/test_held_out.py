"""The truer of two bundles, found by frames that neither has seen."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from denoscope.runtime import Bundle
from denoscope.train.evaluation import held_out
from denoscope.train.evaluation.held_out import compare_held_out, outputs_beside
from denoscope.train.evaluation.records import HeldOutRecord
from support.tiny_bundle import tiny_bundle

SHAPE = (60, 32, 40)
BACKEND = "onnxruntime-cpu"


@pytest.fixture(scope="module")
def scene() -> npt.NDArray[np.float64]:
    rows, columns = np.indices(SHAPE[1:])
    return 120 + 60 * np.sin(rows / 5) * np.cos(columns / 7)


@pytest.fixture(scope="module")
def noisy(scene: npt.NDArray[np.float64]) -> npt.NDArray[np.uint16]:
    return np.random.default_rng(3).poisson(scene, SHAPE).astype(np.uint16)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    """One that averages a window of three frames, and one that knows both sides of time."""
    folder = tmp_path_factory.mktemp("bundles")
    common = {"intensity": None, "calibration_frames": 8}
    return [
        tiny_bundle(folder / "three.denoscope", name="three", window=3, **common),
        tiny_bundle(folder / "both.denoscope", name="both", two_sided=True, **common),
    ]


@pytest.fixture(scope="module")
def made(noisy: npt.NDArray[np.uint16], bundles: list[Bundle]) -> list[dict[int, npt.NDArray[np.float32]]]:
    return [outputs_beside(noisy, bundle, backend=BACKEND) for bundle in bundles]


def test_the_difference_is_that_of_the_distances_to_the_truth(
    scene: npt.NDArray[np.float64],
    noisy: npt.NDArray[np.uint16],
    bundles: list[Bundle],
    made: list[dict[int, npt.NDArray[np.float32]]],
) -> None:
    three, both = (np.mean([np.square(each - scene).mean() for each in outs.values()]) for outs in made)
    true = float((three - both) / np.square(noisy - scene).mean())
    (found,) = compare_held_out(noisy, bundles, backend=BACKEND)
    assert (found.bundle, found.than, found.frames) == ("both", "three", len(made[0]))
    assert abs(true) > 4 * found.error
    assert found.gain == pytest.approx(true, abs=4 * found.error + 0.02 * abs(true))
    assert found.truer is (true > 0)


def test_a_frame_left_out_is_in_no_output(
    noisy: npt.NDArray[np.uint16], bundles: list[Bundle], made: list[dict[int, npt.NDArray[np.float32]]]
) -> None:
    other = noisy.copy()
    other[list(made[1])] = 7
    after = outputs_beside(other, bundles[1], backend=BACKEND)
    assert after.keys() == made[1].keys()
    for number, outs in after.items():
        np.testing.assert_array_equal(outs, made[1][number])


def test_a_bundle_is_not_told_from_its_own_kind(noisy: npt.NDArray[np.uint16], bundles: list[Bundle]) -> None:
    assert compare_held_out(noisy[:59], bundles) == []
    assert compare_held_out(noisy, bundles[:1]) == []
    same = HeldOutRecord(bundle="b", than="a", gain=0.0011, error=0.0006, frames=9)
    assert same.truer is None
    assert same.sentence() == (
        "b and a are equally close to the truth, as far as can be told: on 9 frames that were left out their squared "
        "errors differ by 0.11% ± 0.06% of the noise's variance"
    )
    twice = HeldOutRecord(bundle="a (2)", than="a", gain=0.0, error=0.0, frames=9)
    assert twice.truer is None
    worse = HeldOutRecord(bundle="b", than="a", gain=-0.004, error=0.001, frames=9)
    assert worse.truer is False
    assert worse.sentence() == (
        "a is closer to the truth than b: on 9 frames that were left out its squared error is smaller by 0.40% ± 0.10% "
        "of the noise's variance"
    )


def test_a_movie_without_noise_tells_nothing_apart(
    bundles: list[Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    same = np.full(SHAPE, 100, np.uint16)
    outputs = {n: np.full(SHAPE[1:], 100, np.float32) for n in range(8, 52, 6)}
    monkeypatch.setattr(held_out, "outputs_beside", lambda *_args, **_named: outputs)
    assert compare_held_out(same, bundles) == []


def test_the_progress_goes_over_all_bundles(noisy: npt.NDArray[np.uint16], bundles: list[Bundle]) -> None:
    shares: list[float] = []
    compare_held_out(noisy, bundles, backend=BACKEND, on_share=shares.append)
    assert shares == sorted(shares)
    assert (len(shares) > 2 * (len(noisy) // 2), shares[-1]) == (True, 1)
