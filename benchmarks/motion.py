"""What following a scene to a fraction of a pixel is worth, against how far it moves and how dim it is.

    python benchmarks/motion.py BUNDLE --output DIR [--photons 0.5 1.5 5] [--frames 60]

A simulated two-photon scene that nothing is trained on moves as a whole. The bundle's network denoises it as it is,
aligned by whole pixels, and told what is left beyond them. Prints the error against the truth, whether a session
would follow the movie (full markers), and how far off its displacements are; writes motion.json and motion.png.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from rich.progress import Progress

from denoscope.export import load_network
from denoscope.runtime import Bundle, InvalidInput, align_movie, estimate_intensity
from denoscope.runtime._placement import REACH
from denoscope.runtime._register import Registration, moves
from denoscope.train import TEST_MOVIES, LiveNet, denoise_movie, simulate

MOTIONS = {"still": (0.0, 0.0), "0.3": (0.3, 0.1), "0.5": (0.5, 0.2), "1": (1.0, 0.3), "2": (2.0, 0.7)}
SETTLED, EDGE = 30, 8  # frames and pixels that are not looked at
WAYS = {"whole pixels": "#0072b2", "to a fraction": "#d55e00"}


def measured(network: LiveNet, wander: float, jitter: float, photons: float, frames: int) -> dict[str, Any]:
    """Return errors in standard deviations of the noise, and what the registration found, for one movie."""
    scene, camera, seed = TEST_MOVIES["two-photon-moving"]
    scene = replace(scene, frames=frames, motion_px=wander, jitter_px=jitter)
    scene = replace(scene, local_motion_px=0.0, raster=False, row_jitter_px=0.0)
    movie = simulate(scene, replace(camera, photons=photons), seed=seed)
    noisy, clean = movie.as_uint16(), np.asarray(movie.clean, np.float32)
    unit = estimate_intensity(noisy[:32])
    registration = Registration(noisy.shape[1:], unit, REACH)
    whole = np.array([[*registration.follow(frame), *registration.rest] for frame in noisy], np.float32)
    found, rests = whole[:, :2] + whole[:, 2:], whole[:, 2:]
    seen, truth = (np.asarray(align_movie(x, found, "movie")) for x in (noisy, clean))
    estimates = {
        "as it is": (clean, denoise_movie(network, noisy, unit)[0]),
        "whole pixels": (truth, denoise_movie(network, seen, unit)[0]),
        "to a fraction": (truth, denoise_movie(network, seen, unit, rests=rests)[0]),
    }
    inside = np.s_[SETTLED:, EDGE:-EDGE, EDGE:-EDGE]
    off = {
        name: float(np.sqrt(np.mean(np.square((d - movie.shifts) - np.median(d - movie.shifts, axis=0)))))
        for name, d in {"whole pixels": whole[:, :2], "to a fraction": found}.items()
    }
    return {
        "wander_px": wander,
        "jitter_px": jitter,
        "photons": photons,
        "followed": moves(noisy[:32], unit, REACH),
        "off_px": off,
        "error": {
            name: float(np.sqrt(np.mean(np.square((estimate - true)[inside])))) / unit.scale
            for name, (true, estimate) in estimates.items()
        },
    }


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", help="name or folder")
    parser.add_argument("--photons", type=float, nargs="+", default=[0.5, 1.5, 5.0])
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    network = load_network(Bundle.load(options.bundle))
    if not isinstance(network, LiveNet) or not network.settings.subpixel:
        raise InvalidInput(f"{options.bundle} is not told how far off a frame lies: name another bundle.")
    options.output.mkdir(parents=True, exist_ok=True)
    cases = [(motion, photons) for photons in options.photons for motion in MOTIONS.values()]
    with Progress() as bar:
        rows = [
            measured(network, *motion, photons, options.frames)
            for motion, photons in bar.track(cases, description="movies")
        ]
    report = {"bundle": Bundle.load(options.bundle).digest[:12], "frames": options.frames, "rows": rows}
    (options.output / "motion.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print("| photons | wander, jitter (px) | followed | off (px) | as it is | whole pixels | to a fraction |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        off, gains = row["off_px"].values(), [f"{gain_db(row, name):+.1f} dB" for name in WAYS]
        print(
            f"| {row['photons']:g} | {row['wander_px']:g}, {row['jitter_px']:g} | {'yes' if row['followed'] else 'no'} "
            f"| {' / '.join(f'{d:.2f}' for d in off)} | {row['error']['as it is']:.3f} | {gains[0]} | {gains[1]} |"
        )
    draw(rows, options.output / "motion.png")


def gain_db(row: dict[str, Any], name: str) -> float:
    """Return by how much a way of alignment is better than none."""
    return float(20 * np.log10(row["error"]["as it is"] / row["error"][name]))


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw what alignment gains against the motion, one panel for each light."""
    lights = sorted({row["photons"] for row in rows})
    figure, panels = plt.subplots(
        1, len(lights), figsize=(3.2 * len(lights), 3.2), squeeze=False, layout="tight", sharey=True
    )
    for axes, photons in zip(panels[0], lights, strict=True):
        chosen = [row for row in rows if row["photons"] == photons]
        places = range(len(chosen))
        for name, colour in WAYS.items():
            values = [gain_db(row, name) for row in chosen]
            axes.plot(places, values, "-", color=colour, label=name)
            for place, value, row in zip(places, values, chosen, strict=True):
                face = colour if row["followed"] else "white"
                axes.plot(place, value, "o", color=colour, markerfacecolor=face, markersize=5)
        axes.set_xticks(list(places), [f"{row['wander_px']:g}" for row in chosen])
        axes.set_title(f"{photons:g} photons a pixel", fontsize=9)
        axes.set_xlabel("wander (px)")
        axes.axhline(0, color="#bbbbbb", linewidth=0.8, zorder=0)
    panels[0][0].set_ylabel("gain over frames as they are (dB)")
    panels[0][0].legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
