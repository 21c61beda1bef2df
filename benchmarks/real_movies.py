"""Bundles on real movies: what can be said without truth, and objects followed in noise added to clean ones.

    python benchmarks/real_movies.py DATA [BUNDLE ...] --output DIR [--only NAME ...]

DATA holds the real samples that `MOVIES` names. The confocal movies are nearly free of noise: each is
measured with photon noise added, so that its truth is known and the objects of every frame can be
followed before and after. Writes evaluation.json, evaluation.md and pictures, as `denoscope evaluate`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from _provenance import write_results

from denoscope.runtime import Bundle, open_movie
from denoscope.train.evaluation.pictures import save_comparison, save_movie_pictures, save_reliability
from denoscope.train.evaluation.real import evaluate_movie
from denoscope.train.evaluation.tables import ResultTable, movie_tables, pair_tables
from denoscope.train.evaluation.truth import evaluate_pair

Movie = npt.NDArray[Any]

GAIN, OFFSET, READ_NOISE = 20.0, 100.0, 10.0  # of the camera that is imitated, in counts


@dataclass(frozen=True)
class Sample:
    """One real movie: its file, radius of its objects in pixels, how to read it, photons to add noise at."""

    file: str
    radius_px: float
    decode: Callable[[Movie], Movie] = np.asarray
    photons: float | None = None


def decode_codes(codes: Movie) -> Movie:
    """Turn variance-stabilised codes into the intensities they stand for."""
    from anscombe_transform.codec import make_anscombe_lookup, make_inverse_lookup
    from make_demo_movie import BETA, GAIN, ZERO_LEVEL

    levels = make_inverse_lookup(make_anscombe_lookup(GAIN, zero_level=ZERO_LEVEL, beta=BETA))
    return levels.astype(np.uint16)[codes]


def add_noise(movie: Movie, photons: float, seed: int) -> tuple[Movie, Movie]:
    """Return the noisy movie (uint16) and its expected counts at a mean of `photons` a pixel."""
    rng = np.random.default_rng(seed)
    light = movie.astype(np.float64) - movie.min()
    light *= photons / light.mean()
    noisy = rng.poisson(light) * GAIN + OFFSET + rng.normal(0, READ_NOISE, light.shape)
    clean = (light * GAIN + OFFSET).astype(np.float32)
    return np.clip(np.rint(noisy), 0, 65535).astype(np.uint16), clean


MOVIES = {
    "two-photon GCaMP": Sample("real_2p_gcamp_codes.tif", 2.5, decode_codes),
    "one-photon GCaMP": Sample("real_1p_gcamp.tif", 4.0),
    "TIRF microtubules": Sample("real_tirf_200hz.tif", 2.0),
    "lysosomes 1, 3 photons": Sample("real_confocal_lysosome_01.tif", 3.0, photons=3.0),
    "lysosomes 2, 3 photons": Sample("real_confocal_lysosome_02.tif", 3.0, photons=3.0),
    "lysosomes 3, 3 photons": Sample("real_confocal_lysosome_03.tif", 3.0, photons=3.0),
}


def main() -> None:
    """Measure, print, write and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("bundles", nargs="*", default=["live"])
    parser.add_argument("--only", nargs="+", choices=MOVIES, default=list(MOVIES))
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()

    options.output.mkdir(parents=True, exist_ok=True)
    bundles = [Bundle.load(b) for b in options.bundles]
    report: dict[str, list[Any]] = {"pairs": [], "movies": []}
    pages: list[str] = []
    for name in options.only:
        sample = MOVIES[name]
        noisy = sample.decode(np.asarray(open_movie(options.data / sample.file)))
        stem = name.replace(", ", "_").replace(" ", "_")
        tables: list[ResultTable] = []
        if sample.photons is not None:
            noisy, clean = add_noise(noisy, sample.photons, seed=0)
            pair = evaluate_pair(
                name, noisy, clean, bundles, backend=options.backend, radius_px=sample.radius_px
            )
            save_comparison(pair, clean, options.output / f"{stem}.png")
            if pair.reliability:
                save_reliability(pair, options.output / f"{stem}_reliability.png")
            report["pairs"].append(pair.record().model_dump(mode="json"))
            tables = pair_tables(pair)
        result = evaluate_movie(
            name,
            noisy,
            bundles,
            backend=options.backend,
            radius_px=sample.radius_px,
            track=sample.photons is not None,
        )
        save_movie_pictures(result, options.output, stem)
        report["movies"].append(result.record().model_dump(mode="json"))
        tables += movie_tables(result)
        pages.append("\n".join(t.markdown() for t in tables))
        print(pages[-1], flush=True)
    (options.output / "evaluation.md").write_text("\n".join(pages), encoding="utf-8")
    write_results(options.output / "evaluation.json", report, bundles, indent=2)


if __name__ == "__main__":
    main()
