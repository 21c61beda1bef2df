"""Every example is executed as it stands, and uses the public interface only."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from support.skips import needs

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("train", "export", "runtime", "acquisition")),
}
MARKS = {
    "adapt_a_pycromanager_acquisition.py": [pytest.mark.micromanager, pytest.mark.slow],
    "feed_a_pymmcore_plus_queue.py": [pytest.mark.micromanager, pytest.mark.slow],
    "fire_and_close_the_shutter.py": [pytest.mark.micromanager, pytest.mark.slow],
    "attach_pymmcore_plus.py": [pytest.mark.micromanager, pytest.mark.slow],
    "hook_pycromanager.py": [pytest.mark.micromanager, pytest.mark.slow],
    "denoise_an_array.py": [pytest.mark.slow],
    "denoise_a_movie.py": [pytest.mark.slow],
    "read_a_run.py": [pytest.mark.slow],
    "train_then_denoise.py": [pytest.mark.slow],
}


@pytest.mark.parametrize("path", [pytest.param(p, id=p.stem, marks=MARKS.get(p.name, [])) for p in EXAMPLES])
def test_an_example_runs(path: Path, tmp_path: Path) -> None:
    if "pycromanager" in path.read_text(encoding="utf-8"):
        needs("pycromanager", "micromanager")
    done = subprocess.run(
        [sys.executable, path],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "Traceback" not in done.stderr
    assert "problem: " not in done.stdout or "problem: None" in done.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_an_example_uses_public_names_only(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith('"""')
    # The column of the site is that wide.
    assert max(map(len, text.splitlines())) <= 100
    assert not re.search(r"^\s*(from|import) \S*\b_\w", text, flags=re.MULTILINE)
    assert not re.search(r"^from denoscope\.\w+ import .*\b_\w", text, flags=re.MULTILINE)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_an_example_imports_what_there_is(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("denoscope"):
            module = import_module(str(node.module))
            assert [each.name for each in node.names if not hasattr(module, each.name)] == []


def test_there_are_examples_and_the_docs_show_them() -> None:
    assert len(EXAMPLES) >= 5
    pages = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "docs").rglob("*.md"))
    assert not [p.name for p in EXAMPLES if f'--8<-- "examples/{p.name}"' not in pages]
