"""Times, names and pixel sizes of recorded movies survive denoising."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from ome_types import from_tiff

from denoscope.acquisition import Frame, make_settings
from denoscope.acquisition.sources.movie_about import about_movie
from denoscope.acquisition.sources.part import Part
from support.plain_results import denoise_movie, live
from support.recordings import scanimage
from support.tiny_bundle import IDENTITY, tiny_bundle
from support.vendor_files import write_thorlabs

from .test_routing import Listed


def movie_of_noise(count: int = 12) -> Any:
    return np.random.default_rng(3).poisson(300, (count, 24, 32)).astype(np.uint16)


def times_of(path: Path) -> list[float | None]:
    return [plane.delta_t for plane in from_tiff(path).images[0].pixels.planes]


@pytest.mark.parametrize("named", ["folder", "raw.tif"])
def test_a_run_keeps_the_time_of_every_frame(tmp_path: Path, named: str) -> None:
    tiny_bundle(tmp_path / "tiny.denoscope", intensity=IDENTITY)
    times = np.cumsum(np.linspace(0.02, 0.08, 12))
    frames = [
        Frame(pixels, n, 5.0 + n, "Cam", {}, core_unix_s=1e9 + times[n])
        for n, pixels in enumerate(movie_of_noise())
    ]
    run = tmp_path / "run"
    bundle = str(tmp_path / "tiny.denoscope")
    settings = make_settings(core="list", output=run, bundle=bundle, picture=False, denoiser="thread")
    live(settings, source=Listed(frames))
    out = tmp_path / "out.ome.tif"
    denoise_movie(run if named == "folder" else run / "raw.tif", out, bundle=bundle, std=tmp_path / "std.tif")
    assert times_of(out) == pytest.approx(list(times - times[0]), abs=1e-6)
    pixels = from_tiff(out).images[0].pixels
    assert pixels.time_increment is not None
    assert pixels.channels[0].name == "A"  # the listed source's camera
    for path in (out, tmp_path / "std.tif"):
        with tifffile.TiffFile(path) as tiff:
            assert not tiff.is_bigtiff
            assert len(tiff.pages) == 12


def test_the_metadata_of_other_movies_survive(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "tiny.denoscope", intensity=IDENTITY)
    bundle = str(tmp_path / "tiny.denoscope")
    movie = movie_of_noise()
    ome = {
        "axes": "TYX",
        "PhysicalSizeX": 0.65,
        "PhysicalSizeXUnit": "µm",
        "TimeIncrement": 50.0,
        "TimeIncrementUnit": "ms",
        "Channel": {"Name": "GCaMP"},
        "Plane": {"DeltaT": [0.05 * n for n in range(12)]},
    }
    tifffile.imwrite(tmp_path / "a.ome.tif", movie, metadata=ome)
    tifffile.imwrite(
        tmp_path / "ij.tif",
        movie,
        imagej=True,
        resolution=(1 / 0.65, 1 / 0.65),
        metadata={"axes": "TYX", "unit": "um", "finterval": 0.05},
    )
    for name in ("a.ome.tif", "ij.tif"):
        out = tmp_path / f"clean-{name}.ome.tif"
        denoise_movie(tmp_path / name, out, bundle=bundle)
        pixels = from_tiff(out).images[0].pixels
        assert pixels.physical_size_x == pytest.approx(0.65, rel=1e-3)
        assert pixels.time_increment == pytest.approx(0.05)
        if name == "a.ome.tif":
            assert pixels.channels[0].name == "GCaMP"
            assert times_of(out) == pytest.approx([0.05 * n for n in range(12)])


def test_what_other_formats_tell_is_in_the_denoised_movie(tmp_path: Path) -> None:
    bundle = tmp_path / "tiny.denoscope"
    tiny_bundle(bundle, intensity=IDENTITY)
    write_thorlabs(tmp_path / "thor", movie_of_noise()[:, None, None])
    out = tmp_path / "out.ome.tif"
    result = denoise_movie(tmp_path / "thor", out, bundle=str(bundle))
    ome = from_tiff(out)
    pixels = ome.images[0].pixels
    assert pixels.physical_size_x == pytest.approx(0.65)
    assert pixels.time_increment == pytest.approx(1 / 30)
    assert pixels.channels[0].name == "ChanA"
    assert ome.instruments[0].objectives[0].model == "16X Nikon"
    assert result["source"]["pixel_size_m"] == pytest.approx(0.65e-6)
    assert result["source"]["details"] == {"objective": "16X Nikon"}


def test_a_folder_of_images_keeps_what_its_first_file_tells(tmp_path: Path) -> None:
    for n, frame in enumerate(movie_of_noise()):
        metadata = {"unit": "um", "finterval": 0.05}
        tifffile.imwrite(tmp_path / f"m{n}.tif", frame, imagej=True, resolution=(2, 2), metadata=metadata)
    about = about_movie(tmp_path, 12)
    assert (about.pixel_size_um, about.increment_s) == (0.5, pytest.approx(0.05))


# Units as programs write them: Micro-Manager gives exposures in ms, Fiji writes the micro sign as six characters.
LENGTHS = [("µm", 0.5), ("nm", 5e-4), ("mm", 500.0), ("cm", 5e3), ("Å", 5e-5), ("um", 0.5), ("pixel", None)]
TIMES = [
    ("s", 2.0),
    ("ms", 2e-3),
    ("min", 120.0),
    ("h", 7200.0),
    ("µs", 2e-6),
    ("d", 172_800.0),
    ("weeks", None),
]


def test_lengths_and_times_in_every_unit_of_ome(tmp_path: Path) -> None:
    path = tmp_path / "m.ome.tif"
    for (length, size), (unit, step) in zip(LENGTHS, TIMES, strict=True):
        plane = {"DeltaT": [2.0 * n for n in range(12)], "DeltaTUnit": [unit] * 12}
        plane |= {"ExposureTime": [1.0] * 12, "ExposureTimeUnit": [unit] * 12}
        metadata = {"axes": "TYX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": length, "Plane": plane}
        tifffile.imwrite(path, movie_of_noise(), metadata=metadata)
        about = about_movie(path, 12)
        assert about.pixel_size_um == (size if size is None else pytest.approx(size)), length
        assert about.exposure_s == (step if step is None else pytest.approx(step / 2)), unit
        assert about.increment_s == (step if step is None else pytest.approx(step)), unit
        expected = None if step is None else pytest.approx([step * n for n in range(12)])
        assert about.times_s == expected, unit


@pytest.mark.parametrize(
    ("said", "size", "step"),
    [
        ("unit=\\u00B5m\nfinterval=2.0\ntunit=min", 0.5, 120.0),
        ("unit=micrometers\nfinterval=2.0\ntunit=Hours", 0.5, 7200.0),
        ("unit=nm\nfinterval=2.0\ntunit=msec", 5e-4, 2e-3),
        ("unit=pixel\nfinterval=2.0\ntunit=frame", None, None),
        ("unit=inch\nfinterval=-2.0", None, None),
        ("unit=\xb5m\nfps=7.0", 0.5, None),
    ],
)
def test_lengths_and_times_as_imagej_writes_them(
    tmp_path: Path, said: str, size: float | None, step: float | None
) -> None:
    text = f"ImageJ=1.54f\nimages=12\nframes=12\n{said}\nloop=false\n"
    path = tmp_path / "m.tif"
    tifffile.imwrite(
        path, movie_of_noise(), description=text.encode("latin-1"), metadata=None, resolution=(2, 2)
    )
    about = about_movie(path, 12)
    assert about.pixel_size_um == (size if size is None else pytest.approx(size))
    assert about.increment_s == (step if step is None else pytest.approx(step))


def test_facts_are_those_of_the_part_that_is_read(tmp_path: Path) -> None:
    path, planes = tmp_path / "m.ome.tif", np.stack([movie_of_noise()] * 2, axis=1)
    with tifffile.TiffWriter(path, ome=True) as writer:
        for position in (1, 2):
            metadata: dict[str, Any] = {
                "axes": "TZYX",
                "Name": f"p{position}",
                "PhysicalSizeX": 1.0 * position,
            }
            metadata["Channel"] = {"Name": f"c{position}"}
            metadata["Plane"] = {"DeltaT": [position * t + 0.25 * z for t in range(12) for z in range(2)]}
            writer.write(planes, metadata=metadata)
    for name in ("1", "p2"):
        about = about_movie(path, 12, Part(position=name, plane="1"))
        assert (about.pixel_size_um, about.channel) == (2.0, "c2")
        assert about.times_s == pytest.approx([2.0 * t for t in range(12)])


def test_one_value_that_makes_no_sense_costs_no_other(tmp_path: Path) -> None:
    path = tmp_path / "m.ome.tif"
    metadata = {"axes": "TYX", "PhysicalSizeX": -0.5, "TimeIncrement": -1.0, "Channel": {"Name": "GFP"}}
    metadata["Plane"] = {"DeltaT": [0.5 * n for n in range(12)], "ExposureTime": [0.1] * 12}
    tifffile.imwrite(path, movie_of_noise(), metadata=metadata)
    text = tifffile.tiffcomment(path)
    assert text is not None
    tifffile.tiffcomment(
        path, text.replace('DeltaT="2.0" ', "").replace('TheT="0"', 'TheT="0" PositionX="NaN"')
    )
    about = about_movie(path, 12)
    assert (about.pixel_size_um, about.times_s, about.channel) == (None, None, "GFP")
    assert (about.exposure_s, about.increment_s) == (0.1, 0.5)


def test_scanimage_tells_its_frame_rate(tmp_path: Path) -> None:
    text = (
        "SI.LINE_FORMAT_VERSION = 1\nSI.hRoiManager.scanFrameRate = 30\nSI.hRoiManager.scanVolumeRate = 7.5\n"
    )
    for planes, step in ((1, 1 / 30), (4, 1 / 7.5)):
        stack = f"SI.hStackManager.numSlices = {planes}\nSI.hStackManager.enable = {planes > 1}".lower()
        stack = stack.replace("si.hstackmanager.numslices", "SI.hStackManager.numSlices").replace(
            "si.hstackmanager.enable", "SI.hStackManager.enable"
        )
        path = tmp_path / f"{planes}.tif"
        tifffile.imwrite(
            path, movie_of_noise(), metadata=None, software=text + stack, description="frameNumbers = 1"
        )
        assert about_movie(path, 12).increment_s == pytest.approx(step)


@pytest.mark.parametrize(
    ("header", "size", "step"),
    [
        (
            "SI.hRoiManager.scanFrameRate = 30.5\nSI.hRoiManager.imagingFovUm = [-8 -6;8 -6;8 6;-8 6]\n"
            "SI.hRoiManager.pixelsPerLine = 32\n",
            0.5,
            1 / 30.5,
        ),
        ("SI.hRoiManager.scanFrameRate = 30.5\nSI.hScan2D.logAverageFactor = 4\n", None, 4 / 30.5),
        (
            "SI.hRoiManager.scanFrameRate = 30\nSI.hRoiManager.imagingFovUm = [-8 -6;8 -6;8 6;-8 6]\n"
            "SI.hRoiManager.pixelsPerLine = 32\nSI.hRoiManager.mroiEnable = 1\n",
            None,
            1 / 30,
        ),
        ("scanimage.SI.hRoiManager.scanFrameRate = 30.5\n", None, 1 / 30.5),
        ("scanimage.SI4.scanFrameRate = 28.72\nscanimage.SI4.fastZEnable = 0\n", None, 1 / 28.72),
        (
            "scanimage.SI4.scanFrameRate = 30\nscanimage.SI4.fastZEnable = 1\nscanimage.SI4.stackNumSlices = 4\n"
            "scanimage.SI4.fastZNumDiscardFrames = 1\n",
            None,
            5 / 30,
        ),
        ("state.configName='x'\rstate.acq.frameRate=3.90625\rstate.acq.numberOfZSlices=1\r", None, 0.256),
        ("state.a=1\rstate.acq.frameRate=4\rstate.acq.averaging=1\rstate.acq.numberOfFrames=8\r", None, 2.0),
        ("state.a=1\rstate.acq.frameRate=4\rstate.acq.numberOfZSlices=3\r", None, None),
        ("SI.hRoiManager.scanFrameRate = 0\n", None, None),
    ],
)
def test_every_version_of_scanimage_tells_its_interval(
    tmp_path: Path, header: str, size: float | None, step: float | None
) -> None:
    path, new = tmp_path / "m.tif", header.startswith("SI.")
    tifffile.imwrite(
        path,
        movie_of_noise(),
        metadata=None,
        software=f"{header}SI.VERSION_MAJOR = 2018\n" if new else False,
        description="frameNumbers = 1\n" if new else header,
    )
    about = about_movie(path, 12)
    assert about.pixel_size_um == size
    assert about.increment_s == (step if step is None else pytest.approx(step))


def test_frames_of_scanimage_keep_their_times(tmp_path: Path) -> None:
    path = tmp_path / "m.tif"
    scanimage(path, volumes=12, channels=2)
    about = about_movie(path, 12, Part(channel="1"))
    assert about.times_s == pytest.approx([n / 30 for n in range(12)], abs=1e-5)
    assert about.increment_s == pytest.approx(1 / 30, abs=1e-5)
    assert about_movie(path, 24).times_s is None  # of pages that are not those that are read


def prairie_xml(cycles: int, frames: int, kind: str, period_s: float = 0.25) -> str:
    """Return the XML of Prairie View with frames at even times."""
    told = ""
    for c in range(cycles):
        told += f'<Sequence type="{kind}" cycle="{c + 1}">'
        for n in range(frames):
            at = (c * frames + n) * period_s
            file = f"T_Cycle{c + 1:05d}_Ch2_{n + 1:06d}.tif"
            told += f'<Frame relativeTime="{n * period_s}" absoluteTime="{3.5 + at}" index="{n + 1}">'
            told += f'<File channel="2" filename="{file}"/></Frame>'
        told += "</Sequence>"
    return (
        f'<?xml version="1.0"?><PVScan version="5.5"><PVStateShard><PVStateValue key="framePeriod" '
        f'value="{period_s}"/><PVStateValue key="micronsPerPixel"> <IndexedValue index="XAxis" value="1.18"/>'
        f'<IndexedValue index="YAxis" value="1.2"/></PVStateValue></PVStateShard>{told}</PVScan>'
    )


@pytest.mark.parametrize(
    ("cycles", "frames", "kind", "plane", "step"),
    [(1, 12, "TSeries Timed Element", None, 0.25), (12, 3, "TSeries ZSeries Element", "1", 0.75)],
)
def test_prairie_view_tells_times_and_pixel_size(
    tmp_path: Path, cycles: int, frames: int, kind: str, plane: str | None, step: float
) -> None:
    (tmp_path / "T.xml").write_text(prairie_xml(cycles, frames, kind))
    for c in range(cycles):
        for n in range(frames):
            name = f"T_Cycle{c + 1:05d}_Ch2_{n + 1:06d}.tif"
            tifffile.imwrite(tmp_path / name, movie_of_noise()[0], metadata=None)
    about = about_movie(tmp_path, 12, Part(plane=plane))
    assert about.times_s == pytest.approx([step * n for n in range(12)])
    assert (about.pixel_size_um, about.increment_s) == (1.18, pytest.approx(step))
    about = about_movie(tmp_path / "T_Cycle00001_Ch2_000001.tif", 1, Part(plane=plane))
    assert (about.times_s, about.increment_s) == (None, pytest.approx(step))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("cut", [False, True])
def test_metadata_beside_images_of_micro_manager_are_kept(tmp_path: Path, version: int, cut: bool) -> None:
    about: dict[str, Any] = {"Summary": {"ChNames": ["GFP", "RFP"], "PixelSize_um": 0.65, "Interval_ms": 90}}
    for t, frame in enumerate(movie_of_noise()):
        for c, name in enumerate(("GFP", "RFP")):
            file = f"img_{t:09d}_{name}_000.tif"
            tifffile.imwrite(tmp_path / file, frame, metadata=None)
            key = f"FrameKey-{t}-{c}-0" if version == 1 else f"Metadata-Default/{file}"
            about[key] = {"ElapsedTime-ms": 100.0 * t + c, "Exposure-ms": 20.0 * (c + 1)}
    text = json.dumps(about, indent=1)
    (tmp_path / "metadata.txt").write_text(text.rstrip()[:-1].rstrip() + "," if cut else text)
    told = about_movie(tmp_path, 12, Part(channel="RFP"))
    assert told.times_s == pytest.approx([0.1 * t for t in range(12)])
    assert (told.pixel_size_um, told.exposure_s, told.channel) == (0.65, 0.04, "RFP")


def test_metadata_beside_images_are_not_those_of_other_files(tmp_path: Path) -> None:
    about: dict[str, Any] = {"Summary": {"ChNames": ["GFP", "RFP"], "PixelSize_um": 0.65, "Interval_ms": 90}}
    for t in range(12):
        name = f"img_{t:09d}_RFP_000.tif"
        tifffile.imwrite(tmp_path / name, movie_of_noise()[t], metadata=None)
        about[f"FrameKey-{t}-0-0"] = {"ElapsedTime-ms": 100.0 * t, "Exposure-ms": 20.0}
        about[f"FrameKey-{t}-1-0"] = {"ElapsedTime-ms": 100.0 * t, "Exposure-ms": 40.0, "FileName": name}
    (tmp_path / "metadata.txt").write_text(json.dumps(about))
    for name in ("another.tif", "000.tif"):  # the second is the end of a name that is told
        tifffile.imwrite(tmp_path / name, movie_of_noise(), metadata=None)
        other = about_movie(tmp_path / name, 12)
        assert (other.times_s, other.pixel_size_um, other.increment_s, other.exposure_s) == (None,) * 4
    one = about_movie(tmp_path / "img_000000003_RFP_000.tif", 1)
    assert (one.pixel_size_um, one.channel, one.exposure_s) == (
        0.65,
        None,
        None,
    )  # not those of the first image


def test_images_of_thorimage_keep_what_its_xml_tells(tmp_path: Path) -> None:
    write_thorlabs(tmp_path / "thor", movie_of_noise()[:, None, None])
    (raw,) = (tmp_path / "thor").glob("*.raw")
    raw.unlink()
    for t, frame in enumerate(movie_of_noise()):
        tifffile.imwrite(tmp_path / "thor" / f"ChanA_0001_0001_0001_{t + 1:04d}.tif", frame, metadata=None)
    about = about_movie(tmp_path / "thor", 12)
    assert (about.pixel_size_um, about.increment_s) == (pytest.approx(0.65), pytest.approx(1 / 30))
