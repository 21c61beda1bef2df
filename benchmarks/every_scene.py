"""Bundles on every simulated test movie and on pairs with truth, as shipped and adapted, beside tuned filters and UMVD.

    python benchmarks/every_scene.py BUNDLE [BUNDLE ...] [--pair NOISY.tif CLEAN.tif] [--only MOVIE ...] --output DIR
        [--frames 120] [--adapt BUNDLE ...] [--adapt-minutes 2] [--train umvd sts-uvd] [--train-minutes 30]
        [--train-epochs 10] [--train-precision bf16-mixed]

None of the test movies (`denoscope.train.TEST_MOVIES`) is ever trained on. Movies that move are aligned, as in a live
session. With --adapt a bundle learns from the noisy movie first, with --train a published method learns from it alone;
minutes are those of the processor, on one thread. With --train-epochs it trains for as many epochs of 200 steps, on
the GPU if there is one (a processor does 4 to 12 in 30 minutes). Writes every_scene.json and every_scene.png and
prints the tables as markdown, then which bars are missed. What DIR has already is not measured again; a bundle that
has changed is.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _provenance import write_results
from methods import train_bundle

from denoscope.export import export_bundle, load_network
from denoscope.runtime import Bundle, InvalidInput, estimate_intensity, open_movie
from denoscope.train import (
    ADAPTATION_RATE,
    METHODS,
    TEST_MOVIES,
    LiveNet,
    TrainingMovie,
    aligned,
    blind_spots_for,
    fit,
    hiding_noise,
    test_movie,
)
from denoscope.train.evaluation.truth import measure_bundle, measure_filters, unique_names
from denoscope.train.fitting.precision import automatic_precision

FILTERS = ("gaussian", "temporal average")
SHIPPED_BAR, ADAPTED_BAR = 1.5, 0.5  # dB above the better filter, and above the bundle as shipped
COVERAGE_BARS = {"coverage_68": (0.63, 0.73), "coverage_95": (0.92, 0.98)}


@dataclass(frozen=True)
class Entry:
    """A row of every movie: its name, what decides whether it is the same, and how to make its bundle."""

    label: str
    version: str
    bundle: Callable[[TrainingMovie], Bundle]
    parent: str | None = None  # of an adapted bundle
    published: bool = False


def main() -> None:
    """Measure what is missing, print, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundles", nargs="+", help="names or folders")
    parser.add_argument("--pair", nargs=2, type=Path, action="append", default=[], metavar=("NOISY", "CLEAN"))
    parser.add_argument("--only", nargs="+", help="movies to measure; the tables show all that DIR has")
    parser.add_argument("--frames", type=int, default=120, help="of each movie, from its beginning")
    parser.add_argument("--adapt", nargs="+", default=[], help="bundles to adapt to each movie")
    parser.add_argument("--adapt-minutes", type=float, default=2.0)
    parser.add_argument("--train", nargs="+", choices=["umvd", "sts-uvd"], default=[])
    parser.add_argument("--train-minutes", type=float, default=30.0)
    parser.add_argument("--train-epochs", type=int)
    parser.add_argument("--train-precision", choices=["32", "bf16-mixed"], default="32")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / "every_scene.json"
    report: dict[str, Any] = {"frames": options.frames, "movies": []}
    if file.exists():
        report = json.loads(file.read_text(encoding="utf-8"))
        if report["frames"] != options.frames:
            parser.error(f"{file} holds a run with {report['frames']} frames: name another --output.")
    known = [*TEST_MOVIES, *(noisy.stem for noisy, _ in options.pair)]
    if unknown := set(options.only or []) - set(known):
        parser.error(f"There is no movie {', '.join(sorted(unknown))}: choose from {', '.join(known)}.")
    entries = entries_of(options)
    for name in options.only or known:
        measure(name, entries, report, file, options)
    names = [entry.label for entry in entries]
    print(table(report["movies"], names), "\n\n" + details(report["movies"], names), sep="")
    print("\n" + "\n".join(missed(report["movies"], entries)))
    draw(report["movies"], names, options.output / "every_scene.png")


