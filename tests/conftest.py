"""How the tests are run: workers, their order, small bundles that all share, and skips that must be known."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

# The tests start hundreds of processes. Where containers forbid Python to keep compiled modules, each process would
# compile the project again, and each worker all tests and hypothesis: a quarter of the processor's time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Half a million objects that stay: of libraries and of the tests themselves. Each sweep of the garbage collector would
# look at all of them, a quarter of a second each time. `pytest_collection_finish` switches it on again.
gc.disable()

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

from support.skips import ALLOWED_SKIPS, Skips, allowed_skips  # noqa: E402

# Two workers on two cores: the tensors of the tests are so small that more threads only get in the way.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Each of hundreds of processes would ask every installed package whether it is a plugin of pydantic.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

# A job that a script starts in the background ignores Ctrl-C and the end of its terminal, and so do the
# processes that it starts.
for _name in ("SIGINT", "SIGHUP"):
    _number = getattr(signal, _name, None)
    if _number is not None and signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _name == "SIGINT" else signal.SIG_DFL)

# The same examples in every run, on this computer and where `CI` is set, and no limit in seconds, which a busy
# computer would break. `--hypothesis-profile search` looks for new examples.
settings.register_profile("same", derandomize=True, deadline=None, database=None)
settings.register_profile("search", deadline=None, max_examples=1000)
settings.load_profile("same")

MOST_WORKERS = 8  # each may load torch, which takes most of a gigabyte
# Files of many seconds of computing each; a name that is missing here costs time alone.
LONG = {
    "test_denoiser_process",
    "test_evaluate",
    "test_examples",
    "test_fill",
    "test_fit",
    "test_fit_resume",
    "test_flow_fit",
    "test_goes_on",
    "test_guard",
    "test_guides",
    "test_half",
    "test_hook",
    "test_learning_commands",
    "test_learning_functions",
    "test_light",
    "test_methods",
    "test_moves",
    "test_movies_damage",
    "test_own_kernels",
    "test_raw_safety",
    "test_readme",
    "test_start",
    "test_stream",
    "test_sts_uvd",
    "test_tensorrt",
}

# Tests of minutes that share nothing with the others of their file: each goes to the next worker that is free.
APART = {"test_an_example_runs", "test_the_commands_and_programs_of_a_page_run"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fail-on-unlisted-skips",
        action="store_true",
        help=f"fail where a test is skipped that {ALLOWED_SKIPS.name} does not list",
    )


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return the number of workers of `-n auto`: two more than there are cores, and none for a single file.

    About a third of the time, a test waits for a camera, a process or a deadline; then another has its core. Slow
    tests compute more, and other checks run beside them: one more than there are cores.
    """
    named = {str(name).split("::")[0] for name in config.option.file_or_dir}
    if len(named) == 1 and all(name.endswith(".py") for name in named):
        return 0
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    more = 2 if "not slow" in config.option.markexpr else 1
    return min(usable + more, MOST_WORKERS)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Return what gives each worker whole files of tests, and those of `APART` one by one."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class FilesAndTestsApart(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            name = nodeid.partition("::")[2].partition("[")[0]
            return nodeid if name in APART else str(super()._split_scope(nodeid))

    return FilesAndTestsApart(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Compile, in each worker, other files of tests first.

    Every worker imports all of them. On a fresh clone each would compile each at the same time as the others: five
    seconds of a processor for nothing.
    """
    worker = getattr(session.config, "workerinput", None)
    if worker is None or session.config.option.file_or_dir:
        return
    tests = Path(__file__).parent
    files = sorted(tests.rglob("test_*.py"), key=lambda path: (-path.stat().st_size, path))
    number, count = int(worker["workerid"].removeprefix("gw")), int(worker["workercount"])
    for path in files[number::count]:
        package = (path.parent / "__init__.py").exists()
        if not package and str(path.parent) not in sys.path:
            sys.path.insert(0, str(path.parent))  # as pytest does
        name = f"{path.parent.name}.{path.stem}" if package else path.stem
        # What cannot be imported is skipped or fails when it is collected.
        with contextlib.suppress(Exception, pytest.skip.Exception):
            importlib.import_module(name)


def pytest_collection_finish() -> None:
    """Sweep once, and leave what is there now out of later sweeps."""
    gc.enable()
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mix files that wait with files that compute, and begin with those that take longest.

    The workers take files in this order, so no worker is left with a long one at the end.
    """
    paths = list(dict.fromkeys(item.path for item in items))
    waiting = {item.path for item in items if item.get_closest_marker("micromanager")}
    waits = sorted((p for p in paths if p in waiting), key=lambda p: p.stem not in LONG)
    computes = sorted(
        (p for p in paths if p not in waiting), key=lambda p: (p.stem not in LONG, p.parent.name)
    )
    mixed: dict[Path, None] = {}
    for place in range(len(paths)):
        mixed |= dict.fromkeys(waits[place : place + 1] + computes[2 * place : 2 * place + 2])
    order = {path: place for place, path in enumerate(mixed)}
    items.sort(key=lambda item: order[item.path])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Say how a worker ended that did not end by itself: pytest-xdist only says that it did."""
    program = getattr(getattr(node.gateway, "_io", None), "popen", None)
    if words := getattr(node, "workeroutput", {}).get("interrupted"):
        print(f"\n{node.gateway.id} was interrupted:\n{words}", flush=True)
    if error is None or program is None:
        return
    with contextlib.suppress(subprocess.TimeoutExpired):
        program.wait(5)
    print(
        f"\n{node.gateway.id} ended with code {program.returncode} (a signal where it is negative)",
        flush=True,
    )


class Interruption:
    """Keep where a worker was interrupted: pytest-xdist says of it, without a stack, that it crashed."""

    def __init__(self, output: dict[str, str]) -> None:
        self._output = output

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        self._output["interrupted"] = str(excinfo.getrepr(style="native"))


def _terminated(number: int, _frame: object) -> None:
    raise KeyboardInterrupt(f"signal {number}, {signal.Signals(number).name}")


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workeroutput"):
        config.pluginmanager.register(Interruption(config.workeroutput), "interruption")
        for name in ("SIGTERM", "SIGHUP"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), _terminated)
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        gc.enable()  # this process collects nothing itself
    # The workers of xdist report to the process that started them.
    if config.getoption("--fail-on-unlisted-skips") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Skips(allowed_skips()), "unlisted-skips")
