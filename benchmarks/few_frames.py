"""How many frames a movie must have to be learned from: training on its first frames only.

    python benchmarks/few_frames.py NOISY CLEAN
        [--frames 10 20 50 600] [--minutes 10] [--methods live umvd sts-uvd] [--from live] --output DIR

Training starts from random weights, and once more from the bundle given with --from, as `denoscope train`
does. Every training spends the same processor minutes, all threads together, so that the numbers are fair on
a shared machine; each network then denoises the whole movie and is scored there. The clean movie is
never seen by a training.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from denoscope.export import load_network
from denoscope.runtime import Bundle, estimate_intensity, open_movie
from denoscope.train import LiveNet, TrainingMovie, aligned, best_gaussian, fit, score
from denoscope.train._methods import METHODS, method_named

ADAPTATION_RATE = 5e-4  # that of `denoscope train`


def main() -> None:
    """Train every method on every length, print the table and write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("noisy", type=Path)
    parser.add_argument("clean", type=Path)
    parser.add_argument("--frames", type=int, nargs="+", default=[10, 20, 50, 600])
    parser.add_argument("--minutes", type=float, default=10, help="processor minutes of each training")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=["live"])
    parser.add_argument("--from", dest="start", help="live bundle to adapt as well")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()

    noisy, clean = np.asarray(open_movie(options.noisy)), np.asarray(open_movie(options.clean))
    gaussian, widths = best_gaussian(clean, noisy)
    rows: list[dict[str, Any]] = []
    print(
        f"| method | frames | steps | processor minutes | PSNR (dB) | at 99.9 % (dB) | SSIM |\n|{'---|' * 7}"
    )

    def add(method: str, frames: int, estimate: np.ndarray, steps: int = 0, minutes: float = 0.0) -> None:
        s = score(clean, estimate)
        rows.append(
            {
                "method": method,
                "frames": frames,
                "steps": steps,
                "processor_s": minutes * 60,
                "psnr_db": s.psnr_db,
                "psnr_p999_db": s.psnr_p999_db,
                "ssim": s.ssim,
            }
        )
        spent = f"{steps} | {minutes:.1f}" if steps else " | "
        print(
            f"| {method} | {frames} | {spent} | {s.psnr_db:.2f} | {s.psnr_p999_db:.2f} | {s.ssim:.4f} |",
            flush=True,
        )

    add("noisy", len(noisy), noisy)
    add(f"gaussian tuned on the truth ({widths})", len(noisy), gaussian)
    trainings: list[tuple[str, str, LiveNet | None]] = [(m, m, None) for m in options.methods]
    if options.start:
        network = load_network(Bundle.load(options.start))
        assert isinstance(network, LiveNet)
        trainings.append((f"live, adapted from {options.start}", "live", network))
    for title, name, start in trainings:
        method = method_named(name)
        for frames in sorted({min(n, len(noisy)) for n in options.frames}):
            movie = TrainingMovie("movie", noisy[:frames], None, estimate_intensity(noisy[:frames][:32]))
            changes: dict[str, Any] = {"learning_rate": ADAPTATION_RATE} if start else {}
            settings = method.settings(
                processor_minutes=options.minutes, stop_after=None, seed=options.seed, **changes
            )
            result = fit(
                [aligned(movie) if name == "live" else movie],
                settings=settings,
                method=name,
                network=start.settings if start else None,
                start=start.state_dict() if start else None,
            )
            # The transform is the one it was trained with, as a bundle would carry it.
            estimate = method.denoise(result.network, noisy, movie.intensity)
            add(title, frames, estimate, result.steps, result.processor_s / 60)
            options.output.mkdir(parents=True, exist_ok=True)
            (options.output / "few_frames.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
