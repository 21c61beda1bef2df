"""Files that are watched while a writer goes on between any two calls of the reader."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import tifffile

from denoscope.acquisition import SourceFailed
from denoscope.acquisition.sources.growing import tails
from denoscope.acquisition.sources.growing.zarr_tail import ZarrTail
from denoscope.runtime.movies import check_regular
from support.races import Outcome, Race, Recorded, Step, cut, put, replace, run_race, whole_files

FRAMES = np.arange(1, 4 * 64 + 1, dtype=np.uint16).reshape(4, 8, 8)
Scenario = Callable[[Path], tuple[Path, list[Step]]]


def tiff_steps(path: Path, frames: Any = FRAMES, **options: Any) -> list[Step]:
    memory = Recorded(path)
    with tifffile.TiffWriter(memory, **options) as writer:
        for frame in frames:
            writer.write(frame, photometric="minisblack", contiguous=False, metadata=None)
    return memory.steps


def one_tiff(folder: Path) -> tuple[Path, list[Step]]:
    return folder / "movie.tif", tiff_steps(folder / "movie.tif", bigtiff=True)


def one_tiff_with_room(folder: Path) -> tuple[Path, list[Step]]:
    path = folder / "movie.tif"
    begin, *rest = tiff_steps(path)
    return path, [begin, lambda: cut(path, 20_000), *rest, lambda: cut(path, 4_000)]


def a_tiff_begun_twice(folder: Path) -> tuple[Path, list[Step]]:
    path = folder / "movie.tif"
    false_start: list[Step] = [
        lambda: put(path, 0, b""),
        lambda: put(path, 0, b"II*\0" + bytes(12)),
        path.unlink,
    ]
    return path, [*false_start, *tiff_steps(path)]


def a_tiff_emptied_first(folder: Path) -> tuple[Path, list[Step]]:
    path = folder / "movie.tif"
    old = b"II*\0\x10\0\0\0" + b"\xff" * 400
    return path, [lambda: put(path, 0, old), lambda: cut(path, 0), *tiff_steps(path)]


def a_tiff_renamed(folder: Path) -> tuple[Path, list[Step]]:
    partial, path = folder / "movie.tif.part", folder / "movie.tif"
    return path, [*tiff_steps(partial), lambda: replace(partial, path)]


def _images(folder: Path) -> list[bytes]:
    folder.mkdir()
    found = []
    for number, frame in enumerate(FRAMES):
        tifffile.imwrite(folder / f"img_{number}.tif", frame, photometric="minisblack")
        found.append((folder / f"img_{number}.tif").read_bytes())
    return found


def images(folder: Path, *, renamed: bool = False) -> tuple[Path, list[Step]]:
    _images(folder / "source")
    names = [f"img_{number}.tif" for number in range(len(FRAMES))]
    return folder / "images", whole_files(folder / "source", folder / "images", names, renamed=renamed)


def images_renamed(folder: Path) -> tuple[Path, list[Step]]:
    return images(folder, renamed=True)


def images_made_again(folder: Path) -> tuple[Path, list[Step]]:
    watched, steps = images(folder)
    first = watched / "img_0.tif"
    begun: list[Step] = [watched.mkdir, lambda: put(first, 0, b"II*\0"), first.unlink, watched.rmdir]
    return watched, [*begun, *steps]


def _through(folder: Path, temporary: str) -> tuple[Path, list[Step]]:
    """Return the steps of a writer whose images have another name, which ends in .tif, until they are complete."""
    watched = folder / "images"
    steps: list[Step] = [watched.mkdir]
    for number, data in enumerate(_images(folder / "source")):
        before, after = watched / temporary.format(number), watched / f"img_{number}.tif"
        half = len(data) // 2
        steps += [
            lambda to=before, data=data: put(to, 0, data[:half]),  # type: ignore[misc]  # noqa: B023
            lambda to=before, data=data: put(to, half, data[half:]),  # type: ignore[misc]  # noqa: B023
            lambda one=before, two=after: replace(one, two),  # type: ignore[misc]
        ]
    return watched, steps


def images_through_one_name(folder: Path) -> tuple[Path, list[Step]]:
    return _through(folder, "writing.tif")


def images_through_other_names(folder: Path) -> tuple[Path, list[Step]]:
    return _through(folder, "img_{}.tmp.tif")


def stacks(folder: Path) -> tuple[Path, list[Step]]:
    watched = folder / "stacks"
    return watched, [
        watched.mkdir, *tiff_steps(watched / "s_0.tif", FRAMES[:2]), *tiff_steps(watched / "s_1.tif", FRAMES[2:]),
    ]  # fmt: skip


@cache
def _ndtiff_after_each_frame() -> list[tuple[bytes, bytes]]:
    """Return the file and the index that NDTiff's library has written after each frame, and at its end."""
    storage = pytest.importorskip("ndstorage")
    written = []
    with TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        data = storage.NDTiffDataset(folder, name="nd", writable=True)
        data.initialize({})
        for time, frame in enumerate(FRAMES):
            data.put_image({"time": time}, frame, {"Axes": {"time": time}})
            data.current_writer.file.flush()
            data._index_file.flush()
            (file,) = Path(folder).glob("nd*/*.tif")
            with file.open("rb") as opened:  # the library makes room for gigabytes
                written.append((opened.read(2**16), (file.parent / "NDTiff.index").read_bytes()))
        reader = data.current_writer.reader
        data.finish()
        data.close()
        reader.close()
    return written


