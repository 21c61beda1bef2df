"""Every known fault, each in a real recording in a separate process, frames counted.

    python benchmarks/fault_matrix.py [--part recordings|programs] [--row NAME]... [--bundle B] [--kills 50]
        [--jobs N] [--output FILE.json] [--resume] [--json]

Each row starts a session (`fault_session.py`), does something bad to it, to its denoiser's process, to its
folder or to its camera, and compares what lies on the disk with what was sent, bit for bit. `missing` counts
frames received that cannot be read; after ``kill -9`` nobody can say what was received, so `age_s` is how old
the newest readable frame was at that moment. The rows of `raw_safety.py` are run as they are. Prints the
table as Markdown. Rows that need POSIX signals or a file system of their own are skipped elsewhere.

Results are written after each row, in the order of the rows. `--resume` keeps those of the file's rows that are as
they should be and runs the others; each row says of which commit it is.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / part) for part in ("train", "export", "runtime", "acquisition", "tests")]

import raw_safety  # noqa: E402
from _provenance import provenance, read_rows, write_results  # noqa: E402
from fault_session import sent  # noqa: E402
from fault_shell import SHELL_ROWS  # noqa: E402

from support.tiny_bundle import tiny_bundle  # noqa: E402

Session = subprocess.Popen[str]
BRIDGE = "replay@"
POSIX = sys.platform != "win32"
RAISING = """
import sys
if any("denoisers.process" in word for word in sys.orig_argv):
    from denoscope.acquisition.denoisers.routing import Router
    push, count = Router.push, 0
    def failing(self, frame, meta, **more):
        global count
        count += 1
        if count == 50:
            raise ERROR
        return push(self, frame, meta, **more)
    Router.push = failing
