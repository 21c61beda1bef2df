"""Training while recording, on a movie unlike the training data: gain over time, and what it costs in delay.

    python benchmarks/adapt_live.py BUNDLE --output FILE.json [--frames 2400] [--size 96] [--fps 10]
        [--steps 100 200 400] [--batch 12] [--busy]

The scene is a weave of filaments that flicker, blurred by half a pixel: a texture that the simulator of the training
does not have. It is recorded with `adapt`; the same frames denoised by the bundle of the beginning are what a session
without it gives. Both movies are compared with the truth in blocks of frames; frames that either lacks are left out.
`rounds` are what the session says by itself, from held-out noisy frames. `--busy` lets the training
process compute at the priority of all other programs, for a computer on which others compute all the time.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from _provenance import write_results
from scipy.ndimage import gaussian_filter

from denoscope.acquisition import SessionReport, live
from denoscope.acquisition.adaptation import adaptation
from denoscope.runtime import FrameMeta, Stream

PHOTONS, GAIN, OFFSET, READ = 6.0, 4.0, 100.0, 4.0  # counts: gain a photon, offset and read noise
BLOCK = 150
WARM_UP = 50


def main() -> None:
    """Simulate, record, compare, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle")
    parser.add_argument("--frames", type=int, default=2400)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--fps", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, nargs="+", default=list(adaptation.PLAN.steps))
    parser.add_argument("--batch", type=int, default=adaptation.PLAN.batch)
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    adaptation.PLAN = replace(
        adaptation.PLAN, idle=not options.busy, steps=tuple(options.steps), batch=options.batch
    )
    clean, noisy = weave(options.frames, options.size, options.seed)
    result: dict[str, Any] = {
        "frames": options.frames,
        "size_px": options.size,
        "fps": options.fps,
        "steps": options.steps,
        "batch": options.batch,
        "idle_priority": not options.busy,
        "processors": os.cpu_count(),
        "load_1min": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }
    with tempfile.TemporaryDirectory() as folder:
        movie = Path(folder, "movie.tif")
        tifffile.imwrite(movie, noisy)
        run = Path(folder, "run")
        report = live(
            core=f"replay:{movie}",
            output=run,
            bundle=options.bundle,
            fps=options.fps,
            adapt=True,
            picture=False,
            float32=True,
            fill=False,
        )
        with tifffile.TiffFile(run / "denoised.ome.tif") as tif:
            denoised = np.stack([page.asarray() for page in tif.pages[: options.frames]])
    for each in report.adaptation.rounds if report.adaptation is not None else ():
        print(each, flush=True)
    there = np.ones(options.frames, bool)
    for first, last in report.frames.not_denoised.pages:
        there[first : last + 1] = False
    result["adapted"] = described(report, blocks(clean, denoised, there))
    result["plain"] = {"psnr_db": blocks(clean, alone(options.bundle, noisy), there)}
    tell(result["adapted"])
    print("  without, dB over time:", ", ".join(f"{psnr:.2f}" for psnr in result["plain"]["psnr_db"]))
    pairs = zip(result["adapted"]["psnr_db"], result["plain"]["psnr_db"], strict=True)
    result["gain_db"] = [a - b for a, b in pairs]
    print("gain over time in dB:", ", ".join(f"{gain:+.2f}" for gain in result["gain_db"]))
    write_results(options.output, result, [options.bundle])


def weave(frames: int, size: int, seed: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint16]]:
    """Return the expected counts (T, H, W) of flickering filaments, and one measurement of them."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    layers = []
    for _ in range(14):
        angle, pitch, phase = rng.uniform(0, math.pi), rng.uniform(5, 11), rng.uniform(0, 2 * math.pi)
        bend = 2.5 * np.sin(2 * math.pi * (rows * math.cos(angle) + columns * math.sin(angle)) / 37 + phase)
        across = columns * math.cos(angle) - rows * math.sin(angle) + bend
        ridge = np.exp(-((((across + phase * pitch) % pitch) - pitch / 2) ** 2) / 0.8)
        patch = gaussian_filter(rng.standard_normal((size, size)), size / 10)
        layers.append(ridge * (patch > 0.6 * patch.std()))
    times = rng.standard_normal((frames + 100, len(layers)))
    slow = gaussian_filter(times, (6.0, 0.0))[50 : 50 + frames]
    light = 1 + 0.5 * slow / slow.std()
    scene = np.einsum("tl,lhw->thw", np.clip(light, 0.1, None), np.stack(layers)).astype(np.float32)
    scene = gaussian_filter(scene, (0, 0.5, 0.5)) + 0.15
    photons = PHOTONS * scene / scene.mean()
    measured = GAIN * rng.poisson(photons) + OFFSET + READ * rng.standard_normal(photons.shape)
    return GAIN * photons + OFFSET, np.clip(np.rint(measured), 0, 65535).astype(np.uint16)


def alone(bundle: str, noisy: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """Return the movie denoised by one bundle from beginning to end."""
    outputs = []
    with Stream(bundle) as stream:
        for number, frame in enumerate(noisy.astype(np.float32)):
            outputs += stream.push(frame, FrameMeta(number, number / 30))
        outputs += stream.flush()
    return np.stack([output.frame for output in outputs])


def blocks(
    clean: npt.NDArray[np.float32], denoised: npt.NDArray[Any], there: npt.NDArray[np.bool_]
) -> list[float]:
    """Return the PSNR in dB of each block of frames; the range is that of the whole clean movie."""
    span = float(clean.max() - clean.min())
    error = np.square(denoised.astype(np.float64) - clean).mean(axis=(1, 2))
    edges = range(WARM_UP, len(clean) - BLOCK + 1, BLOCK)
    parts = [slice(start, start + BLOCK) for start in edges]
    return [10 * math.log10(span**2 / error[part][there[part]].mean()) for part in parts]


def described(report: SessionReport, psnr_db: list[float]) -> dict[str, Any]:
    """Return what a session came to."""
    frames, timing, adapted = report.frames, report.timing, report.adaptation
    return {
        "psnr_db": psnr_db,
        "received": frames.received,
        "written_raw": frames.written_raw,
        "denoised": frames.denoised,
        "dropped": frames.dropped,
        "latency_p50_s": timing.latency_p50_s,
        "latency_p99_s": timing.latency_p99_s,
        "adaptation": None if adapted is None else adapted.as_json(),
        "notes": report.outcome.notes,
        "problems": report.outcome.problems,
    }


def tell(values: dict[str, Any]) -> None:
    """Print one session."""
    print(
        f"{values['denoised']} of {values['received']} denoised, raw {values['written_raw']}, delay "
        f"{values['latency_p50_s'] * 1e3:.0f} ms (99 %: {values['latency_p99_s'] * 1e3:.0f})"
    )
    print("  dB over time:", ", ".join(f"{psnr:.2f}" for psnr in values["psnr_db"]))
    for note in (*values["notes"], *values["problems"]):
        print(f"  {note}")


if __name__ == "__main__":
    main()
