"""The list of skips is read, and a skip that is not on it fails the run."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from support.skips import ALLOWED_SKIPS, Skips, allowed_skips

LISTED = [("tests/test_a.py::*", "needs a GPU*")]


def report(test: str, reason: str) -> pytest.TestReport:
    return pytest.TestReport(
        test, ("test_a.py", 1, "test"), {}, "skipped", ("test_a.py", 1, f"Skipped: {reason}"), "call"
    )


@pytest.mark.parametrize(
    ("test", "reason", "listed"),
    [
        ("tests/test_a.py::test_one[x]", "needs a GPU of 8 GB", True),
        ("tests/test_a.py::test_one", "needs a window", False),
        ("tests/test_b.py::test_one", "needs a GPU", False),
    ],
)
def test_an_unlisted_skip_fails_the_run(test: str, reason: str, listed: bool) -> None:
    skips = Skips(LISTED)
    skips.pytest_runtest_logreport(report(test, reason))
    session = SimpleNamespace(exitstatus=pytest.ExitCode.OK)
    skips.pytest_sessionfinish(session, pytest.ExitCode.OK)  # type: ignore[arg-type]
    assert skips.unlisted == ([] if listed else [f"{test}: {reason}"])
    assert (session.exitstatus == pytest.ExitCode.OK) == listed


def test_every_line_of_the_list_names_a_file_that_exists() -> None:
    for test, reason in allowed_skips():
        file = test.split("::")[0].removesuffix("*")
        assert (ALLOWED_SKIPS.parents[1] / file).is_file(), test
        assert reason.strip("*"), test
