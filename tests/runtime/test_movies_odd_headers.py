"""Files whose headers say too little, too much, or name another file: read as they are meant, or refused truthfully."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from denoscope.runtime import InvalidInput, LazyMovie, open_movie

H, W = 16, 24
_OME = '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'


def pixels(*shape: int, dtype: str = "uint16") -> npt.NDArray[Any]:
    return np.random.default_rng(sum(shape)).integers(0, 250, (*shape, H, W)).astype(dtype)


def reads(path: Path, expected: npt.NDArray[Any], **choice: Any) -> str:
    """Compare a movie, and return its note."""
    movie = open_movie(path, mapped=False, **choice)
    assert isinstance(movie, LazyMovie)
    np.testing.assert_array_equal(np.asarray(movie), expected)
    return movie.note


def write_pages(path: Path, frames: Sequence[npt.NDArray[Any]], text: str, **options: Any) -> Path:
    """Write a page a frame, the first with a description."""
    with tifffile.TiffWriter(path, ome=False, byteorder=options.pop("byteorder", "<")) as writer:
        for i, frame in enumerate(frames):
            writer.write(
                frame,
                metadata=None,
                contiguous=False,
                photometric="minisblack",
                description=None if i else text.encode(),
                **options,
            )
    return path


def image(sizes: dict[str, int], order: str, planes: str, number: int = 0) -> str:
    channels = "".join(f'<Channel ID="Channel:{number}:{c}" Name="c{c}"/>' for c in range(sizes["C"]))
    lengths = " ".join(f'Size{a}="{sizes[a]}"' for a in "TCZ")
    return (
        f'<Image ID="Image:{number}" Name="Pos{number}"><Pixels ID="Pixels:{number}" DimensionOrder="{order}" '
        f'Type="uint16" SizeX="{W}" SizeY="{H}" {lengths}>{channels}{planes}</Pixels></Image>'
    )


@pytest.mark.parametrize("planes", ["", "<TiffData/>"])
@pytest.mark.parametrize("order", ["XY" + "".join(letters) for letters in permutations("CZT")])
def test_without_a_list_of_planes_their_order_is_the_one_that_the_header_says(
    tmp_path: Path, order: str, planes: str
) -> None:
    sizes = {"T": 3, "C": 2, "Z": 2}
    data = pixels(*(sizes[a] for a in order[:1:-1]))
    path = write_pages(
        tmp_path / "m.ome.tif", data.reshape(-1, H, W), f"{_OME}>{image(sizes, order, planes)}</OME>"
    )
    where = tuple({"T": slice(None), "C": 1, "Z": 0}[a] for a in order[:1:-1])
    reads(path, data[where], channel=1, plane=0)


def test_pages_that_the_header_does_not_list_are_said(tmp_path: Path) -> None:
    data = pixels(7)
    xml = f"{_OME}>{image({'T': 5, 'C': 1, 'Z': 1}, 'XYZCT', '<TiffData/>')}</OME>"
    note = reads(write_pages(tmp_path / "m.ome.tif", data, xml), data[:5])
    assert note == "m.ome.tif has 7 pages, and its OME-XML lists 5 of them: the others are left out"


def write_master_set(folder: Path, data: npt.NDArray[Any]) -> None:
    """Write positions (P, T, C), a file each, of which the first describes all."""
    count, times, channels = data.shape[:3]
    images = "".join(
        image(
            {"T": times, "C": channels, "Z": 1},
            "XYCZT",
            "".join(
                f'<TiffData IFD="{t * channels + c}" FirstT="{t}" FirstC="{c}" FirstZ="0" PlaneCount="1">'
                f'<UUID FileName="p{p}.ome.tif">urn:uuid:{p}</UUID></TiffData>'
                for t in range(times)
                for c in range(channels)
            ),
            p,
        )
        for p in range(count)
    )
    for p in range(count):
        inside = images if p == 0 else '<BinaryOnly MetadataFile="p0.ome.tif" UUID="urn:uuid:0"/>'
        xml = f'{_OME} UUID="urn:uuid:{p}">{inside}</OME>'
        write_pages(folder / f"p{p}.ome.tif", data[p].reshape(-1, H, W), xml)


@pytest.mark.parametrize("named", ["p0.ome.tif", "p2.ome.tif", ""])
def test_a_file_that_another_tiff_file_describes(tmp_path: Path, named: str) -> None:
    data = pixels(3, 4, 2)
    write_master_set(tmp_path, data)
    with pytest.raises(InvalidInput, match="3 positions: 0 `Pos0`"):
        open_movie(tmp_path / named)
    reads(tmp_path / named, data[1, :, 1], position=1, channel=1)


def test_files_that_describe_each_other_in_a_circle(tmp_path: Path) -> None:
    for one, other in ("ab", "ba"):
        xml = f'{_OME} UUID="urn:uuid:{one}"><BinaryOnly MetadataFile="{other}.ome.tif" UUID="urn:uuid:0"/></OME>'
        write_pages(tmp_path / f"{one}.ome.tif", pixels(2), xml)
    with pytest.raises(InvalidInput, match=r"b\.ome\.tif should describe, and it does not"):
        open_movie(tmp_path / "a.ome.tif")


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}])
def test_imagej_says_fewer_images_than_there_are(tmp_path: Path, options: dict[str, Any]) -> None:
    data = pixels(9)
    path = write_pages(tmp_path / "m.tif", data, "ImageJ=1.53t\nimages=5\nframes=5\n", **options)
    assert reads(path, data) == "m.tif says that it holds 5, and has 9 images: all are read"


def test_imagej_says_channels_that_do_not_fit(tmp_path: Path) -> None:
    data = pixels(6, 2)
    text = "ImageJ=1.53t\nimages=12\nchannels=2\nframes=5\nhyperstack=true\n"
    path = write_pages(tmp_path / "m.tif", data.reshape(-1, H, W), text)
    with pytest.raises(
        InvalidInput, match=r"12 images, 2 channels x 1 slice x 5 frames, and has 12 pages: .*`interl"
    ):
        open_movie(path)
    reads(path, data[:, 1], interleaved=2, channel=1)
    write_pages(path, data.reshape(-1, H, W)[:9], text)
    with pytest.raises(InvalidInput, match="saved with 12 images and holds 9"):
        open_movie(path)


def test_a_script_that_wrote_a_movie_in_pieces(tmp_path: Path) -> None:
    data = pixels(10)
    for begin in (0, 4, 8):
        tifffile.imwrite(tmp_path / "m.tif", data[begin : begin + 4], append=True, photometric="minisblack")
    assert "3 stacks, written one after the other: they are taken for one movie" in reads(
        tmp_path / "m.tif", data
    )
    reads(tmp_path / "m.tif", data[4:8], position=1)
    for begin in (0, 4):
        tifffile.imwrite(tmp_path / "two.tif", data[begin : begin + 4], append=True, photometric="minisblack")
    with pytest.raises(InvalidInput, match="2 positions"):  # two channels, perhaps
        open_movie(tmp_path / "two.tif")
    with tifffile.TiffWriter(tmp_path / "m.ome.tif") as writer:
        for frame in data:
            writer.write(frame, photometric="minisblack")
    assert "10 images of one frame each" in reads(tmp_path / "m.ome.tif", data)


def test_jpeg_is_decoded_from_the_first_read_on(tmp_path: Path) -> None:
    pytest.importorskip("imagecodecs")
    tifffile.imwrite(
        tmp_path / "m.tif", pixels(3, dtype="uint8"), compression="jpeg", photometric="minisblack"
    )
    reads(tmp_path / "m.tif", tifffile.imread(tmp_path / "m.tif"))


def test_an_empty_file_in_a_folder_is_named(tmp_path: Path) -> None:
    for i in range(3):
        tifffile.imwrite(tmp_path / f"f{i}.tif", pixels(1)[0])
    (tmp_path / "f3.tif").write_bytes(b"")
    with pytest.raises(InvalidInput, match=r"f3\.tif is empty \(0 bytes\)"):
        np.asarray(open_movie(tmp_path))


def test_a_folder_of_folders_says_where_images_lie(tmp_path: Path) -> None:
    (tmp_path / "Pos0").mkdir()
    tifffile.imwrite(tmp_path / "Pos0" / "img_000000000_Default_000.tif", pixels(1)[0])
    with pytest.raises(InvalidInput, match="images lie in Pos0: name one"):
        open_movie(tmp_path)


@pytest.mark.parametrize("spaces", [False, True])
def test_every_page_of_an_old_scanimage_file_is_read(tmp_path: Path, spaces: bool) -> None:
    data = pixels(5, 2)
    words = {
        "configPath": "'C:'",
        "acq.numberOfFrames": "5",
        "acq.savingChannel1": "1",
        "acq.savingChannel2": "1",
    }
    equals = " = " if spaces else "="
    text = ("\n" if spaces else "\r").join(f"state.{k}{equals}{v}" for k, v in words.items())
    with tifffile.TiffWriter(tmp_path / "m.tif") as writer:
        for frame in data.reshape(-1, H, W):
            writer.write(frame, metadata=None, contiguous=False, photometric="minisblack", description=text)
    assert reads(tmp_path / "m.tif", data[:, 1], channel=1) == ""


def test_volumes_of_scanimage_4(tmp_path: Path) -> None:
    data = pixels(4, 3)
    text = "".join(
        f"scanimage.SI4.{k} = {v}\n"
        for k, v in {
            "channelsSave": 1,
            "acqNumFrames": 100,
            "fastZEnable": 1,
            "stackNumSlices": 3,
            "fastZNumDiscardFrames": 0,
        }.items()
    )
    reads(write_pages(tmp_path / "m.tif", data.reshape(-1, H, W), text), data[:, 2], plane=2)


def test_volumes_of_prairie_view_in_files_of_many_pages(tmp_path: Path) -> None:
    data = pixels(4, 3)
    for cycle, volume in enumerate(data, start=1):
        write_pages(tmp_path / f"T-001_Cycle{cycle:05d}_Ch2_000001.ome.tif", volume, "")
    xml = "".join(f'<Sequence type="TSeries ZSeries Element" cycle="{c}"/>' for c in range(1, 5))
    (tmp_path / "T-001.xml").write_text(f"<PVScan>{xml}</PVScan>")
    with pytest.raises(InvalidInput, match="3 planes: 0 to 2"):
        open_movie(tmp_path)
    reads(tmp_path, data[:, 1], plane=1)


def test_two_positions_of_micro_manager_that_know_nothing_of_each_other(tmp_path: Path) -> None:
    data = pixels(2, 5)
    sizes = {"T": 5, "C": 1, "Z": 1}
    for p in range(2):
        name = f"x_1_MMStack_Pos{p}.ome.tif"
        planes = f'<TiffData IFD="0" PlaneCount="5"><UUID FileName="{name}">urn:uuid:{p}</UUID></TiffData>'
        write_pages(
            tmp_path / name, data[p], f'{_OME} UUID="urn:uuid:{p}">{image(sizes, "XYZCT", planes)}</OME>'
        )
    with pytest.raises(InvalidInput, match="2 positions: 0 `Pos0`, 1 `Pos1`"):
        open_movie(tmp_path)
    reads(tmp_path, data[1], position="Pos1")


def test_a_file_of_ndtiff_stands_for_its_recording(tmp_path: Path) -> None:
    data, index = pixels(4, 2), b""
    for name, frames, first in (("x_NDTiffStack.tif", data[:2], 0), ("x_NDTiffStack_1.tif", data[2:], 2)):
        (tmp_path / name).write_bytes(bytes(32) + frames.tobytes())
        for i, (t, c) in enumerate(np.ndindex(*frames.shape[:2])):
            axes = json.dumps({"time": t + first, "channel": ("GFP", "RFP")[c]}).encode()
            index += struct.pack("<I", len(axes)) + axes + struct.pack("<I", len(name)) + name.encode()
            index += struct.pack("<IiiiiIii", 32 + i * H * W * 2, W, H, 1, 0, 0, 0, 0)
    (tmp_path / "NDTiff.index").write_bytes(index)
    path = tmp_path / "x_NDTiffStack_1.tif"
    with pytest.raises(InvalidInput, match="0 `GFP`, 1 `RFP`"):
        open_movie(path)
    assert "one of 2 files of a recording" in reads(path, data[:, 1], channel="RFP")


def test_zarr_of_old_versions_and_parts_of_an_image(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    data = pixels(2, 5, 2, 1)
    for name, axes in (("old", {}), ("new", {"axes": list("tczyx")})):
        group = zarr.open_group(tmp_path / name, mode="w", zarr_format=2)
        for p in range(2):
            image = group.create_group(str(p))
            image.create_array("0", data=data[p], chunks=(1, 1, 1, H, W))
            image.attrs["multiscales"] = [{"datasets": [{"path": "0"}], **axes}]
        reads(tmp_path / name, data[1, :, 1, 0], position=1, channel=1)
        with pytest.raises(InvalidInput, match="2 channels"):  # not a heap of axes without names
            open_movie(tmp_path / name / "0" / "0")
        reads(tmp_path / name / "0" / "0", data[0, :, 0, 0], channel=0)


@pytest.mark.parametrize("names", [("rec.tif", "rec-file002.tif"), ("rec.tif", "rec@0001.tif")])
def test_second_files_of_other_programs(tmp_path: Path, names: tuple[str, str]) -> None:
    data = pixels(2, 4)
    for name, frames in zip(names, data, strict=True):
        tifffile.imwrite(tmp_path / name, frames, photometric="minisblack")
    reads(tmp_path, data.reshape(-1, H, W))
