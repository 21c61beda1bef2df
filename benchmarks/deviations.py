"""How often the predicted deviation is right, before and after the factor that a movie shows (decisions 76, 109).

    python benchmarks/deviations.py BUNDLE [BUNDLE ...] --output FILE.json
        [--pair NOISY.tif CLEAN.tif ...] [--fresh 6] [--followed] [--frames 120]

Each bundle denoises the pairs, the test movies and random scenes that move, of a seed that neither training nor the fit
of the factor has seen (with 96 x 96 pixels). Every row: share of the truth within one and two deviations as the network
predicts them and as `denoscope denoise` writes them, the factor of the last frame, and whether the scene was followed;
only then can there be one. The first frames are counted too: those of a bundle without both sides of time have no
factor yet. With --followed only movies that are followed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from _provenance import write_results

from denoscope.runtime import (
    Bundle,
    Denoised,
    FrameMeta,
    SlowResidual,
    Stream,
    calibrate_stream,
    estimate_intensity,
    with_slow_residual,
)
from denoscope.runtime.motion.moves import moves, moves_anywhere
from denoscope.train import ALL_KINDS, random_settings, simulate, test_movies

ONE, TWO = 0.9945, 1.96  # deviations that hold 68 % and 95 % of a normal distribution
KINDS = ("two-photon", *ALL_KINDS)
SEED = 7_676  # of the scenes
CALIBRATION = 32
Movie = tuple[str, npt.NDArray[Any], npt.NDArray[np.float32]]


def main() -> None:
    """Denoise, measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundles", nargs="+")
    parser.add_argument("--pair", nargs=2, type=Path, action="append", default=[])
    parser.add_argument("--fresh", type=int, default=6)
    parser.add_argument("--followed", action="store_true")
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    bundles = [Bundle.load(name) for name in options.bundles]
    rows: list[dict[str, Any]] = []
    for movie, noisy, clean in movies_of(options):
        for bundle in bundles:
            rows.append({"movie": movie, "bundle": bundle.manifest.name, **measured(bundle, noisy, clean)})
            print(said(rows[-1]), flush=True)
            write_results(options.output, {"frames": options.frames, "rows": rows}, bundles)


def movies_of(options: argparse.Namespace) -> Iterator[Movie]:
    """Yield name, noisy movie and truth."""
    wanted = followed if options.followed else lambda _: True
    for noisy_path, clean_path in options.pair:
        noisy, clean = (tifffile.imread(path)[: options.frames] for path in (noisy_path, clean_path))
        if wanted(noisy):
            yield noisy_path.stem, noisy, clean.astype(np.float32)
    for name, movie in test_movies().items():
        noisy = movie.as_frames()[: options.frames]
        if wanted(noisy):
            yield name, noisy, movie.clean[: options.frames]
    yield from fresh(options.fresh, options.frames)


def followed(noisy: npt.NDArray[Any]) -> bool:
    """Return whether a stream would follow the scene."""
    return moves_anywhere(noisy, estimate_intensity(noisy[:CALIBRATION]), first=CALIBRATION)


def fresh(count: int, frames: int) -> Iterator[Movie]:
    """Yield random scenes that move from their first frames on."""
    index = -1
    while count:
        index += 1
        rng = np.random.default_rng((SEED, index))
        scene, camera = random_settings(rng, frames=frames, height=96, width=96, kinds=KINDS)
        if max(scene.jitter_px, scene.local_motion_px) < 0.05:
            continue
        movie = simulate(scene, camera, seed=int(rng.integers(2**31)))
        noisy = movie.as_frames()
        if moves(noisy[:CALIBRATION], estimate_intensity(noisy[:CALIBRATION])):
            count -= 1
            yield f"fresh {index}, {scene.kind}, {camera.photons:.2g} photons", noisy, movie.clean


def measured(bundle: Bundle, noisy: npt.NDArray[Any], clean: npt.NDArray[np.float32]) -> dict[str, Any]:
    """Return coverage without and with the factor."""
    inside = np.zeros((2, 2))
    frames, factor = 0, 1.0
    with Stream(bundle, std=True, start_within_s=None) as stream:
        if stream.bundle.manifest.two_sided:
            calibrate_stream(stream, noisy)
            stream.survey(noisy, 0, len(noisy))
        slow = SlowResidual.of(stream, len(noisy))
        for output in with_slow_residual(pushed(stream, noisy), slow, noisy.__getitem__):
            assert output.std is not None
            factor = output.deviation_factor
            error = np.abs(output.frame.astype(np.float32) - clean[output.meta.number]) / output.std
            for row, scale in enumerate((factor, 1.0)):
                inside[row] += (error * scale <= ONE).mean(), (error * scale <= TWO).mean()
            frames += 1
        follows = stream.tracks_motion
    (before_68, before_95), (after_68, after_95) = inside / frames
    return {
        "followed": follows,
        "factor": factor,
        "before_68": before_68,
        "before_95": before_95,
        "after_68": after_68,
        "after_95": after_95,
    }


def pushed(stream: Stream, noisy: npt.NDArray[Any]) -> Iterator[Denoised]:
    """Yield the outputs of a movie."""
    for number, frame in enumerate(noisy):
        yield from stream.push(frame, FrameMeta(number, number / 30))
    yield from stream.flush()


def said(row: dict[str, Any]) -> str:
    """Return a row in words."""
    before, after = (f"{row[f'{k}_68']:.0%}, {row[f'{k}_95']:.0%}" for k in ("before", "after"))
    how = f"factor {row['factor']:.2f}" if row["followed"] else "not followed"
    return f"{row['movie']} {row['bundle']}: {before} -> {after} ({how})"


if __name__ == "__main__":
    main()
