"""Files that other software is writing, and files that are replayed."""

from __future__ import annotations

import io
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from denoscope.acquisition import Source, SourceFailed, SourceUnavailable, open_source, read_raw
from denoscope.acquisition.contracts import Frame
from denoscope.acquisition.denoisers.routing import Routes
from denoscope.acquisition.session.settings import make_settings
from denoscope.acquisition.sources import Part
from denoscope.acquisition.sources.file import FileSource
from denoscope.acquisition.sources.growing.tails import Tail, natural, open_tail
from denoscope.acquisition.sources.growing.watch import STOP_SUFFIX, WatchSource
from denoscope.acquisition.testing import Movie, SourceContract, numbered_frames, pop_all
from denoscope.runtime import InvalidInput
from support.plain_results import live
from support.races import Race, interleaved
from support.recordings import interleaved_pages, named_images, scanimage, turn

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Writer = Callable[[Path, Movie, Callable[[], None]], None]


def big_tiff(path: Path, frames: Movie, between: Callable[[], None]) -> None:
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for frame in frames:
            writer.write(frame, photometric="minisblack", contiguous=False, metadata=None)
            between()


def compressed_tiff(path: Path, frames: Movie, between: Callable[[], None]) -> None:
    with tifffile.TiffWriter(path, byteorder=">") as writer:
        for frame in frames:
            writer.write(
                frame,
                photometric="minisblack",
                compression="zlib",
                tile=(16, 16),
                contiguous=False,
                metadata=None,
            )
            between()


def in_pieces(path: Path, frames: Movie, between: Callable[[], None], **options: Any) -> None:
    """Write a file byte by byte as a slow disk would: torn inside of tags, strips and pointers."""
    memory = io.BytesIO()
    tifffile.imwrite(memory, frames, photometric="minisblack", **options)
    data = memory.getvalue()
    cuts = [0, 7, 15, 50, *sorted(np.random.default_rng(1).integers(51, len(data), 40).tolist()), len(data)]
    with path.open("wb", buffering=0) as file:
        for start, stop in pairwise(cuts):
            file.write(data[start:stop])
            between()


def image_j(path: Path, frames: Movie, between: Callable[[], None]) -> None:
    in_pieces(path, frames, between, imagej=True)


def pages_in_pieces(path: Path, frames: Movie, between: Callable[[], None]) -> None:
    memory = io.BytesIO()
    with tifffile.TiffWriter(memory) as writer:
        for frame in frames:
            writer.write(frame, photometric="minisblack", contiguous=False, metadata=None)
    data = memory.getvalue()
    with path.open("wb", buffering=0) as file:
        for start in range(0, len(data), 911):
            file.write(data[start : start + 911])
            between()


def numbered(path: Path, frames: Movie, between: Callable[[], None]) -> None:
    path.mkdir()
    for number, frame in enumerate(frames):
        tifffile.imwrite(path / f"img_{number}.tif", frame, photometric="minisblack")
        between()


def stacks(path: Path, frames: Movie, between: Callable[[], None]) -> None:
    path.mkdir()
    for number in range(0, len(frames), 5):
        big_tiff(path / f"stack_{number}.tiff", frames[number : number + 5], between)


def nd_tiff(path: Path, frames: Movie, between: Callable[[], None]) -> None:
    storage = pytest.importorskip("ndstorage")
    path.parent.mkdir(exist_ok=True)
    with redirect_stdout(io.StringIO()):
        dataset = storage.NDTiffDataset(str(path.parent), name=path.name, writable=True)
        dataset.initialize({})
        for number, frame in enumerate(frames):
            dataset.put_image({"time": number}, frame, {"Axes": {"time": number}, "Camera": "Cam"})
            between()
        dataset.finish()
        dataset.close()


