"""Look at denoised frames in your loop, and end the recording when you have seen enough."""

import tifffile

from denoscope.acquisition import LiveSession, demo_movie

if __name__ == "__main__":
    tifffile.imwrite("movie.tif", demo_movie().frames[:60, :64, :64])
    # `core` is demo, a configuration file or HOST:PORT at the microscope.
    settings = {"core": "watch:movie.tif", "output": "run", "bundle": "live-fast", "picture": False}
    with LiveSession(**settings) as session:
        for frame in session.frames():
            peak = frame.denoised.argmax()
            error = frame.std.flat[peak]
            if frame.number % 10 == 0:
                raw, denoised = frame.raw.flat[peak], frame.denoised.flat[peak]
                print(f"frame {frame.number}, {frame.delay_s * 1e3:.0f} ms after the camera")
                print(f"brightest pixel: raw {raw}, denoised {denoised} +- {error:.0f}")
            if frame.number == 40:
                session.stop()  # every raw frame so far is saved
    print(session.report.outcome.message)
