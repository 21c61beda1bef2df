"""Sampling at places given at knots, and what a network does with frames whose parts lie off the scene."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional

from denoscope.runtime import Intensity, estimate_intensity
from denoscope.runtime.motion.field import KNOTS, constant, inverse, lead, places
from denoscope.train import (
    LiveNet,
    LiveNetSettings,
    TrainingMovie,
    aligned,
    denoise_reference,
    load_flow,
    simulate,
)
from denoscope.train.data.sampling import align_features, recall_memory, sample_frames, spreading
from denoscope.train.networks.live.batch import draw_batch
from denoscope.train.networks.live.task import on_the_centre  # compared with a slow way
from denoscope.train.simulator.displacement import warp_movie
from denoscope.train.simulator.simulate import CameraSettings, SceneSettings

NOISE = torch.tensor([0.1, 0.2])


def sampled(picture: torch.Tensor, displacement: np.ndarray) -> torch.Tensor:
    shape = (picture.shape[2], picture.shape[3])
    at = torch.from_numpy(places(displacement, shape, shape))
    return sample_frames(picture, at, *spreading(shape))


def test_whole_pixels_are_copied_and_ramps_move_as_far_as_they_should() -> None:
    picture = torch.rand(1, 3, 12, 16, generator=torch.Generator().manual_seed(0))
    moved = sampled(picture, constant((1.0, -2.0)))
    torch.testing.assert_close(moved[..., :-1, 2:], picture[..., 1:, :-2], rtol=0, atol=1e-5)
    ramp = (3 * torch.arange(40.0)[:, None] - 2 * torch.arange(48.0))[None, None]
    inside = np.s_[:, :, 3:-3, 3:-3]
    # The kernel's parameter is ONNX's own, -3/4: a twentieth of a pixel off at a quarter of one, as sharp as none.
    off = (sampled(ramp, constant((0.3, -0.45))) - (ramp + 3 * 0.3 + 2 * 0.45))[inside]
    assert float(off.abs().max()) < 0.055 * (3 + 2)


def test_a_smooth_picture_is_sampled_as_a_spline_does() -> None:
    rng = np.random.default_rng(0)
    picture = ndimage.gaussian_filter(rng.standard_normal((48, 48)), 1.5).astype(np.float32)
    true = ndimage.shift(picture, (-0.4, 0.3), order=5)
    found = sampled(torch.from_numpy(picture)[None, None], constant((0.4, -0.3)))[0, 0].numpy()
    inside = np.s_[6:-6, 6:-6]
    assert np.std((found - true)[inside]) < 0.03 * np.std(true[inside])


def test_padding_does_not_move_anything() -> None:
    picture = torch.rand(1, 1, 30, 42, generator=torch.Generator().manual_seed(1))
    field = np.random.default_rng(0).normal(0, 0.5, (2, KNOTS, KNOTS))
    padded = functional.pad(picture, (0, 2, 0, 2), mode="replicate")
    at = torch.from_numpy(places(field, (30, 42), (32, 44)))
    found = sample_frames(padded, at, *spreading((30, 42), (32, 44)))[:, :, :30, :42]
    inside = np.s_[:, :, 4:-4, 4:-4]
    torch.testing.assert_close(found[inside], sampled(picture, field)[inside], rtol=0, atol=1e-4)


def test_features_and_memory_are_sampled_as_the_pictures_that_they_hold() -> None:
    generator = torch.Generator().manual_seed(2)
    frames = torch.rand(1, 4, 32, 40, generator=generator)
    field = np.random.default_rng(1).normal(0, 0.4, (2, KNOTS, KNOTS))
    at, weights = torch.from_numpy(places(field, (32, 40), (32, 40))), spreading((32, 40))
    memory = functional.pixel_unshuffle(frames, 2)
    torch.testing.assert_close(
        functional.pixel_shuffle(recall_memory(memory, at, *weights), 2), sampled(frames, field)
    )
    ramp = torch.arange(20.0).expand(1, 3, 16, 20).contiguous()  # of learned channels, along the columns
    features = torch.cat([memory[:, :4], ramp], 1)
    aligned = align_features(features, at, *weights)
    torch.testing.assert_close(functional.pixel_shuffle(aligned[:, :4], 2), sampled(frames[:, :1], field))
    by = aligned[0, 4] - ramp[0, 0]
    wanted = (
        functional.avg_pool2d(sampled(torch.arange(40.0).expand(1, 1, 32, 40).contiguous(), field), 2)[0, 0]
        / 2
        - 0.25
        - ramp[0, 0]
    )
    torch.testing.assert_close(by[2:-2, 3:-3], wanted[2:-2, 3:-3], rtol=0, atol=0.05)


@pytest.mark.parametrize("size", ["standard", "hq"])
def test_fields_undo_the_displacement_of_every_part_of_every_frame_but_the_centre(size: str) -> None:
    torch.manual_seed(1)
    settings = LiveNetSettings.preset(size)
    assert settings.subpixel
    net = LiveNet(settings, load_flow(passes=1) if settings.guided else None).eval()
    rng = np.random.default_rng(0)
    scene = ndimage.gaussian_filter(rng.random((64, 64)), 2.0).astype(np.float32) * 40
    knots = ndimage.gaussian_filter(rng.normal(0, 5, (10, 2, KNOTS, KNOTS)), (0, 0, 2, 2)).astype(np.float32)
    knots += rng.uniform(-0.4, 0.4, (10, 2, 1, 1)).astype(np.float32)
    rows, columns = spreading((64, 64))
    dense = rows[0, 0].numpy() @ knots @ columns[0, 0].numpy()
    back = dense.copy()
    for _ in range(6):  # frame(p + field(p)) = scene(p), and so frame(p) = scene(p - back(p))
        back = np.stack([warp_movie(dense[:, i], back) for i in range(2)], 1)
    frames = warp_movie(np.broadcast_to(scene, (10, 64, 64)), back, order=3)
    centre = 6
    still = np.broadcast_to(frames[centre], frames.shape)  # had no part of any frame moved against the centre
    unit = Intensity(offset=0.0, scale=1.0, noise_slope=0.1, noise_floor=0.2)

    def of_the_centre(frames: np.ndarray, fields: np.ndarray | None) -> np.ndarray:
        mean, _ = denoise_reference(net, frames, unit, fields=fields)
        return mean[centre, 8:-8, 8:-8]

    wanted = of_the_centre(still, None)
    error, without = (
        float(np.sqrt(np.mean(np.square(of_the_centre(frames, fields) - wanted)))) for fields in (knots, None)
    )
    assert error < without / 3


def test_half_precision_does_not_place_pixels() -> None:
    generator = torch.Generator().manual_seed(5)
    features = [torch.rand(2, 7, 32, 32, generator=generator) for _ in range(3)]
    memory = torch.rand(2, 8, 32, 32, generator=generator)
    rng = np.random.default_rng(2)
    at = np.stack([places(rng.normal(0, 0.5, (2, KNOTS, KNOTS)), (64, 64), (64, 64))[0] for _ in range(6)])
    where = torch.from_numpy(at).reshape(2, 3, 2, KNOTS, KNOTS)
    followed = torch.tensor([1.0, 0.0])
    wanted, recalled = on_the_centre(features, memory, where, followed)
    with torch.autocast("cpu", torch.bfloat16):
        found, again = on_the_centre(features, memory, where, followed)
    for one, other in zip([*found, again], [*wanted, recalled], strict=True):
        torch.testing.assert_close(one, other)
    assert found[1] is features[1], "the centre is never moved"
    torch.testing.assert_close(found[0][1], features[0][1])
    assert not torch.equal(found[0][0], features[0][0])


def test_leads_agree_with_the_fields_that_they_are_made_of() -> None:
    rng = np.random.default_rng(3)
    fields = ndimage.gaussian_filter(rng.normal(0, 6, (2, 2, KNOTS, KNOTS)), (0, 0, 2, 2))
    shape = (96, 120)
    scene = torch.from_numpy(ndimage.gaussian_filter(rng.random((96, 120)), 3).astype(np.float32))[None, None]
    # Of two frames with these inverse fields, the first is put on the second.
    a, b = (sampled(scene, -inverse(field, shape)) for field in fields)
    found = sampled(a, lead(fields[0], inverse(fields[1], shape), shape))
    inside = np.s_[:, :, 12:-12, 12:-12]
    assert float((found - b)[inside].std()) < 0.15 * float((a - b)[inside].std())


def test_windows_of_a_movie_whose_parts_move_say_where_they_are() -> None:
    scene = SceneSettings(
        frames=60,
        height=80,
        width=80,
        motion_px=2.0,
        jitter_px=0.6,
        local_motion_px=0.2,
        local_length_px=30.0,
    )
    movie = simulate(scene, CameraSettings(photons=500.0, gain=10.0), seed=4)
    noisy = movie.as_uint16()
    moving = TrainingMovie("moving", noisy, movie.clean, estimate_intensity(noisy[:32]))
    still = aligned(moving)
    assert still.fields is not None
    assert still.fields.shape == (60, 2, KNOTS, KNOTS)
    assert still.fields.std(axis=(2, 3)).mean() > 0.1, "parts move by themselves"
    assert still.on_the_scene is not None

    def unrest(frames: np.ndarray) -> float:
        return float(np.diff(frames[:, 12:-12, 12:-12].astype(np.float32), axis=0).std())

    assert unrest(still.on_the_scene) < 0.8 * unrest(np.asarray(still.frames))
    settings = LiveNetSettings(subpixel=True)
    batch = draw_batch([still], np.ones(1), settings, size=40, crop=48, rng=np.random.default_rng(2))
    assert batch.followed.all()
    window, at = torch.from_numpy(batch.window), torch.from_numpy(batch.places)
    placed = sample_frames(
        window.reshape(-1, 1, 48, 48), at.reshape(-1, 2, KNOTS, KNOTS), *spreading((48, 48))
    )
    placed = placed.reshape(window.shape)
    centre = settings.window // 2
    there = torch.from_numpy(batch.valid)
    there[:, centre] = 0
    inside = np.s_[..., 6:-6, 6:-6]
    kept = (there[..., None, None] > 0).expand_as(window)[inside]
    of_centre = window[:, centre : centre + 1].expand_as(window)
    noise = 2.0  # the variance of a difference of two frames
    apart, unplaced = (float((part - of_centre)[inside][kept].var()) - noise for part in (placed, window))
    assert apart < 0.5 * unplaced, "flipped windows have flipped fields"
    plain = draw_batch([still], np.ones(1), LiveNetSettings(), size=4, crop=48, rng=np.random.default_rng(2))
    assert not plain.followed.any()
