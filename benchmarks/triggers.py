"""Measure triggers: delay from camera to action, hits and false alarms by SNR, and what 1,000 regions cost a frame.

    python benchmarks/triggers.py [--fps 30] [--frames 300] [--bundle live-fast] [--output FILE]

The delay is that of real sessions on the demo core, each in a separate process; the firings of the first second,
which wait until the noise is known, are also listed by themselves. Hits and false alarms are those of a simulated cell
whose events are a few times as high as the raw mean's noise: a threshold is put where the trace without events crosses
it in one of a thousand frames, for the raw and for the denoised mean alike.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from _provenance import write_results

_CHILD = """
import json, sys, tifffile
from denoscope.acquisition import live
movie, output, bundle, fps, frames, ahead = sys.argv[1:]
report = live(core="demo", movie=movie, fps=float(fps), frames=int(frames), output=output, bundle=bundle,
              look_ahead=int(ahead), trigger=["frame raw > 1150"], hold_off_s=0, picture=False, threads=1)
fired = report.triggers[0]
lines = (json.loads(line) for line in open(output + "/log.jsonl", encoding="utf-8"))
delays = {each["frame"]: each["delay_s"] for each in lines if each["event"] == "trigger"}
early = [delay for frame, delay in delays.items() if frame < float(fps)]
later = sorted(delay for frame, delay in delays.items() if frame >= float(fps))
print(json.dumps({"fired": fired.fired, "p50_s": fired.delay_p50_s, "p99_s": fired.delay_p99_s,
                  "max_s": max(delays.values()), "of_frame_0_s": delays[0],
                  "first_second_s": early, "later_p99_s": later[int(0.99 * (len(later) - 1))],
                  "session_p50_s": report.timing.latency_p50_s}))
"""


def delay(fps: float, frames: int, bundle: str, look_ahead: int) -> dict[str, Any]:
    """Record flashes on the demo core with a trigger; return its delays."""
    with tempfile.TemporaryDirectory() as place:
        # Cells on a background: in even light nothing would tell the gain of the camera.
        rng = np.random.default_rng(0)
        places = rng.uniform(0, 128, (40, 2))
        rows, columns = np.mgrid[:128, :128]
        light = sum(np.exp(-(np.hypot(rows - y, columns - x) ** 2) / 50) for y, x in places)
        light = 1000 + 500 * (light - np.mean(light))
        movie = rng.poisson(light, (40, 128, 128)).astype(np.uint16)
        movie[::5] += 300
        tifffile.imwrite(Path(place) / "movie.tif", movie)
        words = [f"{place}/movie.tif", f"{place}/run", bundle, fps, frames, look_ahead]
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, *map(str, words)], capture_output=True, text=True, check=True
        )
        return {"look_ahead": look_ahead, "fps": fps, **json.loads(done.stdout.splitlines()[-1])}


def detection(bundle: str, frames: int, seed: int = 3) -> list[dict[str, Any]]:
    """Return hits and false alarms of thresholds on raw and denoised means, by SNR."""
    from denoscope.acquisition import RegionMeter, Regions
    from denoscope.runtime import FrameMeta, Stream

    rows, columns = np.mgrid[:64, :64]
    cell = np.hypot(rows - 32, columns - 32) < 4
    regions = Regions.from_labels(cell.astype(np.uint8))
    light = 20.0 + 20.0 * cell
    noise = float(np.sqrt(40.0 / cell.sum()))  # of the raw mean
    results = []
    for snr in (1.0, 2.0, 3.0, 5.0):
        rng = np.random.default_rng(seed)
        events = np.zeros(frames)
        for start in range(100, frames - 10, 40):
            events[start : start + 6] = snr * noise * np.exp(-np.arange(6) / 4)
        meter, values = RegionMeter(regions), []
        with Stream(bundle, look_ahead=0, threads=1) as stream:
            outputs, raws = [], []
            for number in range(frames):
                raws.append(rng.poisson(light + events[number] * cell).astype(np.uint16))
                outputs += stream.push(raws[-1].astype(np.float32), FrameMeta(number, number / 30))
            outputs += stream.flush()
        for out in outputs:
            traces = meter.measure(raws[out.meta.number], out.frame, None)
            values.append((traces.raw[0], traces.denoised[0]))
        calm = np.ones(frames, bool)
        calm[:60] = False
        for start in range(100, frames - 10, 40):
            calm[start - 1 : start + 20] = False
        starts = np.arange(100, frames - 10, 40)
        for name, trace in zip(("raw", "denoised"), np.array(values).T, strict=True):
            limit = np.median(trace[calm]) + 3.09 * 1.4826 * np.median(
                np.abs(trace[calm] - np.median(trace[calm]))
            )
            hits = np.mean([np.any(trace[start : start + 6] > limit) for start in starts])
            alarms = float(np.mean(trace[calm] > limit))
            results.append({"snr": snr, "trace": name, "hits": float(hits), "false_alarms_per_frame": alarms})
    return results


def cost(count: int = 1000, side: int = 512, turns: int = 300) -> dict[str, Any]:
    """Return the processor time of measuring so many regions in one frame."""
    from denoscope.acquisition import RegionMeter, Regions

    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[-7:8, -7:8]
    disc = np.hypot(rows, columns) <= 7
    pixels = []
    for y, x in rng.integers(8, side - 8, (count, 2)):
        pixels.append(((rows[disc] + y) * side + columns[disc] + x).astype(np.intp))
    meter = RegionMeter(Regions((side, side), [str(n) for n in range(count)], pixels))
    raw = rng.integers(0, 4000, (8, side, side)).astype(np.uint16)
    std = rng.random((side, side), np.float32)
    times = []
    for turn in range(turns):
        began = time.thread_time()
        meter.measure(raw[turn % 8], raw[(turn + 1) % 8], std)
        times.append(time.thread_time() - began)
    return {
        "regions": count,
        "side": side,
        "median_s": float(np.median(times)),
        "p99_s": float(np.quantile(times, 0.99)),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fps", type=float, default=30.0)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--bundle", default="live-fast")
    parser.add_argument("--only", choices=["delay", "detection", "cost"])
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    if arguments.only in (None, "cost"):
        rows.append({"row": "cost", **cost()})
    if arguments.only in (None, "detection"):
        rows += [
            {"row": "detection", **each} for each in detection(arguments.bundle, max(arguments.frames, 600))
        ]
    if arguments.only in (None, "delay"):
        rows += [
            {"row": "delay", **delay(arguments.fps, arguments.frames, arguments.bundle, ahead)}
            for ahead in (0, 3)
        ]
    for row in rows:
        print(json.dumps(row), flush=True)
    if arguments.output is not None:
        write_results(arguments.output, rows, [arguments.bundle], indent=1)


if __name__ == "__main__":
    main()
