"""Training of the flow network: pairs that are true, exact resume, refinement that never harms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from denoscope.runtime import InvalidInput, estimate_intensity
from denoscope.train.flow import fit as flow_fit_module
from denoscope.train.flow.fit import FlowFitSettings, end_point_error, fit_flow, held_out_pairs
from denoscope.train.flow.net import FlowNet, FlowSettings, load_flow
from denoscope.train.flow.pairs import PairSettings, draw_pairs, still_scenes
from denoscope.train.flow.refine import RefineSettings, refine_flow
from denoscope.train.flow.warp import warp

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = FlowFitSettings(steps=40, batch=2, crop=32, scenes=3, learning_rate=1e-3)


@pytest.fixture(scope="module")
def scenes() -> Tensor:
    return still_scenes(6, seed=3)


def test_the_flow_of_a_pair_is_true(scenes: Tensor) -> None:
    settings = PairSettings(photons=(1e4, 1e4), motion_px=(2.0, 2.0), still=0, bleed=0)
    p = draw_pairs(scenes, batch=16, crop=96, generator=torch.Generator().manual_seed(0), settings=settings)
    inner = np.s_[:, :, 10:-10, 10:-10]
    apart = (p.a - p.b)[inner].square().mean((1, 2, 3))
    aligned = (warp(p.a, p.flow) - p.b)[inner].square().mean((1, 2, 3))
    assert float((aligned / apart).median()) < 0.05  # brightness changes, and noise, remain


@pytest.mark.parametrize("photons", [0.3, 30.0])
def test_the_noise_of_a_pair_is_as_stated(scenes: Tensor, photons: float) -> None:
    settings = PairSettings(photons=(photons, photons), still=1, bleed=0)
    p = draw_pairs(scenes, batch=32, crop=64, generator=torch.Generator().manual_seed(0), settings=settings)
    assert float(p.flow.abs().max()) == 0
    middle = (p.a + p.b).mean((1, 2, 3)) / 2
    stated = torch.maximum(p.noise[:, 0] * middle + 1, p.noise[:, 1])
    ratio = (p.a - p.b).var((1, 2, 3)) / (2 * stated)
    assert float(ratio.median()) == pytest.approx(1, abs=0.12)


def test_crops_that_do_not_fit_are_refused(scenes: Tensor) -> None:
    with pytest.raises(InvalidInput, match="Crops of 160 pixels cannot be drawn from scenes of 192"):
        draw_pairs(scenes, batch=1, crop=160, generator=torch.Generator())


@pytest.mark.slow
def test_resumes_with_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = FlowSettings(channels=4, width=6, passes=1)
    whole = fit_flow(tmp_path / "whole.safetensors", settings=SHORT, network=tiny)
    assert whole.steps == 40
    assert [step for step, _ in whole.losses] == [20, 40]

    class Stopped(Exception):
        pass

    def stop(step: int, done: float, loss: float) -> None:
        if step == 20:
            raise Stopped

    monkeypatch.setattr(flow_fit_module, "_CHECKPOINT_EVERY_S", 0.0)
    with pytest.raises(Stopped):
        fit_flow(tmp_path / "part.safetensors", settings=SHORT, network=tiny, on_progress=stop)
    resumed = fit_flow(tmp_path / "part.safetensors", settings=SHORT, network=tiny, resume=True)
    assert resumed.losses == whole.losses
    for name, value in whole.network.state_dict().items():
        torch.testing.assert_close(resumed.network.state_dict()[name], value, rtol=0, atol=0)


def test_a_foreign_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(b"PK\x03\x04 a pickle")
    with pytest.raises(InvalidInput, match="is not a checkpoint of the flow network"):
        fit_flow(tmp_path / "x.pt", settings=SHORT, resume=True)


def test_held_out_pairs_are_the_same_every_time() -> None:
    settings = FlowFitSettings(crop=32, scenes=2)
    first, second = held_out_pairs(settings), held_out_pairs(settings)
    assert end_point_error(None, first) == end_point_error(None, second) > 0


def _moving_movie(photons: float, frames: int = 30) -> np.ndarray:
    """A texture that moves to and fro by two pixels a frame."""
    rng = np.random.default_rng(0)
    scene = photons * still_scenes(5, seed=9)[4, 0].numpy()
    movie = [scene[40 + 2 * (t % 2) :, 40:][:96, :96] for t in range(frames)]
    return rng.poisson(np.stack(movie)).astype(np.uint16)


@pytest.mark.slow
def test_refinement_improves_an_untrained_network_on_frames_it_has_not_seen() -> None:
    torch.manual_seed(0)
    movie = _moving_movie(100)
    network = FlowNet()
    start = {name: value.clone() for name, value in network.state_dict().items()}
    settings = RefineSettings(steps=60, batch=2, crop=64, learning_rate=3e-3)
    result = refine_flow(network, movie, estimate_intensity(movie), settings=settings)
    assert result.improved
    assert result.score_after < 0.9 * result.score_before
    for name, value in network.state_dict().items():
        assert torch.equal(value, start[name])  # the start is not changed


def test_refinement_that_does_harm_is_thrown_away() -> None:
    movie = _moving_movie(20)
    network = load_flow()
    settings = RefineSettings(steps=3, batch=1, crop=64, learning_rate=1.0)
    result = refine_flow(network, movie, estimate_intensity(movie), settings=settings)
    assert not result.improved
    assert not result.score_after < result.score_before  # not a number, for instance
    for name, value in network.state_dict().items():
        assert torch.equal(value, result.network.state_dict()[name])


def test_the_score_of_a_still_movie_is_best_without_motion() -> None:
    rng = np.random.default_rng(0)
    movie = rng.poisson(3 * np.repeat(still_scenes(5, seed=9)[4, :, :96, :96].numpy(), 40, 0))
    unit = estimate_intensity(movie)
    still, moving = FlowNet(), FlowNet()
    for network, step in ((still, 0.0), (moving, 0.125)):
        for parameter in network.parameters():
            torch.nn.init.zeros_(parameter)
        torch.nn.init.constant_(network.levels[2].step.bias, step)  # half a pixel, where noise averages out
    settings = RefineSettings(steps=0, batch=8)
    scores = [refine_flow(n, movie, unit, settings=settings).score_before for n in (still, moving)]
    assert scores[0] < scores[1]
    assert abs(scores[0]) < 0.1


def test_a_short_movie_is_refused() -> None:
    movie = np.ones((3, 64, 64), np.uint16)
    with pytest.raises(InvalidInput, match=r"3 frames of 64 x 64 pixels is too small .* at least 4 frames"):
        refine_flow(load_flow(), movie, estimate_intensity(movie))
