"""Look at denoised frames in a loop of your own, and end the recording when you have seen enough."""

import tifffile

from denoscope.acquisition import LiveSession, demo_movie

if __name__ == "__main__":
    tifffile.imwrite("movie.tif", demo_movie().frames[:60, :64, :64])
    # `core` is demo, a configuration file or HOST:PORT at the microscope.
    with LiveSession(core="watch:movie.tif", output="run", bundle="live-fast", picture=False) as session:
        for frame in session.frames():
            peak = frame.denoised.argmax()
            error = frame.std.flat[peak]
            if frame.number % 10 == 0:
                print(
                    f"frame {frame.number}: brightest pixel raw {frame.raw.flat[peak]}, denoised "
                    f"{frame.denoised.flat[peak]} +- {error:.0f}, {frame.delay_s * 1e3:.0f} ms after the camera"
                )
            if frame.number == 40:
                session.stop()  # every raw frame so far is saved
    print(session.report.outcome.message)
