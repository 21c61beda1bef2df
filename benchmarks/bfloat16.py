"""Measure what bfloat16 on the processor costs and gains: `openvino-bf16` beside `openvino`, in one run.

    python benchmarks/bfloat16.py [--data FOLDER] [--output FILE.json]

Loss: the error against the truth in dB, bfloat16 less float32, for simulated scenes of 0.3 to 10,000 photons a pixel
and, with `--data`, for NAOMi movies (NAME_noisy.tif beside NAME_clean.tif). Gain: processor time of a frame on one
thread, the two in turns, the least of each.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from _provenance import write_results
from scipy.ndimage import gaussian_filter

from denoscope.runtime import Bundle, FrameMeta, Intensity, Stream, open_movie

BUNDLES = ("live", "live-fast", "live-hq")
BACKENDS = ("openvino", "openvino-bf16")
PHOTONS = (0.3, 3, 30, 300, 10_000)
GAIN, OFFSET, READ = 2.0, 100.0, 1.0
Movie = npt.NDArray[Any]


def simulated(photons: float, size: int, frames: int) -> tuple[Movie, Movie, Intensity]:
    """Return counts (T, H, W), the truth (H, W) in counts, and the transform of a camera."""
    rng = np.random.default_rng(7)
    shape = gaussian_filter(rng.random((size, size)), 3)
    light = photons * (0.3 + (shape - shape.min()) / np.ptp(shape))
    counts = (
        OFFSET + GAIN * rng.poisson(light, (frames, size, size)) + rng.normal(0, READ, (frames, size, size))
    )
    middle = float(np.median(light))
    scale = (GAIN**2 * middle + READ**2) ** 0.5
    floor = READ**2 / scale**2
    intensity = Intensity(
        offset=OFFSET + GAIN * middle, scale=scale, noise_slope=GAIN / scale, noise_floor=floor
    )
    return counts.round().clip(0, 65535).astype(np.uint16), OFFSET + GAIN * light, intensity


def denoised(
    bundle: Bundle, backend: str, movie: Movie, intensity: Intensity | None
) -> tuple[Movie, Intensity | None]:
    """Return the denoised movie and the transform that was used."""
    outputs: list[Any] = []
    with Stream(
        bundle, backend, threads=1, intensity=intensity, align=False, light=intensity is None
    ) as stream:
        for number, frame in enumerate(movie):
            outputs += stream.push(np.ascontiguousarray(frame), FrameMeta(number, 0.03 * number))
        outputs += stream.flush()
        return np.stack([output.frame for output in outputs]).astype(np.float64), stream.intensity


def loss(bundle: Bundle, movie: Movie, truth: Movie, intensity: Intensity | None, first: int) -> float:
    """Return by how many dB the error against the truth is larger in bfloat16, from a frame on."""
    errors = []
    for backend in BACKENDS:
        made, found = denoised(bundle, backend, movie, intensity)
        intensity = intensity or found
        right = np.broadcast_to(truth, made.shape)[first:].ravel().astype(np.float64)
        seen = made[first:].ravel()
        slope, offset = np.polyfit(seen, right, 1)  # NAOMi's truth is in other units
        errors.append(float(np.mean((slope * seen + offset - right) ** 2)))
    return float(10 * np.log10(errors[1] / errors[0]))


def losses(bundle: Bundle, data: Path | None) -> Iterator[dict[str, Any]]:
    """Yield the loss for each scene."""
    for photons in PHOTONS:
        movie, truth, intensity = simulated(photons, 128, 40)
        yield {
            "scene": f"simulated, {photons:g} photons",
            "loss_db": loss(bundle, movie, truth, intensity, 16),
        }
    for noisy in sorted(data.glob("naomi_*_noisy.tif")) if data is not None else ():
        clean = noisy.with_name(noisy.name.replace("_noisy", "_clean"))
        movie, truth = (np.asarray(open_movie(each)[:80]) for each in (noisy, clean))
        yield {
            "scene": noisy.name.removesuffix("_noisy.tif"),
            "loss_db": loss(bundle, movie, truth, None, 20),
        }


def seconds(bundle: Bundle, size: int, frames: int) -> dict[str, float]:
    """Return the least processor time of a frame with each backend."""
    movie, _, intensity = simulated(30, size, 4)
    found: dict[str, list[float]] = {backend: [] for backend in BACKENDS}
    streams = {b: Stream(bundle, b, threads=1, intensity=intensity, align=False) for b in BACKENDS}
    for stream in streams.values():
        stream.prepare((size, size))
    for number in range(bundle.manifest.window + frames):
        for backend, stream in streams.items():
            started = time.process_time()
            stream.push(movie[number % 4], FrameMeta(number, 0.0))
            found[backend].append(time.process_time() - started)
    for stream in streams.values():
        stream.close()
    return {backend: min(spent[bundle.manifest.window :]) for backend, spent in found.items()}


def main() -> None:
    """Print a line for each bundle, and write all rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of NAOMi movies")
    parser.add_argument("--frames", type=int, default=12, help="frames that are timed")
    parser.add_argument("--output", type=Path)
    asked = parser.parse_args()
    rows = []
    for name in BUNDLES:
        bundle = Bundle.load(name)
        scenes = list(losses(bundle, asked.data))
        costs = {str(size): seconds(bundle, size, asked.frames) for size in (256, 512)}
        row = {
            "bundle": name,
            "weights_sha256": bundle.manifest.files["weights.safetensors"],
            "largest_loss_db": max(each["loss_db"] for each in scenes),
            "scenes": scenes,
            "frame_s": costs,
            "faster": {size: each["openvino"] / each["openvino-bf16"] for size, each in costs.items()},
        }
        rows.append(row)
        faster = ", ".join(f"{ratio:.2f} at {size}" for size, ratio in row["faster"].items())
        print(f"{name}: at most {row['largest_loss_db']:.4f} dB; times as fast: {faster}", flush=True)
        if asked.output:
            write_results(asked.output, rows, BUNDLES)


if __name__ == "__main__":
    main()
