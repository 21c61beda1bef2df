from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from ome_types import from_tiff

from denoscope.acquisition import Frame, Source, SourceInfo, make_settings, read_raw
from denoscope.acquisition.contracts import number_step
from denoscope.acquisition.denoisers.routing import Route, Routes
from denoscope.runtime import StreamKey
from support.plain_results import live
from support.tiny_bundle import IDENTITY, assert_answer, expected_movie, tiny_bundle

SHAPE = (24, 32)


def frame(
    number: int,
    tags: dict[str, Any] | None = None,
    camera: str = "A",
    shape: tuple[int, int] = SHAPE,
    dtype: Any = np.uint16,
    value: int | None = None,
) -> Frame:
    pixels = np.full(shape, number if value is None else value, dtype)
    return Frame(pixels, number, time.perf_counter(), camera, tags or {})


def routed(routes: Routes, each: Frame) -> Route:
    route = routes.of(each)
    assert route is not None
    return route


@pytest.mark.parametrize(
    ("tags", "key"),
    [
        ({}, StreamKey("A")),
        ({"Axes": {"time": 3, "channel": "GFP", "z": 2, "position": 1}}, StreamKey("A", "GFP", 2, 1)),
        ({"Axes": '{"time": 3, "channel": 1}'}, StreamKey("A", "1")),
        ({"Axes": {"t": 0, "c": "RFP", "p": 4}}, StreamKey("A", "RFP", 0, 4)),
        (
            {"Channel": "GFP", "SliceIndex": 5, "PositionIndex": 2, "FrameIndex": 9},
            StreamKey("A", "GFP", 5, 2),
        ),
        ({"Axes": {"position": "left"}}, StreamKey("A", "", 0, 0)),
        ({"Axes": {"row": 1, "column": 7}}, StreamKey("A", "", 0, 0)),
        ({"Axes": "no JSON", "Channel": None}, StreamKey("A")),
    ],
)
def test_keys(tags: dict[str, Any], key: StreamKey) -> None:
    assert routed(Routes(), frame(0, tags)).key == key


