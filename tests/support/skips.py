"""Skips that must be known: a test that is skipped for a reason nobody listed is a test that nobody runs."""

from __future__ import annotations

from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path

import pytest

__all__ = ["ALLOWED_SKIPS", "Skips", "allowed_skips", "needs"]

ALLOWED_SKIPS = Path(__file__).parents[1] / "allowed_skips.txt"


def needs(module: str, extra: str) -> None:
    """Skip the test or its file where a module is not installed, and import nothing: pycromanager takes a second."""
    if find_spec(module) is None:
        pytest.skip(f"needs the extra '{extra}'", allow_module_level=True)


def allowed_skips() -> list[tuple[str, str]]:
    """Return the patterns of the list: a test and a reason, as in a shell."""
    lines = ALLOWED_SKIPS.read_text(encoding="utf-8").splitlines()
    pairs = (line.split(" :: ", 1) for line in lines if line.strip() and not line.startswith("#"))
    return [(test.strip(), why.strip()) for test, why in pairs]


class Skips:
    """Collects what was skipped, and fails the run where it is not on the list."""

    def __init__(self, allowed: list[tuple[str, str]]) -> None:
        self._allowed = allowed
        self.unlisted: list[str] = []

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if not report.skipped or hasattr(report, "wasxfail"):
            return
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        reason = reason.removeprefix("Skipped: ")
        if not any(
            fnmatchcase(report.nodeid, test) and fnmatchcase(reason, why) for test, why in self._allowed
        ):
            self.unlisted.append(f"{report.nodeid}: {reason}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if self.unlisted and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.unlisted:
            terminalreporter.section(f"skipped, and not listed in {ALLOWED_SKIPS.name}", red=True)
            for line in sorted(set(self.unlisted)):
                terminalreporter.line(line)
