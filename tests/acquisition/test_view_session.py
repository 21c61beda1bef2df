"""A session beside a viewer's process: whatever becomes of the viewer, every raw frame is written."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from acquisition.conftest import ROOT, Run, environment
from denoscope.acquisition import OutputExists, make_settings
from denoscope.acquisition.view.board import link as link_module
from denoscope.acquisition.view.window import live_window as window_module
from denoscope.acquisition.view.window.live_window import LiveWindow
from denoscope.runtime import InvalidInput
from support.plain_results import live

FRAMES = 60


@pytest.fixture(scope="module")
def stamped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A movie whose frames are flat, so that a torn picture shows."""
    path = tmp_path_factory.mktemp("stamped") / "movie.tif"
    values = np.random.default_rng(5).integers(100, 200, FRAMES).astype(np.uint16)
    tifffile.imwrite(path, np.broadcast_to(values[:, None, None], (FRAMES, 48, 56)))
    return path


@pytest.fixture
def window(monkeypatch: pytest.MonkeyPatch) -> Callable[..., LiveWindow]:
    """Open a window whose process has no screen."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    monkeypatch.setattr(window_module, "require", lambda *_, **__: None)
    monkeypatch.setattr(window_module, "_CLOSE_S", 10.0)

    def make(module: str = "acquisition.view_double", **options: Any) -> LiveWindow:
        return LiveWindow(stay=False, module=module, **options)

    return make


def record(
    movie: Path, bundle: Path, output: Path, view: LiveWindow, at: Callable[[int], None] | None = None
) -> dict[str, Any]:
    """Record the movie, and call `at` with the number of frames received so far."""
    settings = make_settings(
        core=f"replay:{movie}",
        output=output,
        bundle=str(bundle),
        backend="onnxruntime-cpu",
        threads=1,
        fps=40,
        picture=False,
        denoiser="thread",
    )
    report = live(settings, view=view, on_status=lambda status, *_: at(status.received) if at else None)
    assert report["frames"]["received"] == report["frames"]["written_raw"] == FRAMES
    np.testing.assert_array_equal(tifffile.imread(output / "raw.tif"), tifffile.imread(movie))
    assert report["outcome"]["exit_code"] == 0
    assert view._child.process.poll() is not None
    return report


def test_viewer_sees_the_session(
    stamped: Path, bundle: Path, tmp_path: Path, window: Callable[..., LiveWindow]
) -> None:
    report = record(stamped, bundle, tmp_path / "run", window())
    assert not [note for note in report["outcome"]["notes"] if "view" in note]
    seen = json.loads((tmp_path / "run" / "seen.json").read_text(encoding="utf-8"))
    assert seen["torn"] == 0
    assert min(seen["past"]) > 5  # frames read back from the disk, raw and denoised
    raw, shown = seen["RAW"], seen["DENOISED"]
    assert len(raw) > 1
    assert len(shown) > 1
    assert shown == sorted(set(shown))
    # Raw frames run ahead until the first denoised one, then both are the same frame.
    assert sum(later < earlier for earlier, later in itertools.pairwise(raw)) <= 3
    assert raw[-1] == shown[-1]
    assert seen["status"]["state"] == "finished"
    assert seen["status"]["received"] == FRAMES
    assert seen["opened"]["shape"] == [48, 56]


def test_preview_saves_nothing_until_it_is_asked_to(
    stamped: Path,
    bundle: Path,
    tmp_path: Path,
    window: Callable[..., LiveWindow],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))
    settings = make_settings(
        core=f"replay:{stamped}",
        output=tmp_path / "run",
        bundle=str(bundle),
        backend="onnxruntime-cpu",
        threads=1,
        fps=40,
        picture=False,
        denoiser="thread",
        preview=True,
    )
    report = live(settings, view=window())
    assert not report["preview"]
    assert report["frames"]["written_raw"] == FRAMES
    seen = json.loads((tmp_path / "run" / "seen.json").read_text(encoding="utf-8"))
    assert seen["preview"]["preview"]
    assert seen["preview"]["written_raw"] == 0
    assert not seen["status"]["preview"]
    assert seen["torn"] == 0
    assert not list(elsewhere.iterdir())  # what the preview needed is gone
    # Without a viewer it ends with the movie; the run folder is not even made.
    settings = settings.model_copy(update={"output": tmp_path / "other", "fps": 400})
    report = live(settings)
    assert report["preview"]
    assert report["output"] == ""
    assert report["frames"]["received"] == FRAMES
    assert report["frames"]["written_raw"] == 0
    assert report["outcome"]["exit_code"] == 0
    assert not (tmp_path / "other").exists()
    # A run folder that is taken is refused before the preview, not after it.
    with pytest.raises(OutputExists, match="never overwritten"):
        live(settings.model_copy(update={"output": tmp_path / "run"}))


def test_preview_ends_with_its_window(
    stamped: Path, bundle: Path, tmp_path: Path, window: Callable[..., LiveWindow]
) -> None:
    view = window()
    settings = make_settings(
        core=f"replay:{stamped}",
        output=tmp_path / "run",
        bundle=str(bundle),
        threads=1,
        fps=1,
        denoiser="thread",
    )
    settings = settings.model_copy(update={"preview": True})
    report = live(settings, view=view, on_status=lambda *_: view._child.process.kill())
    assert report["preview"]
    assert report["frames"]["received"] < FRAMES
    assert report["outcome"]["reason"] == "stopped"


def test_viewer_is_killed(
    stamped: Path, bundle: Path, tmp_path: Path, window: Callable[..., LiveWindow]
) -> None:
    view = window()
    report = record(
        stamped, bundle, tmp_path / "run", view, lambda n: view._child.process.kill() if n > 10 else None
    )
    (note,) = [note for note in report["outcome"]["notes"] if "view" in note]
    assert note.startswith("the live view was lost")
    assert "the recording was not affected" in note


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGSTOP")
def test_viewer_stalls(
    stamped: Path,
    bundle: Path,
    tmp_path: Path,
    window: Callable[..., LiveWindow],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link_module, "_STILL_S", 0.5)
    view = window()
    start_s = time.perf_counter()

    def stop(received: int) -> None:
        if received > 10:
            os.kill(view.pid, signal.SIGSTOP)

    report = record(stamped, bundle, tmp_path / "run", view, stop)
    (note,) = [note for note in report["outcome"]["notes"] if "view" in note]
    assert note.startswith("the live view stood still for the last")
    assert time.perf_counter() - start_s < 200


def test_viewer_asks_for_the_end(bundle: Path, tmp_path: Path, window: Callable[..., LiveWindow]) -> None:
    movie = tmp_path / "long.tif"
    tifffile.imwrite(movie, np.full((2000, 16, 16), 150, np.uint16))
    settings = make_settings(
        core=f"replay:{movie}",
        output=tmp_path / "stopped",
        bundle=str(bundle),
        backend="onnxruntime-cpu",
        threads=1,
        fps=40,
        picture=False,
        denoiser="thread",
    )
    report = live(settings, view=window())
    assert report["outcome"]["reason"] == "stopped"
    assert report["outcome"]["exit_code"] == 0
    assert report["frames"]["received"] == report["frames"]["written_raw"] < 2000
    events = [json.loads(line) for line in (tmp_path / "stopped" / "log.jsonl").read_text().splitlines()]
    assert [event["by"] for event in events if event["event"] == "stop"] == ["view"]


@pytest.mark.slow
def test_recording_goes_on_when_napari_is_killed(stamped: Path, bundle: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    settings = {"core": f"replay:{stamped}", "bundle": str(bundle), "output": str(output), "fps": 30}
    script = ROOT / "tests" / "acquisition" / "view_orphan.py"
    words = [sys.executable, str(script), json.dumps({**settings, "picture": False})]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment()) as napari:
        assert napari.stdout is not None
        assert napari.stdout.readline() == "opened\n"
        napari.kill()
    end_s = time.monotonic() + 250
    while not (output / "report.json").exists():
        assert time.monotonic() < end_s
        time.sleep(0.1)
    np.testing.assert_array_equal(tifffile.imread(output / "raw.tif"), tifffile.imread(stamped))


def test_window_that_cannot_open_is_refused_before_anything_is_recorded(
    stamped: Path, bundle: Path, tmp_path: Path, window: Callable[..., LiveWindow]
) -> None:
    settings = make_settings(core=f"replay:{stamped}", output=tmp_path / "run", bundle=str(bundle))
    with pytest.raises(InvalidInput, match=r"cannot open its window: .*without `view`"):
        live(settings, view=window("acquisition.no_such_module"))
    assert not (tmp_path / "run").exists()


def test_view_without_napari(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("denoscope.acquisition.extras.find_spec", lambda _name: None)
    with pytest.raises(InvalidInput, match=r"`view` needs napari.*\.\[view\]"):
        LiveWindow(stay=False)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is always OpenGL")
def test_view_without_a_screen(
    stamped: Path, bundle: Path, tmp_path: Path, denoscope_process: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("napari", reason="needs the extra 'view'")
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    monkeypatch.setenv("NAPARI_CONFIG", str(tmp_path / "napari.yaml"))
    monkeypatch.delenv("DISPLAY", raising=False)
    words = ["--core", f"replay:{stamped}", "--bundle", bundle, "--output", tmp_path / "run"]
    done: subprocess.CompletedProcess[str] = denoscope_process("live", *words, "--view")
    assert done.returncode == 2, done.stderr
    assert "run without --view where there is no screen with OpenGL" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
