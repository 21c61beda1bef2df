"""The public functions: their docstrings are run, old files are read, and the map names everything."""

from __future__ import annotations

import doctest
import importlib
import inspect
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from denoscope import acquisition
from denoscope.acquisition import SessionReport, demo_movie, fill_run, live
from denoscope.acquisition.results import REPORT_SCHEMA
from denoscope.runtime import InvalidInput

EXAMPLES = (
    "attach",
    "benchmark",
    "demo_movie",
    "denoise_movie",
    "describe_bundles",
    "doctor",
    "fill_run",
    "find_cells",
    "find_regions",
    "hook",
    "light_budget",
    "live",
    "load_camera",
    "make_settings",
    "open_source",
    "pause",
    "read_movie",
    "read_raw",
    "regions_of_layer",
    "resume",
    "stop",
)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a movie of a part of the demonstration; simulating that takes a sixth of a second."""
    path = tmp_path_factory.mktemp("short") / "movie.tif"
    tifffile.imwrite(path, demo_movie().frames[:24, :48, :56])
    return path


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, bundle: Path, short: Path) -> Path:
    """Return the folder of a recording, to be copied."""
    run = tmp_path_factory.mktemp("recorded") / "run"
    live(core=f"replay:{short}", output=run, bundle=str(bundle), fps=200, picture=False, denoiser="thread")
    return run


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: Path, recorded: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(short, "movie.tif")
    if name in ("fill_run", "read_raw"):
        shutil.copytree(recorded, "run")
    function = getattr(acquisition, name)
    found = doctest.DocTestFinder(recurse=False).find(
        function,
        name,
        module=False,
        globs={each: getattr(acquisition, each) for each in acquisition.__all__} | {"Path": Path},
    )
    assert found[0].examples, f"{name} shows no example"
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert runner.run(found[0], out=said.append).failed == 0, "".join(said)


def test_the_map_names_every_function() -> None:
    words = inspect.getdoc(acquisition) or ""
    functions = [name for name in acquisition.__all__ if inspect.isfunction(getattr(acquisition, name))]
    missing = [name for name in functions if f"`{name}`" not in words and f"`{name}." not in words]
    # What makes or opens the pieces of a session is for programs that are built of them.
    assert set(missing) <= {"load_camera", "open_source"}
    assert set(dir(acquisition)) == set(acquisition.__all__)


def test_a_path_may_be_text_everywhere() -> None:
    for name in acquisition.__all__:
        function = getattr(acquisition, name)
        if inspect.isfunction(function):
            for parameter in inspect.signature(function).parameters.values():
                kind = str(parameter.annotation)
                assert "Path" not in kind or "str" in kind or "Callable" in kind, f"{name}: {parameter}"


def test_every_public_name_is_documented() -> None:
    for name in acquisition.__all__:
        assert inspect.getdoc(getattr(acquisition, name)), name


def test_a_report_is_written_and_read_through_its_model(tmp_path: Path, bundle: Path, movie: Path) -> None:
    report = live(core=f"replay:{movie}", output=tmp_path / "run", bundle=str(bundle), fps=200, picture=False)
    again = SessionReport.read(tmp_path / "run")
    assert again == report
    assert again.schema_version == REPORT_SCHEMA
    assert set(json.loads((tmp_path / "run" / "report.json").read_text())) == set(SessionReport.model_fields)


def test_a_run_of_the_first_version_is_filled(tmp_path: Path, bundle: Path, movie: Path) -> None:
    run = tmp_path / "run"
    report = live(core=f"replay:{movie}", output=run, bundle=str(bundle), fps=200, picture=False).as_json()
    # What version 1 wrote: without what did not apply, and without what came later.
    denoiser = {name: value for name, value in report["denoiser"].items() if value is not None}
    for name in ("float32", "fix_line_offset", "scanner", "frames_not_denoised"):
        denoiser.pop(name, None)
    old = {
        "schema_version": 1,
        "denoscope": "0.1.0",
        "output": str(run),
        "outcome": report["outcome"],
        "source": {"kind": "replay", "name": "movie.tif", "shape": [48, 56], "dtype": "uint16"},
        "denoiser": denoiser,
        "frames": {"received": 40, "written_raw": 40, "denoised": report["frames"]["denoised"]},
        "timing": {"duration_s": 1.0, "latency_histogram": {"edge_s": [], "frames": []}},
    }
    (run / "report.json").write_text(json.dumps(old))
    filled = fill_run(run)
    assert (filled.frames, filled.missing, filled.incomplete) == (40, 0, [])
    assert filled.denoiser.intensity == SessionReport.read(run).denoiser.intensity
    np.testing.assert_array_equal(tifffile.imread(filled.output).shape, (40, 48, 56))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[]", "an object"),
        ("{", "JSON"),
        ('{"denoiser": {"look_ahead": "soon"}}', "denoiser.look_ahead"),
        ('{"frames": 3}', "frames"),
    ],
)
def test_a_damaged_report_is_one_sentence(tmp_path: Path, recorded: Path, text: str, what: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(recorded, run)
    (run / "report.json").write_text(text)
    with pytest.raises(InvalidInput, match="move it away to fill without it") as caught:
        fill_run(run)
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_public_function_is_reached_by_its_module() -> None:
    for module, names in acquisition._MODULES.items():
        home = importlib.import_module(f"denoscope.acquisition.{module}")
        for name in names:
            assert name in home.__all__, f"{module}.{name}"
