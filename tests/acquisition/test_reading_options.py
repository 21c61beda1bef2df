"""Options that choose a movie from a file: every command takes them, and reads the same pixels and facts."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from denoscope.acquisition import SourceInfo
from denoscope.acquisition.errors import SourceUnavailable
from denoscope.acquisition.sources import Part, open_source
from denoscope.acquisition.sources.growing.watch import WatchSource
from denoscope.runtime import InvalidInput, open_movie
from denoscope.runtime.movies import opening
from denoscope.runtime.movies.pick import Wanted
from support.micro_manager_stack import stack_steps

from .conftest import Run

LENGTH, CHANNELS, PLANES, H, W = 6, 2, 3, 40, 48
EVERY = (
    np.random.default_rng(0).integers(0, 4000, (2, LENGTH, CHANNELS, PLANES, H, W)).astype(np.uint16)
)  # (P, T, C, Z, H, W)
FLAT = EVERY[0, :, :, 0].reshape(-1, H, W)
TIME_LAST = np.ascontiguousarray(np.moveaxis(EVERY[0, :, 0, 0], 0, -1))

Write = Callable[[Path], Path]


def write_ome(folder: Path) -> Path:
    sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.5, "PhysicalSizeYUnit": "µm"}
    about = {"axes": "TCZYX", "Channel": {"Name": ["GCaMP", "mCherry"]}, "TimeIncrement": 0.1, **sizes}
    with tifffile.TiffWriter(folder / "m.ome.tif") as tiff:
        for position in EVERY:
            tiff.write(position, metadata=about, photometric="minisblack")
    return folder / "m.ome.tif"


def write_imagej(folder: Path) -> Path:
    tifffile.imwrite(
        folder / "ij.tif",
        EVERY[0].transpose(0, 2, 1, 3, 4),
        imagej=True,
        metadata={"axes": "TZCYX", "unit": "um"},
        resolution=(2, 2),
    )
    return folder / "ij.tif"


def write_plain(folder: Path, name: str = "plain.tif") -> Path:
    tifffile.imwrite(folder / name, FLAT, photometric="minisblack", bigtiff=name.endswith(".btf"))
    return folder / name


def write_images(folder: Path) -> Path:
    (folder / "images").mkdir()
    for t in range(LENGTH):
        for c in range(CHANNELS):
            tifffile.imwrite(folder / "images" / f"img_T{t:03d}_C{c}.tif", EVERY[0, t, c, 0])
    return folder / "images"


def write_zarr(folder: Path) -> Path:
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(str(folder / "m.zarr"), mode="w", zarr_format=2)
    group.create_array("0", data=EVERY[0], chunks=(1, 1, 1, H, W))
    units = {"t": "second", "y": "micrometer", "x": "micrometer"}
    axes = [{"name": n, **({"unit": units[n]} if n in units else {})} for n in "tczyx"]
    scale = [{"type": "scale", "scale": [0.1, 1, 1, 0.5, 0.5]}]
    image = {"version": "0.4", "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    names = [{"label": "GCaMP"}, {"label": "mCherry"}]
    group.attrs.update({"multiscales": [image], "omero": {"channels": names}})
    return folder / "m.zarr"


def write_npy(folder: Path) -> Path:
    np.save(folder / "last.npy", TIME_LAST)
    return folder / "last.npy"


def write_hdf5(folder: Path) -> Path:
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "m.h5", "w") as file:
        file["movie"] = EVERY[0, :, :, 0]
    return folder / "m.h5"


CASES: list[tuple[Write, dict[str, Any], tuple[int, int, int], bool]] = [
    (write_ome, {"channel": "mCherry", "plane": "1", "position": "1"}, (1, 1, 1), True),
    (write_imagej, {"channel": "1", "plane": "2"}, (0, 1, 2), True),
    (write_plain, {"interleaved": 2, "channel": "1"}, (0, 1, 0), True),
    (lambda folder: write_plain(folder, "m.btf"), {"interleaved": 2, "channel": "0"}, (0, 0, 0), True),
    (write_images, {"channel": "C1"}, (0, 1, 0), True),
    (write_zarr, {"channel": "mCherry", "plane": "2"}, (0, 1, 2), True),
    (write_npy, {"axes": "YXT"}, (0, 0, 0), False),
    (write_hdf5, {"axes": "TCYX", "channel": "1"}, (0, 1, 0), False),
]
NAMES = ["ome", "imagej", "interleaved", "btf", "images", "zarr", "npy", "hdf5"]


def received(core: str, part: Part) -> tuple[npt.NDArray[Any], SourceInfo]:
    """Return all frames that a source gives, and what it says of them."""
    source = open_source(core, fps=5000.0, idle_s=0.4, part=part)
    info = source.open()
    source.start()
    frames = []
    while not source.finished():
        if (frame := source.pop()) is None:
            time.sleep(0.001)
        else:
            frames.append(np.array(frame.pixels))
    source.close()
    return np.array(frames), info


@pytest.mark.parametrize(("write", "options", "place", "grows"), CASES, ids=NAMES)
def test_sources_and_files_read_the_same_pixels(
    tmp_path: Path, write: Write, options: dict[str, Any], place: tuple[int, int, int], grows: bool
) -> None:
    path = write(tmp_path)
    position, channel, plane = place
    expected = EVERY[position, :, channel, plane]
    np.testing.assert_array_equal(np.asarray(open_movie(path, mapped=False, **options)), expected)
    np.testing.assert_array_equal(received(f"replay:{path}", Part(**options))[0], expected)
    if grows:
        np.testing.assert_array_equal(received(f"watch:{path}", Part(**options))[0], expected)
    else:
        with pytest.raises(InvalidInput, match=r"is for complete files"):
            received(f"watch:{path}", Part(**options))


@pytest.mark.parametrize(
    ("write", "channel"), [(write_ome, "mCherry"), (write_imagej, None), (write_zarr, "mCherry")]
)
def test_a_replayed_file_keeps_pixel_size_and_channel(
    tmp_path: Path, write: Write, channel: str | None
) -> None:
    position = "1" if write is write_ome else None
    source = open_source(f"replay:{write(tmp_path)}", part=Part(channel="1", plane="1", position=position))
    info = source.open()
    source.close()
    assert info.pixel_size_um == pytest.approx(0.5)
    assert info.channel == channel


COMMANDS = {
    "denoise": ["MOVIE", "--output", "OUT.ome.tif"],
    "train": ["MOVIE", "--output", "OUT.denoscope", "--minutes", "0.1"],
    "evaluate": ["--movie", "MOVIE", "--bundle", "live-fast", "--output", "OUT"],
    "live": ["--core", "replay:MOVIE", "--bundle", "live-fast", "--output", "OUT"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_hands_on_every_option(
    denoscope: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    asked = []

    def spy(path: Path, wanted: Wanted, limit_bytes: int) -> None:
        asked.append(wanted)
        raise InvalidInput("seen")

    monkeypatch.setattr(opening, "_open", spy)
    path = write_plain(tmp_path)
    words = [
        each.replace("MOVIE", str(path)).replace("OUT", str(tmp_path / "out")) for each in COMMANDS[command]
    ]
    chosen = ["--channel", "1", "--plane", "0", "--position", "0", "--interleaved", "2", "--axes", "TYX"]
    run = denoscope(command, *words, *chosen)
    assert run.returncode == 2, run.stderr
    assert asked == [Wanted("1", "0", "0", 2, "TYX")] * len(asked)
    assert asked


def test_a_folder_of_arrays_is_refused_at_once(tmp_path: Path) -> None:
    for t in range(LENGTH):
        np.save(tmp_path / f"img_{t:04d}.npy", FLAT[t])
    source = open_source(f"watch:{tmp_path}")
    with pytest.raises(InvalidInput, match=r"holds 6 \.npy files, which cannot be watched"):
        source.open()


@pytest.mark.parametrize("suffix", [".mat", ".avi", ".h5"])
def test_files_of_earlier_trials_do_not_keep_a_folder_from_being_watched(tmp_path: Path, suffix: str) -> None:
    for trial in range(LENGTH):
        (tmp_path / f"trial_{trial}{suffix}").write_bytes(b"of another program")
    with pytest.raises(SourceUnavailable, match="no complete frame appeared"):  # it waits
        WatchSource(tmp_path, start_s=0.1).open()
    tifffile.imwrite(tmp_path / "img_0000.tif", FLAT[0])
    assert received(f"watch:{tmp_path}", Part())[0].shape == (1, H, W)


def test_a_channel_that_never_comes_is_said_once_nothing_changes(tmp_path: Path) -> None:
    source = open_source(f"watch:{write_plain(tmp_path)}", idle_s=0.4, part=Part(channel="1"))
    with pytest.raises(InvalidInput, match=r"none of the wanted `channel` 1: there is channel `0`"):
        source.open()


@pytest.mark.parametrize("steps", [4 + 2 * 7, 4 + 2 * 7 + 1, 4 + 2 * 4 + 1])
@pytest.mark.parametrize("channel", [0, 1])
def test_a_stack_whose_recording_was_killed_is_read_to_its_last_whole_frame(
    tmp_path: Path, steps: int, channel: int
) -> None:
    """Two steps write the head of a Micro-Manager stack after two that make the file, and two each page."""
    path = tmp_path / "rec_MMStack_Pos0.ome.tif"
    frames = [
        ({"channel": c, "slice": 0, "frame": t, "position": 0}, EVERY[0, t, c, 0])
        for t in range(LENGTH)
        for c in range(CHANNELS)
    ]
    summary = {"Channels": CHANNELS, "Frames": LENGTH, "Slices": 1}
    for step in stack_steps(path, frames, summary, ended=False, room=100_000)[:steps]:
        step()
    pages = (steps - 4) // 2
    expected = EVERY[0, : (pages + 1 - channel) // 2, channel, 0]
    part = Part(channel=str(channel))
    np.testing.assert_array_equal(np.asarray(open_movie(path, channel=channel)), expected)
    np.testing.assert_array_equal(received(f"replay:{path}", part)[0], expected)
    np.testing.assert_array_equal(received(f"watch:{path}", part)[0], expected)
    with pytest.raises(InvalidInput, match="2 channels"):
        open_movie(path)
