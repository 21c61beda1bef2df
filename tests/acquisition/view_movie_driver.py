"""Denoises a layer and a file in a real, fresh napari, as a user does; words: the movie, the bundle, two pictures."""

from __future__ import annotations

import sys
from pathlib import Path

import napari
import tifffile
from view_layout import check_layout, until


def main() -> None:
    movie, bundle, *pictures = sys.argv[1:]
    viewer = napari.Viewer()
    viewer.window.resize(1280, 860)
    frames = tifffile.imread(movie)
    viewer.add_image(frames, name="cells", scale=(1, 0.5, 0.5), units=("pixel", "um", "um"))
    _, dock = viewer.window.add_plugin_dock_widget("denoscope", "Denoise a movie")
    assert dock.movie.currentText() == "layer: cells"
    dock.bundle.setCurrentText(bundle)
    dock.output.setText(str(Path(movie).with_name("layer_denoised.ome.tif")))
    dock.judge.setChecked(len(pictures) > 1)
    dock.start.click()
    until(lambda: dock.bar.value() > 0 or not dock.cancel.isEnabled())
    check_layout(dock)
    viewer.screenshot(pictures[0], canvas_only=False, flash=False)
    until(lambda: not dock.cancel.isEnabled())
    assert dock.words.text().startswith("Done. "), dock.words.text()
    assert dock.result.data.shape == frames.shape
    assert [layer.name for layer in viewer.layers] == ["cells", "cells denoised"]
    assert viewer.layers[0].contrast_limits == dock.result.contrast_limits
    check_layout(dock)
    # Another frame: the result is read from the disk.
    viewer.dims.set_current_step(0, len(frames) // 2)
    until(lambda: True)
    viewer.screenshot(pictures[-1], canvas_only=False, flash=False)
    seen = viewer.screenshot(canvas_only=True, flash=False)[..., 0]
    middle = seen.shape[1] // 2
    for half in (seen[:, :middle], seen[:, middle:]):
        assert (half > 64).mean() > 0.1, "a picture is blank"
    viewer.close()


if __name__ == "__main__":
    main()
