"""Result files that keep rows of earlier runs: each row names the bundles that it was measured with."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
OLD, NEW = {"live": "ab" * 32}, {"live": "cd" * 32}
CLEAN = np.random.default_rng(0).random((3, 16, 16), np.float32)


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import _provenance
    import few_frames

    yield SimpleNamespace(few_frames=few_frames, provenance=_provenance)
    for name in ("few_frames", "_provenance"):
        sys.modules.pop(name, None)


def test_a_row_keeps_its_bundle_when_the_next_run_uses_none(benchmark: Any, tmp_path: Path) -> None:
    file = tmp_path / "few_frames.json"
    benchmark.few_frames.Table(file, "m", CLEAN).add("adapted", 10, CLEAN + 1, bundles=OLD)
    benchmark.few_frames.Table(file, "m", CLEAN).add("umvd", 10, CLEAN + 1)
    content = json.loads(file.read_text(encoding="utf-8"))
    assert [(row["method"], row["bundles"]) for row in content["rows"]] == [("adapted", OLD), ("umvd", {})]
    assert content["provenance"]["bundles"] == OLD


def test_a_row_of_another_bundle_is_measured_again_in_its_place(benchmark: Any, tmp_path: Path) -> None:
    file = tmp_path / "few_frames.json"
    table = benchmark.few_frames.Table(file, "m", CLEAN)
    table.add("adapted", 10, CLEAN + 1, bundles=OLD)
    assert not table.lacks("adapted", 10, OLD)
    assert table.lacks("adapted", 10, NEW)
    table.add("adapted", 10, CLEAN + 2, bundles=NEW)
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
    assert [row["bundles"] for row in rows] == [NEW]


def test_the_rows_of_few_frames_have_all_that_the_benchmark_writes(benchmark: Any) -> None:
    file = ROOT / "benchmarks" / "results" / "few-frames.json"
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
    fields = set(benchmark.few_frames.Row.__annotations__)
    assert all(set(row) == fields for row in rows)
    for row in rows:
        from_a_bundle = "adapted" in row["method"] or "as it is" in row["method"]
        assert [len(digest) for digest in row["bundles"].values()] == [64] * from_a_bundle, row
