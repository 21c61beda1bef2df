"""The tables of an evaluation, for the screen and as markdown."""

from __future__ import annotations

from dataclasses import dataclass

from denoscope.runtime.words import rounded

from .real import MethodResult, MovieResult
from .records import MovieRecord, PairRecord
from .truth import PairResult

__all__ = ["ResultTable", "movie_tables", "movie_verdicts", "pair_tables", "pair_verdicts"]


@dataclass(frozen=True)
class ResultTable:
    """A title, column heads, and rows of text; the first `texts` columns hold words, the others numbers."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    texts: int = 1

    def markdown(self) -> str:
        """Return the table as markdown."""
        rule = ["---" if i < self.texts else "---:" for i in range(len(self.columns))]
        lines = [" | ".join(self.columns), " | ".join(rule), *(" | ".join(row) for row in self.rows)]
        return f"### {self.title}\n\n" + "\n".join(f"| {line} |" for line in lines) + "\n"


def movie_verdicts(record: MovieRecord) -> str:
    """Return the judgements of a movie without truth as a markdown list, each bundle's serious ones first."""
    lines = []
    for method in record.methods:
        if method.verdict is not None:
            lines.append(f"- **{method.method}: {method.verdict}.**")
            lines += [f"    - {verdict}" for verdict in method.verdicts]
    return "\n".join(lines) + "\n"


def pair_verdicts(record: PairRecord) -> str:
    """Return the judgements of a movie with truth as a markdown list."""
    return "\n".join(f"- **{method}:** {verdict}" for method, verdict in record.verdicts.items()) + "\n"


def pair_tables(result: PairResult) -> list[ResultTable]:
    """Return the method table and, where deviations are predicted, the calibration table."""
    rows: list[tuple[str, ...]] = []
    for row in result.rows:
        s, found = row.score, result.found.get(row.method)
        rows.append(
            (
                row.method,
                row.setting,
                f"{s.psnr_db:.2f}",
                f"{s.psnr_p999_db:.2f}",
                f"{s.ssim:.4f}",
                "" if found is None else f"{found.matched} of {found.truth}",
                "" if found is None else str(found.surplus),
                _milliseconds(row.frame_s),
            )
        )
    heads: tuple[str, ...] = (
        "method",
        "setting",
        "PSNR (dB)",
        "at 99.9 % (dB)",
        "SSIM",
        "objects",
        "surplus",
        "ms a frame",
    )
    tables = [ResultTable(result.name, heads, rows, texts=2)]
    if result.reliability:
        calibration: list[tuple[str, ...]] = [
            (
                name,
                f"{r.coverage(0.68):.1%}",
                f"{r.coverage(0.95):.1%}",
                f"{rounded(r.predicted[0])} / {rounded(r.actual[0])}",
                f"{rounded(r.predicted[-1])} / {rounded(r.actual[-1])}",
            )
            for name, r in result.reliability.items()
        ]
        heads = ("method", "in 68 %", "in 95 %", "surest: predicted / error", "least sure: predicted / error")
        tables.append(ResultTable(f"{result.name}: predicted deviations", heads, calibration))
    return tables


def movie_tables(result: MovieResult) -> list[ResultTable]:
    """Return what was taken away, what can be seen, and, if objects were followed, the tracks."""
    noisy, *bundles = result.methods
    removed: list[tuple[str, ...]] = [_removed(m) for m in bundles]
    heads: tuple[str, ...] = (
        "method",
        "excess correlation (limit)",
        "at lag t, y, x",
        "variance / noise (expected)",
        "baseline first, last (limit), sigma",
        "worst frame: baseline, sigma",
        "grid, dB (around), sigma",
    )
    tables = [ResultTable(f"{result.name}: what was taken away", heads, removed)]
    seen: list[tuple[str, ...]] = []
    for m in result.methods:
        t = m.traces
        seen.append(
            (
                m.label,
                f"{len(m.objects)} ({m.supported})",
                "" if t is None else f"{t.snr:.1f}",
                "" if t is None else f"{t.correlation:.3f} ({t.ceiling:.3f})",
                "" if t is None else f"{t.slope:.3f}",
                f"{m.flow.magnitude_px:.2f}, {m.flow.inconsistency_px:.2f}",
                _milliseconds(m.frame_s),
            )
        )
    heads = (
        "method",
        "objects (supported)",
        "trace SNR",
        "correlation with raw (of the truth)",
        "slope raw on shown",
        "flow, its inconsistency (px)",
        "ms a frame",
    )
    tables.append(ResultTable(f"{result.name}: what can be seen", heads, seen))
    if noisy.tracks is not None:
        tables.append(_tracks(result))
    return tables


def _removed(method: MethodResult) -> tuple[str, ...]:
    r = method.residual
    assert r is not None
    w, b, g = r.whiteness, r.baseline, r.grid
    expected = "" if r.expected_ratio is None else f" ({r.expected_ratio:.3f})"
    return (
        method.label,
        f"{w.excess:+.4f} ({w.limit:.4f})",
        ", ".join(str(lag) for lag in w.excess_at),
        f"{r.variance_ratio:.3f}{expected}",
        f"{b.first:+.3f}, {b.last:+.3f} ({b.limit:.3f})",
        f"{b.largest_at}: {b.largest:+.3f}" + (" BEYOND THE LIMIT" if abs(b.largest) > b.limit else ""),
        f"{g.peak_db:.1f} ({g.around_db:.1f}), {g.rms_sigma:.1g}" + (" FOUND" if g.found else ""),
    )


def _tracks(result: MovieResult) -> ResultTable:
    rows: list[tuple[str, ...]] = [
        (
            m.label,
            str(t.count),
            f"{t.objects_per_frame:.1f}",
            f"{t.median_frames:.0f}",
            f"{t.share_tracked:.0%}",
        )
        for m in result.methods
        if (t := m.tracks) is not None
    ]
    first = result.methods[0].tracks
    assert first is not None
    heads = (
        "method",
        f"tracks of {first.least_frames} frames or more",
        "objects a frame",
        "median frames",
        "objects in such tracks",
    )
    return ResultTable(f"{result.name}: objects followed", heads, rows)


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e3:.1f}"
