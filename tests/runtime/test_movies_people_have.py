"""Files as they lie on people's disks: each is read as its program shows it, or refused with the way out."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from denoscope.runtime import InvalidInput, LazyMovie, open_movie
from denoscope.runtime.movies.formats.ndtiff_pages import unlisted_pages

H, W = 20, 28


def pixels(*shape: int, dtype: str = "uint16") -> npt.NDArray[Any]:
    return np.random.default_rng(sum(shape)).integers(0, 250, (*shape, H, W)).astype(dtype)


def reads(path: Path, expected: npt.NDArray[Any], **choice: Any) -> str:
    """Compare a movie, and return its note."""
    movie = open_movie(path, **choice)
    assert (movie.shape, movie.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(np.asarray(movie), expected)
    np.testing.assert_array_equal(movie[1:3, 2:9, 5:7], expected[1:3, 2:9, 5:7])
    return movie.note if isinstance(movie, LazyMovie) else ""


def write_hdf5(
    path: Path, arrays: dict[str, Any], attributes: dict[str, dict[str, Any]] | None = None
) -> Path:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w", userblock_size=512 if path.suffix == ".mat" else 0) as file:
        for name, array in arrays.items():
            file[name] = array
        for name, values in (attributes or {}).items():
            file[name].attrs.update(values)
    return path


@pytest.mark.parametrize("options", [{"imagej": True}, {"ome": True}])
def test_a_stack_of_planes_is_taken_for_a_movie_and_that_is_said(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    data = pixels(12)
    tifffile.imwrite(tmp_path / "m.tif", data, metadata={"axes": "ZYX"}, **options)
    said = "m.tif has 12 planes and one time point: the planes are taken for points in time"
    assert reads(tmp_path / "m.tif", data) == said
    tifffile.imwrite(tmp_path / "m.tif", data, metadata={"axes": "TYX"}, **options)
    assert reads(tmp_path / "m.tif", data) == ""


def test_files_of_one_plane_each_ask_where_they_are_stacks(tmp_path: Path) -> None:
    data = pixels(3, 5)
    for z in range(3):
        tifffile.imwrite(tmp_path / f"m_z{z}.tif", data[z], photometric="minisblack")
    with pytest.raises(InvalidInput, match="choose one with `plane` 0 to 2"):
        open_movie(tmp_path)
    reads(tmp_path, data[1], plane=1)


def test_the_preview_of_thorimage_is_no_frame(tmp_path: Path) -> None:
    data = pixels(4)
    for t in range(4):
        tifffile.imwrite(tmp_path / f"ChanA_0001_0001_0001_{t + 1:04d}.tif", data[t])
    tifffile.imwrite(tmp_path / "ChanA_Preview.tif", pixels(1)[0])
    assert reads(tmp_path, data) == ""


@pytest.mark.parametrize("kind", ["time", "planes"])
def test_a_metamorph_stack_keeps_all_planes_behind_one_page(tmp_path: Path, kind: str) -> None:
    data = pixels(5)
    times = b"".join(
        struct.pack("<6I", 0 if kind == "time" else 1000, 1000, 2459000, 50 * n, 2459000, 50 * n)
        for n in range(5)
    )
    at = 8 + data.nbytes
    entries = [
        *((256, 4, 1, W), (257, 4, 1, H), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8)),
        *((277, 3, 1, 1), (278, 4, 1, H), (279, 4, 1, H * W * 2)),
        *((33628, 4, 1, at + len(times)), (33629, 5, 5, at)),
    ]
    page = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries) + bytes(4)
    head = b"II*\0" + struct.pack("<I", at + len(times) + 8)
    (tmp_path / "m.stk").write_bytes(head + data.tobytes() + times + bytes(8) + page)
    assert reads(tmp_path / "m.stk", data).startswith("" if kind == "time" else "m.stk has 5 planes")


def test_matlab_files_are_turned_as_matlab_shows_them(tmp_path: Path) -> None:
    data = pixels(6)
    path = write_hdf5(
        tmp_path / "m.mat", {"movie": data.swapaxes(1, 2)}, {"movie": {"MATLAB_class": b"uint16"}}
    )
    assert reads(path, data) == "m.mat stores columns before rows: frames are turned"
    reads(Path(f"{path}::/movie"), data)


@pytest.mark.parametrize("says", [True, False])
def test_of_nwb_the_series_is_the_movie(tmp_path: Path, says: bool) -> None:
    data = pixels(6)
    series = "acquisition/TwoPhotonSeries"
    stored = data.swapaxes(1, 2) if says else data
    path = write_hdf5(
        tmp_path / "m.nwb",
        {
            f"{series}/data": stored,
            f"{series}/starting_time": 0.0,
            f"{series}/imaging_plane/grid_spacing": [8e-7, 8e-7],
            f"{series}/imaging_plane/indicator": "GCaMP6f",
            "processing/masks/image_mask": pixels(3, dtype="float32"),
            **({f"{series}/dimension": np.array([W, H])} if says else {}),
        },
        {
            "/": {"nwb_version": "2.7.0"},
            series: {"neurodata_type": "TwoPhotonSeries"},
            f"{series}/starting_time": {"rate": 30.0},
            f"{series}/imaging_plane/grid_spacing": {"unit": "meters"},
        },
    )
    assert reads(path, data) == ("m.nwb stores columns before rows: frames are turned" if says else "")
    facts = open_movie(path).facts  # type: ignore[union-attr]
    assert facts.pixel_size_um == pytest.approx(0.8)
    assert (facts.increment_s, facts.channel) == (pytest.approx(1 / 30), "GCaMP6f")


def test_links_to_other_files_are_not_followed(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    write_hdf5(tmp_path / "other.h5", {"movie": pixels(6)})
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["movie"] = h5py.ExternalLink("other.h5", "/movie")
    with pytest.raises(InvalidInput, match="no data set `movie`"):
        open_movie(Path(f"{tmp_path / 'm.h5'}::movie"))


def write_imaris(path: Path, data: npt.NDArray[Any]) -> Path:
    """Write a file of Imaris of a movie (T, C, Z, H, W), padded as Imaris pads it."""
    letters = {a: [c.encode() for c in str(n)] for a, n in zip("ZYX", data.shape[-3:], strict=True)}
    arrays: dict[str, Any] = {"Thumbnail/Data": np.zeros((64, 256), np.uint8)}
    sizes = {f"ImageSize{a}": np.array(text) for a, text in letters.items()}
    attributes: dict[str, dict[str, Any]] = {}
    for t, c in np.ndindex(*data.shape[:2]):
        where = f"TimePoint {t}/Channel {c}"
        arrays[f"DataSet/ResolutionLevel 0/{where}/Data"] = np.pad(data[t, c], ((0, 1), (0, 12), (0, 4)))
        arrays[f"DataSet/ResolutionLevel 1/{where}/Data"] = data[t, c, :, ::2, ::2]
        attributes[f"DataSet/ResolutionLevel 0/{where}"] = sizes
    h5py = pytest.importorskip("h5py")
    write_hdf5(path, arrays, attributes)
    with h5py.File(path, "a") as file:
        for group, values in (
            ("Image", {"ExtMin0": "0", "ExtMax0": str(W * 0.5), "Unit": "um"}),
            ("TimeInfo", {f"TimePoint{t + 1}": f"2020-01-01 00:00:0{t}.500" for t in range(len(data))}),
            ("Channel 1", {"Name": "RFP"}),
            ("Channel 0", {"Name": "GFP"}),
        ):
            made = file.create_group(f"DataSetInfo/{group}")
            for key, text in values.items():
                made.attrs[key] = np.array([c.encode() for c in text])
    return path


def test_of_imaris_one_channel_and_plane_is_the_movie(tmp_path: Path) -> None:
    data = pixels(5, 2, 3)
    path = write_imaris(tmp_path / "m.ims", data)
    with pytest.raises(InvalidInput, match="0 `GFP`, 1 `RFP`: choose with `channel`"):
        open_movie(path)
    with pytest.raises(InvalidInput, match="3 planes: 0 to 2: choose with `plane`"):
        open_movie(path, channel="RFP")
    assert reads(path, data[:, 1, 2], channel="RFP", plane=2) == ""
    facts = open_movie(path, channel="RFP", plane=2).facts  # type: ignore[union-attr]
    assert (facts.pixel_size_um, facts.channel, facts.increment_s) == (0.5, "RFP", 1.0)
    assert "3 planes and one time point" in reads(
        write_imaris(tmp_path / "z.ims", data[:1]), data[0, 0], channel=0
    )


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_without_metadata_of_an_image(tmp_path: Path, version: int) -> None:
    zarr = pytest.importorskip("zarr")
    data = pixels(6, 2)
    group = zarr.open_group(tmp_path / "m.zarr", mode="w", zarr_format=version)
    group.create_array("movie", data=data[:, 0], chunks=(3, 16, 16))
    reads(tmp_path / "m.zarr", data[:, 0])
    group.create_array("other", data=data[:, 1], chunks=(3, 16, 16))
    with pytest.raises(InvalidInput, match=r"2 arrays \(movie, other\): give the path of one"):
        open_movie(tmp_path / "m.zarr")
    reads(tmp_path / "m.zarr" / "other", data[:, 1])
    named = zarr.create_array(
        str(tmp_path / "named.zarr"),
        data=data,
        chunks=(3, 1, 16, 16),
        zarr_format=version,
        dimension_names=["time", "channel", "y", "x"] if version == 3 else None,
    )
    if version == 2:
        named.attrs["_ARRAY_DIMENSIONS"] = ["time", "channel", "y", "x"]
    with pytest.raises(InvalidInput, match="2 channels: 0 to 1: choose with `channel`"):
        open_movie(tmp_path / "named.zarr")
    reads(tmp_path / "named.zarr", data[:, 1], channel=1)


@pytest.mark.parametrize(
    ("name", "head", "said"),
    [
        ("m.vsi", b"II*\0", "an Olympus VSI"), ("m.oir", b"OLYMPUSRAWFORMAT", "an Olympus OIR"),
        ("m.zarr.zip", b"PK\3\4", "a ZIP archive"), ("m.dcimg", b"DCIMG", "a Hamamatsu DCIMG"),
        ("m.sif", b"Andor Technology", "an Andor SIF"), ("m.png", b"\x89PNG\r\n\x1a\n", "a single PNG"),
        ("m.pkl", b"\x80\x04", "a Python pickle"), ("m.what", b"what?", "neither a TIFF nor"),
    ],
)  # fmt: skip
def test_what_is_not_read_is_named(tmp_path: Path, name: str, head: bytes, said: str) -> None:
    path = tmp_path / name
    if head == b"II*\0":
        tifffile.imwrite(path, pixels(1)[0])  # the small picture that stands in front of a VSI
    else:
        path.write_bytes(head + bytes(400))
    with pytest.raises(InvalidInput, match=said) as caught:
        open_movie(path)
    assert "\n" not in str(caught.value)


def test_an_n5_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "attributes.json").write_text('{"n5":"2.0.0"}')
    with pytest.raises(InvalidInput, match="an N5 folder"):
        open_movie(tmp_path)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_tells_pixel_size_interval_and_channel(tmp_path: Path, version: str) -> None:
    zarr = pytest.importorskip("zarr")
    data = pixels(6, 2)
    group = zarr.open_group(tmp_path / "m.zarr", mode="w", zarr_format=2 if version == "0.4" else 3)
    group.create_array("0", data=data, chunks=(3, 1, 16, 16))
    units = {"t": {"unit": "millisecond"}, "y": {"unit": "micrometer"}, "x": {"unit": "micrometer"}}
    scale = [{"type": "scale", "scale": [50.0, 1.0, 0.65, 0.65]}]
    image: dict[str, Any] = {
        "multiscales": [
            {
                "axes": [{"name": n, **units.get(n, {})} for n in "tcyx"],
                "datasets": [{"path": "0", "coordinateTransformations": scale}],
            }
        ],
        "omero": {"channels": [{"label": "GFP"}, {"label": "RFP"}]},
    }
    group.attrs.update(image if version == "0.4" else {"ome": image | {"version": "0.5"}})
    facts = open_movie(tmp_path / "m.zarr", channel="RFP").facts  # type: ignore[union-attr]
    assert facts.pixel_size_um == pytest.approx(0.65)
    assert (facts.increment_s, facts.channel) == (pytest.approx(0.05), "RFP")


def write_ndtiff_with(folder: Path, frames: list[tuple[dict[str, Any], dict[str, Any], Any]]) -> None:
    """Write an NDTiff of frames with axes and metadata."""
    index, stored = b"", b"II*\0" + bytes(28)
    for place, about, frame in frames:
        tags = json.dumps(about).encode()
        axes, file = json.dumps(place).encode(), b"x_NDTiffStack.tif"
        index += struct.pack("<I", len(axes)) + axes + struct.pack("<I", len(file)) + file
        index += struct.pack("<IiiiiIii", len(stored), W, H, 1, 0, len(stored) + frame.nbytes, len(tags), 0)
        stored += frame.tobytes() + tags
    (folder / "NDTiff.index").write_bytes(index)
    (folder / "x_NDTiffStack.tif").write_bytes(stored)


def test_ndtiff_tells_times_pixel_size_and_channel(tmp_path: Path) -> None:
    data = pixels(6)
    about = {"PixelSizeUm": 0.65, "Exposure": 10.0, "Channel": "GFP"}
    write_ndtiff_with(
        tmp_path, [({"time": t}, {"ElapsedTime-ms": 100 + 20 * t, **about}, f) for t, f in enumerate(data)]
    )
    reads(tmp_path, data)
    facts = open_movie(tmp_path).facts  # type: ignore[union-attr]
    assert (facts.pixel_size_um, facts.exposure_s, facts.channel) == (0.65, 0.01, "GFP")
    assert facts.times_s == pytest.approx([0.02 * t for t in range(6)])


def test_ndtiff_that_was_cut_short_is_read_to_its_end(tmp_path: Path) -> None:
    data = pixels(6)
    write_ndtiff_with(tmp_path, [({"time": t}, {}, frame) for t, frame in enumerate(data)])
    stack = tmp_path / "x_NDTiffStack.tif"
    stack.write_bytes(stack.read_bytes()[: 32 + 4 * (H * W * 2 + 2) + 9])
    assert reads(tmp_path, data[:4]) == f"{tmp_path.name} was cut short: its files end after 4 of 6 frames"
    stack.write_bytes(stack.read_bytes()[:40])
    with pytest.raises(
        InvalidInput, match="lists 6 frames of this choice, and its files end before the first"
    ):
        open_movie(tmp_path)


@pytest.mark.parametrize("elapsed_ms", [(0, 0, 0, 0, 0, 0), (0, 20, 40, 0, 80, 100)])
def test_times_of_ndtiff_that_are_zero_leave_the_interval(
    tmp_path: Path, elapsed_ms: tuple[int, ...]
) -> None:
    frames = [
        ({"time": t}, {"ElapsedTime-ms": ms, "Interval_ms": 20.0}, pixels(1)[0])
        for t, ms in enumerate(elapsed_ms)
    ]
    write_ndtiff_with(tmp_path, frames)
    facts = open_movie(tmp_path).facts  # type: ignore[union-attr]
    assert (facts.times_s, facts.increment_s) == (None, pytest.approx(0.02))


def test_axes_that_ndtiff_alone_knows_are_positions(tmp_path: Path) -> None:
    data = pixels(4, 2, 3)
    places = [{"time": t, "row": r, "well": f"A{w}"} for t in range(4) for r in range(2) for w in range(3)]
    write_ndtiff_with(
        tmp_path, [(place, {}, frame) for place, frame in zip(places, data.reshape(-1, H, W), strict=True)]
    )
    with pytest.raises(InvalidInput, match="6 positions: 0 `row 0 well A0`, 1 `row 0 well A1`"):
        open_movie(tmp_path)
    reads(tmp_path, data[:, 1, 2], position="row 1 well A2")
    reads(tmp_path, data[:, 0, 1], position=1)


def test_an_axis_of_ndtiff_that_stands_for_time_is_named(tmp_path: Path) -> None:
    data = pixels(4)
    write_ndtiff_with(tmp_path, [({"burst": t}, {}, frame) for t, frame in enumerate(data)])
    assert reads(tmp_path, data) == f"{tmp_path.name}: its axis `burst` is taken for time"


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_images_taken_out_of_an_imagej_stack_are_read(tmp_path: Path, compression: str | None) -> None:
    data = pixels(6)
    said = "ImageJ=1.54f\nimages=6\nframes=6\nloop=false\n"
    for t, frame in enumerate(data):
        tifffile.imwrite(
            tmp_path / f"m_{t}.tif", frame, description=said, metadata=None, compression=compression
        )
    reads(tmp_path, data)
    assert reads(tmp_path / "m_3.tif", data[3:4]).startswith("m_3.tif is one image of a stack of 6")


def test_an_imagej_stack_that_was_cut_short_is_no_single_image(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "m.tif", pixels(6), imagej=True)
    whole = (tmp_path / "m.tif").read_bytes()
    with tifffile.TiffFile(tmp_path / "m.tif") as tif:
        begin, frame = tif.pages.first.dataoffsets[0], H * W * 2
    for end in (begin + frame + 300, begin + 2 * frame + 20, begin + 3 * frame):
        (tmp_path / "m.tif").write_bytes(whole[:end])
        with pytest.raises(InvalidInput, match=r"m\.tif"):
            open_movie(tmp_path / "m.tif")


def write_companion_set(folder: Path, data: npt.NDArray[Any]) -> None:
    """Write an OME-TIFF set (T, C) of a file a time point, described by a separate file."""
    head = (
        '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
    )
    listed = ""
    for t, frames in enumerate(data):
        only = f'{head}><BinaryOnly MetadataFile="m.companion.ome" UUID="urn:uuid:9"/></OME>'
        with tifffile.TiffWriter(folder / f"p{t}.tif") as writer:
            for c, frame in enumerate(frames):
                writer.write(frame, contiguous=False, metadata=None, description=only if c == 0 else None)
        listed += "".join(
            f'<TiffData FirstT="{t}" FirstC="{c}" FirstZ="0" IFD="{c}" PlaneCount="1">'
            f'<UUID FileName="p{t}.tif">urn:uuid:{t}</UUID></TiffData>'
            for c in range(data.shape[1])
        )
    (folder / "m.companion.ome").write_text(
        f'{head}><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="{W}" '
        f'SizeY="{H}" SizeZ="1" SizeC="2" SizeT="{len(data)}"><Channel ID="Channel:0:0" Name="GFP"/>'
        f'<Channel ID="Channel:0:1" Name="RFP"/>{listed}</Pixels></Image></OME>'
    )


@pytest.mark.parametrize("named", ["p0.tif", "p3.tif", "m.companion.ome", ""])
def test_a_set_of_tiff_files_is_read_as_its_companion_says(tmp_path: Path, named: str) -> None:
    data = pixels(5, 2)
    write_companion_set(tmp_path, data)
    with pytest.raises(InvalidInput, match="0 `GFP`, 1 `RFP`: choose with `channel`"):
        open_movie(tmp_path / named)
    reads(tmp_path / named, data[:, 1], channel="RFP")
    (tmp_path / "m.companion.ome").unlink()
    if named.endswith("tif"):
        with pytest.raises(InvalidInput, match=r"m\.companion\.ome describes, which is not beside it"):
            open_movie(tmp_path / named)


def test_a_companion_that_names_files_elsewhere_or_itself_is_refused(tmp_path: Path) -> None:
    write_companion_set(tmp_path, pixels(2, 2))
    companion = tmp_path / "m.companion.ome"
    text = companion.read_text()
    for other, said in (("../p0.tif", "not below its folder"), ("", "does not say which TIFF file")):
        companion.write_text(text.replace("p0.tif", other))
        with pytest.raises(InvalidInput, match=said):
            open_movie(companion)
    companion.write_text("<OME")
    with pytest.raises(InvalidInput, match="does not say which TIFF file"):
        open_movie(tmp_path / "p0.tif")


def test_a_stack_of_imagej_without_its_end_says_how_much_is_left(tmp_path: Path) -> None:
    path, data = tmp_path / "m.tif", pixels(12)
    tifffile.imwrite(path, data, imagej=True, metadata={"axes": "TYX"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert reads(path, data[:6]) == "m.tif was cut short: it ends after 6 of 12 frames"
    tifffile.imwrite(path, data.reshape(6, 2, H, W), imagej=True, metadata={"axes": "TCYX"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InvalidInput, match="saved with 12 images and holds 1: it was cut short"):
        open_movie(path)


def test_pages_that_are_not_listed_are_said(tmp_path: Path) -> None:
    path, data = tmp_path / "m.tif", np.tile(pixels(9), (1, 4, 4))
    with tifffile.TiffWriter(path) as writer:
        for frame in data:
            writer.write(frame, photometric="minisblack", contiguous=False, metadata=None)
    with tifffile.TiffFile(path) as tif:
        at = tif.pages[2].offset
    stored = bytearray(path.read_bytes())
    end = at + 2 + 12 * struct.unpack_from("<H", stored, at)[0]
    stored[end : end + 4] = bytes(4)  # the page after the third is forgotten
    path.write_bytes(stored)
    assert "lists 3 frames in 0.16" in reads(path, data[:3])


def test_of_a_folder_of_stacks_of_planes_one_can_be_chosen(tmp_path: Path) -> None:
    data = pixels(4, 3)
    for t in range(4):
        tifffile.imwrite(tmp_path / f"v_t{t}.tif", data[t], imagej=True, metadata={"axes": "ZYX"})
    assert "v_t0.tif has 3 planes and one time point" in reads(tmp_path, data.reshape(-1, H, W))
    reads(tmp_path, data[:, 1], plane=1)


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("kind", ["npy", "h5", "zarr", "tif"])
def test_time_as_the_last_axis_is_noticed(tmp_path: Path, kind: str, last: bool) -> None:
    rng = np.random.default_rng(4)
    picture = (
        300 + 40 * np.cumsum(rng.normal(size=(40, 40)), 0) + 40 * np.cumsum(rng.normal(size=(40, 40)), 1)
    )
    lamp = 1 + 0.5 * (np.arange(60) % 2)
    movie = rng.poisson(np.clip(picture, 20, None) * lamp[:, None, None]).astype(np.uint16)
    movie = (
        np.ascontiguousarray(np.moveaxis(movie, 0, -1))
        if last
        else np.pad(movie[:40], ((0, 0), (0, 0), (0, 9)), mode="edge")
    )
    path = tmp_path / f"m.{kind}"
    if kind == "npy":
        np.save(path, movie)
    elif kind == "tif":
        tifffile.imwrite(path, movie)
    elif kind == "h5":
        write_hdf5(path, {"movie": movie})
    else:
        pytest.importorskip("zarr").create_array(str(path), data=movie, chunks=(20, 20, 20))
    if last:
        with pytest.raises(
            InvalidInput, match=r"time as the last: give `axes` YXT, or save it as \(T, H, W\)"
        ):
            open_movie(path)
    else:
        reads(path, movie)


def test_a_part_that_is_missing_is_refused_with_a_way_out(tmp_path: Path) -> None:
    """The way out is there in every command: `denoise` has no `frames`, and nothing opens here."""
    write_companion_set(tmp_path, pixels(5, 2))
    (tmp_path / "p2.tif").unlink()
    with pytest.raises(
        InvalidInput, match=r"copy the missing file to the others, or save the frames before it"
    ) as error:
        open_movie(tmp_path / "p0.tif", channel="RFP")
    assert "`frames`" not in str(error.value)


def zarr_image(folder: Path, data: np.ndarray[Any, Any], names: tuple[str, ...] = ()) -> Path:
    """Write an OME-Zarr image (T, C, H, W) without units of time, as bioformats2raw does."""
    group = pytest.importorskip("zarr").open_group(str(folder), mode="w", zarr_format=2)
    group.create_array("0", data=data, chunks=(1, 1, *data.shape[-2:]))
    axes = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    scale = [{"type": "scale", "scale": [1.0, 1.0, 0.5, 0.5]}]
    image = {"version": "0.4", "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    labels = {"omero": {"channels": [{"label": name} for name in names]}} if names else {}
    group.attrs.update({"multiscales": [image], **labels})
    return folder


def test_times_and_names_beside_images_of_bioformats2raw(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 900, (2, 8, 2, 40, 48)).astype(np.uint16)
    for number, image in enumerate(data):
        zarr_image(tmp_path / "m.zarr" / str(number), image)
    (tmp_path / "m.zarr" / ".zgroup").write_text('{"zarr_format": 2}')
    (tmp_path / "m.zarr" / ".zattrs").write_text('{"bioformats2raw.layout": 3}')
    images = ""
    for number in range(2):
        channels = "".join(f'<Channel ID="Channel:{number}:{c}" Name="{n}"/>' for c, n in enumerate("GR"))
        planes = "".join(
            f'<Plane TheT="{t}" TheC="{c}" TheZ="0" DeltaT="{(number + 1) * (t + 0.1 * (t % 2)) + 0.01 * c}" '
            'ExposureTime="20" ExposureTimeUnit="ms"/>'
            for t in range(8)
            for c in range(2)
        )
        sizes = 'SizeX="48" SizeY="40" SizeC="2" SizeZ="1" SizeT="8" Type="uint16" DimensionOrder="XYZCT"'
        images += f'<Image ID="Image:{number}"><Pixels ID="Pixels:{number}" {sizes}>{channels}{planes}</Pixels></Image>'
    (tmp_path / "m.zarr" / "OME").mkdir()
    xml = f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{images}</OME>'
    (tmp_path / "m.zarr" / "OME" / "METADATA.ome.xml").write_text(xml)
    movie = open_movie(tmp_path / "m.zarr", position=1, channel="R", mapped=False)
    np.testing.assert_array_equal(np.asarray(movie), data[1, :, 1])
    facts = movie.facts
    assert (facts.channel, facts.exposure_s, facts.pixel_size_um) == ("R", 0.02, 0.5)
    assert facts.times_s is not None
    np.testing.assert_allclose(facts.times_s, [2 * (t + 0.1 * (t % 2)) for t in range(8)], atol=1e-9)
    assert facts.increment_s == pytest.approx(2.2)
    (tmp_path / "m.zarr" / "OME" / "METADATA.ome.xml").write_text(
        "<OME><Image"
    )  # damaged: facts are left out
    assert open_movie(tmp_path / "m.zarr", position=1, channel=1, mapped=False).facts.times_s is None


def test_two_channels_of_one_name_are_chosen_by_number(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 900, (8, 2, 40, 48)).astype(np.uint16)
    path = zarr_image(tmp_path / "m.zarr", data, ("GCaMP", "GCaMP"))
    with pytest.raises(InvalidInput, match="several are called GCaMP: choose one by its number"):
        open_movie(path, channel="GCaMP")
    np.testing.assert_array_equal(np.asarray(open_movie(path, channel=1)), data[:, 1])


def write_real_ndtiff(folder: Path, *, named: bool = True) -> tuple[Path, npt.NDArray[Any]]:
    """Write two channels and two rows of a tile scan with the library of NDTiff; return its folder and the frames."""
    storage = pytest.importorskip("ndstorage")
    data = pixels(5, 2, 2)  # time, channel, row
    data_set = storage.NDTiffDataset(str(folder), name="nd", writable=True)
    data_set.initialize({})
    for t in range(5):
        for c, channel in enumerate(("GCaMP", "mCherry")):
            for row in range(2):
                axes = {"time": t, "channel": channel, "row": row}
                about = {"ElapsedTime-ms": 100.0 * t, "PixelSizeUm": 0.5, **({"Axes": axes} if named else {})}
                data_set.put_image(axes, data[t, c, row], about)
    left_open = data_set.current_writer.reader
    data_set.finish()
    data_set.close()
    left_open.close()
    return next(folder.glob("nd_*")), data


@pytest.mark.parametrize("kept", [0.0, 0.4, 0.97])
def test_an_ndtiff_whose_index_is_lost_or_cut_is_read_from_its_files(tmp_path: Path, kept: float) -> None:
    path, data = write_real_ndtiff(tmp_path)
    index = path / "NDTiff.index"
    whole = index.read_bytes()
    index.write_bytes(whole[: int(kept * len(whole))])
    if not kept:
        index.unlink()
    for c, channel in enumerate(("GCaMP", "mCherry")):
        for row in range(2):
            note = reads(path, data[:, c, row], channel=channel, position=row)
            assert (
                "found in its files: NDTiff.index " + ("ends before them" if kept else "is missing") in note
            )
    facts = open_movie(path, channel="mCherry", position=1, mapped=False).facts
    assert (facts.channel, facts.pixel_size_um, facts.increment_s) == ("mCherry", 0.5, pytest.approx(0.1))


def test_files_of_two_recordings_of_ndtiff_in_one_folder_are_not_mixed(tmp_path: Path) -> None:
    path, data = write_real_ndtiff(tmp_path)
    first = next(path.glob("*NDTiffStack.tif"))
    stored = first.read_bytes()
    for frame in data.reshape(-1, H, W):
        stored = stored.replace(frame.tobytes(), (frame + 1).tobytes())
    second = path / "other_NDTiffStack.tif"
    second.write_bytes(stored)
    assert reads(path, data[:, 1, 0], channel=1, position=0) == ""
    for _ in range(2):
        assert "is missing" in reads(second, data[:, 1, 0] + np.uint16(1), channel=1, position=0)
        reads(first, data[:, 1, 0], channel=1, position=0)
        (path / "NDTiff.index").unlink(missing_ok=True)
    with pytest.raises(InvalidInput, match=r"files of 2 recordings and no NDTiff.index: open a file of one"):
        open_movie(path, channel=1, position=0)


def test_pages_below_full_resolution_are_read_where_the_index_is_lost(tmp_path: Path) -> None:
    path, data = write_real_ndtiff(tmp_path, named=False)
    (path / "NDTiff.index").unlink()
    path.rename(tmp_path / "Full resolution")
    assert "has lost its NDTiff.index" in reads(tmp_path, data.reshape(-1, *data.shape[-2:]))


def test_frames_that_an_ndtiff_does_not_list_and_that_name_no_axes_are_counted(tmp_path: Path) -> None:
    path, data = write_real_ndtiff(tmp_path, named=False)
    whole = (path / "NDTiff.index").read_bytes()
    (path / "NDTiff.index").write_bytes(whole[: int(0.8 * len(whole))])
    note = reads(path, data[:4, 0, 1], channel="GCaMP", position=1)
    assert "4 frames of nd_1 left out: NDTiff.index ends before them" in note
    (path / "NDTiff.index").unlink()
    assert "has lost its NDTiff.index" in reads(path, data.reshape(-1, *data.shape[-2:]))


def nd_folder(folder: Path, frames: Sequence[np.ndarray[Any, Any]]) -> Path:
    """Write an NDTiff of one channel whose index is lost; return its folder."""
    data_set = pytest.importorskip("ndstorage").NDTiffDataset(str(folder), name="nd", writable=True)
    data_set.initialize({})
    for t, frame in enumerate(frames):
        data_set.put_image({"time": t}, frame, {"Axes": {"time": t}})
    left_open = data_set.current_writer.reader
    data_set.finish()
    data_set.close()
    left_open.close()
    path = next(folder.glob("nd_*"))
    (path / "NDTiff.index").unlink()
    return path


def test_an_ndtiff_of_bytes_that_lost_its_index_and_its_end_is_read(tmp_path: Path) -> None:
    data = pixels(6).astype(np.uint8)
    path = nd_folder(tmp_path, data)
    assert "found in its files" in reads(path, data)
    file = next(path.glob("*.tif"))
    whole = file.read_bytes()
    place = whole.index(data[4].tobytes())
    file.write_bytes(whole[: place + H * W // 2])  # killed within the fifth frame
    assert "4 frames of nd_1 found in its files" in reads(path, data[:4])


def test_colour_in_an_ndtiff_that_lost_its_index_is_refused(tmp_path: Path) -> None:
    path = nd_folder(tmp_path, pixels(3))
    file = next(path.glob("*.tif"))
    grey, colour = (struct.pack("<HHII", 277, 3, 1, samples) for samples in (1, 3))
    file.write_bytes(file.read_bytes().replace(grey, colour))
    with pytest.raises(InvalidInput, match="NDTiff type 2"):
        open_movie(path)


def test_files_of_an_ndtiff_are_looked_at_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    path = nd_folder(tmp_path, pixels(2))
    file = next(path.glob("*.tif"))
    names = [file.name, *(f"{file.stem}_{number}.tif" for number in (1, 2, 10))]
    for name in names[1:]:
        (path / name).write_bytes(file.read_bytes())
    assert [page.file for page in unlisted_pages(path, {}, set()).pages[::2]] == names
    ends = dict.fromkeys((names[0], names[2]), file.stat().st_size)
    after = unlisted_pages(path, ends, set())
    assert [page.file for page in after.pages[::2]] == names[3:]  # the earlier ones were complete


def test_a_whole_ndtiff_is_read_without_a_note(tmp_path: Path) -> None:
    path, data = write_real_ndtiff(tmp_path)
    assert reads(path, data[:, 1, 0], channel=1, position=0) == ""
    file = next(path.glob("*.tif"))
    file.write_bytes(file.read_bytes() + bytes(5000))  # made longer than it is filled
    assert reads(path, data[:, 1, 0], channel=1, position=0) == ""


@pytest.mark.parametrize(
    "said",
    ["", "frames=20\nhyperstack=true\n", "slices=20\n", "channels=2\nframes=10\n", "slices=2\nframes=10\n"],
)
def test_an_imagej_file_of_one_page_that_was_cut_short_is_read_to_its_end(tmp_path: Path, said: str) -> None:
    """Fiji writes movies above 4 GB with one page, and all images behind it; slices unless it was told of time."""
    data, path = pixels(20), tmp_path / "m.tif"
    text = f"ImageJ=1.54f\nimages=20\n{said}"
    planes = "m.tif has {} planes and one time point: the planes are taken for points in time"
    tifffile.imwrite(path, data[:1].astype(">u2"), byteorder=">", description=text, metadata=None)
    with tifffile.TiffFile(path) as tiff:
        begin = tiff.pages.first.dataoffsets[0]
    whole = path.read_bytes()[:begin] + data.astype(">u2").tobytes()
    path.write_bytes(whole)
    cut = whole[: begin + int(12.5 * 2 * H * W)]
    if "channels" in said or "slices=2\n" in said:
        path.write_bytes(cut)
        with pytest.raises(InvalidInput, match="it was cut short"):
            open_movie(path, channel=0 if "channels" in said else None)
        return
    assert reads(path, data) == (planes.format(20) if "slices" in said else "")
    path.write_bytes(cut)
    ends = "m.tif was cut short: it ends after 12 of 20 frames"
    assert reads(path, data[:12]) == (f"{ends}; {planes.format(12)}" if "slices" in said else ends)
    with pytest.raises(InvalidInput, match="channel"):
        open_movie(path, channel=1)


@pytest.mark.parametrize("ending", ["czi", "nd2", "lif", "oib", "avi", "h5", "npy", "sbx"])
def test_a_pointer_of_git_lfs_is_named_whatever_its_name(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"m.{ending}"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 21312\n")
    with pytest.raises(InvalidInput, match=r"is a pointer of Git LFS, .*git lfs pull"):
        open_movie(path)


def test_metadata_of_an_ndtiff_may_end_with_zeros(tmp_path: Path) -> None:
    data = pixels(3)
    path = nd_folder(tmp_path, data)
    file = next(path.glob("*.tif"))
    whole = file.read_bytes()
    for t in range(3):
        whole = whole.replace(b'{"Axes": {"time": %d}}' % t, b'{"Axes":{"time":%d}}\0\0' % t)
    file.write_bytes(whole)
    assert "3 frames of nd_1 found in its files" in reads(path, data)


def test_numbers_of_channels_are_no_names(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 900, (8, 2, 40, 48)).astype(np.uint16)
    path = zarr_image(tmp_path / "m.zarr", data, ("1", "0"))
    np.testing.assert_array_equal(np.asarray(open_movie(path, channel=1)), data[:, 1])
    np.testing.assert_array_equal(np.asarray(open_movie(path, channel="1")), data[:, 0])