def _zarr(path: Path, frames: Movie, between: Callable[[], None], *, version: int, grows: bool) -> None:
    zarr = pytest.importorskip("zarr")
    axes = [{"name": name, "type": "time" if name == "t" else "space"} for name in "tyx"]
    scale = [{"axes": axes, "datasets": [{"path": "0"}], "version": "0.4"}]
    group = zarr.open_group(str(path), mode="w", zarr_format=version)
    group.attrs.update(
        {"ome": {"version": "0.5", "multiscales": scale}} if version == 3 else {"multiscales": scale}
    )
    array = group.create_array(
        "0",
        shape=(0 if grows else len(frames) + 3, *frames.shape[1:]),
        chunks=(1, 16, 16),
        dtype=frames.dtype,
    )
    for number, frame in enumerate(frames):
        if grows:
            array.resize((number + 1, *frames.shape[1:]))
        array[number] = frame
        between()


def zarr_04(path: Path, frames: Movie, between: Callable[[], None]) -> None:
    _zarr(path, frames, between, version=2, grows=True)


def zarr_05(path: Path, frames: Movie, between: Callable[[], None]) -> None:
    _zarr(path, frames, between, version=3, grows=False)


WRITERS: dict[str, tuple[str, Writer]] = {
    "big_tiff": ("movie.tif", big_tiff),
    "compressed_tiff": ("movie.tif", compressed_tiff),
    "pages_in_pieces": ("movie.tif", pages_in_pieces),
    "image_j": ("movie.tif", image_j),
    "numbered": ("images", numbered),
    "stacks": ("stacks", stacks),
    "nd_tiff": ("acq/data", nd_tiff),
    "zarr_04": ("movie.ome.zarr", zarr_04),
    "zarr_05": ("movie.ome.zarr", zarr_05),
}


def place_of(name: str, folder: Path) -> tuple[Path, Path]:
    """Return where the writer writes, and what is to be watched."""
    target = folder / WRITERS[name][0]
    return target, (target.with_name("data_1") if name == "nd_tiff" else target)


def finished(watched: Path) -> None:
    """End the watching: waiting for a pause would be longer, and end too early on a busy computer."""
    watched.with_name(watched.name + STOP_SUFFIX).touch()


class Written:
    """A thread that writes frames, with a pause after each step, and says at the end that there are no more."""

    def __init__(self, name: str, target: Path, watched: Path, frames: Movie, pause_s: float) -> None:
        self.error: BaseException | None = None

        def write() -> None:
            try:
                WRITERS[name][1](target, frames, lambda: time.sleep(pause_s))
            except BaseException as error:  # noqa: BLE001  shown by the test that started it
                self.error = error
            finally:
                finished(watched)

        self._thread = threading.Thread(target=write)
        self._thread.start()

    def join(self) -> None:
        self._thread.join()
        if self.error is not None:
            raise self.error


# ndstorage leaves its own files open.
IGNORE = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@IGNORE
@pytest.mark.parametrize("name", WRITERS)
def test_every_frame_of_a_growing_file_comes_once_and_whole(tmp_path: Path, name: str) -> None:
    frames = numbered_frames(23)
    target, watched = place_of(name, tmp_path)
    source = WatchSource(watched, idle_s=60, start_s=20)
    writer = Written(name, target, watched, frames, 0.015)
    try:
        info = source.open()
        assert (info.shape, info.dtype) == ((24, 32), np.uint16)
        source.start()
        popped = pop_all(source)
    finally:
        writer.join()
        source.close()
    np.testing.assert_array_equal([frame.pixels for frame in popped], frames)
    assert [frame.number for frame in popped] == list(range(len(frames)))
    assert source.notes() == []
    if name == "nd_tiff":
        assert [frame.tags["Axes"] for frame in popped] == [{"time": t} for t in range(len(frames))]
        assert {frame.camera for frame in popped} == {"Cam"}


class _WatchContract(SourceContract):
    name = ""

    def make(self, frames: Movie, folder: Path) -> Source:
        target, watched = place_of(self.name, folder)
        WRITERS[self.name][1](target, frames, lambda: None)
        return WatchSource(watched, idle_s=0.3, start_s=20)

    def make_absent(self, folder: Path) -> Source:
        return WatchSource(folder / "absent.tif", start_s=0.2)


class TestWatchTiff(_WatchContract):
    name = "big_tiff"


