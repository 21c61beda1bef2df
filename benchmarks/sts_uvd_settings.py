"""Choose by measurement what the slides leave open in STS-UVD (alpha, eta, L, share of replaced pixels).

    python benchmarks/sts_uvd_settings.py NOISY CLEAN [--steps 150] [--crop 96] [--frames 120] --output FILE.json

One setting is changed at a time; every run has the same steps, seed and part of the movie. No run sees the truth,
which only scores the result. An interrupted run goes on where it stopped, from the rows in the output file.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from _provenance import write_results

from denoscope.runtime import estimate_intensity, open_movie
from denoscope.train import (
    StsUvdFitSettings,
    StsUvdSettings,
    TrainingMovie,
    denoise_sts_uvd,
    fit_sts_uvd,
    score,
)

VARIANTS: dict[str, dict[str, float]] = {
    "start": {},
    "alpha 0.5": {"alpha": 0.5},
    "alpha 2": {"alpha": 2.0},
    "eta 0.25": {"eta": 0.25},
    "eta 4": {"eta": 4.0},
    "L 4": {"level": 4.0},
    "L 64": {"level": 64.0},
    "replaced 0.02": {"replaced": 0.02},
    "replaced 0.3": {"replaced": 0.3},
}


def main() -> None:
    """Train once per variant and keep a row for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("noisy", type=Path)
    parser.add_argument("clean", type=Path)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--crop", type=int, default=96)
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    part = np.s_[: options.frames, : options.crop, : options.crop]
    noisy = np.asarray(open_movie(options.noisy)[: options.frames])[part]
    clean = np.asarray(open_movie(options.clean)[: options.frames])[part]
    movie = TrainingMovie(options.noisy.stem, noisy, None, estimate_intensity(noisy[:32]))
    base = StsUvdFitSettings(epochs=2, steps_per_epoch=options.steps // 2, crop=48, seed=options.seed)

    rows = json.loads(options.output.read_text(encoding="utf-8"))["rows"] if options.output.exists() else []
    for name, changes in VARIANTS.items():
        if any(row["variant"] == name for row in rows):
            continue
        shape = StsUvdSettings(level=changes.get("level", 1.0))
        settings = replace(base, **{k: v for k, v in changes.items() if k != "level"})
        started = time.process_time()
        trained = fit_sts_uvd([movie], settings=settings, network=shape)
        denoised = denoise_sts_uvd(trained.network, noisy, movie.intensity, flows=trained.flows[0])
        reached = score(clean, denoised)
        rows.append(
            {
                "variant": name,
                "psnr_db": reached.psnr_db,
                "ssim": reached.ssim,
                "kappa_0": trained.kappa_0,
                "consistency": trained.consistency,
                "processor_s": time.process_time() - started,
            }
        )
        print(f"{name:14s} {reached.psnr_db:6.2f} dB  SSIM {reached.ssim:.3f}", flush=True)
        report = {
            "movie": options.noisy.name,
            "frames": options.frames,
            "crop": options.crop,
            "base": asdict(base),
            "rows": rows,
        }
        options.output.parent.mkdir(parents=True, exist_ok=True)
        write_results(options.output, report, (), indent=2)


if __name__ == "__main__":
    main()
