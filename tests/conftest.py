"""How the tests are run: workers, their order, small bundles that all share, and skips that must be known."""

from __future__ import annotations

import os
import signal

import pytest

from support.skips import ALLOWED_SKIPS, Skips, allowed_skips

# Two workers on two cores: the tensors of the tests are so small that more threads only get in the way.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A job that a script starts in the background ignores Ctrl-C and the end of its terminal, and so do the
# processes that it starts.
for _name in ("SIGINT", "SIGHUP"):
    _number = getattr(signal, _name, None)
    if _number is not None and signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _name == "SIGINT" else signal.SIG_DFL)

MOST_WORKERS = 8  # each may load torch, which takes most of a gigabyte


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fail-on-unlisted-skips",
        action="store_true",
        help=f"fail where a test is skipped that {ALLOWED_SKIPS.name} does not list",
    )


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return the number of workers of `-n auto`: one a core, and none for a single file."""
    named = {str(name).split("::")[0] for name in config.option.file_or_dir}
    if len(named) == 1 and all(name.endswith(".py") for name in named):
        return 0
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, MOST_WORKERS) if usable > 1 else 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, those of real sessions, so that no worker is left with one at the end."""
    first = {item.path for item in items if item.get_closest_marker("micromanager")}
    items.sort(key=lambda item: item.path not in first)


def pytest_configure(config: pytest.Config) -> None:
    # The workers of xdist report to the process that started them.
    if config.getoption("--fail-on-unlisted-skips") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Skips(allowed_skips()), "unlisted-skips")