def an_ndtiff(folder: Path) -> tuple[Path, list[Step]]:
    watched = folder / "nd"
    file, index = watched / "nd_NDTiffStack.tif", watched / "NDTiff.index"
    steps: list[Step] = [watched.mkdir, lambda: put(index, 0, b""), lambda: put(file, 0, bytes(2**16))]
    before = bytes(2**16), b""
    for pixels, listed in _ndtiff_after_each_frame():
        changed = [at for at in range(0, len(pixels), 64) if pixels[at : at + 64] != before[0][at : at + 64]]
        steps += [lambda at=at, piece=pixels[at : at + 64]: put(file, at, piece) for at in changed]  # type: ignore[misc]
        start, half = len(before[1]), (len(before[1]) + len(listed)) // 2
        steps += [
            lambda at=at, piece=listed[at:stop]: put(index, at, piece)  # type: ignore[misc]
            for at, stop in ((start, half), (half, len(listed)))
        ]
        before = pixels, listed
    return watched, steps


SCENARIOS: tuple[Scenario, ...] = (
    one_tiff, one_tiff_with_room, a_tiff_begun_twice, a_tiff_emptied_first, a_tiff_renamed, images, images_renamed,
    images_made_again, images_through_one_name, images_through_other_names, stacks, an_ndtiff,
)  # fmt: skip


