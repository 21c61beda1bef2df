"""OpenVINO and ONNX Runtime beside torch eager, torch.compile and the whole-window network, as ratios in one run.

    python benchmarks/cpu_backends.py [--bundle live] --size 256 512 1024 2048 --output FOLDER

Every row is one denoised frame through the same stream; the unit is ONNX Runtime with the streaming split. The rows
of a size take turns, twice, and the least is kept, so that a busy machine shows in all of them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from _provenance import write_results

from denoscope.acquisition.bench.whole_window import whole_window
from denoscope.export.reference import TorchReference
from denoscope.runtime import Backend, Bundle, FrameMeta, Intensity, Stream, default_threads, list_backends

INTENSITY = Intensity(offset=20, scale=4.5, noise_slope=0.2, noise_floor=0.5)
UNIT = "onnxruntime-cpu"


def frame_seconds(
    bundle: Bundle, backend: str | Backend, size: int, frames: int, threads: int | None = None
) -> float:
    """Return the least seconds of a push that gives an output."""
    movie = np.random.default_rng(0).poisson(20, (8, size, size)).astype(np.uint16)
    times = []
    with Stream(bundle, backend, threads=threads, intensity=INTENSITY, align=False) as stream:
        for number in range(bundle.manifest.window + frames):
            started = time.perf_counter()
            outputs = stream.push(movie[number % 8], FrameMeta(number=number, t_received_s=0.0))
            if outputs and number >= bundle.manifest.window:
                times.append(time.perf_counter() - started)
    return min(times)


def compiled(bundle: Bundle) -> TorchReference:
    """Return the torch backend with its parts compiled."""
    backend = TorchReference(bundle)
    backend._parts = {data: torch.compile(part) for data, part in backend._parts.items()}  # type: ignore[misc]
    return backend


def candidates(bundle: Bundle, whole: Bundle) -> dict[str, Callable[[], tuple[Bundle, str | Backend]]]:
    """Return what is measured, by name; opened only when its turn comes."""
    rows: dict[str, Callable[[], tuple[Bundle, str | Backend]]] = {}
    for name, obstacle in list_backends().items():
        if obstacle is not None:
            print(f"{name}: not here ({obstacle})")
            continue
        rows[name] = lambda name=name: (bundle, name)
        rows[f"{name}, whole window"] = lambda name=name: (whole, name)
    rows["torch eager"] = lambda: (bundle, TorchReference(bundle))
    rows["torch.compile"] = lambda: (bundle, compiled(bundle))
    return rows


def measure(bundle: Bundle, whole: Bundle, size: int, frames: int) -> dict[str, float | str]:
    """Return seconds a frame by row, or why a row could not be measured."""
    found: dict[str, float | str] = {}
    for _ in range(2):
        for name, opened in candidates(bundle, whole).items():
            if isinstance(found.get(name), str):
                continue
            try:
                seconds = frame_seconds(*opened(), size, frames)
            except Exception as error:  # noqa: BLE001  (torch.compile needs a compiler; the table says so)
                found[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
                continue
            found[name] = min(seconds, float(found.get(name, np.inf)))
    return found


def table(results: dict[str, dict[str, float | str]]) -> str:
    """Return a markdown table of ratios to ONNX Runtime; failures below it."""
    names = list(next(iter(results.values())))
    lines = [
        f"| one frame, {UNIT} = 1 | " + " | ".join(f"{size} x {size}" for size in results) + " |",
        "|---|" + "---|" * len(results),
    ]
    for name in names:
        cells = []
        for row in results.values():
            value, unit = row[name], row[UNIT]
            both = isinstance(value, float) and isinstance(unit, float)
            cells.append(
                f"{float(value) / float(unit):.2f} ({float(value) * 1e3:.1f} ms)" if both else "failed"
            )
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    failed = {n: v for row in results.values() for n, v in row.items() if isinstance(v, str)}
    return "\n".join([*lines, "", *(f"{name} failed: {why}" for name, why in failed.items())]).rstrip() + "\n"


def main() -> None:
    """Measure, print the table and write it with the numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", default="live")
    parser.add_argument("--size", type=int, nargs="+", default=[256, 512, 1024, 2048])
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(default_threads())
    bundle = Bundle.load(arguments.bundle)
    with tempfile.TemporaryDirectory() as folder:
        whole = whole_window(bundle, Path(folder) / "whole.denoscope")
        results = {str(size): measure(bundle, whole, size, arguments.frames) for size in arguments.size}
    text = table(results)
    print(text)
    arguments.output.mkdir(parents=True, exist_ok=True)
    report = {"bundle": bundle.manifest.name, "bundle_sha256": bundle.digest, "threads": default_threads()}
    report |= {"torch": torch.__version__, "frame_s": results}
    (arguments.output / "cpu-backends.md").write_text(text, encoding="utf-8")
    write_results(arguments.output / "cpu-backends.json", report, [bundle], indent=2)


if __name__ == "__main__":
    main()
