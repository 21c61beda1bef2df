"""Numbers in the docs that a result file must hold, by comments that a reader does not see.

Before a table:

    <!-- numbers FILE.json [live live-hq ...] [older]
    COLUMN: PATH FORMAT
    CELL => VALUE
    -->

says for one or more columns (0 is the first) where the number lies; `{0}` in a path is the row's first cell, `{1}` its
second, or what `CELL => VALUE` makes of it. A row whose path leads nowhere is an error; a cell may hold more than the
number. In a sentence, `82<!-- FILE.json ; 100 * v("PATH") ; .0f -->` does the same for the number before it
(no `|`: it would end a cell of a table).

A path is keys and `[key=value;key=value]` or `[index]`, joined by points; a value may hold `*`. The bundles that are
named must be those that ship, or have the same weights and proven equal outputs (`same_numbers`); `older` says that
they are not any more, and then the page must give the first eight digits of the SHA-256 that was measured.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

__all__ = ["digests_measured", "look_up", "problems_of", "same_numbers", "shipped_digests"]

_MARK = re.compile(
    r"<!-- numbers (?P<head>[^\n]*)\n(?P<body>[^<]*?)-->"
    r"(?=\s*(?:<!-- numbers [^<]*-->\s*)*(?P<table>(?:\|[^\n]*\n?)+))"
)
_INLINE = re.compile(
    r"(?P<text>[−-]?\d[\d,.]*)\s?%?<!-- (?P<file>\S+\.json) ; (?P<rule>[^;]+) ; (?P<form>[^;\s]+) -->"
)
_SAME = 1e-5
_STEP = re.compile(r"\[(?P<filter>[^\]]+)\]|(?P<key>[^.\[\]]+)")


@dataclass
class _Marker:
    file: str
    bundles: list[str]
    older: bool
    columns: list[tuple[int, str, str]] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)


def look_up(content: Any, path: str) -> Any:
    """Return what lies at a path; KeyError where nothing does."""
    for step in _STEP.finditer(path):
        where, key = step["filter"], step["key"]
        if key is not None:
            content = content[key]
        elif "=" in where:
            wanted = [part.split("=", 1) for part in where.split(";")]
            found = [entry for entry in content if all(fnmatchcase(str(entry.get(k)), v) for k, v in wanted)]
            if len(found) != 1:
                raise KeyError(f"{where} fits {len(found)} entries")
            content = found[0]
        else:
            content = content[int(where)]
    return content


def shipped_digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each shipped bundle by its name."""
    manifests = [json.loads(p.read_text(encoding="utf-8")) for p in folder.glob("*.denoscope/bundle.json")]
    return {manifest["name"]: manifest["checksum"] for manifest in manifests}


def same_numbers(rows: Iterable[Mapping[str, Any]], folder: Path) -> dict[str, frozenset[str]]:
    """Return by name the SHA-256 of bundles whose numbers are those of the shipped one: its own, and older ones.

    An older bundle counts where a row of `benchmarks/results/same-numbers.json` leads from it to the shipped one, over
    others if need be. Each row must be of the shipped weights and name a difference of at most 1e-5.
    """
    rows = list(rows)
    found = {}
    for path in folder.glob("*.denoscope/bundle.json"):
        manifest = json.loads(path.read_text(encoding="utf-8"))
        weights = manifest["files"]["weights.safetensors"]
        same = {manifest["checksum"]}
        for _ in rows:
            same |= {
                row["before"]
                for row in rows
                if row["after"] in same
                and row["bundle"] == manifest["name"]
                and row["weights_sha256"] == weights
                and 0 <= row["largest_difference"] <= _SAME
            }
        found[manifest["name"]] = frozenset(same)
    return found


def problems_of(page: str, results: Path, shipped: Mapping[str, str | frozenset[str]]) -> list[str]:
    """Return what on a page does not agree with the result files, one sentence each.

    `shipped` has the SHA-256 of each bundle by name, or all whose numbers are the same.
    """
    return [*_tables(page, results, shipped), *_sentences(page, results)]


def _tables(page: str, results: Path, shipped: Mapping[str, str | frozenset[str]]) -> Iterator[str]:
    for found in _MARK.finditer(page):
        marker = _read(found["head"], found["body"])
        content = json.loads((results / marker.file).read_text(encoding="utf-8"))
        yield from _bundles(marker, content, shipped, page)
        for line in found["table"].strip().splitlines()[2:]:
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            for column, path, form in marker.columns:
                try:
                    value = look_up(content, path.format(*(marker.names.get(cell, cell) for cell in cells)))
                except (KeyError, IndexError, TypeError) as error:
                    yield f"{marker.file} has no {path} for the row {cells[0]!r} ({error})"
                    continue
                expected = format(value, form)
                if not _holds(cells[column], expected):
                    yield f"{marker.file} says {expected} for {cells[0]!r}, column {column}, not {cells[column]!r}"


def _read(head: str, body: str) -> _Marker:
    file, *words = head.split()
    marker = _Marker(file, [w for w in words if w != "older"], "older" in words)
    for line in filter(None, (line.strip() for line in body.splitlines())):
        if "=> " in line:
            cell, _, value = line.partition("=> ")
            marker.names[cell.strip()] = value
        else:
            column, _, rest = line.partition(": ")
            path, _, form = rest.rpartition(" ")
            marker.columns.append((int(column), path, form))
    return marker


def _bundles(
    marker: _Marker, content: Any, shipped: Mapping[str, str | frozenset[str]], page: str
) -> Iterator[str]:
    for name in marker.bundles:
        measured = digests_measured(content, name)
        if not measured:
            yield f"{marker.file} does not say which {name} was measured"
        for digest in sorted(measured):
            if marker.older:
                if digest[:8] not in page:
                    yield f"{marker.file} is of an older {name}, and the page does not say that it was {digest[:8]}"
            elif digest not in _all(shipped.get(name, frozenset())):
                yield f"{marker.file} was measured with the {name} {digest[:8]}, which has changed since"


def digests_measured(content: Any, name: str) -> set[str]:
    """Return the SHA-256 of each bundle of a name that a result file was measured with: as a whole, or a row of it."""
    origins = [content.get("provenance", {}), *content.get("rows", [])]
    named = [origin.get("bundles") for origin in origins if isinstance(origin, Mapping)]
    return {bundles[name] for bundles in named if isinstance(bundles, Mapping) and name in bundles}


def _all(digests: str | frozenset[str]) -> frozenset[str]:
    return frozenset({digests}) if isinstance(digests, str) else digests


def _holds(cell: str, expected: str) -> bool:
    plain = cell.replace("**", "").replace("−", "-").replace(" %", "%")
    return re.search(rf"(?<![\d.]){re.escape(expected)}(?![\d]|\.\d)", plain) is not None


def _sentences(page: str, results: Path) -> Iterator[str]:
    for found in _INLINE.finditer(page):
        content = json.loads((results / found["file"]).read_text(encoding="utf-8"))
        # The pages are the project's own.
        value = eval(found["rule"], {"__builtins__": {}}, {"v": lambda path, c=content: look_up(c, path)})
        expected = format(value, found["form"])
        if found["text"].replace("−", "-") != expected:
            yield f"{found['file']} says {expected}, not {found['text']} ({found['rule']})"
    bare = len(re.findall(r"\.json [;|]", page)) - len(_INLINE.findall(page))
    if bare:
        yield f"{bare} marks in sentences are not understood"
