"""Does denoising keep up with 30 frames/s? The demo, and a 256 x 256 movie, through a real Micro-Manager core.

    python benchmarks/keep_up.py [--seconds 20] [--size 256] [--fps 30]

Prints one line a run; exits with 1 if an output was skipped or a raw frame is missing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import tifffile

from denoscope.acquisition import demo_movie


def textured_movie(size: int) -> np.ndarray:
    """Return the demo movie mirrored and cut to `size` x `size`, (150, size, size) uint16."""
    frames = demo_movie().frames
    for axis in (1, 2):
        while frames.shape[axis] < size:
            frames = np.concatenate([frames, np.flip(frames, axis)], axis=axis)
    return np.ascontiguousarray(frames[:, :size, :size])


def main() -> None:
    """Run both and print what the reports say."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--fps", type=float, default=30)
    parser.add_argument("--backend", default="auto")
    arguments = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        movie = Path(folder) / "movie.tif"
        tifffile.imwrite(movie, textured_movie(arguments.size), photometric="minisblack")
        for name, options in (
            ("demo", []),
            (f"{arguments.size} x {arguments.size}", ["--movie", str(movie)]),
        ):
            words = [
                "--output",
                str(Path(folder) / name.replace(" ", "")),
                "--seconds",
                str(arguments.seconds),
            ]
            words += ["--fps", str(arguments.fps), "--backend", arguments.backend, *options]
            command = [
                sys.executable,
                "-m",
                "denoscope.acquisition.cli.app",
                "demo",
                "--json",
                "--quiet",
                *words,
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{name}: {done.stderr}")
            report = json.loads(done.stdout.splitlines()[-1])
            frames, timing = report["frames"], report["timing"]
            print(
                f"{name}: {frames['received']} frames at {timing['fps_in_hz']:.1f} Hz, raw {frames['written_raw']}, "
                f"denoised {frames['denoised']}, dropped {frames['dropped'] or 'none'}, "
                f"latency p50 {timing['latency_p50_s'] * 1e3:.0f} ms, p99 {timing['latency_p99_s'] * 1e3:.0f} ms "
                f"(look-ahead {report['denoiser']['look_ahead']} frames included), {report['denoiser']['backend']}"
            )
            failed |= frames["denoised"] != frames["received"] or frames["written_raw"] != frames["received"]
    sys.exit(failed)


if __name__ == "__main__":
    main()
