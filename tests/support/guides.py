"""Commands and programs of README.md and docs/: find them, check them, run them in order as a reader would.

The word after the three backticks says what a block is: `sh` is commands for every shell; `bash`, `powershell` and
`bat` are commands for that one; `console` is commands after `$ ` and below each what it prints; `python` is a program;
`text` is what a command of the page prints, with other numbers. A comment before the block says what else to know:

    <!-- walk: not run: REASON -->
    <!-- walk: while COMMAND -->

`python tests/support/guides.py [--fresh] [PAGE...]` runs them; `--fresh` makes a new environment, installs into it what
the pages install, and runs each command at full length. Otherwise movies and times are cut (`_SHORTER`).
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROOT", "SHELLS", "Block", "blocks_of", "commands_in", "pages"]

ROOT = Path(__file__).resolve().parents[2]
SHELLS = ("sh", "bash", "powershell", "bat", "console")
_KINDS = {*SHELLS, "python", "text", "mermaid", "{ .python }"}
_BLOCK = re.compile(
    r"(?:^ *<!-- (?P<mark>[^\n]*?) -->\n)?^(?P<indent> *)```(?P<kind>[^\n]*)\n(?P<text>.*?)^(?P=indent)``` *$",
    flags=re.MULTILINE | re.DOTALL,
)
_PROGRAMS = re.compile(r"(?:\$ )?(denoscope|python3?|py|pip|dask|git|ssh) ")


@dataclass(frozen=True)
class Block:
    """One fenced block: its page and line, the word after the backticks, its text, and the comment before it."""

    page: Path
    line: int
    kind: str
    text: str
    not_run: str | None = None
    meanwhile: str | None = None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"


def pages() -> list[Path]:
    """Return README.md and the pages of the site in its order, without the decisions."""
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = re.findall(r"^ +- [^\n]*?: (\S+\.md)$", site, flags=re.MULTILINE)
    return [
        ROOT / "README.md",
        *(ROOT / "docs" / name for name in named if not name.startswith("decisions/")),
    ]


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of a page in order; ValueError where a block or its mark is of no known kind."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("kind")) + 1
        kind = match["kind"].strip()
        if kind not in _KINDS:
            raise ValueError(f"{page.name}:{line}: {kind!r} is none of {', '.join(sorted(_KINDS))}")
        known: dict[str, str] = {}
        if (match["mark"] or "").startswith("walk:"):
            mark = re.fullmatch(r"walk: (?:not run: (?P<not_run>.+)|while (?P<meanwhile>.+))", match["mark"])
            if mark is None:
                raise ValueError(
                    f"{page.name}:{line}: {match['mark']!r} says neither 'not run: …' nor 'while …'"
                )
            known = {name: value for name, value in mark.groupdict().items() if value}
        elif match["mark"] == "test":
            known = {"not_run": "`.ci/run` runs it"}
        body = re.sub(rf"^{match['indent']}", "", match["text"], flags=re.MULTILINE)
        found.append(Block(page, line, kind, body, **known))
    return found


def commands_in(block: Block) -> list[str]:
    """Return the command lines of a block; [] where it holds none."""
    lines = [line.strip() for line in block.text.splitlines() if line.strip()]
    if block.kind == "console":
        return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    if block.kind in SHELLS:
        return lines
    return [line for line in lines if block.kind == "text" and _PROGRAMS.match(line)]


def words_of(command: str) -> list[str]:
    """Return the words of a command line, without the shell's quotes."""
    return shlex.split(command)
