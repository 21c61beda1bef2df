"""Gain of training rounds as a session makes them, without the clock: held-out gain beside the truth.

    python benchmarks/adapt_rounds.py BUNDLE --output FILE.json [--at 300 500 700] [--steps 60 80 80]
        [--frames 900] [--size 64] [--batch 8] [--crop 32]

The movie is that of `adapt_live.py`. After each number of frames one round is trained on the frames so far; the rest of
the movie is denoised by the bundle of the beginning and by the new one, and both are compared with the truth.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from _provenance import write_results
from adapt_live import weave

from denoscope.acquisition.adaptation.learner import Learner
from denoscope.acquisition.adaptation.plan import TrainingRequest
from denoscope.runtime import FrameMeta, Stream


def main() -> None:
    """Train, denoise, compare, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle")
    parser.add_argument("--at", type=int, nargs="+", default=[300, 500, 700])
    parser.add_argument("--steps", type=int, nargs="+", default=[60, 80, 80])
    parser.add_argument("--frames", type=int, default=900)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", type=int, default=32)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    clean, noisy = weave(options.frames, options.size, 1)
    rest = slice(max(options.at), options.frames)
    before = psnr(clean, noisy, options.bundle, rest)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        tifffile.imwrite(Path(folder, "raw.tif"), noisy)
        request = TrainingRequest(
            folder, options.bundle, steps=tuple(options.steps), batch=options.batch, crop=options.crop
        )
        learner = Learner(request)
        for number, frames in enumerate(options.at, start=1):
            done = learner.learn(frames)
            bundle = Path(folder, f"adapted-{number}.denoscope")
            learner.save(bundle, done)
            learner.judge(used=done.offered)
            after = psnr(clean, noisy, str(bundle), rest)
            rows.append({**done.as_json(), "true_gain_db": after - before, "psnr_db": after})
            said = "-" if done.total_db is None else f"{done.total_db:+.2f} ± {done.total_error_db:.2f} dB"
            print(
                f"{frames} frames: {done.total_nats:+.4f} ± {done.total_error_nats:.4f} nats, {said} on held-out "
                f"frames; against the truth {before:.2f} -> {after:.2f} dB; {done.processor_s:.0f} s of processor "
                f"time; offered: {done.offered}",
                flush=True,
            )
            values = {"psnr_before_db": before, "frames": options.frames, "size_px": options.size}
            plan = {"steps": options.steps, "batch": options.batch, "crop": options.crop}
            write_results(options.output, {**values, **plan, "rows": rows}, [options.bundle])


def psnr(clean: Any, noisy: Any, bundle: str, part: slice) -> float:
    """Return the PSNR in dB of a part of the movie, denoised from its beginning."""
    outputs = []
    with Stream(bundle, "openvino", threads=1) as stream:
        for number, frame in enumerate(noisy.astype(np.float32)):
            skip = None if number >= part.start else "before"
            outputs += stream.push(frame, FrameMeta(number, number / 30), skip=skip)
        outputs += stream.flush()
    where = [output.meta.number for output in outputs]
    error = np.stack([output.frame for output in outputs]).astype(np.float64) - clean[where]
    return 10 * math.log10(float(clean.max() - clean.min()) ** 2 / float(np.square(error).mean()))


if __name__ == "__main__":
    main()
