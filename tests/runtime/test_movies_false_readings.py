"""Folders and files that were read as another movie than they hold, without a word."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from denoscope.runtime import InvalidInput, LazyMovie, open_movie
from denoscope.runtime.movies.folders.names import missing_numbers, sort_names
from support.field_inputs import active_cells

H, W = 16, 24


def pixels(*shape: int, dtype: str = "uint16") -> npt.NDArray[Any]:
    return np.random.default_rng(sum(shape)).integers(0, 120, (*shape, H, W)).astype(dtype)


def reads(path: Path, expected: npt.NDArray[Any], **choice: Any) -> str:
    """Compare a movie, and return its note."""
    movie = open_movie(path, mapped=False, **choice)
    assert isinstance(movie, LazyMovie)
    np.testing.assert_array_equal(np.asarray(movie), expected)
    return movie.note


def write(path: Path, frames: npt.NDArray[Any], software: str = "", **options: Any) -> None:
    with tifffile.TiffWriter(path, ome=False) as writer:
        for i, frame in enumerate(frames if frames.ndim == 3 else [frames]):
            writer.write(
                frame,
                metadata=None,
                contiguous=False,
                photometric=options.get("photometric", "minisblack"),
                software=software or None,
                description=f"frameNumbers = {i + 1}" if software else None,
                subfiletype=options.get("kinds", [0] * len(frames))[i],
            )


def test_numbers_below_zero_come_first(tmp_path: Path) -> None:
    data = pixels(6)
    for i, frame in enumerate(data):
        write(tmp_path / f"img_{i - 3}.tif", frame)
    assert reads(tmp_path, data) == ""


@pytest.mark.parametrize(
    "names",
    [
        ("movie.tif", "movie.ome.tif"),
        ("img{}.tif", "img_{}.tif"),
        ("img_{}.tif", "img-{}.tif"),
        ("img_{}.tif", "img_{}.tiff"),
        ("img_{}.tif", "img_{}_.tif"),
        ("img_{}.tif", "img_{} (1).tif"),
    ],
)
def test_names_that_differ_in_signs_only_are_not_one_movie(tmp_path: Path, names: tuple[str, str]) -> None:
    data = pixels(2, 5)
    for name, movie in zip(names, data, strict=True):
        if "{" not in name:
            write(tmp_path / name, movie)
        for t, frame in enumerate(movie if "{" in name else ()):
            write(tmp_path / name.format(t), frame)
    with pytest.raises(InvalidInput, match=r"has 2 (positions|channels)") as asked:
        open_movie(tmp_path)
    which = "channel" if "channels" in str(asked.value) else "position"
    both = [np.asarray(open_movie(tmp_path, **{which: i})) for i in (0, 1)]
    np.testing.assert_array_equal(sorted(np.array(both).tolist()), sorted(data.tolist()))


def test_a_file_without_a_number_before_numbered_ones_is_said(tmp_path: Path) -> None:
    data = pixels(4)
    for i, frame in enumerate(data):
        write(tmp_path / (f"img_{i}.tif" if i else "img.tif"), frame)
    assert reads(tmp_path, data) == "img.tif, which has no number, is taken for the image before img_1.tif"


def test_days_of_recordings_are_positions(tmp_path: Path) -> None:
    data = pixels(2, 4)
    for day, movie in enumerate(data, start=1):
        for t, frame in enumerate(movie):
            write(tmp_path / f"mouse01_2023-05-0{day}_{t:03d}.tif", frame)
    with pytest.raises(InvalidInput, match="2 positions: 0 `2023-05-01`, 1 `2023-05-02`"):
        open_movie(tmp_path)
    reads(tmp_path, data[1], position=1)


@pytest.mark.parametrize(
    "name", ["cam_2023-05-01_12-{m:02d}-{s:02d}.tif", "cam_20230501_12{m:02d}{s:02d}_{i:04d}.tif"]
)
def test_a_clock_that_passes_a_full_minute_leaves_nothing_out(name: str) -> None:
    names = [name.format(m=i // 60, s=i % 60, i=i) for i in range(50, 70)]
    found = sort_names(names)
    assert [f.name for f in found.files] == names
    assert missing_numbers([f.time for f in found.files]) == []


def test_more_channels_than_microscopes_have_are_time(tmp_path: Path) -> None:
    data = pixels(17)
    for i, frame in enumerate(data):
        write(tmp_path / f"x_c{i:03d}.tif", frame)
    reads(tmp_path, data)


def prairie(folder: Path, data: npt.NDArray[Any], kind: str, *, zigzag: bool, paged: bool) -> None:
    """Write volumes (cycle, plane, H, W) as Prairie View does, in zigzag if asked."""
    for c, volume in enumerate(data, start=1):
        stored = volume[::-1] if zigzag and c % 2 == 0 else volume
        if paged:
            write(folder / f"T_Cycle{c:05d}_Ch2_000001.ome.tif", stored)
            continue
        for i, plane in enumerate(stored, start=1):
            write(folder / f"T_Cycle{c:05d}_Ch2_{i:06d}.ome.tif", plane)
    cycles = "".join(f'<Sequence type="{kind}" cycle="{c}" bidirectionalZ="{zigzag}"/>' for c in (1, 2, 3, 4))
    (folder / "T.xml").write_text(f"<PVScan>{cycles}</PVScan>")


@pytest.mark.parametrize("paged", [False, True])
@pytest.mark.parametrize("zigzag", [False, True])
def test_volumes_of_prairie_view_that_go_up_and_down(tmp_path: Path, zigzag: bool, paged: bool) -> None:
    data = pixels(4, 3)
    prairie(tmp_path, data, "TSeries ZSeries Element", zigzag=zigzag, paged=paged)
    for plane in (0, 1, 2):
        reads(tmp_path, data[:, plane], plane=plane)


def test_a_stack_of_prairie_view_says_that_its_planes_are_taken_for_time(tmp_path: Path) -> None:
    data = pixels(1, 5)
    prairie(tmp_path, data, "ZSeries", zigzag=False, paged=False)
    assert "5 planes and one time point: the planes are taken for points in time" in reads(tmp_path, data[0])


def test_a_plane_that_lacks_a_time_point_is_said(tmp_path: Path) -> None:
    data = pixels(4, 3)
    prairie(tmp_path, data, "TSeries ZSeries Element", zigzag=False, paged=False)
    (tmp_path / "T_Cycle00003_Ch2_000002.ome.tif").unlink()
    note = reads(tmp_path, data[[0, 1, 3], 1], plane=1)
    assert note.endswith("1 of 4 time points have no image of this choice")
    assert reads(tmp_path, data[:, 2], plane=2) == ""


def test_scanimage_before_2020_takes_a_number_of_slices_for_a_stack(tmp_path: Path) -> None:
    data = pixels(3, 4)
    header = {"hChannels.channelSave": 1, "hFastZ.enable": 0, "hStackManager.numSlices": 3}
    header["hStackManager.framesPerSlice"] = 4
    write(tmp_path / "m.tif", data.reshape(-1, H, W), "\n".join(f"SI.{k} = {v}" for k, v in header.items()))
    with pytest.raises(InvalidInput, match="3 planes"):
        open_movie(tmp_path / "m.tif")
    reads(tmp_path / "m.tif", data[1], plane=1)


def test_scanimage_counts_frames_before_they_are_averaged(tmp_path: Path) -> None:
    data = pixels(3, 2, 2)  # volumes, planes, averaged frames of a plane
    header = {
        "hChannels.channelSave": 1, "hStackManager.enable": "true", "hStackManager.stackMode": "'fast'",
        "hStackManager.actualNumSlices": 2, "hStackManager.framesPerSlice": 20, "hScan2D.logAverageFactor": 10,
        "hStackManager.numFramesPerVolume": 40, "hStackManager.numFramesPerVolumeWithFlyback": 40,
    }  # fmt: skip
    write(tmp_path / "m.tif", data.reshape(-1, H, W), "\n".join(f"SI.{k} = {v}" for k, v in header.items()))
    reads(tmp_path / "m.tif", data[:, 1].reshape(-1, H, W), plane=1)


def test_several_regions_in_a_frame_are_said(tmp_path: Path) -> None:
    data = pixels(3)
    write(tmp_path / "m.tif", data, "SI.hChannels.channelSave = 1\nSI.hRoiManager.mroiEnable = true")
    assert "several regions one below another" in reads(tmp_path / "m.tif", data)


def test_smaller_copies_and_masks_between_frames_are_no_frames(tmp_path: Path) -> None:
    write(tmp_path / "m.tif", pixels(6), kinds=[0, 1] * 3)
    with pytest.raises(InvalidInput, match="smaller copy or a mask"):
        open_movie(tmp_path / "m.tif")


def test_white_for_zero_is_said(tmp_path: Path) -> None:
    data = pixels(4)
    write(tmp_path / "m.tif", data, photometric="miniswhite")
    assert "small values as bright" in reads(tmp_path / "m.tif", data)


@pytest.mark.parametrize("dtype", ["int8", "int32", "uint32", "int64", "float16", "float64", ">f8"])
@pytest.mark.parametrize("suffix", [".tif", ".npy"])
def test_other_kinds_of_pixels_are_read_as_float32(tmp_path: Path, dtype: str, suffix: str) -> None:
    data = pixels(4, dtype=dtype)
    if suffix == ".npy":
        np.save(tmp_path / "m.npy", data)
    else:
        tifffile.imwrite(tmp_path / "m.tif", data, photometric="minisblack")
    note = reads(tmp_path / f"m{suffix}", data.astype(np.float32))
    assert note == f"m{suffix} holds {np.dtype(dtype).name}, which is read as float32"
    assert open_movie(tmp_path / f"m{suffix}").dtype == np.float32


def pack(frame: npt.NDArray[Any], bits: int) -> bytes:
    every = ((frame[..., None] >> np.arange(bits - 1, -1, -1)) & 1).astype(np.uint8)
    return np.packbits(every.reshape(len(frame), -1), axis=1).tobytes()


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_packed_pixels_of_cameras(tmp_path: Path, bits: int) -> None:
    pytest.importorskip("imagecodecs")
    data = pixels(4) * 8
    out, at = bytearray(b"II*\0" + struct.pack("<I", 8)), 8
    for i, frame in enumerate(data):
        packed = pack(frame, bits)
        begin = at + 2 + 9 * 12 + 4
        tags = [
            (256, W),
            (257, H),
            (258, bits),
            (259, 1),
            (262, 1),
            (273, begin),
            (277, 1),
            (278, H),
            (279, len(packed)),
        ]
        at = begin + len(packed)
        out += struct.pack("<H", len(tags)) + b"".join(
            struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags
        )
        out += struct.pack("<I", at if i < len(data) - 1 else 0) + packed
    (tmp_path / "m.tif").write_bytes(out)
    assert reads(tmp_path / "m.tif", data) == ""
    (tmp_path / "m.tif").write_bytes(out[:-100])
    with pytest.raises(InvalidInput, match="frame 3"):
        np.asarray(open_movie(tmp_path / "m.tif"))


def test_masks_of_an_nwb_file_are_no_movie(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "m.nwb", "w") as file:
        file.attrs["nwb_version"] = "2.6.0"
        file["processing/ophys/ImageSegmentation/PlaneSegmentation/image_mask"] = pixels(7, dtype="float32")
    with pytest.raises(InvalidInput, match="holds no data set"):
        open_movie(tmp_path / "m.nwb")


@pytest.mark.parametrize(("height", "width", "length"), [(64, 96, 120), (96, 64, 60)])
@pytest.mark.parametrize("subtracted", [False, True])
def test_time_as_the_last_axis_of_frames_that_are_no_squares(
    tmp_path: Path, height: int, width: int, length: int, subtracted: bool
) -> None:
    movie = active_cells(length, height, width, photons=30.0, seed=height)[1].astype(np.float32)
    if subtracted:  # a still background is the only thing that tells, so its lack refuses nothing
        movie -= movie.mean(axis=0)
    np.save(tmp_path / "first.npy", movie)
    np.save(tmp_path / "last.npy", np.ascontiguousarray(np.moveaxis(movie, 0, -1)))
    assert open_movie(tmp_path / "first.npy").shape == movie.shape
    if not subtracted:
        with pytest.raises(InvalidInput, match="time as the last"):
            open_movie(tmp_path / "last.npy")


def test_axes_that_a_zarr_names_in_another_order_are_refused(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    names = ["y", "x", "t"]
    zarr.create_array(tmp_path / "m.zarr", data=np.moveaxis(pixels(5), 0, -1), dimension_names=names)
    with pytest.raises(InvalidInput, match="has the axes"):
        open_movie(tmp_path / "m.zarr")


@pytest.mark.parametrize("time", [0, 1])
def test_frames_of_hdf5_that_were_never_written_are_no_dark_frames(tmp_path: Path, time: int) -> None:
    h5py = pytest.importorskip("h5py")
    data = pixels(6)
    with h5py.File(tmp_path / "m.h5", "w") as file:
        ahead = (1,) * time
        made = file.create_dataset(
            "m", (*ahead, 100, H, W), "u2", chunks=(*ahead, 2, H, W), compression="gzip"
        )
        made[(*(0,) * time, slice(0, 6))] = data
    assert reads(tmp_path / "m.h5", data) == "m.h5 ends at frame 6 of the 100 planned"


@pytest.mark.parametrize("shape", [(5, 1, H, W), (1, 5, H, W)])
def test_axes_of_one_entry_are_left_out(tmp_path: Path, shape: tuple[int, ...]) -> None:
    h5py = pytest.importorskip("h5py")
    data = pixels(5)
    np.save(tmp_path / "m.npy", data.reshape(shape))
    assert reads(tmp_path / "m.npy", data) == ""
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["movie"] = data.reshape(*shape, 1)
    assert reads(tmp_path / "m.h5", data) == ""


@pytest.mark.parametrize("name", ["img_{}_temp.tif", "cell{}-part.tif"])
def test_images_whose_names_end_with_a_word_of_unfinished_files_are_read(tmp_path: Path, name: str) -> None:
    data = pixels(4)
    for number, frame in enumerate(data):
        write(tmp_path / name.format(number), frame)
    write(tmp_path / "img_4.tmp.tif", data[0])
    assert reads(tmp_path, data) == ""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("img_0.jpg", "JPEG picture, which denoscope does not read: its compression"),
        ("a.mraw", "a Photron MRAW"),
        ("movie.nd2", "a Nikon ND2: name that file"),
        ("movie.tif.part", "still being downloaded"),
        ("movie.h5", "no HDF5 file"),
    ],
)
def test_a_folder_or_file_that_is_not_read_is_named(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / name).write_bytes(b"II*\0" + bytes(90) if name.endswith("part") else b"x" * 90)
    paths = [tmp_path] if name[-3:] in ("jpg", "nd2") else [tmp_path, tmp_path / name]
    for path in paths:
        with pytest.raises(InvalidInput, match=said):
            open_movie(path)
