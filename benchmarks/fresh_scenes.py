"""Bundles of the method live compared on many random scenes that none has seen: which one is better, and by how much.

    python benchmarks/fresh_scenes.py FIRST OTHER [OTHER ...] [--movies 90] [--seed 9031] --output DIR

The test movies are few, and each is one kind of scene. Here every movie is drawn from the whole range that models are
trained for (`denoscope.train.random_settings`), with a seed that no training uses, and all bundles denoise the same
six windows of it. Prints how many dB each is above the first on the mean of the movies, with its standard error, and
how many movies have 68 +- 5 % of the truth within the predicted deviation. Writes fresh_scenes.json and a picture.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _provenance import write_results
from rich.progress import Progress

from denoscope.export import load_network
from denoscope.runtime import Bundle, InvalidInput
from denoscope.train import ALL_KINDS, LiveNet, TrainingMovie, random_settings, simulated_movies
from denoscope.train.evaluation.truth import unique_names
from denoscope.train.networks.live.batch import draw_batch
from denoscope.train.networks.live.task import _predict, _tensors

KINDS = ("two-photon", *ALL_KINDS)
FRAMES, SIZE, CROP, WINDOWS = 300, 96, 64, 6
WITHIN = 0.9945  # deviations that hold 68 % of a normal distribution


def main() -> None:
    """Simulate, measure, print, write, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "bundles", nargs="+", help="names or folders; the first is what others are compared with"
    )
    parser.add_argument("--movies", type=int, default=90)
    parser.add_argument("--seed", type=int, default=9031)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    bundles = [Bundle.load(name) for name in options.bundles]
    names, networks = unique_names(bundles), [network_of(bundle) for bundle in bundles]
    with Progress() as bar:
        task = bar.add_task("simulating", total=options.movies)
        movies = simulated_movies(
            options.movies,
            frames=FRAMES,
            size=SIZE,
            seed=options.seed,
            kinds=KINDS,
            progress=lambda n: bar.update(task, completed=n),
        )
        rows = [
            {**recording(options.seed, index), **measured(networks, names, movie, options.seed + index)}
            for index, movie in enumerate(bar.track(movies, description="measuring"))
        ]
    report = {
        "bundles": {name: bundle.digest[:12] for name, bundle in zip(names, bundles, strict=True)},
        "seed": options.seed,
        "movies": rows,
    }
    options.output.mkdir(parents=True, exist_ok=True)
    write_results(options.output / "fresh_scenes.json", report, bundles, indent=1)
    print(table(rows, names))
    draw(rows, names, options.output / "fresh_scenes.png")


def network_of(bundle: Bundle) -> LiveNet:
    """Return a bundle's network."""
    network = load_network(bundle)
    if not isinstance(network, LiveNet):
        raise InvalidInput(f"{bundle.manifest.name} is not of the method live: name another bundle.")
    return network


def recording(seed: int, index: int) -> dict[str, Any]:
    """Return what `simulated_movies` drew for one movie."""
    scene, camera = random_settings(
        np.random.default_rng((seed, index)), frames=FRAMES, height=SIZE, width=SIZE, kinds=KINDS
    )
    return {"kind": scene.kind, "photons": camera.photons, "moves_px": scene.jitter_px}


def measured(
    networks: list[LiveNet], names: list[str], movie: TrainingMovie, seed: int
) -> dict[str, dict[str, float]]:
    """Return mean error in dB of the noise's scale, and the share of truth within the deviation, of every network."""
    errors, inside = {}, {}
    for name, network in zip(names, networks, strict=True):
        # The same windows; whether their past is put on the scene depends on the network.
        rng = np.random.default_rng(seed)
        batch = draw_batch([movie], np.ones(1), network.settings, size=WINDOWS, crop=CROP, rng=rng)
        *seen, clean, _ = _tensors(batch)
        with torch.inference_mode():
            p = _predict(network, *seen)
        error = clean - p.mean
        errors[name] = float(10 * torch.log10(error.square().mean((1, 2, 3))).mean())
        inside[name] = float((error.abs() < WITHIN * p.variance.sqrt()).float().mean())
    return {"error_db": errors, "inside_68": inside}


def gains(rows: list[dict[str, Any]], first: str, name: str) -> np.ndarray:
    """Return by how many dB a bundle is above the first on every movie."""
    return np.array([row["error_db"][first] - row["error_db"][name] for row in rows])


def table(rows: list[dict[str, Any]], names: list[str]) -> str:
    """Return every bundle's gain over the first and its coverage as markdown."""
    lines = [
        f"| bundle | dB above {names[0]}, mean of {len(rows)} movies | better on | in 68 % | movies within 68 +- 5 % |",
        "|---|---|---|---|---|",
    ]
    for name in names:
        gain = gains(rows, names[0], name)
        inside = np.array([row["inside_68"][name] for row in rows])
        lines.append(
            f"| {name} | {gain.mean():+.2f} +- {gain.std(ddof=1) / np.sqrt(len(gain)):.2f} | {(gain > 0).sum()} "
            f"| {inside.mean():.0%} | {(np.abs(inside - 0.68) <= 0.05).sum()} |"
        )
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], names: list[str], path: Path) -> None:
    """Draw every bundle's gain against the light; filled marks are movies that move."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    others = names[1:] or names
    columns = min(3, len(others))
    lines = -(-len(others) // columns)
    figure = Figure(figsize=(4.4 * columns, 3.2 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes in grid[len(others) :]:
        axes.set_axis_off()
    moves = np.array([row["moves_px"] > 0.1 for row in rows])
    photons = np.array([row["photons"] for row in rows])
    for axes, name in zip(grid, others, strict=False):
        gain = gains(rows, names[0], name)
        for number, kind in enumerate(ALL_KINDS):
            here = np.array([row["kind"] == kind for row in rows])
            colour = f"C{number}"
            axes.scatter(photons[here & ~moves], gain[here & ~moves], facecolors="none", edgecolors=colour)
            axes.scatter(photons[here & moves], gain[here & moves], color=colour, label=kind)
        axes.axhline(0, color="black", linewidth=1)
        axes.set_xscale("log")
        axes.set_title(f"{name}: {gain.mean():+.2f} dB", fontsize="small")
    figure.supxlabel("photons a pixel and frame", fontsize="medium")
    figure.supylabel(f"dB above {names[0]} (filled: moves)", fontsize="medium")
    grid[0].legend(fontsize="small")
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