def test_names_are_numbered_as_they_come() -> None:
    routes = Routes()
    places = [routed(routes, frame(n, {"Axes": {"position": name}})) for n, name in enumerate("cabac")]
    assert [route.key.position for route in places] == [0, 1, 2, 1, 0]
    tiles = [routed(routes, frame(9 + n, {"Axes": {"row": n // 2, "column": n % 2}})) for n in range(4)]
    assert len({route.key.position for route in (*places, *tiles)}) == 3 + 4


def test_one_stream_has_the_cameras_numbers() -> None:
    routes = Routes()
    assert [routed(routes, frame(n)).number for n in (5, 6, 9, 10)] == [5, 6, 9, 10]


def test_two_cameras_are_counted_apart() -> None:
    routes = Routes()
    numbers = [(n, c) for n in (0, 1, 2, 5, 6) for c in "AB"]
    found = [(routed(routes, frame(n, camera=c)).number, c) for n, c in numbers]
    assert found == numbers


def test_a_time_axis_shows_gaps() -> None:
    routes = Routes()
    order = [(t, c) for t in (0, 1, 4) for c in ("a", "b")]
    found = [
        routed(routes, frame(n, {"Axes": {"time": t, "channel": c}})).number for n, (t, c) in enumerate(order)
    ]
    assert found == [t for t, _ in order]


def test_lost_frames_of_channels_that_take_turns() -> None:
    routes = Routes()
    found = {}
    for n in (0, 1, 2, 3, 8, 9):
        route = routed(routes, frame(n, {"Channel": "ab"[n % 2]}))
        found[n] = route.number
    assert [found[0], found[2], found[8]] == [0, 1, 4], "two lost in each"
    assert [found[3] - found[1], found[9] - found[3]] == [1, 3]


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abc"), st.booleans()), max_size=60))
def test_numbers_of_a_stream_always_grow(seen: list[tuple[int, str, bool]]) -> None:
    routes, last = Routes(), {}
    for number, channel, timed in seen:
        tags = {"Axes": {"time": number, "channel": channel}} if timed else {"Channel": channel}
        route = routed(routes, frame(number, tags))
        assert route.number > last.get(route.key, -1)
        last[route.key] = route.number
    assert sum(routes.received.values()) == len(seen)


@pytest.mark.parametrize(
    ("before", "after", "what", "recalibrate"),
    [
        ({"Exposure": 10}, {"Exposure": 20}, "exposure", False),
        ({"Binning": "1"}, {"Binning": "2"}, "binning", True),
        ({"BitDepth": 12}, {"BitDepth": 16}, "bit depth", True),
        ({"ROI": "0-0-32-24"}, {"ROI": "8-0-32-24"}, "ROI", False),
        ({"Axes": {"time": 5}}, {"Axes": {"time": 0}}, "time", False),
    ],
)
def test_changes(before: dict[str, Any], after: dict[str, Any], what: str, recalibrate: bool) -> None:
    routes = Routes()
    routed(routes, frame(0, before))
    change = routed(routes, frame(1, after)).change
    assert change is not None
    assert (change.what, change.recalibrate) == (what, recalibrate)
    assert (
        routed(routes, frame(2, {**after, **({"Axes": {"time": 1}} if what == "time" else {})})).change
        is None
    )


def test_a_camera_that_starts_again_is_another_recording() -> None:
    routes = Routes()
    numbers = [routed(routes, frame(n)) for n in (7, 8, 0, 1)]
    assert [route.number for route in numbers] == [7, 8, 9, 10]
    assert [route.change is not None for route in numbers] == [False, False, True, False]


@pytest.mark.parametrize(
    "numbers",
    [
        (2**31 - 2, 2**31 - 1, -(2**31), -(2**31) + 1),
        (2**31 - 2, 2**31 - 1, 0, 1),
        (2**32 - 2, 2**32 - 1, 0, 1),
        (2**31 - 2, 2**31 - 1, 2**31, 2**31 + 1),
        (2**62, 2**62 + 1, 2**62 + 2, 2**62 + 3),
    ],
)
def test_a_counter_that_begins_anew_at_its_end_goes_on(numbers: tuple[int, ...]) -> None:
    routes = Routes()
    found = [routed(routes, Frame(np.zeros(SHAPE), number, 0.0, "A", {})) for number in numbers]
    assert [route.number - found[0].number for route in found] == [0, 1, 2, 3]
    assert all(route.change is None for route in found)


@pytest.mark.parametrize(
    ("last", "now", "step"),
    [
        (5, 9, 4),
        (5, 5, None),
        (5, 0, None),
        (2**31 - 3, 4, 7),
        (2**32 - 1, 5, 6),
        (2**31 - 1, 2**31 - 1, None),
        (2**31 + 100000, 0, None),
        (2**31 - 100000, 0, None),
    ],
)
def test_numbers_that_grow_and_numbers_that_go_back(last: int, now: int, step: int | None) -> None:
    assert number_step(last, now) == step


def test_streams_are_bounded() -> None:
    routes = Routes(limit=2)
    found = [routes.of(frame(n, {"Channel": "abca"[n]})) for n in range(4)]
    assert [route is None for route in found] == [False, False, True, False]
    assert routes.refused == {StreamKey("A", "c")}


# -- whole sessions


class Listed(Source):
    """Frames from a list."""

    patient = True

    def __init__(self, frames: list[Frame]) -> None:
        self._frames: Iterator[Frame] = iter(frames)
        self._shape, self._dtype = frames[0].pixels.shape, frames[0].pixels.dtype
        self._over = False

    def open(self) -> SourceInfo:
        return SourceInfo("list", "list", "A", (self._shape[0], self._shape[1]), self._dtype)

    def start(self) -> None:
        pass

    def pop(self) -> Frame | None:
        found = next(self._frames, None)
        self._over = found is None
        return found

    def finished(self) -> bool:
        return self._over

    def overflowed(self) -> bool:
        return False

    def stop(self) -> None:
        self._over, self._frames = True, iter(())

    def close(self) -> None:
        pass


def test_streams_are_ready_for_the_cameras_dtype(tmp_path: Path) -> None:
    spent: list[float] = []

    def watch(router: Any) -> Any:
        (watch.stream,) = router._spares  # type: ignore[attr-defined]
        spent.append(watch.stream.stage_seconds.bind_s)  # type: ignore[attr-defined]
        return router

    bundle = tmp_path / "tiny.denoscope"
    tiny_bundle(bundle, intensity=IDENTITY)
    values = {
        "core": "list",
        "output": tmp_path / "run",
        "bundle": str(bundle),
        "picture": False,
        "lag_s": 60.0,
        "denoiser": "thread",
    }
    frames = [frame(n, dtype=np.uint8) for n in range(4)]
    live(make_settings(**values), wrap=watch, source=Listed(frames))
    found = watch.stream.stage_seconds  # type: ignore[attr-defined]
    assert found.pushes == 4
    assert spent == [found.bind_s]
    assert spent[0] > 0


def record(frames: list[Frame], folder: Path, **settings: Any) -> dict[str, Any]:
    bundle = folder / "tiny.denoscope"
    tiny_bundle(bundle, intensity=IDENTITY)
    values = {
        "core": "list",
        "output": folder / "run",
        "bundle": str(bundle),
        "picture": False,
        "lag_s": 60.0,
        "denoiser": "thread",
    }
    report = live(make_settings(**{**values, **settings}), source=Listed(frames))
    written = list(read_raw(folder / "run").frames())
    assert len(written) == report["frames"]["written_raw"] == len(frames)
    for page, each in zip(written, frames, strict=True):
        np.testing.assert_array_equal(page, each.pixels)
    counts = report["frames"]
    assert counts["received"] == counts["denoised"] + sum(counts["dropped"].values())
    return report


def pages(folder: Path) -> dict[tuple[int, int, int, int], Any]:
    """Return the denoised pages by image, channel, z and t."""
    path = folder / "run" / "denoised.ome.tif"
    found = {}
    with tifffile.TiffFile(path) as tiff:
        for number, image in enumerate(from_tiff(path).images):
            for block in image.pixels.tiff_data_blocks:
                for step in range(block.plane_count):
                    at = (number, block.first_c, block.first_z, block.first_t + step)
                    assert at not in found
                    found[at] = tiff.pages[block.ifd + step].asarray()
    return found


def test_interleaved_channels_slices_and_positions_are_never_mixed(tmp_path: Path) -> None:
    order = [(t, p, c, z) for t in range(9) for p in range(2) for c in ("GFP", "RFP") for z in range(2)]
    level = {(p, c, z): 1000 * (1 + i) for i, (p, c, z) in enumerate(sorted({o[1:] for o in order}))}
    frames = [
        frame(n, {"Axes": {"time": t, "position": p, "channel": c, "z": z}}, value=level[p, c, z] + 7 * t)
        for n, (t, p, c, z) in enumerate(order)
    ]
    report = record(frames, tmp_path)
    assert report["frames"]["denoised"] == len(frames)
    assert len(report["streams"]) == 8
    assert {each["received"] for each in report["streams"]} == {9}
    found = pages(tmp_path)
    assert len(found) == len(frames)
    for (p, c, z), base in level.items():
        alone = {t: np.full(SHAPE, base + 7 * t, np.uint16) for t in range(9)}
        expected = expected_movie(alone, window=7, look_ahead=3)
        for t in range(9):
            assert_answer(found[p, ("GFP", "RFP").index(c), z, t], expected[t])
    images = from_tiff(tmp_path / "run" / "denoised.ome.tif").images
    assert [channel.name for channel in images[0].pixels.channels] == ["GFP", "RFP"]
    assert (images[1].pixels.size_z, images[1].pixels.size_t) == (2, 9)


def test_two_cameras_of_different_size(tmp_path: Path) -> None:
    frames = [
        frame(n, camera=camera, shape=shape, value=base + 5 * n)
        for n in range(10)
        for camera, shape, base in (("A", SHAPE, 100), ("B", (16, 48), 3000))
    ]
    report = record(frames, tmp_path)
    assert report["frames"]["denoised"] == 20
    found = pages(tmp_path)
    for image, (shape, base) in enumerate(((SHAPE, 100), ((16, 48), 3000))):
        alone = {n: np.full(shape, base + 5 * n, np.uint16) for n in range(10)}
        expected = expected_movie(alone, window=7, look_ahead=3)
        for n in range(10):
            assert_answer(found[image, 0, 0, n], expected[n])
    names = [image.name for image in from_tiff(tmp_path / "run" / "denoised.ome.tif").images]
    assert names == ["list denoised, A", "list denoised, B"]


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [
        ({"tags": {"Exposure": 10}}, {"tags": {"Exposure": 30}}, "exposure"),
        ({"tags": {"Binning": 1}}, {"tags": {"Binning": 2}, "shape": (16, 16)}, "shape"),
        ({"tags": {"Binning": 1}}, {"tags": {"Binning": 2}}, "binning"),
        ({"tags": {"ROI": "0-0-32-24"}}, {"tags": {"ROI": "9-9-32-24"}}, "ROI"),
        ({"dtype": np.uint16}, {"dtype": np.uint8}, "shape"),
    ],
)
def test_a_change_in_mid_run_is_drained_rebound_and_recorded(
    tmp_path: Path, before: dict[str, Any], after: dict[str, Any], what: str
) -> None:
    halves = [(range(8), before, 20), (range(8, 16), after, 200)]
    frames = [frame(n, value=base + n, **kind) for numbers, kind, base in halves for n in numbers]
    report = record(frames, tmp_path)
    assert report["frames"]["denoised"] == 16
    assert [(change["frame"], change["what"]) for change in report["changes"]] == [(8, what)]
    with tifffile.TiffFile(tmp_path / "run" / "denoised.ome.tif") as tiff:
        found = [page.asarray() for page in tiff.pages]
    for numbers, _, _ in halves:
        alone = {n: frames[n].pixels for n in numbers}
        expected = expected_movie(alone, window=7, look_ahead=3)
        for n in numbers:
            assert found[n].dtype == frames[n].pixels.dtype
            assert_answer(found[n], expected[n])


def test_too_many_streams_are_counted_and_said(tmp_path: Path) -> None:
    frames = [frame(n, {"Axes": {"time": n // 3, "channel": "abc"[n % 3]}}, value=50) for n in range(12)]
    report = record(frames, tmp_path, streams=2)
    assert report["frames"]["dropped"] == {"too many streams": 4}
    assert report["outcome"]["exit_code"] == 1
    assert "`streams`" in report["outcome"]["problems"][0]
