"""Movies with pixels that were not measured: NaN borders, NaN frames, infinite pixels, floats of any scale."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import tifffile

from denoscope.acquisition.offline.denoise import denoise_movie
from denoscope.train import movie_from_file
from support.field_inputs import active_cells

from . import Case, Outcome

_LENGTH = 40  # frames

_Holes = Callable[[np.ndarray], np.ndarray]


def cases() -> list[Case]:
    """Return the cases of this module: kinds of holes, scales, and the ways into the product."""
    right = "NaN exactly where the movie has none; the rest as good as without NaN"
    found = [
        Case("nan", name, right, lambda folder, holes=holes: _denoised(folder, holes))
        for name, holes in _KINDS.items()
    ]
    found += [
        Case(
            "nan",
            f"borders, values times {scale:g}",
            right,
            lambda folder, scale=scale: _denoised(folder, _borders, scale),
        )
        for scale in (1e-9, 1e-3, 1e9)
    ]
    found += [
        Case("nan", "values times 1e32", "refused in one sentence, exit 2", _too_large),
        Case("nan", "train", "borders cut off, noise within a tenth", _train),
        *(
            Case(
                "nan",
                f"live, {core}",
                "raw bit for bit, NaN in the denoised movie",
                lambda folder, core=core: _live(folder, core),
            )
            for core in ("replay", "watch")
        ),
    ]
    return found


def _borders(movie: np.ndarray) -> np.ndarray:
    random = np.random.default_rng(1)
    holes = np.zeros(movie.shape, bool)
    for frame in holes:
        top, left, bottom, right = random.integers(0, 6, 4)
        frame[:top], frame[:, :left] = True, True
        frame[len(frame) - bottom :], frame[:, frame.shape[1] - right :] = True, True
    return holes


def _frames(movie: np.ndarray) -> np.ndarray:
    holes = np.zeros(movie.shape, bool)
    holes[[0, 20, 21]] = True
    return holes


def _middle(movie: np.ndarray) -> np.ndarray:
    holes = np.zeros(movie.shape, bool)
    holes[:, 40:52, 50:64] = True
    holes[::3, 10, 10] = True
    return holes


_KINDS: dict[str, _Holes] = {
    "borders that change": _borders,
    "whole frames": _frames,
    "a hole in the middle": _middle,
}


def _movie(holes: _Holes, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return clean, noisy with NaN and infinite values, and noisy without (T, H, W)."""
    clean, noisy = active_cells(_LENGTH)
    clean, noisy = clean * scale, (noisy * scale).astype(np.float32)
    missing, holed = holes(noisy), noisy.copy()
    holed[missing] = np.nan
    holed[missing & (np.random.default_rng(2).random(noisy.shape) < 0.2)] = np.inf
    return clean, holed, noisy


def _run(folder: Path, name: str, movie: np.ndarray) -> np.ndarray:
    tifffile.imwrite(folder / f"{name}.tif", movie)
    denoise_movie(folder / f"{name}.tif", folder / f"{name}-out.tif", bundle="live-fast")
    return np.asarray(tifffile.imread(folder / f"{name}-out.tif"))


@cache
def _without_nan(scale: float) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        return _run(Path(folder), "whole", _movie(_borders, scale)[2])


def _denoised(folder: Path, holes: _Holes, scale: float = 1.0) -> Outcome:
    clean, holed, _ = _movie(holes, scale)
    made, whole = _run(folder, "holed", holed), _without_nan(scale)
    there = np.isfinite(holed)
    kept = bool(np.array_equal(np.isfinite(made), there))
    inside = there & (np.arange(len(clean)) >= 8)[:, None, None]
    error, known = (float(np.sqrt(np.mean(np.square((each - clean)[inside])))) for each in (made, whole))
    return Outcome(
        f"NaN {'kept' if kept else 'moved'}, error {error / known:.2f} of that without NaN",
        passed=kept and error < 1.25 * known,
    )


def _too_large(folder: Path) -> Outcome:
    tifffile.imwrite(folder / "movie.tif", _movie(_borders, 1e30)[1])
    done = _command(folder, "denoise", "movie.tif", "--output", "out.tif")
    said = done.stderr.strip().splitlines()
    passed = done.returncode == 2 and len(said) == 1 and "constant" in said[0]
    return Outcome(f"exit {done.returncode}: {said[-1:]}"[:150], passed=passed)


def _train(folder: Path) -> Outcome:
    _, holed, noisy = _movie(_borders)
    for name, movie in (("holed", holed), ("whole", noisy)):
        tifffile.imwrite(folder / f"{name}.tif", movie)
    found, known = movie_from_file(folder / "holed.tif"), movie_from_file(folder / "whole.tif")
    ratio = found.intensity.scale / known.intensity.scale
    finite = bool(np.isfinite(np.asarray(found.frames)).all())
    return Outcome(
        f"{found.frames.shape}, noise {ratio:.2f} of that without NaN", passed=finite and 0.9 < ratio < 1.1
    )


def _live(folder: Path, core: str) -> Outcome:
    _, holed, _ = _movie(_borders)
    tifffile.imwrite(folder / "movie.tif", holed)
    _command(
        folder,
        "live",
        "--core",
        f"{core}:movie.tif",
        "--output",
        "run",
        "--frames",
        str(_LENGTH),
        "--bundle",
        "live-fast",
    )
    report = json.loads((folder / "run" / "report.json").read_text(encoding="utf-8"))
    raw, made = (tifffile.imread(folder / "run" / name) for name in ("raw.tif", "denoised.ome.tif"))
    same = np.array_equal(raw.view(np.uint32), holed.view(np.uint32))
    kept = np.array_equal(np.isfinite(made), np.isfinite(holed))
    said = any("NaN" in note for note in report["outcome"]["notes"])
    words = "the same" if same else "differs", "kept" if kept else "moved", "named" if said else "not named"
    return Outcome(
        "raw {}, NaN {}, {}".format(*words),
        passed=same and kept and said,
    )


def _command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    start = "import sys; from denoscope.acquisition.cli.app import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", start, *words, "--quiet"],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
    )
