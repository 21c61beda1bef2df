"""`denoscope train` and `denoscope evaluate`: bad input gets one sentence, small input works end to end."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from denoscope.acquisition.cli.app import spread_pairs  # before typer reads the words
from denoscope.acquisition.cli.range import frame_range
from denoscope.acquisition.learning import training
from denoscope.runtime import InvalidInput
from denoscope.train import (
    CameraSettings,
    LiveNetSettings,
    SceneSettings,
    StsUvdSettings,
    UmvdSettings,
    simulate,
)
from denoscope.train.fitting.precision import automatic_precision

from .conftest import Run


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("pair")
    movie = simulate(SceneSettings(frames=40, height=48, width=56), CameraSettings(photons=3), seed=11)
    tifffile.imwrite(folder / "noisy.tif", movie.as_uint16(), photometric="minisblack")
    tifffile.imwrite(folder / "clean.tif", movie.clean, photometric="minisblack")
    return folder / "noisy.tif", folder / "clean.tif"


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let networks that start from nothing be as small as those of the other tests."""
    from denoscope.acquisition.learning import training as command
    from support.tiny_training import NARROW, SMALL

    begin = command._beginning  # the shell has no option for a network that is of no use

    def begin_small(*given: Any, **options: Any) -> Any:
        beginning = begin(*given, **options)
        if beginning.parent is None:
            changes = NARROW if beginning.method == "live" else SMALL
            beginning.shape = replace(beginning.shape, **changes)
        return beginning

    monkeypatch.setattr(command, "_beginning", begin_small)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["train", "none.tif", "--output", "b.denoscope"], "no movie at none.tif"),
        (["train", "{noisy}", "--output", "b.denoscope", "--from", "nobody"], "nobody"),
        (["train", "{noisy}", "--output", "b.denoscope", "--frames", "5:2"], "--frames 5:2 is no range"),
        (["train", "{noisy}", "--output", "b.denoscope", "--frames", "0:4"], "4 frames in the chosen range"),
        (["train", "{noisy}", "--output", "{folder}"], "is not a bundle"),
        (["train", "{noisy}", "--output", "b.denoscope", "--steps", "5", "--minutes", "1"], "give one"),
        (["train", "{noisy}", "--output", "b.denoscope", "--from", "x.pt"], "is a pickle checkpoint"),
        (
            ["train", "{noisy}", "--output", "b.denoscope", "--from", "live", "--size", "fast"],
            "leave them out",
        ),
        (
            ["train", "{noisy}", "--output", "b.denoscope", "--from", "live", "--method", "umvd"],
            "method live, not umvd",
        ),
        (
            ["train", "{noisy}", "--output", "b.denoscope", "--method", "umvd", "--size", "hq"],
            "for the method live",
        ),
        (["train", "{noisy}", "--output", "b.denoscope", "--one-photon"], "give --method umvd"),
        (
            ["train", "{noisy}", "--output", "b.denoscope", "--method", "umvd", "--guided"],
            "for the method live",
        ),
        (["train", "{noisy}", "--output", "b.denoscope", "--from", "live", "--guided"], "leave them out"),
        (["train", "{noisy}", "--output", "b.denoscope", "--resume"], "no checkpoint at"),
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


@pytest.mark.parametrize("name", ["mine.denoscope", "mine-report.html", "mine-training.csv"])
def test_what_an_earlier_training_wrote_is_not_replaced(tmp_path: Path, name: str) -> None:
    from denoscope.acquisition import OutputExists, train_bundle

    def train(**options: bool) -> None:
        train_bundle([tmp_path / "none.tif"], tmp_path / "mine.denoscope", **options)  # type: ignore[arg-type]

    with pytest.raises(InvalidInput, match="no movie at"):
        train()
    if name.endswith(".denoscope"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "bundle.json").touch()
    else:
        (tmp_path / name).touch()
    with pytest.raises(OutputExists, match=f"{name} exists: name another `output`, or add `overwrite`"):
        train()
    checkpoint = tmp_path / "mine.denoscope.checkpoint.safetensors"
    checkpoint.touch()
    with pytest.raises(OutputExists, match="add `resume` to go on"):
        train()
    with pytest.raises(InvalidInput, match="no movie at"):
        train(overwrite=True)
    written = tmp_path / name / "bundle.json" if name.endswith(".denoscope") else tmp_path / name
    os.utime(checkpoint, (2000, 2000))
    os.utime(written, (3000, 3000))
    with pytest.raises(InvalidInput, match="no movie at"):
        train(resume=True)  # an interrupted training goes on with its table and with what it wrote last
    os.utime(written, (1000, 1000))
    if not name.endswith(".csv"):
        with pytest.raises(OutputExists, match=f"{name} exists: name another"):
            train(resume=True)  # that is of another training


