"""Movies of every format read the same, lazily, and only what is asked for."""

from __future__ import annotations

import gc
import importlib.util
import pickle
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from denoscope.runtime import InvalidInput, LazyMovie, open_movie
from denoscope.runtime.movies import FORMATS
from denoscope.runtime.movies.folders.folder import natural_order
from support.movie_files import CHAINS, CHANNELS, MOVIE, STACKS, write_chain, write_ndtiff

KEYS: list[Any] = [
    0, -1, np.int64(3), np.s_[2:6], np.s_[5:1:-2], np.s_[1:, 3:30, 5:50], np.s_[::3, ::2, ::-1],
    np.s_[4, 10:20], np.s_[:, 7, 9], np.s_[2, :, -1], np.s_[3:3], np.s_[:, 5:5], [5, 0, 5], (slice(0, 2), 3),
]  # fmt: skip


def same(movie: Any, expected: Any) -> None:
    assert movie.shape == expected.shape
    assert movie.dtype == expected.dtype
    assert movie.dtype.isnative
    assert len(movie) == len(expected)
    np.testing.assert_array_equal(np.asarray(movie), expected)
    for key in KEYS:
        part = movie[key]
        np.testing.assert_array_equal(np.asarray(part), expected[key], err_msg=str(key))
        assert part.shape == expected[key].shape, key
    np.testing.assert_array_equal(movie[1:][::2][1, 4:9], expected[3, 4:9])
    with pytest.raises(IndexError):
        movie[len(expected)]


@pytest.mark.parametrize("kind", STACKS)
def test_two_channels_in_every_format(tmp_path: Path, kind: str) -> None:
    path = STACKS[kind](tmp_path)
    same(open_movie(path, channel=0), MOVIE[:, 0])
    same(open_movie(path, channel="1"), MOVIE[:, 1])
    named = "ome" in kind or kind == "ndtiff"
    entries = "0 `GFP`, 1 `RFP`" if named else "0 to 1"
    if named:
        same(open_movie(path, channel=CHANNELS[1]), MOVIE[:, 1])
    for wanted in ({}, {"channel": 2}, {"channel": "DAPI"}):
        with pytest.raises(InvalidInput, match=f"has 2 channels: {entries}.*choose .*`channel`") as caught:
            open_movie(path, **wanted)  # type: ignore[arg-type]
        assert str(path) in str(caught.value)
    with pytest.raises(InvalidInput, match="has 1 plane, so there is no plane 3"):
        open_movie(path, channel=0, plane=3)
    gc.collect()  # files that are left open warn when they are collected


@pytest.mark.parametrize("kind", CHAINS)
def test_one_channel_in_every_format(tmp_path: Path, kind: str) -> None:
    path = CHAINS[kind](tmp_path)
    same(open_movie(path), MOVIE[:, 0])
    with pytest.raises(InvalidInput, match="channel"):
        open_movie(path, channel="DAPI")
    gc.collect()


def test_small_uncompressed_stacks_are_mapped(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "m.tif", MOVIE[:, 0], photometric="minisblack")
    assert isinstance(open_movie(tmp_path / "m.tif"), np.memmap)


@pytest.mark.parametrize("kind", ["ome of several files", "ome-zarr 0.5", "ndtiff"])
def test_a_movie_travels_to_another_process(tmp_path: Path, kind: str) -> None:
    movie = open_movie(STACKS[kind](tmp_path), channel=1)[1:5]
    copy = pickle.loads(pickle.dumps(movie))  # as Dask sends it to its workers; no file of ours holds one
    assert len(pickle.dumps(movie)) < 2000
    np.testing.assert_array_equal(copy, MOVIE[1:5, 1])
    gc.collect()


def test_a_stack_without_time_is_the_movie(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "z.tif", MOVIE[:, 0], imagej=True, metadata={"axes": "ZYX"})
    same(open_movie(tmp_path / "z.tif"), MOVIE[:, 0])
    assert open_movie(tmp_path / "z.tif", plane=4).shape == (1, 40, 56)
    many = np.zeros((50, 32, 32), np.uint8)
    tifffile.imwrite(tmp_path / "c.tif", many, imagej=True, metadata={"axes": "CYX"})
    assert open_movie(tmp_path / "c.tif").shape == (50, 32, 32)


