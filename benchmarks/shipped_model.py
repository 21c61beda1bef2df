"""Train the shipped bundle `live` from nothing, measure it, and write it into the package.

    python benchmarks/shipped_model.py DATA --minutes 60

DATA holds the movies that the card names (real ones to learn from, pairs with truth to measure on).
Only the first part of each real movie is learned from; the pairs with truth never are. Training can be
interrupted and continued with --resume.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import tifffile
from anscombe_transform.codec import make_anscombe_lookup, make_inverse_lookup
from make_demo_movie import BETA, GAIN, ZERO_LEVEL
from rich.progress import Progress

from denoscope.export import export_bundle
from denoscope.runtime import QualityRecord, estimate_intensity
from denoscope.train import FitSettings, TrainingMovie, fit, movie_from_file, simulated_movies, test_movie
from denoscope.train._evaluate import evaluate_pair

BUNDLES = Path(__file__).parent.parent / "runtime" / "denoscope" / "runtime" / "bundles"
PARTS = {"real_1p_gcamp": 100, "real_confocal_lysosome_01": 50, "real_tirf_200hz": 15}
TWO_PHOTON_FRAMES = 150  # the demo replays what comes after
PAIRS = ("naomi_a_static_high", "naomi_a_static_mid", "naomi_a_motion_high")


def training_movies(data: Path, simulated: int, seed: int) -> list[TrainingMovie]:
    """Return the simulated movies and the training part of each real one."""
    with Progress() as bar:
        task = bar.add_task("simulating", total=simulated)
        movies = simulated_movies(simulated, seed=seed, progress=lambda n: bar.update(task, completed=n))
    movies += [movie_from_file(data / f"{name}.tif", slice(0, stop)) for name, stop in PARTS.items()]
    levels = make_inverse_lookup(make_anscombe_lookup(GAIN, zero_level=ZERO_LEVEL, beta=BETA)).astype(
        np.uint16
    )
    two_photon = levels[tifffile.imread(data / "real_2p_gcamp_codes.tif")[:TWO_PHOTON_FRAMES]]
    movies.append(TrainingMovie("real_2p_gcamp", two_photon, None, estimate_intensity(two_photon[:32])))
    return movies


def main() -> None:
    """Train, export, measure, and export again with the measurements on the card."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--simulated", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path, default=Path("runs/live.safetensors"))
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--output", type=Path, default=BUNDLES / "live.denoscope")
    arguments = parser.parse_args()

    movies = training_movies(arguments.data, arguments.simulated, arguments.seed)
    with Progress() as bar:
        task = bar.add_task("training", total=1)
        result = fit(
            movies,
            arguments.checkpoint,
            settings=FitSettings(minutes=arguments.minutes, seed=arguments.seed),
            resume=arguments.resume,
            on_progress=lambda p: bar.update(
                task, completed=p.done, description=f"training, step {p.step}, loss {p.loss:.3f}"
            ),
        )
    trained_on = [
        f"{arguments.simulated} simulated two-photon movies with truth, "
        f"0.1 to 100 photons a pixel, seed {arguments.seed}",
        *(f"{name}, frames 0 to {stop - 1}, without truth" for name, stop in PARTS.items()),
        f"real_2p_gcamp, frames 0 to {TWO_PHOTON_FRAMES - 1}, without truth",
        f"{result.steps} steps of {FitSettings.batch} windows in {result.seconds / 60:.0f} minutes on a CPU",
    ]
    with tempfile.TemporaryDirectory() as folder:
        draft = export_bundle(
            result.network, Path(folder) / "live.denoscope", name="live", trained_on=trained_on
        )
        simulated = test_movie()
        pairs = [("simulated test movie", simulated.as_uint16(), simulated.clean)]
        for name in PAIRS:
            clean = tifffile.imread(arguments.data / f"{name}_clean.tif")
            pairs.append((name, tifffile.imread(arguments.data / f"{name}_noisy.tif"), clean))
        quality = []
        for name, noisy, clean in pairs:
            pair = evaluate_pair(name, noisy, np.asarray(clean), [draft])
            scores = {row.method: row for row in pair.rows}
            print(
                name,
                {m: round(r.score.psnr_db, 2) for m, r in scores.items()},
                pair.coverage_68,
                pair.coverage_95,
            )
            for metric, value, baseline in (
                ("PSNR, dB (peak: maximum)", scores["live"].score.psnr_db, scores["gaussian"].score.psnr_db),
                ("SSIM", scores["live"].score.ssim, scores["gaussian"].score.ssim),
            ):
                quality.append(
                    QualityRecord(
                        movie=name,
                        metric=metric,
                        value=value,
                        baseline=baseline,
                        baseline_name="3-D Gaussian tuned on the truth",
                    )
                )
    export_bundle(result.network, arguments.output, name="live", trained_on=trained_on, quality=quality)
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()
