"""Bundles on one scene recorded in many ways: light, gain, offset, bits, saturation, noise, motion, size, frame rate.

    python benchmarks/robustness.py BUNDLE [BUNDLE ...] [--only AXIS ...] --output DIR

One thing at a time differs from a two-photon scene of 3 photons a pixel at 30 Hz that nothing is trained on. Prints the
margin in dB over the better of the two filters that were tuned on the truth, and the share of the truth in the
predicted 68 % and 95 % intervals; draws the margins. What DIR has already is not measured again; a bundle that has
changed is.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _provenance import write_results

from denoscope.runtime import Bundle
from denoscope.train import CameraSettings, SceneSettings, simulate
from denoscope.train.evaluation.truth import measure_bundle, measure_filters, unique_names

SEED = 2_000_000_101  # training draws seeds below 2**31 - 1; no scene of training has these settings
SCENE = SceneSettings(frames=100, height=96, width=96)
CAMERA = CameraSettings(photons=3.0, gain=20.0, gain_spread=0.2, read_noise=8.0, offset=100.0, bits=16)
NOISE = CAMERA.gain * np.sqrt(CAMERA.photons * 1.04 + 0.16)  # of a pixel, counts
Recording = tuple[SceneSettings, CameraSettings]


def photons(value: float) -> Recording:
    """Light, at a gain that keeps it in the converter's range."""
    gain = min(CAMERA.gain, 6000 / value)
    return SCENE, replace(CAMERA, photons=value, gain=gain, read_noise=0.4 * gain)


def gain(value: float) -> Recording:
    """Counts a photon."""
    return SCENE, replace(CAMERA, gain=value, read_noise=0.4 * value)


def offset(value: float) -> Recording:
    """Counts without light."""
    return SCENE, replace(CAMERA, offset=value)


def bits(value: float) -> Recording:
    """Bits of the converter; the mean light is an eighth of what it can count."""
    counts = 2**value / (8 * CAMERA.photons)
    return SCENE, replace(CAMERA, bits=int(value), gain=counts, read_noise=0.4 * counts, offset=2 * counts)


def saturation(value: float) -> Recording:
    """Light of the brightest pixel, over what a converter of 12 bits can count; 30 photons a pixel on the mean."""
    bright = replace(CAMERA, photons=30.0, bits=12)
    counts = value * (bright.most_counts - bright.offset) / _brightest(bright)
    return SCENE, replace(bright, gain=counts, read_noise=0.4 * counts)


@cache
def _brightest(camera: CameraSettings) -> float:
    """Return the expected photons of the scene's brightest pixel."""
    endless = replace(camera, bits=None)
    return float((simulate(SCENE, endless, seed=SEED).clean.max() - camera.offset) / camera.gain)


def bleed(value: float) -> Recording:
    """Share of a pixel that the next one of its row reads."""
    return SCENE, replace(CAMERA, bleed=value)


def row_noise(value: float) -> Recording:
    """Noise that a row shares, beside the noise of a pixel."""
    return SCENE, replace(CAMERA, row_noise=value * float(NOISE), offset=300.0)


def motion(value: float) -> Recording:
    """Pixels a frame, of the whole scene."""
    return replace(SCENE, motion_px=3.0 if value else 0.0, jitter_px=value), CAMERA


def local_motion(value: float) -> Recording:
    """Pixels a frame, differing from place to place."""
    return replace(SCENE, local_motion_px=value, local_length_px=60.0, local_time_frames=1.0), CAMERA


def size(value: float) -> Recording:
    """Rows; there are 14 more columns."""
    return replace(SCENE, height=int(value), width=int(value) + 14), CAMERA


def frame_rate(value: float) -> Recording:
    """Frames a second."""
    return replace(SCENE, frame_rate_hz=value), CAMERA


FLOAT32 = (
    "gain, as float32"  # as `denoscope denoise --float32` reads it: outputs are not rounded to whole counts
)
AXES: dict[str, tuple[Callable[[float], Recording], tuple[float, ...], str]] = {
    "photons": (photons, (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000), "photons a pixel"),
    "gain": (gain, (0.5, 2, 20, 200), "counts a photon"),
    FLOAT32: (gain, (0.5, 2, 20, 200), "counts a photon"),
    "offset": (offset, (60, 100, 1000, 10000), "counts"),
    "bits": (bits, (8, 10, 12, 14, 16), "of the converter"),
    "saturation": (saturation, (0.5, 2, 5, 20), "brightest pixel / range"),
    "bleed": (bleed, (0, 0.03, 0.06, 0.1), "share"),
    "row noise": (row_noise, (0, 0.1, 0.25, 0.5), "of a pixel's noise"),
    "motion": (motion, (0, 0.5, 1, 2, 3), "pixels a frame"),
    "local motion": (local_motion, (0, 0.25, 0.5, 1, 2, 3), "pixels a frame"),
    "size": (size, (33, 64, 97, 130), "rows"),
    "frame rate": (frame_rate, (30, 100, 300, 1000), "Hz"),
}


