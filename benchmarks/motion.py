"""Measure what following a scene, and its parts, is worth against how it moves and how dim it is.

    python benchmarks/motion.py BUNDLE --output DIR [--photons 0.5 1.5 5] [--frames 60]

A simulated two-photon scene that nothing is trained on moves as a whole, and in its parts. The bundle's network
denoises it as it is, aligned by whole pixels, told what is left beyond them, and told that for each part. Prints the
error against the truth, whether a session would follow the movie (full markers), and how far off its displacements are;
writes motion.json and motion.png.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import torch
from _provenance import write_results
from rich.progress import Progress

from denoscope.export import load_network
from denoscope.runtime import Bundle, InvalidInput, align_movie, estimate_intensity
from denoscope.runtime.motion.field import KNOTS, between, constant
from denoscope.runtime.motion.moves import moves
from denoscope.runtime.motion.placement import REACH, Placement
from denoscope.train import TEST_MOVIES, LiveNet, SimulatedMovie, denoise_reference, simulate

# Wander and jitter of the whole, motion of the parts in pixels a frame, and the shear of a scanner with a row's jitter.
MOTIONS = {
    "still": (0.0, 0.0, 0.0, 0.0),
    "0.3": (0.3, 0.1, 0.0, 0.0),
    "0.5": (0.5, 0.2, 0.0, 0.0),
    "1": (1.0, 0.3, 0.0, 0.0),
    "2": (2.0, 0.7, 0.0, 0.0),
    "parts 0.1": (1.0, 0.3, 0.1, 0.0),
    "parts 0.25": (1.0, 0.3, 0.25, 0.0),
    "scanner": (2.0, 0.7, 0.0, 0.2),
    "all": (2.0, 0.7, 0.5, 0.2),
}
SETTLED, EDGE = 30, 8  # frames and pixels that are not looked at
WAYS = {"whole pixels": "#0072b2", "to a fraction": "#e69f00", "by parts": "#d55e00"}


def measured(network: LiveNet, motion: str, photons: float, frames: int) -> dict[str, Any]:
    """Return errors in standard deviations of the noise, and what a session finds, for one movie."""
    wander, jitter, local, row_jitter = MOTIONS[motion]
    scene, camera, seed = TEST_MOVIES["two-photon-moving"]
    scene = replace(scene, frames=frames, motion_px=wander, jitter_px=jitter, local_motion_px=local)
    scene = replace(scene, raster=row_jitter > 0, row_jitter_px=row_jitter)
    movie = simulate(scene, replace(camera, photons=photons), seed=seed)
    noisy, clean = movie.as_uint16(), np.asarray(movie.clean, np.float32)
    unit = estimate_intensity(noisy[:32])
    shape = noisy.shape[1:]
    placement = Placement(shape, unit, follow=True, parts=True)
    whole, rigid, parts = [], [], []
    for frame in noisy:
        placement.find(frame)
        whole.append(placement.whole)
        rigid.append(constant(np.add(placement.whole, placement.rest)))
        parts.append(placement.displacement)
    moved = np.array(whole, np.float32)
    seen, truth = (np.asarray(align_movie(x, moved, "movie")) for x in (noisy, clean))

    def followed(fields: list[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        return denoise_reference(network, noisy, unit, fields=np.array(fields), margin=REACH)[0]

    estimates = {
        "as it is": (clean, denoise_reference(network, noisy, unit)[0]),
        "whole pixels": (truth, denoise_reference(network, seen, unit)[0]),
        "to a fraction": (clean, followed(rigid)),
        "by parts": (clean, followed(parts)),
    }
    inside = np.s_[SETTLED:, EDGE:-EDGE, EDGE:-EDGE]
    true = np.stack([true_field(movie, t) for t in range(frames)])
    return {
        "motion": motion,
        "wander_px": wander,
        "jitter_px": jitter,
        "parts_px": local,
        "row_jitter_px": row_jitter,
        "photons": photons,
        "followed": moves(noisy[:32], unit),
        "off_px": {
            "whole pixels": off_px(np.broadcast_to(moved[:, :, None, None], true.shape), true),
            "to a fraction": off_px(np.array(rigid), true),
            "by parts": off_px(between(np.array(parts), placement.scene, placement.home), true),
        },
        "error": {
            name: float(np.sqrt(np.mean(np.square((estimate - right)[inside])))) / unit.scale
            for name, (right, estimate) in estimates.items()
        },
    }


def true_field(movie: SimulatedMovie, frame: int) -> npt.NDArray[np.float64]:
    """Return the displacement of one frame at the knots over it: ``frame(p + field(p)) = scene(p)``."""
    height, width = movie.clean.shape[1:]
    at = [(np.arange(KNOTS) + 0.5) * (n / KNOTS) - 0.5 for n in (height, width)]
    knots = [np.array([y, x]) for y in at[0] for x in at[1]]
    found = [movie._motion.seen_at(knot, frame) - knot for knot in knots]
    return np.array(found).T.reshape(2, KNOTS, KNOTS)


def off_px(found: npt.NDArray[Any], true: npt.NDArray[Any]) -> float:
    """Return how far off displacements are (rms), but for what never changes: the scene may lie anywhere."""
    off = (found - true)[SETTLED:]
    return float(np.sqrt(np.mean(np.square(off - np.median(off, axis=0)))))


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
    cases = [(motion, photons) for photons in options.photons for motion in MOTIONS]
    with Progress() as bar:
        rows = [
            measured(network, motion, photons, options.frames)
            for motion, photons in bar.track(cases, description="movies")
        ]
    report = {"bundle": Bundle.load(options.bundle).digest[:12], "frames": options.frames, "rows": rows}
    write_results(options.output / "motion.json", report, [options.bundle], indent=1)
    print(
        "| photons | wander, jitter (px) | parts, rows (px) | followed | off (px) | as it is | "
        + " | ".join(WAYS)
        + " |"
    )
    print("|---" * (6 + len(WAYS)) + "|")
    for row in rows:
        off, gains = row["off_px"].values(), [f"{gain_db(row, name):+.1f} dB" for name in WAYS]
        print(
            f"| {row['photons']:g} | {row['wander_px']:g}, {row['jitter_px']:g} | {row['parts_px']:g}, "
            f"{row['row_jitter_px']:g} | {'yes' if row['followed'] else 'no'} "
            f"| {' / '.join(f'{d:.2f}' for d in off)} | {row['error']['as it is']:.3f} | {' | '.join(gains)} |"
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
        axes.set_xticks(list(places), [row["motion"] for row in chosen], rotation=60)
        axes.set_title(f"{photons:g} photons a pixel", fontsize=9)
        axes.set_xlabel("motion (px)")
        axes.axhline(0, color="#bbbbbb", linewidth=0.8, zorder=0)
    panels[0][0].set_ylabel("gain over frames as they are (dB)")
    panels[0][0].legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
