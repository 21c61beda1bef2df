"""Regions of a recording as outlines with numbers over both pictures, coloured as their traces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.acquisition.regions.regions import label_numbers
from denoscope.acquisition.regions.trace_file import REGIONS_PICTURE, numbered_name

__all__ = ["TRACE_COLOURS", "Outlines", "outline_segments", "read_labels"]

TRACE_COLOURS = ("#5aaaff", "#4cd08a", "#ff7ab8", "#c9e24b", "#4fdbe0", "#b794ff", "#ff9d7a", "#d8dee6")
"""Colours of the traces that are shown, from the first row on."""

_OTHER = (0.72, 0.75, 0.78, 0.75)  # of a region whose trace is not shown
_MOST_NUMBERS = 100  # regions of which each gets its number; of more, those that are shown
_LINES_ACROSS = 350.0  # a picture is as wide as so many lines
_ASIDE = 0.008  # of the picture's size, between a region and its number
_SLACK_PX = 4.0  # mouse may move so far in a click

Segments = npt.NDArray[np.float64]


def outline_segments(labels: npt.NDArray[np.integer[Any]]) -> tuple[Segments, npt.NDArray[np.int64]]:
    """Return the edges of the pixels between regions and their surroundings, and the region of each.

    Parameters
    ----------
    labels
        ``(H, W)``, 0 outside of regions.

    Returns
    -------
    segments, owners
        ``(N, 2, 2)`` begin and extent as (row, column), pixels having their centres at whole numbers; ``(N,)`` labels.
    """
    framed = np.pad(np.asarray(labels, np.int64), 1)
    found, owners = [], []
    for axis in (0, 1):
        before, after = (
            (framed[:-1, 1:-1], framed[1:, 1:-1]) if axis == 0 else (framed[1:-1, :-1], framed[1:-1, 1:])
        )
        for side in (before, after):
            rows, columns = np.nonzero((before != after) & (side > 0))
            begin = np.stack([rows - 0.5, columns - 0.5], axis=1)
            extent = np.zeros_like(begin)
            extent[:, 1 - axis] = 1.0
            found.append(np.stack([begin, extent], axis=1))
            owners.append(side[rows, columns])
    return np.concatenate(found), np.concatenate(owners)


def read_labels(folder: Path, number: int = 1) -> npt.NDArray[np.integer[Any]] | None:
    """Return the label image of a run folder's regions, None where there is none that can be read.

    Parameters
    ----------
    folder
        Run folder.
    number
        1 for the first regions, 2 for those that were found again, and so on.
    """
    import tifffile

    path = folder / numbered_name(REGIONS_PICTURE, number)
    try:
        labels = tifffile.imread(path)
    except (OSError, ValueError, tifffile.TiffFileError):
        return None
    return labels if labels.ndim == 2 and labels.dtype.kind in "iu" else None


class Outlines:
    """Layers with the outlines and numbers of one recording's regions, over each picture.

    Parameters
    ----------
    viewer
        A ``napari.Viewer``, or its model alone.
    on_pick
        Called with the region that was clicked.
    """

    def __init__(self, viewer: Any, on_pick: Callable[[str], None]) -> None:
        self._viewer = viewer
        self._on_pick = on_pick
        self._labels: npt.NDArray[np.integer[Any]] | None = None
        self._names: tuple[str, ...] = ()
        self._layers: list[tuple[Any, Any]] = []
        self._shown: tuple[tuple[str, ...], str] | None = None
        self._pixel = 1.0
        viewer.mouse_drag_callbacks.append(self._pressed)

    @property
    def there(self) -> bool:
        """True where regions are drawn."""
        return bool(self._layers)

    def open(
        self,
        labels: npt.NDArray[np.integer[Any]],
        names: tuple[str, ...],
        pictures: list[Any],
        pixel_um: float = 1.0,
    ) -> None:
        """Draw the regions of a recording over its pictures.

        Parameters
        ----------
        labels
            ``(H, W)``, numbered as by `label_numbers`.
        names
            Names of the regions.
        pictures
            Layers with the pictures.
        pixel_um
            Edge of a pixel as the pictures have it, 1 where it is not known.
        """
        self.close()
        labels = _places(labels, names)
        self._labels, self._names, self._pixel = labels, names, pixel_um
        self._segments, self._owners = outline_segments(labels)
        self._corners = _corners(labels, len(names))
        active = self._viewer.layers.selection.active
        for picture in pictures:
            about = {"scale": (pixel_um, pixel_um), "units": picture.units}
            lines = self._viewer.add_vectors(
                self._segments,
                name=f"regions of {picture.name}",
                vector_style="line",
                edge_width=max(labels.shape) / _LINES_ACROSS,
                edge_color=np.tile(_OTHER, (len(self._segments), 1)),
                **about,
            )
            numbers = self._viewer.add_points(
                np.zeros((0, 2)), name=f"numbers of {picture.name}", size=1, opacity=1.0, **about
            )
            self._layers.append((lines, numbers))
        self._viewer.layers.selection.active = active
        self.colour((), "")

    def close(self) -> None:
        """Take the outlines away."""
        layers, self._layers = self._layers, []
        for layer in (each for pair in layers for each in pair):
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
        self._labels, self._names, self._shown = None, (), None

    def of(self, place: int) -> list[Any]:
        """Return the layers that lie over a picture; fewer where the user has deleted one."""
        if place >= len(self._layers):
            return []
        return [layer for layer in self._layers[place] if layer in self._viewer.layers]

    def show(self, on: bool) -> None:
        """Show the outlines, or hide them."""
        for layer in (each for pair in self._layers for each in pair):
            layer.visible = on

    def colour(self, shown: tuple[str, ...], selected: str) -> None:
        """Colour the regions whose traces are shown, in the order of the rows; white is the selected one.

        Names of regions that are not drawn, or not yet, are passed over.
        """
        if not self._layers or self._shown == (shown, selected):
            return
        self._shown = shown, selected
        colours = np.tile(np.array(_OTHER), (len(self._names) + 1, 1))
        for row, name in enumerate(shown):
            if name not in self._names:
                continue
            colours[self._names.index(name) + 1] = _rgba(TRACE_COLOURS[row % len(TRACE_COLOURS)])
        marked = colours.copy()
        if selected in self._names:
            marked[self._names.index(selected) + 1] = (1.0, 1.0, 1.0, 1.0)
        everyone = len(self._names) <= _MOST_NUMBERS
        numbered = np.array(
            [
                place
                for place, name in enumerate(self._names)
                if np.isfinite(self._corners[place, 0]) and (everyone or name in shown or name == selected)
            ],
            np.intp,
        )
        strings = [self._names[place] for place in numbered]
        for lines, numbers in self._layers:
            if lines in self._viewer.layers:
                lines.edge_color = marked[np.minimum(self._owners, len(self._names))]
            if numbers in self._viewer.layers:
                self._write(numbers, self._corners[numbered], strings, colours[numbered + 1])

    @staticmethod
    def _write(layer: Any, where: Segments, strings: list[str], colours: npt.NDArray[np.float64]) -> None:
        layer.data = where
        layer.face_color = layer.border_color = "transparent"
        layer.features = {"name": strings}
        layer.text = {
            "string": "{name}",
            "size": 9,
            "anchor": "lower_left",
            "color": colours if len(colours) else "white",
        }
        layer.selected_data = set()
        layer.refresh()

    def region_at(self, row: float, column: float) -> str | None:
        """Return the region at a place in pixels, None where there is none."""
        if self._labels is None:
            return None
        y, x = round(row), round(column)
        if not (0 <= y < self._labels.shape[0] and 0 <= x < self._labels.shape[1]):
            return None
        label = int(self._labels[y, x])
        return self._names[label - 1] if 0 < label <= len(self._names) else None

    def _pressed(self, _viewer: Any, event: Any) -> Any:
        """Take a click, and leave a drag to napari; called by napari, step by step."""
        begun = tuple(event.position)[-2:]
        at = np.array(getattr(event, "pos", (0, 0)), float)
        yield
        while event.type == "mouse_move":
            yield
        if np.abs(np.array(getattr(event, "pos", at), float) - at).max() > _SLACK_PX:
            return
        name = self.region_at(begun[0] / self._pixel, begun[1] / self._pixel)
        if name is not None:
            self._on_pick(name)


def _places(labels: npt.NDArray[np.integer[Any]], names: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """Return the image with region k of `names` as k + 1, and 0 where there is none of them."""
    numbers = label_numbers(names)
    order = np.argsort(numbers)
    at = np.searchsorted(numbers[order], labels).clip(max=len(names) - 1)
    return np.where(numbers[order][at] == labels, order[at] + 1, 0)


def _corners(labels: npt.NDArray[np.integer[Any]], count: int) -> Segments:
    """Return the place for each region's number, beside its upper right corner; NaN where it has no pixel."""
    corners = np.full((count, 2), np.nan)
    rows, columns = np.nonzero((labels > 0) & (labels <= count))
    owners = labels[rows, columns].astype(np.intp) - 1
    top, right = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(top, owners, rows)
    np.maximum.at(right, owners, columns)
    there = np.isfinite(top)
    corners[there] = np.stack([top - 0.5, right + 0.5 + _ASIDE * max(labels.shape)], axis=1)[there]
    return corners


def _rgba(colour: str) -> tuple[float, float, float, float]:
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return red, green, blue, 1.0
