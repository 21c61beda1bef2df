"""Sampling between pixels, and what a network does with frames that lie a fraction of a pixel off the scene."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional

from denoscope.runtime import estimate_intensity
from denoscope.train import LiveNet, LiveSettings, TrainingMovie, aligned, load_flow, simulate
from denoscope.train._data import draw_batch
from denoscope.train._simulate import CameraSettings, SceneSettings
from denoscope.train._subpixel import sample_features, sample_frame

NOISE = torch.tensor([0.1, 0.2])


@pytest.mark.parametrize("sample", [sample_frame, sample_features])
def test_whole_pixels_are_copied_and_ramps_are_exact(sample) -> None:
    picture = torch.rand(2, 3, 12, 16, generator=torch.Generator().manual_seed(0))
    by = torch.tensor([[1.0, 0.0], [-1.0, 1.0]])
    moved = sample(picture, by)
    torch.testing.assert_close(moved[0, :, :-1], picture[0, :, 1:])
    torch.testing.assert_close(moved[1, :, 1:, :-1], picture[1, :, :-1, 1:])
    torch.testing.assert_close(sample(picture, torch.zeros(1, 2)), picture)
    ramp = (3 * torch.arange(12.0)[:, None] - 2 * torch.arange(16.0))[None, None]
    moved = sample(ramp, torch.tensor([[0.3, -0.45]]))
    inside = np.s_[:, :, 3:-3, 3:-3]
    torch.testing.assert_close(moved[inside], (ramp + 3 * 0.3 + 2 * 0.45)[inside])


def test_a_smooth_picture_is_sampled_as_a_spline_does() -> None:
    rng = np.random.default_rng(0)
    picture = ndimage.gaussian_filter(rng.standard_normal((48, 48)), 1.5)
    true = ndimage.shift(picture, (-0.4, 0.3), order=5)
    frame = torch.from_numpy(picture)[None, None]
    cubic = sample_frame(frame, torch.tensor([[0.4, -0.3]], dtype=torch.float64))[0, 0].numpy()
    linear = sample_features(frame, torch.tensor([[0.4, -0.3]], dtype=torch.float64))[0, 0].numpy()
    inside = np.s_[6:-6, 6:-6]
    error, blurred = (np.std((found - true)[inside]) / np.std(true[inside]) for found in (cubic, linear))
    assert error < 0.03
    assert error < blurred / 3


@pytest.mark.parametrize("size", ["standard", "hq"])
def test_rests_undo_the_displacement_of_every_frame_but_the_centre(size: str) -> None:
    torch.manual_seed(1)
    settings = LiveSettings.preset(size)
    assert settings.subpixel
    net = LiveNet(settings, load_flow(passes=1) if settings.guided else None).eval()
    scene = functional.interpolate(torch.rand(1, 1, 12, 12), size=(48, 48), mode="bicubic")
    rests = [torch.tensor([[0.4 * np.sin(i), 0.4 * np.cos(2 * i)]], dtype=torch.float32) for i in range(10)]
    frames = [sample_frame(scene, -rest) for rest in rests]  # frame(p + rest) = scene(p)
    here = rests[3 + 3]

    def mean_of(frames: list[torch.Tensor], rests: list[torch.Tensor]) -> torch.Tensor:
        features = [net.encode(frame, NOISE) for frame in frames]
        memory, weight = torch.zeros(1, settings.memory_channels, 24, 24), torch.zeros(1, 4)
        for past, rest in zip(features[:3], rests[:3], strict=True):
            memory, weight = net.remember(past, memory, weight, rest)
        flows = net.flows_of(features[3:], torch.ones(7), NOISE, rests[3:])
        return net.predict(features[3:], torch.ones(7), memory, weight, NOISE, flows, rests[3:]).blind_mean

    still = [frames[6]] * 10  # what all frames would be, had none of them moved against the centre
    with torch.inference_mode():
        wanted = mean_of(still, [here] * 10)
        found = mean_of(frames, rests)
        ignored = mean_of(frames, [torch.zeros(1, 2)] * 10)
    inside = np.s_[:, :, 6:-6, 6:-6]
    error, without = (float((x - wanted)[inside].square().mean().sqrt()) for x in (found, ignored))
    assert error < without / 3


def test_a_network_without_rests_is_the_same_as_with_none() -> None:
    torch.manual_seed(0)
    plain = LiveNet(LiveSettings()).eval()
    sharp = LiveNet(replace(LiveSettings(), subpixel=True)).eval()
    sharp.load_state_dict(plain.state_dict())
    features = [plain.encode(torch.rand(1, 1, 16, 16), NOISE) for _ in range(7)]
    memory, weight = torch.rand(1, 16, 8, 8), torch.ones(4)
    arguments = features, torch.ones(7), memory, weight, NOISE
    torch.testing.assert_close(
        sharp.fuse(*arguments, rests=[torch.zeros(2)] * 7), plain.fuse(*arguments), rtol=1e-6, atol=1e-6
    )


def test_windows_of_a_moving_movie_say_how_far_off_they_are() -> None:
    scene = SceneSettings(frames=60, height=80, width=80, motion_px=2.0, jitter_px=0.6)
    movie = simulate(scene, CameraSettings(photons=60.0), seed=4)
    noisy = movie.as_uint16()
    moving = TrainingMovie("moving", noisy, movie.clean, estimate_intensity(noisy[:32]))
    still = aligned(moving)
    assert still.rests is not None
    assert still.rests.shape == (60, 2)
    assert 0.2 < still.rests[1:].std() < 0.35
    assert still.on_the_scene is not None

    def unrest(frames: np.ndarray) -> float:
        return float(np.diff(frames[:, 12:-12, 12:-12].astype(np.float32), axis=0).std())

    assert unrest(still.on_the_scene) < unrest(np.asarray(still.frames)) < unrest(noisy)
    settings = LiveSettings(subpixel=True)
    batch = draw_batch([still], np.ones(1), settings, size=40, crop=48, rng=np.random.default_rng(2))
    window = torch.from_numpy(batch.window)
    placed = sample_frame(window.reshape(-1, 1, 48, 48), torch.from_numpy(batch.rests).reshape(-1, 2))
    placed = placed.reshape(window.shape)[:, :, 6:-6, 6:-6]
    both = torch.from_numpy(batch.valid[:, 1:] * batch.valid[:, :-1])[..., None, None] > 0
    kept = both.expand(-1, -1, *placed.shape[2:])
    step, unplaced = (
        float((part[:, 1:] - part[:, :-1])[kept].std()) for part in (placed, window[:, :, 6:-6, 6:-6])
    )
    assert step < unplaced, "flipped windows have flipped rests"
    plain = draw_batch([still], np.ones(1), LiveSettings(), size=4, crop=48, rng=np.random.default_rng(2))
    assert not plain.rests.any()
