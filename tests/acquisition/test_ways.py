"""Every command and script of the pages on ways of working is executed as it stands there, on demo hardware."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import tifffile

from acquisition.conftest import ROOT, environment
from support.skips import needs

needs("pycromanager", "micromanager")

WAYS = ROOT / "docs" / "guides"
PAGES = {page.name: page.read_text(encoding="utf-8") for page in sorted(WAYS.glob("*.md"))}
# Pages of other parts are executed by their own tests.
OURS = ("micro-manager.md", "other-software.md", "pycromanager.md", "pymmcore-plus.md")


def blocks(page: str, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGES[page], flags=re.DOTALL)


def run(words: list[Any], folder: Path) -> None:
    done = subprocess.run(
        words, cwd=folder, env=environment(), capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr


def denoscope(line: str, folder: Path) -> dict[str, Any]:
    program, *words = line.split()
    assert program == "denoscope"
    run([sys.executable, "-m", "denoscope.acquisition.cli.app", *words], folder)
    output = folder / words[words.index("--output") + 1]
    report: dict[str, Any] = json.loads((output / "report.json").read_text(encoding="utf-8"))
    frames = report["frames"]
    assert frames["received"] == frames["written_raw"] == frames["denoised"] + sum(frames["dropped"].values())
    return report


@pytest.mark.micromanager
@pytest.mark.slow
@pytest.mark.parametrize("page", ["pycromanager.md", "pymmcore-plus.md"])
def test_scripts(page: str, tmp_path: Path) -> None:
    scripts = blocks(page, "python")
    assert scripts
    for number, script in enumerate(scripts):
        path = tmp_path / f"script_{number}.py"
        path.write_text(script, encoding="utf-8")
        run([sys.executable, path], tmp_path)


@pytest.mark.micromanager
@pytest.mark.slow
def test_the_command_of_a_script(tmp_path: Path) -> None:
    (line,) = blocks("pycromanager.md", "sh")
    assert denoscope(line, tmp_path)["frames"]["received"] == 60


@pytest.mark.micromanager
@pytest.mark.slow
def test_a_window_that_is_open(tmp_path: Path) -> None:
    from acquisition.bridge_peer import Peer

    (line,) = blocks("micro-manager.md", "sh")
    peer = Peer(np.random.default_rng(2).poisson(200, (60, 32, 40)).astype(np.uint16))
    peer.start()
    try:
        report = denoscope(line.replace("4827", str(peer.port)), tmp_path)
    finally:
        peer.stop()
    assert report["frames"]["received"] == 25


@pytest.mark.micromanager
@pytest.mark.slow
def test_other_software(tmp_path: Path) -> None:
    watched, replayed = blocks("other-software.md", "sh")
    frames = np.random.default_rng(3).poisson(200, (50, 64, 64)).astype(np.uint16)

    def write() -> None:
        with tifffile.TiffWriter(tmp_path / "movie.tif", bigtiff=True) as writer:
            for frame in frames:
                writer.write(frame, contiguous=False, metadata=None)
                time.sleep(0.05)

    writer = Thread(target=write)
    writer.start()
    report = denoscope(watched, tmp_path)
    writer.join()
    assert report["frames"]["received"] == report["frames"]["denoised"] == 50
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "watched" / "raw.tif"), frames)
    assert denoscope(replayed, tmp_path)["frames"]["received"] == 50


def test_every_page_is_executed_and_its_links_lead_somewhere() -> None:
    assert set(OURS) <= set(PAGES)
    for page in OURS:
        assert blocks(page, "sh") or blocks(page, "python"), page
        for link in re.findall(r"\]\(([^)#]+)\)", PAGES[page]):
            assert (WAYS / link).exists(), f"{page}: {link}"