"""


def _signal(who: str, pids: dict[str, int], name: str) -> None:
    time.sleep(1.5)
    os.kill(pids[who], getattr(signal, name))


def _stall(seconds: float) -> Callable[..., None]:
    def stall(process: Session, pids: dict[str, int], folder: Path) -> None:  # noqa: ARG001
        _signal("denoiser", pids, "SIGSTOP")
        time.sleep(seconds)
        os.kill(pids["denoiser"], signal.SIGCONT)

    return stall


def _hit(name: str, who: str = "denoiser") -> Callable[..., None]:
    return lambda process, pids, folder: _signal(who, pids, name)  # noqa: ARG005


def _while_filling(name: str) -> Callable[..., None]:
    def act(process: Session, pids: dict[str, int], folder: Path) -> None:  # noqa: ARG001
        assert process.stdout is not None
        while (line := process.stdout.readline()) and "filling" not in line:
            pass
        time.sleep(0.5)
        process.send_signal(getattr(signal, name))

    return act


def _bad_requests(process: Session, pids: dict[str, int], folder: Path) -> None:  # noqa: ARG001
    time.sleep(1.0)
    os.mkfifo(folder / "run" / "request-a.json")
    (folder / "run" / "request-b.json").write_text("[" * 900)
    (folder / "run" / "request-c.json").write_bytes(b"[" * 5_000_000)


def _stop_all(process: Session, pids: dict[str, int], folder: Path) -> None:  # noqa: ARG001
    time.sleep(1.5)
    for moment in (signal.SIGSTOP, signal.SIGCONT):
        for pid in (process.pid, pids["denoiser"]):
            os.kill(pid, moment)
        time.sleep(40.0 if moment is signal.SIGSTOP else 0.0)


def _storm(process: Session, pids: dict[str, int], folder: Path) -> None:  # noqa: ARG001
    time.sleep(1.5)
    while process.poll() is None:  # while it records, while it writes its report, while Python ends
        process.send_signal(signal.SIGINT)
        time.sleep(0.002)


def _twice(process: Session, pids: dict[str, int], folder: Path) -> None:  # noqa: ARG001
    time.sleep(5.0)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)


def _delete(folder: Path) -> None:
    """Delete a folder in which a session still makes files: one that appears meanwhile is deleted as well."""
    until = time.monotonic() + 10.0
    while folder.exists():
        try:
            shutil.rmtree(folder)
        except OSError:
            if time.monotonic() > until:
                raise


def _occupied(process: Session, pids: dict[str, int], folder: Path) -> None:  # noqa: ARG001
    time.sleep(2.0)
    (folder / "run-restored").mkdir()
    (folder / "other").mkdir()
    for name in ("raw.tif", "raw.jsonl"):
        (folder / "other" / name).write_text("somebody else's")
    _delete(folder / "run")
    (folder / "other").rename(folder / "run")


def _remove(process: Session, pids: dict[str, int], folder: Path) -> None:  # noqa: ARG001
    time.sleep(2.0)
    _delete(folder / "run")


def _unmount(process: Session, pids: dict[str, int], folder: Path) -> None:  # noqa: ARG001
    time.sleep(2.0)
    (folder / "unmount").touch()


def _rename(process: Session, pids: dict[str, int], folder: Path) -> None:  # noqa: ARG001
    time.sleep(2.0)
    (folder / "run").rename(folder / "moved")
    time.sleep(2.0)
    process.send_signal(signal.SIGINT)


@dataclass(frozen=True)
class Row:
    """One fault.

    Attributes
    ----------
    name, what
        Of the fault.
    session
        Of `fault_session.py`.
    exit_code
        What is right.
    says
        What the user must be told, somewhere in it.
    act
        What is done to the running session.
    bad_denoiser
        What the denoiser raises, in its own process.
    small_disk
        MB of the file system that is mounted for the run folder; 0 for none.
    lossless
        Whether every frame received must be readable; else the loss must be said.
    found
        Folder where the recording lies in the end.
    server
        What Micro-Manager does, of `fault_peer.py`, where the session is `BRIDGE`; empty: it is killed.
    records
        Whether there is a recording in the end; else nothing must be left.
    """

    name: str
    what: str
    session: str
    exit_code: int
    says: str
    act: Callable[..., None] | None = None
    bad_denoiser: str = ""
    small_disk: int = 0
    lossless: bool = True
    found: str = "run"
    posix: bool = True
    server: str = ""
    records: bool = True


ROWS = (
    Row(
        *("denoiser-stalls", "denoiser's process stands still for 10 s"),
        *("sixteen-seconds", 0, "computer too slow"),
        act=_stall(10),
    ),
    Row(
        *("denoiser-stalls-2s", "denoiser's process stands still for 2 s"),
        *("six-seconds", 0, "computer too slow"),
        act=_stall(2),
    ),
    Row(
        *("denoiser-hangs", "denoiser's process never answers again"),
        *("hang", 1, "gave no answer"),
        act=_hit("SIGSTOP"),
    ),
    Row(
        *("denoiser-killed", "kill -9 of the denoiser's process"),
        *("six-seconds", 1, "signal 9"),
        act=_hit("SIGKILL"),
    ),
    Row(
        *("denoiser-crashes", "segmentation fault in the denoiser's process"),
        *("six-seconds", 1, "Segmentation fault"),
        act=_hit("SIGSEGV"),
    ),
    Row(
        *("callback-hangs", "the user's function hangs at the first denoised frame"),
        *("callback-hangs", 1, "`on_denoised` did not come back"),
        posix=False,
    ),
    Row(
        *(
            "trigger-hangs",
            "the action of a trigger hangs, its socket's peer reads nothing, a third one raises",
        ),
        *("trigger-hangs", 1, "was left behind"),
        posix=False,
    ),
    Row(
        *("denoiser-raises", "exception in the denoiser's process on frame 50"),
        *("bounded", 1, "one too many"),
        bad_denoiser='RuntimeError("frame 50 was one too many")',
        posix=False,
    ),
    Row(
        *("denoiser-memory", "memory is used up in the denoiser's process on frame 50"),
        *("bounded", 1, "MemoryError"),
        bad_denoiser='MemoryError("Unable to allocate 7 PiB")',
        posix=False,
    ),
    Row(
        *("denoiser-recursion", "endless recursion in the denoiser's process on frame 50"),
        *("bounded", 1, "RecursionError"),
        bad_denoiser='RecursionError("maximum recursion depth exceeded")',
        posix=False,
    ),
    Row(
        *("filling-interrupted", "SIGINT while the skipped frames are computed at the end"),
        *("filling", 130, "denoise --fill"),
        act=_while_filling("SIGINT"),
    ),
    Row(
        *("filling-hangup", "the terminal is closed while the skipped frames are computed at the end"),
        *("filling", 0, "the denoised movie is complete"),
        act=_while_filling("SIGHUP"),
    ),
    Row(
        *("filling-killed", "kill -9 while the skipped frames are computed at the end"),
        *("filling", -9, ""),
        act=_while_filling("SIGKILL"),
    ),
    Row(
        *("filling-full", "the disk is full while the skipped frames are computed at the end"),
        *("filling-full", 1, "denoise --fill"),
        posix=False,
    ),
    Row(
        *("denoised-full", "no room for the denoised movie any more, while there is room for raw frames"),
        *("denoised-full", 1, "No space left"),
        posix=False,
    ),
    Row(
        *("trainer-killed", "kill -9 of the training process of `--adapt`"),
        *("adapting", 1, "the training process was ended by signal 9"),
        act=_hit("SIGKILL", "trainer"),
    ),
    Row(
        *("trainer-stalls", "training process stands still"),
        *("adapting-still", 1, "the training process made no progress"),
        act=_hit("SIGSTOP", "trainer"),
    ),
    Row(
        *("trainer-nan", "training offers a bundle whose pixels are no numbers"),
        *("adapting-nan", 0, "adapted-1.denoscope was not used"),
    ),
    Row(
        *("trainer-full", "disk full while the new bundle is saved"),
        *("adapting-full", 0, "the new bundle could not be saved"),
    ),
    Row(
        *("adapted-dies", "denoiser of a bundle that `--adapt` trained is killed after it took over"),
        *("adapting-dies", 1, "was denoised with tiny again"),
        posix=False,
    ),
    Row(
        *("viewer-stalls", "live view's process stands still from the second second on"),
        *("viewed-long", 0, "the live view stood still"),
        act=_hit("SIGSTOP", "viewer"),
    ),
    Row(
        *("viewer-traces-stall", "live view's process stands still while it shows traces"),
        *("viewed-traces", 0, "the live view stood still"),
        act=_hit("SIGSTOP", "viewer"),
    ),
    Row(
        *("viewer-killed", "kill -9 of the live view's process"),
        *("viewed", 0, "the live view was lost"),
        act=_hit("SIGKILL", "viewer"),
    ),
    Row(
        *("disk-slow", "disk takes two thirds of what the camera sends"),
        *("slow-disk", 0, "Raw 240/240 saved"),
        posix=False,
    ),
    Row(
        *("disk-full-real", "file system of 3 MB fills"),
        *("full-disk", 2, "No space left"),
        small_disk=3,
    ),
    Row(
        *("disk-read-only", "disk turns read-only while recording"),
        *("read-only-disk", 2, "Read-only file system"),
        posix=False,
    ),
    Row(
        *("disk-pulled", "disk is pulled out, and what it had not confirmed is gone with it"),
        *("pulled-disk", 2, "may be in both places"),
    ),
    Row(
        *("disk-hangs", "disk never answers to a write again, Ctrl-C twice after 5 s"),
        *("hung-disk", 2, "while writing raw frames and was given up"),
        act=_twice,
    ),
    Row(
        *("disk-hangs-5s", "disk does not answer to a write for 5 s"),
        *("hung-disk-5s", 0, "Raw 600/600 saved"),
        posix=False,
    ),
    Row(
        *("disk-never-confirms", "disk never confirms what was written, Ctrl-C twice after 5 s"),
        *("hung-confirmation", 2, "while confirming raw frames and was given up"),
        act=_twice,
    ),
    Row(
        *("odd-tags", "tags of every frame hold a circle, an object without words, an array, 5,000 digits"),
        *("odd-tags", 1, "a tag of frame 0 could not be written"),
        posix=False,
    ),
    Row(
        *("odd-frames", "the camera sends a frame without pixels and one of three colours"),
        *("odd-frames", 1, "no pictures"),
        posix=False,
    ),
    Row(
        *("folder-removed", "run folder removed while recording"),
        *("replay", 1, "was removed"),
        act=_remove,
    ),
    Row(
        *("mount-gone", "file system of the run folder is unmounted while recording"),
        *("replay", 1, "was removed"),
        act=_unmount,
        small_disk=600,
    ),
    Row(
        *("rescue-collides", "run folder removed, and others hold its name and RUN-restored"),
        *("replay", 1, "run-restored-2"),
        act=_occupied,
        found="run-restored-2",
    ),
    Row(
        *("bad-requests", "a FIFO, deep brackets and 5 MB as requests in the run folder"),
        *("six-seconds", 0, "Raw 360/360 saved"),
        act=_bad_requests,
    ),
    Row(
        *("all-stopped", "session and denoiser stand still for 40 s, as while a computer sleeps"),
        *("six-seconds", 0, "Raw 360/360 saved"),
        act=_stop_all,
    ),
    Row(
        *("signal-storm", "SIGINT every 2 ms until the process is gone"),
        *("replay", 130, "Interrupted by you"),
        act=_storm,
    ),
    Row(
        *("fsync-refused", "disk cannot confirm writes (EINVAL), as some network shares"),
        *("fsync", 1, "did not confirm"),
        posix=False,
    ),
    Row(
        *("sidecar-error", "EIO on every tenth line of the sidecar"),
        *("sidecar", 1, "writing raw.jsonl failed"),
        posix=False,
    ),
    Row(
        *("loop-raises", "exception in the session's main loop"),
        *("loop", 1, "the loop broke"),
        posix=False,
    ),
    Row(
        *("folder-moved", "run folder renamed while recording"),
        *("replay", 130, "could not be"),
        act=_rename,
        found="moved",
    ),
    Row(
        *("source-silent", "camera sends nothing for 4 s"),
        *("silent", 0, "Raw 180/180 saved"),
        posix=False,
    ),
    Row(
        *("source-lost", "Micro-Manager (over the bridge) is killed"),
        *(BRIDGE, 1, "was closed, or it crashed"),
        posix=False,
    ),
    Row(
        *("guest-taken", "a sequence runs in Micro-Manager already"),
        *(BRIDGE, 2, "a sequence runs in the Micro-Manager"),
        posix=False,
        server="taken",
        records=False,
    ),
    Row(
        *("guest-intruder", "the user stops our sequence in Micro-Manager and starts another"),
        *(BRIDGE, 1, "another program started a sequence"),
        posix=False,
        server="intruder",
    ),
    Row(
        *("guest-refused", "Micro-Manager raises an exception when the camera is started"),
        *(BRIDGE, 2, "refused startSequenceAcquisition: This operation"),
        posix=False,
        server="refuses",
        records=False,
    ),
    Row(
        *("guest-ahead", "Micro-Manager counts a frame before it can be fetched"),
        *(BRIDGE, 0, "Raw 240/240 saved"),
        posix=False,
        server="ahead",
    ),
    Row(
        *("guest-busy", "a script holds Micro-Manager for 5 s"),
        *(BRIDGE, 0, "was busy 1 time,"),
        posix=False,
        server="busy",
    ),
    Row(
        *("guest-overflow", "the camera sends more than the connection carries"),
        *(BRIDGE, 1, "sequence buffer in Micro-Manager's Tools"),
        posix=False,
        server="overflow",
    ),
    Row(
        *("guest-tags", "200 tags a frame, all texts, one with a Greek letter"),
        *(BRIDGE, 0, "question mark"),
        posix=False,
        server="tags",
    ),
    Row(
        *("source-restarted", "camera starts again at frame 0"),
        *("restarted", 0, "Raw 180/180 saved"),
        posix=False,
    ),
    Row(
        *("number-gap", "10 frames lost before they reach us"),
        *("gap", 0, "10 frames were lost"),
        posix=False,
    ),
    Row(
        *("wrong-shape", "a frame of another shape than its tags say, later a smaller ROI"),
        *("shape", 0, "1 skipped (shape disagrees"),
        posix=False,
    ),
    Row(
        *("clock-jump", "calendar and the core's stamps jump by hours"),
        *("clock", 0, "Raw 180/180 saved"),
        posix=False,
    ),
)
KILLS = "kill-9"
PARTS: dict[str, list[str]] = {
    "recordings": [*(row.name for row in raw_safety.ROWS), *(row.name for row in ROWS), KILLS],
    "programs": [*SHELL_ROWS],
}


def environment(folder: Path, row: Row | None = None) -> dict[str, str]:
    """Return the environment of a session, with what makes its denoiser raise where the row asks."""
    paths = [str(ROOT / part) for part in ("train", "export", "runtime", "acquisition", "tests")]
    if row is not None and row.bad_denoiser:
        (folder / "site").mkdir()
        (folder / "site" / "sitecustomize.py").write_text(RAISING.replace("ERROR", row.bad_denoiser))
        paths.insert(0, str(folder / "site"))
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])}


def command(row: Row, folder: Path, bundle: str, session: str) -> list[str]:
    """Return what starts a row's session."""
    words = [sys.executable, str(ROOT / "benchmarks" / "fault_session.py"), session, str(folder), bundle]
    if not row.small_disk:
        return words
    small = folder / "small"
    small.mkdir()
    mount = f"mount -t tmpfs -o size={row.small_disk}m tmpfs '{small}' && export FAULT_OUTPUT='{small}/run'"
    if (
        row.act is _unmount
    ):  # lazily, as where a drive is pulled out: files that are open stay so, without a name
        wait = f"while [ ! -e '{folder}/unmount' ]; do sleep 0.1; done"
        mount += f" && {{ ( {wait}; umount -l '{small}' ) & }}"
    keep = f"code=$?; cp -r '{small}'/run* '{folder}'; exit $code"
    return ["unshare", "-rm", "sh", "-c", f"{mount} && {{ {subprocess.list2cmdline(words)}; {keep}; }}"]


