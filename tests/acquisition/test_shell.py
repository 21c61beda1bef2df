from __future__ import annotations

import ast
import io
import itertools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from acquisition.conftest import environment
from denoscope import runtime
from denoscope.acquisition import BundleChoice, make_settings, read_raw
from denoscope.acquisition.cli import commands
from denoscope.acquisition.cli.commands.bundles import _without_history
from denoscope.acquisition.cli.shell import Shell
from denoscope.acquisition.diagnostics import bundle_choice
from denoscope.runtime import InvalidInput
from support.skips import needs

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def refused(run: subprocess.CompletedProcess[str], *words: str) -> None:
    assert run.returncode == 2, run
    assert "Traceback" not in run.stdout + run.stderr
    assert len(run.stderr.strip().splitlines()) == 1, run.stderr
    for word in words:
        assert word in run.stderr


def test_help_shows_every_word(denoscope: Run) -> None:
    """Rich takes words in square brackets for colours, and drops them."""
    source = Path(commands.__file__).parent
    for path in source.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "help":
                text = "".join(
                    each.value
                    for each in ast.walk(node.value)
                    if isinstance(each, ast.Constant) and isinstance(each.value, str)
                )
                assert not re.search(r"\[[a-z][^\]]*\]", text), f"{path.name}: {text}"
    shown = denoscope("train", "--help").stdout.replace("│", " ")
    assert "(default: live)" in " ".join(shown.split())


def test_help_names_no_types_of_python(denoscope: Run) -> None:
    for command in ((), ("live",), ("train",), ("bundles",)):
        shown = denoscope(*command, "--help").stdout
        assert "--help" in shown
        assert not re.search(r"--.*<(bool|int|float|str|path|list)", shown), shown


def test_many_options_are_shown_in_groups(denoscope: Run) -> None:
    live, denoise, bundles = (denoscope(name, "--help").stdout for name in ("live", "denoise", "bundles"))
    for group in ("Options", "Denoising", "Camera", "Regions and triggers", "Disk and screen"):
        assert f"─ {group} ─" in live
    # What a command cannot do without is first; a group of one option is none.
    assert live.index("--core") < live.index("─ Denoising ─") < live.index("--look-ahead")
    assert "watched movies" not in denoise
    assert "Disk and screen" not in bundles


def test_version_help_and_unknown_commands(denoscope: Run) -> None:
    assert denoscope("--version").stdout.startswith("denoscope ")
    shown = denoscope("--help")
    assert shown.returncode == 0
    assert all(command in shown.stdout for command in ("live", "demo", "bundles"))
    assert "--look-ahead" in denoscope("live", "--help").stdout
    wrong = denoscope("liev")
    assert wrong.returncode == 2
    assert "Traceback" not in wrong.stderr


def test_bundles(denoscope: Run) -> None:
    run = denoscope("bundles", "--json", "--quiet")
    assert run.returncode == 0
    assert isinstance(json.loads(run.stdout)["bundles"], list)


