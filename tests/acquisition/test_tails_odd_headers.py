"""`watch:` with headers that say little: channels and planes are told apart, stray files passed over."""

from __future__ import annotations

import json
import logging
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from denoscope.acquisition.sources.growing.tails import open_tail
from denoscope.acquisition.sources.growing.watch import WatchSource
from denoscope.acquisition.sources.part import Part
from denoscope.runtime import InvalidInput

H, W = 16, 24
_OME = '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
Streams = dict[tuple[tuple[str, Any], ...], list[npt.NDArray[Any]]]


def pixels(*shape: int) -> npt.NDArray[np.uint16]:
    return np.random.default_rng(sum(shape)).integers(0, 250, (*shape, H, W)).astype(np.uint16)


def streams(path: Path) -> Streams:
    """Return the frames of a file that nobody writes to any more, by their axes but time."""
    tail = open_tail(path)
    assert tail is not None
    found: Streams = {}
    with closing(tail):
        while (grown := tail.read(settled=True)) is not None:
            axes = grown.tags.get("Axes") or {}
            key = tuple(sorted((k, v) for k, v in axes.items() if k != "time"))
            found.setdefault(key, []).append(grown.pixels)
        tail.check_rest()
    return found


def same(found: list[npt.NDArray[Any]], expected: npt.NDArray[Any]) -> None:
    np.testing.assert_array_equal(np.stack(found), expected)
    assert found[0].dtype == expected.dtype


@pytest.mark.parametrize("axes", ["CTYX", "ZTYX", "TCYX", "CZTYX", "ZCYX"])
def test_axes_of_tifffile_in_any_order(tmp_path: Path, axes: str) -> None:
    data = pixels(*range(2, len(axes)))
    tifffile.imwrite(tmp_path / "m.tif", data, metadata={"axes": axes}, photometric="minisblack")
    found = streams(tmp_path / "m.tif")
    time = axes.find("T") if "T" in axes else axes.index("Z")
    others = [i for i in range(data.ndim - 2) if i != time]
    assert len(found) == np.prod([data.shape[i] for i in others])
    names = {"C": "channel", "Z": "z"}
    for place in np.ndindex(*(data.shape[i] for i in others)):
        key = tuple(sorted((names[axes[i]], at) for i, at in zip(others, place, strict=True)))
        where: list[Any] = [slice(None)] * (data.ndim - 2)
        for i, at in zip(others, place, strict=True):
            where[i] = at
        same(found[key], data[tuple(where)])


@pytest.mark.parametrize("spaces", [False, True])
def test_old_scanimage_is_followed_page_by_page(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, spaces: bool
) -> None:
    """tifffile lists the pages of such a file up to its end, and a growing file has none."""
    data, equals = pixels(6, 2), " = " if spaces else "="
    text = f"state.a{equals}1\nstate.acq.savingChannel1{equals}1\nstate.acq.savingChannel2{equals}1\n"
    with tifffile.TiffWriter(tmp_path / "m.tif") as writer:
        for frame in data.reshape(-1, H, W):
            writer.write(frame, metadata=None, contiguous=False, photometric="minisblack", description=text)
    with caplog.at_level(logging.WARNING):
        found = streams(tmp_path / "m.tif")
    assert [len(frames) for frames in found.values()] == [6, 6]
    same(list(found.values())[1], data[:, 1])
    assert not caplog.records


def test_flyback_frames_that_were_not_written(tmp_path: Path) -> None:
    data = pixels(4, 3)
    head = {
        "SI.hChannels.channelSave": "1",
        "SI.hStackManager.enable": "true",
        "SI.hStackManager.numSlices": "3",
        "SI.hStackManager.framesPerSlice": "1",
        "SI.hStackManager.numFramesPerVolume": "3",
        "SI.hStackManager.numFramesPerVolumeWithFlyback": "4",
    }
    software = "\n".join(f"{k} = {v}" for k, v in {"SI.VERSION_MAJOR": "2020", **head}.items())
    with tifffile.TiffWriter(tmp_path / "m.tif", bigtiff=True) as writer:
        for (volume, z), frame in zip(np.ndindex(4, 3), data.reshape(-1, H, W), strict=True):
            writer.write(
                frame,
                metadata=None,
                contiguous=False,
                photometric="minisblack",
                software=software,
                description=f"frameNumbers = {volume * 4 + z + 1}\n",
            )
    found = streams(tmp_path / "m.tif")
    assert len(found) == 3
    for z, frames in enumerate(found.values()):
        same(frames, data[:, z])