def can_mount() -> bool:
    """Return whether a user may mount a file system here; some systems give a name space and then refuse the rest."""
    if not shutil.which("unshare"):
        return False
    with tempfile.TemporaryDirectory() as place:
        words = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", place]
        return subprocess.run(words, capture_output=True, check=False).returncode == 0


def skipped(row: Row) -> str | None:
    """Return why a row cannot be run here, or None."""
    if row.posix and not POSIX:
        return "needs POSIX"
    if row.small_disk and not can_mount():
        return "needs a mount namespace"
    return None


def run(row: Row, bundle: str) -> dict[str, Any]:
    """Run one row and return its numbers."""
    result: dict[str, Any] = {"row": row.name, "what": row.what}
    reason = skipped(row)
    if reason is not None:
        return {**result, "skipped": reason}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        tifffile.imwrite(folder / "movie.tif", raw_safety.movie())
        server = _Server(folder, row.server) if row.session == BRIDGE else None
        session = row.session if server is None else f"{row.session}127.0.0.1:{server.port}"
        with subprocess.Popen(
            command(row, folder, bundle, session),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(folder, row),
        ) as process:
            said, pids = _until_recording(process)
            if server is not None and not row.server:
                time.sleep(1.0)
                server.kill()
            elif row.act is not None and pids:
                row.act(process, pids, folder)
            try:
                output, _ = process.communicate(timeout=300)
            except subprocess.TimeoutExpired:
                process.kill()
                return {**result, "exit_code": None, "told": "it did not end within 300 s", "ok": False}
        found = _inspect(row, folder / row.found, process.returncode, [*said, output])
        if server is not None and row.server:
            found["ok"] &= server.end(row.server)
        return {**result, **found}


