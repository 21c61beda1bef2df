"""How often the predicted deviation of a region's mean is right, on simulated movies (decisions 68 and 76).

    python benchmarks/trace_deviations.py BUNDLE [BUNDLE ...] --output FILE.json [--scenes 16] [--frames 160]

Each bundle denoises random scenes of 96 x 96 pixels, still and moving, of a seed that neither training nor any fit has
seen. Discs of 2 to 8 pixels radius are measured as `traces.csv` has them. Every row: share of the true means within one
and within 1.96 deviations, after the first 30 frames, with the factor that the movie shows applied and without it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from _provenance import write_results

from denoscope.acquisition import RegionMeter, Regions
from denoscope.runtime import Bundle, FrameMeta, Stream
from denoscope.train import ALL_KINDS, random_settings, simulate

ONE, TWO = 0.9945, 1.96  # deviations that hold 68 % and 95 % of a normal distribution
KINDS = ("two-photon", *ALL_KINDS)
SEED = 10_707
SIZE = 96
FIRST = 30  # frames in which the size of a region alone decides


def main() -> None:
    """Denoise, measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundles", nargs="+")
    parser.add_argument("--scenes", type=int, default=16)
    parser.add_argument("--frames", type=int, default=160)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    bundles = [Bundle.load(name) for name in options.bundles]
    rows: list[dict[str, Any]] = []
    for index in range(options.scenes):
        rng = np.random.default_rng((SEED, index))
        scene, camera = random_settings(rng, frames=options.frames, height=SIZE, width=SIZE, kinds=KINDS)
        movie = simulate(scene, camera, seed=int(rng.integers(2**31)))
        regions = discs(rng)
        about = {"scene": index, "kind": scene.kind, "photons": camera.photons}
        for bundle in bundles:
            found = measured(bundle, movie.as_frames(), movie.clean, regions)
            rows.append({**about, "bundle": bundle.manifest.name, **found})
            print(rows[-1], flush=True)
            results = {"frames": options.frames, "rows": rows, "together": together(rows)}
            write_results(options.output, results, bundles)
    print(together(rows))


def discs(rng: np.random.Generator, count: int = 60) -> Regions:
    """Return discs of 2 to 8 pixels radius anywhere in the frame."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    pixels = []
    for _ in range(count):
        radius = rng.uniform(2, 8)
        y, x = rng.uniform(radius, SIZE - radius, 2)
        pixels.append(np.flatnonzero(np.hypot(rows - y, columns - x) < radius))
    return Regions((SIZE, SIZE), [str(n) for n in range(1, count + 1)], pixels)


def measured(
    bundle: Bundle, noisy: npt.NDArray[Any], clean: npt.NDArray[np.float32], regions: Regions
) -> dict[str, Any]:
    """Return the coverage of one movie, with the factor of the stream applied and without."""
    inside = np.zeros((2, 2))
    count = 0
    meters = RegionMeter(regions), RegionMeter(regions)
    truth = RegionMeter(regions)
    factor = 1.0
    with Stream(bundle, std=True, start_within_s=None) as stream:
        for number in range(len(noisy) + 1):
            last = number == len(noisy)
            outputs = stream.flush() if last else stream.push(noisy[number], FrameMeta(number, number / 30))
            if len(outputs) == 1:
                factor = stream.deviation_factor
            for output in outputs:
                assert output.std is not None
                number_of = output.meta.number
                true = truth.measure(clean[number_of], clean[number_of], None).denoised
                for row, (meter, scale) in enumerate(zip(meters, (1.0, factor), strict=True)):
                    traces = meter.measure(noisy[number_of], output.frame, output.std / np.float32(scale))
                    error = np.abs(traces.denoised - true) / traces.std
                    if number_of >= FIRST:
                        inside[row] += (error <= ONE).mean(), (error <= TWO).mean()
                count += number_of >= FIRST
        follows = stream.tracks_motion
    (with_68, with_95), (without_68, without_95) = inside / count
    return {
        "followed": follows,
        "factor": factor,
        "with_68": with_68,
        "with_95": with_95,
        "without_68": without_68,
        "without_95": without_95,
    }


def together(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return means over all movies, and over each kind of scene."""
    kinds = {"all": rows}
    for row in rows:
        kinds.setdefault(row["kind"], []).append(row)
    keys = ("with_68", "with_95", "without_68", "without_95")
    return {
        name: {"movies": len(some), **{key: float(np.mean([row[key] for row in some])) for key in keys}}
        for name, some in kinds.items()
        if some
    }


if __name__ == "__main__":
    main()