@pytest.mark.parametrize("described", [True, False])
def test_channels_keep_their_names(tmp_path: Path, *, described: bool) -> None:
    data = pixels(4, 2)
    channels = "".join(f'<Channel ID="Channel:0:{i}" Name="{n}"/>' for i, n in enumerate(("GFP", "RFP")))
    planes = "".join(
        f'<TiffData IFD="{i}" FirstT="{i // 2}" FirstC="{i % 2}" PlaneCount="1"><UUID FileName="m.ome.tif">u</UUID>'
        "</TiffData>"
        for i in range(8)
    )
    full = (
        f'{_OME}><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="{W}" '
        f'SizeY="{H}" SizeT="4" SizeC="2" SizeZ="1">{channels}{planes}</Pixels></Image></OME>'
    )
    xml = full if described else f'{_OME}><BinaryOnly MetadataFile="m.companion.ome" UUID="u"/></OME>'
    (tmp_path / "m.companion.ome").write_text(full)
    with tifffile.TiffWriter(tmp_path / "m.ome.tif", ome=False) as writer:
        for i, frame in enumerate(data.reshape(-1, H, W)):
            writer.write(
                frame,
                metadata=None,
                contiguous=False,
                photometric="minisblack",
                description=None if i else xml.encode(),
            )
    found = {dict(key)["channel"]: frames for key, frames in streams(tmp_path / "m.ome.tif").items()}
    same(found["RFP"], data[:, 1])


@pytest.mark.parametrize("version", ["0.1", "0.3", "0.5", "array", "big-endian"])
def test_zarr_of_every_version(tmp_path: Path, version: str) -> None:
    zarr = pytest.importorskip("zarr")
    data = pixels(5, 2, 1)
    group = zarr.open_group(tmp_path / "m.zarr", mode="w", zarr_format=3 if version == "0.5" else 2)
    stored = data.astype(">u2") if version == "big-endian" else data
    group.create_array("0", data=stored, chunks=(1, 1, 1, H, W))
    axes: Any = [{"name": n} for n in "tczyx"] if version != "0.3" else [*"tczyx"]
    scale = {"datasets": [{"path": "0"}]} | ({} if version == "0.1" else {"axes": axes})
    image = {"multiscales": [scale], "omero": {"channels": [{"label": "GFP"}, {"label": "RFP"}]}}
    group.attrs.update({"ome": image} if version == "0.5" else image)
    found = streams(tmp_path / "m.zarr" / "0" if version == "array" else tmp_path / "m.zarr")
    assert len(found) == 2
    same(found[("channel", "RFP"), ("z", 0)], data[:, 1, 0])


@pytest.mark.parametrize("paged", [False, True])
@pytest.mark.parametrize("zigzag", [False, True])
def test_planes_of_prairie_view_are_streams(tmp_path: Path, zigzag: bool, paged: bool) -> None:
    data = pixels(4, 3)
    for c, volume in enumerate(data, start=1):
        stored = volume[::-1] if zigzag and c % 2 == 0 else volume
        for i, plane in enumerate(stored, start=1):
            if not paged:
                tifffile.imwrite(
                    tmp_path / f"T_Cycle{c:05d}_Ch2_{i:06d}.ome.tif", plane, ome=False, metadata=None
                )
        if paged:
            name = tmp_path / f"T_Cycle{c:05d}_Ch2_000001.ome.tif"
            tifffile.imwrite(name, stored, ome=False, metadata=None, photometric="minisblack")
    one = f'<Sequence type="TSeries ZSeries Element" bidirectionalZ="{zigzag}">{"<Frame/>" * 3}</Sequence>'
    (tmp_path / "T.xml").write_text(f"<PVScan>{one * 4}</PVScan>")
    found = streams(tmp_path)
    assert sorted(dict(key)["z"] for key in found) == [0, 1, 2]
    for key, frames in found.items():
        same(frames, data[:, dict(key)["z"]])


