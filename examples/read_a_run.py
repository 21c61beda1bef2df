"""Record from a replayed movie, then read the run folder: raw frames, their times, the report."""

import tifffile

from denoscope.acquisition import demo_movie, live, read_raw

if __name__ == "__main__":
    tifffile.imwrite("movie.tif", demo_movie().frames[:48, :64, :64])
    # `core` is demo, a configuration file or HOST:PORT at the microscope.
    report = live(core="replay:movie.tif", output="run", fps=60, picture=False)
    print(report.outcome.message)

    raw = read_raw("run")
    times = [record["received_s"] for record in raw.records]
    print(f"{len(raw)} raw frames of {raw.read().shape[1:]} pixels, {raw.read().dtype}")
    print(f"first {times[0]:.2f} s, last {times[-1]:.2f} s")
    print(f"denoised: {report.frames.denoised}, skipped while recording: {report.frames.dropped}")
    print(f"denoised movie: {tifffile.imread('run/denoised.ome.tif').shape}")
