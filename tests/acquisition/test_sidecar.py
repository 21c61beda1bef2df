"""Files of a run folder with any content: one sentence, and never more memory than a recording takes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from denoscope.acquisition import (
    SessionReport,
    benchmark,
    evaluate,
    export_bundle_precision,
    fill_run,
    read_raw,
    train_bundle,
)
from denoscope.acquisition.bench.against import read_report
from denoscope.acquisition.bench.results import Benchmark
from denoscope.acquisition.bench.resumed import _read_timelines
from denoscope.acquisition.cli.app import COMMANDS
from denoscope.acquisition.denoisers.kept_bundle import bundle_in_log
from denoscope.acquisition.errors import OutputExists
from denoscope.acquisition.offline.journal import Journal
from denoscope.acquisition.offline.outputs import check_output
from denoscope.acquisition.raw import sidecar
from denoscope.acquisition.raw.in_the_way import no_name
from denoscope.acquisition.read_whole import MOST_BYTES, read_whole
from denoscope.acquisition.results import SessionProvenance
from denoscope.acquisition.session.opening.run_files import refuse_existing
from denoscope.acquisition.sources.micromanager.core import frame_from
from denoscope.acquisition.testing import numbered_frames
from denoscope.runtime import InvalidInput
from denoscope.runtime.bundle.regular_file import NotReadable

from .test_fill import frames_of, record

ROOT = Path(__file__).parents[2]
# Larger than the memory of any computer that runs the tests.
SPARSE = 2**42


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a recording of 12 frames, of which one was skipped."""
    folder = tmp_path_factory.mktemp("recorded")
    record(folder / "run", frames_of(12), skipped=[5])
    return folder / "run"


@pytest.fixture
def run(recorded: Path, tmp_path: Path) -> Path:
    """Return a copy of a recording, to be damaged."""
    return Path(shutil.copytree(recorded, tmp_path / "run"))


def change(run: Path, line: int, **values: Any) -> None:
    lines = (run / "raw.jsonl").read_text("utf-8").splitlines()
    lines[line] = json.dumps({**json.loads(lines[line]), **values})
    (run / "raw.jsonl").write_text("\n".join(lines) + "\n", "utf-8")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"number": "x"}, "\"number\" is 'x', not a frame number"),
        ({"number": 10**400}, '"number" is 1000'),
        ({"number": float("nan")}, '"number" is nan'),
        ({"number": True}, '"number" is True'),
        ({"page": -1}, '"page" is -1, not a page number'),
        ({"at": 10**30}, '"at" is 1000'),
        ({"received_s": float("nan")}, '"received_s" is nan, not a time in seconds'),
        ({"received_s": 10**400}, '"received_s" is 1000'),
        ({"core_unix_s": float("inf")}, '"core_unix_s" is inf'),
        ({"shape": [1]}, '"shape" is [1], not height and width'),
        ({"shape": [-1, 2**40]}, '"shape" is [-1'),
        ({"dtype": "nonsense"}, "\"dtype\" is 'nonsense', not a number type"),
        ({"dtype": "O"}, "\"dtype\" is 'O', not a number type"),
        ({"camera": {"a": 1}}, "\"camera\" is {'a': 1}, not a text"),
        ({"tags": [1, 2]}, '"tags" is [1, 2], not a list of tags'),
        ({"tags": {}, "tags_changed": 3}, '"tags_changed" is 3'),
    ],
)
def test_a_value_of_another_kind_is_named_with_its_line(
    run: Path, values: dict[str, Any], words: str
) -> None:
    change(run, 3, **values)
    with pytest.raises(InvalidInput) as refused:
        read_raw(run)
    assert "raw.jsonl is damaged in line 4: " in str(refused.value)
    assert words in str(refused.value)
    assert f"denoscope denoise {run / 'raw.tif'} needs no sidecar." in str(refused.value)
    with pytest.raises(InvalidInput, match="damaged in line 4"):
        fill_run(run)


