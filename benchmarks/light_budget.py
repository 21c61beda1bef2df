"""The predicted loss at half and at a quarter of the light, against simulations at that light.

    python benchmarks/light_budget.py BUNDLE --output FILE.json [--frames 120] [--size 96]
        [--photons 1 4 20] [--seeds 31 32]

Scenes of three kinds at some photons a pixel, each seed of the simulator, are simulated at full, half and quarter
light and denoised. `true_db` is what the error grows by; `predicted_db` is what `light_budget` says of the movie at
full light.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from _provenance import write_results

from denoscope.acquisition import light_budget
from denoscope.runtime import Bundle, FrameMeta, Stream
from denoscope.train import CameraSettings, SceneSettings, simulate

KINDS = ("two-photon", "one-photon", "confocal")
SHARES = (0.5, 0.25)
WARM_UP = 40


def main() -> None:
    """Simulate, denoise, predict, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle")
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--photons", type=float, nargs="+", default=[1.0, 4.0, 20.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[31, 32])
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    bundle = Bundle.load(options.bundle)
    rows: list[dict[str, Any]] = []
    for kind in KINDS:
        for photons in options.photons:
            for seed in options.seeds:
                scene = SceneSettings(
                    kind=kind, frames=options.frames, height=options.size, width=options.size
                )
                movie, full = error(bundle, scene, photons, 1.0, seed)
                budget = light_budget(movie, bundle, backend="openvino")
                true = [10 * math.log10(error(bundle, scene, photons, s, seed)[1] / full) for s in SHARES]
                predicted = [step.loss_db for step in budget.steps]
                rows.append(
                    {
                        "kind": kind,
                        "photons": photons,
                        "seed": seed,
                        "true_db": true,
                        "predicted_db": predicted,
                    }
                )
                told = ", ".join(f"{p:.2f} (true {t:.2f})" for p, t in zip(predicted, true, strict=True))
                print(f"{kind}, {photons:g} photons, seed {seed}: {told} dB", flush=True)
    off = np.abs(np.array([np.subtract(r["predicted_db"], r["true_db"]) for r in rows]))
    result = {
        "shares": SHARES,
        "largest_db": off.max(axis=0).tolist(),
        "mean_db": off.mean(axis=0).tolist(),
        "within_half_a_decibel": (off < 0.5).sum(axis=0).tolist(),
        "movies": len(rows),
        "rows": rows,
    }
    print(f"off by {off.mean(axis=0).round(2)} on average, {off.max(axis=0).round(2)} dB at most")
    write_results(options.output, result, [bundle])


def error(
    bundle: Bundle, scene: SceneSettings, photons: float, share: float, seed: int
) -> tuple[npt.NDArray[Any], float]:
    """Return a movie (T, H, W) at a share of the light, and the denoised one's squared error at full light."""
    movie = simulate(scene, CameraSettings(photons=photons * share, bits=16), seed=seed)
    outputs = []
    with Stream(bundle, "openvino") as stream:
        for number, frame in enumerate(movie.noisy):
            outputs += stream.push(
                frame.astype(np.float32), FrameMeta(number=number, t_received_s=number / 30)
            )
        outputs += stream.flush()
    denoised = np.stack([out.frame for out in outputs])[WARM_UP:]
    return movie.noisy, float(np.mean((denoised - movie.clean[WARM_UP:]) ** 2)) / share**2


if __name__ == "__main__":
    main()
