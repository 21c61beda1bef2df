"""Movies of vendors' formats: written here where that is possible, else by a stand-in for the library."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from denoscope.runtime import InvalidInput, LazyMovie, open_movie
from denoscope.runtime.movies import opening
from denoscope.runtime.movies.headers.facts import Facts
from support.vendor_files import write_czi, write_lif, write_oib, write_oif, write_scanbox, write_thorlabs

T, Z, P, C, H, W = 5, 3, 2, 2, 24, 40


def pixels(*shape: int, dtype: str = "uint16") -> npt.NDArray[Any]:
    return np.random.default_rng(sum(shape)).integers(0, 250, (*shape, H, W)).astype(dtype)


def check_reads(path: Path, expected: npt.NDArray[Any], **choice: Any) -> LazyMovie:
    """Compare a movie frame by frame, in an order that goes back and forth, and a part of it."""
    movie = open_movie(path, **choice)
    assert isinstance(movie, LazyMovie)
    assert (movie.shape, movie.dtype) == (expected.shape, expected.dtype)
    last = len(expected) - 1
    for t in (last, 0, 1, last // 2, last // 2, 0):
        np.testing.assert_array_equal(movie[t], expected[t])
    np.testing.assert_array_equal(np.asarray(movie), expected)
    np.testing.assert_array_equal(movie[1:3, 2:9, 5:6], expected[1:3, 2:9, 5:6])
    return movie


def write_video(path: Path, movie: npt.NDArray[Any], codec: str, kind: str) -> Path:
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=20)
        stream.height, stream.width, stream.pix_fmt = *movie.shape[1:], kind
        for image in movie:
            if kind.startswith("gray"):
                frame = av.VideoFrame(W, H, kind)
                lines = np.zeros((H, frame.planes[0].line_size // image.itemsize), image.dtype)
                lines[:, :W] = image
                frame.planes[0].update(lines.tobytes())
            elif kind == "bgr24":
                frame = av.VideoFrame.from_ndarray(np.stack([image] * 3, -1), format=kind)
            else:
                frame = av.VideoFrame.from_ndarray(image, format="gray").reformat(format=kind)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_videos_of_a_folder_are_one_movie_as_miniscopes_write_them(tmp_path: Path) -> None:
    movie = np.random.default_rng(1).integers(0, 250, (24, H, W)).astype(np.uint8)
    for part in range(12):
        write_video(tmp_path / f"{part}.avi", movie[2 * part : 2 * part + 2], "ffv1", "gray")
    assert "one movie of 12 files" in check_reads(tmp_path, movie).note
    write_video(tmp_path / "behavCam1.avi", movie[:3], "ffv1", "gray")
    with pytest.raises(InvalidInput, match="2 positions"):
        open_movie(tmp_path)
    (tmp_path / "behavCam1.avi").unlink()
    (tmp_path / "3.avi").unlink()
    with pytest.raises(InvalidInput, match="lacks part 3"):
        open_movie(tmp_path)


@pytest.mark.parametrize(
    ("name", "codec", "kind", "scale"),
    [
        ("m.avi", "ffv1", "gray", 1), ("m.avi", "rawvideo", "gray", 1), ("m.mkv", "ffv1", "gray16le", 200),
        ("m.mkv", "ffv1", "gray10le", 3), ("m.mov", "png", "gray", 1),
    ],
)  # fmt: skip
def test_grey_videos_are_read_as_they_were_written(
    tmp_path: Path, name: str, codec: str, kind: str, scale: int
) -> None:
    movie = pixels(40) * scale if scale > 1 else pixels(40, dtype="uint8")
    opened = check_reads(write_video(tmp_path / name, movie, codec, kind), movie)
    assert opened.note == ""


def test_of_a_video_in_colour_the_brightness_is_taken_and_said(tmp_path: Path) -> None:
    movie = pixels(6, dtype="uint8")
    opened = check_reads(write_video(tmp_path / "m.avi", movie, "rawvideo", "bgr24"), movie)
    assert opened.note == "m.avi is a video in bgr24: its brightness is taken"
    lossy = open_movie(write_video(tmp_path / "m.mp4", movie, "mpeg4", "yuv420p"))
    assert isinstance(lossy, LazyMovie)
    assert "compressed with mpeg4, which changes the noise" in lossy.note
    assert lossy.shape == movie.shape
    np.testing.assert_array_equal(np.asarray(lossy)[3], lossy[3])


@pytest.mark.parametrize("name", ["m.avi", "m.mkv"])
def test_frames_of_a_video_that_was_cut_short_are_read_up_to_there(tmp_path: Path, name: str) -> None:
    movie = pixels(30, dtype="uint8")
    path = write_video(tmp_path / name, movie, "ffv1", "gray")
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    opened = open_movie(path)
    assert 5 < len(opened) < 30
    np.testing.assert_array_equal(opened[3], movie[3])


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **attributes: Any) -> None:
    """Put a module of this name, with these attributes, where a library would be."""
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    vars(module).update(attributes)
    monkeypatch.setitem(sys.modules, name, module)


class Nd2Double:
    """The part of ``nd2.ND2File`` that denoscope uses, on an array of (T, P, Z, C, H, W)."""

    data = pixels(T, P, Z, C)
    lost: tuple[int, ...] = ()
    closed = 0
    reads = 0

    def __init__(self, path: str) -> None:
        assert Path(path).is_file()
        self.sizes = {"T": T, "P": P, "Z": Z, "C": C, "Y": H, "X": W}
        self.is_rgb, self.dtype = False, np.dtype("uint16")
        self.attributes = SimpleNamespace(heightPx=H, widthPx=W)
        self.metadata = SimpleNamespace(
            channels=[SimpleNamespace(channel=SimpleNamespace(name=n)) for n in ("GFP", "RFP")]
        )
        points = [SimpleNamespace(name="left"), SimpleNamespace(name=None)]
        self.experiment = [SimpleNamespace(type="XYPosLoop", parameters=SimpleNamespace(points=points))]
        offsets = {i: 1 for i in range(T * P * Z) if i not in self.lost}
        times_ms = [100.0 * i for i in range(T * P * Z)]
        self._rdr = SimpleNamespace(_frame_offsets=offsets, _cached_frame_times=lambda: times_ms)
        period = SimpleNamespace(periodMs=200.0, periodDiff=SimpleNamespace(avg=250.0))
        self.experiment.append(SimpleNamespace(type="TimeLoop", parameters=period))
        settings = {f"a{i}": {"dExposureTime": exposure} for i, exposure in enumerate((20.0, 40.0))}
        self._rdr._cached_raw_metadata = lambda: {"sPicturePlanes": {"sSampleSetting": settings}}
        for channel in self.metadata.channels:
            channel.microscope = SimpleNamespace(objectiveName="Plan Apo 20x")

    def voxel_size(self) -> Any:
        return SimpleNamespace(x=0.5, y=0.5, z=1.0)

    def read_frame(self, index: int) -> npt.NDArray[Any]:
        type(self).reads += 1
        return self.data.reshape(-1, C, H, W)[index]

    def close(self) -> None:
        type(self).closed += 1


@pytest.fixture
def nd2_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    stand_in(monkeypatch, "nd2", ND2File=type("Double", (Nd2Double,), {"closed": 0, "reads": 0}))
    path = tmp_path / "m.nd2"
    path.write_bytes(b"\xda\xce\xbe\x0a" + bytes(Nd2Double.data.nbytes))
    return path


def test_of_nd2_one_channel_plane_and_position_is_chosen(nd2_file: Path) -> None:
    data = Nd2Double.data
    for choice, question in (
        ({}, "0 `left`, 1 `XYPos:1`: choose with `position`"),
        ({"position": 1}, "3 planes: 0 to 2: choose with `plane`"),
        ({"position": 1, "plane": 2}, "0 `GFP`, 1 `RFP`: choose with `channel`"),
        ({"position": 1, "plane": 2, "channel": 2}, "there is no channel 2"),
    ):
        with pytest.raises(InvalidInput, match=question):
            open_movie(nd2_file, **choice)  # type: ignore[arg-type]
    check_reads(nd2_file, data[:, 1, 2, 0], position=1, plane=2, channel="GFP")
    check_reads(nd2_file, data[:, 0, 1, 1], position="left", plane=1, channel=1)


def test_nd2_reads_a_frame_at_a_time_and_is_closed(nd2_file: Path) -> None:
    movie = open_movie(nd2_file, position=0, plane=0, channel=0)
    double = sys.modules["nd2"].ND2File
    assert double.reads == 0
    movie[3]
    assert (double.reads, double.closed) == (1, 0)
    del movie
    assert double.closed == 1


def test_frames_that_nd2_only_announces_are_left_out_and_said(
    nd2_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["nd2"].ND2File, "lost", tuple(range(3 * P * Z, T * P * Z)))
    movie = check_reads(nd2_file, Nd2Double.data[:3, 0, 0, 0], position=0, plane=0, channel=0)
    assert movie.note == "m.nd2: 2 of 5 time points were never recorded"


@pytest.mark.parametrize(
    ("name", "library", "head"),
    [
        ("m.nd2", "nd2", b"\xda\xce\xbe\x0a"), ("m.nd2", "nd2", b"\x00\x00\x00\x0cjP  "),
        ("m.avi", "av", b"RIFF\x00\x10\x00\x00AVI LIST"), ("m.mkv", "av", b"\x1aE\xdf\xa3"),
        ("m.czi", "czifile", b"ZISRAWFILE"), ("m.lif", "liffile", b"\x70\x00\x00\x00"),
        ("m.oib", "oiffile", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"), ("m.oif", "oiffile", b"\xff\xfe[\x00"),
        ("m.mp4", "av", b"\x00\x00\x00\x18ftypmp42"),
    ],
)  # fmt: skip
def test_damaged_files_are_refused_in_one_sentence(
    tmp_path: Path, name: str, library: str, head: bytes
) -> None:
    pytest.importorskip(library)
    path = tmp_path / name
    for seed in range(5):
        path.write_bytes(head + np.random.default_rng(seed).bytes(3000))
        with pytest.raises(InvalidInput, match=r"m\.\w+ (cannot be read as|holds no)") as caught:
            open_movie(path)
        assert "\n" not in str(caught.value)


def test_without_the_library_the_sentence_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "find_spec", lambda _: None)
    (tmp_path / "m.nd2").write_bytes(b"\xda\xce\xbe\x0a")
    with pytest.raises(
        InvalidInput,
        match=r'a Nikon ND2, and reading it needs nd2: run `python -m pip install "\.\[vendors\]"` in a copy of .* or '
        "export it as OME-TIFF",
    ):
        open_movie(tmp_path / "m.nd2")


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_of_czi_one_channel_plane_and_scene_is_chosen(tmp_path: Path, dtype: str) -> None:
    pytest.importorskip("czifile")
    data = pixels(P, T, Z, C, dtype=dtype)
    path = write_czi(tmp_path / "m.czi", data, "STZC", names=("GFP", "RFP"))
    for choice, question in (
        ({}, "0 `GFP`, 1 `RFP`: choose with `channel`"),
        ({"channel": 0}, "2 positions: 0 to 1: choose with `position`"),
        ({"channel": 0, "position": 0}, "3 planes: 0 to 2: choose with `plane`"),
    ):
        with pytest.raises(InvalidInput, match=question):
            open_movie(path, **choice)  # type: ignore[arg-type]
    check_reads(path, data[1, :, 2, 1], position=1, plane=2, channel="RFP")
    check_reads(path, data[0, :, 0, 0], position=0, plane=0, channel=0)


def test_what_czi_lacks_is_said_and_mosaics_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("czifile")
    data = pixels(T)
    movie = check_reads(
        write_czi(tmp_path / "m.czi", pixels(T, C), "TC", without=3), pixels(T, C)[[0, 2, 3, 4], 1], channel=1
    )
    assert movie.note == "m.czi: 1 of 5 time points have no frame of this choice"
    with pytest.raises(InvalidInput, match="a mosaic of tiles: stitch it"):
        open_movie(write_czi(tmp_path / "tiles.czi", data, "M"))


def test_of_lif_one_image_channel_and_plane_is_chosen(tmp_path: Path) -> None:
    pytest.importorskip("liffile")
    series, snapshot = pixels(T, Z, C), pixels(1, 1, 1, dtype="uint8")
    path = write_lif(tmp_path / "m.lif", {"Series001": series, "Overview": snapshot})
    for choice, question in (
        ({}, "2 positions: 0 `Series001`, 1 `Overview`: choose with `position`"),
        ({"position": "Series001"}, "3 planes: 0 to 2: choose with `plane`"),
        ({"position": 0, "plane": 1}, "2 channels: 0 to 1: choose with `channel`"),
    ):
        with pytest.raises(InvalidInput, match=question):
            open_movie(path, **choice)  # type: ignore[arg-type]
    check_reads(path, series[:, 2, 1], position=0, plane=2, channel=1)
    np.testing.assert_array_equal(np.asarray(open_movie(path, position="Overview")), snapshot[:, 0, 0])
    only = pixels(T, 1, 1)
    check_reads(write_lif(tmp_path / "one.lif", {"Series001": only}), only[:, 0, 0])


def test_channels_of_lif_have_the_names_of_their_dyes(tmp_path: Path) -> None:
    pytest.importorskip("liffile")
    data = pixels(T, 1, C)
    path = write_lif(tmp_path / "m.lif", {"a": data}, dyes=("GCaMP", "tdTomato"))
    with pytest.raises(InvalidInput, match="0 `GCaMP`, 1 `tdTomato`: choose with `channel`"):
        open_movie(path)
    movie = check_reads(path, data[:, 0, 1], channel="tdTomato")
    assert movie.facts.channel == "tdTomato"


@pytest.mark.parametrize(("axes", "time"), [("WYX", 1), ("TWYX", T)])
def test_wavelengths_of_lif_are_no_points_in_time(tmp_path: Path, axes: str, time: int) -> None:
    pytest.importorskip("liffile")
    data = pixels(*([T] if time > 1 else []), 3)
    path = write_lif(tmp_path / "m.lif", {"a": data}, {"a": axes})
    if time == 1:
        with pytest.raises(
            InvalidInput, match="scanned at 3 wavelengths at one point in time: it is no movie"
        ):
            open_movie(path)
        return
    with pytest.raises(InvalidInput, match=r"3 channels: 0 `0\.0 nm`, 1 `500\.0 nm`"):
        open_movie(path)
    check_reads(path, data[:, 1], channel="500.0 nm")


def test_angles_of_lif_are_no_points_in_time(tmp_path: Path) -> None:
    pytest.importorskip("liffile")
    path = write_lif(tmp_path / "m.lif", {"a": pixels(4)}, {"a": "AYX"})
    with pytest.raises(InvalidInput, match="scanned at 4 angles, which are no points in time"):
        open_movie(path)


def test_frames_of_lif_along_x_and_z_are_read_and_lines_left_out(tmp_path: Path) -> None:
    pytest.importorskip("liffile")
    data, lines, still = pixels(T), pixels(1)[0], pixels(1, 1, 1)
    axes = {"depth": "TZX", "lines": "TX"}
    path = write_lif(tmp_path / "m.lif", {"depth": data, "lines": lines}, axes)
    movie = check_reads(path, data)
    assert "scanned along x and z" in movie.note
    assert "1 image without rows and columns" in movie.note
    assert movie.facts.increment_s == pytest.approx(0.25)
    write_lif(path, {"Overview": still, "depth": data}, axes)  # the overview is not taken for the movie
    with pytest.raises(InvalidInput, match="2 positions: 0 `Overview`, 1 `depth`"):
        open_movie(path)


def test_of_oif_one_channel_and_plane_is_chosen(tmp_path: Path) -> None:
    pytest.importorskip("oiffile")
    data = pixels(C, Z, T)
    path = write_oif(tmp_path / "m.oif", data)
    with pytest.raises(InvalidInput, match="2 channels: 0 to 1: choose with `channel`"):
        open_movie(path)
    check_reads(path, data[1, 2], channel=1, plane=2)
    (tmp_path / "m.oif.files" / "s_C002Z003T004.tif").unlink()
    movie = check_reads(path, data[1, 2][[0, 1, 2, 4]], channel=1, plane=2)
    assert movie.note == "m.oif: 1 of 5 time points have no frame of this choice"


@pytest.mark.parametrize("kind", ["czi", "lif"])
def test_a_file_that_was_cut_short_is_refused_or_says_which_frame(tmp_path: Path, kind: str) -> None:
    pytest.importorskip({"czi": "czifile", "lif": "liffile"}[kind])
    data = pixels(T)
    if kind == "czi":
        path = write_czi(tmp_path / "m.czi", data, "T")
    else:
        path = write_lif(tmp_path / "m.lif", {"a": data[:, None, None]})
    whole, refused = path.read_bytes(), 0
    for end in range(0, len(whole), len(whole) // 40):
        path.write_bytes(whole[:end])
        try:
            frames = [*open_movie(path)]
        except InvalidInput as error:
            refused += "\n" not in str(error)
        else:
            np.testing.assert_array_equal(frames, data)
    assert refused > 30  # the others lack nothing but padding


def test_of_oib_one_channel_and_plane_is_chosen(tmp_path: Path) -> None:
    pytest.importorskip("oiffile")
    data = pixels(C, Z, T)
    path = write_oib(tmp_path / "m.oib", data)
    with pytest.raises(InvalidInput, match="2 channels: 0 to 1: choose with `channel`"):
        open_movie(path)
    check_reads(path, data[1, 2], channel=1, plane=2)


def test_of_thorimage_one_channel_and_plane_is_chosen_and_flyback_left_out(tmp_path: Path) -> None:
    data = pixels(T, Z, C)
    path = write_thorlabs(tmp_path / "run", data, flyback=2, enabled=("ChanA", "ChanC"))
    for named in (path, path.parent):
        with pytest.raises(InvalidInput, match="3 planes: 0 to 2: choose with `plane`"):
            open_movie(named)
        with pytest.raises(InvalidInput, match="0 `ChanA`, 1 `ChanC`: choose with `channel`"):
            open_movie(named, plane=1)
        movie = check_reads(named, data[:, 2, 1], plane=2, channel="ChanC")
        assert movie.note == "Image_0001_0001.raw: 20 flyback frames are left out"
        assert (movie.facts.pixel_size_um, movie.facts.channel) == (0.65, "ChanC")
        assert movie.facts.increment_s == pytest.approx(5 / 30)
        assert movie.facts.objective == "16X Nikon"


def test_thorimage_stores_the_channels_that_were_on_or_all_four(tmp_path: Path) -> None:
    data = pixels(T, 1, 4)
    path = write_thorlabs(tmp_path / "run", data, enabled=("ChanA", "ChanC"))
    check_reads(path, data[:, 0, 2], channel="ChanC")
    check_reads(write_thorlabs(tmp_path / "one", data[:, :, :1]), data[:, 0, 0])
    lapse = write_thorlabs(tmp_path / "lapse", data[:, :, :2].repeat(2, 1), streaming=False)
    assert check_reads(lapse, data[:, 0, 1], plane=1, channel=1).facts.increment_s == 2.5


def test_a_thorimage_recording_that_was_stopped_is_read_or_asks_how_it_is_stored(tmp_path: Path) -> None:
    data = pixels(12, 1, 2)
    one = write_thorlabs(tmp_path / "one", data[:, :, :1], planned=50)
    assert check_reads(one, data[:, 0, 0]).note == "Image_0001_0001.raw ends at frame 12 of the 50 planned"
    two = write_thorlabs(tmp_path / "two", data, planned=50)
    with pytest.raises(InvalidInput, match=r"`interleaved` 2 .* or `interleaved` 4 "):
        open_movie(two, channel=1)
    check_reads(two, data[:, 0, 1], channel=1, interleaved=2)


def test_a_thorimage_description_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = write_thorlabs(tmp_path / "run", pixels(T, 1, 1))
    path.write_bytes(path.read_bytes() * 3)
    with pytest.raises(InvalidInput, match="do not belong together"):
        open_movie(path)
    for text, said in (
        ("<a", "is no XML"),
        ("<a/>", "no size of a frame"),
        ('<a><LSM pixelX="9e99"/></a>', "pixel"),
    ):
        (path.parent / "Experiment.xml").write_text(text)
        with pytest.raises(InvalidInput, match=said):
            open_movie(path)
    (path.parent / "Experiment.xml").unlink()
    with pytest.raises(InvalidInput, match=r"copy ThorImage's Experiment\.xml beside it"):
        open_movie(path)


def test_signed_thorimage_pixels_stay_signed(tmp_path: Path) -> None:
    data = pixels(T, 1, 1, dtype="int16") - 100
    check_reads(write_thorlabs(tmp_path / "run", data), data[:, 0, 0])


@pytest.mark.parametrize(("bidirectional", "version"), [(False, 2), (True, 2), (True, 3)])
def test_of_scanbox_one_channel_and_plane_is_chosen(
    tmp_path: Path, bidirectional: bool, version: int
) -> None:
    pytest.importorskip("scipy")
    data = pixels(T, Z, C)
    path = write_scanbox(tmp_path / "m.sbx", data, bidirectional=bidirectional, version=version)
    with pytest.raises(InvalidInput, match="0 `PMT0`, 1 `PMT1`: choose with `channel`"):
        open_movie(path)
    with pytest.raises(InvalidInput, match="3 planes: 0 to 2: choose with `plane`"):
        open_movie(path, channel=1)
    movie = check_reads(path, data[:, 2, 1], channel="PMT1", plane=2)
    assert movie.facts.increment_s == pytest.approx(3 * H / 7930 / (2 if bidirectional else 1))
    single = pixels(T, 1, 1)
    check_reads(write_scanbox(tmp_path / "one.sbx", single, version=version), single[:, 0, 0])


def test_scanbox_says_what_is_missing_or_does_not_fit(tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    data = pixels(T, 1, 1)
    path = write_scanbox(tmp_path / "m.sbx", data, max_idx=T + 2)
    movie = check_reads(path, data[:, 0, 0])
    assert "ends at frame 5 of the 8 recorded" in movie.note
    write_scanbox(path, data, recordsPerBuffer=17)
    with pytest.raises(InvalidInput, match="17 lines a buffer"):
        open_movie(path)
    write_scanbox(path, data, simon=1)
    with pytest.raises(InvalidInput, match="written by another program"):
        open_movie(path)
    path.with_suffix(".mat").write_bytes(b"MATLAB 5.0" + bytes(300))
    with pytest.raises(InvalidInput, match="cannot be read as the description"):
        open_movie(path)
    path.with_suffix(".mat").unlink()
    with pytest.raises(InvalidInput, match=r"m\.mat is not beside it"):
        open_movie(path)


def test_sectors_of_oib_that_lead_in_a_circle_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("oiffile")
    path = write_oib(tmp_path / "m.oib", pixels(1, 1, 2))
    data = bytearray(path.read_bytes())
    tables = int.from_bytes(data[76:80], "little")
    at = 512 + tables * 512 + 4 * int.from_bytes(data[48:52], "little")
    data[at : at + 4] = data[48:52]  # the directory follows itself
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match="leads back into itself"):
        open_movie(path)


@pytest.mark.parametrize("kind", ["nd2", "czi", "lif", "oif", "oib", "avi"])
def test_what_a_format_tells_of_its_movie_is_kept(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    pytest.importorskip(
        {"czi": "czifile", "lif": "liffile", "oif": "oiffile", "oib": "oiffile", "avi": "av"}.get(
            kind, "numpy"
        )
    )
    data, choice = pixels(C, 1, T), {"channel": 1}
    path = tmp_path / f"m.{kind}"
    if kind == "nd2":
        path, choice = request.getfixturevalue("nd2_file"), {"position": 0, "plane": 0, "channel": 1}
    elif kind == "czi":
        write_czi(path, pixels(T, C), "TC", names=("GFP", "RFP"))
    elif kind == "lif":
        write_lif(path, {"a": pixels(T, 1, C)})
    elif kind == "avi":
        path, choice = write_video(path, pixels(T, dtype="uint8"), "ffv1", "gray"), {}
    else:
        {"oif": write_oif, "oib": write_oib}[kind](path, data)
    movie = open_movie(path, **choice)  # type: ignore[arg-type]
    assert isinstance(movie, LazyMovie)
    size, channel, lens = {
        "nd2": (0.5, "RFP", "Plan Apo 20x"),
        "czi": (0.65, "RFP", "Plan 20x"),
        "lif": (0.5, None, "HC PL APO 20x"),
        "avi": (None, None, None),
    }.get(kind, (0.5, "Dye 1", None))
    facts = movie.facts
    assert facts.pixel_size_um == (None if size is None else pytest.approx(size))
    assert facts.increment_s == pytest.approx(0.05 if kind == "avi" else 0.25)
    assert (facts.channel, facts.objective) == (channel, lens)
    assert facts.exposure_s == {"czi": 0.02, "nd2": 0.04}.get(kind)
    if kind == "avi":
        assert facts.times_s == pytest.approx([0.05 * n for n in range(T)])


def test_each_frame_keeps_its_time_from_nd2_and_czi(
    nd2_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    movie = open_movie(nd2_file, position=0, plane=1, channel=0)
    assert isinstance(movie, LazyMovie)
    every = movie.facts.times_s
    assert every == pytest.approx([0.1 * P * Z * t for t in range(T)])
    assert movie[1:3].facts.times_s == pytest.approx([0.0, 0.1 * P * Z])
    monkeypatch.setattr(sys.modules["nd2"].ND2File, "lost", (0,))  # the first frame of another plane
    movie = open_movie(nd2_file, position=0, plane=0, channel=0)
    assert isinstance(movie, LazyMovie)
    assert movie.facts.times_s == pytest.approx([0.1 * P * Z * t for t in range(T - 1)])

    pytest.importorskip("czifile")
    times = (10.0, 10.2, 10.5, 12.0, 12.25)
    path = write_czi(tmp_path / "m.czi", pixels(T, C), "TC", names=("GFP", "RFP"), times_s=times)
    movie = open_movie(path, channel=1)
    assert isinstance(movie, LazyMovie)
    assert movie.facts.times_s == pytest.approx([0.0, 0.2, 0.5, 2.0, 2.25])
    assert movie.facts.increment_s == pytest.approx(0.25)
    dates = tuple(46_000 + t / 86_400 for t in times)
    days = open_movie(write_czi(tmp_path / "d.czi", pixels(T, C), "TC", times_s=dates), channel=1)
    assert isinstance(days, LazyMovie)
    assert days.facts.times_s == pytest.approx([0.0, 0.2, 0.5, 2.0, 2.25], abs=1e-4)
    gap = open_movie(write_czi(tmp_path / "g.czi", pixels(T, C), "TC", without=3, times_s=times), channel=1)
    assert isinstance(gap, LazyMovie)
    assert gap.facts.times_s == pytest.approx([0.0, 0.5, 2.0, 2.25])
    fewer = open_movie(write_czi(tmp_path / "f.czi", pixels(T, C), "TC", times_s=times[:2]), channel=1)
    assert isinstance(fewer, LazyMovie)
    assert fewer.facts.times_s is None


def test_facts_that_make_no_sense_are_left_out() -> None:
    facts = Facts(float("nan"), -1, (3.0, 2.0, 5.0), float("inf"), "  G\x00FP ", "")
    assert facts == Facts(channel="GFP")
    odd = Facts(times_s=(0.0, 0.5, 0.0, 1.5, 2.0, 2.5, 3.0, 3.5))  # one was not measured
    assert (odd.times_s, odd.increment_s) == (None, 0.5)
    assert Facts(times_s=(5.0, 5.5, 6.0, 8.0)).of_frames(range(1, 4)).times_s == (0.0, 0.5, 2.5)
