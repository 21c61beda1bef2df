"""Every command and every Python example of the README is executed as it stands there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"(<!-- \w+ -->\n)?```(\w+)\n(.*?)```", README, flags=re.DOTALL)
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("train", "export", "runtime", "acquisition")),
}


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=540, check=False
    )


def denoscope(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    program, *words = line.split()
    assert program == "denoscope"
    return run([sys.executable, "-m", "denoscope.acquisition._cli", *words], folder)


def shell_lines() -> list[str]:
    """Return the commands in order; those that install or start the tests are `.ci/run`'s to execute."""
    lines = [line for _, kind, text in BLOCKS if kind == "sh" for line in text.strip().splitlines()]
    parts = [part.strip() for line in lines for part in line.split("&&")]
    return [part for part in parts if not part.startswith("python -m p")]


def test_the_readme_has_the_two_commands() -> None:
    marked = {marker.strip(): text.strip() for marker, kind, text in BLOCKS if marker}
    assert set(marked) == {"<!-- run -->", "<!-- test -->"}
    assert all("\n" not in text for text in marked.values()), "each is one line to paste"
    assert "denoscope demo" in marked["<!-- run -->"]
    assert "pytest" in marked["<!-- test -->"]


@pytest.mark.slow
@pytest.mark.micromanager
@pytest.mark.timeout(900)
def test_every_shell_command_of_the_readme(tmp_path: Path) -> None:
    lines = shell_lines()
    assert [line.split()[1] for line in lines] == [
        "demo",
        "train",
        "live",
        "denoise",
        "evaluate",
        "doctor",
        "bench",
    ]
    for line in lines:
        done = denoscope(line, tmp_path)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    run_folder = tmp_path / "demo-run"
    for name in ("raw.tif", "raw.jsonl", "denoised.ome.tif", "report.png", "report.json", "log.jsonl"):
        assert (run_folder / name).stat().st_size > 0
    assert json.loads((run_folder / "report.json").read_text(encoding="utf-8"))["outcome"]["exit_code"] == 0
    assert (tmp_path / "mine-report.html").stat().st_size > 50_000
    margins = json.loads((tmp_path / "comparison" / "evaluation.json").read_text(encoding="utf-8"))[
        "margin_db"
    ]
    assert margins["simulated test movie"]["live"] >= 1.0
    assert (tmp_path / "speed" / "bench.md").stat().st_size > 0


@pytest.mark.parametrize("code", [text for _, kind, text in BLOCKS if kind == "python"])
def test_every_python_example_of_the_readme(code: str, tmp_path: Path) -> None:
    done = run([sys.executable, "-W", "error", "-c", code], tmp_path)
    assert done.returncode == 0, done.stderr


def test_every_local_link_of_the_readme_leads_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]