def test_planes_and_positions(tmp_path: Path) -> None:
    stack = np.arange(2 * 3 * 4 * 5, dtype=np.uint16).repeat(32 * 32).reshape(2, 3, 4, 5, 32, 32)
    with tifffile.TiffWriter(tmp_path / "p.ome.tif", ome=True) as writer:
        for i in range(2):
            writer.write(stack[i], photometric="minisblack", metadata={"axes": "TZCYX", "Name": f"Pos{i}"})
    path = tmp_path / "p.ome.tif"
    with pytest.raises(InvalidInput, match="2 positions: 0 `Pos0`, 1 `Pos1`: choose with `position`"):
        open_movie(path)
    with pytest.raises(InvalidInput, match="4 planes: 0 to 3: choose with `plane`"):
        open_movie(path, position=1, channel=2)
    movie = open_movie(path, position="Pos1", plane=3, channel=2)
    np.testing.assert_array_equal(movie, stack[1, :, 3, 2])


def test_imagej_stacks_of_which_only_the_first_page_is_listed(tmp_path: Path) -> None:
    """Beyond 4 GB ImageJ writes one directory, and all frames behind each other."""
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, MOVIE[:, 0], imagej=True, metadata={"axes": "TYX"})
    with tifffile.TiffFile(path, mode="r+") as tif:
        page = tif.pages.first
        tif.filehandle.seek(page.offset + 2 + 12 * len(page.tags))
        tif.filehandle.write(b"\0\0\0\0")
    with tifffile.TiffFile(path) as tif:
        assert len(tif.pages) == 1
    same(open_movie(path), MOVIE[:, 0])


def test_a_run_folder_is_its_raw_movie(tmp_path: Path) -> None:
    write_chain(tmp_path / "raw.tif", MOVIE[:, 0])
    tifffile.imwrite(tmp_path / "denoised.ome.tif", MOVIE[:, 1])
    (tmp_path / "raw.jsonl").write_text("")
    same(open_movie(tmp_path), MOVIE[:, 0])


def test_the_file_of_a_data_set_opens_it(tmp_path: Path) -> None:
    folder = write_ndtiff(tmp_path)
    same(open_movie(folder / "x_NDTiffStack.tif", channel=0), np.asarray(open_movie(folder, channel=0)))


@pytest.mark.parametrize("kind", ["pages", "pages, zlib", "hdf5"])
def test_a_frame_costs_the_memory_of_a_frame(tmp_path: Path, kind: str) -> None:
    big = np.random.default_rng(0).integers(0, 9, (60, 256, 256)).astype(np.uint16)
    if kind == "hdf5":
        import h5py

        with h5py.File(tmp_path / "m.h5", "w") as file:
            file.create_dataset("m", data=big, chunks=(1, 256, 256), compression="gzip")
        path = tmp_path / "m.h5"
    else:
        path = write_chain(tmp_path / "m.tif", big, **({"compression": "zlib"} if "zlib" in kind else {}))
    movie = open_movie(path)
    assert np.array_equal(movie[1], big[1])  # what loads once is loaded
    tracemalloc.start()
    for t in range(len(big)):
        assert movie[t, 5, 5] == big[t, 5, 5]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * big[0].nbytes


