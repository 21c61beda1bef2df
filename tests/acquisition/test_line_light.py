"""Lines that get other light in each frame are named with their size, and nothing else is taken for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from denoscope.acquisition import live
from denoscope.acquisition.notes.line_light import line_light_note, measure_line_light
from support.field_inputs import active_light, counts

from .conftest import Run

_LINE, _TIME = np.arange(96)[None, :, None], np.arange(40)[:, None, None]
_FLICKER = 0.1 * np.sin(2 * np.pi * (_LINE + 96 * _TIME) * 0.137)
_BAND = 0.3 * ((_LINE + 13 * _TIME) % 96 < 24)


def movie(light: npt.NDArray[np.float64] | float = 1.0, photons: float = 6.0) -> npt.NDArray[np.uint16]:
    """Return counts of active cells whose light is multiplied."""
    random = np.random.default_rng(3)
    rate = active_light(40, 96, 96, random) * photons * light
    return counts(random.poisson(rate) * 20.0 + 100 + random.normal(0, 3, rate.shape))


@pytest.mark.parametrize("photons", [1, 6, 60])
@pytest.mark.parametrize(("light", "size"), [(_FLICKER, 0.07), (_BAND, 0.13)])
def test_lines_of_other_light_are_measured(
    light: npt.NDArray[np.float64], size: float, photons: float
) -> None:
    assert measure_line_light(movie(1 + light, photons)) == pytest.approx(size, rel=0.25)


@pytest.mark.parametrize("photons", [1, 6, 60])
def test_other_changes_are_no_light_of_lines(photons: float) -> None:
    uneven = 1 - 0.5 * _LINE / 96
    closed = np.where((_TIME % 9 == 4) & (_LINE > 50), 0.0, 1.0)
    still = movie(photons=photons)
    of_rows = np.random.default_rng(1).normal(0, 2 * photons, (40, 96, 1))
    for name, frames in {
        "steady": still,
        "light alternates over an uneven field": movie(uneven * np.where(_TIME % 2, 1, 0.5), photons),
        "bleaches": movie(uneven * np.exp(-_TIME / 20), photons),
        "a shutter closes": movie(closed, photons),
        "moves": np.stack([np.roll(each, round(3 * np.sin(t)), 0) for t, each in enumerate(still)]),
        "takes turns": np.stack([np.roll(each, 37 * (t % 3), (0, 1)) for t, each in enumerate(still)]),
        "noise of a camera's rows": counts(still + of_rows),
        "two frames": still[:2],
        "tiny": still[:, :8, :8],
        "nothing": np.zeros_like(still),
    }.items():
        assert line_light_note(frames) is None, name


def test_denoise_says_by_how_much_lines_differ(denoscope: Run, bundle: Path, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "m.tif", movie(1 + _BAND, 60), photometric="minisblack")
    done = denoscope("denoise", tmp_path / "m.tif", "--bundle", bundle, "--output", tmp_path / "d.tif")
    assert "lines are brighter or darker than their neighbours, typically by 1" in done.stdout + done.stderr


def test_a_recording_says_so_and_where_pictures_take_turns(bundle: Path, tmp_path: Path) -> None:
    lines = movie(1 + _BAND, 60)
    turns = np.stack([np.roll(each, 23 * (t % 3), (0, 1)) for t, each in enumerate(movie(photons=60))])
    for name, frames, words in (
        ("lines", lines, "in each frame other lines are brighter or darker"),
        ("turns", turns, "every third frame shows the same picture"),
    ):
        tifffile.imwrite(tmp_path / f"{name}.tif", frames, photometric="minisblack")
        report = live(
            core=f"replay:{tmp_path / name}.tif",
            output=tmp_path / name,
            bundle=str(bundle),
            fps=500,
            picture=False,
            denoiser="thread",
        )
        assert any(note.startswith(words) for note in report.outcome.notes), name
