"""One frame is "1 frame" in every message: numbers are put before their nouns by `counted` alone."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from denoscope.runtime import counted
from denoscope.runtime.words import rounded

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("runtime", "train", "export", "acquisition")
NOUN = re.compile(
    r"( (?!of|are|for|has|no|lists)[a-z]+)? (frames|pages|files|bundles|movies|cases|streams|planes)\b"
    r"(?!/)|( time)? (times|points|cycles|lines|images|tags)\b"
)
# Numbers that are never one, by file name and expression.
NEVER_ONE = {
    ("bundle.py", "memory"),  # of the past, hundreds of frames
    ("camera.py", "rows"),
    ("folder.py", "cycles"),  # both are above one where this is asked
    ("folder.py", "images"),
    ("folder.py", "len(listed)"),  # of one set and others
    ("joined.py", "len(files)"),
    ("lazy.py", "shape[0]"),  # too many for the memory
    ("metrics.py", "n"),
    ("opening.py", "every.shape[0]"),
    ("pick.py", "axes[time].size"),
    ("scanbox.py", "described"),
    ("truth.py", "clean.shape"),
    ("tables.py", "first.least_frames"),
    ("tables.py", "keep_up['queue_frames']"),
    ("tiff.py", "repeats"),
    ("umvd.py", "self.baseline_frames"),  # it may be None
}


@pytest.mark.parametrize("number", [0, 1, 2, 1000])
def test_the_noun_is_singular_for_one_only(number: int) -> None:
    noun = counted(number, "frame")
    assert noun == (f"{number} frame" if number == 1 else f"{number} frames")
    assert counted(number, "frame is", "frames are").endswith(" is" if number == 1 else " are")


@pytest.mark.parametrize("part", PARTS)
def test_no_message_puts_a_number_before_a_plural_by_itself(part: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {{{value}}}{text[:30]}"
        for path in sorted((ROOT / part / "denoscope").rglob("*.py"))
        for line, value, text in _numbers(path)
        if (path.name, value) not in NEVER_ONE
    ]
    assert not found, "use denoscope.runtime.counted:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("value", "digits", "words"),
    [
        (1483.2, 3, "1483"),
        (999.9, 3, "1000"),
        (65535, 4, "65535"),
        (0.0123, 3, "0.0123"),
        (-1e6, 3, "-1000000"),
    ],
)
def test_a_large_number_is_no_power_of_ten(value: float, digits: int, words: str) -> None:
    assert rounded(value, digits) == words


def _numbers(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield line, expression and what follows, for numbers in front of a plural, and for ``frame(s)``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from ((node.lineno, word, "") for word in re.findall(r"[a-z]+\(s\)", node.value))
        if not isinstance(node, ast.JoinedStr):
            continue
        for value, text in zip(node.values, node.values[1:], strict=False):
            if not isinstance(value, ast.FormattedValue) or not isinstance(text, ast.Constant):
                continue
            name = ast.unparse(value.value)
            counts = value.format_spec is None and not name.isupper() and "_s'" not in name
            if counts and NOUN.match(str(text.value)) and not _is_word(value.value):
                yield node.lineno, name, str(text.value)


def _is_word(value: ast.expr) -> bool:
    """Return whether an expression is text, and no number."""
    text = (
        isinstance(value, ast.Call)
        and isinstance(value.func, ast.Name)
        and value.func.id in ("counted", "_duration")
    )
    name = value.attr if isinstance(value, ast.Attribute) else value.id if isinstance(value, ast.Name) else ""
    return text or name in (
        "name",
        "path",
        "_path",
        "_name",
        "output",
        "folder",
        "what",
        "text",
        "words",
        "movie",
    )
