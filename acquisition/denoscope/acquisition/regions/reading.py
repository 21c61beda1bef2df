"""Regions from files and from layers of napari, told apart by what they hold."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.acquisition.errors import one_line
from denoscope.acquisition.extras import require
from denoscope.runtime import InvalidInput

from .polygons import ellipse_pixels, polygon_pixels, rectangle_pixels
from .regions import Regions
from .stat_npy import read_stat

__all__ = ["FIND", "FIND_RADIUS_PX", "check_radius", "found_radius", "read_regions", "regions_of_layer"]

FIND = "find"
"""Word for regions that are to be found in the first denoised frames."""

FIND_RADIUS_PX = 6.0
"""Radius of a cell where none is given."""

_MOST_CORNERS = 100_000
_MOST_ROWS = 5_000_000


def found_radius(regions: str) -> float | None:
    """Return the radius in pixels of the cells to be found, from ``find`` or ``find:RADIUS``; None for a file's name.

    Raises
    ------
    InvalidInput
        When the radius is no number from 1 to 200.
    """
    word, colon, radius = regions.partition(":")
    if word != FIND or (not colon and Path(regions).exists()):
        return None
    try:
        value = float(radius) if colon else FIND_RADIUS_PX
    except ValueError:
        value = -1.0
    if not _is_radius(value):
        raise InvalidInput(
            f"`regions` {regions}: the radius of a cell is a number of pixels from 1 to 200, as in find:6."
        )
    return value


def check_radius(radius_px: float) -> None:
    """Refuse what is no radius of a cell.

    Raises
    ------
    InvalidInput
        When it is no number from 1 to 200.
    """
    if not _is_radius(radius_px):
        raise InvalidInput(
            f"the radius of a cell is {repr(radius_px)[:40]}; give 1 to 200 (pixels), for example 6."
        )


def _is_radius(value: object) -> bool:
    return (
        isinstance(value, int | float | np.number) and not isinstance(value, bool) and bool(1 <= value <= 200)
    )


def read_regions(path: Path | str, shape: tuple[int, int]) -> Regions:
    """Return the regions in a file.

    Parameters
    ----------
    path
        ImageJ's ROI Manager (``.zip``, or one ``.roi``), a label image (``.tif``, ``.npy``), shapes saved by napari
        (``.csv``), or ``stat.npy`` of suite2p.
    shape
        ``(H, W)`` of the frames.

    Returns
    -------
    Regions
        Names, and pixels of each region.

    Raises
    ------
    InvalidInput
        When the file holds none of these, or its regions do not fit frames of this size.
    FileNotFoundError
        When there is no such file.

    Examples
    --------
    >>> read_regions("cells.zip", (512, 512)).names  # doctest: +SKIP
    ('soma 1', 'soma 2')
    """
    path = Path(path)
    if path.is_dir() and (path / "stat.npy").is_file():
        path = path / "stat.npy"
    if not path.is_file():
        raise InvalidInput(f"`regions` {path}: there is no such file; name one, or find to find cells.")
    suffix = path.suffix.lower()
    if suffix in (".zip", ".roi"):
        regions = _from_imagej(path, shape)
    elif suffix == ".npy":
        regions = _from_npy(path, shape)
    elif suffix in (".tif", ".tiff"):
        regions = _from_tiff(path)
    elif suffix == ".csv":
        regions = _from_napari_csv(path, shape)
    else:
        raise InvalidInput(
            f"`regions` {path}: files end with .zip or .roi (ImageJ), .tif or .npy (labels), .csv (shapes of napari), "
            "or are named stat.npy (suite2p)."
        )
    regions.check(shape)
    return regions


def regions_of_layer(layer: Any, shape: tuple[int, int]) -> Regions:
    """Return the regions of a layer of napari: ``Labels``, or ``Shapes`` drawn on frames of this size.

    Parameters
    ----------
    layer
        The layer.
    shape
        ``(H, W)`` of the frames.

    Returns
    -------
    Regions
        Names, and pixels of each region.

    Raises
    ------
    InvalidInput
        When it is another kind of layer, or its shapes do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from types import SimpleNamespace
    >>> labels = np.zeros((32, 32), np.uint8)
    >>> labels[4:8, 4:8] = 1
    >>> class Labels(SimpleNamespace): ...
    >>> regions_of_layer(Labels(data=labels, name="cells"), (32, 32)).names
    ('1',)
    """
    name = str(getattr(layer, "name", "the layer"))
    kind = type(layer).__name__
    if kind == "Labels":
        regions = Regions.from_labels(layer.data, origin=f"the layer {name}")
        regions.check(shape)
        return regions
    if kind != "Shapes":
        raise InvalidInput(f"the layer {name} is one of {kind}: regions are layers of Labels or Shapes.")
    kinds = list(layer.shape_type)
    return _from_shapes(zip(kinds, layer.data, strict=True), shape, f"the layer {name}")


def _from_tiff(path: Path) -> Regions:
    import tifffile

    try:
        image = tifffile.imread(path)
    except Exception as error:
        raise InvalidInput(
            f"`regions` {path} cannot be read as a label image ({one_line(error)}); save it as TIFF again."
        ) from error
    return Regions.from_labels(image, origin=str(path))


def _from_npy(path: Path, shape: tuple[int, int]) -> Regions:
    try:
        labels = np.load(path, allow_pickle=False)
    except (ValueError, TokenError):
        return _from_suite2p(path, shape)
    except (EOFError, OSError, MemoryError) as error:
        raise InvalidInput(f"`regions` {path} is damaged ({one_line(error)}); save it again.") from error
    return Regions.from_labels(labels, origin=str(path))


def _from_suite2p(path: Path, shape: tuple[int, int]) -> Regions:
    cells = read_stat(path)
    chosen = _cells_of(path, len(cells))
    names, pixels = [], []
    for number in chosen:
        try:
            rows = np.asarray(cells[number]["ypix"]).astype(np.int64).ravel()
            columns = np.asarray(cells[number]["xpix"]).astype(np.int64).ravel()
        except (TypeError, ValueError) as error:
            raise InvalidInput(
                f"{path}: region {number} has no pixels; get the file from suite2p again."
            ) from error
        if len(rows) != len(columns):
            raise InvalidInput(
                f"{path}: region {number} has {len(rows)} rows and {len(columns)} columns of pixels."
            )
        inside = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
        if not inside.all():
            raise InvalidInput(
                f"{path}: region {number} reaches beyond frames of {shape[0]} x {shape[1]} pixels; take regions of "
                "this field of view."
            )
        names.append(str(number))
        pixels.append(np.unique(rows * shape[1] + columns))
    return Regions(shape, names, pixels, origin=str(path))


def _cells_of(path: Path, count: int) -> list[int]:
    """Return the regions that suite2p, or its user, takes for cells; all of them without ``iscell.npy``."""
    beside = path.with_name("iscell.npy")
    if path.name == "stat.npy" and beside.is_file():
        try:
            cells = np.load(beside, allow_pickle=False)
            accepted = np.flatnonzero(cells.reshape(len(cells), -1)[:, 0] > 0)
        except (ValueError, EOFError, OSError, IndexError, TokenError) as error:
            raise InvalidInput(
                f"{beside} is damaged ({one_line(error)}); move it away to take all regions."
            ) from error
        if len(cells) == count and len(accepted):
            return [int(number) for number in accepted]
    return list(range(count))


def _from_imagej(path: Path, shape: tuple[int, int]) -> Regions:
    require("roifile", extra="regions", purpose="reading ImageJ's regions")
    import roifile

    try:
        rois = roifile.roiread(path)
    except Exception as error:
        raise InvalidInput(
            f"`regions` {path} holds no regions of ImageJ ({one_line(error)}); save them in the ROI Manager again."
        ) from error
    names, pixels = [], []
    for number, roi in enumerate(rois if isinstance(rois, list) else [rois], 1):
        name = roi.name or str(number)
        inside = _inside_roi(roi, shape)
        if inside is None:
            kind = roi.roitype.name.lower()
            raise InvalidInput(
                f"region {name} of {path} is a {kind} and encloses nothing; draw rectangles, ovals, polygons or "
                "freehand outlines."
            )
        names.append(name)
        pixels.append(inside)
    return Regions(shape, names, pixels, origin=str(path))


def _inside_roi(roi: Any, shape: tuple[int, int]) -> npt.NDArray[np.intp] | None:
    """Return the pixels that a region of ImageJ encloses, or None for lines and points."""
    box = float(roi.top), float(roi.left), float(roi.bottom), float(roi.right)
    kind = roi.roitype.name
    if roi.multi_coordinates is not None:
        rings = [ring for ring in roi.path2coords(roi.multi_coordinates) if len(ring) > 2]
        counts = np.zeros(shape[0] * shape[1], np.uint8)
        for ring in rings:
            counts[polygon_pixels(np.asarray(ring, float)[:, ::-1], shape)] ^= 1
        return np.flatnonzero(counts)
    if kind == "RECT":
        return rectangle_pixels(*box, shape)
    if kind == "OVAL":
        return ellipse_pixels(*box, shape)
    if kind in ("POLYGON", "FREEHAND", "TRACED"):
        corners = np.asarray(roi.coordinates(), float)[:, ::-1]
        return polygon_pixels(corners, shape) if 2 < len(corners) <= _MOST_CORNERS else None
    return None


def _from_napari_csv(path: Path, shape: tuple[int, int]) -> Regions:
    shapes: dict[str, tuple[str, list[list[float]]]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            axes = [name for name in rows.fieldnames or () if re.fullmatch(r"axis-\d+", name)][-2:]
            if len(axes) != 2 or "index" not in (rows.fieldnames or ()):
                raise InvalidInput(
                    f"`regions` {path} holds no shapes of napari: it needs the columns index, shape-type, axis-0 and "
                    "axis-1; save the layer of shapes again."
                )
            for number, row in enumerate(rows):
                if number >= _MOST_ROWS:
                    raise InvalidInput(f"`regions` {path} has more than {_MOST_ROWS} corners; give fewer.")
                kind = row.get("shape-type") or "polygon"
                shapes.setdefault(row["index"], (kind, []))[1].append([float(row[axis]) for axis in axes])
    except (ValueError, TypeError, UnicodeDecodeError, csv.Error) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(
            f"`regions` {path} is damaged ({one_line(error)}); save the layer of shapes again."
        ) from error
    return _from_shapes(((kind, np.array(corners)) for kind, corners in shapes.values()), shape, str(path))


def _from_shapes(
    shapes: Iterable[tuple[str, npt.NDArray[Any]]], frame: tuple[int, int], origin: str
) -> Regions:
    """Return the regions that shapes of napari enclose, whose pixels have their centres at whole numbers."""
    names, pixels = [], []
    for number, (kind, data) in enumerate(shapes, 1):
        corners = np.asarray(data, float)[:, -2:] + 0.5
        if kind in ("line", "path") or len(corners) < 3 or not np.isfinite(corners).all():
            raise InvalidInput(
                f"shape {number} of {origin} is a {kind} and encloses nothing; draw rectangles, ellipses or polygons."
            )
        if len(corners) > _MOST_CORNERS:
            raise InvalidInput(
                f"shape {number} of {origin} has more than {_MOST_CORNERS} corners; draw it again."
            )
        if kind == "ellipse":
            (top, left), (bottom, right) = corners.min(0), corners.max(0)
            inside = ellipse_pixels(top, left, bottom, right, frame)
        else:
            inside = polygon_pixels(corners, frame)
        names.append(str(number))
        pixels.append(inside)
    return Regions(frame, names, pixels, origin=origin)
