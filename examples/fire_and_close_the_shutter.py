"""Close the shutter when a cell fires, in five steps, on the demo core of Micro-Manager."""

import numpy as np
import tifffile

from denoscope.acquisition import demo_movie, denoise_movie, find_cells, live, read_traces

if __name__ == "__main__":
    # 1. Connect. At the microscope `core` is your FILE.cfg; demo replays a movie through a core.
    tifffile.imwrite("movie.tif", demo_movie().frames[:150, :96, :96])
    microscope = {"core": "demo", "movie": "movie.tif", "fps": 20}

    # 2. Find the cells in a movie of the same field of view, or take ROIs of ImageJ or suite2p.
    frames = tifffile.imread("movie.tif").astype(float)
    cells = find_cells([frames.mean(0), frames.max(0) - frames.mean(0)], radius_px=6)
    tifffile.imwrite("cells.tif", cells.labels())

    # 3. Look at their traces, and choose a cell and a threshold well above its noise.
    denoise_movie("movie.tif", "clean.ome.tif", bundle="live-fast", regions="cells.tif")
    traces = read_traces("clean_traces.csv")
    cell = int(np.argmax(traces.dff[10:].max(0)))
    threshold = float(traces.dff[10:, cell].max() / 2)
    condition = f"region {traces.names[cell]} dff > {threshold:.3f} for 2 frames"
    print(f"region {traces.names[cell]} of {len(cells)} fires with dF/F up to {2 * threshold:.2f}")

    # 4. Arm the trigger and record.
    report = live(
        **microscope,
        output="run",
        frames=150,
        bundle="live-fast",
        look_ahead=0,
        lag_s=10,  # rather a late frame than none, on a computer that is busy with other things
        regions="cells.tif",
        trigger=[f"{condition} then shutter close"],
        trigger_limit=1,
        picture=False,
    )

    # 5. See what happened: in the report, in log.jsonl, and in traces.csv.
    fired = report.triggers[0]
    assert fired.delay_p50_s is not None
    late_ms = fired.delay_p50_s * 1e3
    print(f"the shutter closed {fired.done} time, {late_ms:.0f} ms after the camera's frame")
    print(f"{len(read_traces('run'))} frames in traces.csv")
    print(f"raw {report.frames.written_raw}/{report.frames.received}")
