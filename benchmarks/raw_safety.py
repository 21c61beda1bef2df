"""Show what happens to the raw data when things go wrong: one real session a row, in a separate process.

    python benchmarks/raw_safety.py [--bundle B] [--backend B] [--row NAME]... [--jobs N] [--json]

Each row records from a real Micro-Manager core, does something bad to the session, and compares what
lies on the disk with what the camera sent, bit for bit. `missing` counts frames received and not
readable; `age` is how old the newest readable frame was when a killed process died.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("train", "export", "runtime", "acquisition")
LENGTH, SIZE, FPS = 97, 64, 60.0


@dataclass(frozen=True)
class Row:
    """One way to end a session, and what must come of it."""

    name: str
    what: str
    exit_code: int
    frames: int | None = 240
    slow_s: float = 0.0
    raise_on: int = 0
    kill_after_s: float = 0.0
    signal: str = ""
    file_limit_mb: int = 0
    disk_low: bool = False
    overflow: bool = False
    patient: bool = False  # a busy computer may denoise late; nothing is skipped for it


ROWS = (
    Row("plain", "nothing goes wrong", 0, patient=True),
    Row("slow", "denoiser takes 200 ms a frame more", 0, slow_s=0.2),
    Row("raises", "denoiser raises on frame 50", 1, raise_on=50, patient=True),
    Row("interrupt", "SIGINT after 2 s", 130, frames=None, kill_after_s=2.0, signal="SIGINT"),
    Row("terminate", "SIGTERM after 2 s", 130, frames=None, kill_after_s=2.0, signal="SIGTERM"),
    Row("kill", "kill -9 after 2.5 s", -9, frames=None, kill_after_s=2.5, signal="SIGKILL"),
    Row("disk-full", "disk refuses after 1 MB", 2, file_limit_mb=1),
    Row("disk-low", "free space falls under the reserve", 2, frames=None, disk_low=True),
    Row("overflow", "disk stalls until the core's buffer overflows", 1, frames=None, overflow=True),
)


def movie() -> np.ndarray[Any, np.dtype[np.uint16]]:
    """Return the replayed movie ``(T, H, W)``: noise, and each frame stamped with its number."""
    frames = np.random.default_rng(7).poisson(200, (LENGTH, SIZE, SIZE)).astype(np.uint16)
    frames[:, 0, 0] = np.arange(LENGTH)
    return frames


class Spoiled:
    """A stream that is slow, or raises, as the row asks."""

    def __init__(self, stream: Any, slow_s: float, raise_on: int) -> None:
        self._stream = stream
        self._slow_s = slow_s
        self._raise_on = raise_on
        self._pushed = 0

    def push(self, frame: Any, meta: Any, *, skip: str | None = None) -> Any:
        """Push to the stream, after the delay or the exception."""
        self._pushed += 1
        if self._pushed == self._raise_on:
            raise RuntimeError(f"frame {self._raise_on} was one too many")
        time.sleep(self._slow_s)
        return self._stream.push(frame, meta, skip=skip)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def child(row: Row, folder: Path, bundle: str, backend: str) -> int:
    """Run the session of `row` in this process and return its exit code."""
    from denoscope.acquisition import RawWriter, live, make_settings
    from denoscope.acquisition.session import supervisor as _supervisor
    from denoscope.acquisition.session.ending.summary import summary
    from denoscope.acquisition.session.opening import open_run as _opening

    if row.file_limit_mb:
        import resource

        # Python ignores SIGXFSZ, so a write beyond the limit fails as on a full disk.
        resource.setrlimit(resource.RLIMIT_FSIZE, (row.file_limit_mb * 10**6, resource.RLIM_INFINITY))
    if row.disk_low:
        began_s = time.perf_counter()
        _supervisor.free_bytes = lambda _folder: 10**12 if time.perf_counter() - began_s < 3 else 10**6
    values: dict[str, Any] = {"core": "demo", "movie": folder / "movie.tif", "fps": FPS}
    if row.overflow:
        append = RawWriter.append

        def stalled(self: Any, frame: Any) -> int:
            if self.written >= 20:
                time.sleep(0.05)
            return append(self, frame)

        RawWriter.append = stalled  # type: ignore[method-assign]
        values = {"core": "MMConfig_demo.cfg", "buffer_mb": 8, "raw_queue_mb": 1}
    if row.patient:
        values["lag_s"] = 60.0
        _opening.QUEUE_FRAMES = 1000
    settings = make_settings(
        output=folder / "run",
        bundle=bundle,
        backend=backend,
        frames=row.frames,
        threads=1,
        picture=False,
        finish_s=60.0 if row.patient else 1.0,
        force=True,  # a busy disk must not keep a row from what it is about
        rescue=folder / "elsewhere",
        **values,
    )
    report = live(
        settings,
        on_status=lambda *_: print("recording", flush=True),
        wrap=lambda stream: Spoiled(stream, row.slow_s, row.raise_on),
    )
    print(summary(report), flush=True)
    return report.outcome.exit_code


def run(row: Row, bundle: str, backend: str) -> dict[str, Any]:
    """Run one row and return its numbers."""
    if sys.platform == "win32" and (row.file_limit_mb or row.signal):
        return {"row": row.name, "what": row.what, "skipped": "needs POSIX signals and limits"}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        tifffile.imwrite(folder / "movie.tif", movie())
        paths = [str(ROOT / part) for part in PARTS] + [os.environ.get("PYTHONPATH", "")]
        command = [sys.executable, __file__, "--child", str(folder), "--row", row.name]
        command += ["--bundle", bundle, "--backend", backend]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        killed_unix_s = 0.0
        said: list[str] = []
        if row.signal:
            assert process.stdout is not None
            # The clock starts with the first sign of recording.
            said.append(process.stdout.readline())
            time.sleep(row.kill_after_s)
            killed_unix_s = time.time()
            process.send_signal(getattr(signal, row.signal))
        try:
            output, _ = process.communicate(timeout=300)
        finally:
            process.kill()
        said += [line for line in output.splitlines() if line != "recording"]
        return _inspect(row, folder / "run", process.returncode, said, killed_unix_s)


def _inspect(row: Row, run_folder: Path, code: int, said: list[str], killed_unix_s: float) -> dict[str, Any]:
    from denoscope.acquisition import read_raw

    if not (run_folder / "raw.tif").exists():
        return {"row": row.name, "what": row.what, "exit_code": code, "message": " ".join(said)}
    recording = read_raw(run_folder)
    frames = list(recording.frames())
    numbers = [record["number"] for record in recording.records]
    sent = movie()
    exact = row.overflow or all(np.array_equal(frame, sent[i % LENGTH]) for i, frame in enumerate(frames))
    path = run_folder / "report.json"
    report = json.loads(path.read_text()) if path.exists() else None
    counts = report["frames"] if report else {}
    saved = 0
    for folder in (run_folder.parent / "elsewhere").glob("*"):
        elsewhere = read_raw(folder)
        first = len(frames)
        exact &= all(
            np.array_equal(each, sent[(first + i) % LENGTH]) for i, each in enumerate(elsewhere.frames())
        )
        saved += len(elsewhere)
    received = counts.get("received", len(frames))
    dropped = counts.get("dropped", {})
    emitted = counts.get("denoised", 0)
    last = recording.records[-1]["core_unix_s"] if recording.records else 0.0
    return {
        "row": row.name,
        "what": row.what,
        "received": received,
        "readable": len(frames),
        "sidecar": len(recording.records),
        "rescued": saved,
        "missing": received - len(frames) - saved,
        "in_order": numbers == list(range(len(numbers))),
        "bit_exact": bool(exact),
        "denoised": emitted,
        "dropped": dropped,
        "balanced": not report or received == emitted + sum(dropped.values()) + counts["in_flight"],
        "age_s": round(killed_unix_s - last, 3) if row.signal == "SIGKILL" else None,
        "reason": report["outcome"]["reason"] if report else None,
        "exit_code": code,
        "expected_exit_code": row.exit_code,
        "message": "; ".join(report["outcome"]["problems"]) if report else " ".join(said[1:]),
    }


def main() -> None:
    """Run the rows and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", default="live")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--row", action="append", choices=[row.name for row in ROWS])
    parser.add_argument("--jobs", type=int, default=1, help="rows at the same time")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    rows = [row for row in ROWS if not arguments.row or row.name in arguments.row]
    sys.path[:0] = [str(ROOT / part) for part in PARTS]
    if arguments.child:
        sys.exit(child(rows[0], arguments.child, arguments.bundle, arguments.backend))
    with ThreadPoolExecutor(max(1, arguments.jobs)) as pool:
        results = list(pool.map(lambda row: run(row, arguments.bundle, arguments.backend), rows))
    if arguments.json:
        print(json.dumps(results))
        return
    head = (
        "row",
        "received",
        "readable",
        "missing",
        "in_order",
        "bit_exact",
        "denoised",
        "age_s",
        "exit_code",
    )
    print("  ".join(f"{name:>9}" for name in head) + "  message")
    for result in results:
        cells = (f"{result.get(name, '-')!s:>9}" for name in head)
        print("  ".join(cells) + f"  {result.get('message') or result.get('skipped') or ''}")


if __name__ == "__main__":
    main()
