"""Inputs that people really have and that once gave a wrong answer: each is made, run and judged.

    python benchmarks/field_cases.py [--only TEXT]... [--slow] [--output FILE.json]

Every module of `benchmarks/field` lists its cases. For each case the table shows the right value, what came
out and the verdict; the exit code is 1 if one of them is wrong. The inputs are made from fixed seeds, in a
temporary folder. `--only` takes the cases whose `group/name` holds the text; cases that take more than about a
minute run with `--slow` or when they are asked for by `--only`.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("train", "export", "runtime", "acquisition", "tests", "benchmarks")
sys.path[:0] = [str(ROOT / part) for part in PARTS]

import field  # noqa: E402
from _provenance import write_results  # noqa: E402
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
            return case.run(Path(folder))
        except Exception as error:  # noqa: BLE001  the other cases are still worth running
            return Outcome(f"{type(error).__name__}: {error}".replace("\n", " ")[:200], passed=False)


def main() -> int:
    """Run what was asked for, print the table and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="TEXT", help="cases whose group/name holds TEXT"
    )
    parser.add_argument("--slow", action="store_true", help="also the cases that take more than a minute")
    parser.add_argument("--output", type=Path, help="write the table as JSON")
    asked = parser.parse_args()
    rows = []
    print("| case | right | got | verdict |\n|---|---|---|---|", flush=True)
    for case in all_cases():
        name = f"{case.group}/{case.name}"
        if asked.only and not any(text in name for text in asked.only):
            continue
        if case.slow and not (asked.slow or asked.only):
            continue
        started = time.perf_counter()
        outcome = run(case)
        verdict = "pass" if outcome.passed else "FAIL"
        print(f"| {name} | {case.right} | {outcome.got} | {verdict} |", flush=True)
        rows.append(
            {
                "case": name,
                "right": case.right,
                "got": outcome.got,
                "passed": bool(outcome.passed),
                "seconds": round(time.perf_counter() - started, 1),
            }
        )
    wrong = sum(not row["passed"] for row in rows)
    print(f"\n{len(rows) - wrong} of {len(rows)} cases pass")
    if asked.output:
        write_results(asked.output, {"rows": rows}, ("live", "live-fast", "live-hq"))
    return int(wrong > 0 or not rows)


if __name__ == "__main__":
    raise SystemExit(main())
