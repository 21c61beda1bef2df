"""UMVD: the published layer plan and filter, exact blindness, a reversible baseline, training that learns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from denoscope.runtime import InvalidInput, estimate_intensity
from denoscope.train import (
    TrainingMovie,
    Umvd,
    UmvdFitSettings,
    UmvdSettings,
    denoise_umvd,
    fit_umvd,
    running_baseline,
    temporal_weights,
)
from denoscope.train.networks.published.umvd import UmvdTask, next_baseline, response_gain

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = UmvdSettings(window=5, features=3, width=4, wide=6, head=8)
QUICK = UmvdFitSettings(steps=60, batch=4, crop=16, learning_rate=1e-2, seed=3)


def tiny_movie(frames: int = 24) -> TrainingMovie:
    rng = np.random.default_rng(0)
    scene = 20 + 60 * np.exp(-((np.indices((18, 22)) - 9) ** 2).sum(0) / 18)
    noisy = rng.poisson(np.broadcast_to(scene, (frames, 18, 22))).astype(np.uint16)
    return TrainingMovie("tiny", noisy, None, estimate_intensity(noisy))


def test_the_published_network_has_its_number_of_parameters() -> None:
    assert sum(p.numel() for p in Umvd(UmvdSettings(window=7)).parameters()) == 1_786_191


def test_the_linear_filter_is_the_slides() -> None:
    assert temporal_weights(7, level=1) == pytest.approx((1, 2 / 3, 1 / 3, 0, 1 / 3, 2 / 3, 1), abs=1e-15)


@pytest.mark.parametrize(
    ("window", "level", "kappa", "expected"),
    [
        (3, 1, 0.0, (1, 0, 1)),
        (5, 2, 0.0, (1, 0.75, 0, 0.75, 1)),
        (5, 1, 0.2, (1, 0.6, 0.2, 0.6, 1)),
        (7, 64, 0.0, (1, 1, 1, 0, 1, 1, 1)),
        (5, 1, 1.0, (1, 1, 1, 1, 1)),
    ],
)
def test_weights_by_hand(window: int, level: float, kappa: float, expected: tuple[float, ...]) -> None:
    assert temporal_weights(window, level, kappa) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("window", "level", "kappa"), [(4, 1, 0), (1, 1, 0), (5, 0, 0), (5, 1, 1.5)])
def test_impossible_filters_are_refused(window: int, level: float, kappa: float) -> None:
    with pytest.raises(InvalidInput):
        temporal_weights(window, level, kappa)


@pytest.mark.parametrize("window", [3, 5, 9])
@pytest.mark.parametrize("level", [1.0, 64.0])
@pytest.mark.parametrize("missing", [(), (0,), (-1, -2)], ids=["inside", "start", "end"])
def test_the_centre_has_no_influence(window: int, level: float, missing: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = Umvd(UmvdSettings(window=window, level=level, features=3, width=4, wide=6, head=8))
    frames = torch.rand(1, window, 16, 16, requires_grad=True)
    valid = torch.ones(1, window)
    for place in missing:
        if place % window != window // 2:
            valid[0, place] = 0
    network(frames, valid)[0, 0, 8, 8].backward()
    assert frames.grad is not None
    influence = frames.grad.abs().amax(dim=(0, 2, 3))
    assert influence[window // 2] == 0
    for place in range(window):
        if place != window // 2:
            assert (influence[place] > 0) == bool(valid[0, place])


def test_kappa_lets_the_centre_in() -> None:
    torch.manual_seed(0)
    network = Umvd(UmvdSettings(window=3, kappa=0.2, features=3, width=4, wide=6, head=8))
    frames = torch.rand(1, 3, 16, 16, requires_grad=True)
    network(frames, torch.ones(1, 3)).sum().backward()
    assert frames.grad is not None
    assert frames.grad[0, 1].abs().max() > 0


@pytest.mark.parametrize(("baseline_frames", "amplify"), [(None, 1.0), (4.0, 1.0), (4.0, 5.0)])
@pytest.mark.parametrize("target", [0, 1, 7, 15])
def test_a_whole_movie_is_blind_at_every_frame(
    baseline_frames: float | None, amplify: float, target: int
) -> None:
    torch.manual_seed(0)
    network = Umvd(
        UmvdSettings(
            window=5, features=3, width=4, wide=6, head=8, baseline_frames=baseline_frames, amplify=amplify
        )
    )
    movie = tiny_movie(16)
    before = denoise_umvd(network, movie.frames, movie.intensity)
    changed = movie.frames.copy()
    changed[target] += 100
    after = denoise_umvd(network, changed, movie.intensity)
    assert np.array_equal(before[target], after[target])
    assert not np.array_equal(before, after)


def test_the_baseline_by_hand_and_its_round_trip() -> None:
    frames = np.array([[[4.0]], [[8.0]]], np.float32)
    tau = -1 / np.log(0.5)  # half of every new frame
    assert running_baseline(frames, tau, 0.0)[0, 0] == pytest.approx(5.0)
    assert running_baseline(frames[:0], tau, 3.0)[0, 0] == 3.0
    one_by_one = next_baseline(next_baseline(np.zeros((1, 1), np.float32), frames[0], tau), frames[1], tau)
    assert np.array_equal(one_by_one, running_baseline(frames, tau, 0.0))


def test_the_baseline_is_undone_exactly() -> None:
    """A network that returns the frame before the centre gives back that frame's own counts."""

    class Previous(Umvd):
        def forward(self, window: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
            return window[:, 1:2]

    movie = tiny_movie()
    network = Previous(UmvdSettings(window=5, features=3, width=4, wide=6, head=8, baseline_frames=6.0))
    result = denoise_umvd(network, movie.frames, movie.intensity)
    np.testing.assert_allclose(result[1:], movie.frames[:-1], atol=1e-3)


@pytest.mark.parametrize("amplify", [1.0, 4.0])
def test_what_is_amplified_is_undone_exactly(amplify: float) -> None:
    """Features that pass a frame on, and a head that takes one neighbour, give back that neighbour's counts."""

    class Previous(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, 1:2] / 0.5  # its weight

    movie = tiny_movie()
    network = Umvd(UmvdSettings(window=5, features=1, baseline_frames=6.0, amplify=amplify))
    network.generator.forward = lambda frames: frames[:, :, None]  # type: ignore[method-assign]
    network.denoiser = Previous()  # type: ignore[assignment]
    result = denoise_umvd(network, movie.frames, movie.intensity)
    np.testing.assert_allclose(result[1:], movie.frames[:-1], atol=1e-2)


def test_the_response_is_amplified_and_the_background_is_not() -> None:
    window = torch.zeros(1, 5, 21, 21)
    window[0, :, 8:13, 8:13] = 3.0  # a cell that answers with three deviations of the noise
    window[0, 2] = 100.0  # the centre must not matter
    valid = torch.ones(1, 5)
    gain = response_gain(window, valid, 4.0)[0, 0]
    assert gain[10, 10].item() == pytest.approx(1 + 3 * 9 / 9.25)
    assert gain[0, 0].item() == 1.0
    assert response_gain(-window, valid, 4.0).max().item() == 1.0, "darker than the baseline is no response"
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 7, 64, 64)).astype(np.float32))
    assert response_gain(noise, torch.ones(1, 7), 4.0).mean().item() < 1.1
    valid[0, [0, 1]] = 0
    window[0, :2] = 1e6  # missing frames hold anything
    assert response_gain(window, valid, 4.0)[0, 0, 10, 10].item() == pytest.approx(1 + 3 * 9 / 9.25)


