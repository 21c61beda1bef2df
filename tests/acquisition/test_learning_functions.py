"""The functions behind `train`, `evaluate`, `export`, `build` and `engines`: examples, results, verdicts."""

from __future__ import annotations

import doctest
import errno
from importlib import import_module
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

import denoscope.acquisition as acquisition
import denoscope.train as train
from denoscope.acquisition import (
    Evaluation,
    OutputExists,
    check_engines,
    evaluate,
    export_bundle_precision,
    train_bundle,
)
from denoscope.acquisition.learning import evaluation as evaluation_module
from denoscope.runtime import estimate_intensity
from denoscope.train.evaluation.records import MovieRecord, ResidualRecord, TraceRecord, worst
from denoscope.train.evaluation.residual import analyse_residual
from denoscope.train.evaluation.verdicts import (
    margin_verdict,
    object_verdicts,
    residual_verdicts,
    serious_first,
    trace_verdicts,
)
from support.tiny_bundle import tiny_bundle

from .conftest import Run

FUNCTIONS = (
    "build_engines",
    "check_engines",
    "evaluate",
    "export_bundle_precision",
    "prune_engines",
    "train_bundle",
)


@pytest.mark.usefixtures("short_rehearsals")
@pytest.mark.parametrize(
    "name",
    # The command of the slow one is tested in `test_evaluate_command`.
    [pytest.param(name, marks=[pytest.mark.slow] if name == "evaluate" else []) for name in FUNCTIONS],
)
def test_the_example_of_a_function_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    function = getattr(acquisition, name)
    (example,) = doctest.DocTestFinder(recurse=False).find(
        function, name, module=import_module(function.__module__)
    )
    assert example.examples, f"{name} has no example"
    flags = doctest.IGNORE_EXCEPTION_DETAIL
    failed = doctest.DocTestRunner(optionflags=flags).run(example).failed
    assert failed == 0


def test_every_public_name_of_the_packages_is_there() -> None:
    for package in (acquisition, train):
        assert [name for name in package.__all__ if not hasattr(package, name)] == []


def test_an_export_never_replaces(tmp_path: Path) -> None:
    with pytest.raises(OutputExists, match="name another folder"):
        export_bundle_precision("live", tmp_path)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), MemoryError()])
def test_a_training_that_fails_leaves_no_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fit(*_movies: object, log: Path, **_options: object) -> None:
        log.write_text("step,loss")
        raise error

    monkeypatch.setattr(train, "fit", fit)
    tifffile.imwrite(
        tmp_path / "movie.tif", np.random.default_rng(1).integers(0, 99, (12, 48, 48), np.uint16)
    )
    with pytest.raises(type(error)):
        train_bundle(
            [tmp_path / "movie.tif"], tmp_path / "mine.denoscope", start="nothing", size="fast", steps=1
        )
    assert [path.name for path in tmp_path.iterdir()] == ["movie.tif"]


def test_a_folder_without_engines_holds_none(tmp_path: Path) -> None:
    checks = check_engines(tmp_path / "none")
    assert (checks.engines, checks.unusable) == ([], 0)


def test_an_evaluation_is_read_back() -> None:
    found = Evaluation(margin_db={"a": {"live": 3.0, "mine": -1.0}, "b": {"live": 2.0}})
    assert found.least_margin_db == -1
    assert Evaluation.model_validate_json(found.model_dump_json()) == found
    assert Evaluation().least_margin_db is None


def residual(change: str) -> ResidualRecord:
    rng = np.random.default_rng(0)
    scene = 400 + 100 * np.sin(np.arange(64) / 5)[None, None, :] * np.ones((40, 64, 1))
    noisy = rng.poisson(scene).astype(np.float32)
    shown = scene.astype(np.float32)
    if change == "structure":
        shown = np.full_like(shown, shown.mean())
    if change == "drift":
        shown = shown + np.linspace(0, 20, 40, dtype=np.float32)[:, None, None]
    if change == "noise left":
        shown = shown + 0.6 * (noisy - shown)
    if change == "grid":
        shown = shown + 6 * np.tile([[1, -1], [1, -1]], (32, 32)).astype(np.float32)
    return analyse_residual(noisy, shown, estimate_intensity(noisy), stride=2).record()