def main() -> None:
    """Measure what is missing, print, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundles", nargs="+", help="names or folders")
    parser.add_argument("--only", nargs="+", choices=list(AXES), default=list(AXES))
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / "robustness.json"
    report: dict[str, Any] = {"cases": []}
    if file.exists():
        report = json.loads(file.read_text(encoding="utf-8"))
    bundles = [Bundle.load(name) for name in options.bundles]
    labels = unique_names(bundles)
    for axis in options.only:
        for value in AXES[axis][1]:
            case = case_of(report, axis, value)
            if measure(case, dict(zip(labels, bundles, strict=True))):
                write_results(file, report, bundles, indent=1)
                print(line(case, labels), flush=True)
    print("\n" + table(report["cases"], labels))
    draw(report["cases"], labels, options.output / "robustness.png")


def case_of(report: dict[str, Any], axis: str, value: float) -> dict[str, Any]:
    """Return the report's case, a new one if it has none."""
    known: list[dict[str, Any]] = report["cases"]
    for case in known:
        if (case["axis"], case["value"]) == (axis, value):
            return case
    known.append({"axis": axis, "value": value, "filters_db": {}, "bundles": {}})
    return known[-1]


def measure(case: dict[str, Any], bundles: dict[str, Bundle]) -> bool:
    """Add to a case what it lacks; return whether there was anything."""
    missing = {
        label: bundle
        for label, bundle in bundles.items()
        if case["bundles"].get(label, {}).get("version") != bundle.digest[:12]
    }
    if not missing:
        return False
    recording = AXES[case["axis"]][0](case["value"])
    movie = simulate(*recording, seed=SEED)
    noisy: np.ndarray = movie.as_frames()
    if case["axis"] == FLOAT32:
        noisy = noisy.astype(np.float32)
    truth = np.asarray(movie.clean, np.float32)
    if not case["filters_db"]:
        case["filters_db"] = {row.method: row.score.psnr_db for row, _ in measure_filters(truth, noisy)}
    for label, bundle in missing.items():
        row, _, intervals = measure_bundle(label, bundle, noisy, truth)
        assert intervals is not None
        case["bundles"][label] = {
            "version": bundle.digest[:12],
            "psnr_db": row.score.psnr_db,
            "ssim": row.score.ssim,
            "coverage_68": intervals.coverage(0.68),
            "coverage_95": intervals.coverage(0.95),
        }
    return True


def best_filter(case: dict[str, Any]) -> float:
    """Return the better of the two filters that were tuned on the truth, dB."""
    return float(max(case["filters_db"]["gaussian"], case["filters_db"]["temporal average"]))


def margin(case: dict[str, Any], label: str) -> float:
    """Return by how many dB a bundle is above the better filter; not a number where it was not measured."""
    if label not in case["bundles"]:
        return float("nan")
    return float(case["bundles"][label]["psnr_db"] - best_filter(case))


def line(case: dict[str, Any], labels: list[str]) -> str:
    """Return one row of the table as markdown."""
    cells = []
    for label in labels:
        found = case["bundles"].get(label)
        cells.append(
            ""
            if found is None
            else f"{found['psnr_db']:.1f} ({margin(case, label):+.1f}; {found['coverage_68']:.0%}, "
            f"{found['coverage_95']:.0%})"
        )
    unit = AXES[case["axis"]][2]
    return (
        f"| {case['axis']}, {case['value']:g} {unit} | {case['filters_db']['noisy']:.1f} | {best_filter(case):.1f} "
        f"| {' | '.join(cells)} |"
    )


def table(cases: list[dict[str, Any]], labels: list[str]) -> str:
    """Return all cases as markdown, then for each bundle where it is not above the filters."""
    lines = [
        f"| what differs | noisy | best tuned filter | {' | '.join(labels)} |",
        "|---|---|---|" + "---|" * len(labels),
    ]
    lines += [line(case, labels) for case in cases]
    for label in labels:
        on = [case for case in cases if label in case["bundles"]]
        behind = [
            f"{case['axis']} {case['value']:g} ({margin(case, label):+.1f})"
            for case in on
            if margin(case, label) <= 0
        ]
        lines.append(
            f"\n{label}: above the tuned filters in {len(on) - len(behind)} of {len(on)} recordings"
            + (f"; not with {', '.join(behind)}" if behind else "")
        )
    return "\n".join(lines)


def draw(cases: list[dict[str, Any]], labels: list[str], path: Path) -> None:
    """Draw the margin over the better filter, a panel for each thing that differs."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    axes_named = [axis for axis in AXES if any(case["axis"] == axis for case in cases)]
    figure = Figure(figsize=(12, 2.6 * -(-len(axes_named) // 4)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(-(-len(axes_named) // 4), 4, squeeze=False, sharey=True)
    for panel, axis in zip(grid.flat, axes_named, strict=False):
        shown = [case for case in cases if case["axis"] == axis]
        places = range(len(shown))
        for label in labels:
            panel.plot(places, [margin(case, label) for case in shown], marker="o", markersize=3, label=label)
        panel.axhline(0, color="black", linewidth=1)
        panel.set_xticks(places, [f"{case['value']:g}" for case in shown], fontsize="small")
        panel.set_title(f"{axis}, {AXES[axis][2]}", fontsize="small")
    for panel in list(grid.flat)[len(axes_named) :]:
        panel.set_axis_off()
    grid[0][0].legend(fontsize="small")
    figure.supylabel("dB above the best filter tuned on the truth", fontsize="small")
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
