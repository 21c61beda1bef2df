"""Raw frames that wait are never lost: a disk that fails for good, or hangs, and the folder that takes them then."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from denoscope.acquisition import Frame, RawWriter, SourceInfo, denoise_movie, make_settings, read_raw
from denoscope.acquisition.raw import pages, writer
from denoscope.acquisition.raw import rescue as rescue_module
from denoscope.acquisition.raw.disk import existing_parent
from denoscope.acquisition.raw.rescue import RESCUE_FOLDER, Rescue, check_place, rescue_places
from denoscope.acquisition.raw.syncing import DiskSync
from denoscope.acquisition.results import SessionReport
from denoscope.acquisition.session.ending.skipped import Skipped, fill_skipped
from denoscope.acquisition.session.live import _write_report
from denoscope.acquisition.session.recording import raw_lane as module
from denoscope.acquisition.session.recording.raw_lane import RawLane, frames_that_fit
from denoscope.acquisition.session.recording.session import Session
from denoscope.runtime import InvalidInput, open_movie
from support.plain_results import live
from support.tiny_bundle import tiny_bundle

from .test_control import Steady, frames_of

INFO = SourceInfo("test", "test", "Cam", (6, 8), np.dtype(np.uint16))


def frame(number: int) -> Frame:
    return Frame(np.full((6, 8), number, np.uint16), number, 0.0, "Cam", {})


def numbers(folder: Path | None) -> list[int]:
    assert folder is not None
    recording = read_raw(folder)
    found = [int(each[0, 0]) for each in recording.frames()]
    assert [record["number"] for record in recording.records] == found
    return found


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


class Disk:
    """A raw recording of which every call from the frame `at` on does what it is told.

    It confirms each frame at once, or only so many.
    """

    def __init__(
        self,
        at: int,
        does: Callable[[], object],
        *,
        sync: Callable[[], object] = lambda: None,
        confirms: int | None = None,
    ) -> None:
        self.written, self.at, self.does, self.sync_does = 0, at, does, sync
        self.confirms = confirms
        self.doubts = 0
        self.abandoned = self.closed = False

    @property
    def confirmed(self) -> int:
        return self.written if self.confirms is None else min(self.confirms, self.written)

    def append(self, _frame: Frame) -> None:
        if self.written >= self.at:
            self.does()
        self.written += 1

    def sync(self) -> None:
        self.sync_does()

    def close(self) -> None:
        self.closed = True

    def abandon(self) -> Callable[[], None]:
        self.abandoned = True
        module.HANGS_AFTER_S.seconds = 60.0  # type: ignore[attr-defined]
        return self.close


def once_and_then(action: Callable[[], object]) -> Callable[[], object]:
    """Do nothing at the first call, which asks a disk that failed what it has, and something at the others."""
    calls = iter([lambda: None])
    return lambda: next(calls, action)()


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """An answer of a disk, which comes at the end at the latest."""
    event = threading.Event()
    yield event
    event.set()


class Limits(dict[str, float]):
    """Patience with disks: none while one hangs, so that a busy computer is never taken for one."""

    seconds = 60.0

    def __missing__(self, _moment: str) -> float:
        return self.seconds

    def hang(self, gate: threading.Event) -> None:
        """Do what a disk does that does not answer until a gate is opened."""
        if not gate.is_set():
            self.seconds = 0.05
            gate.wait(60)
            self.seconds = 60.0


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> Limits:
    found, abandon = Limits(), RawWriter.abandon

    def given_up(self: RawWriter) -> Callable[[], None]:
        found.seconds = 60.0
        return abandon(self)

    monkeypatch.setattr(RawWriter, "abandon", given_up)
    monkeypatch.setattr(writer, "_AGAIN_S", (0.0,))
    monkeypatch.setattr(module, "_POLL_S", 0.01)
    monkeypatch.setattr(module, "HANGS_AFTER_S", found)
    return found


def play(
    raw: Any, rescue: Rescue | None, count: int = 10, *, room: int = 64, moment: str = "ending", **more: Any
) -> tuple[RawLane, list[str]]:
    said: list[str] = []
    lane = RawLane(raw, room, rescue=rescue, on_failure=said.append, on_problem=said.append, **more)
    lane.start()
    for number in range(count):
        lane.put(frame(number), lambda: moment)
    lane.put(None, lambda: moment)
    lane.finish(lambda: moment)
    return lane, said


def rescue_in(folder: Path) -> Rescue:
    return Rescue(Path("run"), INFO, "1.2.3", [folder])


@pytest.mark.parametrize("code", [errno.EROFS, errno.EIO, errno.ENXIO, errno.ENOSPC, errno.ENODEV])
def test_what_a_disk_refuses_for_good_is_saved_elsewhere(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    raw = RawWriter(tmp_path / "run", INFO, "1.2.3")
    write = pages.write_at

    def refuse(file: Any, *values: Any) -> None:
        if "run-rescued" not in str(file.name) and raw.written == 4:
            raise OSError(code, os.strerror(code))
        write(file, *values)

    monkeypatch.setattr(pages, "write_at", refuse)
    rescue = rescue_in(tmp_path / "elsewhere")
    lane, said = play(raw, rescue)
    assert numbers(tmp_path / "run") == [0, 1, 2, 3]
    assert numbers(rescue.folder) == [4, 5, 6, 7, 8, 9]
    assert (lane.written, lane.rescued, lane.lost, lane.hangs) == (4, 6, 0, False)
    # A full disk keeps what it took; of one that went away nobody knows what it has, but what it confirmed.
    known = (
        "4 frames before it are complete"
        if code == errno.ENOSPC
        else "of 4 frames before it the disk had confirmed 0"
    )
    assert said == [f"writing raw frame 4 failed ({OSError(code, os.strerror(code))}); {known}"]
    assert raw.problems == []  # nothing was got over
    assert rescue.folder == tmp_path / "elsewhere" / "run-rescued"
    assert open_movie(rescue.folder / "raw.tif").shape == (6, 6, 8)


def test_a_frame_that_is_written_before_the_disk_refuses_to_confirm_is_in_one_place(tmp_path: Path) -> None:
    def full() -> None:
        disk.written += 1
        raise OSError(errno.ENOSPC, "No space left on device")

    disk = Disk(4, full)
    rescue = rescue_in(tmp_path)
    lane, _said = play(disk, rescue)
    assert (lane.written, lane.rescued) == (5, 5)
    assert numbers(rescue.folder) == [5, 6, 7, 8, 9]


def test_a_place_that_could_save_nothing_is_refused_at_the_start(tmp_path: Path) -> None:
    check_place(tmp_path / "made" / "when needed")
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match=r"`rescue` .* because .*file is no folder: name another folder"):
        check_place(tmp_path / "file" / "below")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_place_on_a_drive_that_is_missing_is_looked_for_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:  # on Windows the drive itself may be missing
        patch.setattr(os.path, "lexists", lambda _path: False)
        patch.setattr(Path, "exists", lambda _path: False)
        patch.setattr(Path, "is_dir", lambda _path: False)
        assert existing_parent(tmp_path / "run") == Path(tmp_path.anchor)
        with pytest.raises(InvalidInput, match="is no folder: name another folder"):
            check_place(tmp_path / "run")


def test_a_share_that_does_not_tell_its_size_ends_no_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = RawWriter(tmp_path, INFO, "1.2.3")
    with monkeypatch.context() as patch:

        def stale(_file: int) -> None:
            raise OSError(errno.ESTALE, "Stale file handle")

        patch.setattr(pages.os, "fstat", stale)
        raw.append(frame(0))
    raw.close()
    assert numbers(tmp_path) == [0]


@pytest.mark.parametrize(
    ("megabytes", "pixels", "frames"),
    [(256, 2048**2, 31), (256, 512**2, 508), (256, 64**2, 21_845), (1, 2048**2, 4)],
)
def test_raw_frames_fill_the_memory_that_they_may_take_and_no_more(
    megabytes: int, pixels: int, frames: int
) -> None:
    assert frames_that_fit(megabytes, 2 * pixels) == frames


def test_a_burst_that_fits_the_memory_does_not_wait_for_the_disk(gate: threading.Event) -> None:
    disk = Disk(0, gate.wait)
    lane = RawLane(disk, frames_that_fit(1, 2 * 64**2), on_failure=pytest.fail, on_problem=pytest.fail)
    looks: list[str] = []
    lane._look = looks.append  # type: ignore[method-assign]  where it waits, it looks after the disk
    lane.start()
    for number in range(lane.size[1]):
        lane.put(frame(number), lambda: "recording")
    assert not looks
    assert disk.written == 0
    assert lane.size[1] == 85
    gate.set()
    lane.put(None, lambda: "ending")
    lane.finish(lambda: "ending")
    assert disk.written == 85


def test_a_disk_that_answers_late_is_waited_for(
    tmp_path: Path, gate: threading.Event, limits: Limits
) -> None:
    disk, seen = Disk(3, lambda: limits.hang(gate)), list[float]()
    said: list[str] = []
    lane = RawLane(disk, 64, rescue=rescue_in(tmp_path), on_failure=said.append, on_problem=said.append)
    lane.start()
    for number in range(10):
        lane.put(frame(number), lambda: "recording")
    until(lambda: limits.seconds < 1)  # it hangs
    time.sleep(0.15)  # there is room, so nothing is given up
    seen.append(lane._since_s or 0.0)
    limits.seconds = 60.0
    gate.set()
    lane.put(None, lambda: "recording")
    lane.finish(lambda: "recording")
    assert seen[0] > 0
    assert (lane.written, lane.rescued, lane.lost, said) == (10, 0, 0, [])
    assert disk.closed
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("moment", "room"), [("ending", 64), ("in a hurry", 64), ("recording", 2)])
def test_what_waits_for_a_disk_that_hangs_is_saved_elsewhere(
    tmp_path: Path, gate: threading.Event, limits: Limits, moment: str, room: int
) -> None:
    disk, rescue = Disk(3, lambda: limits.hang(gate)), rescue_in(tmp_path)
    lane, said = play(disk, rescue, room=room, moment=moment)
    assert numbers(rescue.folder) == list(range(3, 10))
    assert (lane.written, lane.rescued, lane.lost, lane.hangs) == (3, 7, 0, True)
    assert disk.abandoned
    assert len(said) == 1
    assert (
        "the disk did not answer for 0 s while writing raw frames and was given up; 3 frames are" in said[0]
    )
    gate.set()  # it answers after all: the frame that it was given is in both places, and no other
    until(lambda: disk.closed)
    assert disk.written == 4
    assert lane.written == 3


def test_frames_that_can_wait_are_not_taken_from_a_disk_while_recording(
    tmp_path: Path, gate: threading.Event, limits: Limits
) -> None:
    disk = Disk(0, lambda: limits.hang(gate))
    threading.Timer(0.4, gate.set).start()
    lane, said = play(disk, rescue_in(tmp_path), room=2, moment="recording", patient=True)
    assert (lane.written, lane.rescued, said) == (10, 0, [])


def test_two_disks_that_hang_end_too_and_what_is_lost_is_counted(
    tmp_path: Path, gate: threading.Event, limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    rescue = rescue_in(tmp_path)
    monkeypatch.setattr(rescue, "append", lambda _frame: limits.hang(gate))
    lane, said = play(Disk(3, lambda: limits.hang(gate)), rescue)
    assert (lane.written, lane.rescued, lane.lost) == (3, 0, 7)
    assert said[1] == "the other place did not answer for 0 s while writing raw frames and was given up"


def test_another_place_that_hangs_is_left_alone_where_the_disk_then_hangs_too(
    tmp_path: Path, gate: threading.Event, limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise OSError(errno.EIO, "Input/output error")

    rescue, closed = rescue_in(tmp_path), list[str]()
    monkeypatch.setattr(rescue, "append", lambda _frame: limits.hang(gate))
    monkeypatch.setattr(rescue, "close", lambda: closed.append("closed"))
    lane, said = play(Disk(3, refuse, sync=once_and_then(lambda: limits.hang(gate))), rescue)
    assert (lane.written, lane.rescued, lane.lost, lane.hangs) == (3, 0, 7, True)
    assert not closed
    assert "the disk did not answer for 0 s while confirming raw frames" in said[-1]


def test_a_disk_that_never_confirms_holds_up_the_end_for_a_while_only(
    tmp_path: Path, gate: threading.Event, limits: Limits
) -> None:
    lane, said = play(Disk(99, lambda: None, sync=lambda: limits.hang(gate)), rescue_in(tmp_path))
    assert (lane.written, lane.rescued, lane.lost, lane.hangs) == (10, 0, 0, True)
    assert "while confirming raw frames and was given up; 10 frames are complete" in said[0]


def test_a_disk_that_fails_and_then_hangs_is_closed_by_nobody_else(
    tmp_path: Path, gate: threading.Event, limits: Limits
) -> None:
    def refuse() -> None:
        raise OSError(errno.EIO, "Input/output error")

    disk, rescue = Disk(4, refuse, sync=once_and_then(lambda: limits.hang(gate))), rescue_in(tmp_path)
    lane, said = play(disk, rescue)
    assert numbers(rescue.folder) == list(range(4, 10))
    assert (lane.written, lane.rescued, lane.lost, lane.hangs) == (4, 6, 0, True)
    assert disk.abandoned
    assert not disk.closed
    assert [next(w for w in ("failed", "confirming") if w in each) for each in said] == [
        "failed",
        "confirming",
    ]


def test_another_place_that_never_confirms_holds_up_the_end_for_a_while_only(
    tmp_path: Path, gate: threading.Event, limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise OSError(errno.EIO, "Input/output error")

    disk, rescue = Disk(4, refuse), rescue_in(tmp_path)
    monkeypatch.setattr(rescue, "close", lambda: limits.hang(gate))
    lane, said = play(disk, rescue)
    assert (lane.written, lane.rescued, lane.lost, lane.hangs) == (4, 6, 0, False)
    assert "the other place did not answer for 0 s while confirming raw frames" in said[1]
    assert disk.closed
    monkeypatch.undo()
    gate.set()
    rescue.close()


def test_whatever_a_disk_raises_at_the_end_is_said(tmp_path: Path) -> None:
    def confused() -> None:
        raise ValueError("seek of closed file")

    disk = Disk(99, lambda: None, sync=confused)
    lane, said = play(disk, rescue_in(tmp_path))
    assert said == ["the disk did not confirm the last second of raw data: seek of closed file"]
    assert (lane.written, lane.hangs, disk.closed) == (10, False, True)


def test_a_writer_that_waits_for_a_disk_ends_when_it_is_given_up(gate: threading.Event) -> None:
    sync = DiskSync(lambda: gate.wait(60) and None, ahead_bytes=10)
    sync.ask(0)
    sync.ask(0)  # while the first is confirmed
    waits = threading.Thread(target=sync.check, args=(1000,), daemon=True)
    waits.start()
    sync.abandon()
    waits.join(60)
    assert not waits.is_alive()


def test_a_report_that_has_no_place_is_said() -> None:
    run = SimpleNamespace(files=SimpleNamespace(hangs=True), session=SimpleNamespace(rescue_folder=None))
    report = SessionReport()
    _write_report(run, report)  # type: ignore[arg-type]
    assert report.outcome.notes == ["report.json was not written, because the disk does not answer"]


def test_no_command_fills_a_run_whose_disk_hangs() -> None:
    frames = SimpleNamespace(denoised=3, received=9)
    report = SimpleNamespace(frames=frames, fill_command=None)
    settings = SimpleNamespace(keep_raw=True)
    files = SimpleNamespace(hangs=True, folder=Path("rescued"))
    run: Any = SimpleNamespace(files=files, settings=settings)
    nobody: Any = SimpleNamespace(count=0)
    fill_skipped(run, report, Skipped([], known=False), nobody, lambda _done, _total: None)  # type: ignore[arg-type]
    assert report.fill_command is None


def test_a_program_that_stood_still_gives_no_disk_up(
    tmp_path: Path, gate: threading.Event, limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = RawLane(
        Disk(0, lambda: limits.hang(gate)), 8, rescue=rescue_in(tmp_path), on_failure=print, on_problem=print
    )
    lane.start()
    lane.put(frame(0), lambda: "ending")
    while lane._since_s is None:
        time.sleep(0.001)
    lane._look("ending")
    later_s = time.perf_counter() + 3600
    monkeypatch.setattr(module.time, "perf_counter", lambda: later_s)
    lane._look("ending")
    assert not lane.hangs
    monkeypatch.undo()
    gate.set()
    lane.put(None, lambda: "ending")
    lane.finish(lambda: "recording")


def test_the_first_place_that_takes_a_frame_is_used_and_no_other_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").write_text("somebody's")
    (tmp_path / "good" / "run-rescued").mkdir(parents=True)
    rescue = Rescue(tmp_path / "run", INFO, "1", [tmp_path / "a file", tmp_path / "good", tmp_path / "never"])
    assert rescue.append(frame(0))
    rescue.close()
    rescue.close()
    assert rescue.folder == tmp_path / "good" / "run-rescued-2"
    assert numbers(rescue.folder) == [0]
    assert not rescue.append(frame(1))  # it is closed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a file", "good"]
    monkeypatch.setattr(rescue_module, "RESCUE_FOLDER", RESCUE_FOLDER)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    places = rescue_places(None, tmp_path)
    assert places[0] == tmp_path / RESCUE_FOLDER
    assert [place.name for place in places] == [RESCUE_FOLDER] * 2
    assert rescue_places(tmp_path, tmp_path) == [tmp_path]
    # Home lies on the disk of the run, which may hang: what lies on another one is tried first.
    disks = {tmp_path: 1, tmp_path / "temporary": 2}
    monkeypatch.setattr(rescue_module, "_disk", lambda folder: disks.get(folder, disks.get(folder.parent)))
    monkeypatch.setattr(rescue_module.tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
    first, second = rescue_places(None, tmp_path / "run")
    assert (first.parent, second.parent) == (tmp_path / "temporary", tmp_path)

    def nowhere() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(rescue_module.tempfile, "gettempdir", nowhere)
    assert rescue_places(None, tmp_path) == [tmp_path / RESCUE_FOLDER]


def test_a_place_that_refuses_too_is_named_and_left_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(pages, "write_at", refuse)
    rescue = rescue_in(tmp_path / "place")
    lane, said = play(Disk(2, refuse), rescue)
    assert (lane.written, lane.rescued, lane.lost) == (2, 0, 8)
    assert "Read-only" in (rescue.problem or "")
    assert len(said) == 1
    assert not list((tmp_path / "place").iterdir())


@pytest.mark.parametrize("hangs", [False, True])
def test_a_session_whose_disk_is_gone_ends_with_all_its_frames(
    tmp_path: Path, gate: threading.Event, limits: Limits, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    tiny_bundle(tmp_path / "tiny.denoscope")
    write, run = pages.write_at, tmp_path / "run"

    def gone(file: Any, at: int, *values: Any) -> None:
        if str(file.name).startswith(str(run / "raw")) and at > 40_000:
            if hangs:
                limits.hang(gate)
            else:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        write(file, at, *values)

    monkeypatch.setattr(pages, "write_at", gone)
    settings = make_settings(
        core="demo",
        output=run,
        bundle=str(tmp_path / "tiny.denoscope"),
        denoiser="thread",
        picture=False,
        finish_s=1,
        rescue=tmp_path / "elsewhere",
    )
    frames = frames_of(40)
    report = live(settings, source=Steady(frames, {}))
    counts, folder = report["frames"], tmp_path / "elsewhere" / "run-rescued"
    assert counts["received"] == 40
    assert counts["written_raw"] + counts["rescued_raw"] == 40
    assert counts["rescued_raw"] > 0
    assert counts["rescue_folder"] == str(folder)
    assert report["outcome"]["exit_code"] == 2
    assert report["outcome"]["reason"] == "raw_write_failed"
    assert f"saved in {folder}, a separate recording" in " ".join(report["outcome"]["problems"])
    first, rest = read_raw(run).read(), read_raw(folder).read()
    gate.set()
    until(
        lambda: not any(each.name in ("denoscope-raw", "denoscope-closing") for each in threading.enumerate())
    )
    whole = np.concatenate([first[: counts["written_raw"]], rest])
    np.testing.assert_array_equal(whole, [each.pixels for each in frames])
    assert (folder / "report.json").exists() is hangs
    denoise_movie(folder, tmp_path / "rest.tif", bundle=str(tmp_path / "tiny.denoscope"))
    assert len(open_movie(tmp_path / "rest.tif")) == counts["rescued_raw"]


@pytest.mark.parametrize(("confirms", "confirmed"), [(None, 3), (errno.EINVAL, 0)])
def test_frames_count_as_saved_once_the_disk_has_said_so(
    tmp_path: Path, confirms: int | None, confirmed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(number: int) -> None:
        if confirms is not None:
            raise OSError(confirms, os.strerror(confirms))

    monkeypatch.setattr(os, "fsync", fsync)
    raw = RawWriter(tmp_path, INFO, "1.2.3")
    for number in range(3):
        raw.append(frame(number))
    assert raw.confirmed == 0
    raw.sync()
    assert (raw.written, raw.confirmed) == (3, confirmed)
    raw.close()


def test_frames_that_come_while_the_disk_confirms_are_not_confirmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = RawWriter(tmp_path, INFO, "1.2.3")
    more = [frame(2), frame(3)]

    def fsync(_number: int) -> None:
        while more:
            raw.append(more.pop(0))

    monkeypatch.setattr(os, "fsync", fsync)
    raw.append(frame(0))
    raw.append(frame(1))
    raw.sync()
    assert (raw.written, raw.confirmed) == (4, 2)
    raw.sync()
    assert raw.confirmed == 4
    raw.close()


@pytest.mark.parametrize(
    ("confirmed", "known"), [(4, "4 frames before it are complete"), (3, "the disk had confirmed 3")]
)
def test_what_the_disk_confirmed_before_it_went_away_is_complete(confirmed: int, known: str) -> None:
    def gone() -> None:
        raise OSError(errno.ENODEV, "No such device")

    _, said = play(Disk(4, gone, confirms=confirmed), None)
    assert known in said[0]


def gone() -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_what_a_lost_disk_had_not_confirmed_is_saved_elsewhere(tmp_path: Path) -> None:
    rescue = rescue_in(tmp_path)
    lane, said = play(Disk(6, gone, sync=gone, confirms=2), rescue)
    assert numbers(rescue.folder) == list(range(2, 10))
    assert (lane.written, lane.rescued, lane.in_both, lane.lost, lane.unsure) == (2, 8, 4, 0, 0)
    assert said[0].endswith("of 6 frames before it the disk had confirmed 2")


def test_what_a_disk_confirms_after_it_failed_is_not_saved_again(tmp_path: Path) -> None:
    def confirm() -> None:
        disk.confirms = None

    disk, rescue = Disk(6, gone, sync=confirm, confirms=0), rescue_in(tmp_path)
    lane, _ = play(disk, rescue)
    assert numbers(rescue.folder) == [6, 7, 8, 9]
    assert (lane.written, lane.rescued, lane.in_both) == (6, 4, 0)


def test_a_disk_that_hangs_has_not_confirmed_what_was_written_before(
    tmp_path: Path, gate: threading.Event, limits: Limits
) -> None:
    rescue = rescue_in(tmp_path)
    lane, _ = play(Disk(6, lambda: limits.hang(gate), confirms=2), rescue)
    assert numbers(rescue.folder) == list(range(2, 10))
    assert (lane.written, lane.rescued, lane.in_both, lane.lost) == (2, 8, 4, 0)


def test_a_disk_that_hangs_while_it_confirms_the_end_has_not_confirmed_it(
    tmp_path: Path, gate: threading.Event, limits: Limits
) -> None:
    rescue = rescue_in(tmp_path)
    lane, said = play(Disk(99, lambda: None, sync=lambda: limits.hang(gate), confirms=3), rescue)
    assert numbers(rescue.folder) == list(range(3, 10))
    assert (lane.written, lane.rescued, lane.in_both, lane.lost) == (3, 7, 7, 0)
    assert "while confirming raw frames and was given up; 10 frames are complete" in said[0]


def test_frames_that_wait_for_a_confirmation_have_a_bound_in_memory(tmp_path: Path) -> None:
    rescue = rescue_in(tmp_path)
    lane, _ = play(Disk(20, gone, sync=gone, confirms=2), rescue, count=25, room=5)
    assert len(lane._unconfirmed) == 0
    assert numbers(rescue.folder) == list(range(15, 25))
    assert (lane.written, lane.rescued, lane.unsure) == (15, 10, 13)  # and 13 were neither confirmed nor kept


def test_frames_are_let_go_once_they_are_confirmed(tmp_path: Path) -> None:
    lane, _ = play(Disk(99, lambda: None), rescue_in(tmp_path))
    assert len(lane._unconfirmed) == 0
    lane, _ = play(Disk(99, lambda: None, confirms=4), rescue_in(tmp_path))
    assert len(lane._unconfirmed) == 6
    lane, _ = play(Disk(99, lambda: None, confirms=4), None)  # nothing could take them
    assert len(lane._unconfirmed) == 0
    assert not list(tmp_path.iterdir())


def test_another_place_that_hangs_loses_no_frame_that_is_in_the_recording(
    tmp_path: Path, gate: threading.Event, limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    rescue = rescue_in(tmp_path)
    monkeypatch.setattr(rescue, "append", lambda _frame: limits.hang(gate))
    lane, _ = play(Disk(6, gone, sync=gone, confirms=2), rescue)
    assert (lane.written, lane.rescued, lane.lost, lane.unsure) == (6, 0, 4, 4)


@pytest.mark.parametrize(("code", "doubts"), [(errno.EIO, 1), (errno.EINVAL, 0)])
def test_a_disk_that_answers_with_an_error_may_have_lost_what_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, doubts: int
) -> None:
    answers = [OSError(code, os.strerror(code))]

    def fsync(_number: int) -> None:
        if answers:
            raise answers.pop()

    (tmp_path / "run").mkdir()
    raw, rescue, append = RawWriter(tmp_path / "run", INFO, "1.2.3"), rescue_in(tmp_path), RawWriter.append

    def then_sync(self: RawWriter, each: Frame) -> int:
        page = append(self, each)
        if self is raw and self.written in (4, 6):
            self.sync()
        return page

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(RawWriter, "append", then_sync)
    lane, said = play(raw, rescue)
    assert said == []
    assert raw.doubts == doubts
    assert numbers(tmp_path / "run") == list(range(10))  # it goes on
    if doubts:
        assert numbers(rescue.folder) == [0, 1, 2, 3]
        assert (lane.written, lane.rescued, lane.in_both, raw.confirmed) == (6, 4, 4, 0)
    else:
        assert rescue.folder is None
        assert (lane.written, lane.rescued, raw.confirmed) == (10, 0, 10)


@pytest.mark.parametrize("times", [1, 99])
def test_an_error_that_nobody_expected_ends_no_wait_and_costs_no_frame(tmp_path: Path, times: int) -> None:
    errors = [RuntimeError("odd")] * times

    class Odd(Disk):
        doubts = property(lambda self: 0 if self.written < 4 or not errors else self.fail(), lambda *_: None)  # type: ignore[assignment]

        def fail(self) -> int:
            raise errors.pop()

    rescue = rescue_in(tmp_path)
    lane, said = play(Odd(99, lambda: None), rescue)
    assert said == ["saving raw frames failed after 4 frames (odd)"]
    assert numbers(rescue.folder) == [4, 5, 6, 7, 8, 9]
    assert (lane.written, lane.rescued, lane.lost) == (4, 6, 0)


def test_an_error_that_nobody_expected_leaves_nothing_unconfirmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, disk = RawLane._write, Disk(99, lambda: None, confirms=2)

    def odd(self: RawLane, turn: int, given: Any) -> bool | None:
        if not self.failed.is_set() and disk.written == 4:
            raise RuntimeError("odd")
        return write(self, turn, given)

    monkeypatch.setattr(RawLane, "_write", odd)
    rescue = rescue_in(tmp_path)
    lane, _said = play(disk, rescue)
    assert numbers(rescue.folder) == list(range(2, 10))
    assert (lane.written, lane.rescued, lane.in_both, lane.lost) == (2, 8, 2, 0)


@pytest.mark.parametrize("room", [1, 64])
def test_errors_that_nobody_expected_end_no_wait_and_what_they_cost_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    def odd(*_: Any) -> bool:
        raise RuntimeError("odd")

    monkeypatch.setattr(RawLane, "_write", odd)
    disk = Disk(99, lambda: None)
    lane, said = play(disk, rescue_in(tmp_path), room=room)
    assert said == [
        "saving raw frames failed after 0 frames (odd)",
        "saving raw frames elsewhere failed (odd)",
    ]
    assert (lane.written, lane.rescued, lane.lost, disk.closed) == (0, 0, 10, True)


@pytest.mark.parametrize("times", [1, 99])
def test_an_error_that_nobody_expected_at_the_end_ends_no_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    errors, confirm = [RuntimeError("odd")] * times, RawLane._confirm

    def odd(self: RawLane, turn: int) -> None:
        if errors:
            raise errors.pop()
        confirm(self, turn)

    monkeypatch.setattr(RawLane, "_confirm", odd)
    lane, said = play(Disk(99, lambda: None), rescue_in(tmp_path))
    assert said[0] == "saving raw frames failed after 10 frames (odd)"
    assert (lane.written, lane.lost, lane.failed.is_set()) == (10, 0, True)


def test_what_the_disk_does_not_confirm_at_the_end_is_saved_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux tells an error once, and a short recording is confirmed once: at its end."""
    answers = [OSError(errno.EIO, os.strerror(errno.EIO))]

    def fsync(_number: int) -> None:
        if answers:
            raise answers.pop()

    (tmp_path / "run").mkdir()
    raw, rescue = RawWriter(tmp_path / "run", INFO, "1.2.3"), rescue_in(tmp_path)
    monkeypatch.setattr(writer, "_SYNC_EVERY_S", 1e9)
    monkeypatch.setattr(os, "fsync", fsync)
    lane, said = play(raw, rescue)
    assert said == []
    assert "frames written shortly before may be missing there" in " ".join(raw.problems)
    assert numbers(tmp_path / "run") == list(range(10))
    assert numbers(rescue.folder) == list(range(10))
    assert (lane.written, lane.rescued, lane.in_both, lane.lost) == (0, 10, 10, 0)


