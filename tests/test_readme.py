"""Every command and every Python example of the README is executed as it stands there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.guides import blocks_of, commands_in, pages

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
    return run([sys.executable, "-m", "denoscope.acquisition.cli.app", *words], folder)


def shell_lines() -> list[str]:
    """Return the commands in order; those that install or start the tests are `.ci/run`'s to execute."""
    lines = [line for _, kind, text in BLOCKS if kind == "sh" for line in text.strip().splitlines()]
    return [line for line in lines if not line.startswith("python -m p")]


def test_the_readme_has_the_two_commands() -> None:
    marked = {marker.strip(): text.strip() for marker, kind, text in BLOCKS if marker}
    assert set(marked) == {"<!-- run -->", "<!-- test -->"}
    assert marked["<!-- run -->"].splitlines()[-1].startswith("denoscope demo")
    assert marked["<!-- test -->"].splitlines()[-1] == "python -m pytest"


def test_the_readme_is_short_and_its_commands_suit_every_shell() -> None:
    assert len(README.splitlines()) <= 100
    for page in [*pages(), ROOT / "CONTRIBUTING.md"]:
        for block in (each for each in blocks_of(page) if each.kind in ("sh", "console")):
            # PowerShell 5 knows no &&, cmd.exe no single quotes, comments, patterns and no continued lines.
            wrong = [line for line in commands_in(block) if re.search(r"&&|\\$|'|\$|#|\*\.(?!\*)| ~", line)]
            assert wrong == [], f"{block}: for one shell only: ```bash, ```powershell or ```bat"


def test_nothing_is_installed_from_an_index_that_does_not_have_it() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        assert not re.search(r"pip install [^`\n]*denoscope", page.read_text(encoding="utf-8")), page
    for part in ("runtime", "train", "export", "acquisition"):
        for module in (ROOT / part).rglob("*.py"):
            text = module.read_text(encoding="utf-8")
            assert not re.search(r"pip install [^\n]*(denoscope\[|reinstall denoscope)", text), module


@pytest.mark.slow
@pytest.mark.micromanager
@pytest.mark.timeout(900)
def test_every_shell_command_of_the_readme(tmp_path: Path) -> None:
    lines = shell_lines()
    assert [line.split()[1] for line in lines] == [
        "demo",
        "train",
        "evaluate",
        "live",
        "denoise",
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
    evaluation = json.loads((tmp_path / "comparison" / "evaluation.json").read_text(encoding="utf-8"))
    methods = [method["method"] for method in evaluation["movies"][0]["methods"]]
    assert {"live", "mine"} <= set(methods)
    assert (tmp_path / "speed" / "bench.md").stat().st_size > 0


def test_every_local_link_of_the_readme_leads_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    headings = re.findall(r"^#+ (.+)$", README, flags=re.MULTILINE)
    anchors = {"#" + heading.lower().replace(" ", "-") for heading in headings}
    assert not [link for link in links if link not in anchors and not (ROOT / link).exists()]
