"""Faults around the commands: terminals, readers, folders, links and files of others; rows of `fault_matrix.py`.

Each function does one thing to a command in a separate process and returns what became of it. Where a movie is
recorded, every frame is compared with what was sent. Everything here takes a few seconds.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import raw_safety
import tifffile

__all__ = ["SHELL_ROWS"]

FRAMES = 150
POSIX = sys.platform != "win32"


def _words(*words: object) -> list[str]:
    return [sys.executable, "-P", "-m", "denoscope.acquisition.cli.app", *map(str, words)]


def _live(folder: Path, bundle: str, run: str = "run", frames: int = FRAMES) -> list[str]:
    movie = folder / "movie.tif"
    end = ("--frames", frames, "--bundle", bundle, "--output", folder / run, "--no-picture", "--threads", 1)
    return _words("live", "--core", f"replay:{movie}", "--fps", 60, *end)


def _recording(run: Path) -> None:
    deadline_s = time.monotonic() + 60
    log = run / "log.jsonl"
    while not log.exists() or '"recording"' not in log.read_text(encoding="utf-8"):
        if time.monotonic() > deadline_s:
            raise TimeoutError("it did not begin to record")
        time.sleep(0.05)


def _count(run: Path, code: int | None, expected: int, says: str, told: str = "") -> dict[str, Any]:
    import json

    from denoscope.acquisition import read_raw

    report = json.loads((run / "report.json").read_text())
    frames, movie = list(read_raw(run).frames()), raw_safety.movie()
    exact = all(np.array_equal(frame, movie[i % len(movie)]) for i, frame in enumerate(frames))
    outcome, counts = report["outcome"], report["frames"]
    said = "; ".join([*outcome["problems"], *outcome["notes"]]) or outcome["message"]
    return {
        "received": counts["received"],
        "readable": len(frames),
        "missing": counts["received"] - len(frames),
        "denoised": counts["denoised"],
        "dropped": counts["dropped"],
        "bit_exact": exact,
        "exit_code": code,
        "told": told or said,
        "ok": exact and code == expected and says in said and counts["received"] == len(frames) == FRAMES,
    }


def _run(*words: object, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(_words(*words), capture_output=True, text=True, timeout=120, check=False, **more)


def _refused(done: subprocess.CompletedProcess[str], code: int, *says: str) -> dict[str, Any]:
    told = " ".join((done.stderr or done.stdout).split())
    one = len(done.stderr.strip().splitlines()) == 1 and "Traceback" not in done.stderr
    fine = done.returncode == code and all(word in told for word in says) and "denoising" not in done.stdout
    return {"exit_code": done.returncode, "told": told, "ok": fine and (code != 2 or one)}


# -- terminals and readers


def reader_closed(folder: Path, bundle: str) -> dict[str, Any]:
    with subprocess.Popen(
        _live(folder, bundle), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as session:
        assert session.stdout is not None
        session.stdout.readline()
        session.stdout.close()
        return _count(folder / "run", session.wait(120), 0, "")


def reader_blocked(folder: Path, bundle: str) -> dict[str, Any]:
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        while os.write(write, b"x" * 4096):
            pass
    except BlockingIOError:
        os.set_blocking(write, True)
    with subprocess.Popen(_live(folder, bundle), stdout=write, stderr=write) as session:
        result = _count(folder / "run", session.wait(120), 0, "")
    os.close(read)
    os.close(write)
    return result


def streams_closed(folder: Path, bundle: str) -> dict[str, Any]:
    words = " ".join(f"'{word}'" for word in _live(folder, bundle))
    with subprocess.Popen(f"exec {words} <&- >&- 2>&-", shell=True) as session:
        return _count(folder / "run", session.wait(120), 0, "")


def hangup(folder: Path, bundle: str) -> dict[str, Any]:
    with subprocess.Popen(
        _live(folder, bundle), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as session:
        _recording(folder / "run")
        session.send_signal(signal.SIGHUP)
        return _count(folder / "run", session.wait(120), 0, "SIGHUP")


_IN_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)


def _in_terminal(folder: Path, bundle: str) -> tuple[subprocess.Popen[bytes], int]:
    import pty

    master, slave = pty.openpty()
    words = [sys.executable, "-P", "-c", _IN_TERMINAL, *_live(folder, bundle)]
    session = subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    return session, master


def terminal_stopped(folder: Path, bundle: str) -> dict[str, Any]:
    session, master = _in_terminal(folder, bundle)
    with session:
        reader = threading.Thread(target=lambda: os.read(master, 1000), daemon=True)
        reader.start()
        _recording(folder / "run")
        os.write(master, b"\x13")  # Ctrl-S; nobody reads from here on
        result = _count(folder / "run", session.wait(120), 0, "")
    os.close(master)
    return result


def terminal_closed(folder: Path, bundle: str) -> dict[str, Any]:
    session, master = _in_terminal(folder, bundle)
    with session:
        _recording(folder / "run")
        os.close(master)
        return _count(folder / "run", session.wait(120), 0, "SIGHUP")


# -- folders


def two_sessions(folder: Path, bundle: str) -> dict[str, Any]:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(_live(folder, bundle), **quiet) as first:
        _recording(folder / "run")
        second = subprocess.run(
            _live(folder, bundle), capture_output=True, text=True, timeout=120, check=False
        )
        result = _count(folder / "run", first.wait(120), 0, "", told=" ".join(second.stderr.split()))
    opened = (folder / "run" / "log.jsonl").read_text().count('"opened"')
    result["ok"] = result["ok"] and second.returncode == 2 and opened == 1
    return result


def planted(folder: Path, bundle: str) -> dict[str, Any]:
    data = folder / "data"
    data.mkdir()
    for name in ("json", "sitecustomize", "numpy"):
        (data / f"{name}.py").write_text(f"open({str(folder / 'executed')!r}, 'w')\n")
    environment = {**os.environ, "PYTHONPATH": os.environ["PYTHONPATH"].rstrip(os.pathsep)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(_live(folder, bundle), cwd=data, env=environment, **quiet) as session:
        result = _count(folder / "run", session.wait(120), 0, "")
    result["ok"] = result["ok"] and not (folder / "executed").exists()
    return result


# -- denoise


def denoise_input(folder: Path, bundle: str) -> dict[str, Any]:
    precious = folder / "x.tif.partial"
    shutil.copy(folder / "movie.tif", precious)
    before = precious.read_bytes()
    done = _run("denoise", precious, "--output", folder / "x.tif", "--bundle", bundle)
    result = _refused(done, 2, "never overwritten")
    result["ok"] = result["ok"] and precious.read_bytes() == before
    return result


def denoise_std(folder: Path, bundle: str) -> dict[str, Any]:
    out = folder / "x.tif"
    done = _run("denoise", folder / "movie.tif", "--output", out, "--std", out, "--bundle", bundle)
    return _refused(done, 2, "into one file")


_SLOW = """
import sys, time
from pathlib import Path
import typer
from denoscope.acquisition.offline.denoise import denoise_movie
from denoscope.acquisition.cli.shell import Shell
movie, output, bundle = sys.argv[1:]
held = Path(output).with_name("held")
def wait(done, total):
    print(done, flush=True)
    time.sleep(0.02)
    while done >= 20 and held.exists():
        time.sleep(0.02)