def test_the_network_and_the_loss_see_the_amplified_response() -> None:
    settings = UmvdSettings.one_photon(window=5, features=1, width=4, wide=4, head=4)
    assert (settings.baseline_frames, settings.amplify) == (100.0, 4.0)
    network, seen = Umvd(settings), []
    network.generator.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    window, valid = torch.zeros(1, 5, 16, 16), torch.ones(1, 5)
    window[0, :, 4:12, 4:12] = 3.0
    task = UmvdTask([tiny_movie()], QUICK, settings)
    loss, _ = task.loss(network, (window, valid))
    gain = response_gain(window, valid, 4.0)
    torch.testing.assert_close(seen[0], gain * window)
    error = (gain * (network(window, valid) - window[:, 2:3])).square().mean()
    assert loss.item() == pytest.approx(error.item())
    assert gain.max() > 3.9


@pytest.mark.parametrize("settings", [{"amplify": 4.0}, {"amplify": 0.5, "baseline_frames": 4.0}])
def test_an_impossible_amplification_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(InvalidInput, match="amplified by 1 or more"):
        UmvdSettings(**settings)


@pytest.mark.parametrize("baseline_frames", [None, 6.0])
def test_training_reduces_the_loss(baseline_frames: float | None) -> None:
    network = UmvdSettings(window=5, features=4, width=8, wide=8, head=16, baseline_frames=baseline_frames)
    result = fit_umvd([tiny_movie()], settings=replace(QUICK, hold_out=0), network=network)
    assert result.steps == 60
    assert result.losses[-1][1] < 0.8 * result.losses[0][1]


def test_training_is_decided_by_the_seed() -> None:
    quick = UmvdFitSettings(steps=5, batch=2, crop=16, seed=3)
    first, second = (fit_umvd([tiny_movie()], settings=quick, network=TINY).network for _ in range(2))
    other = fit_umvd(
        [tiny_movie()], settings=UmvdFitSettings(steps=5, batch=2, crop=16, seed=4), network=TINY
    ).network
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])
    assert any(not torch.equal(v, other.state_dict()[k]) for k, v in first.state_dict().items())


def test_minutes_end_the_training() -> None:
    result = fit_umvd([tiny_movie()], settings=UmvdFitSettings(minutes=0.005, batch=1, crop=16), network=TINY)
    assert result.steps > 0
    assert 0.3 <= result.seconds < 200


def test_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no movie"):
        fit_umvd([])
    with pytest.raises(InvalidInput, match="two frames"):
        fit_umvd([tiny_movie().part(0, 1)])
