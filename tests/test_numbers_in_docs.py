"""Compare the numbers in the docs with the result files, and the bundles in those with the ones that ship."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from support.doc_numbers import look_up, problems_of, same_numbers, shipped_digests

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BUNDLES = ROOT / "runtime" / "denoscope" / "runtime" / "bundles"
PROVEN = RESULTS / "same-numbers.json"
SHIPPED = same_numbers(json.loads(PROVEN.read_text(encoding="utf-8"))["rows"], BUNDLES)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize(
    "page",
    [p for p in PAGES if ".json" in p.read_text(encoding="utf-8")],
    ids=lambda p: f"{p.parent.name}-{p.name}",
)
def test_the_numbers_of_a_page_are_those_of_its_results(page: Path) -> None:
    assert problems_of(page.read_text(encoding="utf-8"), RESULTS, SHIPPED) == []


def test_many_numbers_are_compared() -> None:
    text = "".join(p.read_text(encoding="utf-8") for p in PAGES)
    assert text.count("<!-- numbers ") >= 8


@pytest.mark.parametrize("file", sorted(RESULTS.glob("*.json")), ids=lambda p: p.name)
def test_every_result_says_where_it_comes_from(file: Path) -> None:
    about = json.loads(file.read_text(encoding="utf-8"))["provenance"]
    assert len(about.get("commit") or about["git"]["commit"]) >= 40
    if "git" not in about:  # `denoscope bench` says it in its own words
        assert all(len(digest) in (12, 64) for digest in about["bundles"].values())
        assert isinstance(about["versions"], dict)
        assert about["recorded"]


@pytest.mark.parametrize("file", sorted(RESULTS.glob("*.json")), ids=lambda p: p.name)
def test_no_result_names_a_folder_of_the_machine_that_measured(file: Path) -> None:
    assert re.findall(r'"(?:/|[A-Za-z]:\\)[^"]*"', file.read_text(encoding="utf-8")) == []


@pytest.fixture
def results(tmp_path: Path) -> Path:
    rows = [
        {"movie": "a", "psnr_db": 41.96, "inside": 0.744},
        {"movie": "b_noisy", "psnr_db": 3.0, "inside": 1.0},
    ]
    content = {"provenance": {"bundles": {"live": "ab" * 32}}, "rows": rows}
    (tmp_path / "r.json").write_text(json.dumps(content), encoding="utf-8")
    return tmp_path


PAGE = """
<!-- numbers r.json live
1: rows[movie={0}].psnr_db .1f
1: rows[movie={0}].inside .0%
b => b_noisy
-->

| movie | `live` |
|---|---|
| a | 42.0 (74%) |
| b | 3.0 (100%) |

It gains 42.0<!-- r.json ; v("rows[0].psnr_db") ; .1f --> dB, 74 %<!-- r.json ; 100 * v("rows[0].inside") ; .0f -->.
"""


def test_what_agrees_is_silent_and_what_does_not_is_named(results: Path) -> None:
    same = {"live": "ab" * 32}
    assert problems_of(PAGE, results, same) == []
    assert problems_of(PAGE.replace("| 42.0 (74%)", "| 42.1 (74%)"), results, same) == [
        "r.json says 42.0 for 'a', column 1, not '42.1 (74%)'"
    ]
    assert problems_of(PAGE.replace("| 3.0 (", "| 13.0 ("), results, same)
    assert problems_of(PAGE.replace("gains 42.0", "gains 42.1"), results, same)
    assert "has no" in problems_of(PAGE.replace("| b |", "| c |"), results, same)[0]


def test_a_bundle_that_has_changed_since_is_named(results: Path) -> None:
    assert "has changed since" in problems_of(PAGE, results, {"live": "cd" * 32})[0]
    older = PAGE.replace("r.json live", "r.json live older")
    assert "does not say that it was abababab" in problems_of(older, results, {"live": "cd" * 32})[0]
    assert problems_of(older + "with `live` abababab", results, {"live": "cd" * 32}) == []


def test_the_bundle_of_each_row_is_compared(results: Path) -> None:
    file = results / "r.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["rows"][1]["bundles"] = {"live": "ef" * 32}
    file.write_text(json.dumps(content), encoding="utf-8")
    (found,) = problems_of(PAGE, results, {"live": "ab" * 32})
    assert "efefefef" in found


def test_a_path_that_fits_several_entries_leads_nowhere() -> None:
    with pytest.raises(KeyError, match="fits 2 entries"):
        look_up({"rows": [{"a": 1}, {"a": 1}]}, "rows[a=1]")


def test_an_older_bundle_counts_only_by_proof() -> None:
    now, weights = shipped_digests(BUNDLES)["live"], _weights("live")
    proof = {"bundle": "live", "weights_sha256": weights, "largest_difference": 2e-6}
    chain = [proof | {"before": "aa", "after": "bb"}, proof | {"before": "bb", "after": now}]
    assert same_numbers(chain, BUNDLES)["live"] == {"aa", "bb", now}
    for change in ({"largest_difference": 2e-5}, {"weights_sha256": "cd" * 32}, {"bundle": "live-hq"}):
        assert same_numbers([chain[0], chain[1] | change], BUNDLES)["live"] == {now}
    assert same_numbers([proof | {"before": now, "after": "aa"}], BUNDLES)["live"] == {now}  # one way only


def test_every_proof_is_of_the_limit_and_names_its_weights() -> None:
    rows = json.loads(PROVEN.read_text(encoding="utf-8"))["rows"]
    assert all(row["largest_difference"] == max(row["by_movie"].values()) <= 1e-5 for row in rows)
    assert all(len(row[key]) == 64 for row in rows for key in ("before", "after", "weights_sha256"))


def _weights(name: str) -> str:
    manifest = json.loads((BUNDLES / f"{name}.denoscope" / "bundle.json").read_text(encoding="utf-8"))
    return str(manifest["files"]["weights.safetensors"])
