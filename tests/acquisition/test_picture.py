"""``report.png``: gaps are gaps, raw traces have every frame, and everything has its unit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from denoscope.acquisition import SessionReport

from .test_fill import frames_of, record

pytest.importorskip("matplotlib", reason="needs the extra 'report'")


def test_gaps_are_gaps_and_axes_have_their_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    from denoscope.acquisition.session.ending.picture import draw_report

    skipped = [*range(28, 40), 50]
    report = record(tmp_path / "run", frames_of(60), skipped)
    pages = [n for a, b in report["frames"]["not_denoised"]["pages"] for n in range(a, b + 1)]
    drawn: list[Any] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_args, **_more: drawn.append(figure))
    draw_report(tmp_path / "run", SessionReport.model_validate(report))
    traces = [axes for axes in drawn[0].axes if "mean of" in axes.get_title(loc="left")]
    assert len(traces) >= 1
    for axes in traces:
        raw, denoised = (np.asarray(line.get_ydata()) for line in axes.get_lines())
        assert len(raw) == len(denoised) == 60
        assert np.isfinite(raw).all()
        assert list(np.nonzero(np.isnan(denoised))[0]) == pages
        assert axes.get_ylabel() == "counts"
    images = [axes for axes in drawn[0].axes if axes.images]
    assert len(images) == 4
    assert all(any("pixels" in text.get_text() for text in axes.texts) for axes in images)
    denoised, later = report["frames"]["denoised"], report["frames"]["computed_afterwards"]
    assert f"60 frames, 60 saved raw, {denoised} denoised live" in drawn[0].get_suptitle()
    assert (f"{later} denoised afterwards" in drawn[0].get_suptitle()) == (later > 0)
    assert ("not denoised" in drawn[0].get_suptitle()) == (denoised + later < 60)
    bars = [axes.get_xlabel() for axes in drawn[0].axes]
    assert bars.count("counts") == bars.count("standard deviation (counts)") == 2
