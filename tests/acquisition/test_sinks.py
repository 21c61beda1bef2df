"""Whole denoised movies in other formats, read back with the readers that users have."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import tifffile

from denoscope.acquisition.sources.movie_about import about_movie
from denoscope.runtime import InvalidInput, open_movie
from support.plain_results import denoise_movie, fill_run

from .test_fill import frames_of, record

CUT = {"chunk": 16, "warm_up": 6}


@pytest.fixture(scope="module")
def expected(bundle: Path, movie: Path, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    out = tmp_path_factory.mktemp("expected") / "out.tif"
    denoise_movie(movie, out, bundle=str(bundle), **CUT)
    return tifffile.imread(out)


def test_ome_zarr(bundle: Path, movie: Path, tmp_path: Path, expected: np.ndarray) -> None:
    zarr = pytest.importorskip("zarr", reason="needs the extra 'formats'")
    yaozarrs = pytest.importorskip("yaozarrs", reason="needs the extra 'formats'")
    out = tmp_path / "out.ome.zarr"
    denoise_movie(movie, out, bundle=str(bundle), **CUT)
    assert [path.name for path in tmp_path.iterdir()] == ["out.ome.zarr"]
    group = zarr.open_group(out, mode="r")
    np.testing.assert_array_equal(group["0"][:], expected)
    assert group["0"].chunks == (1, 48, 56)
    assert group["0"].metadata.dimension_names == ("t", "y", "x")
    assert group.attrs["denoscope"]["bundle"] == "tiny"
    yaozarrs.validate_zarr_store(str(out))
    assert sorted(path.name for path in out.iterdir()) == ["0", "zarr.json"]
    # denoscope reads it as a movie too.
    np.testing.assert_array_equal(np.asarray(open_movie(out)), expected)


def test_the_camera_of_an_ome_zarr_has_its_name_and_a_contrast(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr", reason="needs the extra 'formats'")
    yaozarrs = pytest.importorskip("yaozarrs", reason="needs the extra 'formats'")
    record(tmp_path / "run", frames_of(12), form="ome-zarr")
    out = tmp_path / "run" / "denoised.ome.zarr"
    yaozarrs.validate_zarr_store(str(out))
    group = zarr.open_group(out, mode="r")
    (channel,) = group.attrs["ome"]["omero"]["channels"]
    assert channel["label"] == "Cam"
    pixels = group["0"][:]
    assert pixels.min() <= channel["window"]["start"] < channel["window"]["end"] <= pixels.max()


@pytest.mark.parametrize("stop", [5, 16, 30])
def test_an_interrupted_ome_zarr_goes_on(
    bundle: Path, movie: Path, tmp_path: Path, expected: np.ndarray, stop: int
) -> None:
    pytest.importorskip("yaozarrs", reason="needs the extra 'formats'")
    out = tmp_path / "out.ome.zarr"

    def interrupt(done: int, _total: int) -> None:
        if done == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        denoise_movie(movie, out, bundle=str(bundle), on_frame=interrupt, **CUT)
    result = denoise_movie(movie, out, bundle=str(bundle), resume=True, **CUT)
    assert result["resumed_from"] == stop
    np.testing.assert_array_equal(np.asarray(open_movie(out)), expected)


def test_ndtiff(bundle: Path, movie: Path, tmp_path: Path, expected: np.ndarray) -> None:
    ndstorage = pytest.importorskip("ndstorage", reason="needs the extra 'micromanager'")
    out = tmp_path / "out.ndtiff"
    denoise_movie(movie, out, bundle=str(bundle), **CUT)
    data = ndstorage.NDTiffDataset(str(out))
    try:
        assert data.axes == {"time": set(range(40))}
        read = np.stack([data.read_image(time=t) for t in range(40)])
        assert data.read_metadata(time=3)["denoised"] is True
    finally:
        data.close()
    np.testing.assert_array_equal(read, expected)
    assert json.loads((out / "denoscope.json").read_text())["bundle"] == "tiny"


@pytest.mark.parametrize("form", ["ome.tif", "ome.zarr", "ndtiff"])
def test_every_format_keeps_what_an_ndtiff_tells(bundle: Path, tmp_path: Path, form: str) -> None:
    ndstorage = pytest.importorskip("ndstorage", reason="needs the extra 'micromanager'")
    pytest.importorskip("zarr", reason="needs the extra 'formats'")
    with redirect_stdout(io.StringIO()):
        data = ndstorage.NDTiffDataset(str(tmp_path), name="two", writable=True)
        data.initialize({})
        for t, channel in product(range(8), ("GFP", "RFP")):
            tags = {"ElapsedTime-ms": 20.0 * t + t % 2, "PixelSizeUm": 0.65, "Exposure": "10.0"}
            data.put_image({"time": t, "channel": channel}, np.full((24, 32), 100 + t, np.uint16), tags)
        left_open = data.current_writer.reader
        data.finish()
        data.close()
        left_open.close()
    out = tmp_path / f"out.{form}"
    denoise_movie(next(tmp_path.glob("two*")), out, bundle=str(bundle), channel="RFP")
    about = about_movie(out, 8, movie=open_movie(out))
    assert (about.pixel_size_um, about.channel) == (0.65, "RFP")
    assert about.increment_s == pytest.approx(0.021)
    if form != "ome.zarr":  # which has one step of time for all frames
        assert about.exposure_s == pytest.approx(0.01)
        assert about.times_s == pytest.approx([0.02 * t + t % 2 / 1e3 for t in range(8)])


def test_a_run_of_two_channels_keeps_its_metadata(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr", reason="needs the extra 'formats'")
    ndstorage = pytest.importorskip("ndstorage", reason="needs the extra 'micromanager'")
    record(tmp_path / "run", frames_of(40, "ab"), [24, 25, 26])
    bundle = str(tmp_path / "tiny.denoscope")
    fill_run(tmp_path / "run", bundle=bundle)
    with tifffile.TiffFile(tmp_path / "run" / "denoised_complete.ome.tif") as tif:
        assert tif.series[0].axes == "TCYX"
        whole = tif.series[0].asarray()
    fill_run(tmp_path / "run", tmp_path / "run.ome.zarr", bundle=bundle)
    group = zarr.open_group(tmp_path / "run.ome.zarr", mode="r")
    assert group["0"].metadata.dimension_names == ("t", "c", "y", "x")
    np.testing.assert_array_equal(group["0"][:], whole)
    text = (tmp_path / "run.ome.zarr" / "frames.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert {(line["index"]["t"], line["index"]["c"]) for line in lines} == {
        (t, c) for t in range(20) for c in range(2)
    }
    assert all(2 * line["index"]["t"] + line["index"]["c"] == line["tags"]["number"] for line in lines)
    fill_run(tmp_path / "run", tmp_path / "run.ndtiff", bundle=bundle)
    data = ndstorage.NDTiffDataset(str(tmp_path / "run.ndtiff"))
    try:
        for t in range(20):
            for c, channel in enumerate("ab"):
                np.testing.assert_array_equal(data.read_image(time=t, channel=channel), whole[t, c])
                assert data.read_metadata(time=t, channel=channel)["number"] == 2 * t + c
    finally:
        data.close()


def test_a_name_that_says_no_format(bundle: Path, movie: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"out\.avi does not say which format .* \.zarr \(OME-Zarr\)"):
        denoise_movie(movie, tmp_path / "out.avi", bundle=str(bundle))
    assert not list(tmp_path.iterdir())