def entries_of(options: argparse.Namespace) -> list[Entry]:
    """Return the rows that were asked for: bundles as they are, adapted ones, published methods."""
    bundles = [Bundle.load(name) for name in options.bundles]
    names = unique_names(bundles)
    entries = [
        Entry(name, bundle.digest[:12], lambda _, bundle=bundle: bundle)
        for name, bundle in zip(names, bundles, strict=True)
    ]
    for start in options.adapt:
        bundle = Bundle.load(start)
        label = f"{bundle.manifest.name}, adapted {options.adapt_minutes:g} min"
        entries.append(
            Entry(
                label,
                bundle.digest[:12],
                lambda movie, bundle=bundle, label=label: adapted(movie, bundle, label, options),
                parent=bundle.manifest.name,
            )
        )
    for method in options.train:
        epochs = options.train_epochs
        label = f"{method}, {options.train_minutes:g} min" if epochs is None else f"{method}, {epochs} epochs"
        entries.append(
            Entry(
                label,
                "1",
                lambda movie, method=method, label=label: train_bundle(
                    movie,
                    method,
                    options.train_minutes,
                    options.output,
                    label=label,
                    precision=options.train_precision,
                    epochs=options.train_epochs,
                )[0],
                published=True,
            )
        )
    return entries


def adapted(movie: TrainingMovie, start: Bundle, label: str, options: argparse.Namespace) -> Bundle:
    """Return a `live` bundle that has gone on to learn from the noisy movie, as `denoscope train` does."""
    network = load_network(start)
    if not isinstance(network, LiveNet):
        raise InvalidInput(f"{start.manifest.name} cannot be adapted: name a bundle of the method live.")
    settings = METHODS["live"].settings(
        processor_minutes=options.adapt_minutes,
        stop_after=None,
        learning_rate=ADAPTATION_RATE,
        precision=automatic_precision(),
    )
    needed, _ = blind_spots_for([movie])
    result = fit(
        [aligned(movie)],
        settings=settings,
        network=hiding_noise(network.settings, needed, trained=True)[0],
        start=network.state_dict(),
        flow=network.flow,
    )
    folder = options.output / "bundles" / f"{movie.name}-{label}.denoscope"
    return export_bundle(result.network, folder, name=start.manifest.name, trained_on=[movie.name])


def measure(
    name: str, entries: list[Entry], report: dict[str, Any], file: Path, options: argparse.Namespace
) -> None:
    """Add to the report what it lacks of one movie, row by row."""
    found = next((movie for movie in report["movies"] if movie["movie"] == name), None)
    if found is None:
        found = {"movie": name, "methods": [], "versions": {}, "coverage_68": {}, "coverage_95": {}}
        report["movies"].append(found)
    wanted = [entry for entry in entries if found["versions"].get(entry.label) != entry.version]
    if not wanted:
        return
    noisy, clean = frames_of(name, options.pair)
    seen, truth = noisy[: options.frames], clean[: options.frames]

    def keep(row: dict[str, Any]) -> None:
        found["methods"] = [old for old in found["methods"] if old["method"] != row["method"]] + [row]
        write_results(file, report, [*options.bundles, *options.adapt], indent=1)
        print(f"{name}: {row['method']} {row['psnr_db']:.2f} dB", flush=True)

    if not found["methods"]:
        for row, _ in measure_filters(truth, seen):
            keep(row.record().model_dump(exclude_none=True))
    for entry in wanted:
        bundle = entry.bundle(TrainingMovie(name, noisy, None, estimate_intensity(noisy[:32])))
        row, _, intervals = measure_bundle(entry.label, bundle, seen, truth, backend=options.backend)
        found["versions"][entry.label] = entry.version
        if intervals is not None:
            found["coverage_68"][entry.label] = intervals.coverage(0.68)
            found["coverage_95"][entry.label] = intervals.coverage(0.95)
            found.setdefault("reliability", {})[entry.label] = asdict(intervals)
        keep(row.record().model_dump(exclude_none=True))


def frames_of(name: str, pairs: list[list[Path]]) -> tuple[np.ndarray, np.ndarray]:
    """Return a movie (T, H, W) as recorded and its truth."""
    if name in TEST_MOVIES:
        movie = test_movie(name)
        return movie.as_uint16(), np.asarray(movie.clean, np.float32)
    noisy, clean = next(pair for pair in pairs if pair[0].stem == name)
    return np.asarray(open_movie(noisy)), np.asarray(open_movie(clean), np.float32)


def has(movie: dict[str, Any], method: str) -> bool:
    """Return whether a method was measured on a movie."""
    return any(row["method"] == method for row in movie["methods"])


def psnr(movie: dict[str, Any], method: str) -> float:
    """Return a method's PSNR on a movie, dB."""
    return float(next(row["psnr_db"] for row in movie["methods"] if row["method"] == method))


