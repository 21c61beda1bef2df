"""STS-UVD step by step: what one call of each part does, by hand, without a training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from denoscope.runtime import Intensity
from denoscope.train import (
    StsUvd,
    StsUvdFitSettings,
    StsUvdSettings,
    TrainingMovie,
    denoise_sts_uvd,
    fit_sts_uvd,
)
from denoscope.train.networks.published import sts_uvd_task as task_module
from denoscope.train.networks.published.sts_uvd import estimate_flows, first_kappa, kappa_at
from denoscope.train.networks.published.sts_uvd_task import StsUvdTask

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = StsUvdSettings(window=5, features=4, width=8, wide=8, head=16)
SETTINGS = StsUvdFitSettings(epochs=4, steps_per_epoch=1, crop=16, hold_out=0.25, seed=3)
PLAIN = Intensity(offset=0.0, scale=1.0, noise_slope=1.0, noise_floor=1.0)
FloatArray = npt.NDArray[np.float32]


def movie(frames: int = 16, seed: int = 0) -> TrainingMovie:
    """Frames whose counts tell which one they are of: 100 t to 100 t + 99."""
    noisy = (
        np.random.default_rng(seed).integers(0, 100, (frames, 16, 20))
        + 100 * np.arange(frames)[:, None, None]
    )
    return TrainingMovie("stamped", noisy.astype(np.uint16), None, PLAIN)


def by_the_columns(step: float) -> Callable[[FloatArray, FloatArray], FloatArray]:
    """An estimator for which all moves by so many pixels along the columns from one frame to the next."""

    def flow(target: FloatArray, source: FloatArray) -> FloatArray:
        found = np.zeros((2, *target.shape), np.float32)
        found[1] = step if source.mean() >= target.mean() else -step
        return found

    return flow


class Stub(nn.Module):
    """Returns what it is told, and keeps what it was given."""

    def __init__(self, answer: Callable[..., Tensor]) -> None:
        super().__init__()
        self.answer, self.given = answer, []
        self.register_parameter("weight", nn.Parameter(torch.zeros(1)))

    def forward(self, *given: Tensor) -> Tensor:
        self.given.append(given)
        return self.answer(*given)


def ready(settings: StsUvdFitSettings = SETTINGS, **more: object) -> StsUvdTask:
    task = StsUvdTask([movie()], settings, TINY, estimator=by_the_columns(0.5), **more)  # type: ignore[arg-type]
    task.prepare()
    return task


def fused(window: int, level: float, kappa: float, valid: list[int], step: int) -> dict[str, Tensor]:
    """Run one fusion of (window) random frames that move by whole pixels; its pieces, and what it must give."""
    torch.manual_seed(0)
    network = StsUvd(StsUvdSettings(window=window, level=level, features=1, width=8, wide=8, head=16))
    network.generator = Stub(lambda frames: frames[:, :, None])  # a frame is its own feature
    network.gate = Stub(lambda x: torch.full_like(x[:, :1], 0.0))  # sigmoid: a half
    network.candidate = Stub(lambda x: torch.full_like(x[:, :1], 2.0))
    network.denoiser = Stub(lambda x: x)
    frames = torch.rand(1, window, 8, 12)
    centre = window // 2
    flows = torch.zeros(1, window, 2, 8, 12)
    for i in range(window):
        flows[0, i, 1] = step * (i - centre)
    output = network(frames, torch.tensor([valid]).float(), flows, kappa)
    return {
        "output": output[0, 0],
        "gate": network.gate.given[0][0][0],
        "candidate": network.candidate.given[0][0][0],
        "frames": frames[0],
    }


@pytest.mark.parametrize("valid", [[1, 1, 1, 1, 1], [0, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
def test_neighbours_are_warped_weighted_averaged_and_joined_by_the_gate(valid: list[int]) -> None:
    kappa, level = 0.2, 2.0
    found = fused(5, level, kappa, valid, step=1)
    frames, inner = found["frames"], np.s_[:, 2:-2]  # at the border the edge is repeated
    weights = [
        1.0,
        kappa + (1 - kappa) * (1 - 0.5**level),
        kappa,
        kappa + (1 - kappa) * (1 - 0.5**level),
        1.0,
    ]
    there = [i for i in range(5) if i != 2 and valid[i]]
    moved = {i: torch.roll(frames[i], -(i - 2), 1) for i in there}
    mean = sum(weights[i] * moved[i] for i in there) / len(there)
    centre, flow = kappa * frames[2], sum(float(i - 2) for i in there) / len(there)
    torch.testing.assert_close(found["output"][inner], (mean + 0.5 * 2.0)[inner])
    rows, columns, warped, of_centre = found["gate"]
    assert rows.abs().max() == 0
    torch.testing.assert_close(columns, torch.full_like(columns, flow))
    torch.testing.assert_close(warped[inner], mean[inner])
    torch.testing.assert_close(of_centre, centre)
    rows, columns, of_centre = found["candidate"]
    torch.testing.assert_close(columns, torch.full_like(columns, flow))
    torch.testing.assert_close(of_centre, centre)


def test_kappa_starts_from_the_motion_and_falls_to_zero() -> None:
    task, network = ready(), StsUvd(TINY)
    # Half a pixel a frame: 1, 0.5, 0.5 and 1 pixel to the centre of a window of five, less at the ends.
    assert first_kappa(0.5, SETTINGS.eta) < task.outcome()["kappa_0"] < first_kappa(1.0, SETTINGS.eta)
    for done in (0.0, 0.25, 0.75, 1.0):
        task.begin_epoch(network, 0, done)
        assert task.log()["kappa"] == pytest.approx(kappa_at(task.outcome()["kappa_0"], done))
    assert task.log()["kappa"] == 0


def test_a_training_anneals_kappa_from_epoch_to_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[float] = []
    begin = StsUvdTask.begin_epoch

    def kept(task: StsUvdTask, network: nn.Module, epoch: int, done: float) -> None:
        begin(task, network, epoch, done)
        used.append(task.log()["kappa"])

    monkeypatch.setattr(StsUvdTask, "begin_epoch", kept)
    result = fit_sts_uvd([movie()], settings=SETTINGS, network=TINY, estimator=by_the_columns(0.5))
    assert used == pytest.approx([result.kappa_0 * share for share in (1, 0.75, 0.5, 0.25)])
    assert used[0] > 0


def test_the_loss_is_the_absolute_error_plus_the_consistency() -> None:
    task = ready()
    task.begin_epoch(StsUvd(TINY), 0, 0.5)
    reference = torch.full((4, 8, 8), 3.0)  # two clips of two frames
    denoised = torch.tensor([1.0, 2.0, 5.0, 9.0]).view(4, 1, 1, 1).expand(4, 1, 8, 8)
    network = Stub(lambda *_: denoised)
    window, valid, leads = torch.zeros(4, 5, 8, 8), torch.ones(4, 5), torch.zeros(4, 5, 2, 8, 8)
    loss, parts = task.loss(network, (window, valid, leads, reference, torch.zeros(2, 1, 2, 8, 8)))
    absolute, consistency = (2 + 1 + 2 + 6) / 4, ((2 - 1) ** 2 + (9 - 5) ** 2) / 2 / 2
    assert float(parts["consistency"]) == pytest.approx(consistency)
    assert float(loss) == pytest.approx(absolute + consistency)
    assert network.given[0][3] == pytest.approx(task.log()["kappa"])
    assert task.log()["kappa"] > 0


def test_only_inputs_are_sampled_and_never_from_the_held_out_end() -> None:
    settings = replace(SETTINGS, batch=16, replaced=0.3, crop=16)
    task = ready(settings)
    window, valid, leads, reference, forward = task.draw(np.random.default_rng(0), 0)
    held_out = 12
    inputs, noisy = window.numpy(), movie().frames.astype(np.float32)
    assert inputs.max() < 100 * held_out
    assert not reference.numpy().max() >= 100 * held_out
    changed = []
    for index in range(len(window)):
        centre = int(reference[index].mean() // 100)
        crop = _place(noisy[centre], reference[index].numpy())
        for place, number in enumerate(range(centre - 2, centre + 3)):
            assert bool(valid[index, place]) == (0 <= number < held_out)
            if valid[index, place]:
                changed.append(np.mean(inputs[index, place] != noisy[number][crop]))
        expected = [0.5 * (n - centre) if 0 <= n < 16 else 0.0 for n in range(centre - 2, centre + 3)]
        assert leads[index, :, 1].mean((1, 2)).tolist() == pytest.approx(expected)
    # A neighbour has the same count now and then.
    assert np.mean(changed) == pytest.approx(0.3, abs=0.03)
    assert forward.shape == (16, 1, 2, 16, 16)
    assert forward[:, :, 1].unique().tolist() == [0.5]


def _place(frame: FloatArray, part: FloatArray) -> tuple[slice, slice]:
    """Return where a part was cut; it fails where no part of the frame is like it."""
    height, width = part.shape
    for y in range(frame.shape[0] - height + 1):
        for x in range(frame.shape[1] - width + 1):
            area = slice(y, y + height), slice(x, x + width)
            if np.array_equal(frame[area], part):
                return area
    pytest.fail("the reference is not the noisy frame")


def test_held_out_windows_are_scored_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_module, "replace_pixels", lambda *_: pytest.fail("pixels were replaced"))
    network = Stub(lambda window, *_: window[:, 2:3] + 2.0)
    assert ready().score(network) == pytest.approx(4.0, rel=1e-3)  # the squared error to the noisy centres
    assert min(float(window.max()) for window, *_ in network.given) >= 1200


def test_flows_are_estimated_anew_from_the_denoised_frames() -> None:
    seen: list[FloatArray] = []

    def still(target: FloatArray, source: FloatArray) -> FloatArray:
        seen.append(target)
        return np.zeros((2, *target.shape), np.float32)

    task = StsUvdTask([movie()], SETTINGS, TINY, estimator=still)
    task.prepare()
    assert np.array_equal(np.stack(seen[:15]), movie().frames[:-1].astype(np.float32))
    torch.manual_seed(1)
    network = StsUvd(TINY)
    task.begin_epoch(network, 0, 0.0)
    assert len(seen) == 30, "nothing is denoised before the first epoch"
    flows = estimate_flows(movie().frames, still)
    expected = denoise_sts_uvd(network, movie().frames, PLAIN, flows=flows)
    seen.clear()
    task.begin_epoch(network, 1, 0.25)
    np.testing.assert_allclose(np.stack(seen[:15]), expected[:-1], rtol=1e-5)


def test_a_movie_without_flows_is_denoised_twice() -> None:
    seen: list[FloatArray] = []

    def still(target: FloatArray, source: FloatArray) -> FloatArray:
        seen.append(target)
        return np.zeros((2, *target.shape), np.float32)

    torch.manual_seed(1)
    network = StsUvd(TINY)
    denoise_sts_uvd(network, movie().frames, PLAIN, estimator=still)
    assert len(seen) == 60
    assert np.array_equal(seen[0], movie().frames[0])
    assert not np.array_equal(seen[30], movie().frames[0])


def test_epochs_without_a_gain_end_the_training() -> None:
    task = ready(replace(SETTINGS, patience=2))
    said = []
    for consistency in (1.0, 0.8, 0.7995, 0.799):
        task.note({"consistency": consistency - 0.1})
        task.note({"consistency": consistency + 0.1})
        said.append(task.end_epoch())
    assert task.outcome()["consistency"] == pytest.approx([1.0, 0.8, 0.7995, 0.799])
    assert said == [None, None, None, "the consistency loss gained nothing more"]
    assert task.outcome()["plateau"]


def test_a_training_stops_where_its_epochs_gain_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_module, "consistency_loss", lambda denoised, _: 0 * denoised.sum() + 1.0)
    settings = replace(SETTINGS, epochs=9, patience=2)
    result = fit_sts_uvd([movie()], settings=settings, network=TINY, estimator=by_the_columns(0.0))
    assert (result.plateau, result.steps) == (True, 3)
    assert result.consistency == [1.0, 1.0, 1.0]


class Median(StsUvd):
    """Gives 0.8 of the centre, less 3: what an L1 loss might have learned."""

    def forward(self, window: Tensor, valid: Tensor, flows: Tensor, kappa: float = 0.0) -> Tensor:
        assert isinstance(self.to_mean, Tensor)
        return (0.8 * window[:, 2:3] - 3) * self.to_mean[0] + self.to_mean[1]


def test_the_line_to_the_mean_undoes_what_the_median_lost() -> None:
    task, network = ready(replace(SETTINGS, replaced=0.5)), Median(TINY)
    assert task.finish(network)
    scale, shift = network.get_buffer("to_mean").tolist()
    assert scale == pytest.approx(1.25, rel=1e-3)
    assert shift == pytest.approx(3.75, abs=0.2)
    assert task.outcome()["to_mean"] == pytest.approx((scale, shift))
    assert task.outcome()["follows"]
    assert task.finish(network), "a second line goes on top of the first"
    assert network.get_buffer("to_mean")[0].item() == pytest.approx(scale, rel=2e-3)
    off = ready(replace(SETTINGS, to_mean=False))
    assert not off.finish(network)