class _Server:
    """A Micro-Manager on another port, in a process that can be killed."""

    def __init__(self, folder: Path, kind: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(ROOT / "benchmarks" / "fault_peer.py"), kind, str(folder / "movie.tif")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path[:5])},
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def end(self, kind: str) -> bool:
        """End it, and return whether the guest left alone what was not its own."""
        output, _ = self._process.communicate()
        found = json.loads(output)
        touched = "stop gui by us" in found["events"] or "initialize" in found["events"]
        return not touched and found["gui_runs"] is (kind in ("taken", "intruder"))

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.communicate()


def _until_recording(process: Session) -> tuple[list[str], dict[str, int]]:
    """Return what a session said before it recorded, and the processes' ids."""
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        if line.startswith("{"):
            return said, json.loads(line)
        said.append(line.strip())
    return said, {}


def _inspect(row: Row, run_folder: Path, code: int, said: list[str]) -> dict[str, Any]:
    from denoscope.acquisition import read_raw

    told = " ".join(" ".join(said).split())
    if not row.records:
        fine = code == row.exit_code and row.says in told and not run_folder.exists()
        return {"exit_code": code, "told": told, "ok": fine and "Traceback" not in told}
    if not (run_folder / "raw.tif").exists():
        return {"exit_code": code, "told": told, "ok": False}
    recording, movie = read_raw(run_folder), raw_safety.movie()
    frames = list(recording.frames())
    name = row.session.partition("@")[0]
    rescued = list[Any]()
    for elsewhere in sorted((run_folder.parent / "elsewhere").glob("*/raw.jsonl")):
        rescued += read_raw(elsewhere.parent).frames()
    exact = all(np.array_equal(frame, sent(movie, name, index)) for index, frame in enumerate(frames))
    places = [run_folder / "report.json", *(run_folder.parent / "elsewhere").glob("*/report.json")]
    path = next((place for place in places if place.exists()), None)
    report = json.loads(path.read_text()) if path is not None else None
    counts = report["frames"] if report else {}
    stated = re.search(r"Raw \d+/(\d+) saved", told)  # where the report found no room
    received = counts.get("received", int(stated[1]) if stated else len(frames) + len(rescued))
    first = received - len(rescued)  # what the disk has and did not confirm is in both places
    exact &= all(np.array_equal(frame, sent(movie, name, first + i)) for i, frame in enumerate(rescued))
    readable = min(received, len(frames) + len(rescued))
    dropped = counts.get("dropped", {})
    missing = received - readable
    balanced = not report or received == counts["denoised"] + sum(dropped.values()) + counts["in_flight"]
    told = " ".join([told, *(report["outcome"]["notes"] if report else ())])
    fine = row.says in told and code == row.exit_code and exact and balanced and readable >= 5
    return {
        "received": received,
        "readable": readable,
        "rescued": len(rescued),
        "missing": missing,
        "bit_exact": exact,
        "balanced": balanced,
        "denoised": counts.get("denoised"),
        "dropped": dropped,
        "exit_code": code,
        "told": _sentence(report, told),
        "ok": fine and (missing == 0 if row.lossless else missing == counts.get("not_written_raw", missing)),
    }