def best_filter(movie: dict[str, Any]) -> float:
    """Return the better of the two filters that were tuned on the truth, dB."""
    return max(psnr(movie, name) for name in FILTERS)


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
            if not has(movie, name):
                cells.append("")
                continue
            value, inside = psnr(movie, name), ""
            if name in movie["coverage_68"]:
                inside = f"; {movie['coverage_68'][name]:.0%}, {movie['coverage_95'][name]:.0%}"
            cells.append(f"{value:.1f} ({value - best:+.1f}{inside})")
        lines.append(f"| {movie['movie']} | {psnr(movie, 'noisy'):.1f} | {best:.1f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def details(movies: list[dict[str, Any]], names: list[str]) -> str:
    """Return PSNR with both peaks and SSIM of every row as markdown."""
    lines = ["| movie | method | PSNR, dB | at 99.9 %, dB | SSIM |", "|---|---|---|---|---|"]
    for movie in movies:
        rows = {row["method"]: row for row in movie["methods"]}
        lines += [
            f"| {movie['movie']} | {name} | {row['psnr_db']:.2f} | {row['psnr_p999_db']:.2f} | {row['ssim']:.4f} |"
            for name in ("noisy", *FILTERS, *names)
            if (row := rows.get(name))
        ]
    return "\n".join(lines)


def missed(movies: list[dict[str, Any]], entries: list[Entry]) -> list[str]:
    """Return a line for each bar: where a bundle reaches it, and by how much it does not elsewhere."""
    shipped = [entry.label for entry in entries if entry.parent is None and not entry.published]
    lines = []
    for name in shipped:
        on = [movie for movie in movies if has(movie, name)]
        margins = {m["movie"]: psnr(m, name) - best_filter(m) for m in on}
        lines.append(said(f"{name}: {SHIPPED_BAR} dB above the filters", margins, SHIPPED_BAR))
        for key, (low, high) in COVERAGE_BARS.items():
            shares = {m["movie"]: m[key][name] for m in on if name in m[key]}
            outside = [f"{k} {v:.0%}" for k, v in shares.items() if not low <= v <= high]
            inside = len(shares) - len(outside)
            lines.append(
                f"{name}: {key.removeprefix('coverage_')} % intervals hold on {inside} of {len(shares)} movies"
                + (f"; not on {', '.join(outside)}" if outside else "")
            )
    for entry in entries:
        if entry.parent is not None:
            gains = {
                m["movie"]: psnr(m, entry.label) - psnr(m, entry.parent)
                for m in movies
                if has(m, entry.label) and has(m, entry.parent)
            }
            lines.append(said(f"{entry.label}: {ADAPTED_BAR} dB above it as shipped", gains, ADAPTED_BAR))
        elif entry.published:
            for name in shipped:
                ahead = {
                    m["movie"]: psnr(m, name) - psnr(m, entry.label)
                    for m in movies
                    if has(m, entry.label) and has(m, name)
                }
                lines.append(said(f"{name} above {entry.label}", ahead, 0.0))
    return lines


def said(bar: str, values: dict[str, float], least: float) -> str:
    """Return a bar with where it is reached and what it misses elsewhere, in words."""
    short = [f"{movie} {value:+.2f}" for movie, value in values.items() if value < least]
    reached = f"{bar}: on {len(values) - len(short)} of {len(values)} movies"
    return reached + (f"; not on {', '.join(short)}" if short else "")


def draw(movies: list[dict[str, Any]], names: list[str], path: Path) -> None:
    """Draw the margin over the best tuned filter, a group of bars a movie."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.8 + (0.2 + 0.14 * len(names)) * len(movies)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    rows, height = np.arange(len(movies)), 0.8 / len(names)
    for index, name in enumerate(names):
        margins = [psnr(m, name) - best_filter(m) if has(m, name) else np.nan for m in movies]
        bars = axes.barh(rows + (index - (len(names) - 1) / 2) * height, margins, height, label=name)
        axes.bar_label(
            bars, ["" if np.isnan(v) else f"{v:+.1f}" for v in margins], padding=2, fontsize="small"
        )
    axes.axvline(0, color="black", linewidth=1)
    axes.set_yticks(rows, [movie["movie"] for movie in movies])
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("dB above the best filter tuned on the truth")
    axes.legend(fontsize="small", loc="upper right")
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
