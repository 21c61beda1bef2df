"""Channels, planes, positions and parts that a file, its names or its neighbours know are never mixed."""

from __future__ import annotations

import os
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from denoscope.runtime import InvalidInput, LazyMovie, open_movie
from denoscope.runtime.movies import opening as opening_module
from denoscope.runtime.movies.folders.names import missing_numbers, sort_names
from denoscope.runtime.movies.formats.tiff import count_pages
from denoscope.runtime.movies.headers.pages_of import scanimage_turns
from support.recordings import (
    bruker_cycles,
    interleaved_pages,
    named_images,
    ome_positions,
    scanimage,
    scanimage_parts,
    turn,
)


def read(path: Path, **choice: Any) -> npt.NDArray[Any]:
    return np.asarray(open_movie(path, **choice))


@pytest.mark.parametrize("paged", [False, True])
@pytest.mark.parametrize("named", ["a", "b"])
def test_positions_in_two_files(tmp_path: Path, *, paged: bool, named: str) -> None:
    movies = ome_positions(tmp_path, paged=paged)
    for position, movie in enumerate(movies):
        np.testing.assert_array_equal(read(tmp_path / f"{named}.ome.tif", position=position), movie)
        np.testing.assert_array_equal(read(tmp_path / f"{named}.ome.tif", position=f"Pos{position}"), movie)
    with pytest.raises(InvalidInput, match=r"2 positions: 0 `Pos0`, 1 `Pos1`: choose with `position`"):
        open_movie(tmp_path / f"{named}.ome.tif")


def test_cycles_of_which_the_sizes_know_only_one(tmp_path: Path) -> None:
    """The OME-XML says one time point of two planes, and lists three."""
    movie = bruker_cycles(tmp_path)
    first = min(tmp_path.iterdir())
    for path in (first, tmp_path):
        with pytest.raises(InvalidInput, match=r"2 planes: .*choose with `plane`"):
            open_movie(path)
        for plane in range(2):
            np.testing.assert_array_equal(read(path, plane=plane), movie[:, plane])


def test_cycles_of_which_nothing_is_known(tmp_path: Path) -> None:
    movie = bruker_cycles(tmp_path, ome=False)
    with pytest.raises(InvalidInput, match=r"3 cycles of 2 images, .* `plane` 0 to 1 .* `position` 0 to 2"):
        open_movie(tmp_path)
    np.testing.assert_array_equal(read(tmp_path, plane=1), movie[:, 1])
    np.testing.assert_array_equal(read(tmp_path, position=2), movie[2])


@pytest.mark.parametrize(
    "pattern",
    [
        "{i:05d}_t{t:04d}_c{c:02d}.tif", "img_channel{c:03d}_position000_time{t:09d}_z000.tif",
        "TSeries-001_Cycle00001_Ch{c}_{t:06d}.tif", "exp_C{c}_{t}.tif", "exp_{t:03d}-ch{c:02d}.tif",
        "exp_w{c}DAPI_t{t}.tif", "T{t:03d}C{c:02d}.tif", "{word}_{t:03d}.tif", "img_{t:09d}_{word}_000.tif",
    ],
)  # fmt: skip
def test_channels_in_names(tmp_path: Path, pattern: str) -> None:
    movie = named_images(tmp_path, pattern)
    with pytest.raises(InvalidInput, match=r"has 2 channels: 0 `.*`, 1 `.*`: choose with `channel`"):
        open_movie(tmp_path)
    for channel in range(2):
        np.testing.assert_array_equal(read(tmp_path, channel=channel), movie[:, channel])
    with pytest.raises(InvalidInput, match="there is no channel 2"):
        open_movie(tmp_path, channel=2)


@pytest.mark.parametrize(
    "pattern", ["m_z{c:03d}_{t}.tif", "m_t{t:03d}_z{c}.tif", "img_{t:09d}_Default_{c:03d}.tif"]
)
def test_planes_in_names(tmp_path: Path, pattern: str) -> None:
    movie = named_images(tmp_path, pattern)
    with pytest.raises(InvalidInput, match=r"has 2 planes: .*choose with `plane`"):
        open_movie(tmp_path)
    np.testing.assert_array_equal(read(tmp_path, plane=1), movie[:, 1])