class TestWatchFolder(_WatchContract):
    name = "numbered"


@IGNORE
class TestWatchNDTiff(_WatchContract):
    name = "nd_tiff"


class TestWatchZarr(_WatchContract):
    name = "zarr_05"


class TestReplay(SourceContract):
    def make(self, frames: Movie, folder: Path) -> Source:
        tifffile.imwrite(folder / "movie.tif", frames, photometric="minisblack")
        return FileSource(folder / "movie.tif", fps=2000)

    def make_absent(self, folder: Path) -> Source:
        return FileSource(folder / "absent.tif", fps=10)


@IGNORE
@pytest.mark.parametrize("name", ["big_tiff", "image_j", "numbered", "nd_tiff", "zarr_04"])
def test_replay_of_every_format(tmp_path: Path, name: str) -> None:
    frames = numbered_frames(9)
    target, written = place_of(name, tmp_path)
    WRITERS[name][1](target, frames, lambda: None)
    source = open_source(f"replay:{written}", fps=5000)
    assert source.open().frames == len(frames)
    source.start()
    np.testing.assert_array_equal([frame.pixels for frame in pop_all(source)], frames)
    source.close()


def test_replay_keeps_its_rate_and_starts_again(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "movie.tif", numbered_frames(10).astype(np.int16), photometric="minisblack")
    source = FileSource(tmp_path / "movie.tif", fps=100, frames=25)
    assert source.open().dtype == np.int16
    source.start()
    popped = pop_all(source)
    source.close()
    assert [int(frame.pixels[0, 0]) for frame in popped] == [*range(10), *range(10), *range(5)]
    took_s = popped[-1].t_received_s - popped[0].t_received_s
    assert took_s >= 0.239


@pytest.mark.parametrize("dtype", ["int16", "float32", "uint8"])
@pytest.mark.parametrize("kind", ["replay", "watch"])
def test_every_kind_of_pixel_is_recorded_as_it_is(
    tmp_path: Path, bundle: Path, kind: str, dtype: str
) -> None:
    frames = (numbered_frames(12, (32, 40)).astype(np.float64) / 20 - (0 if dtype == "uint8" else 60)).astype(
        dtype
    )
    tifffile.imwrite(tmp_path / "movie.tif", frames, photometric="minisblack")
    values: dict[str, Any] = {
        "fps": 500,
        "idle_s": 0.3,
        "denoiser": "thread",
        "picture": False,
        "finish_s": 20,
    }
    report = live(
        make_settings(
            core=f"{kind}:{tmp_path / 'movie.tif'}", output=tmp_path / "run", bundle=str(bundle), **values
        )
    )
    assert report["outcome"]["exit_code"] == 0
    raw = tifffile.imread(tmp_path / "run" / "raw.tif")
    assert raw.dtype == frames.dtype
    np.testing.assert_array_equal(raw, frames)
    assert tifffile.imread(tmp_path / "run" / "denoised.ome.tif").dtype == frames.dtype


def watched(path: Path, **part: Any) -> list[Frame]:
    source = WatchSource(path, idle_s=0.3, start_s=20, part=Part(**part))
    try:
        source.open()
        source.start()
        return pop_all(source)
    finally:
        source.close()


def streams_of(frames: list[Frame]) -> dict[Any, npt.NDArray[Any]]:
    routes, found = Routes(), {}
    for frame in frames:
        route = routes.of(frame)
        assert route is not None
        assert route.change is None
        found.setdefault((route.key.channel, route.key.z, route.key.position), []).append(frame.pixels)
    return {key: np.array(pixels) for key, pixels in found.items()}


@pytest.mark.parametrize(
    "pattern",
    [
        "{i:05d}_t{t:04d}_c{c:02d}.tif", "img_channel{c:03d}_position000_time{t:09d}_z000.tif",
        "TSeries-001_Cycle00001_Ch{c}_{t:06d}.tif", "img_{t:09d}_{word}_000.tif", "{word}_{t:03d}.tif",
    ],
)  # fmt: skip
def test_channels_in_names_are_streams_of_their_own(tmp_path: Path, pattern: str) -> None:
    movie = named_images(tmp_path / "images", pattern)
    found = list(streams_of(watched(tmp_path / "images")).values())
    assert len(found) == 2
    for channel, pixels in enumerate(found):
        np.testing.assert_array_equal(pixels, movie[:, channel])
    chosen = watched(tmp_path / "images", channel="1")
    np.testing.assert_array_equal([frame.pixels for frame in chosen], movie[:, 1])


