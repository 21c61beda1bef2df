"""Evaluation of bundles, with truth and without."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from denoscope.runtime import Bundle, InvalidInput
from denoscope.train import CameraSettings, SceneSettings, SimulatedMovie, simulate
from denoscope.train.evaluation.cells import find_objects
from denoscope.train.evaluation.pictures import (
    file_stem,
    flow_colours,
    save_comparison,
    save_movie_pictures,
    save_reliability,
)
from denoscope.train.evaluation.real import (
    MovieResult,
    evaluate_movie,
    flow_between,
    score_flow,
    score_traces,
)
from denoscope.train.evaluation.tables import movie_tables, pair_tables
from denoscope.train.evaluation.truth import PairResult, evaluate_pair, unique_names
from support.tiny_bundle import tiny_bundle

RADIUS = 4.0


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load("live")


@pytest.fixture(scope="module")
def movie() -> SimulatedMovie:
    scene = SceneSettings(frames=40, height=64, width=72, soma_radius_px=4, process_count=0, punctum_count=0)
    return simulate(scene, CameraSettings(photons=4), seed=5)


@pytest.fixture(scope="module")
def measured(movie: SimulatedMovie, bundle: Bundle) -> MovieResult:
    return evaluate_movie(
        "a movie", movie.as_uint16(), [bundle], backend="onnxruntime-cpu", radius_px=RADIUS, track=True
    )


@pytest.fixture(scope="module")
def scored(movie: SimulatedMovie, bundle: Bundle) -> PairResult:
    return evaluate_pair(
        "a pair", movie.as_uint16(), movie.clean, [bundle], backend="onnxruntime-cpu", radius_px=RADIUS
    )


def test_a_movie_without_truth(measured: MovieResult) -> None:
    noisy, live = measured.methods
    assert [noisy.label, live.label] == ["noisy", "live"]
    assert noisy.residual is None
    assert live.residual is not None
    assert live.residual.variance_ratio == pytest.approx(1, abs=0.1)
    assert live.residual.expected_ratio is not None
    assert abs(live.residual.whiteness.excess) < 0.05
    assert live.flow.inconsistency_px < noisy.flow.inconsistency_px
    assert live.traces is not None
    assert noisy.traces is not None
    assert live.traces.snr > noisy.traces.snr
    assert noisy.traces.correlation == pytest.approx(1)
    assert noisy.traces.slope == pytest.approx(1)


def test_its_tables_and_pictures(measured: MovieResult, tmp_path: Path) -> None:
    removed, seen, tracks = movie_tables(measured)
    worst = measured.methods[1].residual
    assert worst is not None
    assert removed.rows[0][5].startswith(f"{worst.baseline.largest_at}: {worst.baseline.largest:+.3f}")
    assert ("BEYOND" in removed.rows[0][5]) == (abs(worst.baseline.largest) > worst.baseline.limit)
    assert [row[0] for row in removed.rows] == ["live"]
    assert [row[0] for row in seen.rows] == [row[0] for row in tracks.rows] == ["noisy", "live"]
    text = seen.markdown()
    assert text.startswith("### a movie: what can be seen\n")
    assert len({line.count("|") for line in text.splitlines()[2:]}) == 1
    paths = save_movie_pictures(measured, tmp_path, file_stem(measured.name))
    assert [p.name for p in paths] == [
        f"a_movie_{what}.png" for what in ("projections", "traces", "flow", "residual_live")
    ]
    assert all(p.read_bytes()[:4] == b"\x89PNG" and p.stat().st_size > 10_000 for p in paths)


def test_a_movie_without_regions_has_no_traces(measured: MovieResult, tmp_path: Path) -> None:
    blank = np.zeros_like(measured.regions)
    raw = measured.methods[0].movie
    assert score_traces(raw, raw, blank) is None
    empty = replace(measured, regions=blank, methods=[replace(m, traces=None) for m in measured.methods])
    assert "traces" not in {p.stem.split("_")[-1] for p in save_movie_pictures(empty, tmp_path, "m")}
    assert movie_tables(empty)[1].rows[0][2] == ""


def test_a_pair(scored: PairResult, movie: SimulatedMovie, tmp_path: Path) -> None:
    assert scored.coverage_68["live"] == scored.reliability["live"].coverage(0.68)
    assert 0.4 < scored.coverage_68["live"] < scored.coverage_95["live"] <= 1
    assert scored.found["noisy"].truth == scored.found["live"].truth
    assert scored.found["live"].matched <= scored.found["live"].truth
    methods, calibration = pair_tables(scored)
    assert [row[0] for row in methods.rows] == ["noisy", "gaussian", "temporal average", "live"]
    assert [row[0] for row in calibration.rows] == ["live"]
    save_comparison(scored, movie.clean, tmp_path / "comparison.png")
    save_reliability(scored, tmp_path / "reliability.png")
    assert all(p.stat().st_size > 10_000 for p in tmp_path.iterdir())


def test_swallowed_and_invented_activity_show_in_the_slope(movie: SimulatedMovie) -> None:
    rng = np.random.default_rng(0)
    noisy = movie.clean + 30 * rng.standard_normal(movie.clean.shape).astype(np.float32)
    regions = find_objects(movie.clean.max(axis=0), RADIUS).labels
    assert regions.max() > 3
    mean = movie.clean.mean(axis=0)
    slopes = {}
    for share in (0.5, 1.0, 2.0):
        score = score_traces(noisy, mean + share * (movie.clean - mean), regions)
        assert score is not None
        slopes[share] = score.slope
        assert score.correlation == pytest.approx(score.ceiling, abs=0.03)
    assert slopes == pytest.approx({0.5: 2, 1.0: 1, 2.0: 0.5}, rel=0.05)


def test_flow_leads_from_one_frame_to_the_next() -> None:
    texture = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((64, 64)), 2).astype(
        np.float32
    )
    moved = ndimage.shift(texture, (1, 0), order=3, mode="nearest")
    flow = flow_between(moved, texture)  # texture(p + flow(p)) = moved(p)
    np.testing.assert_allclose(flow[:, 12:-12, 12:-12].mean(axis=(1, 2)), (-1, 0), atol=0.15)
    still = score_flow(np.stack([texture] * 10))
    assert still.magnitude_px == pytest.approx(0, abs=1e-3)
    assert still.inconsistency_px == pytest.approx(0, abs=1e-3)


def test_colours_of_a_flow() -> None:
    flow = np.zeros((2, 1, 3), np.float32)
    flow[1, 0] = (0, 1, -1)
    still, right, left = flow_colours(flow, 1.0)[0]
    np.testing.assert_allclose(still, 0)
    np.testing.assert_allclose(right, (1, 0, 0), atol=1e-6)
    np.testing.assert_allclose(left, (0, 1, 1), atol=1e-6)


def test_saturated_pixels_are_left_out_of_the_numbers(movie: SimulatedMovie, tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny.denoscope")
    noisy, clean = movie.as_uint16()[:10], movie.clean[:10].copy()
    plain = [
        evaluate_pair("p", noisy, clean, [bundle], backend="onnxruntime-cpu", radius_px=RADIUS).rows[0],
        evaluate_movie("m", noisy, [bundle], backend="onnxruntime-cpu", radius_px=RADIUS).methods[1].residual,
    ]
    noisy[:, 20:28, 30:38] = 65535  # of a light that nobody knows
    clean[:, 20:28, 30:38] = 2e5
    pair = evaluate_pair("p", noisy, clean, [bundle], backend="onnxruntime-cpu", radius_px=RADIUS).rows[0]
    found = evaluate_movie("m", noisy, [bundle], backend="onnxruntime-cpu", radius_px=RADIUS)
    assert pair.score.psnr_db == pytest.approx(plain[0].score.psnr_db, abs=1)
    residual = found.methods[1].residual
    assert residual is not None
    assert residual.variance_ratio == pytest.approx(plain[1].variance_ratio, rel=0.1)


def test_bundles_of_one_name(bundle: Bundle) -> None:
    assert unique_names([bundle]) == ["live"]
    with pytest.raises(InvalidInput, match="given 2 times"):
        unique_names([bundle, bundle])


def test_a_method_without_predicted_deviations(movie: SimulatedMovie, bundle: Bundle, tmp_path: Path) -> None:
    silent = tiny_bundle(tmp_path / "silent.denoscope", std=False)
    pair = evaluate_pair(
        "p", movie.as_uint16(), movie.clean, [bundle, silent], backend="onnxruntime-cpu", radius_px=RADIUS
    )
    assert [row.method for row in pair.rows[3:]] == ["live", silent.manifest.name]
    assert list(pair.reliability) == list(pair.coverage_68) == ["live"]
    assert [row[0] for row in pair_tables(pair)[1].rows] == ["live"]
    real = evaluate_movie("m", movie.as_uint16(), [silent], backend="onnxruntime-cpu", radius_px=RADIUS)
    residual = real.methods[1].residual
    assert residual is not None
    assert residual.expected_ratio is None
    assert "(" not in movie_tables(real)[0].rows[0][3]


def test_too_short_a_movie(bundle: Bundle) -> None:
    with pytest.raises(InvalidInput, match="has 4 frames; without truth at least 8"):
        evaluate_movie("m", np.zeros((4, 32, 32), np.uint16), [bundle])


@pytest.mark.parametrize(("name", "stem"), [("a b", "a_b"), ("../x", ".._x"), ("ä:1", "ä_1")])
def test_names_as_files(name: str, stem: str) -> None:
    assert file_stem(name) == stem