def _sentence(report: dict[str, Any] | None, told: str) -> str:
    """Return what matters of what the user was told: problems and notes, else all of it."""
    if report is None:
        return told
    outcome = report["outcome"]
    if outcome["problems"]:
        return "; ".join(outcome["problems"])
    frames = report["frames"]
    dropped = ", ".join(f"{count} {reason}" for reason, count in frames["dropped"].items())
    looked = "".join(f"; {note}" for note in outcome["notes"] if "live view" in note)
    lost = f"; {frames['missing_numbers']} frames lost before us" if frames["missing_numbers"] else ""
    return f"{outcome['message']}; not denoised: {dropped or 'none'}{lost}{looked}"


def kills(count: int, bundle: str, seed: int) -> dict[str, Any]:
    """Kill so many recordings, each at a random moment of its first three seconds."""
    from denoscope.acquisition import read_raw

    moments = random.Random(seed)
    movie, ages, readable, faults = raw_safety.movie(), [], [], []
    for index in range(count):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            tifffile.imwrite(folder / "movie.tif", movie)
            row = Row("kill", "", "replay", -9, "")
            with subprocess.Popen(
                command(row, folder, bundle, "replay"),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=environment(folder),
            ) as process:
                said, pids = _until_recording(process)
                if not pids:
                    faults.append(f"kill {index}: {' '.join(said)}")
                    continue
                time.sleep(moments.uniform(0.0, 3.0))
                killed_unix_s = time.time()
                process.kill()
                process.communicate(timeout=60)
            recording = read_raw(folder / "run")
            frames = list(recording.frames())
            numbers = [record["number"] for record in recording.records]
            exact = all(np.array_equal(frame, movie[i % len(movie)]) for i, frame in enumerate(frames))
            if not exact or numbers != list(range(len(numbers))):
                faults.append(f"kill {index}: pages are not what was sent")
            readable.append(len(frames))
            if recording.records:
                ages.append(killed_unix_s - recording.records[-1]["core_unix_s"])
            print(f"{KILLS} {index}: {len(frames)} frames", file=sys.stderr, flush=True)
            if not _gone(pids["denoiser"]):
                faults.append(f"kill {index}: the denoiser's process lives on")
    worst = max(ages, default=0.0)
    return {
        "row": KILLS,
        "what": f"kill -9 of the session at {count} random moments",
        "readable": sum(readable),
        "kills": count,
        "ages_s": [round(age, 3) for age in ages],
        "age_s": round(worst, 3),
        "age_median_s": round(float(np.median(ages)), 3) if ages else None,
        "bit_exact": not faults,
        "exit_code": -9,
        "told": "; ".join(faults)
        or f"nothing can be; newest readable frame at most {worst:.2f} s old, every page before it complete",
        "ok": not faults and worst < 1.0 and len(ages) > 0,
    }


