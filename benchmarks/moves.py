"""Does a session notice that a scene moves, and leave alone those that do not? On random scenes of every kind.

    python benchmarks/moves.py --output DIR [--scenes 150] [--frames 160]

Half of the scenes hold still but for their own objects. One is noticed at first where its first 32 frames say so, later
where one frame in four of the rest does. Writes moves.json and moves.png and prints a table by kind of scene and light.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from _provenance import write_results
from rich.progress import Progress

from denoscope.runtime import estimate_intensity
from denoscope.runtime.motion.moves import EVERY, QUICK, Watch, moves
from denoscope.train.simulator.simulate import ALL_KINDS, random_settings, simulate

FIRST, SIZE, SEED = 32, 128, 77
LIGHTS = (0.0, 1.0, 10.0, np.inf)  # photons a pixel
COLOURS = {"at first": "#0072b2", "later": "#56b4e9", "never": "#d55e00"}


def looked_at(index: int, frames: int) -> dict[str, Any]:
    """Return how one random scene moves, and when that is noticed."""
    rng = np.random.default_rng((SEED, index))
    scene, camera = random_settings(rng, frames=frames, height=SIZE, width=SIZE, kinds=ALL_KINDS)
    movie = simulate(scene, camera, seed=int(rng.integers(2**31)))
    noisy = np.rint(movie.noisy)
    intensity = estimate_intensity(noisy[:FIRST])
    at_first, at = moves(noisy[:FIRST], intensity), None
    watch = Watch((SIZE, SIZE), intensity, largest=QUICK)
    for number in range(FIRST, frames, EVERY):
        watch.see(noisy[number])
        if watch.moves():
            at = number
            break
    return {
        "kind": scene.kind,
        "photons": camera.photons,
        "moves": bool(scene.motion_px or scene.jitter_px),
        "moved_px": float(np.sqrt(movie.shifts.var(0).mean())),
        "moved_at_first_px": float(np.sqrt(movie.shifts[:FIRST].var(0).mean())),
        "parts_px": scene.local_motion_px,
        "noticed": "at first" if at_first else "never" if at is None else "later",
        "noticed_at": FIRST - 1 if at_first else at,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return how many scenes are followed, as markdown."""
    lines = [
        "| scenes | moving | noticed at first | later | never | still | taken for moving |",
        "|" + "---|" * 7,
    ]

    def add(name: str, some: list[dict[str, Any]]) -> None:
        moving = [row["noticed"] for row in some if row["moves"]]
        still = [row["noticed"] for row in some if not row["moves"]]
        counts = " | ".join(str(moving.count(when)) for when in COLOURS)
        lines.append(
            f"| {name} | {len(moving)} | {counts} | {len(still)} | {len(still) - still.count('never')} |"
        )

    for kind in ALL_KINDS:
        add(kind, [row for row in rows if row["kind"] == kind])
    for low, high in pairwise(LIGHTS):
        name = f"{low:g} to {high:g} photons" if np.isfinite(high) else f"more than {low:g} photons"
        add(name, [row for row in rows if low <= row["photons"] < high])
    add("all", rows)
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], file: Path) -> None:
    """Draw every scene that moves by its light and its motion."""
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for when, colour in COLOURS.items():
        some = [row for row in rows if row["moves"] and row["noticed"] == when]
        axes.scatter(
            [row["photons"] for row in some],
            [row["moved_px"] for row in some],
            color=colour,
            label=f"noticed {when}",
        )
    axes.set(xscale="log", yscale="log", xlabel="photons a pixel", ylabel="motion of the whole, pixels rms")
    axes.legend()
    figure.savefig(file, dpi=120)
    plt.close(figure)


def main() -> None:
    """Look, print, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=150)
    parser.add_argument("--frames", type=int, default=160)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    with Progress() as bar:
        rows = [looked_at(i, options.frames) for i in bar.track(range(options.scenes), description="scenes")]
    report = {"frames": options.frames, "size": SIZE, "scenes": rows}
    write_results(options.output / "moves.json", report, (), indent=1)
    draw(rows, options.output / "moves.png")
    print(table(rows))


if __name__ == "__main__":
    main()
