"""How much of short events a bundle keeps, and how often it shows one that is not there.

    python benchmarks/transients.py [BUNDLE ...] [--photons 0.34 1.5 10] [--contrast 2] [--umvd-minutes M] --output DIR

Events of one frame, of three frames and of GCaMP's shape are added to a simulated still scene before
its noise is drawn. With --umvd-minutes, UMVD is trained at every light level on movies of the same kind, with
another scene and events of all three shapes, for so many processor minutes, and measured beside the bundles.
Writes transients.json, transients.png and transients_by_snr.png and prints the tables as markdown.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from _provenance import write_results

from denoscope.export import export_bundle
from denoscope.runtime import Bundle, estimate_intensity
from denoscope.train import TrainingMovie, UmvdFitSettings, fit_umvd
from denoscope.train.evaluation.transients import SHAPES, TransientSettings, event_movie, measure_transients
from denoscope.train.evaluation.truth import unique_names

SNR_EDGES = (1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 8.0, 10.0, 13.0, 17.0, 25.0)
LEAST_EVENTS = 8  # of a mean that is shown


def main() -> None:
    """Measure every bundle, print, write and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", nargs="*", default=["live"], help="names or folders")
    parser.add_argument("--photons", type=float, nargs="+", default=[0.34, 1.5, 10.0])
    parser.add_argument("--contrast", type=float, default=2.0, help="peak of an event, dF/F")
    parser.add_argument("--frames", type=int, default=360)
    parser.add_argument("--size", type=int, default=96, help="edge of the frames in pixels")
    parser.add_argument("--umvd-minutes", type=float, help="processor minutes to train UMVD at each level")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--look-ahead", type=int, default=None)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()

    bundles = [Bundle.load(b) for b in options.bundles]
    settings = TransientSettings(
        frames=options.frames, size=options.size, contrast=options.contrast, seed=options.seed
    )
    results = {}
    for bundle, name in zip(bundles, unique_names(bundles), strict=True):
        results[name] = measure_transients(
            bundle,
            tuple(options.photons),
            settings=settings,
            backend=options.backend,
            look_ahead=options.look_ahead,
            on_movie=lambda movie, name=name: print(f"{name}: {movie}", flush=True),
        )
    if options.umvd_minutes:
        levels = []
        for photons in options.photons:
            here = replace(settings, photons=photons)
            bundle = train_umvd(here, options.umvd_minutes, options.output / f"umvd-{photons:g}.denoscope")
            levels += measure_transients(bundle, (photons,), settings=settings, backend=options.backend)[
                "levels"
            ]
            print(f"umvd: {photons:g} photons", flush=True)
        results[f"umvd, {options.umvd_minutes:g} processor minutes"] = {
            "settings": asdict(settings),
            "levels": levels,
        }
    options.output.mkdir(parents=True, exist_ok=True)
    write_results(options.output / "transients.json", results, bundles, indent=None)
    for name, result in results.items():
        print(table(name, result))
    print("\n### Peak kept by what the raw movie holds of it (SNR), all levels together\n")
    print(table_by_snr(results))
    draw(results, options.output / "transients.png")
    draw_by_snr(results, options.output / "transients_by_snr.png")


def train_umvd(settings: TransientSettings, minutes: float, path: Path) -> Bundle:
    """Train UMVD on movies of the kind that is measured: another scene, events of every shape."""
    movies = []
    for name, shape in SHAPES.items():
        noisy = event_movie(replace(settings, seed=settings.seed + 1), shape).noisy
        movies.append(TrainingMovie(name, noisy, None, estimate_intensity(noisy[:32])))
    result = fit_umvd(movies, settings=UmvdFitSettings(processor_minutes=minutes, crop=48, stop_after=None))
    print(f"umvd: {result.steps} steps, score {result.score_before:.3f} -> {result.score_after:.3f}")
    trained_on = [f"simulated events at {settings.photons:g} photons, {result.steps} steps"]
    return export_bundle(result.network, path, name="umvd", trained_on=trained_on)


