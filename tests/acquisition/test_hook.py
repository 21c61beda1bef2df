"""The hook on real pycromanager acquisitions: nothing that happens on our side reaches the user's data."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import tifffile
from ome_types import from_tiff

from acquisition.conftest import QUICK, environment
from denoscope.acquisition import OutputExists, Source, SourceFailed, attach, hook
from denoscope.acquisition.integrations import hook as hook_module
from denoscope.acquisition.integrations.pymmcore_plus import Following  # made by `attach`, which needs a core
from denoscope.acquisition.processes.wire import pack
from denoscope.acquisition.sources.pipe import PipeSource, end_words, frame_words, pixel_bytes
from denoscope.acquisition.testing import Movie, SourceContract, numbered_frames, pop_all
from denoscope.runtime import InvalidInput, open_movie
from support.skips import needs

FRAMES = 60
# Clocks; they differ between any two runs.
CLOCKS = {"Time", "ElapsedTime-ms"}
Dataset = dict[tuple[Any, ...], tuple[Any, dict[str, Any]]]


def acquire(folder: Path, mode: str, bundle: Path) -> dict[str, Any] | None:
    script = Path(__file__).with_name("acquire.py")
    done = subprocess.run(
        [sys.executable, script, folder, mode, bundle],
        capture_output=True,
        text=True,
        timeout=280,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    result: dict[str, Any] | None = json.loads(done.stdout) if done.stdout.strip() else None
    if result is not None:
        assert result["seen"] == result["sent"] + sum(result["dropped"].values()) == FRAMES
        assert json.loads((folder / "denoised" / "hook.json").read_text(encoding="utf-8")) == result
    return result


def dataset(folder: Path) -> Dataset:
    from ndstorage import Dataset as Reader

    with redirect_stdout(io.StringIO()), Reader(str(folder / "data_1")) as reader:
        return {
            tuple(sorted(axes.items())): (reader.read_image(**axes), reader.read_metadata(**axes))
            for axes in reader.get_image_coordinates_list()
        }


@pytest.fixture(scope="module")
def without_us(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Dataset:
    needs("pycromanager", "micromanager")
    folder = tmp_path_factory.mktemp("without") / "run"
    acquire(folder, "none", bundle)
    frames = dataset(folder)
    assert len(frames) == FRAMES
    assert len({pixels.tobytes() for pixels, _ in frames.values()}) > 5, "frames in another order would show"
    return frames


def assert_same(found: Dataset, expected: Dataset) -> None:
    assert found.keys() == expected.keys()
    for axes, (pixels, metadata) in expected.items():
        np.testing.assert_array_equal(found[axes][0], pixels)
        assert found[axes][1].keys() == metadata.keys()
        assert {k: v for k, v in found[axes][1].items() if k not in CLOCKS} == {
            k: v for k, v in metadata.items() if k not in CLOCKS
        }


@pytest.mark.micromanager
@pytest.mark.parametrize(
    "mode", [pytest.param("plain", marks=pytest.mark.slow), "raises", "hangs", "killed", "forgotten"]
)
def test_the_users_dataset_is_the_one_without_us(
    tmp_path: Path, bundle: Path, without_us: Dataset, mode: str
) -> None:
    if mode == "hangs" and sys.platform == "win32":
        pytest.skip("Windows cannot stop a process as SIGSTOP does")
    result = acquire(tmp_path / "run", mode, bundle)
    assert_same(dataset(tmp_path / "run"), without_us)
    output = tmp_path / "run" / "denoised"
    if mode in ("plain", "forgotten"):
        report = json.loads((output / "report.json").read_text(encoding="utf-8"))
        assert report["frames"]["received"] == report["frames"]["denoised"] == FRAMES
        assert [each["channel"] for each in report["streams"]] == ["DAPI", "FITC"]
        pixels = from_tiff(output / "denoised.ome.tif").images[0].pixels
        assert (pixels.size_c, pixels.size_t) == (2, FRAMES // 2)
        assert tifffile.imread(output / "denoised.ome.tif").shape == (FRAMES // 2, 2, 48, 64)
        assert not (output / "raw.tif").exists()
    else:
        assert result is not None
        reason = {"raises": "hook failed", "hangs": "overrun", "killed": "denoiser ended"}[mode]
        assert result["dropped"][reason] >= 20
        killed = "ended with code" if sys.platform == "win32" else "ended by signal 9"
        word = {"raises": "a bad day", "hangs": "ended by force", "killed": killed}[mode]
        assert word in result["problem"]
        assert "your acquisition was not affected" in result["problem"]


def frames(count: int) -> list[np.ndarray[Any, np.dtype[np.uint16]]]:
    return list(np.random.default_rng(0).poisson(100, (count, 32, 40)).astype(np.uint16))


def test_it_returns_what_it_was_given_and_copies_at_once(tmp_path: Path, bundle: Path) -> None:
    with hook(output=tmp_path / "out", bundle=bundle, backend=QUICK, keep_raw=True) as follower:
        for number, image in enumerate(frames(20)):
            kept = image.copy()
            metadata = {"Axes": {"time": number}, "Camera": "A", "odd": {1, 2}}
            given = follower(image, metadata)
            assert given[0] is image
            assert given[1] is metadata
            np.testing.assert_array_equal(image, kept)
            image[:] = 0  # as an acquisition that reuses its memory
    finished = follower.finish()
    result = finished.as_json()
    assert result["dropped"] == {}
    assert result["report"]["frames"]["denoised"] == 20
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / "raw.tif"), frames(20))
    assert follower.finish() is finished
    assert follower(frames(1)[0], {})[1] == {}
    assert follower.status.dropped == {"after the end": 1}


def test_frames_that_cannot_be_denoised_are_counted(tmp_path: Path, bundle: Path) -> None:
    with hook(output=tmp_path / "out", bundle=bundle, backend=QUICK) as follower:
        for image in (np.zeros((4, 4, 3), np.uint8), np.zeros((20, 20), np.float32), None, frames(1)[0]):
            assert follower(image, {"Axes": {}})[0] is image
        assert follower("no image", 3) == ("no image", 3)
    result = follower.finish().as_json()
    assert result["dropped"] == {"not one channel of 8 or 16 bits": 2, "hook failed": 2}
    assert (result["seen"], result["sent"]) == (5, 1)
    assert "left out by an error in the hook" in result["problem"]


class Mute:
    def __str__(self) -> str:
        raise RuntimeError("nothing to say")


class Closed:
    def keys(self) -> list[str]:
        raise OSError("gone")


CIRCLE: dict[str, Any] = {}
CIRCLE["itself"] = CIRCLE
ODD: list[Any] = [
    {"Value": float("nan"), "Bytes": b"\xff", "Array": np.arange(3)},
    {"Long": "x" * (1 << 24), "Camera": "A"},
    None,
    b"bytes",
    [1, 2],
    CIRCLE,
    {"Mute": Mute()},
    Closed(),
    {(1, 2): 3, "Large": 10**5000},
    {"Axes": None},
    {"Axes": [1, 2]},
    {"Axes": {"time": Mute()}},
]


def test_odd_metadata_costs_no_frame(tmp_path: Path, bundle: Path) -> None:
    sent = [*frames(12), frames(1)[0].astype(">u2"), np.zeros((0, 40), np.uint16)]
    with hook(output=tmp_path / "out", bundle=bundle, backend=QUICK, keep_raw=True) as follower:
        for image, metadata in zip(sent, [*ODD, {}, {}], strict=True):
            given = follower(image, metadata)
            assert given[0] is image
            assert given[1] is metadata
    result = follower.finish()
    assert (result.seen, result.sent) == (14, 13)
    assert result.dropped == {"not one channel of 8 or 16 bits": 1}
    assert result.problem is not None
    assert "Metadata of frame" in result.problem
    assert "the frame itself was denoised" in result.problem
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / "raw.tif"), np.stack(sent[:13]))
    lines = (tmp_path / "out" / "raw.jsonl").read_text(encoding="utf-8")
    assert "NaN" not in lines.replace('"nan"', "").replace('"NaN"', ""), (
        "programs that are strict read no such line"
    )


def test_frames_that_were_left_out_are_said(tmp_path: Path, bundle: Path) -> None:
    with hook(output=tmp_path / "out", bundle=bundle, backend=QUICK) as follower:
        for image in (*frames(3), np.zeros((32, 40), np.float32)):
            follower(image, {})
    assert follower.finish().problem == (
        "1 of 4 frames did not reach the denoiser (1: not of one channel with 8 or 16 bits); your acquisition was not "
        "affected, and `denoscope denoise` denoises its frames afterwards."
    )


def test_an_engine_without_metadata_costs_no_frame() -> None:
    taken: list[Any] = []
    follower = MagicMock(push=lambda image, tags: taken.append((image, tags)))
    following = Following(MagicMock(), follower)
    event = MagicMock(index={"t": 3}, channel=None)
    following._frame_ready("image", event, None)  # the engine's signal calls it
    following._frame_ready("image", None, {})
    assert taken == [("image", {"Axes": {"t": 3}}), ("image", {})]
    follower.say_odd_tags.assert_called_once()
    follower.failed.assert_not_called()


def test_the_call_does_not_wait(tmp_path: Path, bundle: Path) -> None:
    image = np.zeros((512, 512), np.uint16)
    with hook(output=tmp_path / "out", bundle=bundle, backend=QUICK, queue_mb=20) as follower:
        took = []
        for number in range(200):
            began = time.perf_counter()
            follower(image, {"Axes": {"time": number}})
            took.append(time.perf_counter() - began)
        assert np.median(took) < 0.005
    result = follower.finish().as_json()
    assert result["seen"] == 200 == result["sent"] + sum(result["dropped"].values())


@pytest.mark.parametrize(
    ("settings", "error", "what"),
    [
        ({"bundle": "nowhere"}, InvalidInput, "nowhere"),
        pytest.param({"backend": "abacus"}, InvalidInput, "abacus", marks=pytest.mark.slow),
        ({"queue_mb": 0}, InvalidInput, "queue_mb"),
        ({"look_ahead": 99}, InvalidInput, "look-ahead"),
    ],
)
def test_mistakes_are_said_before_the_acquisition(
    tmp_path: Path, bundle: Path, settings: dict[str, Any], error: type[Exception], what: str
) -> None:
    with pytest.raises(error, match=what):
        hook(**{"output": tmp_path / "out", "bundle": bundle, **settings})


def test_a_folder_is_never_overwritten(tmp_path: Path, bundle: Path) -> None:
    with hook(output=tmp_path, bundle=bundle, backend=QUICK) as follower:
        follower(frames(1)[0], {})
    with pytest.raises(OutputExists, match=r"hook\.json"):
        hook(output=tmp_path, bundle=bundle)


def packed(movie: Movie) -> bytes:
    messages = [
        (frame_words(frame, number, 0.0, {}), pixel_bytes(frame)) for number, frame in enumerate(movie)
    ]
    sent = [pack(words, body) + bytes(body) for words, body in messages]
    return b"".join(sent) + pack(end_words({"seen": len(movie)}))


class TestPipe(SourceContract):
    def make(self, frames: Movie, folder: Path) -> Source:
        return PipeSource(io.BytesIO(packed(frames)))

    def make_absent(self, folder: Path) -> Source:
        return PipeSource(io.BytesIO(b""))


@pytest.mark.parametrize(("cut", "complete"), [(-100, 5), (-1000, 5), (-2000, 4), (-5000, 2)])
def test_a_pipe_that_breaks_gives_what_arrived_and_says_so(cut: int, complete: int) -> None:
    source = PipeSource(io.BytesIO(packed(numbered_frames(6))[:cut]))
    source.open()
    source.start()
    assert len(pop_all(source, most=complete)) == complete
    with pytest.raises(SourceFailed, match="broke"):
        pop_all(source)


def test_a_pipe_of_something_else_is_refused() -> None:
    source = PipeSource(io.BytesIO(b"GET / HTTP/1.1 and so on"))
    with pytest.raises(ConnectionError, match="no messages"):
        source.open()


@pytest.mark.parametrize("connect", [hook_module.hook, lambda **more: attach(MagicMock(), **more)])
def test_line_offsets_can_be_corrected_and_the_format_chosen(
    connect: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[dict[str, Any]] = []
    monkeypatch.setattr(hook_module, "Follower", lambda settings, **_: given.append(settings))
    connect(output=tmp_path, fix_line_offset=True, denoised_format="ome-zarr")
    connect(output=tmp_path)
    assert [settings["fix_line_offset"] for settings in given] == [True, False]
    assert [settings["denoised_format"] for settings in given] == ["ome-zarr", "ome-tiff"]


def test_it_writes_the_format_that_was_asked_for(tmp_path: Path, bundle: Path) -> None:
    pytest.importorskip("yaozarrs", reason="needs the extra 'formats'")
    with hook(output=tmp_path / "run", bundle=bundle, backend=QUICK, denoised_format="ome-zarr") as follower:
        for frame in frames(12):
            follower(frame, {"Camera": "mine"})
    result = follower.finish()
    assert (result.seen, result.problem) == (12, None)
    assert open_movie(tmp_path / "run" / "denoised.ome.zarr").shape == (12, 32, 40)
    with pytest.raises(InvalidInput, match="denoised_format"):
        hook(output=tmp_path / "other", bundle=bundle, denoised_format="gif")  # type: ignore[arg-type]


def test_the_end_may_take_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []
    monkeypatch.setattr(hook_module, "Follower", lambda settings, **_: given.append(settings))
    hook(output=tmp_path / "run", finish_s=90.0)
    core = MagicMock()
    attach(core, output=tmp_path / "run", finish_s=80.0)
    assert [settings["finish_s"] for settings in given] == [90.0, 80.0]