@pytest.mark.parametrize(
    ("change", "about"),
    [
        ("", None),
        ("structure", "structure"),
        ("drift", "brightness"),
        ("noise left", "amount of noise"),
        ("grid", "grid"),
    ],
)
def test_a_verdict_names_what_is_wrong(change: str, about: str | None) -> None:
    verdicts = serious_first(residual_verdicts(residual(change)))
    wrong = {verdict.about for verdict in verdicts if verdict.level != "fine"}
    if about is None:
        assert wrong == set()
    else:
        assert about in wrong
        assert worst(verdicts) == verdicts[0].level != "fine"
        assert all(verdict.todo for verdict in verdicts if verdict.level != "fine")


def test_verdicts_on_activity_objects_and_truth() -> None:
    def traces(slope: float) -> TraceRecord:
        return TraceRecord(snr=5, correlation=0.9, ceiling=0.9, slope=slope)

    (small,) = trace_verdicts(traces(1.25))
    assert (small.level, "of 100 counts in the raw movie is shown as 80" in small.why) == ("look here", True)
    assert trace_verdicts(traces(2.15))[0].level == "do not trust"
    assert trace_verdicts(traces(0.6))[0].level == "do not trust"
    assert trace_verdicts(traces(1.05))[0].level == "fine"
    assert trace_verdicts(None) == object_verdicts(0, 0) == []
    assert [object_verdicts(9, n)[0].level for n in (9, 8, 2)] == ["fine", "look here", "do not trust"]
    assert [margin_verdict(db).level for db in (4.0, -0.5)] == ["fine", "look here"]


def nothing_measured(name: str) -> MovieRecord:
    return MovieRecord(
        movie=name,
        frames=12,
        height_px=32,
        width_px=32,
        intensity=estimate_intensity(np.full((12, 32, 32), 90, np.uint16)),
        object_radius_px=3.0,
        regions=0,
        methods=[],
    )


def test_an_evaluation_that_is_interrupted_keeps_the_movies_before(
    denoscope: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        tifffile.imwrite(tmp_path / f"{name}.tif", np.full((12, 32, 32), 90, np.uint16))

    def movie(_run: object, name: str, _noisy: object) -> MovieRecord:
        if name == stop:
            raise KeyboardInterrupt
        return nothing_measured(name)

    monkeypatch.setattr(evaluation_module._Run, "movie", movie)
    words = (
        "evaluate",
        "--movie",
        tmp_path / "a.tif",
        "--movie",
        tmp_path / "b.tif",
        "--bundle",
        "live-fast",
    )
    stop = "b"
    run = denoscope(*words, "--output", tmp_path / "some")
    assert run.returncode == 130
    assert run.stderr.endswith(f"interrupted; {tmp_path / 'some' / 'evaluation.json'} holds 1 of 2 movies\n")
    found = Evaluation.model_validate_json(
        (tmp_path / "some" / "evaluation.json").read_text(encoding="utf-8")
    )
    assert [record.movie for record in found.movies] == ["a"]
    assert found.notes[-1] == "stopped after 1 of 2 movies, which are all there is"
    stop = "a"
    run = denoscope(*words, "--output", tmp_path / "none")
    assert run.stderr.endswith("interrupted; no movie was done\n")
    assert not list((tmp_path / "none").iterdir())


def test_several_bundles_are_compared_by_frames_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = np.random.default_rng(0).poisson(150, (60, 24, 32)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "m.tif", frames)
    bundles = [tmp_path / "three.denoscope", tmp_path / "seven.denoscope"]
    for window, bundle in zip((3, 7), bundles, strict=True):
        tiny_bundle(bundle, name=bundle.stem, window=window, calibration_frames=8)

    def movie(run: evaluation_module._Run, name: str, noisy: npt.NDArray[np.uint16]) -> MovieRecord:
        run._compare(name, noisy)
        run._compare("short", noisy[:59])
        return nothing_measured(name)

    monkeypatch.setattr(evaluation_module._Run, "movie", movie)
    out = tmp_path / "out"
    found = evaluate(out, movie=[tmp_path / "m.tif"], bundle=bundles, backend="onnxruntime-cpu")
    ((name, (compared,)),) = found.held_out.items()
    assert (name, compared.bundle, compared.than, compared.frames) == ("m", "seven", "three", 8)
    assert f"m: {compared.sentence()}." in found.notes
    assert f"Note: {compared.sentence()}.\n" in (out / "evaluation.md").read_text("utf-8")
    assert Evaluation.model_validate_json((out / "evaluation.json").read_text("utf-8")) == found
