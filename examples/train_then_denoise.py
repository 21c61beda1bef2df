"""Adapt the shipped model to your movie, save it as a bundle, and denoise the movie with it."""

from pathlib import Path

import tifffile

from denoscope.acquisition import demo_movie, train_bundle
from denoscope.runtime import Bundle, FrameMeta, Stream

if __name__ == "__main__":
    movie = Path("movie.tif")  # your movie takes its place
    tifffile.imwrite(movie, demo_movie().frames[:60, :96, :96])

    trained = train_bundle([movie], Path("mine.denoscope"), steps=6)  # minutes=2 for real
    for verdict in trained.verdicts:
        print(verdict)

    with Stream(Bundle.load(trained.bundle)) as stream:
        denoised = []
        for number, frame in enumerate(tifffile.imread(movie)):
            denoised += stream.push(frame, FrameMeta(number=number, t_received_s=number / 30))
        denoised += stream.flush()
    tifffile.imwrite("denoised.tif", [each.frame for each in denoised])
    print(f"{len(denoised)} frames in denoised.tif")
