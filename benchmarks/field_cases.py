"""Inputs that people really have and that once gave a wrong answer: each is made, run and judged.

    python benchmarks/field_cases.py [--only TEXT]... [--slow] [--jobs N] [--output FILE.json] [--again] [--summary]

Every module of `benchmarks/field` lists its cases. For each case the table shows the right value, what came
out and the verdict; the exit code is 1 if one of them is wrong. The inputs are made from fixed seeds, in a
temporary folder. `--only` takes the cases whose `group/name` holds the text; large pictures and the grid of noise
run with `--slow` or when they are asked for by `--only`. `--jobs` processes run one case each.

With `--output` each result is written as soon as it is there, with its commit. A run that was ended goes on: cases
that the file holds of the same commit are not run again (`--again` does), and those that it does not hold at all come
first. At the end, or with `--summary` alone, it says how many cases pass, how many are of which commit and which have
never been run.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import pkgutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("train", "export", "runtime", "acquisition", "tests", "benchmarks")
sys.path[:0] = [str(ROOT / part) for part in PARTS]
os.environ["PYTHONPATH"] = os.pathsep.join(
    sys.path[: len(PARTS)]
)  # cases that start a process try this tree too

import field  # noqa: E402
from _provenance import provenance, read_rows, write_results  # noqa: E402
from field import Case, Outcome  # noqa: E402
from field._warm import keep_compiled  # noqa: E402


def all_cases() -> list[Case]:
    """Return the cases of every module of `benchmarks/field`, by group and in the order of the module."""
    found: list[Case] = []
    for module in sorted(info.name for info in pkgutil.iter_modules(field.__path__)):
        if not module.startswith("_"):
            found += importlib.import_module(f"field.{module}").cases()
    return found


def run(case: Case) -> Outcome:
    """Run a case in a folder of its own; an error is a verdict too."""
    with tempfile.TemporaryDirectory(prefix="field-", ignore_cleanup_errors=True) as folder:
        try:
            outcome = case.run(Path(folder))
            return Outcome(outcome.got.replace(folder, "FOLDER"), outcome.passed)
        except Exception as error:  # noqa: BLE001  the other cases are still worth running
            return Outcome(f"{type(error).__name__}: {error}".replace("\n", " ")[:200], passed=False)


def timed(case: Case) -> tuple[Outcome, dict[str, float]]:
    """Run a case; return how long it took, and how much of that this process computed."""
    started, computed = time.perf_counter(), time.process_time()
    outcome = run(case)
    seconds = {
        "seconds": round(time.perf_counter() - started, 1),
        "processor_s": round(time.process_time() - computed, 1),
    }
    return outcome, seconds


def timed_by_name(name: str) -> tuple[Outcome, dict[str, float]]:
    """Run a case in a process of `each_run`."""
    return timed(next(case for case in all_cases() if name_of(case) == name))


def each_run(cases: list[Case], jobs: int) -> Iterator[tuple[Case, Outcome, dict[str, float]]]:
    """Run cases in this process, or in several; yield each when it is done."""
    if jobs == 1:
        keep_compiled()
        for case in cases:
            yield case, *timed(case)
        return
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), keep_compiled, (1,))
    try:
        waiting = {pool.submit(timed_by_name, name_of(case)): case for case in cases}
        for done in as_completed(waiting):
            yield waiting[done], *done.result()
    finally:
        pool.shutdown(cancel_futures=True)


class Record:
    """Rows of a result file, by case: those of other commits stay until their case is run again."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.commit = str(provenance()["commit"])
        self.rows: dict[str, dict[str, Any]] = {}
        if path is not None:
            self.rows = {row["case"]: row for row in read_rows(path)}

    def holds(self, name: str) -> bool:
        """Say whether a case was run with this commit, and the tree held no changes."""
        return not self.commit.endswith("+") and self.rows.get(name, {}).get("commit") == self.commit[:7]

    def put(self, row: dict[str, Any]) -> None:
        """Put a row in the place of an older one, and write the file, in the order of the cases."""
        commit = self.commit[:7] + ("+" if self.commit.endswith("+") else "")
        self.rows[row["case"]] = {**row, "commit": commit}
        if self._path is not None:
            order = [name_of(case) for case in all_cases()]
            rows = [self.rows[name] for name in order if name in self.rows]
            found = {"summary": self.counts(all_cases()), "rows": rows}
            write_results(self._path, found, ("live", "live-fast", "live-hq", "recorded"))

    def counts(self, cases: list[Case]) -> dict[str, Any]:
        """Return how many cases there are, were run and pass, in all and in each group, and on how many commits."""
        groups: dict[str, dict[str, int]] = {}
        for case in cases:
            row = self.rows.get(name_of(case))
            found = groups.setdefault(case.group, {"cases": 0, "run": 0, "passed": 0})
            found["cases"] += 1
            found["run"] += row is not None
            found["passed"] += row is not None and bool(row["passed"])
        rows = [self.rows[name_of(case)] for case in cases if name_of(case) in self.rows]
        total = {key: sum(group[key] for group in groups.values()) for key in ("cases", "run", "passed")}
        return {
            **total,
            "commits": len({row.get("commit") for row in rows}),
            "processor_minutes": round(sum(row.get("processor_s", 0.0) for row in rows) / 60, 1),
            "groups": groups,
        }

    def summary(self, cases: list[Case]) -> str:
        """Return how many cases pass, how many are of which commit, and which were never run."""
        names = [name_of(case) for case in cases]
        rows = [self.rows[name] for name in names if name in self.rows]
        by_commit = Counter(row.get("commit", "unknown") for row in rows)
        lines = [
            f"{sum(bool(row['passed']) for row in rows)} of {len(rows)} cases pass, of {len(cases)} in all."
        ]
        lines += [f"  commit {commit}: {count}" for commit, count in by_commit.most_common()]
        lines += [f"  FAIL: {row['case']}" for row in rows if not row["passed"]]
        missing = Counter(name.split("/")[0] for name in names if name not in self.rows)
        lines += [f"  never run: {count} of {group}" for group, count in missing.items()]
        return "\n".join(lines)


