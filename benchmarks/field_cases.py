"""Inputs that people really have and that once gave a wrong answer: each is made, run and judged.

    python benchmarks/field_cases.py [--only TEXT]... [--slow] [--output FILE.json] [--again] [--summary]

Every module of `benchmarks/field` lists its cases. For each case the table shows the right value, what came
out and the verdict; the exit code is 1 if one of them is wrong. The inputs are made from fixed seeds, in a
temporary folder. `--only` takes the cases whose `group/name` holds the text; cases that take more than about a
minute run with `--slow` or when they are asked for by `--only`, after the others.

With `--output` each result is written as soon as it is there, with its commit. A run that was ended goes on: cases
that the file holds of the same commit are not run again (`--again` does). At the end, or with `--summary` alone, it
says how many cases are of which commit and which have never been run.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("train", "export", "runtime", "acquisition", "tests", "benchmarks")
sys.path[:0] = [str(ROOT / part) for part in PARTS]

import field  # noqa: E402
from _provenance import provenance, read_rows, write_results  # noqa: E402
from field import Case, Outcome  # noqa: E402


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
            write_results(self._path, {"rows": rows}, ("live", "live-fast", "live-hq"))

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
        missing = Counter(name.split(",")[0].split(":")[0] for name in names if name not in self.rows)
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
    parser.add_argument("--slow", action="store_true", help="also the cases that take more than a minute")
    parser.add_argument("--output", type=Path, help="write the table as JSON, and go on with what it holds")
    parser.add_argument("--again", action="store_true", help="also what the file holds of this commit")
    parser.add_argument("--summary", action="store_true", help="run nothing; say what the file holds")
    asked = parser.parse_args()
    record, cases = Record(asked.output), all_cases()
    if asked.summary:
        print(record.summary(cases))
        return int(not all(row["passed"] for row in record.rows.values()))
    wrong = count = 0
    print("| case | right | got | verdict |\n|---|---|---|---|", flush=True)
    for case in sorted(cases, key=lambda each: each.slow):
        name = name_of(case)
        if asked.only and not any(text in name for text in asked.only):
            continue
        if case.slow and not (asked.slow or asked.only):
            continue
        count += 1
        if record.holds(name) and not asked.again:
            wrong += not record.rows[name]["passed"]
            continue
        started = time.perf_counter()
        outcome = run(case)
        verdict = "pass" if outcome.passed else "FAIL"
        print(f"| {name} | {case.right} | {outcome.got} | {verdict} |", flush=True)
        wrong += not outcome.passed
        record.put(
            {
                "case": name,
                "right": case.right,
                "got": outcome.got,
                "passed": bool(outcome.passed),
                "seconds": round(time.perf_counter() - started, 1),
            }
        )
    print(f"\n{count - wrong} of {count} cases pass")
    if asked.output:
        print(record.summary(cases))
    return int(wrong > 0 or count == 0)


if __name__ == "__main__":
    raise SystemExit(main())