def test_one_read_is_bounded(tmp_path: Path) -> None:
    path = write_chain(tmp_path / "m.tif", MOVIE[:, 0])
    movie = open_movie(path, limit_bytes=3 * MOVIE[0, 0].nbytes)
    assert isinstance(movie, LazyMovie)
    assert len(movie[2:5, :, :]) == 3
    with pytest.raises(InvalidInput, match=r"Reading 7 frames of .*limit 0 MB\): read fewer"):
        np.asarray(movie)
    with pytest.raises(InvalidInput, match="for a single frame"):
        open_movie(path, limit_bytes=MOVIE[0, 0].nbytes - 1)


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}])
def test_a_frame_of_another_size_says_its_number(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "m.tif"
    with tifffile.TiffWriter(path) as writer:
        for t, frame in enumerate(MOVIE[:, 0]):
            writer.write(frame[:20] if t == 4 else frame, contiguous=False, metadata=None, **options)
    movie = open_movie(path)
    np.testing.assert_array_equal(movie[:4], MOVIE[:4, 0])
    with pytest.raises(InvalidInput, match=r"frame 4 .*: split the movie where"):
        np.asarray(movie)


def test_the_first_or_last_page_of_another_size_is_another_image(tmp_path: Path) -> None:
    path = tmp_path / "m.tif"
    with tifffile.TiffWriter(path) as writer:
        for frame in [*MOVIE[:, 0], MOVIE[0, 0, :9]]:
            writer.write(frame, contiguous=False, metadata=None)
    with pytest.raises(InvalidInput, match=r"2 positions: 0 .*, 1 .*: choose with `position`"):
        open_movie(path)
    same(open_movie(path, position=0), MOVIE[:, 0])


def test_a_movie_that_was_cut_short_reads_up_to_there(tmp_path: Path) -> None:
    path = write_chain(tmp_path / "m.tif", MOVIE[:, 0], compression="zlib")
    movie = open_movie(path)
    with tifffile.TiffFile(path) as tif:
        end = tif.pages[5].dataoffsets[0]
    with path.open("r+b") as file:
        file.truncate(end)
    np.testing.assert_array_equal(movie[:5], MOVIE[:5, 0])
    with pytest.raises(InvalidInput, match=r"frame 5 cannot be read .*cut short"):
        movie[5]


def test_chunks_at_the_end_that_were_never_written_are_no_black_frames(tmp_path: Path) -> None:
    path = STACKS["ome-zarr 0.5"](tmp_path)
    times = sorted(int(p.name) for p in (path / "0" / "c").iterdir())
    shutil.rmtree(path / "0" / "c" / str(times[-1]))
    movie = open_movie(path, channel=0)
    np.testing.assert_array_equal(movie[2], MOVIE[2, 0])
    with pytest.raises(InvalidInput, match="was never written"):
        movie[len(movie) - 1]


def test_a_chunk_that_a_writer_left_out_because_it_is_dark_is_dark(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    frames = np.array(MOVIE[:, 0])
    frames[3] = 0
    array = zarr.create_array(
        store=str(tmp_path / "m.zarr"), shape=frames.shape, chunks=(1, 8, frames.shape[2]), dtype=frames.dtype
    )
    array[:] = frames
    assert not (tmp_path / "m.zarr" / "c" / "3").exists()
    same(open_movie(tmp_path / "m.zarr"), frames)


def test_a_format_that_is_not_installed_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    missing = {"zarr", "h5py", "imagecodecs"}
    for module in ("opening", "folders.png"):
        monkeypatch.setattr(
            f"denoscope.runtime.movies.{module}.find_spec",
            lambda name: None if name in missing else find(name),
        )
    for kind in ("ome-zarr 0.4", "hdf5", "png files"):
        folder = tmp_path / kind
        folder.mkdir()
        with pytest.raises(InvalidInput, match=r'pip install "\.\[formats\]"'):
            open_movie((STACKS | CHAINS)[kind](folder))


def test_the_table_names_what_exists() -> None:
    for row in FORMATS:
        module, _, function = row.opener.partition(":")
        assert callable(getattr(importlib.import_module(f"denoscope.runtime.movies.{module}"), function))


def test_numbers_in_names_sort_as_numbers() -> None:
    names = ["a10b2", "a2b10", "a2b9", "b1", "a"]
    assert sorted(names, key=natural_order) == ["a", "a2b9", "a2b10", "a10b2", "b1"]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("empty folder", "holds no movie"),
        ("mixed folder", ".png and .tif images"),
        ("text", "is a text file, which denoscope does not read"),
        ("h5 without", "only those hold datasets"),
        ("two data sets", "2 data sets that could be the movie: /a .*choose with .*::/a"),
        ("four axes", "a movie is"),
    ],
)
def test_what_is_no_movie(tmp_path: Path, what: str, message: str) -> None:
    import h5py

    folder = tmp_path / "f"
    folder.mkdir()
    path = folder
    if what == "mixed folder":
        (folder / "a.tif").write_bytes(b"a")
        (folder / "a.png").write_bytes(b"a")
    elif what in ("text", "h5 without"):
        (folder / "a.txt").write_text("hello")
        path = Path(f"{folder / 'a.txt'}{'' if what == 'text' else '::/x'}")
    elif what in ("two data sets", "four axes"):
        path = folder / "a.h5"
        with h5py.File(path, "w") as file:
            file["a"] = MOVIE if what == "four axes" else MOVIE[:, 0]
            if what == "two data sets":
                file["b"] = MOVIE[:, 1]
    with pytest.raises(InvalidInput, match=message):
        open_movie(path)


@pytest.mark.parametrize("contiguous", [True, False])
def test_frames_that_a_script_wrote_one_by_one_are_a_movie(tmp_path: Path, contiguous: bool) -> None:
    frames = np.random.default_rng(0).poisson(30, (7, 20, 24)).astype(np.uint16)
    with tifffile.TiffWriter(tmp_path / "loop.tif") as writer:
        for frame in frames:
            writer.write(frame, contiguous=contiguous)
    movie = open_movie(tmp_path / "loop.tif")
    np.testing.assert_array_equal(np.stack([movie[i] for i in range(len(movie))]), frames)


def test_pages_of_unequal_size_are_still_asked_for(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "sizes.tif") as writer:
        for size in (20, 24, 28):
            writer.write(np.zeros((size, size), np.uint16), contiguous=False)
    with pytest.raises(InvalidInput, match="3 positions"):
        open_movie(tmp_path / "sizes.tif")
