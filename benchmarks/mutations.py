"""Put each deliberate fault of `tests/mutations.toml` into a copy of the project and see whether its tests notice.

    python benchmarks/mutations.py [--only TEXT]... [--jobs N] [--results FILE] [--check]

Most of the time of such a test is the import of libraries. Where there is `fork`, a process for each copy imports them
once, none of the project's own code, and runs each test in a process forked from it.

A fault is a file, the exact text in it, and what stands there instead. Each is put into a copy of the working tree, in
a temporary folder, and only the tests that are named for it are run, up to the first that fails. The table says
*caught* or *survived*; the exit code is 1 if one survives, and 2 if the text of a fault is not found exactly once or
its tests fail without it. `--check` only looks for the texts, in a second. `--results` keeps each verdict in a JSON
file as soon as it is there; none is sought again while the fault, its file and its tests are as they were.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LIST = ROOT / "tests" / "mutations.toml"
LIMIT_S = 300
HANGS = 124
SERVE = "--serve"
# Libraries without a plugin of pytest, which pytest wants to import itself.
WARM = (
    "numpy",
    "torch",
    "scipy.ndimage",
    "tifffile",
    "onnx",
    "onnxruntime",
    "openvino",
    "pydantic",
    "typer",
    "skimage",
)
AT_ONCE = 12  # faults whose tests are first run together without a fault
MADE = shutil.ignore_patterns(".git", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info")
HEAVY = {ROOT / "benchmarks" / "results", ROOT / "docs", ROOT / "build", ROOT / "dist"}
PARTS = ("train", "export", "runtime", "acquisition", "tests")


@dataclass(frozen=True)
class Fault:
    """A deliberate fault and the tests that must fail with it."""

    name: str
    file: str
    find: str
    replace: str
    tests: tuple[str, ...]


def read_faults(path: Path = LIST) -> list[Fault]:
    """Return the faults of the list, in order."""
    with path.open("rb") as file:
        entries = tomllib.load(file)["fault"]
    return [Fault(**{**entry, "tests": tuple(entry["tests"])}) for entry in entries]


def problem_of(fault: Fault, root: Path = ROOT) -> str | None:
    """Return why a fault cannot be put into the tree, or None."""
    path = root / fault.file
    if not path.is_file():
        return f"{fault.file} is not there"
    count = path.read_text(encoding="utf-8").count(fault.find)
    if count != 1:
        return f"its text is found {count} times in {fault.file}, not once"
    if fault.find == fault.replace:
        return "it changes nothing"
    missing = [test for test in fault.tests if not (root / test.split("::")[0]).is_file()]
    return f"{', '.join(missing)} is not there" if missing or not fault.tests else None


def skipped(folder: str, names: list[str]) -> set[str]:
    """Return what of a folder no copy needs; modules may be called *results* too."""
    return {*MADE(folder, names), *(name for name in names if Path(folder, name) in HEAVY)}


def pytest_words(tests: Sequence[str]) -> list[str]:
    """Return pytest's arguments for tests, up to the first that fails."""
    return ["-q", "-x", "-n", "0", "-p", "no:cacheprovider", *tests]


