"""Export the graphs of shipped bundles anew from the weights that they have, and prove that their numbers still hold.

    python benchmarks/new_graphs.py [live live-fast live-hq recorded] [--card DATA] [--write]

The new graphs run beside the old ones on movies with gaps, a missing beginning, motion and light from dim to bright.
With `--write` the bundle is replaced, and the SHA-256 of the old and the new one go into
`benchmarks/results/same-numbers.json`, with the largest difference. Tests accept numbers that were measured with the
old bundle where its weights are the same and the difference is at most 1e-5 (decision 0066). `--card` scores the bundle
on the pairs in DATA again, for its card.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from _provenance import read_rows, write_results
from shipped_model import measure

from denoscope.export import load_network
from denoscope.export.bundle import load_bundle_flow
from denoscope.export.graphs import export_graphs
from denoscope.export.split import needs_flow
from denoscope.runtime import Bundle, FrameMeta, Intensity, Stream, list_bundles, write_bundle

FILE = Path(__file__).parent / "results" / "same-numbers.json"
LIMIT = 1e-5
KEPT = ("weights.safetensors", "README.md")
Movie = npt.NDArray[np.float32]


def movies() -> dict[str, tuple[Movie, list[int], bool]]:
    """Return float32 movies (T, H, W) in noise units, the numbers of their frames, and whether motion is tracked."""
    rng = np.random.default_rng(66)
    y, x = np.mgrid[:72, :88]
    scene = 1 + sum(
        a * np.exp(-((y - r) ** 2 + (x - c) ** 2) / w)
        for r, c, a, w in zip(
            *rng.uniform([[8], [8], [1], [4]], [[64], [80], [6], [40]], (4, 24)), strict=True
        )
    )
    made = {}
    for name, photons, shift in (
        ("dim", 0.5, 0.0),
        ("usual", 10.0, 0.0),
        ("bright", 2000.0, 0.0),
        ("moving", 20.0, 0.7),
    ):
        frames = []
        for t in range(40):
            moved = np.roll(scene, (round(shift * t), -round(shift * t / 2)), (0, 1))
            flash = 1 + 2 * (t % 11 == 5) * (np.hypot(y - 30, x - 40) < 6)
            frames.append(rng.poisson(photons * moved * flash) / np.sqrt(photons))
        numbers = [n for n in range(44) if n not in (12, 25, 26, 27)]
        made[name] = np.asarray(frames, np.float32), numbers, shift > 0
    return made


def outputs(
    bundle: Bundle, movie: Movie, numbers: list[int], *, track: bool
) -> list[npt.NDArray[np.float64]]:
    """Return mean and deviation of every frame."""
    level = float(np.median(movie))
    noise = Intensity(offset=0.0, scale=1.0, noise_slope=0.3, noise_floor=max(0.2, 0.1 * level))
    found = []
    with Stream(bundle, "onnxruntime-cpu", intensity=noise, std=True, align=track, light=False) as stream:
        for frame, number in zip(movie, numbers, strict=True):
            found += stream.push(frame, FrameMeta(number=number, t_received_s=0.0))
        found += stream.flush()
    return [np.asarray([out.frame, out.std], np.float64) for out in found]


def difference(old: Bundle, new: Bundle) -> dict[str, float]:
    """Return the largest difference by movie, relative to the value or to the noise, whichever is larger."""
    rows = {}
    for name, (movie, numbers, track) in movies().items():
        before, after = (outputs(b, movie, numbers, track=track) for b in (old, new))
        assert len(before) == len(after) == len(numbers)
        rows[name] = max(
            float((np.abs(a - b) / np.maximum(np.abs(b), 1.0)).max())
            for a, b in zip(after, before, strict=True)
        )
    return rows


def exported(bundle: Bundle, folder: Path, card: Path | None = None) -> Bundle:
    """Write a bundle with the same weights and records, graphs of today, and its card or one that is measured."""
    network = load_network(bundle)
    flow = load_bundle_flow(bundle) if needs_flow(network) else None
    files = export_graphs(network, flow) | {name: (bundle.folder / name).read_bytes() for name in KEPT}
    changes: dict[str, object] = {"schema_version": 2}
    if card is not None:
        changes["quality"] = measure(bundle, card)
    write_bundle(folder, bundle.manifest.model_copy(update=changes), files)
    return Bundle.load(folder)


def main() -> None:
    """Compare, print, and write where that is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundles", nargs="*", default=list(list_bundles()))
    parser.add_argument("--write", action="store_true", help="replace the bundles and record the hashes")
    parser.add_argument("--card", type=Path, metavar="DATA", help="folder with the pairs that have a truth")
    arguments = parser.parse_args()
    rows = read_rows(FILE)
    for name in arguments.bundles:
        old = Bundle.load(name)
        with tempfile.TemporaryDirectory() as scratch:
            new = exported(old, Path(scratch) / old.folder.name, arguments.card)
            found = difference(old, new)
            sizes = [sum(p.stat().st_size for p in b.folder.iterdir()) for b in (old, new)]
            row = {
                "bundle": old.manifest.name,
                "before": old.digest,
                "after": new.digest,
                "weights_sha256": new.manifest.files["weights.safetensors"],
                "largest_difference": max(found.values()),
                "by_movie": found,
                "bytes_before": sizes[0],
                "bytes_after": sizes[1],
            }
            print(json.dumps(row, indent=1))
            if row["largest_difference"] > LIMIT:
                raise SystemExit(
                    f"{name}: the outputs differ by more than {LIMIT}: its numbers must be measured again."
                )
            if arguments.write and old.digest != new.digest:
                new.save(old.folder)
                rows.append(row)
    if arguments.write:
        write_results(FILE, rows, list_bundles())


if __name__ == "__main__":
    main()
