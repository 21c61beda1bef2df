"""Pages of the documentation that are made while it is built: the commands and the index of decisions.

MkDocs calls the functions `on_...` (`hooks` in mkdocs.yml). Nothing here is copied by hand: commands come from the
program's help, decisions from the records' own `Date:` and `Status:` lines.
"""

from __future__ import annotations

import ast
import html
import inspect
import json
import re
import sys
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import typer

sys.path.insert(0, str(Path(__file__).parent))  # MkDocs imports a hook by its path
from _diagram import with_diagrams

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

__all__ = [
    "Decision",
    "breakable_names",
    "command_pages",
    "commands",
    "decision_table",
    "linked_names",
    "read_decisions",
    "whole_options",
]

_COMMANDS = "<!-- commands -->"
_DECISIONS = "<!-- decisions -->"
_ROOMS = "<!-- rooms -->"
_NOTEBOOK = re.compile(r"<!-- notebook (\S+\.ipynb) -->")
_FAULTS = re.compile(r"<!-- faults (\S+\.json) -->")
_LONGEST = 240
_CELL = re.compile(r"<td\b.*?</td>", flags=re.DOTALL)
_INLINE = re.compile(r"(?<!<pre>)(?<!<span></span>)(<code(?: class=\"name\")?>)([^<]*)</code>")
_OPTION = re.compile(r"(?<![\w-])--?[A-Za-z][\w-]*")
_NAME = re.compile(r"<code>([\w.:/-]+)</code>")
_HYPHEN = "\N{NON-BREAKING HYPHEN}"
_NUMBER = re.compile(r"^# (?P<number>\d{4}): (?P<title>.+)$", flags=re.MULTILINE)


@dataclass(frozen=True)
class Decision:
    """One decision record: its number, title, date and status, and the name of its file."""

    number: int
    title: str
    date: str
    status: str
    file: str


def read_decisions(folder: Path) -> list[Decision]:
    """Return all records of a folder in the order of their numbers; ValueError where a line is missing."""
    found = []
    for path in sorted(folder.glob("[0-9]*.md")):
        text = path.read_text(encoding="utf-8")
        head = _NUMBER.search(text)
        lines = {key: re.search(rf"^{key}: (.+)$", text, flags=re.MULTILINE) for key in ("Date", "Status")}
        if head is None or not all(lines.values()):
            raise ValueError(f"{path.name} must begin with '# NNNN: Title', then a Date: and a Status: line")
        date, status = (match[1].strip() for match in lines.values() if match)
        found.append(Decision(int(head["number"]), head["title"].strip(), date, status, path.name))
    return found


def decision_table(decisions: list[Decision]) -> str:
    """Return the Markdown table of the index, newest first."""
    rows = [
        f"| [{d.number:04d} {d.title}]({d.file}) | {d.date.replace('-', _HYPHEN)} | {_linked(d.status, decisions)} |"
        for d in reversed(decisions)
    ]
    return "\n".join(["| decision | date | status |", "|---|---|---|", *rows])


def _linked(status: str, decisions: list[Decision]) -> str:
    files = {d.number: d.file for d in decisions}
    return re.sub(
        r"\b(\d{4})\b",
        lambda m: f"[{m[1]}]({files[int(m[1])]})" if int(m[1]) in files else m[1],
        status,
    )


def commands() -> dict[str, Any]:
    """Return every command of the program by its name, as the shell would build it."""
    (script,) = (point for point in entry_points(group="console_scripts") if point.name == "denoscope")
    table: dict[str, str] = import_module(script.module).COMMANDS
    with_grouped_help = import_module("denoscope.acquisition.cli.help").with_grouped_help
    app = typer.Typer(name="denoscope", add_completion=False)
    for name, module in table.items():
        app.command(name)(with_grouped_help(getattr(import_module(module), name)))
    group: Any = typer.main.get_command(app)
    return {name: group.commands[name] for name in table}


def command_pages() -> str:
    """Return the reference of all commands in Markdown: usage, help, arguments and options of each."""
    records = {name: _records(name, command) for name, command in commands().items()}
    plain = [[record for _, record in each] for each in records.values()]
    everywhere = [record for record in plain[0] if all(record in each for each in plain)]
    parts = [
        _command_page(name, command, [each for each in records[name] if each[1] not in everywhere])
        for name, command in commands().items()
    ]
    return "\n\n".join(["## Every command", _options(everywhere), *parts])


