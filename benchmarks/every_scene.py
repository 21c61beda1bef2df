"""Bundles beside tuned filters on every simulated test movie and on pairs with truth: quality, calibration, a picture.

    python benchmarks/every_scene.py BUNDLE [BUNDLE ...] [--pair NOISY.tif CLEAN.tif] [--frames 120] --output DIR

None of the test movies (`denoscope.train.TEST_MOVIES`) is ever trained on. Movies that move are aligned, as in a live
session. Writes every_scene.json and every_scene.png and prints the table as markdown; an interrupted run goes on
where it stopped.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from denoscope.runtime import Bundle, open_movie
from denoscope.train import TEST_MOVIES, test_movie
from denoscope.train._evaluate import evaluate_pair, unique_names


def main() -> None:
    """Measure what is missing, print, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundles", nargs="+", help="names or folders")
    parser.add_argument("--pair", nargs=2, type=Path, action="append", default=[], metavar=("NOISY", "CLEAN"))
    parser.add_argument("--frames", type=int, default=120, help="of each movie, from its beginning")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    bundles = [Bundle.load(name) for name in options.bundles]
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / "every_scene.json"
    setting = {"frames": options.frames, "bundles": {b.manifest.name: b.digest[:12] for b in bundles}}
    report: dict[str, Any] = {**setting, "movies": []}
    if file.exists():
        report = json.loads(file.read_text(encoding="utf-8"))
        if any(report[key] != value for key, value in setting.items()):
            parser.error(f"{file} holds a run with other bundles or frames: name another --output.")
    done = {movie["movie"] for movie in report["movies"]}
    for name in [*TEST_MOVIES, *(noisy.stem for noisy, _ in options.pair)]:
        if name not in done:
            noisy, clean = frames_of(name, options.pair)
            part = slice(0, options.frames)
            found = evaluate_pair(name, noisy[part], clean[part], bundles, backend=options.backend)
            report["movies"].append(found.to_dict())
            file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
            print(f"{name} done", flush=True)
    names = unique_names(bundles)
    print(table(report["movies"], names))
    draw(report["movies"], names, options.output / "every_scene.png")


def frames_of(name: str, pairs: list[list[Path]]) -> tuple[np.ndarray, np.ndarray]:
    """Return a movie (T, H, W) as recorded and its truth."""
    if name in TEST_MOVIES:
        movie = test_movie(name)
        return movie.as_uint16(), np.asarray(movie.clean, np.float32)
    noisy, clean = next(pair for pair in pairs if pair[0].stem == name)
    return np.asarray(open_movie(noisy)), np.asarray(open_movie(clean), np.float32)


def psnr(movie: dict[str, Any], method: str) -> float:
    """Return a method's PSNR on a movie, dB."""
    return float(next(row["psnr_db"] for row in movie["methods"] if row["method"] == method))


def best_filter(movie: dict[str, Any]) -> float:
    """Return the better of the two filters that were tuned on the truth, dB."""
    return max(psnr(movie, "gaussian"), psnr(movie, "temporal average"))


def table(movies: list[dict[str, Any]], names: list[str]) -> str:
    """Return PSNR in dB, the margin over the best filter, and the share of truth in the predicted intervals."""
    lines = [
        "| movie | noisy | best tuned filter | "
        + " | ".join(f"{n} (margin; 68 %, 95 %)" for n in names)
        + " |",
        "|---|---|---|" + "---|" * len(names),
    ]
    for movie in movies:
        best, cells = best_filter(movie), []
        for name in names:
            value, inside = psnr(movie, name), ""
            if name in movie["coverage_68"]:
                inside = f"; {movie['coverage_68'][name]:.0%}, {movie['coverage_95'][name]:.0%}"
            cells.append(f"{value:.1f} ({value - best:+.1f}{inside})")
        lines.append(f"| {movie['movie']} | {psnr(movie, 'noisy'):.1f} | {best:.1f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(movies: list[dict[str, Any]], names: list[str], path: Path) -> None:
    """Draw the margin over the best tuned filter, a group of bars a movie."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.5 + 0.45 * len(movies)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    rows, height = np.arange(len(movies)), 0.8 / len(names)
    for index, name in enumerate(names):
        margins = [psnr(movie, name) - best_filter(movie) for movie in movies]
        bars = axes.barh(rows + (index - (len(names) - 1) / 2) * height, margins, height, label=name)
        axes.bar_label(bars, fmt="%+.1f", padding=2, fontsize="small")
    axes.axvline(0, color="black", linewidth=1)
    axes.set_yticks(rows, [movie["movie"] for movie in movies])
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("dB above the best filter tuned on the truth")
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
