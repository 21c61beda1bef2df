from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from denoscope.acquisition import Frame, OutputExists, RawWriter, SourceInfo, read_raw
from denoscope.acquisition.raw.writer import raw_pages
from denoscope.acquisition.sources.micromanager.core import frame_from, image_dtype
from denoscope.runtime import InvalidInput

INFO = SourceInfo("demo", "demo", "Cam", (6, 8), np.dtype(np.uint16), pixel_size_um=0.5, exposure_s=0.01)


def frames(count: int) -> list[Frame]:
    return [
        Frame(
            np.full((6, 8), number, np.uint16),
            number,
            number / 10,
            "Cam",
            {"ImageNumber": str(number)},
            1e9 + number,
        )
        for number in range(count)
    ]


def record(folder: Path, count: int = 5) -> None:
    with RawWriter(folder, INFO, "1.2.3") as writer:
        for frame in frames(count):
            writer.append(frame)
        assert writer.written == count
        assert writer.nbytes == sum(path.stat().st_size for path in folder.iterdir())


def test_round_trip(tmp_path: Path) -> None:
    record(tmp_path)
    recording = read_raw(tmp_path)
    assert recording.notes == ()
    assert np.array_equal(recording.read(), np.stack([frame.pixels for frame in frames(5)]))
    assert [line["number"] for line in recording.records] == [0, 1, 2, 3, 4]
    assert recording.records[3]["tags"] == {"ImageNumber": "3"}
    assert recording.header["source"]["pixel_size_m"] == pytest.approx(5e-7)
    assert recording.header["denoscope"] == "1.2.3"


@pytest.mark.skipif(sys.platform != "linux", reason="Linux names open files, and lets their disk go")
def test_a_recording_whose_disk_is_unmounted_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    writer = RawWriter(folder, INFO, "1.2.3")
    writer.append(frames(1)[0])
    folder.rename(tmp_path / "moved")
    assert not writer.removed  # it has a path
    monkeypatch.setattr(Path, "readlink", lambda _path: Path("/run/nowhere/raw.tif"))  # below no root
    assert writer.removed
    writer.close()
    assert writer.restored == folder
    assert np.array_equal(read_raw(folder).read(), frames(1)[0].pixels[None])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not remove open files")