def table(name: str, result: dict[str, Any]) -> str:
    """Return one bundle's tables as markdown."""
    lines = [
        f"\n### {name}\n",
        "| photons | event | SNR of its peak | peak kept | slope | events |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    for level in result["levels"]:
        for shape, both in level["recovery"].items():
            r = both["denoised"]
            lines.append(
                f"| {level['photons']:g} | {shape} | {r['snr']:.1f} "
                f"| {r['peak_share']:.1%} +- {r['peak_share_se']:.1%} "
                f"| {r['slope']:.3f} +- {r['slope_se']:.3f} | {r['events']} |"
            )
    lines += ["", "| photons | above 2, 3, 4 deviations in noise alone | nominal |", "|---:|---|---|"]
    for level in result["levels"]:
        if (quiet := level["false_events"]) is not None:
            observed, nominal = (", ".join(f"{v:.4%}" for v in quiet[k]) for k in ("observed", "nominal"))
            lines.append(f"| {level['photons']:g} | {observed} | {nominal} |")
    return "\n".join(lines)


def by_snr(result: dict[str, Any], shape: str) -> dict[int, tuple[float, float, int]]:
    """Return mean share of the peak, its standard error and the events of each interval of `SNR_EDGES`."""
    shown = [level["recovery"][shape]["denoised"] for level in result["levels"]]
    snrs, shares = (np.concatenate([r[key] for r in shown]) for key in ("snrs", "peak_shares"))
    place = np.digitize(snrs, SNR_EDGES)
    inside = {i: shares[place == i] for i in range(1, len(SNR_EDGES)) if (place == i).sum() >= LEAST_EVENTS}
    return {i: (float(v.mean()), float(v.std(ddof=1) / np.sqrt(len(v))), len(v)) for i, v in inside.items()}


def table_by_snr(results: dict[str, Any]) -> str:
    """Return the share of the peak that is kept by the event's SNR as markdown."""
    edges = list(itertools.pairwise(SNR_EDGES))
    lines = [
        "| | event | " + " | ".join(f"{low:g} to {high:g}" for low, high in edges) + " |",
        "|---|---|" + "---|" * len(edges),
    ]
    for name, result in results.items():
        for shape in SHAPES:
            found = by_snr(result, shape)
            cells = [f"{found[i + 1][0]:.0%}" if i + 1 in found else "" for i in range(len(edges))]
            lines.append(f"| {name} | {shape} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw_by_snr(results: dict[str, Any], path: Path) -> None:
    """Draw how much of an event is kept against its SNR in one raw frame."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(SHAPES), 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, shape in zip(figure.subplots(1, len(SHAPES), sharey=True), SHAPES, strict=True):
        for name, result in results.items():
            found = by_snr(result, shape)
            middle = [(SNR_EDGES[i - 1] * SNR_EDGES[i]) ** 0.5 for i in found]
            mean, error, _ = zip(*found.values(), strict=True)
            axes.errorbar(middle, mean, error, marker=".", linewidth=1, label=name)
        axes.axhline(1, color="black", linewidth=1)
        axes.set_xscale("log")
        axes.set_xticks([2, 3, 5, 8, 12, 20], ["2", "3", "5", "8", "12", "20"])
        axes.set_xticks([], minor=True)
        axes.set_ylim(0, 1.1)
        axes.set_title(shape, fontsize="small")
        axes.set_xlabel("SNR of the event in one raw frame")
        axes.legend(fontsize="small")
    figure.supylabel("share of the peak that is kept", fontsize="medium")
    figure.savefig(path, dpi=100)


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw the mean course of each kind of event, true and as every bundle shows it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    levels = next(iter(results.values()))["levels"]
    figure = Figure(figsize=(4.2 * len(SHAPES), 2.8 * len(levels)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(levels), len(SHAPES), squeeze=False)
    for row, level in enumerate(levels):
        for column, shape in enumerate(SHAPES):
            axes = grid[row, column]
            true = level["recovery"][shape]["denoised"]["true_profile"]
            axes.plot(range(-10, len(true) - 10), true, color="black", linewidth=2, label="true")
            for name, result in results.items():
                shown = result["levels"][row]["recovery"][shape]["denoised"]
                axes.plot(
                    range(-10, len(true) - 10),
                    shown["profile"],
                    marker=".",
                    linewidth=1,
                    label=f"{name}: {shown['peak_share']:.0%}",
                )
            axes.set_title(f"{shape}, {level['photons']:g} photons", fontsize="small")
            axes.legend(fontsize="small")
            axes.set_xlabel("frames from the event")
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