@pytest.mark.usefixtures("short_rehearsals")
@pytest.mark.slow
def test_train_then_evaluate(denoscope: Run, pair: tuple[Path, Path], tmp_path: Path) -> None:
    noisy, clean = pair
    mine = tmp_path / "mine.denoscope"
    words = ["train", noisy, "--output", mine, "--from", "live-fast", "--minutes", 0.05, "--frames", "0:36"]
    trained = denoscope(*words, "--json")
    assert trained.returncode == 0, trained.stderr
    result = json.loads(trained.stdout.splitlines()[-1])
    assert result["method"] == "live"
    assert result["steps"] > 0
    assert result["improved"] == (result["score_after"] < result["score_before"])
    assert Path(result["report"]) == tmp_path / "mine-report.html"
    assert Path(result["report"]).stat().st_size > 50_000
    assert Path(result["log"]).read_text().startswith("step,done,elapsed_s")
    assert "about 0.05 min" in trained.stderr or "about 3 s" in trained.stderr
    assert result["precision"] == automatic_precision()
    assert "of calibration, export and checks" in trained.stderr
    assert result["schema_version"] == 2
    (verdict,) = (v for v in result["verdicts"] if v["about"] == "training")
    assert f"{verdict['level']}: {verdict['why']}" in trained.stderr
    assert "nats" not in trained.stderr
    assert not list(tmp_path.glob("*.checkpoint*"))

    words = ["evaluate", "--pair", noisy, clean, "--bundle", mine, "--output", tmp_path / "out", "--json"]
    scored = denoscope(*words, "--at-least", -100)
    assert scored.returncode == 0, scored.stderr
    methods = {m["method"]: m for m in json.loads(scored.stdout.splitlines()[-1])["pairs"][0]["methods"]}
    assert set(methods) == {"noisy", "gaussian", "temporal average", "mine"}
    assert methods["mine"]["psnr_db"] > methods["noisy"]["psnr_db"] + 3
    assert (tmp_path / "out" / "noisy.png").stat().st_size > 10_000
    words = [
        "evaluate",
        "--pair",
        noisy,
        clean,
        "--bundle",
        mine,
        "--output",
        tmp_path / "few",
        "--frames",
        "0:10",
    ]
    assert denoscope(*words, "--at-least", 100).returncode == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--method", "umvd", "--window", 3], UmvdSettings(window=3)),
        (["--method", "sts-uvd", "--window", 3], StsUvdSettings(window=3)),
        (["--guided"], LiveNetSettings.preset("standard", guided=True, second_width=0)),
    ],
)
def test_words_of_the_command_shape_the_network(
    denoscope: Run,
    pair: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[object],
    expected: object,
) -> None:
    """See `test_fit`, `test_live` and `test_methods` for what is then trained, exported and run."""
    seen: list[Any] = []

    def begin(*given: Any, **options: Any) -> Any:
        seen.append(beginning(*given, **options))
        raise KeyboardInterrupt

    beginning = training._beginning
    monkeypatch.setattr(training, "_beginning", begin)
    done = denoscope("train", pair[0], "--output", tmp_path / "mine.denoscope", *words)
    assert done.returncode == 130, done.stderr
    (found,) = seen
    assert found.parent is None
    assert found.shape == expected


