"""Open and run broken bundles one after another; a separate process, so that a crash has a number.

    python broken_graph_process.py BACKEND FIRST LAST FOLDER

prints a line for each seed, `SEED GRAPH`, then what happened: `ran`, or the error's name and its message.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from denoscope.runtime import Bundle, DenoscopeError, FrameMeta, Intensity, Stream, write_bundle
from support.broken_graphs import WAYS, broken_graph

FRAME = np.random.default_rng(0).poisson(20, (32, 32)).astype(np.uint16)
INTENSITY = Intensity(offset=20, scale=4, noise_slope=0.2, noise_floor=0.5)


def attempt(folder: Path, backend: str) -> str:
    """Return what opening the bundle and denoising a few frames came to."""
    try:
        with Stream(Bundle.load(folder), backend, intensity=INTENSITY, threads=1) as stream:
            for number in range(5):
                stream.push(FRAME, FrameMeta(number=number, t_received_s=0.0))
            stream.flush()
    except DenoscopeError as error:
        return f"{type(error).__name__} {error}"
    return "ran"


def main() -> None:
    backend, first, last, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    whole = Bundle.load("live")
    files = {name: (whole.folder / name).read_bytes() for name in whole.manifest.files}
    for seed in range(first, last):
        name = whole.manifest.graphs[seed // len(WAYS) % len(whole.manifest.graphs)]
        print(seed, name, end=" ", flush=True)
        broken = broken_graph(files[f"{name}.onnx"], seed)
        write_bundle(folder, whole.manifest, {**files, f"{name}.onnx": broken})
        print(attempt(folder, backend).replace("\n", " "), flush=True)


if __name__ == "__main__":
    main()
