"""Adapt the shipped model to your movie, save it as a bundle, and denoise the movie with it."""

from pathlib import Path

import tifffile

from denoscope.acquisition import demo_movie
from denoscope.export import export_bundle, load_network
from denoscope.runtime import Bundle, FrameMeta, Stream
from denoscope.train import ADAPTATION_RATE, FitSettings, fit, movie_from_file

if __name__ == "__main__":
    movie = Path("movie.tif")  # your movie takes its place
    tifffile.imwrite(movie, demo_movie().frames[:60, :96, :96])

    shipped = load_network(Bundle.load("live"))
    settings = FitSettings(steps=6, batch=2, learning_rate=ADAPTATION_RATE, caution=0)  # minutes=2 for real
    result = fit(
        [movie_from_file(movie)],
        settings=settings,
        network=shipped.settings,
        start=shipped.state_dict(),
    )
    print(f"held-out score {result.score_before:.4f} -> {result.score_after:.4f}, lower is better")
    print(
        "the trained weights are kept"
        if result.improved
        else "training did not help: the shipped weights are kept"
    )

    bundle = export_bundle(result.network, Path("mine.denoscope"), name="mine", trained_on=["movie.tif"])
    with Stream(bundle) as stream:
        denoised = []
        for number, frame in enumerate(tifffile.imread(movie)):
            denoised += stream.push(frame, FrameMeta(number=number, t_received_s=number / 30))
        denoised += stream.flush()
    tifffile.imwrite("denoised.tif", [each.frame for each in denoised])
    print(f"{len(denoised)} frames in denoised.tif")