@pytest.mark.slow
@pytest.mark.parametrize("method", ["umvd", "sts-uvd"])
def test_train_a_published_method_then_adapt_it(
    method: str,
    denoscope: Run,
    pair: tuple[Path, Path],
    tmp_path: Path,
    narrow: None,
) -> None:
    first, second, log = tmp_path / "a.denoscope", tmp_path / "b.denoscope", tmp_path / "log"
    common = ["--frames", "0:12", "--steps", 2, "--json"]
    trained = denoscope(
        "train",
        pair[0],
        "--output",
        first,
        "--method",
        method,
        "--window",
        3,
        "--log",
        log,
        *common,
    )
    assert trained.returncode == 0, trained.stderr
    assert json.loads(trained.stdout.splitlines()[-1])["method"] == method
    assert (log / "training.csv").is_file()
    assert json.loads((first / "bundle.json").read_text())["window"] == 3
    adapted = denoscope("train", pair[0], "--output", second, "--from", first, *common)
    assert adapted.returncode == 0, adapted.stderr
    result = json.loads(adapted.stdout.splitlines()[-1])
    assert result["method"] == method
    assert result["score_before"] <= json.loads(trained.stdout.splitlines()[-1])["score_after"] + 0.5
    denoised(denoscope, pair[0], second, tmp_path)


@pytest.mark.slow
def test_train_a_guided_network(
    denoscope: Run, pair: tuple[Path, Path], tmp_path: Path, narrow: None
) -> None:
    bundle = tmp_path / "guided.denoscope"
    words = [
        "train",
        pair[0],
        "--output",
        bundle,
        "--guided",
        "--size",
        "fast",
        "--steps",
        2,
        "--frames",
        "0:20",
    ]
    trained = denoscope(*words, "--json")
    assert trained.returncode == 0, trained.stderr
    manifest = json.loads((bundle / "bundle.json").read_text())
    assert (manifest["method"], manifest["flow_scale"]) == ("live", 4)
    assert (bundle / "motion.onnx").is_file()
    denoised(denoscope, pair[0], bundle, tmp_path)


def denoised(denoscope: Run, noisy: Path, bundle: Path, folder: Path) -> None:
    """Denoise a movie with a bundle, and see that something came out."""
    output = folder / "out.ome.tif"
    done = denoscope("denoise", noisy, "--bundle", bundle, "--output", output)
    # A network that learned for seconds may be too dark or too bright, and that is said.
    assert done.returncode == 0 or "beyond what noise explains" in done.stdout, done.stderr
    result, movie = tifffile.imread(output), tifffile.imread(noisy)
    assert (result.shape, result.dtype) == (movie.shape, movie.dtype)
    assert result[20].std() < movie[20].std()
    assert result[20].mean() > 0


def test_the_blind_spot_follows_the_noise() -> None:
    # Choosing is a step inside `train_bundle`, which has no result that shows it before it has trained.
    from denoscope.acquisition.learning.training import _Beginning, _choose_blind_spot  # no training
    from denoscope.runtime import estimate_intensity
    from denoscope.train import LiveNetSettings, TrainingMovie

    white = 100 + 10 * np.random.default_rng(0).normal(size=(60, 64, 64)).astype(np.float32)
    rows = white + 8 * np.random.default_rng(1).normal(size=(60, 64, 1)).astype(np.float32)

    def choose(frames: np.ndarray, **options: object) -> tuple[str, list[str]]:
        beginning = _Beginning("live", LiveNetSettings(), **options)  # type: ignore[arg-type]
        movie = TrainingMovie("m.tif", frames, None, estimate_intensity(frames[:32]))
        sentences = _choose_blind_spot(beginning, [movie])
        return beginning.shape.blind_spot, sentences

    assert choose(white) == ("cell", [])
    spot, sentences = choose(rows)
    assert spot == "row"
    assert "pixels of a row share" in sentences[0]
    spot, sentences = choose(rows, parent=object())
    assert spot == "row", "a parent's is widened along the row"
    assert "becomes `row` instead of the start's `bleed`" in sentences[1]
    blurred = ndimage.gaussian_filter(white, (0, 0.7, 0.7))
    spot, sentences = choose(blurred, parent=object())
    assert spot == "bleed", "the weights would lose their meaning"
    assert "does not hide noise of the kind neighbours" in sentences[1]
    assert choose(white, parent=object()) == ("bleed", [])


def test_pairs_may_be_repeated() -> None:
    spread = spread_pairs(["evaluate", "--pair", "a", "b", "--output", "o", "--pair", "c", "d"])
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
