"""Measure everything that needs a GPU within fifteen minutes; run it again to complete an interrupted run.

    python benchmarks/gpu_session.py [--seconds N] [--part NAME]... [--again] [--dry] [--commit HASH] --output FILE.json

Each part runs in a separate process with a time limit, writes every row to FILE as soon as it is measured, and is
skipped the next time once it is complete. `--seconds` bounds the whole call: a part gets no more than what is left,
and the next call goes on from there. Parts, in the order of what matters most:

    device       each call of CUDA that a frame needs, and all of them as one captured graph
    kernels      the backend `cuda`: our own kernels, with their times
    stream       the host's work for a frame, on graphs that do nothing
    tests        the tests that need a GPU
    bench        `denoscope bench` of `live` and `live-fast` at 512 x 512, through the denoiser's process
    machine      the GPU, its driver, the rates of memory and of matrix products
    torch        the three bundles in float32, TF32 and float16 as captured graphs, with their kernels
    convolution  the convolutions one by one: cuDNN, cuDNN fused, our own kernel
    onnxruntime  the product's backend with TF32, float16, channels-last layout, fused convolutions
    compiled     what torch's compiler makes of the bundles: the yardstick

`--dry` runs all of it on the processor with frames of 32 x 32: the numbers mean nothing, but the code has run.
`--commit` names the commit where the copy has no repository.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [str(ROOT / part) for part in ("train", "export", "runtime", "acquisition", "tests", "benchmarks")]
sys.path[:0] = SOURCES

# Module, function and the seconds that a part may take.
PARTS = {
    "device": ("device", "rows", 60),
    "kernels": ("own_kernels", "rows", 60),
    "stream": ("stream", "rows", 60),
    "tests": ("product", "test_rows", 180),
    "bench": ("product", "bench_rows", 120),
    "machine": ("machine", "rows", 60),
    "torch": ("torch_network", "rows", 150),
    "convolution": ("convolution", "rows", 60),
    "onnxruntime": ("onnxruntime_variants", "rows", 200),
    "compiled": ("torch_network", "compiled_rows", 300),
}
LEAST_S = 20  # a part is not begun with less
PACKAGES = ("torch", "onnxruntime-gpu", "onnxruntime", "cuda-core", "cuda-bindings", "numpy", "onnx")


def read(file: Path) -> dict[str, Any]:
    """Return what has been measured so far."""
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}


def write(file: Path, content: dict[str, Any]) -> None:
    """Replace the file in one step, so that a part that is killed leaves the rows before."""
    partial = file.with_name(file.name + ".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(file)


def provenance(commit: str | None) -> dict[str, Any]:
    """Return where and with what the numbers are measured."""
    from denoscope.runtime import Bundle

    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    try:
        query = [
            "nvidia-smi",
            "--query-gpu=name,driver_version,memory.total,clocks.max.sm",
            "--format=csv,noheader",
        ]
        gpu = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip() or None
    except OSError:
        gpu = None
    if commit is None:
        git = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
        commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip() or None
    return {
        "gpu": gpu,
        "python": sys.version.split()[0],
        "versions": found,
        "commit": commit,
        "bundles_sha256": {name: Bundle.load(name).digest for name in ("live", "live-fast", "live-hq")},
    }


def measure(part: str, file: Path, commit: str | None, *, dry: bool) -> None:
    """Run one part in this process, writing each row as it comes."""
    from gpu_parts import Plan

    module, function, _ = PARTS[part]
    content = read(file)
    content[part] = entry = {"complete": False, **provenance(commit), "dry": dry, "rows": []}
    write(file, content)
    started = time.perf_counter()
    for row in getattr(importlib.import_module(f"gpu_parts.{module}"), function)(Plan(dry=dry)):
        entry["rows"].append(row)
        entry["wall_s"] = time.perf_counter() - started
        write(file, content)
        print(part, json.dumps({key: value for key, value in row.items() if key != "longest"}), flush=True)
    entry["complete"] = True
    write(file, content)


def main() -> int:
    """Run the parts that are missing and return how many did not complete."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), help="how long the whole call may take"
    )
    parser.add_argument("--part", action="append", choices=PARTS, help="only these parts")
    parser.add_argument("--again", action="store_true", help="measure what is there already again")
    parser.add_argument("--dry", action="store_true", help="on the processor, to try the code")
    parser.add_argument("--commit", help="the commit that is measured")
    parser.add_argument("--output", type=Path, required=True, help="where the results go")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.here:
        measure(asked.part[0], asked.output, asked.commit, dry=asked.dry)
        return 0
    failed, until_s = [], time.monotonic() + asked.seconds
    for part in asked.part or PARTS:
        if read(asked.output).get(part, {}).get("complete") and not asked.again:
            continue
        left_s = until_s - time.monotonic()
        if left_s < LEAST_S:
            print(
                f"{part} was not begun: {max(left_s, 0):.0f} s are left. Run the command again.", flush=True
            )
            failed.append(part)
            continue
        print(f"== {part}", flush=True)
        command = [sys.executable, __file__, "--here", "--part", part, "--output", str(asked.output)]
        command += ["--dry"] if asked.dry else []
        command += ["--commit", asked.commit] if asked.commit else []
        try:
            done = subprocess.run(command, timeout=min(PARTS[part][2], left_s), check=False).returncode
        except subprocess.TimeoutExpired:
            done = None
        if done != 0:
            print(
                f"{part} did not complete ({'too slow' if done is None else f'exit code {done}'})", flush=True
            )
            failed.append(part)
    return len(failed)


if __name__ == "__main__":
    raise SystemExit(main())