def _plans(count: int) -> list[tuple[int, Callable[[int], int]]]:
    """Return steps to take before the first look, and for each of its calls the steps to take before that.

    To try each step before each call takes minutes.
    """
    plans: list[tuple[int, Callable[[int], int]]] = [(0, lambda _call: 0)]
    plans += [(0, lambda call, n=n, at=at: int(call % n == at)) for n, at in ((1, 0), (2, 1), (3, 1), (7, 5))]  # type: ignore[misc]
    for begin in range(0, count, max(count // 6, 1)):
        at = 1 + begin * 5 % 13
        plans.append((begin, lambda call, at=at: 1000 if call == at else 0))  # type: ignore[misc]
        plans.append((begin, lambda call, at=at: int(call == at)))  # type: ignore[misc]
    return plans


def _check(outcome: Outcome, where: str) -> None:
    assert outcome.error is None, where
    assert [frame.number for frame in outcome.frames] == [*range(len(FRAMES))], where
    np.testing.assert_array_equal([frame.pixels for frame in outcome.frames], FRAMES, where)
    assert outcome.notes == [], where
    assert all({*(frame.tags.get("Axes") or ())} <= {"time"} for frame in outcome.frames), where


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_every_frame_comes_once_and_whole_wherever_the_writer_goes_on(
    tmp_path: Path, scenario: Scenario
) -> None:
    count = len(scenario(tmp_path / "counted" if not (tmp_path / "counted").mkdir() else tmp_path)[1])
    for number, (begin, plan) in enumerate(_plans(count)):
        folder = tmp_path / str(number)
        folder.mkdir()
        watched, steps = scenario(folder)
        race = Race(steps, plan)
        race.advance(begin)
        _check(run_race(watched, race), f"plan {number}, {begin} steps before")


@pytest.mark.parametrize("gone", ["removed", "made again", "cut short"])
@pytest.mark.skipif(os.name == "nt", reason="Windows does not remove a file that is open")
def test_a_tiff_that_goes_away_after_frames_is_said(tmp_path: Path, gone: str) -> None:
    path = tmp_path / "movie.tif"
    steps = tiff_steps(path)
    again = {
        "removed": [path.unlink],
        "made again": [path.unlink, *tiff_steps(path, FRAMES[::-1])],
        "cut short": [lambda: cut(path, 0), *tiff_steps(path, FRAMES[::-1])],
    }
    outcome = run_race(path, Race([*steps[:-4], *again[gone]], lambda _call: 0))
    assert isinstance(outcome.error, SourceFailed)
    assert "was removed, made again or cut short after" in str(outcome.error)
    assert 0 < len(outcome.frames) < len(FRAMES)
    np.testing.assert_array_equal([frame.pixels for frame in outcome.frames], FRAMES[: len(outcome.frames)])


@pytest.mark.parametrize("name", ["img_0.tif", "img_2.tif"])
def test_an_image_that_its_writer_locks_is_read_when_it_is_free(tmp_path: Path, name: str) -> None:
    watched, steps = images(tmp_path)
    race = Race([], lambda _call: 0)
    locked = str(watched / name)
    race.steps = [
        lambda: race.locked.add(locked),
        *steps,
        *[lambda: None] * 3,
        lambda: race.locked.discard(locked),
    ]
    _check(run_race(watched, race), name)


def test_an_image_that_stays_locked_is_said(tmp_path: Path) -> None:
    watched, steps = images(tmp_path)
    race = Race(steps, lambda _call: 0, locked={str(watched / "img_2.tif")})
    outcome = run_race(watched, race)
    np.testing.assert_array_equal([frame.pixels for frame in outcome.frames], FRAMES[:2])
    assert "img_2.tif of images could not be opened" in outcome.notes[0]


def test_a_tiff_that_stays_locked_is_said(tmp_path: Path) -> None:
    path = tmp_path / "movie.tif"
    outcome = run_race(path, Race(tiff_steps(path), lambda _call: 0, locked={str(path)}))
    assert "cannot access the file" in str(outcome.error)


def test_a_png_that_is_renamed_while_it_is_read_is_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    path = tmp_path / "img_0.png"
    path.write_bytes(imagecodecs.png_encode(FRAMES[0]))
    tail = tails.PngTail(path)

    def gone(*_: object) -> None:
        path.rename(tmp_path / "other.png")
        raise FileNotFoundError(2, "No such file", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(tails, "PngImage", gone)
        assert tail.read(settled=False) is None
    assert tail.read(settled=True) is None
    assert not tail.unfinished()
    (tmp_path / "other.png").rename(path)
    grown = tail.read(settled=False)
    assert grown is not None
    np.testing.assert_array_equal(grown.pixels, FRAMES[0])


def test_a_chunk_that_is_removed_and_made_again_while_it_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zarr = pytest.importorskip("zarr")
    path = tmp_path / "a.zarr"
    zarr.create_array(str(path), shape=FRAMES.shape, chunks=(1, 8, 8), dtype="uint16")
    tail = ZarrTail(path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "exists", lambda _path: True)  # until it is asked for more
        assert tail.mark() == (4, 0, 0)
        patch.setattr(Path, "is_file", lambda _path: False)
        patch.setattr(Path, "is_dir", lambda _path: False)
        check_regular(path / "zarr.json")
