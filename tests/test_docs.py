"""The documentation builds, its made pages are complete, and it stays small."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
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


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))], ids=lambda p: p.stem
)
def test_every_row_of_a_table_has_the_cells_of_its_head(page: Path) -> None:
    """A `|` in a comment or in code ends a cell; a table without an empty line before it is shown as text."""
    head, before = 0, ""
    for line in re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL).splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert head or not cells or not before.strip(), f"no empty line before {line}"
        head, before = (head or cells) if cells else 0, line
        assert cells == head, line


def test_names_in_tables_break_and_options_do_not(site: ModuleType) -> None:
    name, option = "<td><code>a.b:C</code></td>", "<td><code>--roi x,y</code> <code>--bundle</code></td>"
    assert site.breakable_names(name) == '<td><code class="name">a.b:<wbr>C</code></td>'
    assert site.breakable_names(option + "<code>a.b:C</code>") == option + "<code>a.b:C</code>"


def test_an_option_is_not_broken(site: ModuleType) -> None:
    shown = site.whole_options("<p><code>train MOVIE --guided -m</code></p>")
    assert shown.count('<span class="option">') == 2
    assert '<span class="option">--guided</span>' in shown
    for kept in ("<pre><span></span><code>a --b</code></pre>", "<code>live-hq</code>", "<p>--b</p>"):
        assert site.whole_options(kept) == kept


def test_a_diagram_is_drawn_and_a_line_that_is_not_understood_is_named(site: ModuleType) -> None:
    chart = 'flowchart TD\n  a["room.module:do_it"] --> b[two]\n  b -.->|a < b| c[(raw.tif)]\n  a --> c'
    drawn = site.with_diagrams(f"before\n```mermaid\n{chart}\n```\nafter")
    assert "mermaid" not in drawn
    assert drawn.count("<rect") == drawn.count('class="arrow"') == 3
    assert all(text in drawn for text in (">room.module<", ">do_it<", ">two<", ">raw.tif<", "a &lt; b"))
    beside = site.with_diagrams(
        "```mermaid\nflowchart TD\n  a -->|a text that is longer than its boxes| b\n```"
    )
    (width,) = re.findall(r'role="img" viewBox="0 0 (\d+) ', beside)
    (left,) = re.findall(r'class="note" x="(\d+)"', beside)
    assert int(width) > int(left) + 7 * len("a text that is longer than its boxes"), "the text is not cut off"
    for wrong in ("stateDiagram-v2", "flowchart TD\n  a --> b\n  b --> a"):
        with pytest.raises(ValueError, match="of a flowchart"):
            site.with_diagrams(f"```mermaid\n{wrong}\n```\n")


def test_the_fault_table_speaks_in_words_of_a_user(site: ModuleType, tmp_path: Path) -> None:
    told = [
        "frames_reached, dropped {'overrun': 79, 'keep-up': 9, 'paused': 1}",
        "interrupted; not denoised: 536 overrun, 93 keep-up; lost 2",
        "stopped, dropped {}",
    ]
    rows = [{"what": "x", "received": 3, "readable": 3, "exit_code": 0, "told": each} for each in told]
    (tmp_path / "rows.json").write_text(json.dumps({"rows": rows}), encoding="utf-8")
    shown = site.fault_table(tmp_path / "rows.json")
    assert "was reached, not denoised: 88 (computer too slow), 1 (paused by you)" in shown
    assert "interrupted; not denoised: 629 (computer too slow); lost 2" in shown
    assert "stopped, not denoised: none" in shown


@pytest.mark.parametrize(
    "text", ["# 0001: A\n\nDate: 2026-11-28\n", "# 0001 A\n\nDate: 1\nStatus: accepted\n"]
)
def test_a_decision_that_begins_otherwise_is_named(site: ModuleType, tmp_path: Path, text: str) -> None:
    (tmp_path / "0001-a.md").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"0001-a\.md must begin"):
        site.read_decisions(tmp_path)


def test_the_reference_has_every_command_and_option(site: ModuleType) -> None:
    page = site.command_pages()
    for name in ("demo", "live", "denoise", "train", "evaluate", "bench", "doctor", "bundles", "engines"):
        assert f"## {name}\n" in page
    assert "`--look-ahead NUMBER`" in page, "the words of --help, not Python's types"
    assert page.index("## live\n") < page.index("**Camera**") < page.index("`--exposure-ms NUMBER`")
    assert not re.search(r"\| `[^`]*<(?:int|float|str|path|list\[)", page)
    assert "<!-- commands -->" in (DOCS / "reference" / "commands.md").read_text(encoding="utf-8")


PLACE = re.compile(r"\b((?:runtime|train|export|acquisition)(?:\.\w+)*)(?::(\w+(?:\.\w+)*))?(?![\w/])")


def missing_place(module: str, name: str | None) -> str | None:
    """Return what does not exist of `part.room.module:Class.method`; None where all of it does."""
    part, *rest = module.split(".")
    path = ROOT.joinpath(part, "denoscope", part, *rest)
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if not file.is_file():
        return f"module {module}"
    body = ast.parse(file.read_text(encoding="utf-8")).body
    for step in [] if name is None else name.split("."):
        known: dict[str, list[ast.stmt]] = {}
        for node in body:
            inside = node.body if isinstance(node, ast.If) else [node]  # TYPE_CHECKING
            for each in inside:
                if isinstance(each, ast.ClassDef | ast.FunctionDef):
                    known[each.name] = each.body
                elif isinstance(each, ast.ImportFrom):
                    known.update({alias.asname or alias.name: [] for alias in each.names})
        if step not in known:
            return f"{step} in {module}"
        body = known[step]
    return None


@pytest.mark.parametrize("page", ["rooms", "frame", "movie"])
def test_the_modules_and_functions_that_a_page_names_exist(page: str) -> None:
    text = (DOCS / "contributing" / f"{page}.md").read_text(encoding="utf-8")
    named = [found for found in PLACE.findall(text) if "." in found[0] or found[1]]
    assert len(named) >= 6
    assert [problem for problem in (missing_place(m, n or None) for m, n in named) if problem] == []
    assert page == "rooms" or "```mermaid" in text


def test_a_name_that_is_gone_is_noticed() -> None:
    assert missing_place("runtime.stream.stream", "Stream.push") is None
    assert missing_place("runtime.stream.stream", "Stream.pushed") == "pushed in runtime.stream.stream"
    assert missing_place("runtime.stream.nothing", None) == "module runtime.stream.nothing"


def test_a_python_page_links_the_names_of_its_overview(site: ModuleType) -> None:
    page = '<li><code>live</code> and <code>other</code></li><h2 id="denoscope.acquisition.live">live</h2>'
    linked = site.linked_names(page, "denoscope.acquisition")
    assert '<a href="#denoscope.acquisition.live"><code>live</code></a> and <code>other</code>' in linked
    assert site.linked_names(linked, "denoscope.acquisition") == linked


def test_every_room_has_a_line(site: ModuleType) -> None:
    table = site.rooms_table(ROOT)
    for room in (
        "acquisition/session",
        "acquisition/view/docks",
        "runtime/stream",
        "runtime/stream/calibration",
        "train/fitting",
        "export",
    ):
        assert re.search(rf"`{room}`\**? \| \d+ \| \S", table), room


@pytest.mark.parametrize("page", sorted((DOCS / "guides").glob("*.md")), ids=lambda p: p.stem)
def test_a_guide_answers_first_and_then_shows_the_command(page: Path) -> None:
    _, first, *rest = page.read_text(encoding="utf-8").split("\n\n")
    assert re.match(r"(?!```)[A-Z`]", first), "a guide begins with a sentence"
    early = "\n\n".join(rest[:4])
    assert re.search(r"^```", early, flags=re.MULTILINE), "and shows a command or a program soon"


def test_lines_are_short_enough_to_read_as_text() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")]
    for page in pages:
        if page.parent.name == "decisions":
            continue
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
            # Tables, pictures and marks for numbers cannot be broken.
            if not line.startswith(("|", "!")) and "<!--" not in line:
                assert len(line) <= 120, f"{page.name}:{number}"


# Weights, and the movie of the demo.
LARGE = ("runtime/denoscope/runtime/bundles/", "acquisition/denoscope/acquisition/data/")


def test_no_file_is_heavy() -> None:
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("needs a clone and git")
    # Whoever the clone belongs to: git asks that where another user made it.
    words = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_file() and not name.startswith(LARGE):
            limit = 500_000 if path.suffix in {".png", ".jpg", ".gif"} else 1_000_000
            assert path.stat().st_size <= limit, f"{name}: see benchmarks/small_pictures.py"


def test_nothing_names_a_host_that_does_not_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    # The project has no public address yet; an invented one would lead readers to whoever registers it.
    assert "urls" not in project
    assert "://" not in citation
    assert f"version: {project['version']}\n" in citation
    assert f"license: {project['license']}\n" in citation


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocstrings", reason="needs the extra 'docs'")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    commands = (tmp_path / "site" / "reference" / "commands.html").read_text(encoding="utf-8")
    assert "--look-ahead" in commands
    examples = (tmp_path / "site" / "reference" / "examples.html").read_text(encoding="utf-8")
    assert examples.count("data:image/png;base64,") >= 5, "the pictures that the notebooks draw"
    assert "Stream" in (tmp_path / "site" / "reference" / "runtime.html").read_text(encoding="utf-8")
