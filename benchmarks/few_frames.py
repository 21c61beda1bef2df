"""How many frames a movie must have to be learned from: training on its first frames only.

    python benchmarks/few_frames.py NOISY CLEAN
        [--frames 10 20 50 600] [--minutes 10] [--methods live umvd sts-uvd] [--from live] [--simulate N] --output DIR

Training starts from random weights, and once more from the bundle given with --from, as `denoscope train`
does; with --simulate, from random weights on simulated movies as well. Every training
spends the same processor minutes, all threads together, so that the numbers are fair on a shared machine; each
network then denoises the whole movie and is scored there; `live` sees a movie that moves at rest, as in a
session. The clean movie is never seen by a training. Rows that DIR/few_frames.json has already are not
measured again, unless the bundle has changed since: each row holds the SHA-256 of the one it began with.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypedDict

import numpy as np
from _provenance import digests_of, read_rows, write_results

from denoscope.export import load_network
from denoscope.runtime import Bundle, estimate_intensity, open_movie
from denoscope.train import (
    ADAPTATION_RATE,
    FitResult,
    LiveNet,
    TrainingMovie,
    aligned,
    best_gaussian,
    fit,
    score,
    simulated_movies,
)
from denoscope.train.fitting.methods import METHODS, method_named

GAUSSIAN = "gaussian tuned on the truth"


def main() -> None:
    """Train every method on every length, print the table and write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("noisy", type=Path)
    parser.add_argument("clean", type=Path)
    parser.add_argument("--frames", type=int, nargs="+", default=[10, 20, 50, 600])
    parser.add_argument("--minutes", type=float, default=10, help="processor minutes of each training")
    parser.add_argument("--methods", nargs="*", choices=list(METHODS), default=["live"])
    parser.add_argument("--from", dest="start", help="live bundle to adapt as well")
    parser.add_argument(
        "--simulate", type=int, default=0, help="simulated movies to learn `live` from as well"
    )
    parser.add_argument("--no-gaussian", action="store_true", help="leave out the slow search for it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()

    noisy, clean = np.asarray(open_movie(options.noisy)), np.asarray(open_movie(options.clean))
    table = Table(
        options.output / "few_frames.json",
        options.noisy.stem,
        clean,
    )
    if table.lacks("noisy", len(noisy)):
        table.add("noisy", len(noisy), noisy)
    if not options.no_gaussian and table.lacks(GAUSSIAN, len(noisy)):
        table.add(GAUSSIAN, len(noisy), best_gaussian(clean, noisy)[0])
    trainings: list[tuple[str, str, LiveNet | None, int]] = [(m, m, None, 0) for m in options.methods]
    if options.simulate:
        trainings.append((f"live, with {options.simulate} simulated movies", "live", None, options.simulate))
    begun_with: dict[str, str] = {}
    if options.start:
        bundle = Bundle.load(options.start)
        begun_with = digests_of([bundle])
        network = load_network(bundle)
        assert isinstance(network, LiveNet)
        trainings.append((f"live, adapted from {options.start}", "live", network, 0))
        if table.lacks(f"{options.start}, as it is", 0, begun_with):
            seen = as_seen("live", noisy, clean)
            estimate = method_named("live").denoise(network, seen.frames, seen.intensity, fields=seen.fields)
            table.add(f"{options.start}, as it is", 0, estimate, truth=seen.clean, bundles=begun_with)
    for title, name, start, simulated in trainings:
        method = method_named(name)
        bundles = begun_with if start else {}
        for frames in sorted({min(n, len(noisy)) for n in options.frames}):
            if not table.lacks(title, frames, bundles):
                continue
            movie = TrainingMovie("movie", noisy[:frames], None, estimate_intensity(noisy[:frames][:32]))
            changes: dict[str, Any] = {"learning_rate": ADAPTATION_RATE} if start else {}
            settings = method.settings(
                processor_minutes=options.minutes, stop_after=None, seed=options.seed, **changes
            )
            result = fit(
                [
                    aligned(movie) if name == "live" else movie,
                    *simulated_movies(simulated, seed=options.seed),
                ],
                settings=settings,
                method=name,
                network=start.settings if start else None,
                start=start.state_dict() if start else None,
                flow=getattr(start, "flow", None),
            )
            # The transform is the one it was trained with, as a bundle would carry it.
            seen = as_seen(name, noisy, clean)
            fields = {"fields": seen.fields} if name == "live" else {}
            estimate = method.denoise(result.network, seen.frames, movie.intensity, **fields)
            table.add(title, frames, estimate, result, truth=seen.clean, bundles=bundles)


def as_seen(method: str, noisy: np.ndarray, clean: np.ndarray) -> TrainingMovie:
    """Return the movie and its truth as a session shows them to the network: `live` sees them at rest."""
    movie = TrainingMovie("movie", noisy, np.asarray(clean, np.float32), estimate_intensity(noisy[:32]))
    return aligned(movie) if method == "live" else movie


class Row(TypedDict):
    """One training, or one estimate without any; `bundles` holds the SHA-256 of the bundle it began with, by name."""

    movie: str
    method: str
    frames: int
    bundles: dict[str, str]
    steps: int
    processor_s: float
    improved: bool
    caution: float
    psnr_db: float
    psnr_p999_db: float
    ssim: float


class Table:
    """Rows of results, printed and written one by one."""

    def __init__(self, path: Path, movie: str, clean: np.ndarray) -> None:
        self._path, self._movie, self._clean = path, movie, clean
        self._rows: list[Row] = read_rows(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        titles = "| movie | method | frames | steps | processor minutes | PSNR (dB) | at 99.9 % (dB) | SSIM |"
        print(f"{titles}\n|{'---|' * 8}")

    def lacks(self, method: str, frames: int, bundles: Mapping[str, str] = MappingProxyType({})) -> bool:
        """Return True where a row is still to be measured, or was measured with another bundle."""
        row = self._rows[place] if (place := self._place(method, frames)) is not None else None
        return row is None or row["bundles"] != bundles

    def _place(self, method: str, frames: int) -> int | None:
        key = (self._movie, method, frames)
        found = [n for n, row in enumerate(self._rows) if (row["movie"], row["method"], row["frames"]) == key]
        return found[0] if found else None

    def add(
        self,
        method: str,
        frames: int,
        estimate: np.ndarray,
        result: FitResult[Any] | None = None,
        truth: np.ndarray | None = None,
        bundles: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Score an estimate of the whole movie; `result` is the training behind it, `bundles` what that began with."""
        s = score(self._clean if truth is None else truth, estimate)
        row = Row(
            movie=self._movie,
            method=method,
            frames=frames,
            bundles=dict(bundles),
            steps=result.steps if result else 0,
            processor_s=result.processor_s if result else 0.0,
            improved=result.improved if result else False,
            caution=result.caution if result else 0.0,
            psnr_db=s.psnr_db,
            psnr_p999_db=s.psnr_p999_db,
            ssim=s.ssim,
        )
        place = self._place(method, frames)
        if place is None:
            self._rows.append(row)
        else:
            self._rows[place] = row
        spent = f"{result.steps} | {result.processor_s / 60:.1f}" if result else " | "
        print(
            f"| {self._movie} | {method} | {frames} | {spent} "
            f"| {s.psnr_db:.2f} | {s.psnr_p999_db:.2f} | {s.ssim:.4f} |",
            flush=True,
        )
        write_results(self._path, self._rows, indent=1)


if __name__ == "__main__":
    main()
