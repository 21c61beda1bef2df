"""Draw the pictures of the window and the docks in the docs, and measure how soon the first picture is there.

    python benchmarks/view_pictures.py [--output docs/pictures] [--fps 6] [--look DIR]

Needs Xvfb. The demo's movie, cut to 128 x 128 pixels, is recorded at a rate that the computer keeps up with. Prints the
seconds between the first frame, as ``raw.jsonl`` has it, and each step to the first raw and denoised picture. With
``--look`` pictures of blinking, swiping and going back are saved there too. Then run ``small_pictures.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / part) for part in ("train", "export", "runtime", "acquisition")]

_FRAMES = 2000  # never reached: the window is drawn while it records, then the session is asked to stop
_SHOWN = 95


def until(met: Callable[[], Any], timeout_s: float = 240.0) -> None:
    """Let the window work until something is so."""
    from qtpy.QtWidgets import QApplication

    end_s = time.monotonic() + timeout_s
    while not met():
        if time.monotonic() > end_s:
            raise TimeoutError("the window did not come so far")
        QApplication.processEvents()
        time.sleep(0.002)


def settle(seconds: float = 0.6) -> None:
    """Let the window draw what was changed."""
    end_s = time.monotonic() + seconds
    until(lambda: time.monotonic() > end_s)


def inputs(folder: Path) -> tuple[Path, Path]:
    """Write movie and regions."""
    import tifffile

    from denoscope.acquisition import demo_movie, find_cells

    frames = demo_movie().frames[:, 40:168, 40:168]
    tifffile.imwrite(folder / "movie.tif", frames)
    tifffile.imwrite(folder / "cells.tif", find_cells([frames.mean(0)], radius_px=5).labels())
    return folder / "movie.tif", folder / "cells.tif"


def live_window(folder: Path, output: Path, look: Path | None, fps: float) -> dict[str, float]:
    """Record into a window like that of ``denoscope live``; return seconds from the first frame to each step."""
    import napari

    from denoscope.acquisition.view.board.board import Slot
    from denoscope.acquisition.view.docks.child_session import ChildSession
    from denoscope.acquisition.view.window.display import Display, add_docks
    from denoscope.acquisition.view.window.process import _make_room

    movie, cells = inputs(folder)
    viewer = napari.Viewer(title="denoscope live")
    display = Display(viewer)
    add_docks(viewer, display)
    _make_room(viewer)
    display.panels.open((16, 16))
    settings = {"core": f"replay:{movie}", "bundle": "live-fast", "output": str(folder / "run"), "fps": fps}
    settings |= {"frames": _FRAMES, "regions": str(cells), "picture": False}
    session = ChildSession({**settings, "trigger": ["any region dff > 0.3"]})
    moments: dict[str, float] = {}
    ended = False

    def turn() -> bool:
        nonlocal ended
        while (event := session.poll()) is not None:
            if event["event"] == "opened":
                moments["window knows of the recording"] = time.time()
                display.follow(session.slab, {**event, "output": str(folder / "run")})
                moments["layers are there"] = time.time()
            else:
                ended = True
                if event["event"] == "failed":
                    raise RuntimeError(event["message"])
        for word, slot in (("raw", Slot.RAW), ("denoised", Slot.DENOISED)):
            if display.panels.numbers[slot] is not None:
                moments.setdefault(f"first {word} picture", time.time())
        return ended or (display.status or {}).get("emitted", 0) >= _SHOWN

    until(turn)
    display.traces.liveliest.click()
    until(lambda: display.traces.frames >= _SHOWN)
    viewer.screenshot(str(output / "view.png"), canvas_only=False, flash=False)
    if look is not None:
        for how in ("swipe", "blink"):
            display.bar.compare.setCurrentText(how)
            settle()
            viewer.screenshot(str(look / f"view_{how}.png"), canvas_only=False, flash=False)
        display.bar.compare.setCurrentText("side by side")
        display.bar.time.setValue(40)
        settle()
        viewer.screenshot(str(look / "view_past.png"), canvas_only=False, flash=False)
    display.bar.go_live()
    display.stop()
    until(lambda: turn() and ended)
    display.close()
    if look is not None:
        settle()
        viewer.screenshot(str(look / "view_end.png"), canvas_only=False, flash=False)
    session.close()
    viewer.close()
    head, first, *_ = (json.loads(line) for line in (folder / "run" / "raw.jsonl").read_text().splitlines())
    first_s = head["clock"]["unix_s"] + first["received_s"] - head["clock"]["received_s"]
    return {name: at - float(first_s) for name, at in moments.items()}


def docks(folder: Path, output: Path) -> None:
    """Draw the dock for recorded movies."""
    import napari
    import tifffile

    viewer = napari.Viewer()
    viewer.window.resize(1280, 760)
    frames = tifffile.imread(folder / "movie.tif")
    viewer.add_image(frames, name="cells")
    _, dock = viewer.window.add_plugin_dock_widget("denoscope", "Denoise a movie")
    dock.bundle.setCurrentText("live-fast")
    dock.output.setText(str(folder / "cells_denoised.ome.tif"))
    dock.judge.setChecked(True)
    dock.start.click()
    until(lambda: not dock.cancel.isEnabled())
    dock.words.setText(dock.words.text().replace(str(folder) + os.sep, ""))
    dock.output.setText("cells_denoised.ome.tif")
    settle()
    viewer.screenshot(str(output / "view_movie.png"), canvas_only=False, flash=False)
    viewer.close()


def preview(folder: Path, output: Path, fps: float) -> None:
    """Draw the dock for recording: a preview, and cells outlined by hand in a layer of shapes."""
    import napari

    from denoscope.acquisition.view.board.board import Slot

    movie, _ = inputs(folder)
    viewer = napari.Viewer()
    viewer.window.resize(1280, 860)
    _, dock = viewer.window.add_plugin_dock_widget("denoscope", "Live")
    dock.core.setCurrentText(f"replay:{movie}")
    dock.bundle.setCurrentText("live-fast")
    dock.fps.setValue(fps)
    dock.output.setText("first-run")
    dock.preview.click()
    until(lambda: (dock.display.panels.numbers[Slot.DENOISED] or 0) >= _SHOWN // 2)
    drawn = [[(60, 55), (60, 68), (73, 68), (73, 55)], [(92, 88), (92, 103), (104, 103), (104, 88)]]
    viewer.add_shapes(drawn, name="my cells", edge_color="yellow", face_color="transparent", edge_width=1)
    dock.regions.setText("layer: my cells")
    settle()
    dock.core.setCurrentText(f"replay:{movie.name}")
    viewer.screenshot(str(output / "view_preview.png"), canvas_only=False, flash=False)
    dock.display.stop()
    until(lambda: dock.session is None)
    viewer.close()


def main() -> None:
    """Start a screen that nobody sees and do both in a process on it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "pictures")
    parser.add_argument("--look", type=Path)
    parser.add_argument("--fps", type=float, default=6.0)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        with tempfile.TemporaryDirectory() as folder:
            if options.look is not None:
                options.look.mkdir(parents=True, exist_ok=True)
            moments = live_window(Path(folder), options.output, options.look, options.fps)
            for name, seconds in moments.items():
                print(f"{name}: {seconds:+.3f} s after the first frame was received", flush=True)
            docks(Path(folder), options.output)
            preview(Path(folder), options.output, options.fps)
        return
    read, write = os.pipe()
    screen = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1400x900x24", "-nolisten", "tcp"]
    server = subprocess.Popen(screen, pass_fds=(write,), stderr=subprocess.DEVNULL)
    os.close(write)
    try:
        with os.fdopen(read) as file, tempfile.TemporaryDirectory() as home:
            number = file.readline().strip()
            about = {"DISPLAY": f":{number}", "NAPARI_CONFIG": str(Path(home, "settings.yaml"))}
            words = [sys.executable, "-W", "ignore", __file__, *sys.argv[1:], "--inside"]
            subprocess.run(words, env={**os.environ, **about}, check=True)
    finally:
        server.terminate()
        server.wait(10)


if __name__ == "__main__":
    main()