@pytest.mark.parametrize(
    ("line", "text", "words"),
    [
        (0, "{}", "does not start with the header of a denoscope recording"),
        (0, "[1]", "does not start with the header of a denoscope recording"),
        (3, "[1]", "is damaged in line 4, which is no record of a page"),
        (3, '{"page": 2', "is damaged in line 4, which is not JSON"),
    ],
)
def test_a_line_that_is_no_record_is_named_with_a_remedy(run: Path, line: int, text: str, words: str) -> None:
    lines = (run / "raw.jsonl").read_text("utf-8").splitlines()
    lines[line] = text
    (run / "raw.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    with pytest.raises(InvalidInput) as refused:
        read_raw(run)
    assert str(refused.value).startswith(f"{run / 'raw.jsonl'} {words}")
    assert str(refused.value).endswith(f"; denoscope denoise {run / 'raw.tif'} needs no sidecar.")


def test_values_that_early_versions_left_out_are_no_fault(run: Path) -> None:
    change(run, 3, core_unix_s=None, page=2)
    lines = (run / "raw.jsonl").read_text("utf-8").splitlines()
    lines[4] = json.dumps({"page": 3, "number": 3})
    (run / "raw.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    assert read_raw(run).records[3] == {"page": 3, "number": 3}


def test_a_line_without_end_is_not_read_to_its_end(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sidecar, "LONGEST_LINE", 2**16)
    _grow(run / "raw.jsonl")
    with pytest.raises(InvalidInput, match="has a line of more than 65536 bytes"):
        read_raw(run)


@pytest.mark.parametrize("name", ["report.json", "log.jsonl"])
def test_a_huge_file_is_refused_before_it_is_read(run: Path, name: str) -> None:
    _grow(run / name)
    if name == "report.json":
        with pytest.raises(ValueError, match=f"has {SPARSE} bytes, and at most"):
            SessionReport.read(run)
        with pytest.raises(InvalidInput, match=r"report.json has \d+ bytes, and at most .*; move it away"):
            fill_run(run)
    else:
        assert bundle_in_log(run) == SessionProvenance()  # as without a log


@pytest.mark.parametrize("nested", [False, True])
def test_files_of_a_benchmark_and_of_a_resumed_output_are_refused_too(tmp_path: Path, nested: bool) -> None:
    bench, output = tmp_path / "bench.json", tmp_path / "a.tif"
    for path in (bench, tmp_path / "timelines.json", Journal(output).path):
        path.write_text("[" * 100_000 if nested else "")
        if not nested:
            _grow(path)
    with pytest.raises(InvalidInput, match="cannot be read as a benchmark"):
        read_report(bench)
    assert _read_timelines(tmp_path / "timelines.json", Benchmark.model_construct(cases=[])) == []
    with pytest.raises(InvalidInput, match=r"a\.tif\.partial\.json"):
        Journal(output).load()


def _grow(path: Path) -> None:
    try:
        os.truncate(path, SPARSE)
    except OSError:
        pytest.skip("the file system holds no file of this size")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("CON", "CON is the name of a device on Windows"),
        ("runs/aux.tif", "aux.tif is the name of a device on Windows"),
        ("NUL.ome.tif", "is the name of a device"),
        ("lpt1 .zarr", "is the name of a device"),
        ("com¹", "is the name of a device"),
        ("run./raw", "'run.' ends with a dot, which Windows leaves out"),
        ("run ", "'run ' ends with a space"),
        ("a:b.ome.tif", "a:b.ome.tif contains ':', which Windows allows in no name"),
        ("what?.tif", "contains '?'"),
        ("new\nline", "contains '\\n'"),
        ("../runs/ü n#i %d {x}.ome.tif", None),
        ("console.tif", None),
        ("com12/lpt", None),
        ("./a.b.c", None),
    ],
)
def test_names_that_are_none_on_windows(path: str, words: str | None) -> None:
    assert no_name(Path(path), windows=False) is None
    found = no_name(Path(path), windows=True)
    assert found is None if words is None else words in (found or "")


