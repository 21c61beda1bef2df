"""Quality against cost: the shipped bundles, UMVD and STS-UVD as measured, other networks by their cost alone.

    python benchmarks/pareto.py --scenes every_scene.json --cost cost-live.json [--cost ...] --output DIR
                                [--methods benchmarks/results/methods.json]

Quality is the mean margin in dB over the better of two filters tuned on the truth, over all movies of
`every_scene.py` for bundles (shipped weights, never trained on any of them), and over the movies of `methods.py` for
networks trained there from nothing on the noisy movie itself (the margin over the tuned Gaussian), or over those of
`every_scene.py` that a published method was trained on for half an hour. Cost is a frame of
256 x 256 on the best float32 backend of the processor in units of one 64 -> 64 3 x 3 torch convolution
(`cost_ratio.py`). Published networks whose quality was not measured on these movies stand at the bottom.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from _provenance import write_results
from every_scene import best_filter, has, psnr

FLOAT32 = ("openvino", "onnxruntime-cpu")

# Processor time of one output frame at 256 x 256 in the same unit, random weights, two threads (docs/results/speed.md).
PUBLISHED = {
    "FAST, stride 8": 0.96,
    "DeepCAD-RT": 2.2,
    "SRDTrans; FAST, stride 1": 6.4,
    "DeepVIDv2": 14.0,
    "DeepInterpolation": 17.0,
    "SUPPORT": 33.0,
    "UDVD": 348.0,
}


def cost_of(report: dict[str, Any]) -> float:
    """Return the units of the best float32 backend in a report of `cost_ratio.py`."""
    best = min(report["backends"][name]["frame_s"] for name in FLOAT32 if name in report["backends"])
    return float(best / report["unit"]["contiguous_s"])


def bundle_points(scenes: dict[str, Any], costs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return name, cost, mean margin and least margin of each bundle that has both."""
    points = []
    for report in costs:
        name = Path(report["bundle"]).stem
        margins = {m["movie"]: psnr(m, name) - best_filter(m) for m in scenes["movies"]}
        worst = min(margins, key=lambda movie: margins[movie])
        points.append(
            {
                "name": name,
                "cost": cost_of(report),
                "margin_db": float(np.mean(list(margins.values()))),
                "least_db": margins[worst],
                "least_on": worst,
                "movies": len(margins),
            }
        )
    return points


def method_points(methods: dict[str, Any], scenes: dict[str, Any]) -> list[dict[str, Any]]:
    """Return name, cost and mean margin of each method that was trained from nothing.

    By the half hour that `every_scene.py` gives a published method, where it has been given to one.
    """
    rows: dict[str, dict[str, float]] = {}
    for row in methods["rows"]:
        rows.setdefault(row["movie"], {})[row["method"]] = row["psnr_db"]
    points = []
    for name, label in (("umvd", "UMVD"), ("sts-uvd", "STS-UVD"), ("live", "live, from nothing")):
        half_hour = f"{name}, 30 min"
        margins = [psnr(m, half_hour) - best_filter(m) for m in scenes["movies"] if has(m, half_hour)]
        if margins:
            label += ", 30 min"
        else:
            margins = [
                values[name] - next(db for method, db in values.items() if "Gaussian" in method)
                for values in rows.values()
            ]
        points.append(
            {
                "name": label,
                "cost": methods["cost"][name]["ratio"],
                "margin_db": float(np.mean(margins)),
                "least_db": min(margins),
                "movies": len(margins),
            }
        )
    return points


def draw(points: list[dict[str, Any]], trained: list[dict[str, Any]], path: Path) -> None:
    """Draw the points, and the costs of networks whose quality is not known here."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.axhline(0, color="black", linewidth=1)
    axes.text(0.21, 0.05, "best filter tuned on the truth", fontsize="small")
    for group, marker, label, above in (
        (points, "o", "shipped weights, movies never trained on", 5),
        (trained, "s", "from nothing on the noisy movie itself", -2),
    ):
        axes.plot([p["cost"] for p in group], [p["margin_db"] for p in group], marker, label=label)
        for p in group:
            axes.annotate(
                p["name"],
                (p["cost"], p["margin_db"]),
                (8, above),
                textcoords="offset points",
                fontsize="small",
            )
    lowest = min([0.0, *(p["margin_db"] for p in (*points, *trained))]) - 1.0
    for name, cost in PUBLISHED.items():
        axes.plot([cost], [lowest], "|", color="gray")
        axes.annotate(
            name, (cost, lowest), (0, -4), textcoords="offset points", rotation=60, fontsize="x-small",
            ha="right", va="top", color="gray",
        )  # fmt: skip
    highest = max(p["margin_db"] for p in (*points, *trained))
    axes.set_ylim(lowest - 3.0, highest + 0.8)
    axes.set_xscale("log")
    axes.set_xlim(0.2, 600)
    axes.set_xlabel("cost of a frame (64 to 64 channels 3 x 3 convolution = 1)")
    axes.set_ylabel("mean margin, dB")
    axes.legend(fontsize="small", loc="upper right")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Print the table and draw it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=Path, required=True, help="every_scene.json")
    parser.add_argument("--cost", type=Path, action="append", required=True, help="of cost_ratio.py")
    parser.add_argument("--methods", type=Path, help="methods.json")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()

    def read(path: Path) -> Any:
        return json.loads(path.read_text(encoding="utf-8"))

    scenes = read(options.scenes)
    points = bundle_points(scenes, [read(path) for path in options.cost])
    trained = method_points(read(options.methods), scenes) if options.methods else []
    options.output.mkdir(parents=True, exist_ok=True)
    report = {"bundles": points, "trained_from_nothing": trained, "published_cost": PUBLISHED}
    write_results(options.output / "pareto.json", report, [point["name"] for point in points], indent=1)
    draw(points, trained, options.output / "pareto.png")
    print("| | cost | mean margin, dB | least | movies |\n|---|---|---|---|---|")
    for p in (*points, *trained):
        least = f"{p['least_db']:+.1f}" + (f" ({p['least_on']})" if "least_on" in p else "")
        print(f"| {p['name']} | {p['cost']:.2f} | {p['margin_db']:+.1f} | {least} | {p['movies']} |")


if __name__ == "__main__":
    main()
