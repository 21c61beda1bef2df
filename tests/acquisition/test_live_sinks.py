"""The denoised movie of a running session in every format, read back by the readers that users have."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from ome_types import from_tiff

from denoscope.acquisition import Frame, make_settings, read_raw, sinks
from denoscope.acquisition.contracts import SourceInfo
from denoscope.acquisition.errors import OutputExists
from denoscope.acquisition.sinks.ndtiff import Dataset
from denoscope.runtime import InvalidInput, StreamKey, open_movie
from support.plain_results import live
from support.skips import needs
from support.tiny_bundle import IDENTITY, tiny_bundle

from .conftest import QUICK, Run, environment
from .test_routing import SHAPE, Listed, frame

zarr = pytest.importorskip("zarr", reason="needs the extra 'formats'")
yaozarrs = pytest.importorskip("yaozarrs", reason="needs the extra 'formats'")
needs("ndstorage", "micromanager")

FORMATS = ("ome-tiff", "ome-zarr", "ndtiff")
FrameIndex = tuple[StreamKey, int]  # stream and time index
HOSTILE = ("../../evil", "C:\\Windows\\evil", "/etc/evil", "con", "a\x00b", "..", "ä" * 300, "\ud800")


def record(folder: Path, frames: list[Frame], name: str = "ome-tiff", **more: Any) -> dict[str, Any]:
    bundle = folder.parent / "tiny.denoscope"
    if not bundle.exists():
        tiny_bundle(bundle, intensity=IDENTITY)
    values = {"core": "list", "bundle": str(bundle), "picture": False, "lag_s": 60.0}
    values |= {"finish_s": 60.0, "denoiser": "thread"}
    settings = make_settings(output=folder, denoised_format=name, **{**values, **more})
    return live(settings, source=Listed(frames))


def of_tiff(path: Path) -> dict[FrameIndex, Any]:
    """Return frame and metadata by place."""
    found = {}
    with tifffile.TiffFile(path) as tiff:
        ome = from_tiff(path)
        pairs = {pair.k: pair.value for pair in ome.structured_annotations.map_annotations[0].value.ms}
        for image, stream in zip(ome.images, json.loads(pairs["streams"]), strict=True):
            for block in image.pixels.tiff_data_blocks:
                key = StreamKey(
                    stream["camera"],
                    stream["channels"][block.first_c],
                    stream["slices"][block.first_z],
                    stream["position"],
                )
                for step in range(block.plane_count):
                    page = tiff.pages[block.ifd + step]
                    tag = page.tags.get(65123)
                    at = stream["first_index"] + block.first_t + step
                    found[key, at] = page.asarray(), json.loads(tag.value) if tag else {}
    return found


def of_zarr(folder: Path) -> dict[FrameIndex, Any]:
    found = {}
    for path in sorted(folder.glob("denoised*.ome.zarr")):
        yaozarrs.validate_zarr_store(str(path))
        group = zarr.open_group(path, mode="r")
        array, about = group["0"], group.attrs["denoscope"]
        assert array.metadata.dimension_names == ("t", "c", "z", "y", "x")
        assert array.chunks == (1, 1, 1, *array.shape[-2:])
        for line in (path / "frames.jsonl").read_text(encoding="utf-8").splitlines():
            each = json.loads(line)
            t, c, z = (each["index"][axis] for axis in "tcz")
            tags = each["tags"]
            key = StreamKey(about["camera_label"], tags.pop("channel"), tags.pop("z"), about["position"])
            found[key, t] = array[t, c, z], tags
    return found


def of_ndtiff(path: Path, camera: str = "A") -> dict[FrameIndex, Any]:
    found = {}
    data = pytest.importorskip("ndstorage").NDTiffDataset(str(path))
    try:
        for axes in data.get_image_coordinates_list():
            channel = "" if axes["channel"] == "Default" else axes["channel"]
            key = StreamKey(camera, channel, axes["z"], axes["position"])
            found[key, axes["time"]] = data.read_image(**axes).copy(), data.read_metadata(**axes)
    finally:
        data.close()
    return found


def interleaved(channels: tuple[str, ...], count: int) -> list[Frame]:
    chance = np.random.default_rng(4)
    frames = []
    for n in range(count):
        tags = {
            "Axes": {
                "time": n // len(channels) // 2,
                "channel": channels[n % len(channels)],
                "z": n // len(channels) % 2,
            },
            "Exposure": 10,
            "XPositionUm": 0.25 * n,
            "File": HOSTILE[n % len(HOSTILE)],
        }
        each = frame(n, tags)
        pixels = chance.poisson(300, SHAPE).astype(np.uint16)
        frames.append(Frame(pixels, n, each.t_received_s, "A", tags, core_unix_s=1e9 + n / 30))
    return frames


def same(found: dict[FrameIndex, Any], expected: dict[FrameIndex, Any]) -> None:
    assert found.keys() == expected.keys()
    for place, (pixels, _) in expected.items():
        np.testing.assert_array_equal(found[place][0], pixels)


def test_every_format_holds_the_same_frames_and_micromanagers_metadata(tmp_path: Path) -> None:
    frames = interleaved(("GFP", "RFP"), 40)
    reports = {name: record(tmp_path / name, frames, name) for name in FORMATS}
    assert {report["frames"]["denoised"] for report in reports.values()} == {40}
    expected = of_tiff(tmp_path / "ome-tiff" / "denoised.ome.tif")
    assert len(expected) == 40
    found = {
        "ome-tiff": expected,
        "ome-zarr": of_zarr(tmp_path / "ome-zarr"),
        "ndtiff": of_ndtiff(tmp_path / "ndtiff" / "denoised.ndtiff"),
    }
    for places in found.values():
        same(places, expected)
        for (key, t), (_, metadata) in places.items():
            n = t * 4 + key.z * 2 + ("GFP", "RFP").index(key.channel)
            assert metadata["XPositionUm"] == 0.25 * n
            assert metadata["Exposure"] == 10
    # What produced them.
    group = zarr.open_group(tmp_path / "ome-zarr" / "denoised.ome.zarr", mode="r")
    assert group.attrs["channels"] == ["GFP", "RFP"]
    assert group["0"].shape == (10, 2, 2, *SHAPE)
    ndtiff = json.loads((tmp_path / "ndtiff" / "denoised.ndtiff" / "denoscope.json").read_text())
    for provenance in (group.attrs["denoscope"], ndtiff, reports["ndtiff"]["denoiser"]):
        assert provenance["bundle"] == "tiny"
        assert len(provenance["bundle_sha256"]) == 64
        assert provenance["intensity"]["scale"] == 1.0


def test_a_movie_of_one_stream_opens_in_denoscope_too(tmp_path: Path) -> None:
    frames = [frame(n, value=200 + n) for n in range(70)]  # more than one step of growth
    record(tmp_path / "tiff", frames)
    record(tmp_path / "zarr", frames, "ome-zarr")
    expected = tifffile.imread(tmp_path / "tiff" / "denoised.ome.tif")
    np.testing.assert_array_equal(np.asarray(open_movie(tmp_path / "zarr" / "denoised.ome.zarr")), expected)


@pytest.mark.parametrize("name", FORMATS)
def test_names_from_metadata_stay_in_the_run_folder(tmp_path: Path, name: str) -> None:
    frames = []
    for n in range(3 * len(HOSTILE)):
        evil = HOSTILE[n % len(HOSTILE)]
        tags = {
            "Axes": {"time": n // len(HOSTILE), "channel": evil, "position": evil},
            "FileName": evil,
            "Camera": evil,
        }
        frames.append(frame(n, tags, camera=evil))
    before = set(tmp_path.iterdir())
    report = record(tmp_path / "run" / "here", frames, name, std=True)
    assert report["outcome"]["problems"] == []
    assert report["frames"]["denoised"] == len(frames) == len(read_raw(tmp_path / "run" / "here"))
    assert {path.name for path in tmp_path.iterdir()} - {path.name for path in before} == {"run"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"here", "tiny.denoscope"}
    for path in (tmp_path / "run" / "here").rglob("*"):
        assert "evil" not in path.name
        assert len(path.name) < 60


@pytest.mark.parametrize("name", FORMATS)
def test_the_predicted_deviation(tmp_path: Path, name: str) -> None:
    frames = interleaved(("",), 12)
    report = record(tmp_path / "run", frames, name, std=True)
    assert report["outcome"]["problems"] == []
    assert report["frames"]["denoised"] == 12
    if name == "ome-zarr":
        group = zarr.open_group(tmp_path / "run" / "denoised_std.ome.zarr", mode="r")
        assert "standard deviation" in group.attrs["denoscope"]["quantity"]
        std = group["0"][:]
        assert std.shape == (6, 1, 2, *SHAPE)
    else:
        path = tmp_path / "run" / "denoised_std.ome.tif"
        std = tifffile.imread(path)
        assert std.shape == (6, 2, *SHAPE)
        assert from_tiff(path).images[0].name == "list standard deviation"
    assert std.dtype == np.float32
    assert np.isfinite(std).all()
    assert (std > 0).all()


def test_a_bundle_that_predicts_none_is_refused(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "tiny.denoscope", std=False)
    with pytest.raises(InvalidInput, match="deviation"):
        record(tmp_path / "run", [frame(0)], std=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", FORMATS)
def test_roi_bit_depth_binning_and_exposure_change_in_mid_run(tmp_path: Path, name: str) -> None:
    """Frames before and after a change are never in one image, and each part is what it would be alone."""
    kinds: list[dict[str, Any]] = [
        {"tags": {"Exposure": 10, "ROI": "0-0-32-24"}},
        {"tags": {"Exposure": 30, "ROI": "0-0-32-24"}},
        {"tags": {"Exposure": 30, "ROI": "8-8-16-16"}, "shape": (16, 16)},
        {
            "tags": {"Exposure": 30, "ROI": "8-8-16-16", "PixelType": "GRAY8"},
            "shape": (16, 16),
            "dtype": np.uint8,
        },
    ]
    parts = [
        [frame(8 * i + n, value=40 * (i + 1) + n, **kind) for n in range(8)] for i, kind in enumerate(kinds)
    ]
    report = record(tmp_path / "run", [each for part in parts for each in part], name)
    assert [change["frame"] for change in report["changes"]] == [8, 16, 24]
    found: list[Any] = []
    if name == "ome-tiff":
        found = [each for each, _ in of_tiff(tmp_path / "run" / "denoised.ome.tif").values()]
    elif name == "ome-zarr":
        paths = ["denoised.ome.zarr", "denoised_1.ome.zarr", "denoised_2.ome.zarr"]
        for path in paths:
            found += list(zarr.open_array(tmp_path / "run" / path / "0", mode="r")[:, 0, 0])
    else:
        places = of_ndtiff(tmp_path / "run" / "denoised.ndtiff")
        found = [places[StreamKey("A"), t][0] for t in range(32)]
    assert len(found) == 32
    for i, part in enumerate(parts):
        record(tmp_path / f"alone-{i}", part)
        alone = tifffile.imread(tmp_path / f"alone-{i}" / "denoised.ome.tif")
        for n in range(8):
            assert found[8 * i + n].dtype == part[n].pixels.dtype
            np.testing.assert_array_equal(found[8 * i + n], alone[n])


def test_a_folder_that_holds_a_movie_of_any_format(tmp_path: Path) -> None:
    (tmp_path / "run" / "denoised_std.ome.zarr").mkdir(parents=True)
    with pytest.raises(OutputExists, match=r"denoised_std\.ome\.zarr exists"):
        record(tmp_path / "run", [frame(0)])


def test_a_format_that_does_not_exist(denoscope: Run, movie: Path, bundle: Path, tmp_path: Path) -> None:
    words = ["live", "--core", f"replay:{movie}", "--bundle", bundle, "--output", tmp_path / "run"]
    done = denoscope(*words, "--denoised-format", "avi")
    assert done.returncode == 2
    assert "--denoised-format avi" in done.stderr
    assert "ndtiff" in done.stderr


def written(run: Path, name: str) -> int:
    """Return about how many denoised frames are on the disk while the session runs."""
    path = {
        "ome-tiff": run / "denoised.ome.tif",
        "ome-zarr": run / "denoised.ome.zarr" / "frames.jsonl",
        "ndtiff": run / "denoised.ndtiff" / "NDTiff.index",
    }[name]
    a_frame = {"ome-tiff": 2 * SHAPE[0] * SHAPE[1] + 400, "ome-zarr": 130, "ndtiff": 140}[name]
    return path.stat().st_size // a_frame if path.exists() else 0


def after_a_kill(run: Path, name: str) -> dict[int, Any]:
    """Return the denoised frames by the number of their raw frame, which its metadata say."""
    if name == "ome-tiff":
        with tifffile.TiffFile(run / "denoised.ome.tif") as tiff:
            return {int(json.loads(p.tags[65123].value)["Replayed"]): p.asarray() for p in tiff.pages}
    if name == "ndtiff":
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            places = of_ndtiff(run / "denoised.ndtiff", "")
        assert all(t == int(metadata["Replayed"]) for (_, t), (_, metadata) in places.items())
        return {t: pixels for (_, t), (pixels, _) in places.items()}
    places = of_zarr(run)
    array = zarr.open_array(run / "denoised.ome.zarr" / "0", mode="r")
    found = {t: pixels for (_, t), (pixels, _) in places.items()}
    assert array.shape[0] - 64 < max(found) + 1 <= array.shape[0]
    # One more chunk may be there than lines.
    np.testing.assert_array_equal(array[max(found) + 2 :], 0)
    return found


@pytest.mark.parametrize(
    "name", [FORMATS[0], *(pytest.param(name, marks=pytest.mark.slow) for name in FORMATS[1:])]
)
def test_a_killed_session_leaves_every_frame_that_was_written(tmp_path: Path, name: str) -> None:
    tiny_bundle(tmp_path / "tiny.denoscope", intensity=IDENTITY)
    movie = np.random.default_rng(2).poisson(300, (3000, *SHAPE)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "movie.tif", movie)
    run = tmp_path / "run"
    words: list[Any] = [sys.executable, "-m", "denoscope.acquisition.cli.app", "live", "--output", run]
    words += ["--core", f"replay:{tmp_path / 'movie.tif'}", "--fps", 50, "--no-picture"]
    words += ["--backend", QUICK]
    words += ["--bundle", tmp_path / "tiny.denoscope", "--denoised-format", name]
    session = subprocess.Popen(
        [*map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment()
    )
    try:
        deadline_s = time.monotonic() + 250
        while written(run, name) < 40:
            assert session.poll() is None, session.stderr.read().decode()  # type: ignore[union-attr]
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
    finally:
        session.kill()
        session.communicate()
    found = after_a_kill(run, name)
    raw = len(read_raw(run))
    assert 38 <= len(found) <= raw
    last = max(found)
    frames = [Frame(movie[n], n, float(n), "", {}) for n in range(min(raw, last + 4))]
    record(tmp_path / "whole", frames)
    expected = tifffile.imread(tmp_path / "whole" / "denoised.ome.tif")
    for n in range(min(last, raw - 4) + 1):
        if n in found:
            # A busy computer skips frames, which then are missing in the windows of others.
            np.testing.assert_allclose(found[n], expected[n], atol=30)


def test_the_index_of_an_ndtiff_names_its_axes_in_one_order(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The reader of tifffile and napari goes by the order of the first entry, and warns of others."""
    source = SourceInfo("file", "a", "", (24, 32), np.dtype(np.uint16))
    folder = tmp_path / "a.ndtiff"
    folder.mkdir()
    data = Dataset(folder, source, {})
    pixels = np.arange(24 * 32, dtype=np.uint16).reshape(24, 32)
    for t in range(6):
        axes = {"time": t, "channel": "a", "z": 0, "position": 0}
        data.put(axes, pixels + np.uint16(t), sinks.FrameIndex(StreamKey(), t, 0.0, {}))
    data.close()
    data.repeat(axes | {"time": 2}, [axes | {"time": 6}])
    movie = tifffile.imread(folder / "NDTiffStack.tif")
    np.testing.assert_array_equal(movie, pixels + np.array([0, 1, 2, 3, 4, 5, 2], np.uint16)[:, None, None])
    assert not caplog.records
