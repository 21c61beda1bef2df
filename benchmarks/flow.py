"""End-point error of the flow network and of published estimators against the noise level, and their cost.

    python benchmarks/flow.py [--weights FILE] [--output FILE.json] [--picture docs/pictures/flow.png]

Scenes are simulated ones that training never saw; their motion comes from another generator than the training's.
Published methods get variance-stabilised frames and, at every noise level and motion, the blur that gives them
the least error on the truth. Cost is in units of one 64 -> 64 3 x 3 float32 torch convolution at 256 x 256,
all on one thread in one run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from _provenance import write_results
from flow_references import REFERENCES

from denoscope.runtime import Intensity
from denoscope.train.flow.net import estimate_flow, load_flow
from denoscope.train.flow.pairs import still_scenes
from denoscope.train.simulator.displacement import flow_between, smooth_displacement, warp_movie

FloatArray = npt.NDArray[np.float32]
PHOTONS = (0.3, 1.0, 3.0, 10.0, 100.0)
MOTIONS_PX = (1.0, 3.0)
BLURS_PX = (1.0, 2.0, 4.0)
LENGTHS_PX = (24.0, 40.0)
GAIN_SPREAD, READ_NOISE = 0.3, 0.1  # of one photon
EDGE = 8  # pixels left out at each side: what moved in from outside
NETWORK = "this network"


def pair(
    scene: FloatArray, motion_px: float, photons: float, length_px: float, seed: int
) -> tuple[FloatArray, FloatArray, FloatArray, Intensity]:
    """Return two noisy frames in photons, the true flow and the noise model."""
    rng = np.random.default_rng((seed, round(10 * motion_px)))
    positions = smooth_displacement(
        rng,
        2,
        (scene.shape[0], scene.shape[1]),
        rms_px=motion_px / 2**0.5,
        length_px=length_px,
        time_constant_frames=0,
    )
    clean = photons * warp_movie(scene, positions, order=3).clip(0)
    rng = np.random.default_rng((seed, round(10 * motion_px), round(10 * photons)))
    counts = rng.poisson(clean).astype(np.float32)
    counts += GAIN_SPREAD * np.sqrt(counts) * rng.standard_normal(counts.shape, np.float32)
    counts += READ_NOISE * rng.standard_normal(counts.shape, np.float32)
    slope, read = 1 + GAIN_SPREAD**2, READ_NOISE**2
    offset = float(np.median(clean))
    scale = float(np.sqrt(slope * offset + read))
    floor = max((slope * float(np.quantile(clean, 0.01)) + read) / scale**2, 0.02)
    intensity = Intensity(offset=offset, scale=scale, noise_slope=slope / scale, noise_floor=min(floor, 1.0))
    return counts[0], counts[1], flow_between(positions[0], positions[1]), intensity


def stabilised(frame: FloatArray) -> FloatArray:
    """Return frames with noise of about the same size everywhere (generalised Anscombe)."""
    slope = 1 + GAIN_SPREAD**2
    inside = slope * frame + 0.375 * slope**2 + READ_NOISE**2
    return np.asarray(2 / slope * np.sqrt(np.maximum(inside, 0)), np.float32)


def error_px(flow: FloatArray, true: FloatArray) -> float:
    """Return the mean end-point error away from the edges."""
    inner = np.s_[:, EDGE:-EDGE, EDGE:-EDGE]
    return float(np.sqrt(np.square(flow[inner] - true[inner]).sum(0)).mean())


def errors(network: Any, scenes: FloatArray) -> list[dict[str, Any]]:
    """Return a row for every motion, noise level and method."""
    rows = []
    for motion in MOTIONS_PX:
        for photons in PHOTONS:
            pairs = [
                pair(scene, motion, photons, LENGTHS_PX[i % 2], seed=i) for i, scene in enumerate(scenes)
            ]
            own = [error_px(estimate_flow(network, a, b, unit), true) for a, b, true, unit in pairs]
            found: dict[str, tuple[float, float]] = {NETWORK: (float(np.mean(own)), 0.0)}
            ready = [(stabilised(a), stabilised(b), true) for a, b, true, _ in pairs]
            for method in REFERENCES:
                for blur in BLURS_PX if method.blurs else (0.0,):
                    mean = float(np.mean([error_px(method(a, b, blur), true) for a, b, true in ready]))
                    if mean < found.get(method.name, (np.inf, 0.0))[0]:
                        found[method.name] = mean, blur
            for name, (value, blur) in found.items():
                rows.append(
                    {
                        "motion_px": motion,
                        "photons": photons,
                        "method": name,
                        "epe_px": value,
                        "blur_px": blur,
                    }
                )
            print(motion, photons, {name: round(value[0], 3) for name, value in found.items()}, flush=True)
    return rows


def best_of(call: Callable[[], object], repeats: int) -> float:
    """Return the least of several timings in seconds."""
    call()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)


def costs(network: Any, scene: FloatArray) -> dict[str, float]:
    """Return what one flow at 256 x 256 costs, in units."""
    a, b, _, unit = pair(scene, 1.0, 3.0, 24.0, seed=0)
    convolution, image = torch.nn.Conv2d(64, 64, 3, padding=1), torch.randn(1, 64, 256, 256)
    z = [torch.from_numpy((x - unit.offset) / unit.scale).float()[None, None] for x in (a, b)]
    noise = torch.tensor([unit.noise_slope, unit.noise_floor])
    ready = stabilised(a), stabilised(b)
    with torch.inference_mode():
        one = min(best_of(lambda: convolution(image), 15) for _ in range(2))
        result = {
            NETWORK: best_of(lambda: network(*z, noise), 15),
            f"{NETWORK}, with the global shift": best_of(lambda: estimate_flow(network, a, b, unit), 15),
        }
        for method in REFERENCES:
            result[method.name] = best_of(lambda m=method: m(*ready, 1.0 if m.blurs else 0.0), 4)
        one = min(one, best_of(lambda: convolution(image), 15))
    return {name: seconds / one for name, seconds in result.items()}


def draw(network: Any, scenes: FloatArray, rows: list[dict[str, Any]], path: Path) -> None:
    """Draw frames, true flow and estimates at three noise levels."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.colors import hsv_to_rgb

    def coloured(flow: FloatArray, largest: float) -> npt.NDArray[np.float64]:
        angle = (np.arctan2(flow[0], flow[1]) / (2 * np.pi)) % 1
        size = np.clip(np.hypot(flow[0], flow[1]) / largest, 0, 1)
        return np.asarray(hsv_to_rgb(np.stack([angle, size, np.ones_like(angle)], -1)))

    levels = (0.3, 3.0, 100.0)
    rivals = [m for m in REFERENCES if m.name in ("TV-L1", "ILK", "DIS")]
    figure, axes = plt.subplots(len(levels), 4 + len(rivals), figsize=(14, 6.6), constrained_layout=True)
    for axis_row, photons in zip(axes, levels, strict=True):
        a, b, true, unit = pair(scenes[0], 3.0, photons, LENGTHS_PX[0], seed=0)
        largest = float(np.quantile(np.hypot(true[0], true[1]), 0.99))
        pictures: list[tuple[str, Any]] = [("frame a", a), ("frame b", b), ("true flow", true)]
        pictures.append((NETWORK, estimate_flow(network, a, b, unit)))
        for method in rivals:
            blur = next(
                r["blur_px"]
                for r in rows
                if (r["method"], r["photons"], r["motion_px"]) == (method.name, photons, 3.0)
            )
            pictures.append((method.name, method(stabilised(a), stabilised(b), blur)))
        for axis, (name, picture) in zip(axis_row, pictures, strict=True):
            if picture.ndim == 2:
                axis.imshow(picture, cmap="gray", vmin=0, vmax=np.quantile(picture, 0.995))
                axis.set_title(f"{name}, {photons:g} photons", fontsize=9)
            else:
                axis.imshow(coloured(picture, largest))
                error = "" if name == "true flow" else f": {error_px(picture, true):.2f} px"
                axis.set_title(name + error, fontsize=9)
            axis.set_xticks([])
            axis.set_yticks([])
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--scenes", type=int, default=6)
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    network = load_flow(arguments.weights)
    scenes = still_scenes(arguments.scenes, size=arguments.size, seed=5_000_000)[:, 0].numpy()
    rows = errors(network, scenes)
    cost = costs(network, still_scenes(1, size=256, seed=5_000_000)[0, 0].numpy())
    print({name: round(value, 2) for name, value in cost.items()})
    names = list(dict.fromkeys(row["method"] for row in rows))
    print("| motion, photons | " + " | ".join(names) + " |\n|" + "---|" * (len(names) + 1))
    for motion in MOTIONS_PX:
        for photons in PHOTONS:
            values = {
                r["method"]: r["epe_px"] for r in rows if (r["motion_px"], r["photons"]) == (motion, photons)
            }
            cells = " | ".join(f"{values[name]:.2f}" for name in names)
            print(f"| {motion:g} px, {photons:g} | {cells} |")
    print("| cost at 256 x 256, units | " + " | ".join(f"{cost[name]:.2f}" for name in names) + " |")
    if arguments.output:
        parameters = sum(p.numel() for p in network.parameters())
        report = {"parameters": parameters, "scenes": arguments.scenes, "size": arguments.size}
        report |= {"errors": rows, "cost_units_256": cost}
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        write_results(arguments.output, report, (), indent=2)
    if arguments.picture:
        draw(network, scenes, rows, arguments.picture)


if __name__ == "__main__":
    main()
