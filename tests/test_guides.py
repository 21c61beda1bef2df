"""Commands and programs of README.md and docs/ can be pasted: they parse, their names exist, and they run."""

from __future__ import annotations

import ast
import builtins
import re
import tomllib
from collections.abc import Callable
from functools import cache
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import typer

from denoscope.acquisition.cli.app import COMMANDS, spread_pairs
from support.guides import ROOT, SHELLS, Block, blocks_of, commands_in, groups, pages, walk, words_of
from support.skips import needs

BLOCKS = [block for page in [*pages(), ROOT / "CONTRIBUTING.md"] for block in blocks_of(page)]


@cache
def command_named(name: str) -> Any:
    """Return a command as the shell would build it."""
    app = typer.Typer(add_completion=False)
    app.command(name)(getattr(import_module(COMMANDS[name]), name))
    return typer.main.get_command(app)


def problem_of_denoscope(words: list[str]) -> str | None:
    """Return the first thing that the shell itself would refuse; nothing is run."""
    name, *rest = spread_pairs(words)
    if name not in COMMANDS:
        return f"there is no command {name}"
    try:
        command_named(name).make_context(name, rest)
    except Exception as error:  # noqa: BLE001 - the class is in a private module of typer
        return str(getattr(error, "message", error))
    return None


def problem_of_python(words: list[str]) -> str | None:
    """Return the first extra, module, script or option that does not exist."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {
        extra for word in words for listed in re.findall(r"^\.\[(.+)\]$", word) for extra in listed.split(",")
    }
    if unknown := extras - {*project["optional-dependencies"]}:
        return f"there is no extra {unknown}"
    if words[0].endswith(".py"):
        text = (ROOT / words[0]).read_text(encoding="utf-8")
        missing = [word for word in words if word.startswith("--") and f'"{word}"' not in text]
        return f"{words[0]} has no option {missing}" if missing else None
    return (
        None if words[:2] in ([["-m", name] for name in ("pip", "pytest", "venv")]) else f"what is {words}?"
    )


CHECKS: dict[str, Callable[[list[str]], str | None]] = {
    "denoscope": problem_of_denoscope,
    "python": problem_of_python,
}


@pytest.mark.parametrize("page", [*pages(), ROOT / "CONTRIBUTING.md"], ids=lambda p: p.stem)
def test_every_command_of_a_page_is_one_that_its_program_takes(page: Path) -> None:
    for block in blocks_of(page):
        if block.kind in ("sh", "console"):
            for command in commands_in(block):
                program, *words = words_of(command)
                problem = CHECKS.get(program, lambda _: None)(words)
                assert problem is None, f"{block}: {command}: {problem}"


def test_every_option_of_a_command_in_a_sentence_exists() -> None:
    found = 0
    for page in pages():
        for span in re.findall(r"`denoscope ([a-z]+ [^`\n]*)`", page.read_text(encoding="utf-8")):
            name, *rest = span.split()
            options = {
                option for each in command_named(name).params for option in each.opts + each.secondary_opts
            }
            assert {word for word in rest if word.startswith("--")} <= options, (
                f"{page.name}: denoscope {span}"
            )
            found += 1
    assert found > 15


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.kind == "python"], ids=str)
def test_a_program_of_a_page_compiles_and_imports_and_defines_what_it_uses(block: Block) -> None:
    nodes = list(ast.walk(ast.parse(block.text, str(block))))
    known, ours = {*dir(builtins), "__name__"}, {}
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            known |= {(each.asname or each.name).split(".")[0] for each in node.names}
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("denoscope"):
            module = import_module(str(node.module))
            ours |= {each.asname or each.name: getattr(module, each.name) for each in node.names}
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            known.add(node.id)
        if isinstance(node, ast.arg):
            known.add(node.arg)
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    assert used <= known, f"{block}: never defined: {used - known}"
    for node in nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ours:
            takes = {*signature(ours[node.func.id]).parameters}
            given = {keyword.arg for keyword in node.keywords}
            assert given <= takes or "settings" in takes, f"{block}: {node.func.id} takes no {given - takes}"


def test_commands_stand_in_blocks_of_commands() -> None:
    assert len([block for block in BLOCKS if block.kind in SHELLS]) > 40
    hidden = [str(block) for block in BLOCKS if block.kind == "text" and commands_in(block)]
    assert hidden == [], "a block of commands begins with ```sh, bash, powershell, bat or console"


@pytest.mark.parametrize(
    ("text", "problem"),
    [("```\nx\n```\n", "is none of"), ("<!-- walk: skip -->\n```sh\nx\n```\n", "says neither")],
)
def test_a_block_or_a_mark_of_no_known_kind_is_named(text: str, problem: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=problem):
        blocks_of(page)


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("denoscope dennoise movie.tif", "no command dennoise"),
        ("denoscope denoise movie.tif --outptu x.tif", "No such option"),
        ("denoscope engines list of engines", "unexpected extra argument"),
        ('python -m pip install ".[everything]"', "no extra"),
        ("python benchmarks/peers.py DATA --minuets 3", "has no option"),
    ],
)
def test_a_command_with_a_mistake_is_noticed(command: str, problem: str) -> None:
    program, *words = words_of(command)
    assert problem in str(CHECKS[program](words))


# The README has a separate test, at full length.
@pytest.mark.slow
@pytest.mark.micromanager
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", [name for name in groups() if "README" not in name])
def test_the_commands_and_programs_of_a_page_run(name: str, tmp_path: Path) -> None:
    needs("pycromanager", "micromanager")
    walk(groups()[name], tmp_path)