def test_a_disk_that_cannot_be_asked_at_the_end_has_not_confirmed_it(tmp_path: Path) -> None:
    rescue = rescue_in(tmp_path)
    lane, said = play(Disk(99, lambda: None, sync=gone, confirms=3), rescue)
    assert numbers(rescue.folder) == list(range(3, 10))
    assert (lane.written, lane.rescued, lane.in_both, lane.lost) == (3, 7, 7, 0)
    assert len(said) == 1


def test_another_place_that_hangs_after_the_end_is_given_up(
    tmp_path: Path, gate: threading.Event, limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    rescue, disk = rescue_in(tmp_path), Disk(99, lambda: None, sync=gone, confirms=3)
    monkeypatch.setattr(rescue, "append", lambda _frame: limits.hang(gate))
    lane, said = play(disk, rescue)
    assert (lane.written, lane.rescued, lane.lost, lane.hangs) == (10, 0, 0, False)
    assert "the other place did not answer for 0 s while writing raw frames" in said[1]
    assert disk.closed


def test_a_frame_that_a_disk_took_and_did_not_confirm_is_saved_elsewhere(tmp_path: Path) -> None:
    class Late(Disk):
        def append(self, frame: Frame) -> None:
            super().append(frame)
            if self.written == 6:
                gone()

    rescue = rescue_in(tmp_path)
    lane, _ = play(Late(99, lambda: None, sync=gone, confirms=2), rescue)
    assert numbers(rescue.folder) == list(range(2, 10))
    assert (lane.written, lane.rescued, lane.in_both, lane.lost) == (2, 8, 4, 0)


@pytest.mark.parametrize(
    ("in_both", "hangs", "unsure", "says"),
    [
        (0, False, 0, ["did not confirm them (denoscope"]),
        (0, True, 0, ["did not confirm them, and the first of them may be in both places ("]),
        (2, True, 0, ["did not confirm them, and the first 3 may be in both places ("]),
        (
            2,
            False,
            1,
            ["the first 2 may be", "1 raw frame was written before and neither confirmed by the disk nor"],
        ),
    ],
)
def test_frames_in_two_places_or_in_none_for_sure_are_said(
    in_both: int, hangs: bool, unsure: int, says: list[str]
) -> None:
    said: list[str] = []
    failed = threading.Event()
    failed.set()
    lane = SimpleNamespace(rescued=8, in_both=in_both, hangs=hangs, unsure=unsure, lost=0, failed=failed)
    session: Any = SimpleNamespace(_raw_lane=lane, rescue_folder=Path("elsewhere"), add_problem=said.append)
    Session._say_where_frames_are(session)
    assert len(said) == len(says)
    assert all(words in sentence for words, sentence in zip(says, said, strict=True)), said
