"""Flowcharts of the documentation as SVG, drawn while the site is built.

The pages hold the few lines of Mermaid that GitHub shows as a picture. In the site they become an SVG inside the page:
Mermaid's program would have to be fetched from another host by every reader. Understood are the lines

    name["first line:second line"]   name[text]   name[(text)]        a box, the last for a file
    a --> b      a -->|text| b      a -.-> b                          an arrow, with a text, dashed

in which a box may also be written inside the line of an arrow. Arrows lead down: from a box that is named first.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field

__all__ = ["flowchart_svg", "with_diagrams"]

_BLOCK = re.compile(r"```mermaid\n(.*?)```", flags=re.DOTALL)
_NODE = r"(?P<{0}>\w+)(?:\[\(?\"?(?P<{0}_text>[^\]\")]+)\"?\)?\])?"
_LINE = re.compile(
    rf"\s*{_NODE.format('a')}(?:\s*(?P<arrow>-->|-\.->)(?:\|(?P<label>[^|]+)\|)?\s*{_NODE.format('b')})?\s*"
)
_ROW, _BETWEEN, _CHARACTER, _HEIGHT = 62, 18, 7.3, 40


@dataclass
class _Chart:
    """Boxes by name with their text, and arrows (from, to, label, dashed)."""

    boxes: dict[str, str] = field(default_factory=dict)
    arrows: list[tuple[str, str, str, bool]] = field(default_factory=list)


def with_diagrams(markdown: str) -> str:
    """Return the page with an SVG in the place of every Mermaid block."""
    return _BLOCK.sub(lambda block: flowchart_svg(block[1]), markdown)


def flowchart_svg(text: str) -> str:
    """Return one flowchart as an SVG element; ValueError for a line that is not understood."""
    chart = _read(text)
    rows = _rows(chart)
    width_of = {name: _width(chart.boxes.get(name, "")) for row in rows for name in row}
    widths = [sum(width_of[name] for name in row) + _BETWEEN * (len(row) - 1) for row in rows]
    width, height = max(widths) + 20, _ROW * len(rows)
    centre: dict[str, tuple[float, float]] = {}
    for index, row in enumerate(rows):
        left = (width - widths[index]) / 2
        for name in row:
            centre[name] = (left + width_of[name] / 2, index * _ROW + _HEIGHT / 2 + 4)
            left += width_of[name] + _BETWEEN
    for a, b, label, _ in chart.arrows:
        if label:  # a text beside an arrow may reach beyond the boxes
            width = max(width, _label_at(a, b, centre)[0] + _CHARACTER * len(label))
    parts = [_arrow(*arrow, rows, centre) for arrow in chart.arrows]
    parts += [_box(text, *centre[name]) for name, text in chart.boxes.items()]
    return (
        f'<svg class="diagram" role="img" viewBox="0 0 {width:.0f} {height}" '
        f'style="max-width:{width:.0f}px" xmlns="http://www.w3.org/2000/svg">'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        f'orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>{"".join(parts)}</svg>\n'
    )


def _read(text: str) -> _Chart:
    chart = _Chart()
    for line in text.strip().splitlines():
        if line.strip() == "flowchart TD":
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            raise ValueError(f"a line of a flowchart is not understood: {line}")
        for side in ("a", "b"):
            if found[side]:
                known = chart.boxes.get(found[side], found[side])
                chart.boxes[found[side]] = found[f"{side}_text"] or known
        if found["b"]:
            if list(chart.boxes).index(found["a"]) > list(chart.boxes).index(found["b"]):
                raise ValueError(f"an arrow of a flowchart leads back up: {line}")
            chart.arrows.append((found["a"], found["b"], found["label"] or "", found["arrow"] == "-.->"))
    return chart


def _rows(chart: _Chart) -> list[list[str]]:
    """Give each box the row below the last of those before it; long arrows get empty places in the rows they pass."""
    down = [(a, b) for a, b, _, _ in chart.arrows]
    row = dict.fromkeys(chart.boxes, 0)
    for name in chart.boxes:
        row[name] = max([row[a] + 1 for a, b in down if b == name], default=0)
    rows: list[list[str]] = [[] for _ in range(max(row.values()) + 1)]
    above: dict[str, list[str]] = {}
    for name in chart.boxes:
        rows[row[name]].append(name)
    for a, b in down:
        last = a
        for index in range(row[a] + 1, row[b]):
            place = _place(a, b, index)
            rows[index].append(place)
            above[place] = [last]
            last = place
        above.setdefault(b, []).append(last)
    for index in range(1, len(rows)):
        at = {name: place - len(rows[index - 1]) / 2 for place, name in enumerate(rows[index - 1])}
        # The key is the middle of those above it.
        middle = {n: [at[a] for a in above.get(n, []) if a in at] or [0.0] for n in rows[index]}
        rows[index].sort(key=lambda name, of=middle: sum(of[name]) / len(of[name]))
    return rows


def _place(a: str, b: str, index: int) -> str:
    return f"{a}>{b}>{index}"


def _width(text: str) -> float:
    return max((len(line) for line in _lines(text)), default=0) * _CHARACTER + 20


def _lines(text: str) -> list[str]:
    return text.split(":") if text else []


def _box(text: str, x: float, y: float) -> str:
    width, lines = _width(text), _lines(text)
    spans = "".join(
        f'<text x="{x:.0f}" y="{y + 4 + 15 * (i - (len(lines) - 1) / 2):.0f}"'
        f"{' class=strong' if i == len(lines) - 1 and len(lines) > 1 else ''}>{html.escape(line)}</text>"
        for i, line in enumerate(lines)
    )
    return (
        f'<rect x="{x - width / 2:.0f}" y="{y - _HEIGHT / 2:.0f}" width="{width:.0f}" height="{_HEIGHT}" rx="4"/>'
        + spans
    )


def _label_at(a: str, b: str, centre: dict[str, tuple[float, float]]) -> tuple[float, float]:
    """Return where the text of an arrow begins: right of its middle."""
    (x0, y0), (x1, y1) = centre[a], centre[b]
    return (x0 + x1) / 2 + 14, (y0 + y1) / 2 + 2


def _arrow(
    a: str,
    b: str,
    label: str,
    dashed: bool,
    rows: list[list[str]],
    centre: dict[str, tuple[float, float]],
) -> str:
    passed = [centre[p] for i in range(len(rows)) if (p := _place(a, b, i)) in centre]
    (x0, y0), (x1, y1) = centre[a], centre[b]
    half = _HEIGHT / 2
    # Straight down through a row, so that no box is crossed.
    through = [(x, y + step) for x, y in passed for step in (-half, half)]
    points = [(x0, y0 + half), *through, (x1, y1 - half)]
    path = "M" + " L".join(f"{x:.0f} {y:.0f}" for x, y in points)
    text = ""
    if label:
        x, y = _label_at(a, b, centre)
        text = f'<text class="note" x="{x:.0f}" y="{y:.0f}">{html.escape(label)}</text>'
    return f'<path class="arrow" d="{path}"{" stroke-dasharray=4" if dashed else ""} marker-end="url(#tip)"/>{text}'