def test_what_names_say() -> None:
    stamps = sort_names([f"im_2024-05-01_12-{m:02d}-{s:02d}.tif" for m in range(2) for s in (0, 30)])
    assert (stamps.channels, stamps.planes, stamps.positions) == (("",), ("",), ("",))
    assert [f.name for f in sort_names(["movie_2.tif", "movie.tif", "movie_10.tif"]).files] == [
        "movie.tif", "movie_2.tif", "movie_10.tif",
    ]  # fmt: skip
    assert sort_names(["dark.tif", "img_1.tif", "img_2.tif"]).positions == ("dark", "img")
    assert sort_names([f"s{n:04d}.tif" for n in range(5)]).positions == ("",)
    assert sort_names([f"scan_{a:05d}_{p:05d}.tif" for a in (1, 2) for p in (1, 2)]).positions == (
        "00001",
        "00002",
    )
    # A hyphen before all numbers is no minus sign; where others are without one, it is.
    assert [f.time[0] for f in sort_names(["img_-0.tif", "img_-1.tif", "img_-10.tif"]).files] == [0, 1, 10]
    assert [f.time[0] for f in sort_names(["img_0.tif", "img_-1.tif", "img_-10.tif"]).files] == [-10, -1, 0]
    assert missing_numbers([(1,), (2,), (4,)]) == []  # two steps, and nobody knows which is the usual one
    assert missing_numbers([(1,), (2,), (4,), (5,)]) == [3]
    assert missing_numbers([(0,), (10,), (20,)]) == []


@pytest.mark.parametrize("style", ["2016", "5", "4"])
def test_scanimage_channels(tmp_path: Path, style: str) -> None:
    movie = scanimage(tmp_path / "s.tif", channels=2, style=style)
    with pytest.raises(
        InvalidInput, match=r"2 channels: 0 `Channel 1`, 1 `Channel 3`: choose with `channel`"
    ):
        open_movie(tmp_path / "s.tif")
    for channel in range(2):
        np.testing.assert_array_equal(read(tmp_path / "s.tif", channel=channel), movie[:, 0, channel])
    np.testing.assert_array_equal(read(tmp_path / "s.tif", channel="Channel 3"), movie[:, 0, 1])


@pytest.mark.parametrize("written", [True, False])
def test_scanimage_volumes_and_flyback(tmp_path: Path, *, written: bool) -> None:
    movie = scanimage(tmp_path / "s.tif", channels=2, planes=3, flyback=1, flyback_written=written)
    with pytest.raises(InvalidInput, match="3 planes: 0 to 2: choose with `plane`"):
        open_movie(tmp_path / "s.tif", channel=0)
    for plane in range(3):
        opened = open_movie(tmp_path / "s.tif", channel=1, plane=plane)
        np.testing.assert_array_equal(np.asarray(opened), movie[:, plane, 1])
        assert isinstance(opened, LazyMovie)
        assert ("flyback frames are left out" in opened.note) == written


def test_old_scanimage() -> None:
    text = (
        "state.configName='x'\rstate.acq.savingChannel1=1\rstate.acq.savingChannel2=1\rstate.acq.numberOfZSlices=1\r"
        "state.acq.numberOfFrames=40\rstate.acq.averaging=0\r"
    )
    turns = scanimage_turns("", text)
    assert turns is not None
    assert (turns.channels, turns.planes) == (2, 1)


def test_one_recording_in_many_files(tmp_path: Path) -> None:
    movie = scanimage_parts(tmp_path, frames=(5, 5, 3), channels=2)
    opened = open_movie(tmp_path, channel=1)
    assert isinstance(opened, LazyMovie)
    np.testing.assert_array_equal(np.asarray(opened), movie[:, 1])
    np.testing.assert_array_equal(opened[3:12, 2:9], movie[3:12, 1, 2:9])
    assert "one movie of 3 files" in opened.note
    assert "scan_00001_00003.tif (6)" in opened.note
    (tmp_path / "scan_00001_00002.tif").rename(tmp_path / "scan_00001_00004.tif")
    tifffile.imwrite(tmp_path / "scan_00001_00005.tif", movie[0], photometric="minisblack")
    with pytest.raises(InvalidInput, match="lacks part 2 of the recording"):
        open_movie(tmp_path, channel=1)


def test_a_part_that_is_named_alone_says_so(tmp_path: Path) -> None:
    scanimage_parts(tmp_path, frames=(5, 5, 3))
    movie = open_movie(tmp_path / "scan_00001_00002.tif")
    assert isinstance(movie, LazyMovie)
    assert len(movie) == 5
    assert "opened alone; 2 other files of this recording" in movie.note
    folder = tmp_path / "cycles"
    folder.mkdir()
    bruker_cycles(folder)
    later = open_movie(folder / "T_Cycle00002_Ch2_000001.ome.tif")
    assert isinstance(later, LazyMovie)
    assert len(later) == 1
    assert "opened alone; 5 other files" in later.note