class Tests:
    """Run tests of a copy with the copy's own code."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        self._environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(str(tree / part) for part in PARTS),
            "OMP_NUM_THREADS": "1",
            "PYTEST_ADDOPTS": "",
        }
        self._warm: subprocess.Popen[str] | None = None
        if hasattr(os, "fork"):
            self._warm = subprocess.Popen(
                [sys.executable, str(Path(__file__).resolve()), SERVE],
                cwd=tree,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )

    def run(self, tests: Sequence[str]) -> int:
        """Return pytest's exit code, or 124 where the tests hang."""
        if self._warm is not None and self._warm.stdin and self._warm.stdout:
            print(json.dumps(list(tests)), file=self._warm.stdin, flush=True)
            return int(self._warm.stdout.readline())
        command = [sys.executable, "-m", "pytest", *pytest_words(tests)]
        try:
            done = subprocess.run(
                command,
                cwd=self.tree,
                env=self._environment,
                capture_output=True,
                timeout=LIMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return HANGS
        return done.returncode

    def close(self) -> None:
        """End the process that holds the libraries."""
        if self._warm is not None:
            self._warm.communicate()


def serve() -> int:
    """Import libraries, then run the tests of each line of standard input in a process of their own."""
    for name in WARM:
        with suppress(ImportError):
            import_module(name)
    answers = os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os.setsid()
            os.dup2(nothing, 0)
            sys.path[0] = str(Path.cwd())  # as ``python -m pytest`` has it
            sys.argv = ["pytest"]
            os._exit(int(import_module("pytest").main(pytest_words(json.loads(line)))))
        print(_ended(pid), file=answers, flush=True)
    return 0


def _ended(pid: int) -> int:
    """Return how a process ended; end it, and what it started, after the limit."""
    began_s = time.monotonic()
    while time.monotonic() - began_s < LIMIT_S:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return abs(os.waitstatus_to_exitcode(status))
        time.sleep(0.02)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return HANGS


@contextmanager
def put(fault: Fault, tree: Path) -> Iterator[None]:
    """Put a fault into a copy, and take it out again.

    Python compiles a module again where its time, in whole seconds, or its size has changed; each write gets a
    second of its own.
    """
    path = tree / fault.file
    whole = path.read_text(encoding="utf-8")
    second = int(path.stat().st_mtime)
    path.write_text(whole.replace(fault.find, fault.replace), encoding="utf-8")
    os.utime(path, (second + 1, second + 1))
    try:
        yield
    finally:
        path.write_text(whole, encoding="utf-8")
        os.utime(path, (second + 2, second + 2))


def verdict(fault: Fault, trees: SimpleQueue[Tests]) -> tuple[str, float]:
    """Return *caught*, *survived* or what is wrong with the tests, and how long it took."""
    tree, began = trees.get(), time.perf_counter()
    try:
        with put(fault, tree.tree):
            code = tree.run(fault.tests)
    finally:
        trees.put(tree)
    # Tests that hang with a fault have noticed it; on a busy computer look at these again.
    words = {0: "**survived**", 1: "caught", HANGS: "hangs"}
    return words.get(code, f"pytest ended with {code}"), time.perf_counter() - began


def digest(fault: Fault, root: Path = ROOT) -> str:
    """Return the SHA-256 of a fault, its file and the files of its tests."""
    found = hashlib.sha256(repr(fault).encode())
    for name in sorted({fault.file, *(test.split("::")[0] for test in fault.tests)}):
        found.update((root / name).read_bytes())
    return found.hexdigest()


class Verdicts:
    """The verdicts of this run and, where there is a file of results, of earlier runs on the same code."""

    def __init__(self, path: Path | None) -> None:
        import _provenance  # imports the project, which a process that forks for the tests must not

        self._path = path
        self._write = _provenance.write_results
        self._rows: dict[str, Any] = (
            {row["fault"]: row for row in _provenance.read_rows(path)} if path else {}
        )
        self._commit = _provenance.provenance()["commit"]

    def known(self, fault: Fault) -> str | None:
        """Return an earlier verdict, or None where there is none or something has changed."""
        row = self._rows.get(fault.name)
        return row["verdict"] if row and row["sha256"] == digest(fault) else None

    def add(self, fault: Fault, found: str, seconds: float) -> None:
        """Keep a verdict and write the file."""
        row = {"fault": fault.name, "file": fault.file, "verdict": found, "seconds": round(seconds, 1)}
        self._rows[fault.name] = {**row, "commit": self._commit, "sha256": digest(fault)}
        if self._path:
            names = [fault.name for fault in read_faults()]
            self._write(self._path, [self._rows[name] for name in names if name in self._rows])


def main() -> int:
    """Print the table; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="TEXT", help="faults whose name holds it"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="copies that are tried at once")
    parser.add_argument("--results", type=Path, metavar="FILE", help="keep the verdicts, and go on from them")
    parser.add_argument("--check", action="store_true", help="only look for the texts")
    given = parser.parse_args()
    faults = [f for f in read_faults() if not given.only or any(text in f.name for text in given.only)]
    problems = {f.name: problem for f in faults if (problem := problem_of(f)) is not None}
    for name, problem in problems.items():
        print(f"{name}: {problem}", file=sys.stderr)
    if problems or given.check:
        print(f"{len(faults) - len(problems)} of {len(faults)} faults can be put into the tree")
        return 2 if problems else 0
    verdicts = Verdicts(given.results)
    left = [fault for fault in faults if verdicts.known(fault) is None]
    print("| fault | file | verdict | s |\n|---|---|---|---|", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="mutations-", ignore_cleanup_errors=True) as folder,
        ExitStack() as stack,
        ThreadPoolExecutor(max(1, given.jobs)) as pool,
    ):
        trees: SimpleQueue[Tests] = SimpleQueue()
        for index in range(min(given.jobs, len(left))):
            copy = Path(folder) / str(index)
            shutil.copytree(ROOT, copy, ignore=skipped)
            tree = Tests(copy)
            stack.callback(tree.close)
            trees.put(tree)
        for first in range(0, len(left), AT_ONCE):
            some = left[first : first + AT_ONCE]
            tree = trees.get()
            tests = sorted({test for fault in some for test in fault.tests})
            if tree.run(tests) != 0:
                print(
                    f"without a fault, these tests fail, mend them first: {' '.join(tests)}", file=sys.stderr
                )
                return 2
            trees.put(tree)
            for fault, (found, seconds) in zip(
                some, pool.map(lambda fault: verdict(fault, trees), some), strict=True
            ):
                verdicts.add(fault, found, seconds)
                print(f"| {fault.name} | {fault.file} | {found} | {seconds:.0f} |", flush=True)
    caught = sum(verdicts.known(fault) in ("caught", "hangs") for fault in faults)
    print(f"\n{caught} of {len(faults)} faults are caught")
    return 0 if caught == len(faults) else 1


if __name__ == "__main__":
    sys.exit(serve() if sys.argv[1:] == [SERVE] else main())
