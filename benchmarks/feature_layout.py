"""Processor time of a push with features as OpenVINO convolves them, beside features as in the bundle, in one run.

    python benchmarks/feature_layout.py [--bundle NAME]... [--size N]... [--frames 12] [--output FILE.json]

Both are pushed the same frames in turns, on one thread. The least and the median of the processor time of a push are
in milliseconds; `ratio` is that of the medians. `difference` is the largest between two pictures, in counts.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from _provenance import write_results

from denoscope.runtime import Backend, Bundle, FrameMeta, Intensity, Stream
from denoscope.runtime.backends.openvino import OpenVino, OpenVinoBf16

INTENSITY = Intensity(offset=20, scale=4.5, noise_slope=0.2, noise_floor=0.5)


class AsExported(OpenVino):
    """Features as in the bundle, in float32."""

    features = Backend.features


class AsExportedBf16(OpenVinoBf16):
    """Features as in the bundle, in bfloat16."""

    features = Backend.features


PAIRS = {"openvino": (AsExported, OpenVino), "openvino-bf16": (AsExportedBf16, OpenVinoBf16)}


def measure(name: str, backend: str, size: int, frames: int) -> dict[str, Any]:
    """Return the processor time of both ways and how far their pictures are apart."""
    bundle = Bundle.load(name)
    light = 20 + 10 * np.sin(np.arange(size) / 9)
    movie = np.random.default_rng(0).poisson(light, (8, size, size)).astype(np.uint16)
    streams = [Stream(bundle, kind(threads=1), intensity=INTENSITY, align=False) for kind in PAIRS[backend]]
    spent: list[list[float]] = [[], []]
    difference = 0.0
    for number in range(bundle.manifest.window + 3 + frames):
        pictures = []
        for place, stream in enumerate(streams):
            began_s = time.process_time()
            outputs = stream.push(movie[number % 8], FrameMeta(number, 0.0))
            spent[place].append(time.process_time() - began_s)
            pictures.append([output.frame.astype(np.float64) for output in outputs])
        for before, after in zip(*pictures, strict=True):
            difference = max(difference, float(np.abs(before - after).max()))
    for stream in streams:
        stream.close()
    before_ms, after_ms = (1e3 * np.array(each[-frames:]) for each in spent)
    return {
        "bundle": name,
        "backend": backend,
        "size": size,
        "before_ms": {"least": float(before_ms.min()), "median": float(np.median(before_ms))},
        "after_ms": {"least": float(after_ms.min()), "median": float(np.median(after_ms))},
        "ratio": float(np.median(after_ms) / np.median(before_ms)),
        "difference": difference,
    }


def main() -> None:
    """Print a line for each case, and write all rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", action="append", help="live and live-hq where none is named")
    parser.add_argument("--size", type=int, action="append", help="256 and 512 where none is named")
    parser.add_argument("--frames", type=int, default=12, help="frames that are timed")
    parser.add_argument("--output", type=Path)
    asked = parser.parse_args()
    bundles, rows = asked.bundle or ["live", "live-hq"], []
    for name in bundles:
        for size in asked.size or [256, 512]:
            for backend in PAIRS:
                if (obstacle := PAIRS[backend][1].unavailable()) is not None:
                    print(f"{backend}: not here ({obstacle})")
                    continue
                rows.append(row := measure(name, backend, size, asked.frames))
                print(
                    f"{name} {backend} {size}: {row['before_ms']['median']:.1f} -> "
                    f"{row['after_ms']['median']:.1f} ms, ratio {row['ratio']:.3f}, difference {row['difference']:g}",
                    flush=True,
                )
                if asked.output:
                    write_results(asked.output, rows, bundles)


if __name__ == "__main__":
    main()