def test_bundles_ends_soon_on_a_busy_computer(
    denoscope: Run, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frames of a bundle may take two seconds; the clock says that each takes three."""
    seconds = itertools.count(0, 3)
    monkeypatch.setattr(bundle_choice, "time", SimpleNamespace(perf_counter=lambda: float(next(seconds))))
    monkeypatch.setattr(runtime, "list_bundles", lambda: [str(bundle)])  # shipped ones take seconds to open
    (found,) = bundle_choice.describe_bundles()
    assert (found.frames_measured, found.frames_per_s) == (1, pytest.approx(1 / 3))
    made = [BundleChoice(name=name, use="", trained_on=[], quality=[]) for name in ("a", "b")]
    made[0] = made[0].model_copy(update={"measured_with": "one", "frames_per_s": 20.0, "frames_measured": 9})
    made[1] = made[1].model_copy(update={"measured_with": "two", "frames_per_s": 0.3, "frames_measured": 1})

    def describe(*, measure: bool, on_bundle: Callable[[BundleChoice], object]) -> list[BundleChoice]:
        for each in made:
            on_bundle(each)
        return made

    monkeypatch.setattr(bundle_choice, "describe_bundles", describe)
    said = denoscope("bundles").stdout
    assert "measured now with one (a) and two (b)." in said
    assert "slow or busy: a rate is from 1 frame only." in said


def test_details_of_a_bundle_count_the_trainings_before(denoscope: Run) -> None:
    said = denoscope("bundles", "--details", "--no-measure").stdout
    began = [line for line in said.splitlines() if "started from" in line]
    assert began
    for line in began:
        assert re.search(r"started from [\w-]+ \(after \d+ trainings, see README\.md in its folder\)", line)
        assert line.count("started from") == 1


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_sentences_are_broken_between_words_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    sentence = "A frame that the camera hands over is written to disk before anything else."
    table = f"{'live':<30}{'25 frames/s':>30}"
    command = "To fill: denoscope denoise --fill a-folder-of-a-run-in-a-deep-folder"
    shown, written = Terminal(), io.StringIO()
    for stream in (shown, written):
        monkeypatch.setattr("sys.stdout", stream)
        Shell().say("\n".join((sentence, table, command)))
    assert written.getvalue().splitlines() == [sentence, table, command]
    *lines, last_but_one, last = shown.getvalue().splitlines()
    assert (last_but_one, last) == (table, command)
    assert " ".join(lines) == sentence
    assert len(lines) > 1
    assert max(map(len, lines)) <= 40


BAD_SETTINGS = {
    "no frames": (["--frames", "0"], "--frames 0"),
    "no rate": (["--fps", "0"], "--fps 0"),
    "two ends": (["--frames", "3", "--seconds", "3"], "exclude each other"),
    "unknown core": (["--core", "scope"], "--core scope"),
    "movie and microscope": (["--core", "a.cfg", "--movie", "m.tif"], "--movie m.tif"),
    "unknown backend": (["--backend", "abacus"], "abacus"),
    "missing bundle": (["--bundle", "nowhere.denoscope"], "nowhere.denoscope"),
    "look-ahead": (["--look-ahead", "9"], "look-ahead"),
    "no disk space": (["--frames", str(2**31 - 1)], "GB free"),
    "fractions in a format of whole counts": (["--float32", "--denoised-format", "ndtiff"], "--float32"),
    "buffer": (["--movie", "large.tif", "--buffer-mb", "1"], "--buffer-mb"),
    "empty movie": (["--movie", "empty.tif"], "is empty"),
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_bad_input_is_one_sentence(denoscope: Run, bundle: Path, tmp_path: Path, case: str) -> None:
    """The sentence ends with a full stop, also where another process refused."""
    arguments, word = BAD_SETTINGS[case]
    (tmp_path / "empty.tif").touch()
    tifffile.imwrite(tmp_path / "large.tif", np.zeros((2, 600, 600), np.uint16))
    placed = [str(tmp_path / word) if word in ("empty.tif", "large.tif") else word for word in arguments]
    # The process of the denoiser starts before the camera does: one case has to end it again.
    lane = () if case == "empty movie" else ("--denoiser", "thread")
    run = denoscope(
        "live", "--core", "demo", "--bundle", bundle, "--output", tmp_path / "run", *placed, *lane
    )
    refused(run, word)
    assert run.stderr.strip().endswith(".")
    assert not (tmp_path / "run").exists()


def test_damaged_bundles(denoscope: Run, bundle: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.denoscope"
    shutil.copytree(bundle, damaged)
    graph = bytearray((damaged / "fuse.onnx").read_bytes())
    graph[len(graph) // 2] ^= 1
    (damaged / "fuse.onnx").write_bytes(graph)
    refused(denoscope("demo", "--bundle", damaged, "--output", tmp_path / "run", "--quiet"), "fuse.onnx")


def test_an_error_as_json(denoscope: Run, tmp_path: Path) -> None:
    run = denoscope("demo", "--bundle", tmp_path / "none", "--output", tmp_path / "run", "--json", "--quiet")
    refused(run, "none")
    assert json.loads(run.stdout)["exit_code"] == 2
    debug = denoscope(
        "demo", "--bundle", tmp_path / "none", "--output", tmp_path / "run", "--quiet", "--debug"
    )
    assert "Traceback" in debug.stderr


def test_unknown_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="colour"):
        make_settings(core="demo", output=tmp_path, colour="red")


@pytest.mark.micromanager
def test_a_demo_from_end_to_end(
    denoscope: Run,
    denoscope_process: Run,
    bundle: Path,
    movie: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    needs("pycromanager", "micromanager")
    pytest.importorskip("matplotlib", reason="needs the extra 'report'")
    for name in ("run", "again"):  # a busy computer may skip frames once, or be late until the end
        output = tmp_path / name
        common = ("demo", "--output", output, "--bundle", bundle)
        run = denoscope_process(*common, "--movie", movie, "--fps", "50", "--seconds", "2", "--json")
        report = json.loads(run.stdout)
        if report["frames"]["dropped"] == {} and report["timing"]["latency_p99_s"] is not None:
            break
    assert run.returncode == 0, run
    assert report == json.loads((output / "report.json").read_text())
    assert {path.name for path in output.iterdir()} == {
        *("raw.tif", "raw.jsonl", "denoised.ome.tif", "report.json", "report.png", "log.jsonl"),
        "bundle.denoscope",  # not one that ships, so it is kept for filling
    }
    assert report["frames"]["received"] == report["frames"]["denoised"] == 100
    assert report["frames"]["dropped"] == {}
    assert report["outcome"]["notes"] == []
    assert report["source"]["details"]["passes"] == 2.5
    assert report["denoiser"]["intensity"]["scale"] > 0
    timing = report["timing"]
    # The look-ahead of three frames at 50 frames/s is in the latency.
    assert 0.05 < timing["latency_p50_s"] <= timing["latency_p95_s"] <= timing["latency_p99_s"] < 5
    assert timing["startup_frames"] + sum(timing["latency_histogram"]["frames"]) == 100
    sent = tifffile.imread(movie)
    assert np.array_equal(read_raw(output).read(), sent[np.arange(100) % 40])
    assert tifffile.imread(output / "denoised.ome.tif").shape == (100, *sent.shape[1:])
    assert caplog.records == [], "a reader complains of the file"
    assert (output / "report.png").read_bytes().startswith(b"\x89PNG")
    events = [json.loads(line)["event"] for line in (output / "log.jsonl").read_text().splitlines()]
    assert events == ["opened", "forecast", "recording", "finished"]
    for word in ("backend", "frames/s camera", "delay", "raw saved"):
        assert word in run.stderr
    again = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    refused(denoscope(*common, "--quiet"), "never overwritten")
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == again


def test_nothing_heavy_is_imported() -> None:
    script = (
        "import sys, pkgutil, importlib.util, denoscope.acquisition as a\n"
        "light = [m for m in ('numpy', 'pydantic', 'rich', 'tifffile') if m in sys.modules]\n"
        "for m in pkgutil.iter_modules(a.__path__):\n"
        "    m.name == '_picture' or importlib.import_module(f'{a.__name__}.{m.name}')\n"
        "names = ('torch', 'matplotlib', 'pycromanager', 'pymmcore', 'ome_types')\n"
        "heavy = [m for m in names if m in sys.modules]\n"
        "from denoscope.acquisition.sources.micromanager.config import import_mmpycorex\n"
        "if importlib.util.find_spec('mmpycorex'):\n"  # what a core needs
        "    import_mmpycorex().Core\n"
        "heavy += [m for m in ('pycromanager', 'dask', 'scipy') if m in sys.modules]\n"
        "print(light, heavy)"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment(), check=True
    )
    assert run.stdout.strip() == "[] []"


def test_trainings_that_a_bundle_began_from_are_counted() -> None:
    began = "started from c (started from b (started from a (simulated)), 3 movies), own movie"
    assert (
        _without_history(began)
        == "started from c (after 3 trainings, see README.md in its folder), own movie"
    )
    assert _without_history("started from a (simulated)") == (
        "started from a (after 1 training, see README.md in its folder)"
    )
    assert _without_history("simulated") == "simulated"
