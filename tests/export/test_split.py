"""The streaming split computes what each network computes from the whole window."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from denoscope.export.split import split  # parts before they are graphs
from denoscope.runtime import InvalidInput
from denoscope.train import LiveNet, LiveNetSettings, StsUvd, StsUvdSettings, Umvd, UmvdSettings
from denoscope.train.networks.live.guide import lead_to_centre, resize_flow
from support.drift import Drift

SMALL = {"features": 3, "width": 4, "wide": 6, "head": 8}
WINDOWS = [3, 5, 7, 15]
SIZES = [(16, 16), (20, 28), (36, 12)]
NOISE = torch.tensor([0.2, 0.3])


def window_of(n: int, size: tuple[int, int], gone: set[int]) -> tuple[Tensor, Tensor]:
    torch.manual_seed(n)
    frames = torch.randn(1, n, *size)
    valid = torch.tensor([0.0 if i in gone else 1.0 for i in range(n)])
    return frames * valid.view(1, -1, 1, 1), valid


def missing(n: int) -> list[set[int]]:
    """Frames that are not there; one neighbour is left, since without any the answer is zero."""
    return [gone for gone in (set(), {0}, {n - 1, n // 2 - 1}) if len(gone) < n - 1]


def compare(found: Tensor, expected: Tensor) -> None:
    scale = expected.abs().max()
    assert scale > 1e-3, "an output of zeros would show nothing"
    assert ((found - expected).abs().max() / scale).item() <= 1e-5


@pytest.mark.parametrize("n", WINDOWS)
@pytest.mark.parametrize("size", SIZES)
def test_umvd(n: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    network = Umvd(UmvdSettings(window=n, **SMALL)).eval()
    parts = split(network)
    assert (parts.motion, parts.remember, parts.predicts_std) == (None, None, False)
    for gone in missing(n):
        frames, valid = window_of(n, size, gone)
        with torch.inference_mode():
            features = [parts.encode(frames[:, i : i + 1]) for i in range(n)]
            assert features[0].shape == (1, parts.feature_channels, *size)
            compare(parts.fuse(features, valid), network(frames, valid[None]))


@pytest.mark.parametrize("n", WINDOWS)
def test_umvd_with_a_running_baseline(n: int) -> None:
    """One baseline for the window, made of all frames before it."""
    torch.manual_seed(0)
    network = Umvd(UmvdSettings(window=n, baseline_frames=3.0, **SMALL)).eval()
    parts = split(network)
    assert parts.remember is not None
    frames, valid = window_of(n, (20, 28), {n - 1})
    past = torch.randn(9, 1, 1, 20, 28)
    rate = 1 - torch.exp(torch.tensor(-1 / 3.0))
    baseline, memory, weight = torch.zeros(1, 1, 20, 28), torch.zeros(1, 1, 20, 28), torch.zeros(1)
    with torch.inference_mode():
        for frame in past:
            baseline = baseline + rate * (frame - baseline)
            memory, weight = parts.remember(parts.encode(frame), memory, weight)
        torch.testing.assert_close(memory, baseline, atol=1e-6, rtol=1e-6)
        assert weight.item() == pytest.approx(1 - (1 - rate.item()) ** 9)
        features = [parts.encode(frames[:, i : i + 1]) for i in range(n)]
        expected = network((frames - baseline) * valid.view(1, -1, 1, 1), valid[None]) + baseline
        compare(parts.fuse(features, valid, memory), expected)


@pytest.mark.parametrize("n", WINDOWS)
@pytest.mark.parametrize("size", SIZES)
def test_sts_uvd(n: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    network, flow = StsUvd(StsUvdSettings(window=n, **SMALL)).eval(), Drift()
    parts = split(network, flow)
    assert parts.motion is not None
    for gone in missing(n):
        frames, valid = window_of(n, size, gone)
        with torch.inference_mode():
            features = [parts.encode(frames[:, i : i + 1]) for i in range(n)]
            flows = [
                parts.motion(features[i], features[i + 1], NOISE) * (valid[i] * valid[i + 1])
                for i in range(n - 1)
            ]
            neighbours = [
                flow(frames[:, i : i + 1], frames[:, i + 1 : i + 2], NOISE) * (valid[i] * valid[i + 1])
                for i in range(n - 1)
            ]
            leads = torch.stack([resize_flow(d, 4.0) for d in lead_to_centre(neighbours, n // 2, 4)], 1)
            compare(parts.fuse(features, flows, valid), network(frames, valid[None], leads))


@pytest.mark.parametrize("n", WINDOWS)
@pytest.mark.parametrize("guided", [False, True])
def test_live(n: int, guided: bool) -> None:
    torch.manual_seed(0)
    settings = LiveNetSettings(
        window=n,
        look_ahead=n // 2,
        encode_channels=4,
        encode_width=6,
        trunk_width=8,
        deep_width=8,
        spatial_channels=3,
        guided=guided,
    )
    network = LiveNet(settings, Drift() if guided else None).eval()
    parts = split(network)
    frames, valid = window_of(n, (20, 28), {0})
    past = torch.randn(1, 4, 20, 28)
    with torch.inference_mode():
        memory, weight = network.memory_of(past)
        # The features of a missing frame are zero, by the bundle's contract.
        features = [parts.encode(frames[:, i : i + 1], NOISE) * valid[i] for i in range(n)]
        flows = []
        if parts.motion is not None:
            pairs = range(n - 1)
            flows = [
                parts.motion(features[i], features[i + 1], NOISE) * valid[i] * valid[i + 1] for i in pairs
            ]
        arguments = (features, flows, valid) if guided else (features, valid)
        mean, std = parts.fuse(*arguments, memory, weight, NOISE)
        whole = network(frames, valid[None], past, NOISE)
        compare(mean, whole.mean)
        compare(std.square(), whole.variance)


def test_a_flow_network_goes_with_sts_uvd_alone() -> None:
    with pytest.raises(InvalidInput, match="give both or neither"):
        split(StsUvd(StsUvdSettings(window=3, **SMALL)))
    with pytest.raises(InvalidInput, match="not with Umvd"):
        split(Umvd(UmvdSettings(window=3, **SMALL)), Drift())