def _context(name: str, command: Any) -> typer.Context:
    return typer.Context(command, info_name=f"denoscope {name}")


def _records(name: str, command: Any) -> list[tuple[str, tuple[str, str]]]:
    """Return heading and help of every argument and option, as `--help` shows them."""
    found = []
    for parameter in command.params:
        record = parameter.get_help_record(_context(name, command))
        if parameter.name != "help" and record is not None:
            found.append((getattr(parameter, "rich_help_panel", None) or "", record))
    return found


def _options(records: list[tuple[str, str]]) -> str:
    rows = [f"| `{_plain(left)}` | {_text(' '.join(right.split()))} |" for left, right in records]
    return "\n".join(["| option | meaning |", "|---|---|", *rows]) if rows else ""


def _plain(left: str) -> str:
    """Return an option or argument without Python's types, which the arguments still have."""
    return re.sub(r"<(?:list\[Path\]|path)>", "PATH", left.strip()).replace("<str>", "TEXT")


def _command_page(name: str, command: Any, records: list[tuple[str, tuple[str, str]]]) -> str:
    usage = " ".join([f"denoscope {name}", *command.collect_usage_pieces(_context(name, command))])
    parts = [f"## {name}", f"```text\n{usage}\n```"]
    if command.help:
        parts.append(_text(inspect.cleandoc(command.help.replace("\b", ""))))
    for heading in dict.fromkeys(sorted((heading for heading, _ in records), key=bool)):
        if heading:
            parts.append(f"**{heading}**")
        parts.append(_options([record for each, record in records if each == heading]))
    return "\n\n".join(parts)


def rooms_table(root: Path) -> str:
    """Return the Markdown table of all rooms: where, how many modules, and what its first sentence says."""
    lines = ["| room | modules | what it does |", "|---|---|---|"]
    for part in ("acquisition", "export", "train", "runtime"):
        top = root / part / "denoscope" / part
        for folder in [top, *sorted(path.parent for path in top.glob("*/**/__init__.py"))]:
            name = folder.relative_to(root / part / "denoscope").as_posix()
            modules = sum(path.name != "__init__.py" for path in folder.glob("*.py"))
            text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
            first = " ".join(text.split("\n\n")[0].split())
            lines.append(
                f"| {'**' * (folder == top)}`{name}`{'**' * (folder == top)} | {modules} | {_text(first)} |"
            )
    return "\n".join(lines)


@cache
def notebook_text(path: Path) -> str:
    """Return the cells of a notebook as Markdown with what they print and draw when they are run now.

    Headings become bold text. Nothing is kept in the repository: each build runs the notebook, in a scratch folder.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        If a cell fails.
    """
    import nbclient
    import nbformat

    book = nbformat.read(path, as_version=4)
    with TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        nbclient.NotebookClient(book, timeout=240, kernel_name="python3", resources=resources).execute()
    parts = []
    for cell in book.cells:
        if cell.cell_type == "markdown":
            parts.append(re.sub(r"^#+ (.+)$", r"**\1**", cell.source.strip(), flags=re.MULTILINE))
        else:
            parts.append("``` { .python }\n" + cell.source.strip() + "\n```")
            parts += [shown for output in cell.outputs if (shown := _output(output))]
    return "\n\n".join(parts)


def _output(output: Any) -> str:
    """Return one output of a cell as Markdown: a picture inside the page, or its text; warnings are left out."""
    data = output.get("data", {})
    if "image/png" in data:
        return f'<img alt="Picture that the cell above draws" src="data:image/png;base64,{data["image/png"].strip()}">'
    text = data.get("text/plain", output.get("text", "") if output.get("name") == "stdout" else "").strip()
    return f"``` {{ .text }}\n{text}\n```" if text else ""