def test_stacks_of_no_software(tmp_path: Path) -> None:
    movie = turn(9, 1)[:, 0]
    for number, (a, b) in enumerate(((0, 4), (4, 8), (8, 9)), start=9):
        tifffile.imwrite(tmp_path / f"part_{number}.tif", movie[a:b], photometric="minisblack")
    np.testing.assert_array_equal(read(tmp_path), movie)


def test_two_recordings_in_a_folder(tmp_path: Path) -> None:
    scanimage_parts(tmp_path, frames=(4, 4))
    for part in list(tmp_path.iterdir()):
        (tmp_path / part.name.replace("_00001_", "_00002_")).write_bytes(part.read_bytes())
    with pytest.raises(InvalidInput, match=r"2 positions: 0 `00001`, 1 `00002`: choose with `position`"):
        open_movie(tmp_path)
    assert len(open_movie(tmp_path, position=1)) == 8


@pytest.mark.parametrize("other", ["img_01.tif", "img_0001.tif"])
def test_two_images_of_one_number_are_named(tmp_path: Path, other: str) -> None:
    named_images(tmp_path, "img_{t}.tif", channels=1)
    (tmp_path / other).write_bytes((tmp_path / "img_1.tif").read_bytes())
    with pytest.raises(
        InvalidInput, match=rf"img_1\.tif and {other}|{other} and img_1\.tif, which have the same"
    ):
        open_movie(tmp_path)


def test_a_missing_image_is_said(tmp_path: Path) -> None:
    named_images(tmp_path, "img_{t:03d}.tif", channels=1)
    (tmp_path / "img_003.tif").unlink()
    movie = open_movie(tmp_path)
    assert isinstance(movie, LazyMovie)
    assert "1 image of the series is missing, the first is number 3" in movie.note


def test_interleaved_channels(tmp_path: Path) -> None:
    movie = interleaved_pages(tmp_path / "m.tif", 3)
    for channel in range(3):
        np.testing.assert_array_equal(
            read(tmp_path / "m.tif", interleaved=3, channel=channel), movie[:, channel]
        )
    with pytest.raises(
        InvalidInput, match=r"\(`interleaved` 3\) has 3 channels: 0 to 2: choose with `channel`"
    ):
        open_movie(tmp_path / "m.tif", interleaved=3)


def test_names_in_xml_stay_in_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    ome_positions(folder)
    (tmp_path / "b.ome.tif").write_bytes((folder / "b.ome.tif").read_bytes())
    for name in (
        "../b.ome.tif",
        str(tmp_path / "b.ome.tif"),
        r"..\b.ome.tif",
        r"C:\b.ome.tif",
        "//host/b.tif",
    ):
        tifffile.tiffcomment(folder / "a.ome.tif", _named(folder / "b.ome.tif", name))
        with pytest.raises(InvalidInput, match="not below its folder"):
            open_movie(folder / "a.ome.tif", position=1)


def _named(path: Path, name: str) -> bytes:
    with tifffile.TiffFile(path) as tif:
        assert tif.ome_metadata is not None
        return tif.ome_metadata.replace('"b.ome.tif"', f'"{name}"').encode()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_and_devices_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.tif")
    for path in (tmp_path / "m.tif", Path("/dev/zero"), tmp_path):
        with pytest.raises(InvalidInput, match="a pipe or a device"):
            open_movie(path)
    folder = tmp_path / "set"
    folder.mkdir()
    ome_positions(folder)
    (folder / "b.ome.tif").unlink()
    os.mkfifo(folder / "b.ome.tif")
    with pytest.raises(InvalidInput, match="no regular file"):
        open_movie(folder / "a.ome.tif", position=0)