def test_two_stacks_that_grow_side_by_side(tmp_path: Path) -> None:
    movie = turn(12, 2, size=24)
    folder = tmp_path / "stacks"
    folder.mkdir()
    source = WatchSource(folder, idle_s=60, start_s=20)
    with tifffile.TiffWriter(folder / "x_Ch1.tif") as one, tifffile.TiffWriter(folder / "x_Ch2.tif") as two:
        popped: list[Frame] = []
        for t in range(12):
            for c, writer in enumerate((one, two)):
                writer.write(movie[t, c], photometric="minisblack", contiguous=False, metadata=None)
            if t == 3:
                source.open()
                source.start()
            if t > 3:
                popped += filter(None, (source.pop() for _ in range(4)))
                time.sleep(0.02)
    finished(folder)
    popped += pop_all(source)
    source.close()
    found = list(streams_of(popped).values())
    assert source.notes() == []
    np.testing.assert_array_equal(np.stack(found, axis=1), movie)


def test_scanimage_pages_are_told_apart(tmp_path: Path) -> None:
    movie = scanimage(tmp_path / "s.tif", channels=2, planes=2, flyback=1)
    found = streams_of(watched(tmp_path / "s.tif"))
    assert (
        sorted(len(pixels) for pixels in found.values()) == [5] * 6
    )  # two of them show the scanner's way back
    np.testing.assert_array_equal(found["Channel 3", 1, 0], movie[:, 1, 1])
    chosen = watched(tmp_path / "s.tif", channel="Channel 1", plane="0")
    np.testing.assert_array_equal([frame.pixels for frame in chosen], movie[:, 0, 0])


@pytest.mark.parametrize("options", [{"ome": True}, {}])
def test_channels_that_the_description_knows(tmp_path: Path, options: dict[str, Any]) -> None:
    movie = turn(5, 2)
    tifffile.imwrite(
        tmp_path / "m.tif", movie, photometric="minisblack", metadata={"axes": "TCYX"}, **options
    )
    found = list(streams_of(watched(tmp_path / "m.tif")).values())
    np.testing.assert_array_equal(np.stack(found, axis=1), movie)


def test_interleaved_channels(tmp_path: Path) -> None:
    movie = interleaved_pages(tmp_path / "m.tif", 2)
    found = list(streams_of(watched(tmp_path / "m.tif", interleaved=2)).values())
    np.testing.assert_array_equal(np.stack(found, axis=1), movie)
    source = open_source(f"replay:{tmp_path / 'm.tif'}", fps=5000, part=Part(channel="1", interleaved=2))
    source.open()
    source.start()
    np.testing.assert_array_equal([frame.pixels for frame in pop_all(source)], movie[:, 1])
    source.close()


