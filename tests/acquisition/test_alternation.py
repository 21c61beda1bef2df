"""Channels that take turns in a file that does not say so are noticed, and nothing else is taken for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from scipy import ndimage

from denoscope.acquisition.notes.alternation import alternation_note

from .conftest import Run


def scenes(count: int) -> npt.NDArray[Any]:
    spots = np.random.default_rng(2).random((count, 48, 64)) > 0.98
    return np.asarray(4 + 60 * ndimage.gaussian_filter(spots.astype(np.float32), (0, 2, 2)))


def noisy(light: Any) -> npt.NDArray[np.uint16]:
    return np.random.default_rng(3).poisson(light).astype(np.uint16)


def taking_turns(pictures: int, length: int = 48) -> npt.NDArray[np.uint16]:
    return noisy(scenes(pictures)[np.arange(length) % pictures])


@pytest.mark.parametrize("pictures", [2, 3, 4])
def test_pictures_that_take_turns_are_said(pictures: int) -> None:
    for movie in (taking_turns(pictures), taking_turns(pictures).astype(np.float32) / 100 - 3):
        note = alternation_note(movie)
        assert note is not None
        assert f"`interleaved` {pictures} with `channel` 0, then 1" in note


def test_other_changes_are_no_channels() -> None:
    (scene, other), times = scenes(2), np.arange(48)[:, None, None]
    odd = noisy(np.tile(scene, (48, 1, 1))).astype(np.float32)
    odd[:, :, :5] = np.nan
    hot = 300 * (np.random.default_rng(4).random((48, 64)) < 0.003)
    leak = 80 * ((times % 9 == 4) & (np.arange(48)[:, None] > 36))
    for name, movie in {
        "still": noisy(np.tile(scene, (48, 1, 1))),
        "light flickers": noisy(scene * (1 + 0.3 * (times % 2))),
        "offset flickers": noisy(scene + 3 * (times % 2)),
        "bleaches": noisy(scene * np.exp(-times / 10) + other),
        "moves": noisy([np.roll(scene, t // 2, 1) for t in range(48)]),
        "beats": noisy([np.roll(scene, round(3 * np.sin(t * 0.86)), 1) for t in range(48)]),
        "light halves beside hot pixels": noisy(scene * (1 - 0.5 * (times % 2))) + hot,
        "light leaks in every ninth frame": noisy(scene + leak),
        "dark": np.zeros((48, 48, 64), np.uint16),
        "missing": odd,
        "short": taking_turns(2, 8),
        "tiny": taking_turns(2)[:, :9, :9],
    }.items():
        assert alternation_note(movie) is None, name


def test_denoise_says_how_to_tell_them_apart(denoscope: Run, bundle: Path, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "m.tif", taking_turns(2), photometric="minisblack")
    words = ("denoise", tmp_path / "m.tif", "--bundle", bundle, "--output")
    done = denoscope(*words, tmp_path / "a.tif")
    assert "every second frame shows the same picture" in done.stdout + done.stderr
    assert "--interleaved 2 with --channel 0, then 1" in done.stdout + done.stderr
    done = denoscope(*words, tmp_path / "b.tif", "--interleaved", 2, "--channel", 1)
    assert "every second frame" not in done.stdout + done.stderr