def test_a_zarr_that_leaves_its_folder(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    zarr.create_array(str(tmp_path / "secret"), shape=(3, 32, 32), chunks=(1, 32, 32), dtype="uint16")[:] = 1
    group = zarr.open_group(str(tmp_path / "m.zarr"), mode="w", zarr_format=3)
    scale = {"axes": [{"name": n} for n in "tyx"], "datasets": [{"path": "../secret"}]}
    group.attrs.update({"ome": {"version": "0.5", "multiscales": [scale]}})
    with pytest.raises(InvalidInput, match="outside itself"):
        open_movie(tmp_path / "m.zarr")


def test_a_folder_of_many_images_opens_in_a_moment(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "img_0000.tif", np.zeros((32, 32), np.uint16))
    data = (tmp_path / "img_0000.tif").read_bytes()
    for number in range(1, 2000):
        (tmp_path / f"img_{number:04d}.tif").write_bytes(data)
    opened = _Opens()
    started = time.perf_counter()
    with opened:
        assert len(open_movie(tmp_path)) == 2000
    assert opened.count < 10
    assert time.perf_counter() - started < 200


class _Opens:
    """Count the TIFF files that tifffile opens."""

    def __enter__(self) -> None:
        self.count, self._init = 0, tifffile.TiffFile.__init__

        def counted(tif: Any, *args: Any, **options: Any) -> None:
            self.count += 1
            self._init(tif, *args, **options)

        tifffile.TiffFile.__init__ = counted  # type: ignore[method-assign]

    def __exit__(self, *_: object) -> None:
        tifffile.TiffFile.__init__ = self._init  # type: ignore[method-assign]


@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"byteorder": ">"}])
def test_pages_are_counted_by_their_links(tmp_path: Path, options: dict[str, Any]) -> None:
    with tifffile.TiffWriter(tmp_path / "m.tif", **options) as writer:
        for frame in turn(7, 1)[:, 0]:
            writer.write(frame, contiguous=False, metadata=None)
    assert count_pages(tmp_path / "m.tif") == 7


def test_warnings_of_the_parser_stay_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    init = tifffile.TiffFile.__init__

    def loud(tif: Any, *args: Any, **options: Any) -> None:
        warnings.warn("overflow encountered", RuntimeWarning, stacklevel=2)
        init(tif, *args, **options)

    tifffile.imwrite(tmp_path / "m.tif", turn(3, 1)[:, 0], photometric="minisblack")
    monkeypatch.setattr(tifffile.TiffFile, "__init__", loud)
    assert len(open_movie(tmp_path / "m.tif")) == 3


@pytest.mark.parametrize(
    "ending",
    [
        "nd2", "czi", "lif", "oib", "oif", "avi", "mkv", "raw", "sbx", "isxd", "mat", "mmap", "bin", "vsi", "lsm",
        "npz",
    ],
)  # fmt: skip
def test_other_formats_are_named_with_the_way_out(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        opening_module, "find_spec", lambda _: None
    )  # without the libraries of the extra `vendors`
    path = tmp_path / f"movie.{ending}"
    path.write_bytes(b"\x01\x02\x03" * 100)
    with pytest.raises(
        InvalidInput, match=r"movie\.\w+ is an? .*[:,] (or )?(export|open|convert|import|save|its|name) "
    ) as caught:
        open_movie(path)
    assert "\n" not in str(caught.value)


def test_a_format_is_known_by_its_first_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening_module, "find_spec", lambda _: None)
    (tmp_path / "movie.data").write_bytes(b"ZISRAWFILE" + bytes(100))
    with pytest.raises(InvalidInput, match="a Zeiss CZI"):
        open_movie(tmp_path / "movie.data")
    movie = turn(4, 1)[:, 0]
    tifffile.imwrite(tmp_path / "movie.lsm", movie, photometric="minisblack")
    np.testing.assert_array_equal(read(tmp_path / "movie.lsm"), movie)
    for head, said in (
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"/annex/objects/MD5E-s1--a.tif\n", "datalad get"),
        (b"<!DOCTYPE html><html>", "download the movie again"),
        (b"II*\0", "its header leads to no image"),
        (b"MM\0*\0\x01\0\0" + bytes(100), "has 108 bytes, and its header leads to no image"),
    ):
        (tmp_path / "movie.tif").write_bytes(head)
        with pytest.raises(InvalidInput, match=said):
            open_movie(tmp_path / "movie.tif")


@pytest.mark.parametrize("dtype", ["uint8", "int16", ">u2", "float32"])
def test_numpy_arrays(tmp_path: Path, dtype: str) -> None:
    movie = turn(6, 1)[:, 0].astype(dtype)
    np.save(tmp_path / "m.npy", movie)
    np.testing.assert_array_equal(read(tmp_path / "m.npy"), movie)
    np.testing.assert_array_equal(open_movie(tmp_path / "m.npy")[2:4, 3:9, 5:6], movie[2:4, 3:9, 5:6])


def test_numpy_files_that_are_no_movie(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", np.asfortranarray(turn(6, 1)[:, 0]))
    np.save(tmp_path / "four.npy", turn(6, 2))
    np.save(tmp_path / "objects.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "cut.npy", turn(6, 1)[:, 0])
    with (tmp_path / "cut.npy").open("r+b") as file:
        file.truncate(5000)
    for name, what in (
        ("f", "column by column"),
        ("four", "a movie is"),
        ("objects", "never loaded"),
        ("cut", "claims"),
    ):
        with pytest.raises(InvalidInput, match=what):
            open_movie(tmp_path / f"{name}.npy")