def _gone(pid: int) -> bool:
    """Return whether a process ends within five seconds."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        state = Path(f"/proc/{pid}/stat")
        if state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


def table(results: list[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    head = ("fault", "received", "readable", "missing", "denoised", "exit", "what the user was told")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for result in results:
        if "skipped" in result:
            lines.append(f"| {result['what']} | | | | | | skipped: {result['skipped']} |")
            continue
        names = ("received", "readable", "missing", "denoised", "exit_code")
        cells = ["-" if result.get(name) is None else str(result[name]) for name in names]
        mark = "" if result["ok"] else " **not as it should be**"
        told = str(result["told"]).replace("|", "/")
        lines.append(f"| {result['what']}{mark} | {' | '.join(cells)} | {told} |")
    return "\n".join(lines)


def _from_raw_safety(row: raw_safety.Row, bundle: str) -> dict[str, Any]:
    try:
        result = raw_safety.run(row, bundle, "auto")
    except subprocess.TimeoutExpired:
        return {"row": row.name, "what": row.what, "told": "it did not end within 300 s", "ok": False}
    if "skipped" in result:
        return result
    if "received" not in result:  # it ended before it recorded
        return {**result, "told": result["message"], "ok": False}
    full = row.file_limit_mb > 0  # what waited when the disk refused cannot be written anywhere
    fine = result["exit_code"] == result["expected_exit_code"] and result.get("bit_exact", False)
    fine = fine and result["in_order"] and result["balanced"] and (full or result["missing"] == 0)
    return {
        **result,
        "told": result["message"] or f"{result['reason']}, dropped {result['dropped']}",
        "ok": fine,
    }


def _in_shell(name: str, bundle: str) -> dict[str, Any]:
    what, attack = SHELL_ROWS[name]
    result: dict[str, Any] = {"row": name, "what": what}
    if not POSIX:
        return {**result, "skipped": "needs POSIX"}
    if name == "read-only" and not can_mount():
        return {**result, "skipped": "needs a mount namespace"}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        tifffile.imwrite(folder / "movie.tif", raw_safety.movie())
        try:
            return {**result, **attack(folder, bundle)}
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            return {**result, "exit_code": None, "told": f"{type(error).__name__}: {error}", "ok": False}


def _run_named(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    began_s = time.perf_counter()
    try:
        result = _run_one(name, arguments)
    except Exception as error:  # noqa: BLE001 a fault of this program's own must not cost the other rows
        traceback.print_exc()
        result = {"row": name, "what": name, "told": f"{type(error).__name__}: {error}", "ok": False}
    verdict = "" if result.get("ok", "skipped" in result) else ", not as it should be"
    print(f"{name}: {time.perf_counter() - began_s:.0f} s{verdict}", file=sys.stderr, flush=True)
    return {**_without_places(result), "commit": arguments.commit}


def _run_one(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    if name == KILLS:
        return kills(arguments.kills, arguments.bundle, arguments.seed)
    if name in SHELL_ROWS:
        return _in_shell(name, arguments.bundle)
    for row in ROWS:
        if row.name == name:
            return run(row, arguments.bundle)
    return _from_raw_safety(next(row for row in raw_safety.ROWS if row.name == name), arguments.bundle)


def _without_places(result: dict[str, Any]) -> dict[str, Any]:
    """Return a row whose words do not name this computer's folder for temporary files."""
    place = re.compile(re.escape(tempfile.gettempdir()) + r"/tmp\w+")
    return {
        key: place.sub("FOLDER", value) if isinstance(value, str) else value for key, value in result.items()
    }