def name_of(case: Case) -> str:
    """Return the name of a case in tables and files."""
    return f"{case.group}/{case.name}"


def main() -> int:
    """Run what was asked for, print the table and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="TEXT", help="cases whose group/name holds TEXT"
    )
    parser.add_argument("--slow", action="store_true", help="also large pictures and the grid of noise")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (default 1)")
    parser.add_argument("--output", type=Path, help="write the table as JSON, and go on with what it holds")
    parser.add_argument("--again", action="store_true", help="also what the file holds of this commit")
    parser.add_argument("--summary", action="store_true", help="run nothing; say what the file holds")
    asked = parser.parse_args()
    record, cases = Record(asked.output), all_cases()
    if asked.summary:
        print(record.summary(cases))
        return int(not all(row["passed"] for row in record.rows.values()))
    chosen = [
        case
        for case in cases
        if (any(text in name_of(case) for text in asked.only) if asked.only else asked.slow or not case.slow)
    ]
    left = [case for case in chosen if asked.again or not record.holds(name_of(case))]
    left.sort(key=lambda case: (name_of(case) in record.rows, case.slow))
    began = time.perf_counter()
    print("| case | right | got | verdict |\n|---|---|---|---|", flush=True)
    passed = {name_of(case): record.rows[name_of(case)]["passed"] for case in chosen if case not in left}
    for case, outcome, seconds in each_run(left, max(1, asked.jobs)):
        name = name_of(case)
        passed[name] = bool(outcome.passed)
        verdict = "pass" if outcome.passed else "FAIL"
        print(f"| {name} | {case.right} | {outcome.got} | {verdict} |", flush=True)
        record.put(
            {
                "case": name,
                "right": case.right,
                "got": outcome.got,
                "passed": passed[name],
                **seconds,
            }
        )
    print(f"\n{sum(passed.values())} of {len(chosen)} cases pass; {time.perf_counter() - began:.0f} s")
    if asked.output:
        print(record.summary(cases))
    return int(not passed or not all(passed.values()))


if __name__ == "__main__":
    raise SystemExit(main())
