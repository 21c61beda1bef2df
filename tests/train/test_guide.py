"""Flows compose to the centre and are inverted towards later frames."""

from __future__ import annotations

import pytest
import torch

from denoscope.train.flow.warp import warp
from denoscope.train.networks.live.guide import lead_to_centre, resize_flow


def test_sampling_at_zero_displacement_changes_nothing() -> None:
    x = torch.randn(2, 3, 9, 7)
    torch.testing.assert_close(warp(x, torch.zeros(2, 2, 9, 7)), x, atol=1e-5, rtol=1e-5)


def test_sampling_by_whole_steps_is_a_shift_with_repeated_borders() -> None:
    x = torch.randn(1, 1, 8, 10)
    displacement = torch.zeros(1, 2, 8, 10)
    displacement[:, 0], displacement[:, 1] = 1, -2
    expected = x[..., [*range(1, 8), 7], :][..., [0, 0, *range(8)]]
    torch.testing.assert_close(warp(x, displacement), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pixels", [1, 4])
def test_constant_flows_add_up(pixels: int) -> None:
    steps = torch.tensor([[1.0, -2.0], [0.5, 0.0], [-1.0, 3.0], [2.0, 1.0]])
    flows = [s.view(1, 2, 1, 1).expand(1, 2, 12, 16) for s in steps]
    leads = [lead[0, :, 6, 8] for lead in lead_to_centre(flows, 2, pixels)]
    expected = [steps[0] + steps[1], steps[1], torch.zeros(2), -steps[2], -steps[2] - steps[3]]
    torch.testing.assert_close(torch.stack(leads), torch.stack(expected), atol=1e-5, rtol=1e-5)


def test_composition_follows_a_rotation() -> None:
    """Frame i is a scene turned by i degrees; the exact displacement to the centre is known."""
    size, step = 65, 0.02
    rows, columns = torch.meshgrid(
        torch.arange(size) - size // 2, torch.arange(size) - size // 2, indexing="ij"
    )
    place = torch.stack([rows, columns]).float()[None]

    def turned(angle: float) -> torch.Tensor:
        c, s = torch.cos(torch.tensor(angle)), torch.sin(torch.tensor(angle))
        return torch.stack([c * place[:, 0] - s * place[:, 1], s * place[:, 0] + c * place[:, 1]], 1).flatten(
            1, 1
        )

    flows = [turned(step) - place] * 6
    leads = lead_to_centre(flows, 3, 1)
    inner = (slice(None), slice(None), slice(16, -16), slice(16, -16))
    for i, lead in enumerate(leads):
        torch.testing.assert_close(lead[inner], (turned(step * (3 - i)) - place)[inner], atol=0.02, rtol=0)


def test_a_coarse_flow_keeps_its_pixels_on_a_fine_grid() -> None:
    flow = torch.full((1, 2, 5, 6), 1.5)
    assert resize_flow(flow, 4).shape == (1, 2, 20, 24)
    assert (resize_flow(flow, 4) == 1.5).all()