@pytest.mark.parametrize("occupied", [False, True])
def test_a_removed_recording_is_written_again(tmp_path: Path, occupied: bool) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    writer = RawWriter(folder, INFO, "1.2.3")
    for number, frame in enumerate(frames(6)):
        if number == 3:
            shutil.rmtree(folder)
            assert writer.removed
        writer.append(frame)
    if occupied:  # by another recording
        folder.mkdir()
        record(folder, 2)
    writer.close()
    writer.close()
    assert writer.restored == (tmp_path / "run-restored" if occupied else folder)
    recording = read_raw(writer.restored)
    assert recording.notes == ()
    assert np.array_equal(recording.read(), np.stack([frame.pixels for frame in frames(6)]))
    assert len(recording.records) == 6


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    record(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(OutputExists, match="never overwritten"):
        RawWriter(tmp_path, INFO, "1.2.3")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("cut", [1, 20])
def test_a_line_that_was_cut_off_is_ignored(tmp_path: Path, cut: int) -> None:
    record(tmp_path)
    sidecar = tmp_path / "raw.jsonl"
    sidecar.write_bytes(sidecar.read_bytes()[:-cut])
    recording = read_raw(tmp_path)
    assert len(recording) == 5
    assert len(recording.records) == 4
    assert len(recording.notes) == 2


def test_lines_without_pages_are_ignored(tmp_path: Path) -> None:
    record(tmp_path)
    with (tmp_path / "raw.jsonl").open("a") as file:
        file.write(json.dumps({"page": 5, "number": 5}) + "\n")
    recording = read_raw(tmp_path)
    assert len(recording.records) == len(recording) == 5
    assert "1 line without a page" in recording.notes[0]


def test_empty_recording(tmp_path: Path) -> None:
    record(tmp_path, 0)
    recording = read_raw(tmp_path)
    assert len(recording) == 0
    assert recording.read().shape == (0, 0, 0)


def test_what_is_no_recording(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="missing"):
        read_raw(tmp_path)
    record(tmp_path)
    (tmp_path / "raw.jsonl").write_text('{"format": "other"}\n')
    with pytest.raises(InvalidInput, match="header"):
        read_raw(tmp_path)
    (tmp_path / "raw.jsonl").write_text("no json\n")
    with pytest.raises(InvalidInput, match="not JSON"):
        read_raw(tmp_path)


TAGS = {"Width": "8", "Height": "6", "ImageNumber": "4", "TimeReceivedByCore": "2026-01-02 03:04:05.5"}


def test_flat_pixels_get_the_shape_of_their_tags() -> None:
    frame = frame_from(np.arange(48, dtype=np.uint16), TAGS, "Cam", 9)
    assert (frame.pixels.shape, frame.agrees, frame.number) == ((6, 8), True, 4)
    assert frame.core_unix_s is not None
    assert frame.core_unix_s % 1 == 0.5


@pytest.mark.parametrize("shape", [(8, 6), (3, 8), (40,)])
def test_pixels_that_disagree_with_their_tags_are_kept_and_marked(shape: tuple[int, ...]) -> None:
    pixels = np.arange(int(np.prod(shape)), dtype=np.uint16).reshape(shape)
    frame = frame_from(pixels, TAGS, "Cam", 9)
    assert not frame.agrees
    assert np.array_equal(frame.pixels.ravel(), pixels.ravel())


def test_tags_may_be_absent_or_strange() -> None:
    frame = frame_from(np.zeros((6, 8), np.uint16), {"TimeReceivedByCore": "yesterday"}, "Cam", 9)
    assert (frame.number, frame.camera, frame.core_unix_s, frame.agrees) == (9, "Cam", None, True)


def test_colour_is_refused() -> None:
    assert image_dtype(1, 1) == np.uint8
    with pytest.raises(InvalidInput, match="4 component"):
        image_dtype(4, 4)


def test_pages_are_read_in_any_order(tmp_path: Path) -> None:
    record(tmp_path, 9)
    pages, whole = raw_pages(tmp_path), read_raw(tmp_path).read()
    assert pages.shape == whole.shape == (9, 6, 8)
    assert pages.dtype == np.uint16
    for index in (8, 0, -1, 3):
        np.testing.assert_array_equal(pages[index], whole[index])
    np.testing.assert_array_equal(pages[2:7], whole[2:7])
    np.testing.assert_array_equal(pages[::-3], whole[::-3])
    assert pages[9:].shape == (0, 6, 8)


def test_a_tag_cannot_pretend_to_be_a_page(tmp_path: Path) -> None:
    lie = '","shape":[1,1],"dtype":"uint8","agrees":'
    with RawWriter(tmp_path, INFO, "1.2.3") as writer:
        for number in range(3):
            writer.append(Frame(np.full((6, 8), number, np.uint16), number, 0.0, lie, {lie: lie}))
    assert raw_pages(tmp_path).shape == (3, 6, 8)


def test_pages_of_several_kinds_and_cut_ones_are_refused(tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    with RawWriter(mixed, INFO, "1.2.3") as writer:
        for height in (6, 5):
            writer.append(Frame(np.zeros((height, 8), np.uint16), height, 0.0, "Cam", {}))
    with pytest.raises(InvalidInput, match="2 kinds"):
        raw_pages(mixed)
    cut = tmp_path / "cut"
    cut.mkdir()
    record(cut)
    with (cut / "raw.tif").open("r+b") as file:
        file.truncate(200)
    with pytest.raises(InvalidInput, match="cut off"):
        raw_pages(cut)[4]


def _tagged(number: int, camera: str = "Cam", **more: object) -> Frame:
    tags = {f"Stage-{i}": f"value {i}" for i in range(200)} | {"ImageNumber": str(number), **more}
    return Frame(np.zeros((6, 8), np.uint16), number, number / 10, camera, tags)


def test_two_hundred_tags_are_written_once(tmp_path: Path) -> None:
    given = [_tagged(number, ["A", "B"][number % 2]) for number in range(20)]
    given += [_tagged(20, "A", **{"Stage-7": "moved"}), _tagged(21, "B"), _tagged(22, "A", Shutter=True)]
    fewer = _tagged(23, "A")
    given.append(Frame(fewer.pixels, 23, 2.3, "A", {"ImageNumber": "23", "Gain": 1}))
    given += [Frame(fewer.pixels, 24, 2.4, "A", {"ImageNumber": "24", "Gain": True}), _tagged(25, "B")]
    with RawWriter(tmp_path, INFO, "1.2.3") as writer:
        for frame in given:
            writer.append(frame)
    lines = (tmp_path / "raw.jsonl").read_bytes().splitlines()
    assert [len(line) > 2000 for line in lines[1:6]] == [True, True, False, False, False]
    assert max(map(len, lines[3:20])) < 250
    recording = read_raw(tmp_path)
    assert [dict(record["tags"]) for record in recording.records] == [dict(frame.tags) for frame in given]
    assert [type(record["tags"].get("Gain")) for record in recording.records[-3:-1]] == [int, bool]
    assert len(raw_pages(tmp_path)) == len(given)


def test_all_tags_come_again_after_a_line_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RawWriter(tmp_path, INFO, "1.2.3") as writer:
        writer.append(_tagged(0))
        with monkeypatch.context() as patch:
            patch.setattr(writer, "_line", lambda _values: (_ for _ in ()).throw(OSError("no room")))
            with pytest.raises(OSError, match="no room"):
                writer.append(_tagged(1, **{"Stage-7": "moved"}))
        writer.append(_tagged(2, **{"Stage-7": "moved"}))
    last = json.loads((tmp_path / "raw.jsonl").read_bytes().splitlines()[-1])
    assert last["tags"]["Stage-7"] == "moved"


def test_a_recording_of_an_older_version_is_read(tmp_path: Path) -> None:
    record(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "raw.jsonl").read_bytes().splitlines()]
    lines[0]["schema_version"] = 1
    for number, line in enumerate(lines[1:]):
        line.pop("tags_changed", None)
        line["tags"] = {"ImageNumber": str(number)}
    (tmp_path / "raw.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [each["tags"] for each in read_raw(tmp_path).records] == [
        {"ImageNumber": str(i)} for i in range(5)
    ]
