"""Whatever a program says of its frames, and whatever it sends among them, every picture is recorded."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from denoscope.acquisition import Frame, RawWriter, SourceInfo, make_settings, read_raw
from denoscope.acquisition.errors import one_line
from denoscope.acquisition.session.opening import run_files
from denoscope.acquisition.session.settings import SessionSettings
from support.plain_results import live

from .test_control import Steady, frames_of

INFO = SourceInfo("test", "test", "Cam", (6, 8), np.dtype(np.uint16))


class Mute:
    """Has neither words nor an equal."""

    def __str__(self) -> str:
        raise RuntimeError("nothing to say")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("nothing like it")

    __repr__, __hash__ = __str__, None  # type: ignore[assignment]


class MuteError(Exception):
    """Cannot be printed, as a Java exception whose bridge is gone."""

    def __str__(self) -> str:
        raise RuntimeError("the bridge is gone")


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def circle() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["itself"] = value
    return value


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (np.arange(3), "[0 1 2]"),
        (np.int16(-3), -3),
        (np.float32(0.5), 0.5),
        ({1: "a", "b": 2}, {"1": "a", "b": 2}),
        (b"\xff", "b'\\xff'"),
        (Mute(), None),
        (nested(100_000), None),
        (circle(), None),
        ({(1, 2): 3}, None),
        (10**5000, None),
    ],
    ids=["array", "integer", "single", "mixed", "bytes", "mute", "deep", "circle", "tuple", "digits"],
)
def test_no_tag_costs_a_frame_or_the_other_tags(tmp_path: Path, value: object, written: object) -> None:
    writer = RawWriter(tmp_path, INFO, "0")
    for index in range(3):
        tags = {"Exposure": 5, "Odd": value, "Count": index}
        writer.append(Frame(np.full((6, 8), index, np.uint16), index, 0.0, "Cam", tags))
    writer.close()
    recording = read_raw(tmp_path)
    expected = {"Exposure": 5} if written is None else {"Exposure": 5, "Odd": written}
    assert [dict(record["tags"]) for record in recording.records] == [
        {**expected, "Count": index} for index in range(3)
    ]
    assert not recording.notes
    assert recording.read()[:, 0, 0].tolist() == [0, 1, 2]
    assert len(writer.problems) == (written is None)
    assert all("a tag of frame 0 could not be written" in problem for problem in writer.problems)


def test_numbers_of_numpy_stay_numbers(tmp_path: Path) -> None:
    with RawWriter(tmp_path, INFO, "0") as writer:
        writer.append(Frame(np.zeros((6, 8), np.uint16), np.int64(7), np.float64(0.5), "Cam", {}))  # type: ignore[arg-type]
    (record,) = read_raw(tmp_path).records
    assert (record["number"], record["received_s"]) == (7, 0.5)


def settings_of(folder: Path, bundle: Path, denoiser: str = "thread") -> SessionSettings:
    return make_settings(
        core="demo",
        picture=False,
        denoiser=denoiser,
        backend="onnxruntime-cpu",
        output=folder / "run",
        bundle=str(bundle),
    )


class Odd(Steady):
    """Sends something that is no picture in the place of some frames."""

    def __init__(self, frames: Any, instead: dict[int, Any]) -> None:
        super().__init__(frames, {})
        self._instead = instead

    def pop(self) -> Frame | None:
        frame = super().pop()
        if frame is None or frame.number not in self._instead:
            return frame
        return replace(frame, pixels=self._instead[frame.number])


def test_odd_tags_end_neither_recording_nor_denoising(tmp_path: Path, bundle: Path) -> None:
    frames = [replace(frame, tags={"n": 1, "odd": circle(), "none": Mute()}) for frame in frames_of(40)]
    report = live(settings_of(tmp_path, bundle, denoiser="process"), source=Steady(frames, {}))
    counts = report["frames"]
    assert counts["received"] == counts["written_raw"] == 40
    assert "denoiser failed" not in counts["dropped"]
    (problem,) = report["outcome"]["problems"]
    assert problem.startswith("a tag of frame 0 could not be written (")
    assert [dict(record["tags"]) for record in read_raw(tmp_path / "run").records] == [{"n": 1}] * 40


def test_what_is_no_picture_is_left_out_and_said(tmp_path: Path, bundle: Path) -> None:
    instead = {
        5: np.zeros((0, 8), np.uint16),
        6: np.zeros((6, 8, 3), np.uint8),
        7: np.zeros((6, 8), complex),
        8: None,
        9: b"pixels",
    }
    settings = settings_of(tmp_path, bundle)
    frames = frames_of(40)
    report = live(settings, source=Odd(frames, instead))
    recording = read_raw(tmp_path / "run")
    kept = [index for index in range(40) if index not in instead]
    np.testing.assert_array_equal(recording.read(), [frames[index].pixels for index in kept])
    assert [record["number"] for record in recording.records] == kept
    assert report["frames"]["received"] == 35
    assert report["outcome"]["exit_code"] == 1
    (problem,) = report["outcome"]["problems"]
    assert problem == (
        "5 things were sent that are no pictures, the first after 5 frames (uint16 values of shape 0 x 8); nothing "
        "of that kind can be recorded, and the recording went on"
    )


def test_an_error_that_cannot_be_printed_is_called_by_its_kind() -> None:
    assert one_line(MuteError()) == "MuteError"


def refuse(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("denoscope.acquisition.raw.pages.write_at", refuse)


def full_sidecar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RawWriter, "_write_lines", refuse)


def full_movie(monkeypatch: pytest.MonkeyPatch) -> None:
    def begun(folder: Path, *_: Any, **__: Any) -> None:
        (folder / "denoised.ome.tif").write_bytes(b"II")
        refuse()

    monkeypatch.setattr(run_files, "open_live_sink", begun)


@pytest.mark.parametrize("full", [full_header, full_sidecar, full_movie])
def test_a_disk_that_is_full_before_the_camera_runs_leaves_nothing_in_the_way(
    tmp_path: Path,
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    full: Callable[[pytest.MonkeyPatch], None],
) -> None:
    settings = settings_of(tmp_path, bundle)
    with monkeypatch.context() as patched:
        full(patched)
        with pytest.raises(OSError, match="No space left"):
            live(settings, source=Steady(frames_of(8), {}))
    assert not (tmp_path / "run").exists()
