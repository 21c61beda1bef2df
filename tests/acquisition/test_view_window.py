"""Real windows on a screen that nobody sees: `--view`, the plugin as its page says, and their ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from ctypes.util import find_library
from pathlib import Path

import numpy as np
import pytest
import tifffile

from acquisition.conftest import ROOT, Run, environment
from support.skips import needs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="needs Xvfb"),
    pytest.mark.skipif(
        shutil.which("Xvfb") is None
        or not all(map(find_library, ("xcb-icccm", "xcb-keysyms", "xcb-cursor"))),
        reason="needs xvfb, libxcb-icccm4, libxcb-keysyms1 and libxcb-cursor0",
    ),
]
pytest.importorskip("napari", reason="needs the extra 'view'")

PAGE = ROOT / "docs" / "guides" / "napari.md"


@pytest.fixture(scope="module", autouse=True)
def screen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    home = tmp_path_factory.mktemp("napari")
    read, write = os.pipe()
    words = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1400x900x24", "-nolisten", "tcp"]
    server = subprocess.Popen(words, pass_fds=(write,), stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as file, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISPLAY", f":{file.readline().strip()}")
        patch.setenv("NAPARI_CONFIG", str(home / "settings.yaml"))
        patch.delenv("QT_QPA_PLATFORM", raising=False)
        try:
            yield
        finally:
            server.terminate()
            server.wait(10)


def test_window_beside_a_recording(movie: Path, bundle: Path, tmp_path: Path, denoscope_process: Run) -> None:
    words = ["--core", f"replay:{movie}", "--bundle", bundle, "--output", tmp_path / "run", "--fps", 10]
    done = denoscope_process("live", *words, "--view", "--no-picture", timeout_s=250)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    assert report["frames"]["received"] == report["frames"]["written_raw"] == 40
    assert not [note for note in report["outcome"]["notes"] if "view" in note]


def test_page(movie: Path, bundle: Path, tmp_path: Path) -> None:
    """The plugin records what the page's script opens it for."""
    driver = [sys.executable, ROOT / "tests" / "acquisition" / "view_driver.py", PAGE]
    picture = tmp_path / "window.png"
    labels = np.zeros((48, 56), np.uint8)
    labels[8:16, 8:16], labels[20:30, 30:40] = 1, 2
    tifffile.imwrite(tmp_path / "cells.tif", labels)
    done = subprocess.run(
        [*driver, movie, bundle, tmp_path / "run", tmp_path / "cells.tif", picture],
        capture_output=True,
        text=True,
        timeout=250,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert picture.exists()
    assert (tmp_path / "run" / "denoised_std.ome.tif").exists()
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "run" / "raw.tif"), tifffile.imread(movie))


def test_recorded_movie_in_a_fresh_napari(bundle: Path, movie: Path, tmp_path: Path) -> None:
    own = tmp_path / "movie.tif"
    shutil.copy(movie, own)
    driver = [sys.executable, ROOT / "tests" / "acquisition" / "view_movie_driver.py"]
    done = subprocess.run(
        [*driver, own, bundle, tmp_path / "window.png"],
        capture_output=True,
        text=True,
        timeout=250,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(tifffile.imread(tmp_path / "layer_denoised.ome.tif")) == 40


@pytest.mark.micromanager
def test_command_of_the_page(tmp_path: Path) -> None:
    needs("pycromanager", "micromanager")
    first, *_ = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    _install, line = first.strip().splitlines()
    program, *words = line.split()
    assert program == "denoscope"
    done = subprocess.run(
        [sys.executable, "-m", "denoscope.acquisition.cli.app", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=250,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    output = tmp_path / words[words.index("--output") + 1]
    frames = json.loads((output / "report.json").read_text(encoding="utf-8"))["frames"]
    assert frames["received"] == frames["written_raw"] == 150
