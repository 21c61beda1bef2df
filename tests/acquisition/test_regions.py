"""Regions: from every kind of file, measured in every frame, and hostile files refused."""

from __future__ import annotations

import os
import pickle
import threading
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile

from denoscope.acquisition.frames.live_frame import LiveFrame
from denoscope.acquisition.regions import finding as finding_module
from denoscope.acquisition.regions import search as search_module
from denoscope.acquisition.regions.baseline import Baseline
from denoscope.acquisition.regions.deviation import MeanDeviation
from denoscope.acquisition.regions.finding import FIND_FRAMES, RegionFinder, find_cells
from denoscope.acquisition.regions.measure import RegionMeter
from denoscope.acquisition.regions.reading import found_radius, read_regions, regions_of_layer
from denoscope.acquisition.regions.regions import Regions
from denoscope.acquisition.regions.stat_npy import read_stat
from denoscope.acquisition.regions.trace_file import TraceFile, TraceThread, read_traces
from denoscope.acquisition.session.recording import live_traces as live_traces_module
from denoscope.acquisition.session.recording.live_traces import LiveTraces
from denoscope.acquisition.triggers.condition import parse_condition
from denoscope.runtime import InvalidInput, StreamKey

SHAPE = (40, 50)


def stat(count: int = 3) -> Any:
    return np.array(
        [
            {
                "ypix": np.array([n, n, n + 1]),
                "xpix": np.array([2, 3, 2], np.int32),
                "lam": np.ones(3, np.float32),
                "med": (1.0, 2.0),
                "radius": np.float32(3.5),
                "overlap": np.zeros(3, bool),
                "manual": True,
                "name": "cell",
            }
            for n in range(count)
        ],
        dtype=object,
    )


def save_stat(path: Path, value: Any) -> Path:
    np.save(path, value, allow_pickle=True)
    return path


class AtOnce(threading.Thread):
    """A thread that has done its work when `start` returns."""

    def start(self) -> None:
        super().start()
        self.join()


class Evil:
    """A pickle of it runs a command."""

    def __reduce__(self) -> Any:
        return os.system, ("touch hacked",)


class Changing:
    """A pickle of it calls numpy to load another file."""

    def __reduce__(self) -> Any:
        return np.load, ("anything.npy",)


def test_stat_npy_is_read_like_numpy_reads_it(tmp_path: Path) -> None:
    regions = read_regions(save_stat(tmp_path / "stat.npy", stat()), SHAPE)
    assert regions.names == ("0", "1", "2")
    np.testing.assert_array_equal(np.sort(regions.pixels(1)), [52, 53, 102])
    read = read_stat(tmp_path / "stat.npy")[2]
    assert read["radius"] == np.float32(3.5)
    assert read["name"] == "cell"
    np.testing.assert_array_equal(read["overlap"], np.zeros(3, bool))


@pytest.mark.parametrize("protocol", range(2, 6))
def test_stat_npy_of_every_age_of_pickle_is_read(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "stat.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": (3,)})
        pickle.dump(stat(), file, protocol=protocol)
    assert len(read_stat(path)) == 3


def test_only_what_suite2p_calls_a_cell_is_taken(tmp_path: Path) -> None:
    save_stat(tmp_path / "stat.npy", stat())
    np.save(tmp_path / "iscell.npy", np.array([[1, 0.9], [0, 0.1], [1, 0.8]]))
    assert read_regions(tmp_path, SHAPE).names == ("0", "2")


@pytest.mark.parametrize(
    "value",
    [
        np.array([{"ypix": Evil(), "xpix": 1}], dtype=object),
        np.array([Changing()], dtype=object),
        np.array([{"ypix": np.zeros(2), "xpix": np.array([b"a", "b"], dtype=object)}], dtype=object),
        np.array([{"ypix": {1, 2}, "xpix": 3}], dtype=object),
        np.array([{"ypix": Path("x"), "xpix": 3}], dtype=object),
        np.array([{"wrong": 1}], dtype=object),
        np.array([3, "x"], dtype=object),
    ],
    ids=["command", "numpy-load", "bytes", "set", "path", "no-pixels", "no-dictionaries"],
)
def test_a_stat_npy_that_holds_anything_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match=r"stat\.npy"):
        read_regions(save_stat(tmp_path / "stat.npy", value), SHAPE)
    assert not (tmp_path / "hacked").exists()


def test_a_pickle_cannot_change_the_reader_or_multiply_itself(tmp_path: Path) -> None:
    head = b"\x93NUMPY\x01\x00"
    text = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    text += b" " * (117 - len(text)) + b"\n"
    head += len(text).to_bytes(2, "little") + text
    laughs: Any = ["ha"] * 10
    for _ in range(7):
        laughs = [laughs] * 10
    for body in (
        pickle.dumps(laughs),
        b"cnumpy\nndarray\n(dp0\nVx\nI1\nsb.",  # BUILD on a function
        b"cnumpy\nndarray\n(tR.",
        b"cbuiltins\neval\n(V1+1\ntR.",
    ):
        path = tmp_path / "stat.npy"
        path.write_bytes(head + body)
        with pytest.raises(InvalidInput):
            read_stat(path)


