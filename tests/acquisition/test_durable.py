"""Hand what is written to the disk, and say of each frame when it came."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from denoscope.acquisition import Frame, RawWriter, SourceInfo, make_settings, read_raw
from denoscope.acquisition.errors import NoDiskSpace
from denoscope.acquisition.raw import writer as raw_module
from denoscope.acquisition.raw.pages import PageFile
from denoscope.acquisition.session.opening import forecast as forecast_module
from denoscope.acquisition.session.opening.forecast import Load, make_forecast
from support.plain_results import live
from support.tiny_bundle import tiny_bundle

from .test_routing import Listed

INFO = SourceInfo("demo", "demo", "Cam", (48, 56), np.dtype(np.uint16), frame_rate_hz=20)
Synced = list[tuple[int, int]]


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> Synced:
    """Each fsync as (number of the file, its size then)."""
    found: Synced = []
    fsync = os.fsync

    def kept(descriptor: int) -> None:
        status = os.fstat(descriptor)
        found.append((status.st_ino, status.st_size))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", kept)
    return found


def frames(count: int) -> list[Frame]:
    return [
        Frame(np.full((48, 56), n, np.uint16), n, 100.5 + n / 7, "Cam", {}, 1.7e9 + n / 3)
        for n in range(count)
    ]


def wait_for(true: Callable[[], bool]) -> None:
    """Wait for another thread."""
    deadline_s = time.monotonic() + 100
    while not true():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def whole(path: Path) -> tuple[int, int]:
    """Return the number of a file and its size, as `synced` holds them."""
    return path.stat().st_ino, path.stat().st_size


def test_sync_hands_both_files_whole_to_the_disk(tmp_path: Path, synced: Synced) -> None:
    with RawWriter(tmp_path, INFO, "1") as writer:
        for frame in frames(3):
            writer.append(frame)
        synced.clear()
        writer.sync()
        # The pages first, so that the sidecar never promises more than there is.
        assert synced == [whole(tmp_path / "raw.tif"), whole(tmp_path / "raw.jsonl")]


def test_pages_are_handed_to_the_disk(tmp_path: Path, synced: Synced) -> None:
    with PageFile(tmp_path / "m.tif") as file:
        file.append(np.ones((4, 6), np.uint16))
        file.sync()
        assert synced[-1:] == [whole(tmp_path / "m.tif")]


def test_a_frame_waits_a_second_for_the_disk_at_most(
    tmp_path: Path, synced: Synced, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(raw_module.time, "perf_counter", lambda: now[0])
    with RawWriter(tmp_path, INFO, "1") as writer:
        synced.clear()
        for frame, passed in zip(frames(4), (0.3, 0.3, 0.5, 0.3), strict=True):
            now[0] += passed
            writer.append(frame)
            if frame.number == 2:
                wait_for(lambda: len(synced) == 2)
                at_once = [whole(tmp_path / "raw.tif"), whole(tmp_path / "raw.jsonl")]
        assert synced == at_once


class SlowDisk:
    """Confirms nothing until it is let go."""

    def __init__(self) -> None:
        self.asked, self.go, self.confirmed = threading.Event(), threading.Event(), 0

    def __call__(self, _number: int) -> None:
        self.asked.set()
        assert self.go.wait(100)
        self.confirmed += 1


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> SlowDisk:
    disk = SlowDisk()
    monkeypatch.setattr(os, "fsync", disk)
    monkeypatch.setattr(raw_module, "_SYNC_EVERY_S", 0.0)
    return disk


def test_a_disk_that_is_slow_to_confirm_does_not_stop_the_writer(tmp_path: Path, slow_disk: SlowDisk) -> None:
    with RawWriter(tmp_path, INFO, "1") as writer:
        for frame in frames(40):
            writer.append(frame)
        assert slow_disk.asked.wait(100)
        assert slow_disk.confirmed == 0
        assert len(read_raw(tmp_path).records) == writer.written == 40  # a kill would lose none
        slow_disk.go.set()
    assert slow_disk.confirmed >= 2


def test_the_writer_waits_for_a_disk_that_it_is_far_ahead_of(tmp_path: Path, slow_disk: SlowDisk) -> None:
    page = frames(1)[0].pixels.nbytes
    with RawWriter(tmp_path, INFO, "1", ahead_bytes=10 * page) as writer:

        def write() -> None:
            for frame in frames(40):
                writer.append(frame)

        thread = threading.Thread(target=write)
        thread.start()
        wait_for(lambda: writer.written >= 8)
        time.sleep(0.2)
        assert 8 <= writer.written <= 12
        slow_disk.go.set()
        thread.join(100)
        assert writer.written == 40


def test_a_disk_that_is_full_when_it_confirms_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(raw_module, "_SYNC_EVERY_S", 0.0)
    with RawWriter(tmp_path, INFO, "1") as writer, pytest.raises(OSError, match="No space"):  # noqa: PT012
        for frame in frames(1000):
            writer.append(frame)
            time.sleep(0.001)


def test_the_last_frames_of_a_session_are_handed_to_the_disk(
    tmp_path: Path, synced: Synced, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw_module, "_SYNC_EVERY_S", 1e9)
    tiny_bundle(tmp_path / "tiny.denoscope", intensity=None, calibration_frames=8)
    bundle, output = str(tmp_path / "tiny.denoscope"), tmp_path / "run"
    settings = make_settings(core="demo", bundle=bundle, output=output, picture=False, denoiser="thread")
    live(settings, source=Listed(frames(12)))
    assert len(read_raw(output)) == 12
    assert {whole(output / "raw.tif"), whole(output / "raw.jsonl")} <= set(synced)


def test_the_sidecar_says_when_a_frame_came(tmp_path: Path) -> None:
    with RawWriter(tmp_path, INFO, "1") as writer:
        for frame in [*frames(3), replace(frames(4)[3], core_unix_s=None)]:
            writer.append(frame)
    records = read_raw(tmp_path).records
    assert [r["received_s"] for r in records] == [f.t_received_s for f in frames(4)]
    assert [r["core_unix_s"] for r in records] == [*(f.core_unix_s for f in frames(3)), None]


def test_the_reserve_is_not_forecast_to_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast_module, "free_bytes", lambda _: 3_000_000_000)
    given = {"frames": 100, "seconds": None, "camera_fps": None, "memory": 0, "patient": True}
    needed = 100 * Load().frame_bytes(INFO)
    enough = make_forecast(tmp_path, INFO, Load(), reserve=3_000_000_000 - needed, **given)
    assert enough.problem is None
    assert enough.lasts_s == pytest.approx(100 / 20)
    short = make_forecast(tmp_path, INFO, Load(), reserve=3_000_000_001 - needed, **given)
    assert "with the reserve of" in (short.problem or "")


def test_a_session_keeps_the_reserve_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecast_module, "free_bytes", lambda _: 3_000_000_000)
    tiny_bundle(tmp_path / "tiny.denoscope", intensity=None, calibration_frames=8)
    values = {"core": "demo", "bundle": str(tmp_path / "tiny.denoscope"), "picture": False, "frames": 8}
    values["denoiser"] = "thread"
    settings = make_settings(output=tmp_path / "run", reserve_mb=3000, **values)
    with pytest.raises(NoDiskSpace, match="with the reserve of 3 GB"):
        live(settings, source=Listed(frames(8)))
    assert not (tmp_path / "run").exists()
    settings = make_settings(output=tmp_path / "run", reserve_mb=2900, **values)
    assert live(settings, source=Listed(frames(8)))["forecast"]["reserve_bytes"] == 2_900_000_000