@pytest.mark.parametrize("windows", [False, True])
def test_outputs_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, windows: bool) -> None:
    monkeypatch.setitem(no_name.__kwdefaults__, "windows", windows)
    output = Path("aux.ome.tif")  # relative: the folder of this test may have a name that Windows forbids
    monkeypatch.chdir(tmp_path)
    if not windows:
        check_output(output)
        return
    with pytest.raises(
        InvalidInput, match=r"aux.ome.tif cannot be written: .* device on Windows; name another"
    ):
        check_output(output)
    with pytest.raises(
        OutputExists, match="cannot be the run folder: aux is the name of a device on Windows"
    ):
        refuse_existing(Path("aux"))


MOVIES = ("movie.tif", "--output", "a.tif")
NAMES = {
    "demo": [("--output",)],
    "live": [("--core", "demo", "--output"), ("--core", "demo", "--output", "run", "--rescue")],
    "pause": [()],
    "resume": [()],
    "find": [()],
    "stop": [()],
    "denoise": [("movie.tif", "--output"), (*MOVIES, "--std"), (*MOVIES, "--traces"), ("--fill",), ()],
    "train": [("movie.tif", "--output"), (*MOVIES, "--log"), ("--output", "b.denoscope")],
    "evaluate": [("--output",), ("--output", "here", "--movie"), ("--output", "here", "--pair", "movie.tif")],
    "bench": [("--output",), ("--output", "here", "--against")],
    "doctor": [("--output",)],
    "bundles": [],
    "export": [("live", "--precision", "fp16", "--output")],
    "build": [("live", "--for", "sm120", "--cache")],
    "engines": [("--cache",)],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_names_that_are_none_on_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, denoscope: Callable[..., Any], command: str
) -> None:
    monkeypatch.setitem(no_name.__kwdefaults__, "windows", True)
    monkeypatch.chdir(tmp_path)
    for words in NAMES[command]:
        done = denoscope(command, *words, "aux.tif", "--json")
        said = done.stderr.splitlines()
        assert done.returncode == 2, (words, said)
        assert len(said) == 1
        assert said[0].startswith("denoscope: ")
        assert "aux.tif is the name of a device on Windows; name another" in said[0]
        assert json.loads(done.stdout)["exit_code"] == 2
    assert not list(tmp_path.iterdir())


def test_functions_refuse_names_that_are_none_on_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(no_name.__kwdefaults__, "windows", True)
    monkeypatch.chdir(tmp_path)
    for act in (
        lambda: train_bundle(["movie.tif"], "con.denoscope"),
        lambda: export_bundle_precision("live", "con.denoscope", "fp16"),
        lambda: evaluate("con", movie=["movie.tif"]),
        lambda: benchmark("con"),
    ):
        with pytest.raises(InvalidInput, match=r"`output` con.* is the name of a device"):
            act()
    assert not list(tmp_path.iterdir())


def test_files_that_are_read_whole_have_their_limits_in_one_table(tmp_path: Path) -> None:
    for kind, most in MOST_BYTES.items():
        path = tmp_path / "file"
        with path.open("wb") as file:
            file.truncate(most + 1)
        with pytest.raises(NotReadable, match=f"at most {most} are read"):
            read_whole(path, kind)
    elsewhere = [
        path.name
        for path in (ROOT / "acquisition" / "denoscope").rglob("*.py")
        if "read_regular(" in path.read_text(encoding="utf-8")
    ]
    assert elsewhere == ["read_whole.py"]


@pytest.mark.parametrize("text", ["9" * 5000, "²", "-1", "1.0", "", "٣"])
def test_a_frame_number_that_is_none_is_counted(text: str) -> None:
    frame = frame_from(numbered_frames(1)[0], {"ImageNumber": text, "Height": "²", "Width": text}, "Cam", 7)
    assert frame.number == 7
    assert frame.agrees
