"""Recordings of Micro-Manager and of scripts: whole, interrupted, in several parts, and while they grow."""

from __future__ import annotations

import json
import struct
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tifffile

from denoscope.acquisition.sources import Part
from denoscope.acquisition.sources.growing.tails import TiffTail
from denoscope.acquisition.sources.growing.watch import WatchSource
from denoscope.acquisition.testing import pop_all
from denoscope.runtime import InvalidInput, open_movie
from support.micro_manager_stack import stack_steps
from support.races import Race, Recorded, put, run_race

MOVIE = np.arange(1, 5 * 2 * 64 + 1, dtype=np.uint16).reshape(5, 2, 8, 8)
NAME = "x_MMStack_Pos0.ome.tif"


def written(path: Path, first: int = 0, last: int = 10, *, channels: int = 2, ended: bool = False) -> Path:
    """Write images `first` to `last` of the recording, whose channels take turns."""
    places = [divmod(number, 2) if channels == 2 else (number, 0) for number in range(first, last)]
    frames = [({"channel": c, "slice": 0, "frame": t, "position": 0}, MOVIE[t, c]) for t, c in places]
    for step in stack_steps(path, frames, {"Channels": channels, "Frames": 5, "Slices": 1}, ended=ended):
        step()
    return path


@pytest.mark.parametrize(("images", "ended"), [(10, True), (10, False), (7, False)])
def test_channels_of_a_stack_without_ome_xml_are_told_apart(tmp_path: Path, images: int, ended: bool) -> None:
    path = written(tmp_path / NAME, last=images, ended=ended)
    with pytest.raises(InvalidInput, match="2 channels"):
        open_movie(path)
    for channel in (0, 1):
        frames = (images + 1 - channel) // 2
        for place in (path, tmp_path):
            np.testing.assert_array_equal(
                np.asarray(open_movie(place, channel=channel)), MOVIE[:frames, channel]
            )


def test_one_channel_is_read_up_to_the_room_behind_it(tmp_path: Path) -> None:
    movie = open_movie(written(tmp_path / NAME, last=4, channels=1))
    np.testing.assert_array_equal(np.asarray(movie), MOVIE[:4, 0])


@pytest.mark.parametrize("channels", [1, 2])
def test_parts_of_an_interrupted_stack_are_one_movie(tmp_path: Path, channels: int) -> None:
    cuts = [0, 4, 8, 10] if channels == 2 else [0, 2, 4, 5]
    for part, (first, last) in enumerate(pairwise(cuts)):
        name = NAME.replace(".", f"_{part}.", 1) if part else NAME
        written(tmp_path / name, first, last, channels=channels)
    choice = {"channel": 1} if channels == 2 else {}
    for place in (tmp_path, tmp_path / NAME, tmp_path / "x_MMStack_Pos0_2.ome.tif")[: channels + 1]:
        movie = open_movie(place, **choice)  # type: ignore[arg-type]
        np.testing.assert_array_equal(np.asarray(movie), MOVIE[:, channels - 1])


def test_a_stack_that_ended_before_its_first_frame(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="holds no complete frame"):
        open_movie(written(tmp_path / NAME, last=0))


def test_one_channel_of_a_stack_is_watched(tmp_path: Path) -> None:
    source = WatchSource(written(tmp_path / NAME, ended=True), idle_s=0.3, part=Part(channel="1"))
    source.open()
    source.start()
    np.testing.assert_array_equal([frame.pixels for frame in pop_all(source)], MOVIE[:, 1])
    source.close()


@pytest.mark.parametrize("call", range(0, 12, 3))
def test_a_stack_is_watched_while_its_writer_goes_on(tmp_path: Path, call: int) -> None:
    path = tmp_path / NAME
    frames = [({"channel": 0, "slice": 0, "frame": t, "position": 0}, MOVIE[t, 0]) for t in range(4)]
    for begin in range(0, 18, 5):
        steps = stack_steps(path, frames, {"Channels": 1}, ended=True)
        race = Race(steps, lambda at: 1000 if at == call else 0)
        race.advance(begin)
        outcome = run_race(path, race)
        assert (outcome.error, outcome.notes) == (None, [])
        np.testing.assert_array_equal([frame.pixels for frame in outcome.frames], MOVIE[:4, 0])
        path.unlink()


