"""The training's page: complete, self-contained, safe against odd names, and right in its numbers."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from denoscope.runtime import estimate_intensity
from denoscope.train import METHODS, FitResult, TrainingMovie
from denoscope.train.evaluation.verdicts import gain_verdict
from denoscope.train.fitting.report import (
    Report,
    active_regions,
    save_report,
    spatial_autocorrelation,
    temporal_autocorrelation,
)
from support.tiny_training import TINY

pytestmark = pytest.mark.usefixtures("one_thread")


def movie() -> TrainingMovie:
    noisy = np.random.default_rng(0).poisson(30, (30, 40, 44)).astype(np.uint16)
    return TrainingMovie("<b>odd & name</b>.tif", noisy, None, estimate_intensity(noisy))


def result_of(method: str, **changes: Any) -> FitResult[Any]:
    network = METHODS[method].build(TINY[method]).eval()
    common = {"score_before": 1.5, "score_after": 1.25, "improved": True, "stopped": "the budget is spent"}
    scores = {"losses": [(10, 2.0), (20, 1.0)], "scores": [(20, 1.25)]}
    return FitResult(
        **{"network": network, "steps": 20, "seconds": 3.0, "processor_s": 2.0, **common, **scores, **changes}
    )


@pytest.mark.parametrize("method", ["live", "umvd", pytest.param("sts-uvd", marks=pytest.mark.slow)])
def test_the_page_is_complete_and_needs_no_other_file(method: str, tmp_path: Path) -> None:
    entry = METHODS[method]
    settings = entry.settings(steps=20)
    report = Report("mine", entry, settings, TINY[method], [movie()], "nothing", ["noise is <not> white"])
    shares: list[float] = []
    verdicts = save_report(result_of(method), report, tmp_path / "report.html", on_share=shares.append)
    assert shares == sorted(shares), "the progress only grows"
    assert (len(shares) >= 30, shares[-1]) == (True, 1)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(pictures) == 4
    assert all(base64.b64decode(p).startswith(b"\x89PNG") and len(p) > 4_000 for p in pictures)
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert "&lt;b&gt;odd &amp; name" in page
    assert "<b>odd" not in page
    assert "noise is &lt;not&gt; white" in page
    (training,) = (verdict for verdict in verdicts if verdict.about == "training")
    assert training.why == "Much better on unseen frames (1.5000 -> 1.2500, lower is better)."
    body = page[page.index("<body>") :]
    assert f"<h1>mine: {verdicts[0].level}</h1>" in body, "the most serious verdict comes first"
    order = [
        body.index(word)
        for word in ("unseen frames (1.5000 -&gt; 1.2500", "<img", "<details>", "Noise model")
    ]
    assert order == sorted(order), "verdicts, pictures, then what is folded away"
    for word in ("Noise model", "counts a photon", "the budget is spent", "learning_rate", "window"):
        assert word in page


def test_a_training_that_did_not_help_says_so() -> None:
    said = gain_verdict(1.5, 1.6, improved=False, from_nothing=False)
    assert said.level == "look here"
    assert "1.5000 -> 1.6000" in said.why
    assert "the bundle is the model that it began with" in said.why
    assert gain_verdict(1.5, 1.6, improved=True, from_nothing=True).level == "do not trust"


def test_autocorrelation_of_white_and_of_correlated_noise() -> None:
    white = np.random.default_rng(0).normal(size=(60, 48, 50)).astype(np.float32)
    assert np.abs(spatial_autocorrelation(white)).max() < 0.03
    assert np.abs(temporal_autocorrelation(white)).max() < 0.05
    bled = white + 0.5 * np.roll(white, 1, axis=2)  # neighbours along a row share 0.5 / 1.25
    spatial = spatial_autocorrelation(bled)
    assert spatial[10, 11] == pytest.approx(0.4, abs=0.03)
    assert abs(spatial[11, 10]) < 0.03
    held = white + 0.5 * np.roll(white, 1, axis=0)
    assert temporal_autocorrelation(held)[0] == pytest.approx(0.4, abs=0.05)


def test_active_regions_are_found_apart_from_each_other() -> None:
    frames = np.zeros((20, 50, 50), np.float32)
    frames[::2, 10:15, 30:35] = 9
    frames[::3, 38:43, 8:13] = 6
    (first, second) = active_regions(frames, 2)
    assert first == (12, 32)
    assert second == (40, 10)