def test_a_watched_zarr_that_leaves_its_folder(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    zarr.create_array(str(tmp_path / "secret"), shape=(3, 24, 32), chunks=(1, 24, 32), dtype="uint16")[:] = 1
    group = zarr.open_group(str(tmp_path / "m.zarr"), mode="w", zarr_format=3)
    scale = {"axes": [{"name": n} for n in "tyx"], "datasets": [{"path": "../secret"}]}
    group.attrs.update({"ome": {"version": "0.5", "multiscales": [scale]}})
    with pytest.raises(InvalidInput, match="outside itself"):
        watched(tmp_path / "m.zarr")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_are_not_watched(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.tif")
    with pytest.raises(InvalidInput, match="a pipe or a device"):
        watched(tmp_path / "m.tif")
    frames = numbered_frames(3)
    numbered(tmp_path / "images", frames, lambda: None)
    os.mkfifo(tmp_path / "images" / "img_1000.tif")
    np.testing.assert_array_equal([frame.pixels for frame in watched(tmp_path / "images")], frames)


def test_a_camera_has_no_part(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="`channel` 1 chooses from a recorded or growing movie"):
        open_source("MMConfig_demo.cfg", part=Part(channel="1"))


def test_a_stop_file_ends_it(tmp_path: Path) -> None:
    big_tiff(tmp_path / "movie.tif", numbered_frames(6), lambda: None)
    (tmp_path / "movie.tif.stop").touch()
    source = WatchSource(tmp_path / "movie.tif", idle_s=1000)
    source.open()
    source.start()
    assert len(pop_all(source)) == 6
    source.close()


def test_a_last_page_that_is_never_completed_is_said(tmp_path: Path) -> None:
    big_tiff(tmp_path / "whole.tif", numbered_frames(6), lambda: None)
    data = (tmp_path / "whole.tif").read_bytes()
    (tmp_path / "movie.tif").write_bytes(data[:-300])
    source = WatchSource(tmp_path / "movie.tif", idle_s=0.6)
    source.open()
    source.start()
    assert len(pop_all(source)) == 5
    assert "never completed" in source.notes()[0]
    source.close()


def test_a_frame_that_was_never_written_to_a_zarr_is_a_gap(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    frames = numbered_frames(8)
    array = zarr.create_array(
        str(tmp_path / "a.zarr"), shape=frames.shape, chunks=(1, 24, 32), dtype="uint16"
    )
    for number in (0, 1, 2, 4, 5):
        array[number] = frames[number]
    source = WatchSource(tmp_path / "a.zarr", idle_s=0.6)
    source.open()
    source.start()
    assert [frame.number for frame in pop_all(source)] == [0, 1, 2, 4, 5]
    source.close()


def _zarr_with_half_a_chunk(path: Path, frames: Movie, at: int) -> tuple[Path, bytes]:
    """Write a Zarr array of one chunk a frame, one of which is cut; return that one's file and its bytes."""
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array(str(path), shape=frames.shape, chunks=(1, 24, 32), dtype="uint16")
    array[:] = frames
    chunk = path / array.metadata.encode_chunk_key((at, 0, 0))
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[: len(whole) // 2])
    return chunk, whole


@pytest.mark.parametrize("at", [0, 2, 5])
def test_a_half_written_chunk_of_a_zarr_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    frames = numbered_frames(6)
    chunk, whole = _zarr_with_half_a_chunk(tmp_path / "a.zarr", frames, at)
    now_s = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now_s
        if now_s <= 3.0 < now_s + seconds:  # long after it looked settled, long before the end
            chunk.write_bytes(whole)
        now_s += seconds

    clock = type("Clock", (), {"perf_counter": lambda: now_s, "sleep": sleep})
    monkeypatch.setattr("denoscope.acquisition.sources.growing.watch.time", clock)
    source = WatchSource(tmp_path / "a.zarr", idle_s=10)
    source.open()
    source.start()
    popped = []
    while not source.finished():
        if (frame := source.pop()) is None:
            sleep(0.1)
        else:
            popped.append(frame)
    source.close()
    np.testing.assert_array_equal([frame.pixels for frame in popped], frames)
    assert source.notes() == []


@pytest.mark.parametrize("at", [2, 5])
def test_a_chunk_of_a_zarr_that_stays_half_written_is_said_at_the_end(tmp_path: Path, at: int) -> None:
    _zarr_with_half_a_chunk(tmp_path / "a.zarr", numbered_frames(6), at)
    source = WatchSource(tmp_path / "a.zarr", idle_s=0.6)
    source.open()
    source.start()
    popped: list[Frame] = []

    def read_all() -> None:
        while not source.finished():
            popped.extend(frame for frame in [source.pop()] if frame is not None)

    if at == 5:
        read_all()
        assert "the last frame of a.zarr was never completed" in source.notes()[0]
    else:
        with pytest.raises(InvalidInput, match="of plane 2: it is damaged, and the planes after it"):
            read_all()
    assert len(popped) == at
    source.close()


def test_channels_of_an_image_j_hyperstack_are_told_apart(tmp_path: Path) -> None:
    frames = numbered_frames(12).reshape(3, 2, 2, 24, 32)
    tifffile.imwrite(tmp_path / "movie.tif", frames, imagej=True, metadata={"axes": "TZCYX"})
    source = WatchSource(tmp_path / "movie.tif", idle_s=0.5)
    source.open()
    source.start()
    popped = pop_all(source)
    source.close()
    assert [tuple(frame.tags["Axes"].values()) for frame in popped] == [
        (t, z, c) for t in range(3) for z in range(2) for c in range(2)
    ]
    np.testing.assert_array_equal([frame.pixels for frame in popped], frames.reshape(12, 24, 32))


def test_late_files_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    numbered(folder, numbered_frames(4), lambda: None)
    (folder / "img_1.tif").rename(tmp_path / "img_1.tif")
    source = WatchSource(folder, idle_s=0.8)
    source.open()
    source.start()
    assert [int(frame.pixels[0, 0]) for frame in pop_all(source, most=2)] == [0, 2]
    (tmp_path / "img_1.tif").rename(folder / "img_1.tif")
    assert [int(frame.pixels[0, 0]) for frame in pop_all(source)] == [3]
    assert "1 file of" in source.notes()[0]
    source.close()


@pytest.mark.skipif(os.name == "nt", reason="Windows does not remove a file that is open")
def test_a_folder_that_vanishes_is_said(tmp_path: Path) -> None:
    numbered(tmp_path / "images", numbered_frames(3), lambda: None)
    source = WatchSource(tmp_path / "images", idle_s=30)
    source.open()
    source.start()
    pop_all(source, most=3)
    for each in (tmp_path / "images").iterdir():
        each.unlink()
    (tmp_path / "images").rmdir()
    with pytest.raises(SourceFailed, match="cannot be read any more after 3 frames"):
        pop_all(source)
    source.close()


@IGNORE
@pytest.mark.parametrize("name", ["zarr_04", "zarr_05", "numbered"])
def test_a_folder_may_be_removed_and_made_again_before_the_first_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    frames = numbered_frames(3)
    target, watched = place_of(name, tmp_path)
    watched.mkdir()

    def made_again_meanwhile(path: Path) -> Tail | None:
        tail = open_tail(path)
        monkeypatch.undo()
        watched.rmdir()
        writer.append(threading.Timer(0.05, WRITERS[name][1], (target, frames, lambda: None)))
        writer[0].start()
        return tail

    writer: list[threading.Timer] = []
    monkeypatch.setattr("denoscope.acquisition.sources.growing.watch.open_tail", made_again_meanwhile)
    source = WatchSource(watched, idle_s=0.5, start_s=20)
    source.open()
    writer[0].join()
    source.start()
    np.testing.assert_array_equal([frame.pixels for frame in pop_all(source)], frames)
    source.close()


def test_what_hinders_looking_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(path: Path) -> Tail | None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("denoscope.acquisition.sources.growing.watch.open_tail", locked)
    source = WatchSource(tmp_path / "movie.tif", start_s=0.05)
    with pytest.raises(
        SourceUnavailable, match=r"within 0.05 s \(the last look ended with: .*Permission denied"
    ):
        source.open()
    source.close()


@pytest.mark.parametrize(
    ("content", "name", "error", "what"),
    [
        (b"no TIFF, but long enough", "movie.tif", InvalidInput, "no TIFF"),
        (b"", "movie.tif", SourceUnavailable, "no complete frame"),
        (b"anything", "movie.mp4", InvalidInput, "cannot be watched"),
    ],
)
def test_what_cannot_be_watched(
    tmp_path: Path, content: bytes, name: str, error: type[Exception], what: str
) -> None:
    (tmp_path / name).write_bytes(content)
    source = WatchSource(tmp_path / name, start_s=0.5)
    with pytest.raises(error, match=what):
        source.open()
    source.close()


def test_colour_and_wide_floats_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "rgb.tif", np.zeros((2, 20, 20, 3), np.uint8), photometric="rgb")
    tifffile.imwrite(tmp_path / "float.tif", np.zeros((2, 20, 20), np.float64), photometric="minisblack")
    with pytest.raises(InvalidInput, match="one channel"):
        WatchSource(tmp_path / "rgb.tif", start_s=1).open()
    with pytest.raises(InvalidInput, match="float64"):
        WatchSource(tmp_path / "float.tif", start_s=1).open()


def test_names_sort_as_people_do() -> None:
    names = ["img_10.tif", "img_9.tif", "a_NDTiffStack_2.tif", "a_NDTiffStack.tif", "a_NDTiffStack_10.tif"]
    assert sorted(names, key=natural) == [names[3], names[2], names[4], names[1], names[0]]


def test_live_on_a_growing_file(denoscope: Run, bundle: Path, tmp_path: Path) -> None:
    frames = numbered_frames(40, (32, 40))
    movie = tmp_path / "movie.tif"
    writer = Written("big_tiff", movie, movie, frames, 0.05)
    run = denoscope(
        *("live", "--core", f"watch:{movie}", "--idle-s", 60, "--bundle", bundle),
        *("--output", tmp_path / "run", "--denoiser", "thread", "--no-picture", "--json", "--quiet"),
    )
    writer.join()
    assert run.returncode == 0, run
    report = json.loads(run.stdout)
    assert report["frames"]["received"] == report["frames"]["denoised"] == 40
    np.testing.assert_array_equal(read_raw(tmp_path / "run").read(), frames)


def test_the_order_of_axes_is_for_complete_files(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.zeros((18, 20, 9), np.uint16))
    with pytest.raises(InvalidInput, match="`axes` YXT is for complete files"):
        open_source(f"watch:{tmp_path}", part=Part(axes="YXT")).open()
    source = open_source(f"replay:{tmp_path / 'm.npy'}", part=Part(axes="YXT"))
    assert source.open().shape == (18, 20)
    source.close()


@pytest.mark.parametrize("name", ["m.npy", "m.h5", "m.nd2", "m.avi"])
def test_a_file_that_can_never_be_watched_is_not_waited_for(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be watched while it grows"):
        open_source(f"watch:{tmp_path / name}").open()


@pytest.mark.parametrize("count", [2, 3])
def test_a_folder_of_files_that_can_never_be_watched_is_not_waited_for(tmp_path: Path, count: int) -> None:
    for number in range(count):
        (tmp_path / f"scan_{number}.NPY").write_bytes(b"anything")
    race = Race([], lambda _call: 0)
    error, said = (
        (InvalidInput, r"holds 3 \.npy files, which cannot be watched")
        if count == 3
        else (SourceUnavailable, "no complete frame")  # something that lies beside a movie
    )
    with interleaved(race), pytest.raises(error, match=said):
        WatchSource(tmp_path, start_s=60).open()
    assert (race.now_s > 1060) == (count == 2)


def test_a_channel_that_never_comes_is_not_waited_for_to_the_end(tmp_path: Path) -> None:
    big_tiff(tmp_path / "movie.tif", numbered_frames(3), lambda: None)
    race = Race([], lambda _call: 0)
    source = WatchSource(tmp_path / "movie.tif", idle_s=5, start_s=600, part=Part(channel="5"))
    with (
        interleaved(race),
        pytest.raises(InvalidInput, match=r"3 frames appeared .* none of the wanted `channel` 5"),
    ):
        source.open()
    assert 1005 < race.now_s < 1010


@pytest.mark.parametrize("ending", ["btf", "tf8", "TIF"])
def test_every_ending_of_tiff_is_watched(tmp_path: Path, ending: str) -> None:
    frames = numbered_frames(3)
    big_tiff(tmp_path / f"movie.{ending}", frames, lambda: None)
    source = WatchSource(tmp_path / f"movie.{ending}", idle_s=0.3, start_s=5)
    source.open()
    source.start()
    np.testing.assert_array_equal([frame.pixels for frame in pop_all(source)], frames)
    source.close()
