"""bfloat16 on the processor: `auto` takes it where the processor computes in it and the bundle's loss is known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from denoscope.runtime import Bundle, choose_backend
from denoscope.runtime.backends.bfloat16 import LEAST_GAIN, LOSS_DB, MOST_DB, TIMES_AS_FAST
from denoscope.runtime.backends.openvino import OpenVinoBf16
from support.tiny_bundle import tiny_bundle

MEASURED = Path(__file__).parents[2] / "benchmarks" / "results" / "bfloat16.json"


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that computes in bfloat16, whichever this one is."""
    monkeypatch.setattr(OpenVinoBf16, "unavailable", classmethod(lambda _: None))


@pytest.mark.usefixtures("computed")
def test_auto_takes_it_for_a_bundle_that_was_measured() -> None:
    backend, choice = choose_backend("auto", threads=1, bundle=Bundle.load("live"))
    with backend:
        assert choice.name == "openvino-bf16"
        assert "loses less than 0.02 dB" in choice.reason
        assert backend.describe()["precision"] == "bfloat16"


@pytest.mark.usefixtures("computed")
def test_auto_passes_over_it_where_the_loss_is_too_large() -> None:
    backend, choice = choose_backend("auto", threads=1, bundle=Bundle.load("live-hq"))
    with backend:
        assert choice.name == "openvino"
        assert "more than 0.02" in choice.rejected["openvino-bf16"]


@pytest.mark.usefixtures("computed")
def test_auto_passes_over_it_where_little_is_gained(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Bundle.load("live-fast")
    assert OpenVinoBf16.unsuited(bundle) is None
    monkeypatch.setitem(TIMES_AS_FAST, bundle.manifest.files["weights.safetensors"], 1.1)
    assert "only 1.1 times as fast" in str(OpenVinoBf16.unsuited(bundle))


@pytest.mark.usefixtures("computed")
def test_auto_passes_over_it_for_any_other(tmp_path: Path) -> None:
    backend, choice = choose_backend("auto", threads=1, bundle=tiny_bundle(tmp_path / "mine.denoscope"))
    with backend:
        assert choice.name == "openvino"
        assert "is not known" in choice.rejected["openvino-bf16"]


def test_a_processor_that_does_not_compute_in_it_takes_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenVinoBf16, "unavailable", classmethod(lambda _: "it does not compute in bfloat16"))
    backend, choice = choose_backend("auto", threads=1, bundle=Bundle.load("live"))
    with backend:
        assert choice.name == "openvino"
        assert "bfloat16" in choice.rejected["openvino-bf16"]


def test_known_losses_are_those_that_were_measured() -> None:
    rows = {row["weights_sha256"]: row for row in json.loads(MEASURED.read_text(encoding="utf-8"))["rows"]}
    assert set(LOSS_DB) == set(TIMES_AS_FAST) == set(rows)
    for weights, row in rows.items():
        assert row["largest_loss_db"] <= LOSS_DB[weights] < row["largest_loss_db"] + 0.002
        gain = min(row["faster"].values())
        assert abs(gain - TIMES_AS_FAST[weights]) < 0.15
        assert LOSS_DB[weights] > MOST_DB or gain > LEAST_GAIN
    for name in ("live", "live-fast", "live-hq"):
        weights = Bundle.load(name).manifest.files["weights.safetensors"]
        assert weights in LOSS_DB, f"measure {name}: benchmarks/bfloat16.py"
