"""Regions for a dock: a file, ``find``, or a layer of shapes or labels that the user has drawn in napari."""

from __future__ import annotations

import csv
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtWidgets import QComboBox

from denoscope.acquisition.regions.reading import FIND
from denoscope.runtime import InvalidInput

__all__ = ["RegionsField", "save_layer"]

_LAYER = "layer: "
_KINDS = ("Shapes", "Labels")


class RegionsField(QComboBox):
    """Field for regions, which offers the layers of a viewer that hold some.

    Parameters
    ----------
    viewer
        A ``napari.Viewer``, or its model alone.
    what
        Tool tip: what the regions are for.
    """

    def __init__(self, viewer: Any, what: str) -> None:
        super().__init__()
        self._viewer = viewer
        self._folder: Path | None = None
        self.setEditable(True)
        field = self.lineEdit()
        assert field is not None
        field.setPlaceholderText("none")
        self.setToolTip(f"{what}: a file with regions, find, or a layer of shapes or labels that you draw")
        for event in ("inserted", "removed"):
            getattr(viewer.layers.events, event).connect(self._list)
        self._list()

    def text(self) -> str:
        """Return what is chosen."""
        return str(self.currentText()).strip()

    def setText(self, text: str) -> None:  # noqa: N802  as of the other fields
        """Choose something."""
        self.setCurrentText(text)

    def _list(self, _event: Any = None) -> None:
        text = self.currentText()
        self.clear()
        self.addItems(
            ["", FIND, *(_LAYER + each.name for each in self._viewer.layers if _holds_regions(each))]
        )
        self.setCurrentText(text)

    def chosen(self, pixel: float = 1.0, origin: tuple[float, float] = (0.0, 0.0)) -> str | None:
        """Return the regions as sessions take them; a layer is written to a file, which `forget` removes.

        Parameters
        ----------
        pixel, origin
            Edge of a pixel of the frames, and place of the centre of the first one, in the viewer's units.

        Raises
        ------
        InvalidInput
            When the layer is gone or empty.
        """
        text = self.text()
        if not text.startswith(_LAYER):
            return text or None
        name = text.removeprefix(_LAYER)
        if name not in [layer.name for layer in self._viewer.layers]:
            raise InvalidInput(f"there is no layer {name} any more: choose other regions.")
        self.forget()
        self._folder = Path(tempfile.mkdtemp(prefix="denoscope-regions-"))
        step = self._viewer.dims.current_step
        return str(save_layer(self._viewer.layers[name], self._folder, pixel, origin, step))

    def forget(self) -> None:
        """Remove the file of a layer."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def save_layer(
    layer: Any,
    folder: Path,
    pixel: float = 1.0,
    origin: tuple[float, float] = (0.0, 0.0),
    step: tuple[int, ...] = (),
) -> Path:
    """Write a layer's regions to a file in a folder, in pixels of the frames.

    Parameters
    ----------
    layer
        Layer of shapes or labels.
    folder
        Where to.
    pixel, origin
        As of `RegionsField.chosen`.
    step
        Where the viewer stands on each axis: of labels that have a time axis the frame that is seen is taken.

    Raises
    ------
    InvalidInput
        When it holds no region.
    """
    import tifffile

    stem = re.sub(r"[^\w -]+", "_", layer.name).strip() or "layer"
    if type(layer).__name__ == "Labels":
        data = layer.data
        lead = np.ndim(data) - 2
        labels = np.asarray(data[tuple(step[-np.ndim(data) :][:lead])] if lead else data)
        if not labels.any():
            raise InvalidInput(
                f"the layer {layer.name} is empty: paint at least one region in the frame that you see."
            )
        path = folder / f"{stem}.tif"
        tifffile.imwrite(path, labels.astype(np.int32))
        return path
    if not len(layer.data):
        raise InvalidInput(f"the layer {layer.name} is empty: draw at least one region.")
    path = folder / f"{stem}.csv"
    scale, shift = np.asarray(layer.scale)[-2:], np.asarray(layer.translate)[-2:]
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["index", "shape-type", "vertex-index", "axis-0", "axis-1"])
        for number, (kind, corners) in enumerate(zip(layer.shape_type, layer.data, strict=True)):
            seen = (np.asarray(corners)[:, -2:] * scale + shift - origin) / pixel
            rows.writerows([number, kind, corner, *each] for corner, each in enumerate(seen.tolist()))
    return path


def _holds_regions(layer: Any) -> bool:
    return type(layer).__name__ in _KINDS
