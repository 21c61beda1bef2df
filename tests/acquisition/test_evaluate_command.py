"""`denoscope evaluate` on a movie without truth; pairs are in `test_learning_commands`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile

from denoscope.acquisition.cli.app import main
from support.field_inputs import detected

from .conftest import Run


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ((), "nothing to evaluate on"),
        (("--movie", "none.tif"), "none.tif"),
        (("--movie", "{movie}", "--at-least", "1"), "--at-least 1 needs a truth"),
        (("--movie", "{movie}", "--frames", "0:4"), "has 4 frames; without truth at least 8"),
        (("--movie", "{movie}", "--frames", "90:99"), "has no frame in the chosen range"),
        (("--movie", "{movie}", "--object-radius", "400"), "radius of 400 px does not fit"),
    ],
)
def test_bad_input_gets_one_sentence(
    capsys: pytest.CaptureFixture[str], movie: Path, tmp_path: Path, words: tuple[str, ...], what: str
) -> None:
    given = [word.format(movie=movie) for word in words]
    with pytest.raises(SystemExit) as left:
        main(["evaluate", "--output", str(tmp_path / "out"), *given])
    said = capsys.readouterr().err
    assert left.value.code == 2, said
    assert what in said
    assert "Traceback" not in said
    assert said.strip().count("\n") == 0


@pytest.mark.parametrize("details", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_two_movies_of_one_name(denoscope: Run, bundle: Path, tmp_path: Path, details: bool) -> None:
    """And borders of the second that are not a number are left out of every number."""
    frames = np.random.default_rng(0).poisson(150, (24, 48, 56)).astype(np.float32)
    for folder, first in (("a", (3, 4)), ("b", (0, 0))):
        (tmp_path / folder).mkdir()
        frames[:, :3], frames[:, :, :4] = np.nan, np.nan
        tifffile.imwrite(tmp_path / folder / "m.tif", frames[:, first[0] :, first[1] :])
    words = ["--movie", tmp_path / "a/m.tif", "--movie", tmp_path / "b/m.tif", "--bundle", bundle]
    out, more = tmp_path / "out", ["--details"] if details else []
    done = denoscope("evaluate", *words, "--output", out, "--json", *more, "--backend", "onnxruntime-cpu")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report == json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    assert report["pairs"] == []
    assert [m["movie"] for m in report["movies"]] == ["m", "m"]
    whole, cut = report["movies"]
    for one, other in zip(whole["methods"], cut["methods"], strict=True):
        assert one | {"frame_s": 0, "verdicts": 0} == other | {"frame_s": 0, "verdicts": 0}
    assert "45 x 52 pixels without such borders are measured" in done.stderr
    noisy, tiny = whole["methods"]
    assert noisy["residual"] is None
    assert set(tiny["residual"]) >= {"excess_correlation", "variance_ratio", "baseline", "grid"}
    assert report["schema_version"] == 2
    assert noisy["verdict"] is None
    assert tiny["verdict"] in ("fine", "look here", "do not trust")
    assert {verdict["about"] for verdict in tiny["verdicts"]} >= {"structure", "brightness", "grid"}
    assert f"tiny  {tiny['verdict']}" in done.stderr
    assert ("m: what was taken away" in done.stderr) == details, "numbers are folded away"
    page = (out / "evaluation.md").read_text(encoding="utf-8")
    assert page.count("### m: what can be seen") == 2
    assert page.index(f"**tiny: {tiny['verdict']}.**") < page.index("<details") < page.index("### m")
    names = {p.name for p in out.glob("*.png")}
    assert {"m_projections.png", "m_2_projections.png", "m_flow.png", "m_2_flow.png"} <= names
    shown = re.findall(r"!\[[^]]+\]\(([^)]+)\)", page)
    assert sorted(shown) == sorted(names), "the page shows every picture"
    assert page.index("m_residual_tiny.png") < page.index("<details"), "pictures are not folded away"


def test_noise_that_is_known_less_well_is_said_with_truth_too(
    denoscope: Run, bundle: Path, tmp_path: Path
) -> None:
    clean, _, noisy = detected("gamma pulses", 0.01, 24, shape=(64, 64))
    tifffile.imwrite(tmp_path / "noisy.tif", noisy)
    tifffile.imwrite(tmp_path / "clean.tif", np.broadcast_to(clean, noisy.shape).astype(np.float32))
    words = ["--pair", tmp_path / "noisy.tif", tmp_path / "clean.tif", "--bundle", bundle]
    done = denoscope("evaluate", *words, "--output", tmp_path / "out", "--backend", "onnxruntime-cpu")
    assert done.returncode == 0, done.stderr
    assert "few photons or strong pulses" in done.stdout + done.stderr
    assert "few photons or strong pulses" in (tmp_path / "out" / "evaluation.md").read_text(encoding="utf-8")


def test_single_pixels_of_nan_are_left_out_of_the_numbers(
    denoscope: Run, bundle: Path, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    clean = np.broadcast_to(150 + 40 * np.sin(np.arange(56) / 5), (24, 48, 56)).astype(np.float32)
    noisy = random.poisson(clean).astype(np.float32)
    holes = random.random(noisy.shape) < 0.01
    tifffile.imwrite(tmp_path / "whole.tif", noisy)
    noisy[holes] = np.nan
    tifffile.imwrite(tmp_path / "holed.tif", noisy)
    tifffile.imwrite(tmp_path / "clean.tif", clean)
    clean[holes] = 1e4  # not the truth of anything that was measured
    tifffile.imwrite(tmp_path / "wrong.tif", clean)
    words = [
        *("--pair", tmp_path / "whole.tif", tmp_path / "clean.tif"),
        *("--pair", tmp_path / "holed.tif", tmp_path / "wrong.tif", "--bundle", bundle, "--json"),
    ]
    done = denoscope("evaluate", *words, "--output", tmp_path / "out", "--backend", "onnxruntime-cpu")
    assert done.returncode == 0, done.stderr
    whole, holed = json.loads(done.stdout.splitlines()[-1])["pairs"]
    for first, second in zip(whole["methods"], holed["methods"], strict=True):
        assert second["psnr_db"] == pytest.approx(first["psnr_db"], abs=0.3)
    assert "single pixels are left out" in done.stderr
