"""The documentation builds, its made pages are complete, and it stays small."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def site() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_site", DOCS / "_site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["docs_site"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_every_decision_has_a_date_and_a_status_and_is_in_the_index(site: ModuleType) -> None:
    records = site.read_decisions(DOCS / "decisions")
    assert len(records) == len({r.number for r in records}) > 40
    table = site.decision_table(records)
    numbers = {f"{r.number:04d}" for r in records}
    for record in records:
        assert record.file.startswith(f"{record.number:04d}-")
        assert f"]({record.file})" in table
        year, month, day = (int(part) for part in record.date.split("-"))
        assert year >= 2026
        assert 1 <= month <= 12
        assert 1 <= day <= 31
        kind, _, later = record.status.partition(" by ")
        assert (kind == "accepted" and not later) or (kind == "superseded" and later in numbers), record.file
        assert not later or int(later) > record.number
    assert "<!-- decisions -->" in (DOCS / "decisions" / "index.md").read_text(encoding="utf-8")


def test_a_decision_without_a_status_is_named(site: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "0001-a.md").write_text("# 0001 A\n\nDate: 2026-11-28\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"0001-a\.md must begin"):
        site.read_decisions(tmp_path)


def test_the_reference_has_every_command_and_option(site: ModuleType) -> None:
    page = site.command_pages()
    for name in ("demo", "live", "denoise", "train", "evaluate", "bench", "doctor", "bundles", "engines"):
        assert f"## {name}\n" in page
    assert "`--look-ahead" in page
    assert "<!-- commands -->" in (DOCS / "reference" / "commands.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocstrings", reason="needs the extra 'docs'")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    commands = (tmp_path / "site" / "reference" / "commands.html").read_text(encoding="utf-8")
    assert "--look-ahead" in commands
    assert "Stream" in (tmp_path / "site" / "reference" / "runtime.html").read_text(encoding="utf-8")