def test_an_index_that_ends_within_an_entry_lists_the_frames_before(tmp_path: Path) -> None:
    name = b"data_NDTiffStack.tif"
    (tmp_path / name.decode()).write_bytes(MOVIE[:, 0].astype("<u2").tobytes())
    entries = []
    for t in range(3):
        axes = json.dumps({"time": t}).encode()
        texts = b"".join(struct.pack("<I", len(text)) + text for text in (axes, name))
        entries.append(texts + struct.pack("<IiiiiIii", 128 * t, 8, 8, 1, 0, 0, 0, 0))
    whole = b"".join(entries)
    for size in range(len(entries[0]), len(whole) + 1):
        (tmp_path / "NDTiff.index").write_bytes(whole[:size])
        frames = size // len(entries[0])
        np.testing.assert_array_equal(np.asarray(open_movie(tmp_path)), MOVIE[:frames, 0])


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}])
def test_a_tiff_that_still_grows_gives_whole_frames_or_a_sentence(
    tmp_path: Path, options: dict[str, str]
) -> None:
    path = tmp_path / "movie.tif"
    memory = Recorded(path)
    with tifffile.TiffWriter(memory) as writer:
        for frame in MOVIE[:3, 0]:
            writer.write(frame, photometric="minisblack", contiguous=False, metadata=None, **options)  # type: ignore[arg-type]
    most = 0
    for step in memory.steps:
        step()
        try:
            frames = np.asarray(open_movie(path, mapped=False))
        except InvalidInput as error:
            assert "\n" not in str(error)  # noqa: PT017
            continue
        np.testing.assert_array_equal(frames, MOVIE[: len(frames), 0])
        most = max(most, len(frames))
    assert most == 3


def test_a_page_is_not_taken_before_its_metadata(tmp_path: Path) -> None:
    path = written(tmp_path / NAME, last=4)
    whole = path.read_bytes()
    about = whole.rindex(b'{"ChannelIndex"')
    end = whole.index(b"}", about) + 1
    put(path, about, bytes(end - about))
    tail = TiffTail(path)
    grown = [tail.read(settled=number == 3) for number in range(4)]
    put(path, about, whole[about:end])
    grown.append(tail.read(settled=True))
    tail.close()
    assert [None if each is None else each.tags["ChannelIndex"] for each in grown] == [0, 1, 0, None, 1]


def test_a_page_without_metadata_between_others_is_taken(tmp_path: Path) -> None:
    path = written(tmp_path / NAME, last=4)
    whole = path.read_bytes()
    about = [at for at in range(len(whole)) if whole.startswith(b'{"ChannelIndex"', at)][2]
    put(path, about, bytes(whole.index(b"}", about) + 1 - about))
    tail = TiffTail(path)
    grown = [tail.read(settled=number == 3) for number in range(4)]
    tail.close()
    assert [None if each is None else each.tags.get("ChannelIndex") for each in grown] == [0, 1, None, 1]
    assert None not in grown


@pytest.mark.parametrize("channels", [1, 2])
def test_a_last_page_that_was_begun_only_is_left_out(tmp_path: Path, channels: int) -> None:
    path = written(tmp_path / NAME, last=4, channels=channels)
    whole = path.read_bytes()
    about = whole.rindex(b'{"ChannelIndex"')
    put(path, about, bytes(whole.index(b"}", about) + 1 - about))
    if channels == 1:
        np.testing.assert_array_equal(np.asarray(open_movie(path)), MOVIE[:3, 0])
        return
    for channel, frames in ((0, 2), (1, 1)):
        np.testing.assert_array_equal(np.asarray(open_movie(path, channel=channel)), MOVIE[:frames, channel])