def test_cycles_of_prairie_view_that_may_be_stacks_are_said(tmp_path: Path) -> None:
    data = pixels(2, 3)
    for c, i in np.ndindex(2, 3):
        tifffile.imwrite(tmp_path / f"T_Cycle{c + 1:05d}_Ch2_{i + 1:06d}.tif", data[c, i], metadata=None)
    source = WatchSource(tmp_path, idle_s=0.1)
    source.open()
    while not source.finished():
        source.pop()
    source.close()
    assert any("stacks or time series" in note for note in source.notes())


def test_png_images_are_followed_and_pictures_beside_tiff_are_not(tmp_path: Path) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    data = pixels(12)
    for i, frame in enumerate(data):
        (tmp_path / f"img_{i}.png").write_bytes(imagecodecs.png_encode(frame))
    whole = (tmp_path / "img_11.png").read_bytes()
    (tmp_path / "img_11.png").write_bytes(whole[:-5])
    tail = open_tail(tmp_path)
    assert tail is not None
    found = [grown.pixels for _ in range(12) if (grown := tail.read(settled=True)) is not None]
    same(found, data[:11])
    assert tail.unfinished()
    (tmp_path / "img_11.png").write_bytes(whole)
    last = tail.read(settled=False)
    assert last is not None
    same([last.pixels], data[11:])
    tifffile.imwrite(tmp_path / "img_0.tif", data[3])
    ((_, found),) = streams(tmp_path).items()
    same(found, data[3:4])


def test_positions_of_bioformats2raw_are_streams(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    data = pixels(2, 5)
    group = zarr.open_group(tmp_path / "m.zarr", mode="w", zarr_format=2)
    group.attrs["bioformats2raw.layout"] = 3
    scale = {"axes": [{"name": a} for a in "tyx"], "datasets": [{"path": "0"}]}
    for position, movie in enumerate(data):
        image = group.create_group(str(position))
        image.create_array("0", data=movie, chunks=(1, H, W))
        image.attrs["multiscales"] = [scale]
    found = streams(tmp_path / "m.zarr")
    assert sorted(dict(key)["position"] for key in found) == [0, 1]
    for key, frames in found.items():
        same(frames, data[dict(key)["position"]])


@pytest.mark.parametrize(
    "shape", [[2**64, H, W], [4, 2**63 - 1, W], [4, 2**14, 2**20], [2**63 - 1, 2**10, 2**10]]
)
def test_a_zarr_that_claims_more_than_a_camera_sends(tmp_path: Path, shape: list[int]) -> None:
    zarr = pytest.importorskip("zarr")
    zarr.create_array(tmp_path / "m.zarr", data=pixels(4), chunks=(1, H, W), zarr_format=2)
    about = tmp_path / "m.zarr" / ".zarray"
    about.write_text(about.read_text().replace(f"4,\n    {H},\n    {W}", ",".join(map(str, shape))))
    assert str(shape[0]) in about.read_text()
    with pytest.raises(InvalidInput, match="metadata are damaged"):
        streams(tmp_path / "m.zarr")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("chunks", [0, H, W], "metadata are damaged"),
        ("chunks", [1, 9 * H, W], "cannot be read"),
        ("fill_value", 10**30, ""),
    ],
)
def test_metadata_of_a_zarr_that_do_not_fit_its_chunks(
    tmp_path: Path, key: str, value: Any, said: str
) -> None:
    zarr = pytest.importorskip("zarr")
    zarr.create_array(tmp_path / "m.zarr", data=pixels(4), chunks=(1, H, W), zarr_format=2)
    about = tmp_path / "m.zarr" / ".zarray"
    about.write_text(json.dumps({**json.loads(about.read_text()), key: value}))
    if not said:
        assert streams(tmp_path / "m.zarr") == {}  # waits for metadata that can be read
        return
    with pytest.raises(InvalidInput, match=said):
        streams(tmp_path / "m.zarr")


