"""Processes that denoscope starts execute nothing that lies in the current folder."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from denoscope.acquisition.processes import child
from denoscope.acquisition.processes.child import start_child, with_large_pages
from denoscope.runtime.children import child_command, child_environment

ROOT = Path(__file__).resolve().parents[2]
STARTED = (
    "denoscope.acquisition.denoisers.process",
    "denoscope.acquisition.integrations.hook_process",
    "denoscope.acquisition.view.window.process",
    "denoscope.acquisition.view.docks.session_process",
)
RUN = ("denoscope.acquisition.bench.worker", "denoscope.export.build_process")
PATHS = ("", os.pathsep, "nowhere" + os.pathsep, os.pathsep + "nowhere")


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder whose files would betray that they were executed."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("json", "sitecustomize", "usercustomize", "threading", "typing", "numpy", "sample"):
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'a').write({name!r})\n")
    monkeypatch.chdir(folder)
    return tmp_path / "executed"


@pytest.mark.parametrize("module", STARTED)
def test_a_process_beside_a_session(planted: Path, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setenv("PYTHONPATH", "")
    with start_child(module, "0") as process:
        process.communicate(b"", timeout=280)
    assert not planted.exists(), planted.read_text()


@pytest.mark.parametrize("module", RUN)
def test_a_process_that_does_one_thing(planted: Path, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setenv("PYTHONPATH", "")
    done = subprocess.run(
        child_command(module), input=b"{}", env=child_environment(), capture_output=True, check=False
    )
    assert b"No module named" not in done.stderr, "it ran as far as the request"
    assert not planted.exists(), planted.read_text()


@pytest.mark.parametrize("path", PATHS)
def test_the_current_folder_is_not_on_the_path(
    planted: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("PYTHONPATH", path)
    with start_child("sample") as process:  # a module of the current folder, which nobody may find
        _, errors = process.communicate(b"", timeout=280)
    assert b"No module named sample" in errors
    assert not planted.exists()
    assert "" not in child_environment()["PYTHONPATH"].split(os.pathsep)


def test_what_a_child_starts_keeps_to_it(planted: Path) -> None:
    words = [sys.executable, "-c", "import sample"]
    done = subprocess.run(words, env=child_environment(), capture_output=True, check=False)
    assert b"No module named 'sample'" in done.stderr
    assert not planted.exists()


def test_no_other_place_starts_an_interpreter() -> None:
    found = []
    for part in ("acquisition", "export", "train", "runtime"):
        for path in (ROOT / part / "denoscope").rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            for node in ast.walk(ast.parse(text)) if "executable" in text else ():
                if isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.executable":
                    found.append(path.relative_to(ROOT).as_posix())
    assert found == ["runtime/denoscope/runtime/children.py"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, "glibc.malloc.hugetlb=1"),
        ("", "glibc.malloc.hugetlb=1"),
        ("glibc.malloc.check=3", "glibc.malloc.check=3:glibc.malloc.hugetlb=1"),
        ("glibc.malloc.hugetlb=0:glibc.malloc.check=3", "glibc.malloc.hugetlb=0:glibc.malloc.check=3"),
    ],
    ids=["none", "empty", "another", "the user's"],
)
def test_large_pages_are_asked_for_beside_what_the_user_asks(
    monkeypatch: pytest.MonkeyPatch, before: str | None, after: str
) -> None:
    given = {"PATH": "here"} if before is None else {"PATH": "here", "GLIBC_TUNABLES": before}
    monkeypatch.setattr(child.sys, "platform", "linux")
    assert with_large_pages(given) == {"PATH": "here", "GLIBC_TUNABLES": after}
    monkeypatch.setattr(child.sys, "platform", "win32")
    assert with_large_pages(given) == given


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_only_processes_that_compute_ask_for_large_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setattr(child.subprocess, "Popen", popen := Mock())
    for asks in (False, True):
        start_child("module", large_pages=asks)
        assert ("GLIBC_TUNABLES" in popen.call_args.kwargs["env"]) is asks


@pytest.mark.skipif(not hasattr(os, "getsid"), reason="Windows has process groups instead")
def test_a_child_is_out_of_reach_of_the_terminal() -> None:
    with start_child("code") as process:  # it reads what it should do from the pipe
        assert os.getsid(process.pid) == process.pid
        process.communicate(b"", timeout=280)
