"""Movies of scanners: lines that are shifted, columns and rows that differ, and movies where nothing is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from denoscope.acquisition.offline import denoise as _offline
from denoscope.acquisition.results import Denoising
from denoscope.runtime import ScannerArtefacts, measure_scanner
from denoscope.runtime.artefacts.line_offset import _shift
from support.field_inputs import active_cells, counts, lines_shifted

from . import Case, Outcome

_OFF_BY = 0.2  # pixels
_LENGTH = 64  # frames of movies that are denoised


def cases() -> list[Case]:
    """Return the cases of this module: offsets, patterns, brightness and length."""
    found = [
        Case(
            "scanner",
            f"odd lines shifted by {pixels}, {photons} photons",
            f"the same offset within {_OFF_BY} pixels, named, and corrected with --fix-line-offset",
            lambda folder, pixels=pixels, photons=photons: _lines(folder, pixels, photons),
        )
        for pixels, photons in ((1, 6), (2, 6), (-2, 6), (3, 6), (3, 1), (1, 40), (-3, 40))
    ]
    found += [
        Case(
            "scanner",
            f"{along} differ by {counts_} counts",
            "the pattern is kept: slope 0.95 to 1.05",
            lambda folder, along=along, counts_=counts_: _pattern(folder, along, counts_),
        )
        for along in ("columns", "rows")
        for counts_ in (10, 25)
    ]
    found += [
        Case(
            "scanner",
            "odd lines shifted by 1, 6 photons, 10 movies",
            "found in 8 or more, never another",
            _single,
        ),
        Case("scanner", "lines shifted by 3 and columns that differ", "both kept and named", _both),
        Case("scanner", "120 movies of stripes", "no offset is found", lambda _folder: _stripes()),
        Case("scanner", "120 ordinary movies", "nothing is found", lambda _folder: _ordinary()),
        Case("scanner", "live, lines shifted by 3", "named in the report", _live),
    ]
    return found


def _denoised(folder: Path, name: str, movie: np.ndarray, **settings: Any) -> tuple[np.ndarray, Denoising]:
    source = folder / f"{name}.tif"
    tifffile.imwrite(source, movie)
    result = _offline.denoise_movie(source, folder / f"{name}-denoised.tif", **settings)
    return tifffile.imread(folder / f"{name}-denoised.tif").astype(float), result


def _offset(movie: np.ndarray) -> float:
    mean = movie.mean(axis=0)
    little_noise = np.random.default_rng(0).normal(0, 0.02, mean.shape)
    found = _shift(mean, little_noise, sure=False)
    return float("nan") if found is None else found.pixels


def _lines(folder: Path, pixels: int, photons: float) -> Outcome:
    noisy, clean = lines_shifted(pixels, _LENGTH, photons=photons)
    kept, result = _denoised(folder, "kept", noisy)
    fixed, _ = _denoised(folder, "fixed", noisy, fix_line_offset=True)
    raw, left, corrected = _offset(clean), _offset(kept), _offset(fixed)
    said = any("`fix_line_offset`" in note for note in result.notes)
    return Outcome(
        f"true {raw:.2f}, denoised {left:.2f}, corrected {corrected:.2f}, {'named' if said else 'not named'}",
        passed=abs(left - raw) <= _OFF_BY and abs(corrected) <= _OFF_BY and said,
    )


def _pattern(folder: Path, along: str, size: int) -> Outcome:
    clean, noisy = active_cells(_LENGTH)
    length = noisy.shape[2 if along == "columns" else 1]
    values = np.random.default_rng(3).normal(0, size, length)
    picture = np.broadcast_to(values[None] if along == "columns" else values[:, None], noisy.shape[1:])
    kept, result = _denoised(folder, along, counts(noisy + picture))
    slope = float(((kept - clean).mean(axis=0) * picture).sum() / np.square(picture).sum())
    said = any(along in note for note in result.notes)
    return Outcome(
        f"slope {slope:.3f}, {'named' if said else 'not named'}", passed=abs(slope - 1) <= 0.05 and said
    )


def _single(_folder: Path) -> Outcome:
    found = [measure_scanner(lines_shifted(1, 120, seed=seed)[0]).line_offset for seed in range(10)]
    right = found.count(1.0)
    return Outcome(
        f"found in {right} of {len(found)}, others {set(found) - {1.0}}",
        passed=right >= 8 and set(found) <= {0.0, 1.0},
    )


def _both(folder: Path) -> Outcome:
    noisy, clean = lines_shifted(3, _LENGTH)
    values = np.random.default_rng(3).normal(0, 25, noisy.shape[2])
    kept, result = _denoised(folder, "both", counts(noisy + values))
    off = _offset(kept - values) - _offset(clean)
    slope = float(((kept - clean).mean(axis=0) * values).sum() / (np.square(values).sum() * len(clean[0])))
    said = all(any(word in note for note in result.notes) for word in ("odd lines", "columns"))
    return Outcome(
        f"offset off by {off:.2f} pixels, slope of columns {slope:.3f}, {'named' if said else 'not named'}",
        passed=abs(off) <= _OFF_BY and abs(slope - 1) <= 0.05 and said,
    )


def _stripes() -> Outcome:
    y, x = np.mgrid[:96, :112]
    random = np.random.default_rng(1)
    alarms = 0
    for period in (5, 6, 7.4, 8, 9, 10, 12, 14.8, 20, 30):
        for slope in (0, 0.1, 0.3, 0.5, 1, 2):
            for photons in (2, 50):
                light = photons * (1 + 0.9 * np.sin(2 * np.pi * (x + slope * y) / period))
                movie = counts(100 + 20.0 * random.poisson(light, (16, *light.shape)))
                alarms += measure_scanner(movie).line_offset != 0
    return Outcome(f"{alarms} false alarms", passed=alarms == 0)


def _ordinary() -> Outcome:
    alarms = 0
    for seed in range(30):
        for photons in (0.3, 1.0, 6.0, 40.0):
            movie = counts(active_cells(32, seed=100 + seed, photons=photons)[1])
            alarms += measure_scanner(movie) != ScannerArtefacts()
    return Outcome(f"{alarms} false alarms", passed=alarms == 0)


def _live(folder: Path) -> Outcome:
    tifffile.imwrite(folder / "movie.tif", lines_shifted(3, 60, photons=20)[0])
    start = "import sys; from denoscope.acquisition.cli.app import main; sys.exit(main())"
    command = [sys.executable, "-c", start, "live", "--core", "replay:movie.tif"]
    subprocess.run(
        [*command, "--output", "run", "--frames", "60", "--quiet"],
        cwd=folder,
        check=False,
        capture_output=True,
    )
    notes = json.loads((folder / "run" / "report.json").read_text(encoding="utf-8"))["outcome"]["notes"]
    said = [note for note in notes if "odd lines are shifted by 3.0 pixels" in note]
    return Outcome(str(said or notes)[:90], passed=bool(said))