@pytest.mark.parametrize(
    ("text", "software"),
    [
        ("ImageJ=1.53t\nimages=4\nchannels=0\nframes=4\n", ""),
        ("ImageJ=1.53t\nimages={many}\nframes=4\n", ""),
        (
            "frameNumberAcquisition = {many}",
            "SI.hChannels.channelSave = [1;2]\nSI.hStackManager.numSlices = {many}",
        ),
        ("state.acq.numberOfChannelsSave={many}\rstate.acq.numberOfZSlices={many}\r", ""),
        ('{{"shape": [Infinity, 2, 16, 24], "axes": "TCYX"}}', ""),
    ],
)
def test_numbers_that_overflow_in_a_header(tmp_path: Path, text: str, software: str) -> None:
    many = "1" * 5000
    with tifffile.TiffWriter(tmp_path / "m.tif", ome=False) as writer:
        for i, frame in enumerate(pixels(4)):
            said = text.format(many=many) if i == 0 else None
            writer.write(frame, metadata=None, description=said, software=software.format(many=many) or None)
    try:
        found = streams(tmp_path / "m.tif")
    except InvalidInput:
        return  # in one sentence; what else it may be ends the test
    assert sum(map(len, found.values())) == 4


def test_names_with_odd_digits_do_not_end_it(tmp_path: Path) -> None:
    data = pixels(3)
    for name, frame in zip(("1²3.tif", "4²5.tif", "10²5.tif"), data, strict=True):
        tifffile.imwrite(tmp_path / name, frame)
    ((_, found),) = streams(tmp_path).items()
    same(found, data)


def test_metadata_of_zarr_that_make_no_sense_are_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("zarr")
    (tmp_path / "m.zarr").mkdir()
    (tmp_path / "m.zarr" / ".zattrs").write_text('{"multiscales": [{"datasets": 3}]}')
    with pytest.raises(InvalidInput, match="metadata that cannot be read"):
        streams(tmp_path / "m.zarr")


def test_what_file_managers_leave_in_a_folder_is_passed_over(tmp_path: Path) -> None:
    data = pixels(3)
    for i, frame in enumerate(data):
        tifffile.imwrite(tmp_path / f"img_{i}.tif", frame)
        (tmp_path / f"._img_{i}.tif").write_bytes(b"\0\5\x16\7" * 40)
    (tmp_path / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    same(streams(tmp_path)[()], data)


@pytest.mark.parametrize("names", [("rec.tif", "rec-file002.tif"), ("rec.tif", "rec@0001.tif")])
def test_second_files_of_other_programs(tmp_path: Path, names: tuple[str, str]) -> None:
    data = pixels(2, 3)
    for name, frames in zip(names, data, strict=True):
        tifffile.imwrite(tmp_path / name, frames, photometric="minisblack")
    same(streams(tmp_path)[()], data.reshape(-1, H, W))


def test_a_channel_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, pixels(3, 2), metadata={"axes": "TCYX"}, imagej=True)
    with pytest.raises(InvalidInput, match="none of the wanted `channel` 5: there is channel `0` and `1`"):
        WatchSource(path, start_s=0.01, part=Part(channel="5")).open()


def test_one_file_of_several_says_that_others_were_not_watched(tmp_path: Path) -> None:
    for name in ("x_MMStack_Pos0.ome.tif", "x_MMStack_Pos0_1.ome.tif", "x_MMStack_Pos1.ome.tif"):
        tifffile.imwrite(tmp_path / name, pixels(2), photometric="minisblack", metadata=None, ome=False)
    source = WatchSource(tmp_path / "x_MMStack_Pos0.ome.tif", idle_s=0.4)
    source.open()
    while not source.finished():
        source.pop()
    assert source.notes() == [
        "1 other file of this recording lies beside x_MMStack_Pos0.ome.tif, not watched: watch the folder to take all"
    ]
    source.close()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", ["0/.zarray", "0/0.0.0"])
def test_a_zarr_with_a_pipe_in_it_does_not_block(tmp_path: Path, name: str) -> None:
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(tmp_path / "m.zarr", mode="w", zarr_format=2)
    group.create_array("0", data=pixels(5), chunks=(1, H, W))
    group.attrs.update({"multiscales": [{"axes": [*"tyx"], "datasets": [{"path": "0"}]}]})
    (tmp_path / "m.zarr" / name).unlink()
    os.mkfifo(tmp_path / "m.zarr" / name)
    with pytest.raises(InvalidInput, match="a pipe or a device"):
        streams(tmp_path / "m.zarr")
