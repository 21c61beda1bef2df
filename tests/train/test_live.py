"""The `live` network keeps its contract: blind, split equals whole, any look-ahead, linear in scale."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from denoscope.runtime import Intensity, InvalidInput
from denoscope.train import BLIND_SPOTS, SIZES, LiveNet, LiveNetSettings, denoise_reference
from denoscope.train.networks.live.task import interval_loss

NOISE = torch.tensor([0.3, 0.2])
SMALL = {"encode_channels": 4, "encode_width": 6, "trunk_width": 8, "deep_width": 8, "spatial_channels": 3}
TWO_STAGES = {**SMALL, "second_width": 4}


def network(**changes: object) -> LiveNet:
    torch.manual_seed(3)
    net = LiveNet(LiveNetSettings(**{**TWO_STAGES, **changes}))  # type: ignore[arg-type]
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


def hidden_pixels(**changes: object) -> torch.Tensor:
    """Pixels of the centre frame that have no influence on the blind prediction of pixel (20, 20)."""
    net = network(**changes)
    window = torch.randn(1, 7, 40, 40, requires_grad=True)
    prediction = net(window, torch.ones(7), torch.zeros(1, 0, 40, 40), NOISE)
    (gradient,) = torch.autograd.grad(prediction.blind_mean[0, 0, 20, 20], window)
    return gradient[0, 3] == 0


@pytest.mark.parametrize("blind_spot", BLIND_SPOTS)
def test_the_blind_spot_hides_what_shares_the_targets_noise(blind_spot: str) -> None:
    hidden = hidden_pixels(blind_spot=blind_spot)
    assert hidden[20:22, 20:22].all(), "the target's cell"
    assert not hidden[12:30, 12:30].all(), "something around the target is used"
    beside, above = hidden[20, [19, 22]], hidden[[19, 22], 20]
    assert beside.all() == (blind_spot in ("bleed", "row", "neighbours"))
    assert above.all() == (blind_spot == "neighbours")
    assert hidden[20, [15, 16, 24, 25]].all() == (blind_spot == "row"), "cells two steps along the row"


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
    """The posterior is the measurement itself if the camera adds no noise."""
    net = network(calibrated=False, second_width=0)
    window = torch.randn(1, 7, 16, 16)
    prediction = net(window, torch.ones(7), torch.randn(1, 3, 16, 16), torch.tensor([0.0, 1.0]))
    exact = prediction.blind_variance / (prediction.blind_variance + prediction.noise_variance)
    expected = prediction.blind_mean + exact * (window[:, 3:4] - prediction.blind_mean)
    torch.testing.assert_close(prediction.mean, expected)
    assert (prediction.variance < prediction.noise_variance).all()
    assert (prediction.variance < prediction.blind_variance).all()


def test_intervals_hold_their_shares_whatever_the_tails() -> None:
    """The deviation with the least loss is what 68 % and 95 % of the errors ask for, not their root mean square."""
    torch.manual_seed(0)
    error = torch.distributions.StudentT(3.0).sample((200_000,))
    candidates = torch.linspace(0.5, 3.0, 126)
    losses = [float(interval_loss(error, s.square().expand_as(error)).mean()) for s in candidates]
    best = float(candidates[int(np.argmin(losses))])
    inside = {share: float((error.abs() < z * best).float().mean()) for share, z in ((68, 0.994), (95, 1.96))}
    assert 0.66 < inside[68] < 0.74
    assert 0.90 < inside[95] < 0.95
    assert best < 0.9 * float(error.std())
    normal = torch.randn(200_000)
    losses = [float(interval_loss(normal, s.square().expand_as(normal)).mean()) for s in candidates]
    assert float(candidates[int(np.argmin(losses))]) == pytest.approx(1.0, abs=0.03)


def test_learning_the_intervals_leaves_the_picture_alone() -> None:
    net = network()
    prediction = net(torch.randn(1, 7, 16, 16), torch.ones(7), torch.randn(1, 3, 16, 16), NOISE)
    prediction.variance.log().mean().backward()
    learned = {name for name, parameter in net.named_parameters() if parameter.grad is not None}
    assert learned == {
        name for name, _ in net.named_parameters() if name.startswith(("spread.", "second.doubt"))
    }


def test_the_second_stage_sees_the_frame_and_leaves_the_blind_prediction_blind() -> None:
    net = network()
    window, past = torch.randn(1, 7, 20, 28, requires_grad=True), torch.randn(1, 3, 20, 28)
    prediction = net(window, torch.ones(7), past, NOISE)
    (gradient,) = torch.autograd.grad(prediction.blind_mean[0, 0, 9, 10], window, retain_graph=True)
    assert gradient[0, 3, 9, 10] == 0
    (gradient,) = torch.autograd.grad(prediction.mean[0, 0, 9, 10], window)
    assert (gradient[0, 3, 8:10, 10:12] != 0).all(), "the other pixels of the target's cell"


def test_a_second_stage_begins_as_the_first_alone() -> None:
    torch.manual_seed(0)
    net = LiveNet(LiveNetSettings(**TWO_STAGES)).eval()  # type: ignore[arg-type]
    alone = LiveNet(LiveNetSettings(**SMALL)).eval()  # type: ignore[arg-type]
    alone.load_state_dict({n: w for n, w in net.state_dict().items() if not n.startswith("second.")})
    window, past = torch.randn(1, 7, 16, 16), torch.randn(1, 3, 16, 16)
    with torch.inference_mode():
        two, one = (n(window, torch.ones(7), past, NOISE) for n in (net, alone))
    torch.testing.assert_close(two.mean, one.mean, atol=0, rtol=0)
    torch.testing.assert_close(two.variance, one.variance, atol=0, rtol=0)


def test_an_even_window_is_refused() -> None:
    with pytest.raises(ValueError, match="window 6 with look-ahead 3"):
        LiveNetSettings(window=6)


def test_sizes_are_ordered_by_their_parameters() -> None:
    presets = {size: LiveNetSettings.preset(size) for size in SIZES}
    nets = {size: LiveNet(s, KnownFlow(0, 0) if s.guided else None) for size, s in presets.items()}
    count = {size: sum(p.numel() for p in net.parameters()) for size, net in nets.items()}
    assert count["fast"] < count["standard"] == 137_435 < count["hq"]
    assert LiveNetSettings.preset("fast", window=5, look_ahead=2).encode_channels == 12
    with pytest.raises(InvalidInput, match="no size `huge`: choose one of fast, standard, hq"):
        LiveNetSettings.preset("huge")


class KnownFlow(torch.nn.Module):
    """A stand-in that returns the same flow for every pair."""

    def __init__(self, rows: float, columns: float) -> None:
        super().__init__()
        self.register_buffer("flow", torch.tensor([rows, columns]).view(1, 2, 1, 1))

    def forward(self, a: torch.Tensor, b: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        assert a.shape == b.shape
        assert a.shape[1] == 1
        flow = self.flow
        assert isinstance(flow, torch.Tensor)
        return flow.expand(len(a), 2, a.shape[2] // 4, a.shape[3] // 4)


def guided(rows: float, columns: float) -> LiveNet:
    torch.manual_seed(3)
    return LiveNet(LiveNetSettings(**SMALL, guided=True), KnownFlow(rows, columns)).eval()  # type: ignore[arg-type]


def test_a_guided_network_undoes_the_motion_it_is_told() -> None:
    """A scene that moves two columns a frame looks still, away from the borders, once it is warped."""
    scene = torch.nn.functional.avg_pool2d(torch.randn(1, 1, 72, 96) * 5, 5, 1, 2)[0, 0]
    window = torch.stack([scene[:64, 16 + 2 * i : 80 + 2 * i] for i in range(7)])[None]
    # frame_i(p + flow) = frame_{i+1}(p): the scene runs to the left, so the flow looks to the right.
    net = guided(0.0, 2.0)
    features = [net.encode(window[:, i : i + 1], NOISE) for i in range(7)]
    warped, travelled = net._warped(features, net.flows_of(features, torch.ones(7), NOISE))
    inner = (slice(None), slice(None), slice(4, -4), slice(8, -8))
    for i, frame in enumerate(warped):
        torch.testing.assert_close(frame[inner], features[3][inner], atol=2e-3, rtol=0)
        torch.testing.assert_close(
            travelled[i][inner].mean(), torch.tensor(2.0 * abs(i - 3)), atol=2e-3, rtol=0
        )


def test_a_guided_network_is_blind_for_given_flows_and_ignores_missing_frames() -> None:
    net = guided(0.7, -1.3)
    window = torch.randn(1, 7, 24, 24, requires_grad=True)
    valid = torch.tensor([0.0, 1, 1, 1, 1, 1, 0])
    prediction = net(window, valid, torch.randn(1, 3, 24, 24), NOISE)
    (gradient,) = torch.autograd.grad(prediction.blind_mean[0, 0, 9, 14], window)
    assert gradient[0, 3, 9, 14] == 0
    assert (gradient[0, [0, 6]] == 0).all()
    assert gradient[0, 2].abs().sum() > 0


def test_a_guided_network_denoises_a_movie_that_it_is_told_how_to_follow() -> None:
    """The reference finds the same flows at every place of the window, ends included."""
    rng = np.random.default_rng(0)
    net = guided(0.0, 1.0)
    movie = rng.poisson(40.0, (9, 30, 34)).astype(np.uint16)
    unit = Intensity(offset=40, scale=6, noise_slope=0.15, noise_floor=0.1)
    mean, std = denoise_reference(net, movie, unit)
    z = torch.nn.functional.pad(
        torch.from_numpy((movie - 40.0).astype(np.float32) / 6)[:, None], (0, 2, 0, 2), mode="replicate"
    )[:, 0]
    noise = torch.tensor([0.15, 0.1])
    for centre in (0, 4, 8):
        valid = torch.tensor([float(0 <= i < 9) for i in range(centre - 3, centre + 4)])
        window = torch.stack(
            [z[i] if 0 <= i < 9 else torch.zeros_like(z[0]) for i in range(centre - 3, centre + 4)]
        )
        with torch.inference_mode():
            whole = net(window[None], valid, z[None, : max(0, centre - 3)], noise)
        expected = whole.mean[0, 0, :30, :34].numpy() * 6 + 40
        np.testing.assert_allclose(mean[centre], expected, atol=2e-3)
    assert (std > 0).all()


def test_a_network_is_guided_exactly_when_it_has_a_flow_estimator() -> None:
    with pytest.raises(InvalidInput, match="needs a flow estimator"):
        LiveNet(LiveNetSettings(guided=True))