def main() -> None:
    """Run the rows and print the table."""
    everything = [name for names in PARTS.values() for name in names]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", help="By default one that does almost nothing, made for the occasion.")
    parser.add_argument("--part", choices=PARTS, help="By default all rows.")
    parser.add_argument("--row", action="append", choices=everything)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=5, help="Of the moments of the kills.")
    parser.add_argument("--jobs", type=int, default=1, help="Rows at the same time.")
    parser.add_argument("--output", type=Path, help="JSON file for the results.")
    parser.add_argument("--resume", action="store_true", help="Keep the rows of --output that are right.")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    os.environ["PYTHONPATH"] = environment(Path())["PYTHONPATH"]
    arguments.commit = provenance()["commit"]
    kept = read_rows(arguments.output) if arguments.resume else []
    results = {row["row"]: row for row in kept}
    right = {row["row"] for row in kept if row.get("ok", "skipped" in row)}
    asked = PARTS[arguments.part] if arguments.part else everything
    wanted = arguments.row or [name for name in asked if name != "denoiser-stalls-2s" and name not in right]
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(arguments.jobs) as pool:
        if arguments.bundle is None:
            arguments.bundle = str(Path(place) / "tiny.denoscope")
            tiny_bundle(Path(arguments.bundle), intensity=None, calibration_frames=8)
        for result in pool.map(lambda name: _run_named(name, arguments), wanted):
            results[result["row"]] = result
            if arguments.output is not None:  # what there is, should a later row be cut off
                write_results(arguments.output, _ordered(results, everything), [arguments.bundle], indent=1)
    rows = _ordered(results, everything)
    print(json.dumps(rows) if arguments.json else table(rows))
    sys.exit(0 if all(row.get("ok", "skipped" in row) for row in rows) else 1)


def _ordered(results: dict[str, dict[str, Any]], names: list[str]) -> list[dict[str, Any]]:
    return [results[name] for name in names if name in results]


if __name__ == "__main__":
    main()
