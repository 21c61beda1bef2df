"""`denoscope train` and `denoscope evaluate`: bad input gets one sentence, small input works end to end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from denoscope.acquisition._cli import _spread_pairs
from denoscope.acquisition._range import frame_range
from denoscope.runtime import InvalidInput
from denoscope.train import CameraSettings, SceneSettings, simulate

from .conftest import Run


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("pair")
    movie = simulate(SceneSettings(frames=40, height=48, width=56), CameraSettings(photons=3), seed=11)
    tifffile.imwrite(folder / "noisy.tif", movie.as_uint16(), photometric="minisblack")
    tifffile.imwrite(folder / "clean.tif", movie.clean, photometric="minisblack")
    return folder / "noisy.tif", folder / "clean.tif"


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["train", "none.tif", "--output", "b.denoscope"], "no movie at none.tif"),
        (["train", "{noisy}", "--output", "b.denoscope", "--from", "nobody"], "nobody"),
        (["train", "{noisy}", "--output", "b.denoscope", "--frames", "5:2"], "--frames 5:2 is no range"),
        (["train", "{noisy}", "--output", "b.denoscope", "--frames", "0:4"], "4 frames in the chosen range"),
        (["train", "{noisy}", "--output", "{folder}"], "is not a bundle"),
        (["evaluate", "--output", "out"], "nothing to evaluate on"),
        (["evaluate", "--output", "out", "--pair", "{noisy}"], "has no clean movie"),
        (["evaluate", "--output", "out", "--pair", "{noisy}", "{clean}", "--backend", "abacus"], "abacus"),
    ],
)
def test_bad_input_gets_one_sentence(
    denoscope: Run, pair: tuple[Path, Path], words: list[str], what: str
) -> None:
    noisy, clean = pair
    done = denoscope(*(w.format(noisy=noisy, clean=clean, folder=noisy.parent) for w in words))
    assert done.returncode == 2, done.stderr
    assert what in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().count("\n") == 0


@pytest.mark.slow
def test_train_then_evaluate(denoscope: Run, pair: tuple[Path, Path], tmp_path: Path) -> None:
    noisy, clean = pair
    mine = tmp_path / "mine.denoscope"
    trained = denoscope(
        "train", noisy, "--output", mine, "--minutes", 0.1, "--frames", "0:36", "--json", timeout_s=240
    )
    assert trained.returncode == 0, trained.stderr
    result = json.loads(trained.stdout.splitlines()[-1])
    assert result["steps"] > 0
    assert result["improved"] == (result["score_after"] < result["score_before"])
    assert Path(result["picture"]).stat().st_size > 10_000
    assert not list(tmp_path.glob("*.checkpoint*"))

    words = ["evaluate", "--pair", noisy, clean, "--bundle", mine, "--output", tmp_path / "out", "--json"]
    scored = denoscope(*words, "--at-least", -100, timeout_s=240)
    assert scored.returncode == 0, scored.stderr
    methods = {m["method"]: m for m in json.loads(scored.stdout.splitlines()[-1])["pairs"][0]["methods"]}
    assert set(methods) == {"noisy", "gaussian", "temporal average", "mine"}
    assert methods["mine"]["psnr_db"] > methods["noisy"]["psnr_db"] + 3
    assert (tmp_path / "out" / "noisy.png").stat().st_size > 10_000
    assert denoscope(*words, "--at-least", 100, timeout_s=240).returncode == 1


def test_pairs_may_be_repeated() -> None:
    spread = _spread_pairs(["evaluate", "--pair", "a", "b", "--output", "o", "--pair", "c", "d"])
    assert spread == ["evaluate", "--pair", "a", "--pair", "b", "--output", "o", "--pair", "c", "--pair", "d"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, slice(None)), ("3:9", slice(3, 9)), (":9", slice(0, 9)), ("3:", slice(3, None))],
)
def test_frame_ranges(text: str | None, expected: slice) -> None:
    assert frame_range(text) == expected


@pytest.mark.parametrize("text", ["5", "5:5", "-1:5", "a:b", "1:2:3", ""])
def test_wrong_frame_ranges(text: str) -> None:
    with pytest.raises(InvalidInput, match="is no range"):
        frame_range(text)


def test_the_simulated_test_movie_is_never_trained_on() -> None:
    from denoscope.train import simulated_movies, test_movie

    truth = test_movie().clean
    for movie in simulated_movies(3, frames=20, size=32, seed=0):
        assert movie.clean is not None
        assert not np.array_equal(movie.clean[0], truth[0, :32, :32])