@pytest.mark.parametrize("length", [0, 5, 9, 60, 140, 300])
def test_a_stat_npy_that_is_cut_off_is_refused(tmp_path: Path, length: int) -> None:
    whole = save_stat(tmp_path / "whole.npy", stat()).read_bytes()
    cut = tmp_path / "stat.npy"
    cut.write_bytes(whole[:length])
    with pytest.raises(InvalidInput):
        read_regions(cut, SHAPE)


def test_regions_of_imagej_cover_the_pixels_that_imagej_covers(tmp_path: Path) -> None:
    roifile = pytest.importorskip("roifile", reason="needs the extra 'regions'")
    polygon = roifile.ImagejRoi.frompoints([[10, 5], [20, 5], [20, 9], [10, 9]], name="soma 1")
    rectangle = roifile.ImagejRoi(
        roitype=roifile.ROI_TYPE.RECT, top=2, left=3, bottom=6, right=8, name="soma 2"
    )
    oval = roifile.ImagejRoi(
        roitype=roifile.ROI_TYPE.OVAL, top=20, left=20, bottom=30, right=30, name="soma 3"
    )
    path = tmp_path / "cells.zip"
    roifile.roiwrite(path, [polygon, rectangle, oval])
    regions = read_regions(path, SHAPE)
    assert regions.names == ("soma 1", "soma 2", "soma 3")
    assert regions.sizes.tolist()[:2] == [40, 20]
    assert abs(int(regions.sizes[2]) - np.pi * 25) < 6
    labels = regions.labels()
    assert labels[5:9, 10:20].min() == labels[5:9, 10:20].max() == 1
    assert labels[2:6, 3:8].min() == 2
    line = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.LINE, name="axis")
    roifile.roiwrite(tmp_path / "line.roi", line)
    with pytest.raises(InvalidInput, match=r"axis of .* is a line and encloses nothing"):
        read_regions(tmp_path / "line.roi", SHAPE)
    (tmp_path / "bad.zip").write_bytes(b"PK no zip")
    with pytest.raises(InvalidInput, match="holds no regions of ImageJ"):
        read_regions(tmp_path / "bad.zip", SHAPE)