def fault_table(results: Path) -> str:
    """Return the Markdown table of a fault matrix: what was done, frames received and readable, what was said."""
    rows = json.loads(results.read_text(encoding="utf-8"))["rows"]
    lines = ["| what happens | received | readable | exit | what you read |", "|---|---|---|---|---|"]
    for row in rows:
        numbers = (
            str(row.get(key, "–")) if row.get(key) is not None else "–" for key in ("received", "readable")
        )
        told = re.sub(r"not denoised: (\d+ [a-z -]+(?:, \d+ [a-z -]+)*)", _reasons_in_words, row["told"])
        told = re.sub(
            r"dropped (\{.*?\})", lambda m: f"not denoised: {_skipped(ast.literal_eval(m[1]))}", told
        )
        told = told.replace("frames_reached", "the number of frames asked for was reached")
        told = "nothing: it was killed" if told.startswith("None,") else " ".join(told.split())
        told = told if len(told) <= _LONGEST else told[:_LONGEST].rsplit(" ", 1)[0] + " …"
        lines.append(f"| {_text(row['what'])} | {' | '.join(numbers)} | {row['exit_code']} | {_text(told)} |")
    return "\n".join(lines)


def _reasons_in_words(listed: re.Match[str]) -> str:
    counts = (each.split(" ", 1) for each in listed[1].split(", "))
    return f"not denoised: {_skipped({reason: int(count) for count, reason in counts})}"


def _skipped(dropped: dict[str, int]) -> str:
    """Return how many frames were skipped and why, in a user's words."""
    from denoscope.acquisition.session.ending.summary import skipped_by_reason

    reasons = skipped_by_reason(dropped)
    return ", ".join(f"{count} ({reason})" for reason, count in reasons.items()) or "none"


def _text(text: str) -> str:
    """Return help as Markdown: no rich markup, nothing that HTML would take for a tag."""
    text = re.sub(r"\[/?(?:bold|italic|dim|cyan|green|red|yellow|link)[^\]]*\]", "", text)
    text = html.escape(text, quote=False).replace("|", "&#124;")
    return text.replace("{", "&#123;").replace("}", "&#125;")


def linked_names(content: str, module: str) -> str:
    """Link each name in code to its own entry further down on the page, in HTML."""

    def link(mark: re.Match[str]) -> str:
        entry = f"{module}.{mark[1]}"
        return f'<a href="#{entry}">{mark[0]}</a>' if f'id="{entry}"' in content else mark[0]

    return re.sub(r"<code>(\w+(?:\.\w+)?)</code>(?!</a>)", link, content)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let the overview of a Python page lead to what it names, and lines end between options, not inside."""
    del config, files
    return whole_options(breakable_names(linked_names(html, f"denoscope.{Path(page.file.src_uri).stem}")))


def whole_options(html: str) -> str:
    """Return a page whose lines do not end inside an option such as ``--roi``, outside blocks of code."""

    def whole(code: re.Match[str]) -> str:
        return code[1] + _OPTION.sub(r'<span class="option">\g<0></span>', code[2]) + "</code>"

    return _INLINE.sub(whole, html)


def breakable_names(html: str) -> str:
    """Return a page whose tables may break the names of modules and files, behind a colon or a slash."""

    def broken(code: re.Match[str]) -> str:
        name = re.sub(r"(?<=\w)([:/])(?=\w)", r"\1<wbr>", code[1])
        return code[0] if name == code[1] else f'<code class="name">{name}</code>'

    return _CELL.sub(lambda cell: _NAME.sub(broken, cell[0]), html)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the made parts in the place of their marks."""
    del files
    markdown = with_diagrams(markdown)
    if page.file.src_uri == "reference/commands.md":
        return markdown.replace(_COMMANDS, command_pages())
    if page.file.src_uri == "decisions/index.md":
        folder = Path(config.docs_dir) / "decisions"
        return markdown.replace(_DECISIONS, decision_table(read_decisions(folder)))
    if page.file.src_uri == "contributing/rooms.md":
        return markdown.replace(_ROOMS, rooms_table(Path(config.config_file_path).parent))
    if page.file.src_uri == "reference/examples.md":
        examples = Path(config.config_file_path).parent / "examples"
        return _NOTEBOOK.sub(lambda mark: notebook_text(examples / mark[1]), markdown)
    results = Path(config.config_file_path).parent / "benchmarks" / "results"
    return _FAULTS.sub(lambda mark: fault_table(results / mark[1]), markdown)
