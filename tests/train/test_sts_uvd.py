"""STS-UVD: kappa, sampling and losses by hand, a blind fusion, flows that are refined, training that learns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from denoscope.runtime import InvalidInput, estimate_intensity
from denoscope.train import (
    StsUvd,
    StsUvdFitSettings,
    StsUvdSettings,
    TrainingMovie,
    denoise_sts_uvd,
    fit_sts_uvd,
)
from denoscope.train.flow.warp import warp
from denoscope.train.networks.published.sts_uvd import (
    consistency_loss,
    estimate_flows,
    first_kappa,
    kappa_at,
    replace_pixels,
    spatial_probabilities,
)
from denoscope.train.networks.published.sts_uvd_task import is_plateau  # the rule alone

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = StsUvdSettings(window=5, features=4, width=8, wide=8, head=16)
QUICK = StsUvdFitSettings(epochs=2, steps_per_epoch=40, crop=16, learning_rate=1e-2, seed=3)


def tiny_movie(frames: int = 12) -> TrainingMovie:
    """A spot that moves by half a pixel a frame along the columns."""
    rng = np.random.default_rng(0)
    rows, columns = np.indices((18, 22))
    scene = [20 + 60 * np.exp(-((rows - 9) ** 2 + (columns - 6 - t / 2) ** 2) / 18) for t in range(frames)]
    noisy = rng.poisson(np.stack(scene)).astype(np.uint16)
    return TrainingMovie("tiny", noisy, None, estimate_intensity(noisy))


def test_kappa_by_hand() -> None:
    assert first_kappa(0.0, 1.0) == 0
    assert first_kappa(np.log(2), 1.0) == pytest.approx(0.1)
    assert first_kappa(1e9, 1.0) == pytest.approx(0.2)
    assert [kappa_at(0.2, e / 4) for e in range(5)] == pytest.approx([0.2, 0.15, 0.1, 0.05, 0])
    assert kappa_at(0.2, 1.5) == 0


def test_spatial_probabilities_by_hand() -> None:
    offsets, probability = spatial_probabilities(1, np.log(2))  # 4 at distance 1: 1/2; 4 at distance 2: 1/4
    near = np.abs(offsets).sum(1) == 1
    assert len(offsets) == 8
    assert probability[near] == pytest.approx(1 / 6)
    assert probability[~near] == pytest.approx(1 / 12)


def test_replaced_pixels_come_from_the_window_and_near_ones_more_often() -> None:
    frame = np.arange(900, dtype=np.float32).reshape(1, 30, 30)
    sampled = replace_pixels(frame, 1.0, 2, 1.0, np.random.default_rng(0))[0].astype(int)
    distance = np.abs(sampled // 30 - np.indices((30, 30))[0]) + np.abs(
        sampled % 30 - np.indices((30, 30))[1]
    )
    assert distance.min() == 1
    assert max(np.abs(sampled // 30 - np.indices((30, 30))[0]).max(), 0) <= 2
    inner = distance[2:-2, 2:-2]
    offsets, probability = spatial_probabilities(2, 1.0)
    expected = probability[np.abs(offsets).sum(1) == 1].sum()
    assert np.mean(inner == 1) == pytest.approx(expected, abs=0.05)
    kept = replace_pixels(frame, 0.0, 2, 1.0, np.random.default_rng(0))
    assert np.array_equal(kept, frame)


def test_warp_moves_whole_pixels() -> None:
    image = torch.arange(20.0).view(1, 1, 4, 5)
    flow = torch.zeros(1, 2, 4, 5)
    flow[:, 1] = 1
    torch.testing.assert_close(warp(image, flow)[..., :-1], image[..., 1:])
    torch.testing.assert_close(warp(image, torch.zeros_like(flow)), image)


def test_consistency_loss_by_hand() -> None:
    frames = torch.stack([torch.full((4, 4), v) for v in (0.0, 1.0, 3.0)])[None]
    assert float(consistency_loss(frames, torch.zeros(1, 2, 2, 4, 4))) == pytest.approx((1 + 4) / 3)


def test_flows_compose_along_the_window() -> None:
    movie = tiny_movie(6)

    def half_a_pixel(target: np.ndarray, source: np.ndarray) -> np.ndarray:
        flow = np.zeros((2, *target.shape), np.float32)
        flow[1] = 0.5 if source.sum() >= target.sum() else -0.5
        return flow

    brighter = np.arange(6, dtype=np.float32)[:, None, None] + movie.frames * 0
    flows = estimate_flows(brighter, half_a_pixel)
    leading = flows.to_centre(2, 5)
    assert leading[:, 1, 5, 5].tolist() == pytest.approx([-1.0, -0.5, 0.0, 0.5, 1.0])
    assert leading[:, 0].abs().max() == 0
    assert flows.to_centre(0, 5)[:2].abs().max() == 0


def test_the_default_estimator_finds_the_motion() -> None:
    rng = np.random.default_rng(0)
    texture = np.cumsum(np.cumsum(rng.normal(size=(48, 52)), 0), 1).astype(np.float32)
    flows = estimate_flows(np.stack([texture[:, :48], texture[:, 1:49]]))  # moves left by a pixel
    assert np.median(flows.from_next[0, 1]) == pytest.approx(-1, abs=0.25)
    assert np.median(flows.from_previous[0, 1]) == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize("missing", [(), (0, 1), (3, 4)], ids=["inside", "start", "end"])
def test_for_given_flows_the_centre_has_no_influence(missing: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = StsUvd(TINY)
    frames = torch.rand(1, 5, 16, 16, requires_grad=True)
    flows = torch.randn(1, 5, 2, 16, 16)
    valid = torch.ones(1, 5)
    valid[0, list(missing)] = 0
    network(frames, valid, flows).sum().backward()
    assert frames.grad is not None
    influence = frames.grad.abs().amax(dim=(0, 2, 3))
    assert influence[2] == 0
    assert [bool(v > 0) for v in influence] == [i != 2 and i not in missing for i in range(5)]


def test_kappa_lets_the_centre_into_the_gate_and_the_candidate() -> None:
    torch.manual_seed(0)
    frames = torch.rand(1, 5, 16, 16, requires_grad=True)
    StsUvd(TINY)(frames, torch.ones(1, 5), torch.zeros(1, 5, 2, 16, 16), kappa=0.1).sum().backward()
    assert frames.grad is not None
    assert frames.grad[0, 2].abs().max() > 0


@pytest.mark.parametrize("target", [0, 1, 5, 11])
def test_a_whole_movie_is_blind_for_given_flows(target: int) -> None:
    torch.manual_seed(0)
    network, movie = StsUvd(TINY), tiny_movie()
    flows = estimate_flows(movie.frames)
    before = denoise_sts_uvd(network, movie.frames, movie.intensity, flows=flows)
    changed = movie.frames.copy()
    changed[target] += 100
    after = denoise_sts_uvd(network, changed, movie.intensity, flows=flows)
    assert np.array_equal(before[target], after[target])
    assert not np.array_equal(before, after)


def test_training_learns_and_refines_the_flows_once_an_epoch() -> None:
    calls: list[float] = []

    def still(target: np.ndarray, source: np.ndarray) -> np.ndarray:
        calls.append(float(target.std()))
        return np.zeros((2, *target.shape), np.float32)

    movie = tiny_movie()
    result = fit_sts_uvd([movie], settings=replace(QUICK, steps_per_epoch=25), network=TINY, estimator=still)
    assert result.steps == 50
    assert result.losses[-1][1] < 0.8 * result.losses[0][1]
    assert len(result.consistency) == 2
    assert len(calls) == 2 * 22  # before the first epoch from noisy frames, after it from denoised ones
    assert result.kappa_0 == 0
    denoised = denoise_sts_uvd(result.network, movie.frames, movie.intensity)
    assert denoised.shape == movie.frames.shape
    assert np.isfinite(denoised).all()


def test_training_is_decided_by_the_seed() -> None:
    quick = StsUvdFitSettings(epochs=2, steps_per_epoch=2, crop=16, seed=3)
    first, second = (fit_sts_uvd([tiny_movie(6)], settings=quick, network=TINY) for _ in range(2))
    assert 0 < first.kappa_0 < 0.2
    for name, value in first.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name])


def test_a_plateau_ends_the_training() -> None:
    assert not is_plateau([1.0, 0.9, 0.8], 3)
    assert not is_plateau([1.0, 1.0, 1.0, 0.5], 3)
    assert is_plateau([1.0, 0.995, 0.993, 0.992], 3)


def test_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no movie"):
        fit_sts_uvd([])


@pytest.mark.slow
def test_the_median_becomes_the_mean() -> None:
    """Photon noise of about a photon: L1 alone stays far below the mean, the line brings the output onto it."""
    rng = np.random.default_rng(1)
    scene = np.broadcast_to(0.8 + 1.6 * (np.indices((24, 24))[1] > 11), (40, 24, 24))
    noisy = (10 * rng.poisson(scene)).astype(np.uint16)
    movie = TrainingMovie("dim", noisy, None, estimate_intensity(noisy))
    settings = replace(QUICK, steps_per_epoch=60, crop=24)
    result = fit_sts_uvd([movie], settings=settings, network=TINY)
    assert result.warning() is None
    assert tuple(result.network.get_buffer("to_mean").tolist()) == pytest.approx(result.to_mean)

    def shift() -> float:
        denoised = denoise_sts_uvd(result.network, noisy, movie.intensity, flows=result.flows[0])
        return abs(float(denoised.mean()) - 10 * scene.mean())

    as_mean = shift()
    result.network.get_buffer("to_mean").copy_(torch.tensor([1.0, 0.0]))
    assert as_mean < 0.4 < 1.2 < shift()


def test_an_output_that_does_not_follow_the_scene_is_told() -> None:
    rng = np.random.default_rng(2)
    noisy = rng.poisson(np.full((20, 24, 24), 0.1)).astype(np.uint16)
    movie = TrainingMovie("dark", noisy, None, estimate_intensity(noisy))
    result = fit_sts_uvd([movie], settings=replace(QUICK, epochs=1), network=TINY)
    warning = result.warning()
    assert warning is not None
    assert "median" in warning