try:
    Shell().run(lambda: (denoise_movie(Path(movie), Path(output), bundle=bundle, on_frame=wait), 0))
except typer.Exit as ended:
    sys.exit(ended.exit_code)
"""


def _begun(folder: Path, bundle: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-P", "-c", _SLOW, folder / "movie.tif", folder / "x.tif", bundle]
    began = subprocess.Popen(list(map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert began.stdout is not None
    while int(began.stdout.readline()) < 20:
        pass
    return began


def denoise_twice(folder: Path, bundle: str) -> dict[str, Any]:
    held = folder / "held"
    held.touch()
    with _begun(folder, bundle) as first:
        try:
            done = _run(
                "denoise", folder / "movie.tif", "--output", folder / "x.tif", "--bundle", bundle, "--resume"
            )
        finally:
            held.unlink()
        first.communicate(timeout=120)
    result = _refused(done, 2, "another denoscope is writing")
    result["ok"] = result["ok"] and first.returncode == 0 and len(tifffile.imread(folder / "x.tif")) > 20
    return result


def denoise_appears(folder: Path, bundle: str) -> dict[str, Any]:
    with _begun(folder, bundle) as first:
        (folder / "x.tif").write_text("precious")
        _, errors = first.communicate(timeout=120)
    told = errors.strip().splitlines()[-1]
    fine = (
        first.returncode == 2
        and "appeared while it was being made" in told
        and (folder / "x.tif").read_text() == "precious"
    )
    return {"exit_code": first.returncode, "told": told, "ok": fine}


def resume_changed(folder: Path, bundle: str) -> dict[str, Any]:
    import json

    # Long enough to be interrupted on a fast computer too.
    tifffile.imwrite(folder / "movie.tif", np.tile(tifffile.imread(folder / "movie.tif"), (40, 1, 1)))
    journal = folder / "x.tif.partial.json"
    with _begun(folder, bundle) as first:
        deadline_s = time.monotonic() + 60
        while time.monotonic() < deadline_s and first.poll() is None:
            if journal.exists() and (json.loads(journal.read_bytes())["frames"] or 0) > 0:
                break
            time.sleep(0.02)
        first.kill()
        first.communicate()
    frames = tifffile.imread(folder / "movie.tif")
    frames[1] += 1
    tifffile.imwrite(folder / "movie.tif", frames)
    done = _run("denoise", folder / "movie.tif", "--output", folder / "x.tif", "--bundle", bundle, "--resume")
    return _refused(done, 2, "changed since")


def _recorded(folder: Path, bundle: str) -> Path:
    subprocess.run(_live(folder, bundle), capture_output=True, timeout=120, check=True)
    return folder / "run"


def fill_missing(folder: Path, bundle: str) -> dict[str, Any]:
    run = _recorded(folder, bundle)
    with (run / "raw.tif").open("r+b") as file:
        file.truncate((run / "raw.tif").stat().st_size * 3 // 4)
    done = _run("denoise", "--fill", run, "--bundle", bundle)
    told = " ".join(line for line in done.stdout.splitlines() if line.startswith("Missing"))
    return {
        "exit_code": done.returncode,
        "told": told,
        "ok": done.returncode == 1 and "of which raw.tif lacks" in told,
    }


# -- one sentence


def fill_damaged(folder: Path, bundle: str) -> dict[str, Any]:
    run = _recorded(folder, bundle)
    (run / "raw.jsonl").write_bytes((run / "raw.jsonl").read_bytes().replace(b'"number":', b'"nothing":'))
    return _refused(_run("denoise", "--fill", run, "--bundle", bundle), 2, "is damaged")


def long_name(folder: Path, bundle: str) -> dict[str, Any]:
    out = folder / ("a" * 240 + ".ome.tif")
    return _refused(
        _run("denoise", folder / "movie.tif", "--output", out, "--bundle", bundle), 2, "choose a shorter"
    )


def dangling_link(folder: Path, bundle: str) -> dict[str, Any]:
    (folder / "x.tif").symlink_to(folder / "nowhere.tif")
    done = _run("denoise", folder / "movie.tif", "--output", folder / "x.tif", "--bundle", bundle)
    return _refused(done, 2, "does not exist")


def doctor_nowhere(folder: Path, bundle: str) -> dict[str, Any]:  # noqa: ARG001
    return _refused(_run("doctor", "--output", folder / "typo"), 2, "does not exist")


def read_only(folder: Path, bundle: str) -> dict[str, Any]:
    place = folder / "disk"
    place.mkdir()
    words = _words("denoise", folder / "movie.tif", "--output", place / "x.tif", "--bundle", bundle)
    mount = f"mount -t tmpfs -o ro tmpfs '{place}' && {subprocess.list2cmdline(words)}"
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount], capture_output=True, text=True, timeout=120, check=False
    )
    return _refused(done, 2, "read-only")


def adapters_nowhere(folder: Path, bundle: str) -> dict[str, Any]:
    (folder / "a.cfg").write_text("Device,Cam,DemoCamera,DCam\nProperty,Core,Camera,Cam\n", encoding="utf-8")
    words = (
        "--core",
        folder / "a.cfg",
        "--mm-dir",
        folder / "typo",
        "--output",
        folder / "run",
        "--bundle",
        bundle,
    )
    result = _refused(_run("live", *words), 2, "--mm-dir")
    return {**result, "ok": result["ok"] and not (folder / "run").exists()}


SHELL_ROWS: Mapping[str, tuple[str, Callable[[Path, str], dict[str, Any]]]] = {
    "reader-closed": ("`live | head -1`: whoever reads the words goes away", reader_closed),
    "reader-blocked": ("words go into a pipe that is full and nobody reads", reader_blocked),
    "streams-closed": ("standard input, output and error are closed", streams_closed),
    "hangup": ("SIGHUP while recording", hangup),
    "terminal-stopped": ("terminal is stopped with Ctrl-S", terminal_stopped),
    "terminal-closed": ("terminal is closed while recording", terminal_closed),
    "two-sessions": ("a second session is started on the same folder", two_sessions),
    "planted-module": ("json.py and others lie in the current folder", planted),
    "denoise-input": ("denoise X.partial into X", denoise_input),
    "denoise-std": ("denoise with --std equal to --output", denoise_std),
    "denoise-twice": ("two programs denoise into one output", denoise_twice),
    "denoise-appears": ("the output appears while it is being made", denoise_appears),
    "resume-changed": ("the movie changes in its middle before --resume", resume_changed),
    "fill-missing": ("raw.tif has lost its last quarter before --fill", fill_missing),
    "fill-damaged": ("raw.jsonl lacks a key on every line before --fill", fill_damaged),
    "long-name": ("output has a name of 248 characters", long_name),
    "dangling-link": ("output is a link that leads nowhere", dangling_link),
    "doctor-nowhere": ("doctor is given a folder that does not exist", doctor_nowhere),
    "adapters-nowhere": ("--mm-dir names a folder that does not exist", adapters_nowhere),
    "read-only": ("output lies on a read-only file system", read_only),
}
