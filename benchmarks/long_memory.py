"""How the quality grows with the length of a session: squared error against frame number, still and slowly drifting.

    python benchmarks/long_memory.py BUNDLE [BUNDLE ...] --output DIR [--frames 5000] [--size 64] [--step 4]

Two simulated two-photon scenes with truth and equal light, one of which drifts by a few pixels in all. Each bundle
denoises them as a live session does, with look-ahead 3. Of every STEP-th frame the output is computed; the others only
enter the memory. Prints PSNR (the peak is the largest clean value) over parts of the movie, which grow; writes
long-memory.json and long_memory.png.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from _provenance import write_results
from scipy import ndimage

from denoscope.runtime import Bundle, FrameMeta, Stream
from denoscope.train import CameraSettings, SceneSettings, simulate

SEED = 4_000_007_601  # beyond what training can draw
PARTS = (0, 10, 30, 100, 300, 600, 1000, 2000, 3000, 4000, 5000)
DRIFT_PX = 6.0


def main() -> None:
    """Simulate, denoise, print, write, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundles", nargs="+")
    parser.add_argument("--frames", type=int, default=5000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--step", type=int, default=4)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    bundles = [Bundle.load(name) for name in options.bundles]
    rows: list[dict[str, Any]] = []
    for scene in ("still", "drifting"):
        noisy, clean = scene_of(scene, options.frames, options.size)
        peak = float(clean.max() - clean.min())
        for bundle in bundles:
            errors, follows = errors_of(bundle, noisy, clean, options.step, options.backend)
            parts = parts_of(errors, peak)
            rows.append({"scene": scene, "bundle": bundle.manifest.name, "follows": follows, "parts": parts})
            told = ", ".join(f"{p['from']} to {p['to']}: {p['psnr_db']:.2f}" for p in parts)
            print(scene, bundle.manifest.name, "followed," if follows else "not followed,", told, flush=True)
            report = {"frames": options.frames, "size": options.size, "step": options.step, "rows": rows}
            write_results(options.output / "long-memory.json", report, bundles)
    draw(rows, options.output / "long_memory.png")


def scene_of(kind: str, frames: int, size: int) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.float32]]:
    """Return the counts and the truth of a scene that holds still, or drifts slowly and steadily as a whole."""
    margin = int(np.ceil(DRIFT_PX)) + 2
    camera = CameraSettings(photons=1.5)
    edge = size + 2 * margin
    light = simulate(SceneSettings(frames=frames, height=edge, width=edge), camera, seed=SEED).clean
    clean = np.empty((frames, size, size), np.float32)
    for t in range(frames):
        drift = DRIFT_PX * t / frames if kind == "drifting" else 0.0
        moved = ndimage.shift(light[t], (drift, drift / 2), order=3, mode="nearest") if drift else light[t]
        clean[t] = moved[margin:-margin, margin:-margin]
    photons = np.maximum(clean - camera.offset, 0) / camera.gain
    rng = np.random.default_rng(SEED)
    counts = (
        camera.offset + camera.gain * rng.poisson(photons) + rng.normal(0, camera.read_noise, clean.shape)
    )
    return np.clip(np.rint(counts), 0, 65535).astype(np.uint16), clean


def errors_of(
    bundle: Bundle, noisy: npt.NDArray[np.uint16], clean: npt.NDArray[np.float32], step: int, backend: str
) -> tuple[dict[int, float], bool]:
    """Return the mean squared error of the frames whose output was computed, and whether motion was followed."""
    errors = {}
    with Stream(bundle, backend=backend, start_within_s=None) as stream:
        for number in range(len(noisy) + 1):
            due = number - stream.look_ahead
            skip = "left out" if due % step and due > PARTS[2] else None
            if number < len(noisy):
                outputs = stream.push(noisy[number], FrameMeta(number, number / 30), skip=skip)
            else:
                outputs = stream.flush()
            for output in outputs:
                n = output.meta.number
                errors[n] = float(np.mean(np.square(output.frame.astype(np.float32) - clean[n])))
        return errors, stream.tracks_motion


def parts_of(errors: dict[int, float], peak: float) -> list[dict[str, float]]:
    """Return the PSNR of each part of the movie that has outputs."""
    parts: list[dict[str, float]] = []
    for start, stop in itertools.pairwise(PARTS):
        within = [error for number, error in errors.items() if start <= number < stop]
        if within:
            parts.append(
                {"from": start, "to": stop, "psnr_db": float(10 * np.log10(peak**2 / np.mean(within)))}
            )
    return parts


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw PSNR against frame number."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2, sharey=True)
    for panel, scene in zip(axes, ("still", "drifting"), strict=True):
        for row in rows:
            if row["scene"] == scene:
                middle = [np.sqrt(max(p["from"], 1) * p["to"]) for p in row["parts"]]
                panel.plot(middle, [p["psnr_db"] for p in row["parts"]], "o-", label=row["bundle"])
        panel.set_xscale("log")
        panel.set_title(scene, fontsize="small")
        panel.set_xlabel("frame number", fontsize="small")
    axes[0].set_ylabel("PSNR in dB", fontsize="small")
    axes[0].legend(fontsize="small")
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
