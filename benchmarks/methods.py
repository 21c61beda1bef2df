"""UMVD, STS-UVD and live, each trained on one noisy movie alone for the same processor time, then run as bundles.

    python benchmarks/methods.py FOLDER [--movies naomi_a_static_high ...] [--minutes 6] --output DIR

FOLDER holds NAME_noisy.tif and NAME_clean.tif. Every method starts from random weights and never sees the clean
movie; minutes are those of the processor, on one thread, so that a busy machine favours nobody. Each network is
exported to a bundle and denoises the movie's first frames through the stream, as it would live, where a
movie that moves is aligned; the published methods are also scored as published, without alignment, STS-UVD
with the flows of its own training, with and without the line that turns its median into the mean. An
interrupted run goes on where it stopped.

The cost is that of one frame at 256 x 256 beside one 64 -> 64 3 x 3 float32 torch convolution there, same threads.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _provenance import write_results
from cost_ratio import units
from cpu_backends import frame_seconds

from denoscope.export import export_bundle
from denoscope.runtime import Bundle, estimate_intensity, open_movie
from denoscope.train import METHODS, FitResult, StsUvdFit, TrainingMovie, aligned, fit, load_flow, score
from denoscope.train.evaluation.truth import evaluate_pair
from denoscope.train.fit_settings import Precision

MOVIES = ("naomi_a_static_high", "naomi_a_static_mid", "naomi_a_motion_high")
ANCHORS = {"noisy": "noisy", "gaussian": "3-D Gaussian tuned on the truth"}


def main() -> None:
    """Train what is missing, score everything, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--movies", nargs="+", default=list(MOVIES))
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--minutes", type=float, default=6.0, help="of processor time for each training")
    parser.add_argument(
        "--score-frames", type=int, default=120, help="denoised and scored; trained on are all"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / "methods.json"
    setting = {"minutes": options.minutes, "score_frames": options.score_frames, "seed": options.seed}
    report: dict[str, Any] = {**setting, "commit": commit(), "rows": []}
    if file.exists():
        report = json.loads(file.read_text(encoding="utf-8"))
        if any(report[name] != value for name, value in setting.items()):
            parser.error(f"{file} holds a run with other settings: name another --output.")

    def keep(row: dict[str, Any]) -> None:
        report["rows"].append(row)
        write_results(file, report, (), indent=2)
        print(line(row), flush=True)

    print("| movie | method | PSNR (dB) | at 99.9 % (dB) | SSIM | steps |\n|---|---|---|---|---|---|")
    for row in report["rows"]:
        print(line(row))
    for name in options.movies:
        done = {row["method"] for row in report["rows"] if row["movie"] == name}
        noisy = np.asarray(open_movie(options.folder / f"{name}_noisy.tif"))
        clean = np.asarray(open_movie(options.folder / f"{name}_clean.tif"), np.float32)
        movie = TrainingMovie(name, noisy, None, estimate_intensity(noisy[:32]))
        for method in (m for m in options.methods if m not in done):
            for row in train_and_score(movie, clean, method, options, anchors=not done):
                keep(row)
            done.add(method)
    if "cost" not in report:
        report["cost"] = costs(options.output)
        write_results(file, report, (), indent=2)
    print("\n| method | cost of a frame at 256 x 256 (best backend here) |\n|---|---|")
    for method, cost in report["cost"].items():
        print(f"| {method} | {cost['ratio']:.2f} ({cost['backend']}) |")


def train_and_score(
    movie: TrainingMovie, clean: np.ndarray, method: str, options: argparse.Namespace, *, anchors: bool
) -> list[dict[str, Any]]:
    """Train one method, export it, and score its bundle; with `anchors` also what needs no training."""
    entry = METHODS[method]
    bundle, result = train_bundle(movie, method, options.minutes, options.output, seed=options.seed)
    noisy, clean = movie.frames[: options.score_frames], clean[: options.score_frames]
    scored = evaluate_pair(movie.name, noisy, clean, [bundle], backend="onnxruntime-cpu")
    rows = []
    for row in scored.rows:
        if row.method == method:
            spent = {"steps": result.steps, "processor_s": result.processor_s}
            rows.append({"movie": movie.name, "method": method, **spent, **asdict(row.score)})
        elif anchors and row.method in ANCHORS:
            widths = row.setting.removeprefix("tuned on the truth: ")
            title = ANCHORS[row.method] + (f" ({widths})" if widths else "")
            rows.append({"movie": movie.name, "method": title, **asdict(row.score)})

    def unaligned(title: str) -> None:
        flows = {"flows": result.flows[0]} if isinstance(result, StsUvdFit) else {}
        denoised = entry.denoise(result.network, noisy, movie.intensity, **flows)
        rows.append({"movie": movie.name, "method": f"{method}, {title}", **asdict(score(clean, denoised))})

    if isinstance(result, StsUvdFit):
        unaligned("as published, and the line to the mean")
        result.network.get_buffer("to_mean").copy_(torch.tensor([1.0, 0.0]))
    if method != "live":
        unaligned("as published")
    return rows


def train_bundle(
    movie: TrainingMovie,
    method: str,
    minutes: float,
    output: Path,
    *,
    seed: int = 0,
    label: str = "",
    precision: Precision = "32",
    epochs: int | None = None,
) -> tuple[Bundle, FitResult[Any]]:
    """Train a method on a noisy movie alone for some minutes of the processor, or go on with it, and export it.

    The checkpoint and the bundle, `label` or else the method in its name, lie in folders of `output`. With `epochs`
    it trains for as many, however long they take.
    """
    settings = METHODS[method].settings(
        epochs=epochs,
        processor_minutes=minutes if epochs is None else None,
        seed=seed,
        hold_out=0.0,
        stop_after=None,
        precision=precision,
    )
    spent = f"{minutes:g} minutes of the processor" if epochs is None else f"{epochs} epochs"
    checkpoint = output / "checkpoints" / f"{movie.name}-{method}.safetensors"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    seen = aligned(movie) if method == "live" else movie
    result = fit([seen], checkpoint, method=method, settings=settings, resume=checkpoint.exists())
    bundle = export_bundle(
        result.network,
        output / "bundles" / f"{movie.name}-{label or method}.denoscope",
        name=method,
        trained_on=[f"{movie.name}, {spent}"],
        flow=load_flow(passes=1) if method == "sts-uvd" else None,
    )
    return bundle, result


def costs(output: Path) -> dict[str, Any]:
    """Return each method's cost of a frame in units, on the faster of the two float32 backends."""
    found: dict[str, Any] = {}
    for method in METHODS:
        folders = sorted((output / "bundles").glob(f"*-{method}.denoscope"))
        if folders:
            unit = units(1)["contiguous_s"]
            bundle = Bundle.load(folders[0])
            seconds = {
                b: frame_seconds(bundle, b, 256, 6, threads=1) for b in ("openvino", "onnxruntime-cpu")
            }
            unit = min(unit, units(1)["contiguous_s"])
            best = min(seconds, key=lambda b: seconds[b])
            found[method] = {
                "backend": best,
                "frame_s": seconds[best],
                "unit_s": unit,
                "ratio": seconds[best] / unit,
            }
    return found


def line(row: dict[str, Any]) -> str:
    """Return a row of the table as markdown."""
    return (
        f"| {row['movie']} | {row['method']} | {row['psnr_db']:.2f} | {row['psnr_p999_db']:.2f} | "
        f"{row['ssim']:.3f} | {row.get('steps', '')} |"
    )


def commit() -> str:
    """Return the commit that this runs from."""
    command = ["git", "describe", "--always", "--dirty"]
    found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return found.stdout.strip()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
