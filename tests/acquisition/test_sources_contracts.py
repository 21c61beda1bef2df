"""The contract of a source, for those around a Micro-Manager core: one core a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from acquisition.conftest import ROOT, environment
from support.skips import needs

needs("pycromanager", "micromanager")


@pytest.mark.micromanager
@pytest.mark.slow
@pytest.mark.parametrize("name", ["TestReplayCamera", "TestBridge"])
def test_contract(name: str) -> None:
    file = Path(__file__).with_name("core_contracts.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", name, file],
        capture_output=True,
        text=True,
        timeout=200,
        env=environment() | {"PYTEST_ADDOPTS": ""},  # what the outer run was given is not this one's
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
