"""The `live` network keeps its contract: blind, split equals whole, any look-ahead, linear in scale."""

from __future__ import annotations

import pytest
import torch

from denoscope.train import LiveNet, LiveSettings

NOISE = torch.tensor([0.3, 0.2])
SMALL = {"encode_channels": 4, "encode_width": 6, "trunk_width": 8, "deep_width": 8, "spatial_channels": 3}


def network(**changes: object) -> LiveNet:
    torch.manual_seed(3)
    net = LiveNet(LiveSettings(**{**SMALL, **changes}))  # type: ignore[arg-type]
    with torch.no_grad():  # leave the flat start, so that every path carries signal
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net.eval()


def split_outputs(
    net: LiveNet, movie: torch.Tensor, centre: int, ahead: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Denoise one frame of a movie (T, H, W) the streaming way."""
    n, half = net.settings.window, net.settings.window // 2
    features = [net.encode(frame[None, None], NOISE) for frame in movie]
    memory = torch.zeros(1, net.settings.memory_channels, *features[0].shape[2:])
    weight = torch.zeros(len(net.settings.memory_decay))
    for past in features[: max(0, centre - half)]:
        memory, weight = net.remember(past, memory, weight)
    window, valid = [], torch.zeros(n)
    for i in range(n):
        index = centre + i - half
        valid[i] = float(0 <= index < len(movie) and index <= centre + ahead)
        window.append(features[index] if valid[i] else torch.zeros_like(features[0]))
    return net.fuse(window, valid, memory, weight, NOISE)


@pytest.mark.parametrize("window", [3, 5, 7, 11, 15])
@pytest.mark.parametrize("centre", [0, 1, 9, 19])
def test_split_equals_whole_window(window: int, centre: int) -> None:
    net = network(window=window, look_ahead=window // 2)
    movie = torch.randn(20, 20, 28) * 3
    half = window // 2
    mean, std = split_outputs(net, movie, centre, half)
    frames = torch.zeros(1, window, 20, 28)
    valid = torch.zeros(window)
    for i in range(window):
        if 0 <= centre + i - half < 20:
            frames[0, i], valid[i] = movie[centre + i - half], 1
    whole = net(frames, valid, movie[None, : max(0, centre - half)], NOISE)
    torch.testing.assert_close(mean, whole.mean, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(std, whole.variance.sqrt(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pixel", [(0, 0), (9, 10), (10, 9), (19, 27)])
@pytest.mark.parametrize(
    "present", [(1,) * 7, (0, 0, 0, 1, 1, 1, 1), (1, 1, 1, 1, 0, 0, 0), (0,) * 3 + (1,) + (0,) * 3]
)
def test_target_pixel_has_no_influence_on_the_blind_prediction(
    pixel: tuple[int, int], present: tuple[int, ...]
) -> None:
    net = network()
    window = torch.randn(1, 7, 20, 28, requires_grad=True)
    past = torch.randn(1, 5, 20, 28)
    prediction = net(window, torch.tensor(present, dtype=torch.float32), past, NOISE)
    y, x = pixel
    for blind in (prediction.blind_mean, prediction.blind_variance, prediction.noise_variance):
        (gradient,) = torch.autograd.grad(blind[0, 0, y, x], window, retain_graph=True)
        assert gradient[0, 3, y, x] == 0
        assert gradient.abs().sum() > 0
    (gradient,) = torch.autograd.grad(prediction.mean[0, 0, y, x], window)
    assert gradient[0, 3, y, x] > 0, "the posterior does use the measurement"


def test_pixels_that_bleed_into_the_target_are_hidden_too() -> None:
    net = network()
    window = torch.randn(1, 7, 20, 28, requires_grad=True)
    prediction = net(window, torch.ones(7), torch.zeros(1, 0, 20, 28), NOISE)
    (gradient,) = torch.autograd.grad(prediction.blind_mean[0, 0, 10, 14], window)
    assert (gradient[0, 3, 10, 13:16] == 0).all()
    assert (gradient[0, 3, 8:13, 14] != 0).any(), "rows above and below are used"


def test_missing_frames_may_hold_anything() -> None:
    net = network()
    valid = torch.tensor([1.0, 0, 1, 1, 1, 0, 0])
    window = torch.randn(1, 7, 16, 16)
    other = torch.where(valid.view(1, 7, 1, 1) > 0, window, torch.full_like(window, 50.0))
    past = torch.randn(1, 3, 16, 16)
    first, second = net(window, valid, past, NOISE), net(other, valid, past, NOISE)
    torch.testing.assert_close(first.mean, second.mean, atol=0, rtol=0)


def test_memory_is_the_exponential_average_of_what_left_the_window() -> None:
    net = network(memory_decay=(2.0, 9.0))
    past = torch.randn(1, 30, 8, 8)
    memory, weight = torch.zeros(1, 8, 4, 4), torch.zeros(2)
    for index in range(30):
        memory, weight = net.remember(net.encode(past[:, index : index + 1], NOISE), memory, weight)
    expected, expected_weight = net.memory_of(past)
    torch.testing.assert_close(memory, expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(weight, expected_weight[0], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(weight, 1 - torch.exp(-30 / torch.tensor([2.0, 9.0])), atol=1e-6, rtol=1e-5)


def test_an_exact_measurement_is_kept() -> None:
    """Where the camera adds no noise the posterior is the measurement itself."""
    net = network()
    window = torch.randn(1, 7, 16, 16)
    prediction = net(window, torch.ones(7), torch.randn(1, 3, 16, 16), torch.tensor([0.0, 1.0]))
    exact = prediction.blind_variance / (prediction.blind_variance + prediction.noise_variance)
    expected = prediction.blind_mean + exact * (window[:, 3:4] - prediction.blind_mean)
    torch.testing.assert_close(prediction.mean, expected)
    assert (prediction.variance < prediction.noise_variance).all()
    assert (prediction.variance < prediction.blind_variance).all()


def test_an_even_window_is_refused() -> None:
    with pytest.raises(ValueError, match="window 6 with look-ahead 3"):
        LiveNet(LiveSettings(window=6))
