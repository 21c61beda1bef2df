"""Names and words that would steer the terminal: they are shown, and steer nothing."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from denoscope.acquisition.cli.commands.doctor import _print
from denoscope.acquisition.cli.commands.evaluate import _print_table, _print_verdicts
from denoscope.acquisition.cli.progress import ProgressLine
from denoscope.acquisition.cli.screen import _table
from denoscope.acquisition.cli.shell import Shell
from denoscope.acquisition.cli.visible import visible
from denoscope.acquisition.diagnostics.finding import Finding, Findings, Status
from denoscope.train.evaluation.tables import ResultTable
from support.tiny_bundle import tiny_bundle

EVIL = "a\x1b[2J\x1b]0;title\x07\x9b1m[/b]\u202egpj"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x7f\r", "\\x1b[31mred\\x7f\\r"),
        ("\x9b2J", "\\x9b2J"),
        ("live\u202egpj.exe", "live\\u202egpj.exe"),
        ("\udcff.tif", "\\udcff.tif"),
        ("\u00b5m, e\u0301, \U0001f9e0, \ttab\nline", "\u00b5m, e\u0301, \U0001f9e0, \ttab\nline"),
    ],
)
def test_what_steers_a_terminal_is_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown


def _is_plain(text: str) -> bool:
    return visible(text) == text


def test_words_of_a_bundle_steer_no_terminal(tmp_path: Path, denoscope: Callable[..., Any]) -> None:
    bundle = tmp_path / "b.denoscope"
    tiny_bundle(bundle)
    manifest = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps({**manifest, EVIL: 1}))
    np.save(tmp_path / "movie.npy", np.zeros((4, 24, 32), np.uint16))
    done = denoscope("denoise", tmp_path / "movie.npy", "--output", tmp_path / "out.tif", "--bundle", bundle)
    assert done.returncode == 2
    assert "a\\x1b[2J" in done.stderr
    assert _is_plain(done.stdout + done.stderr)


def test_names_steer_no_terminal(tmp_path: Path, denoscope: Callable[..., Any]) -> None:
    done = denoscope("denoise", tmp_path / f"{EVIL}.tif", "--output", tmp_path / "out.tif")
    assert done.returncode == 2
    assert "a\\x1b[2J" in done.stderr
    assert _is_plain(done.stdout + done.stderr)


def test_a_table_shows_any_name(capsys: pytest.CaptureFixture[str]) -> None:
    _print_table(Shell(), ResultTable(EVIL, ("method", "loss"), [(EVIL, "1.0")], texts=1))
    shown = capsys.readouterr().out
    assert "[/b]" in shown
    assert _is_plain(shown)


def test_verdicts_findings_and_the_live_table_show_any_name(capsys: pytest.CaptureFixture[str]) -> None:
    method = SimpleNamespace(method=EVIL, verdict="fine", verdicts=[], frame_s=0.0)
    _print_verdicts(Shell(), SimpleNamespace(movie=EVIL, methods=[method]))  # type: ignore[arg-type]
    finding = Finding(EVIL, Status.BROKEN, EVIL, EVIL)
    _print(Shell(), Findings(can_record=False, findings=[finding], denoscope="1", python="3", platform="x"))
    Console().print(_table([("problem", EVIL)]))
    shown = capsys.readouterr().out
    assert shown.count("a\\x1b[2J") == 8
    assert _is_plain(shown)


def test_a_progress_line_shows_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "200")
    with ProgressLine(Shell(), "denoising", "frame") as line:
        line.show(1, 2, EVIL)
    shown = sys.stdout.getvalue()  # type: ignore[attr-defined]
    assert "a\\x1b[2J" in shown
    assert "\x1b]0;title" not in shown
