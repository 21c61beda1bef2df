"""Denoise a recorded movie into a file, with its predicted error, as `denoscope denoise` does."""

import tifffile

from denoscope.acquisition import demo_movie, denoise_movie

if __name__ == "__main__":
    tifffile.imwrite("movie.tif", demo_movie().frames[:40, :64, :64])  # your movie takes its place

    done = denoise_movie("movie.tif", "clean.ome.tif", std="error.tif", picture=True)
    for note in done.notes:
        print(note)

    clean, error = tifffile.imread("clean.ome.tif"), tifffile.imread("error.tif")
    print(f"{done.frames} frames of {clean.shape[1:]} pixels, {clean.dtype}, like the movie")
    print(f"before and after: {done.picture}")
    print(f"predicted error: {error.mean():.0f} counts on average")