def test_regions_that_are_damaged_or_locked_are_one_sentence(tmp_path: Path) -> None:
    roifile = pytest.importorskip("roifile", reason="needs the extra 'regions'")
    whole = roifile.ImagejRoi.frompoints(np.array([[3, 3], [20, 4], [18, 22]])).tobytes()
    lying = bytearray(whole)
    lying[16:18] = b"\xfd\xe8"  # 65,000 points
    for name, content in (("lying.zip", bytes(lying)), ("locked.zip", whole)):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("a.roi", content)
    locked = bytearray((tmp_path / "locked.zip").read_bytes())
    locked[6] |= 1
    locked[locked.find(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(locked)
    for name, why in (("lying.zip", "buffer is too small"), ("locked.zip", "encrypted")):
        with pytest.raises(InvalidInput, match=f"holds no regions of ImageJ .*{why}.*save them in the ROI"):
            read_regions(tmp_path / name, SHAPE)
    header = b"{'descr': '<i4', 'fortran_order': False, 'shape': (1000000000000, 40), }".ljust(117) + b"\n"
    (tmp_path / "huge.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(InvalidInput, match=r"huge.npy is damaged \(.*\); save it again"):
        read_regions(tmp_path / "huge.npy", SHAPE)
    (tmp_path / "open.npy").write_bytes(
        b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + b"(" * 117 + b"\n"
    )
    with pytest.raises(InvalidInput, match=r"open.npy is no stat.npy of suite2p, or it is damaged"):
        read_regions(tmp_path / "open.npy", SHAPE)


def test_label_images_and_shapes_of_napari_are_read(tmp_path: Path) -> None:
    labels = np.zeros(SHAPE, np.uint16)
    labels[3:6, 4:8], labels[20:30, 20:30] = 7, 2
    tifffile.imwrite(tmp_path / "labels.tif", labels)
    np.save(tmp_path / "labels.npy", labels)
    for name in ("labels.tif", "labels.npy"):
        regions = read_regions(tmp_path / name, SHAPE)
        assert dict(zip(regions.names, regions.sizes.tolist(), strict=True)) == {"2": 100, "7": 12}
    (tmp_path / "shapes.csv").write_text(
        "index,shape-type,vertex-index,axis-0,axis-1\n"
        + "".join(
            f"0,rectangle,{i},{y},{x}\n"
            for i, (y, x) in enumerate([(2.5, 3.5), (2.5, 7.5), (5.5, 7.5), (5.5, 3.5)])
        )
    )
    assert read_regions(tmp_path / "shapes.csv", SHAPE).sizes.tolist() == [12]
    corners = np.array([[2.5, 3.5], [2.5, 7.5], [5.5, 7.5], [5.5, 3.5]])
    Shapes = type("Shapes", (SimpleNamespace,), {})
    layer = Shapes(name="drawn", shape_type=["polygon"], data=[corners])
    assert regions_of_layer(layer, SHAPE).sizes.tolist() == [12]
    Labels = type("Labels", (SimpleNamespace,), {})
    assert len(regions_of_layer(Labels(name="cells", data=labels), SHAPE)) == 2
    with pytest.raises(InvalidInput, match="one of Points"):
        regions_of_layer(type("Points", (SimpleNamespace,), {})(name="p"), SHAPE)


def test_regions_that_cannot_be_used_are_refused_in_one_sentence(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "empty.tif", np.zeros(SHAPE, np.uint8))
    tifffile.imwrite(tmp_path / "float.tif", np.zeros(SHAPE, np.float32))
    tifffile.imwrite(tmp_path / "big.tif", np.ones((60, 60), np.uint8))
    (tmp_path / "text.csv").write_text("a,b\n1,2\n")
    (tmp_path / "cells.txt").write_text("x")
    for name, says in (
        ("empty.tif", "no region"),
        ("float.tif", "whole numbers"),
        ("big.tif", "60 x 60"),
        ("text.csv", "columns index"),
        ("cells.txt", "files end with"),
        ("absent.zip", "no such file"),
    ):
        with pytest.raises(InvalidInput, match=says) as caught:
            read_regions(tmp_path / name, SHAPE)
        assert "\n" not in str(caught.value)
    for word in ("find:0", "find:abc", "find:1e9"):
        with pytest.raises(InvalidInput, match="radius"):
            found_radius(word)
    assert (found_radius("find"), found_radius("find:4"), found_radius("x.zip")) == (6.0, 4.0, None)


def test_regions_of_one_name_are_told_apart() -> None:
    regions = Regions((1, 3), ["a", "a", "a"], [np.array([0]), np.array([1]), np.array([2])])
    assert regions.names == ("a", "a (2)", "a (3)")


def test_means_are_those_of_the_pixels_for_every_dtype() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 5, SHAPE)
    meter = RegionMeter(Regions.from_labels(labels))
    for dtype in (np.uint8, np.uint16, np.float32, np.int16):
        frame = rng.integers(0, 200, SHAPE).astype(dtype)
        traces = meter.measure(frame, frame, np.ones(SHAPE, np.float32))
        wanted = [frame[labels == value].mean(dtype=np.float64) for value in range(1, 5)]
        np.testing.assert_allclose(traces.denoised, wanted, rtol=1e-6)
    # Regions that overlap, reach the last pixel, or name a pixel twice.
    odd = [
        np.arange(1900, 2000),
        np.array([1999]),
        np.array([7, 3, 4, 4]),
        np.arange(0, 2000, 2),
        np.arange(2000),
    ]
    frame = rng.integers(0, 65535, SHAPE).astype(np.uint16)
    got = RegionMeter(Regions(SHAPE, list("abcde"), odd)).measure(frame, frame, None).raw
    np.testing.assert_allclose(got, [frame.ravel()[each].mean(dtype=np.float64) for each in odd], rtol=1e-12)
    whole = RegionMeter(Regions.from_labels(np.ones((300, 300), np.uint8)))
    bright = np.full((300, 300), 65535, np.uint16)
    assert whole.measure(bright, bright, None).raw[0] == 65535
    with pytest.raises(InvalidInput, match="frames of this size"):
        meter.measure(bright, bright, None)


def test_labels_have_the_numbers_of_the_traces() -> None:
    labels = np.zeros(SHAPE, np.uint16)
    labels[2:5, 2:5], labels[10:14, 3:9], labels[20:22, 20:30] = 40, 7, 60_000
    regions = Regions.from_labels(labels)
    assert regions.names == ("7", "40", "60000")
    np.testing.assert_array_equal(regions.labels(), labels)
    # Cells that suite2p's user chose, of which one is region 0; and names that are no numbers, or too large.
    pixels = [np.array([place]) for place in range(6)]
    named = Regions(SHAPE, ["0", "2", "soma", "3", "007", "9999999999"], pixels)
    assert named.labels().ravel()[:7].tolist() == [1, 2, 4, 3, 5, 6, 0]
    assert named.labels().dtype == np.int32


def test_the_baseline_is_causal_and_a_transient_does_not_lift_it() -> None:
    baseline = Baseline(2)
    values = np.array([100.0, 50.0])
    for _ in range(200):
        before = baseline.add(values).copy()
    flash = [baseline.add(values + np.array([300.0, 0.0])).copy() for _ in range(20)]
    np.testing.assert_allclose(before, values)
    np.testing.assert_allclose(flash[-1], values)
    for _ in range(2000):  # a step that lasts becomes the baseline
        last = baseline.add(values + 10).copy()
    np.testing.assert_allclose(last, values + 10)
    assert np.isfinite(baseline.add(np.array([np.nan, 60.0]))).all()


def test_change_is_relative_to_the_light_without_the_dark_counts() -> None:
    regions = Regions.from_labels(np.ones((4, 4), np.uint8))
    meter = RegionMeter(regions, dark=100)
    frame = np.full((4, 4), 200, np.uint16)
    for _ in range(40):
        calm = meter.measure(frame, frame, None)
    flash = meter.measure(frame * 2, frame * 2, None)
    assert calm.dff[0] == 0.0
    assert flash.dff[0] == pytest.approx(2.0)
    assert np.isnan(RegionMeter(regions, dark=500).measure(frame, frame, None).dff[0])
    assert flash.of("1")["dff"] == pytest.approx(2.0)


def test_the_deviation_of_a_mean_is_more_than_independent_pixels_would_give() -> None:
    regions = Regions.from_labels(np.kron(np.arange(1, 5).reshape(2, 2), np.ones((9, 9), int)))
    meter = RegionMeter(regions)
    rng = np.random.default_rng(0)
    for _ in range(60):
        frame = rng.normal(100, 10, (18, 18)).astype(np.float32)
        traces = meter.measure(frame, np.full_like(frame, 100) + rng.normal(0, 0.3), np.full_like(frame, 1.0))
    assert (traces.std > 1 / 9).all()
    assert (traces.std < 1.0).all()


def test_cells_are_found_where_they_are_and_nowhere_else() -> None:
    rng = np.random.default_rng(4)
    truth = [(20, 20), (20, 60), (60, 30), (70, 70)]
    rows, columns = np.mgrid[:96, :96]
    finder = RegionFinder(5.0, frames=20)
    found = None
    for number in range(20):
        frame = rng.normal(100, 3, (96, 96))
        for place, (y, x) in enumerate(truth):
            if place < 3 or number == 11:  # the last flashes once
                frame += 60 * (np.hypot(rows - y, columns - x) < 5)
        assert found is None
        found = finder.add(np.round(frame).astype(np.uint16))
    assert found is not None
    labels = found.labels()
    assert len(found) == 4
    assert {int(labels[y, x]) for y, x in truth} == {1, 2, 3, 4}
    assert 30 < found.sizes.min() <= found.sizes.max() < 200
    with pytest.raises(InvalidInput, match="no cell"):
        find_cells([rng.normal(0, 1, (96, 96))], 5.0)


def test_cells_of_a_crowded_scene_are_found_and_the_even_part_of_a_picture_holds_none() -> None:
    rng = np.random.default_rng(6)
    rows, columns = np.mgrid[:300, :270]
    truth = [
        (y + rng.integers(-6, 7), x + rng.integers(-6, 7))
        for y in range(20, 290, 30)
        for x in range(20, 260, 30)
    ]
    picture = rng.normal(400, 12, rows.shape)
    for y, x in truth:
        picture += rng.uniform(45, 90) * (np.hypot(rows - y, columns - x) < 6)
    labels = find_cells([picture, rng.normal(0, 1, rows.shape)], 6.0).labels()
    hit = {int(labels[y, x]) for y, x in truth} - {0}
    assert len(hit) >= 0.97 * len(truth)
    assert len(hit) >= 0.97 * labels.max()
    # A picture that is even but for one cell has rounding in place of noise, and no cell there.
    even = np.full(rows.shape, 60_000.0)
    even[np.hypot(rows - 150, columns - 90) < 6] += 1000
    assert len(find_cells([even], 6.0)) == 1


def cells_by_sums(picture: Any, radius_px: float) -> Any:
    """Return the labels of the cells in a picture by sums over its pixels, as `find_cells` says what a cell is."""
    sigma = radius_px / np.sqrt(2)
    reach = int(np.ceil(4 * sigma))
    x = np.arange(-reach, reach + 1)
    smooth = np.exp(-(x**2) / (2 * sigma**2))
    smooth /= smooth.sum()
    curved = (x**2 / sigma**2 - 1) * smooth
    curved -= curved.mean()

    def along(values: Any, kernel: Any, axis: int) -> Any:
        return np.apply_along_axis(np.convolve, axis, values, kernel, mode="valid")

    padded = np.pad(picture, reach, mode="reflect")
    response = -along(along(padded, curved, 0), smooth, 1) - along(along(padded, smooth, 0), curved, 1)
    strength = response / (1.4826 * np.median(np.abs(response - np.median(response))))
    near = max(1, round(radius_px))
    peaks: list[tuple[int, int]] = []
    height, width = picture.shape
    for place in np.argsort(-strength, axis=None):
        y, column = divmod(int(place), width)
        around = strength[max(0, y - 1) : y + 2, max(0, column - 1) : column + 2]
        inner = 0 < y < height - 1 and 0 < column < width - 1
        highest = inner and strength[y, column] > 5 and strength[y, column] == around.max()
        if highest and all(max(abs(y - top), abs(column - left)) > near for top, left in peaks):
            peaks.append((y, column))
    rows, columns = np.mgrid[:height, :width]
    distances = np.stack([np.hypot(rows - y, columns - column) for y, column in peaks])
    belongs = (distances.min(axis=0) <= 1.5 * radius_px + 1e-9) & (strength > 0)
    return np.where(belongs, distances.argmin(axis=0) + 1, 0)


def test_cells_are_those_that_sums_over_the_pixels_give() -> None:
    rng = np.random.default_rng(3)
    rows, columns = np.mgrid[:133, :151]
    picture = rng.normal(400, 12, rows.shape)
    # At the edges, beside each other, and alone.
    for y, x in ((4, 30), (30, 20), (30, 31), (39, 25), (70, 146), (80, 60), (128, 100), (100, 4)):
        picture += 90 * (np.hypot(rows - y, columns - x) < 4.5)
    expected = cells_by_sums(picture, 5.0)
    assert expected.max() == 8
    np.testing.assert_array_equal(find_cells([picture], 5.0).labels(), expected)


def test_rounding_in_even_pictures_is_no_cell() -> None:
    with pytest.raises(InvalidInput, match="no cell"):
        find_cells([np.full((96, 96), 54_321.1)], 5.0)
    rows, columns = np.mgrid[:96, :96]
    flash = np.where(np.hypot(rows - 20, columns - 30) < 5, 1e9, 0.0)  # as of a movie in counts of a mean
    assert len(find_cells([flash], 5.0)) == 1


def test_bright_frames_in_memory_that_is_used_again_give_the_cells_of_all_of_them() -> None:
    rows, columns = np.mgrid[:64, :64]
    finder, shared = RegionFinder(5.0), np.empty((64, 64), np.uint16)
    rng = np.random.default_rng(2)
    for number in range(FIND_FRAMES):
        shared[...] = rng.poisson(39_322, shared.shape)  # their sum is a multiple of 65,536, but for noise
        # One cell is always a little brighter, which the mean shows; another flashes once, which it does not.
        shared[np.hypot(rows - 16, columns - 16) < 5] += 60
        shared[np.hypot(rows - 44, columns - 40) < 5] += 700 * (number == 50)
        regions = finder.add(shared)
    assert regions is not None
    labels = regions.labels()
    assert {int(labels[16, 16]), int(labels[44, 40])} == {1, 2}
    assert len(regions) == 2


def test_a_search_for_cells_holds_up_no_frame(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    searching, go_on = threading.Event(), threading.Event()

    def search(pictures: list[Any], radius_px: float, **more: str) -> Regions:
        searching.set()
        assert go_on.wait(250)
        return find_cells(pictures, radius_px, **more)

    monkeypatch.setattr(finding_module, "find_cells", search)
    rng = np.random.default_rng(1)
    rows, columns = np.mgrid[:48, :48]
    scene = 100 + 200 * (np.hypot(rows - 20, columns - 20) < 5)
    found: list[Regions] = []
    traces = LiveTraces("find:5", (48, 48), tmp_path, dark=0.0, on_found=found.append)
    shared = np.empty((48, 48), np.uint16)  # as the denoiser does, in memory that is used again

    def measure(number: int) -> Any:
        shared[...] = rng.poisson(scene)
        return traces.measure(
            LiveFrame(number, number, shared, shared, None, StreamKey(), number / 30, number / 30)
        )

    for number in range(FIND_FRAMES):
        assert measure(number) == []
    assert searching.wait(250)
    for number in range(FIND_FRAMES, FIND_FRAMES + 20):  # would wait for ever if the search were in the way
        assert measure(number) == []
    go_on.set()
    number = FIND_FRAMES + 20
    while not (seen := measure(number)):
        number += 1
    assert seen[0].names == ("1",)
    assert len(found) == 1
    record = traces.close()
    assert (record.regions, record.frames) == (1, 1)
    assert read_traces(tmp_path).frame.tolist() == [number]


def test_a_recording_that_ends_during_the_search_keeps_the_regions(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:48, :48]
    scene = (100 + 200 * (np.hypot(rows - 20, columns - 20) < 5)).astype(np.float64)
    for cells in (True, False):
        folder = tmp_path / str(cells)
        folder.mkdir()
        traces = LiveTraces("find:5", (48, 48), folder, dark=0.0)
        frames = (
            np.random.default_rng(2).poisson(scene if cells else 100, (FIND_FRAMES, 48, 48)).astype(np.uint16)
        )
        for number, frame in enumerate(frames):
            traces.measure(LiveFrame(number, number, frame, frame, None, StreamKey(), 0.0, 0.0))
        record = traces.close()
        assert record.frames == 0
        if cells:
            assert record.regions == 1
            assert "no denoised frame came after" in traces.notes(record)[0]
            assert tifffile.imread(folder / "regions.tif")[20, 20] == 1
        else:
            assert "no cell" in traces.problems[0]
            assert list(folder.iterdir()) == []


def test_regions_that_are_found_again_go_on_beside_those_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(search_module, "Thread", AtOnce)
    cells = np.zeros((48, 48), np.uint8)
    cells[2:6, 2:6], cells[30:36, 30:36] = 3, 12
    tifffile.imwrite(tmp_path / "cells.tif", cells)
    traces = LiveTraces(str(tmp_path / "cells.tif"), (48, 48), tmp_path, dark=0.0)
    traces.open()
    rows, columns = np.mgrid[:48, :48]
    moved = 100 + 200 * ((np.hypot(rows - 14, columns - 14) < 5) | (np.hypot(rows - 14, columns - 34) < 5))
    rng = np.random.default_rng(3)
    old, new = parse_condition("region 12 denoised > 150"), parse_condition("any region denoised > 150")

    def measure(number: int, scene: Any) -> LiveFrame:
        pixels = rng.poisson(scene).astype(np.uint16)
        frame = LiveFrame(number, number, pixels, pixels, None, StreamKey(), number / 30, number / 30)
        first, *earlier = traces.measure(frame)
        return replace(frame, traces=first, earlier=tuple(earlier))

    measure(0, moved)
    assert traces.find_again(5.0) is None
    assert traces.find_again() == "cells are being searched already"
    for number in range(1, 1 + FIND_FRAMES):
        frame = measure(number, moved)
        assert frame.earlier == ()
        assert new.met(frame) is None
    frame = measure(1 + FIND_FRAMES, moved)
    assert frame.traces is not None
    assert frame.traces.names == ("13", "14")
    assert [each.names for each in frame.earlier] == [("3", "12")]
    assert new.met(frame) is not None
    assert old.met(frame) is None
    bright = measure(2 + FIND_FRAMES, 100 + 300 * (cells == 12))
    assert old.met(bright) is not None  # region 12 is what it was
    assert new.met(bright) is None
    assert traces.find_again() is None
    record = traces.close()
    one, two = read_traces(tmp_path), read_traces(tmp_path / "traces-2.csv")
    assert one.frame.tolist() == list(range(FIND_FRAMES + 3))
    assert two.frame.tolist() == [FIND_FRAMES + 1, FIND_FRAMES + 2]
    assert (record.file, record.regions, record.frames) == ("traces.csv", 2, FIND_FRAMES + 3)
    assert [(each.file, each.frames) for each in record.again] == [("traces-2.csv", 2)]
    labels = tifffile.imread(tmp_path / "regions-2.tif")
    assert {int(labels[14, 14]), int(labels[14, 34])} == {13, 14}
    assert tifffile.imread(tmp_path / "regions.tif")[32, 32] == 12
    assert len(traces.notes(record)) == 3
    assert "found again" in traces.notes(record)[-1]


def test_a_field_without_cells_leaves_the_regions_before_as_they_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(search_module, "Thread", AtOnce)
    np.save(tmp_path / "cells.npy", np.eye(40, dtype=np.uint8))
    traces = LiveTraces(str(tmp_path / "cells.npy"), (40, 40), tmp_path, dark=0.0)
    traces.open()
    traces.find_again()
    rng = np.random.default_rng(3)
    for number in range(FIND_FRAMES + 2):
        pixels = rng.poisson(100, (40, 40)).astype(np.uint16)
        frame = LiveFrame(number, number, pixels, pixels, None, StreamKey(), 0.0, 0.0)
        assert len(traces.measure(frame)) == 1
    assert not traces.searching
    assert "no cell of about 6 pixels" in traces.problems[0]
    assert "found again" in traces.problems[0]
    assert traces.close().frames == FIND_FRAMES + 2


@pytest.mark.parametrize("fails", ["collect", "found"])
def test_a_search_that_fails_costs_no_trace_of_the_regions_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fails: str
) -> None:
    def fail(*_: Any) -> Any:
        raise MemoryError("Unable to allocate 32 GiB")

    monkeypatch.setattr(search_module, "Thread", AtOnce)
    monkeypatch.setattr(RegionFinder, fails, fail)
    np.save(tmp_path / "cells.npy", np.eye(40, dtype=np.uint8))
    traces = LiveTraces(str(tmp_path / "cells.npy"), (40, 40), tmp_path, dark=0.0)
    traces.open()
    assert traces.find_again() is None
    for number in range(FIND_FRAMES + 2):
        pixels = np.full((40, 40), 100, np.uint16)
        frame = LiveFrame(number, number, pixels, pixels, None, StreamKey(), 0.0, 0.0)
        assert len(traces.measure(frame)) == 1
    assert not traces.searching
    assert "could not be found again (Unable to allocate 32 GiB)" in traces.problems[0]
    assert traces.find_again() is None
    assert traces.close().frames == FIND_FRAMES + 2


def test_cells_are_searched_in_the_first_stream_alone_and_so_many_times_with_the_radius_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(search_module, "Thread", AtOnce)
    monkeypatch.setattr(live_traces_module, "_MOST_SETS", 4)
    rows, columns = np.mgrid[:48, :48]
    scene = 100 + 200 * (np.hypot(rows - 14, columns - 14) < 5)
    other = 100 + 900 * (np.hypot(rows - 34, columns - 34) < 5)
    rng = np.random.default_rng(3)
    found: list[Regions] = []
    traces = LiveTraces("find:5", (48, 48), tmp_path, dark=0.0, on_found=found.append)
    number = 0
    for radius in (None, None, 4.0, None):
        if found:
            assert traces.find_again(radius) is None
        while traces.searching:
            for stream, light in ((StreamKey(camera="a"), scene), (StreamKey(camera="b"), other)):
                pixels = rng.poisson(light).astype(np.uint16)
                traces.measure(LiveFrame(number, number, pixels, pixels, None, stream, 0.0, 0.0))
            number += 1
    assert traces.find_again() == "regions were found 4 times in this recording, which is the limit"
    assert [each.origin for each in found] == [
        "cells found in the first 100 frames",
        "cells of 5 pixels radius, found again in 100 frames",
        "cells of 4 pixels radius, found again in 100 frames",
        "cells of 4 pixels radius, found again in 100 frames",
    ]
    assert [(int(each.labels()[14, 14] > 0), len(each)) for each in found] == [(1, 1)] * 4
    traces.close()


def test_a_search_that_is_given_up_prepares_nothing_afterwards() -> None:
    searching, go_on = threading.Event(), threading.Event()
    prepared: list[Regions] = []

    class Slow(RegionFinder):
        def found(self) -> Regions:
            searching.set()
            assert go_on.wait(250)
            return Regions(SHAPE, ["1"], [np.arange(3)])

    search = search_module.RegionSearch(Slow(5.0, 1), prepared.append)
    search.add(np.ones(SHAPE, np.uint16))
    assert searching.wait(250)
    search.close(0.0)
    go_on.set()
    search.close(250.0)
    assert prepared == []


def test_a_file_that_cannot_be_made_costs_no_regions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(search_module, "Thread", AtOnce)
    (tmp_path / "traces-2.csv").mkdir()
    np.save(tmp_path / "cells.npy", np.eye(48, dtype=np.uint8))
    traces = LiveTraces(str(tmp_path / "cells.npy"), (48, 48), tmp_path, dark=0.0)
    traces.open()
    assert traces.find_again(5.0) is None
    rows, columns = np.mgrid[:48, :48]
    scene = 100 + 200 * (np.hypot(rows - 14, columns - 14) < 5)
    rng = np.random.default_rng(3)
    counts = []
    for number in range(FIND_FRAMES + 2):
        pixels = rng.poisson(scene).astype(np.uint16)
        frame = LiveFrame(number, number, pixels, pixels, None, StreamKey(), 0.0, 0.0)
        counts.append(len(traces.measure(frame)))
    assert counts[-1] == 2  # for triggers
    (problem,) = traces.problems
    assert problem.startswith("traces-2.csv could not be written (")
    assert problem.endswith("; the recording was not affected")
    record = traces.close()
    assert (record.frames, [(each.regions, each.frames) for each in record.again]) == (
        FIND_FRAMES + 2,
        [(1, 0)],
    )


def test_traces_survive_a_kill_and_a_torn_line(tmp_path: Path) -> None:
    regions = Regions.from_labels(np.array([[1, 1, 0], [2, 0, 3]]))
    path = tmp_path / "traces.csv"
    meter, file = RegionMeter(regions), TraceFile(path, regions)
    rng = np.random.default_rng(2)
    frames = rng.integers(0, 999, (30, 2, 3)).astype(np.uint16)
    measured = []
    for number, frame in enumerate(frames):
        measured.append(meter.measure(frame, frame[::-1], np.ones((2, 3), np.float32)))
        file.append(number, number + 5, number / 30, "", measured[-1])
        if number in (0, 12):  # readable while it grows, because every line is handed to the system at once
            assert len(read_traces(path)) == number + 1
    file.close()
    table = read_traces(tmp_path)
    assert table.names == ("1", "2", "3")
    assert table.frame[3] == 8
    for kind in ("raw", "denoised", "std", "dff"):
        np.testing.assert_allclose(
            getattr(table, kind), [getattr(each, kind) for each in measured], rtol=1e-8
        )
    whole = path.read_bytes()
    for end in (b"29,34,0.9", b"29,34,0.9,,1,2\n", b"\x00" * 40, b"\xff\xfe"):
        path.write_bytes(whole + end)
        torn = read_traces(path)
        assert torn.torn
        assert len(torn) == 30
    path.write_bytes(whole.replace(b"\n5,", b"\nfive,", 1))
    with pytest.raises(InvalidInput, match="line 7"):
        read_traces(path)
    path.write_text("a,b\n")
    with pytest.raises(InvalidInput, match="no traces"):
        read_traces(path)


def test_traces_that_are_continued_equal_those_of_one_go(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    regions = Regions.from_labels(rng.integers(0, 4, (12, 12)))
    frames = rng.normal(200, 20, (120, 12, 12)).astype(np.float32)
    sds = rng.uniform(1, 3, (120, 12, 12)).astype(np.float32)
    whole = RegionMeter(regions)
    wanted = [whole.measure(raw, raw + 1, sd) for raw, sd in zip(frames, sds, strict=True)]
    path = tmp_path / "traces.csv"
    first, file = RegionMeter(regions), TraceFile(path, regions)
    for number in range(70):
        file.append(number, number, None, "", first.measure(frames[number], frames[number] + 1, sds[number]))
    file.close()
    path.write_bytes(path.read_bytes()[:-40])  # one line is torn, and the movie is there up to frame 64
    again, file = RegionMeter(regions), TraceFile(path, regions, keep=64)
    table = read_traces(path)
    assert len(table) == 64
    for row in range(64):
        again.replay(table.raw[row], table.denoised[row], table.std[row])
    for number in range(64, 120):
        got = again.measure(frames[number], frames[number] + 1, sds[number])
        for kind in ("raw", "denoised", "std", "dff"):
            np.testing.assert_allclose(
                getattr(got, kind), getattr(wanted[number], kind), rtol=1e-6, atol=1e-9
            )
    file.close()


def test_a_disk_that_refuses_costs_traces_and_nothing_else(tmp_path: Path) -> None:
    regions = Regions.from_labels(np.array([[1, 2]]))
    file = TraceFile(tmp_path / "traces.csv", regions)
    thread = TraceThread(file)
    frame = np.array([[1, 2]], np.uint16)
    traces = RegionMeter(regions).measure(frame, frame, None)
    thread.offer(0, 0, 0.0, "", traces)
    file._write = lambda _line: (_ for _ in ()).throw(OSError(28, "No space left on device"))  # type: ignore[method-assign]
    for number in range(5):
        thread.offer(number, number, 0.0, "", traces)
    record = thread.close()
    assert "No space" in str(thread.problem)
    assert record.frames + record.missed == 6


def test_the_motion_of_the_scene_is_no_error_of_a_mean() -> None:
    """The more the denoised mean changes, the less certain it is; what changes by far more is the scene."""

    def factor(change: float) -> float:
        rng, deviation = np.random.default_rng(4), MeanDeviation(np.array([80]))
        for _ in range(60):
            mean = np.array([200 + rng.normal() * change])
            deviation.add(mean + rng.normal(), mean, np.array([8.0]))
        return float(deviation.factor[0])

    still, active, moving, far = map(factor, (0.1, 1.0, 3.0, 12.0))
    assert still < active
    assert max(moving, far) < 1.1 * active


def test_a_difference_that_lasts_is_an_error_of_the_denoised_mean() -> None:
    """The raw mean of many frames is right, so what a denoised mean is off by shows; noise of one frame does not."""

    def deviation_of(off_by: float, frames: int = 60) -> float:
        rng, deviation = np.random.default_rng(4), MeanDeviation(np.array([80]))
        for _ in range(frames):
            mean = np.array([200 + 0.1 * rng.normal()])
            found = deviation.add(mean + rng.normal(), mean - off_by, np.array([8.0]))
        return float(found[0])

    right, wrong = deviation_of(0.0), deviation_of(6.0)
    assert right < 1.5
    assert 3.0 < wrong < 9.0  # of the size of the error
    assert deviation_of(6.0, frames=8) == pytest.approx(deviation_of(0.0, frames=8))  # too few to tell


def test_deviations_go_on_where_traces_were_interrupted() -> None:
    rng = np.random.default_rng(5)
    whole, again = (MeanDeviation(np.array([30, 90])) for _ in range(2))
    for number in range(80):
        mean = 200 + 20 * np.sin(number / 9) + rng.normal(size=2)
        raw, variance = mean + 4 + rng.normal(size=2), rng.uniform(4, 9, 2)
        found = whole.add(raw, mean, variance)
        if number < 50:
            again.replay(raw, mean, np.array([float(f"{value:.9g}") for value in found]))
        else:
            np.testing.assert_allclose(again.add(raw, mean, variance), found, rtol=1e-6)


def test_a_table_without_shapes_is_one_sentence(tmp_path: Path) -> None:
    """Fault and remedy are said once, not inside another refusal of the same file."""
    path = tmp_path / "results.csv"
    path.write_text("area,mean\n1,2\n")
    with pytest.raises(InvalidInput) as caught:
        read_regions(path, (8, 8))
    assert "holds no shapes of napari" in str(caught.value)
    assert str(caught.value).count("save the layer of shapes again") == 1


def test_one_frame_without_a_mean_costs_no_later_deviation() -> None:
    rng, deviation = np.random.default_rng(6), MeanDeviation(np.array([40]))
    for number in range(60):
        raw = np.array([np.nan if number == 45 else 200 + rng.normal()])
        found = deviation.add(raw, raw, np.array([8.0]))
        assert np.isfinite(found).all()
