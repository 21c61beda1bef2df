"""Movies are checked before they are read, and drawn windows are what a live session would see."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile

from denoscope.runtime import Intensity, InvalidInput, open_movie
from denoscope.train import LiveSettings, TrainingMovie, movie_from_file
from denoscope.train._data import draw_batch

STAMPED = np.arange(60, dtype=np.uint16)[:, None, None] * 10 + np.zeros((60, 32, 32), np.uint16)
PLAIN = Intensity(offset=0, scale=1, noise_slope=0, noise_floor=0.1)


@pytest.mark.parametrize(
    "options", [{}, {"bigtiff": True}, {"compression": "zlib"}, {"ome": True}, {"imagej": True}]
)
def test_reads_the_usual_tiff_kinds(tmp_path: Path, options: dict[str, object]) -> None:
    path = tmp_path / "movie.tif"
    tifffile.imwrite(path, STAMPED, photometric="minisblack", **options)
    np.testing.assert_array_equal(open_movie(path), STAMPED)


def bad_files(folder: Path) -> dict[str, Path]:
    text = folder / "text.tif"
    text.write_bytes(b"not a tiff at all")
    empty = folder / "empty.tif"
    empty.write_bytes(b"")
    header = folder / "header.tif"
    header.write_bytes(struct.pack("<2sHI", b"II", 42, 0))
    colour = folder / "colour.tif"
    tifffile.imwrite(colour, np.zeros((4, 3, 16, 16, 3), np.uint8), photometric="rgb")
    double = folder / "double.tif"
    tifffile.imwrite(double, np.zeros((4, 16, 16)), photometric="minisblack")
    claim = folder / "claim.tif"
    tifffile.imwrite(claim, np.zeros((2, 16, 16), np.uint16), photometric="minisblack")
    with tifffile.TiffFile(claim, mode="r+") as tif:
        tif.pages.first.tags["ImageLength"].overwrite(40_000)
        tif.pages.first.tags["ImageWidth"].overwrite(40_000)
    return {
        "missing": folder / "none.tif",
        **{p.stem: p for p in (text, empty, header, colour, double, claim)},
    }


@pytest.mark.parametrize("kind", ["missing", "text", "empty", "header", "colour", "double", "claim"])
@pytest.mark.filterwarnings("ignore")
def test_bad_files_get_one_sentence(tmp_path: Path, kind: str) -> None:
    path = bad_files(tmp_path)[kind]
    with pytest.raises(InvalidInput) as caught:
        open_movie(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_too_short_a_movie_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "short.tif"
    tifffile.imwrite(path, STAMPED[:9], photometric="minisblack")
    with pytest.raises(InvalidInput, match="9 frames in the chosen range; training needs 10"):
        movie_from_file(path)


@pytest.mark.parametrize("look_ahead", [0, 2, 3])
def test_windows_hold_the_right_frames_and_the_memory_none_of_them(look_ahead: int) -> None:
    settings = LiveSettings(look_ahead=look_ahead, memory_decay=(4.0, 50.0))
    movie = TrainingMovie("stamped", STAMPED, None, PLAIN)
    batch = draw_batch([movie], np.ones(1), settings, size=200, crop=16, rng=np.random.default_rng(0))
    numbers = batch.window[:, :, 0, 0] / 10
    centre = numbers[:, 3]
    for i in range(7):
        there = batch.valid[:, i] > 0
        np.testing.assert_allclose(numbers[there, i], centre[there] + i - 3, atol=1e-3)
        assert (numbers[~there, i] == 0).all()
    assert (batch.valid[:, 3] == 1).all()
    assert (batch.valid[:, 4 + look_ahead :] == 0).all()
    assert (batch.valid[centre > 56, 6] == 0).all()
    remembered = batch.weight[:, 0] > 0
    average = batch.memory[remembered, 0, 0, 0] / batch.weight[remembered, 0] / 10
    assert (average <= centre[remembered] - 4 + 1e-3).all(), "only frames before the window"
    assert (batch.weight[centre <= 3] == 0).all()
    assert (batch.supervised == 0).all()
