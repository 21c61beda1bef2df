"""Traces, triggers and callbacks of real sessions: live, of recorded movies, and after an interruption."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from denoscope.acquisition import OutputExists, SessionReport, denoise_movie, hook, live, read_raw
from denoscope.acquisition.frames.live_frame import LiveFrame
from denoscope.acquisition.offline import denoise as denoise_module
from denoscope.acquisition.offline import traces as traces_module
from denoscope.acquisition.offline.traces import name_traces
from denoscope.acquisition.regions import search
from denoscope.acquisition.regions.trace_file import read_traces
from denoscope.acquisition.results import TracesRecord
from denoscope.acquisition.session.recording.watchers import Watchers
from denoscope.acquisition.session.running import LiveSession
from denoscope.acquisition.triggers.trigger import Trigger
from denoscope.runtime import DenoscopeError, InvalidInput

from .conftest import Run
from .test_regions import AtOnce

KINDS = ("raw", "denoised", "std", "dff")
FLASH = slice(24, 30)


@pytest.fixture(scope="module")
def flashing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A movie in which region 2 flashes in frames 24 to 29."""
    frames = np.random.default_rng(8).poisson(150, (48, 48, 56)).astype(np.uint16)
    frames[FLASH, 30:40, 30:40] += 300
    path = tmp_path_factory.mktemp("flash") / "movie.tif"
    tifffile.imwrite(path, frames)
    labels = np.zeros((48, 56), np.uint8)
    labels[5:15, 5:15], labels[30:40, 30:40] = 1, 2
    tifffile.imwrite(path.with_name("numbered.tif"), np.array([0, 12, 5], np.uint8)[labels])
    tifffile.imwrite(path.with_name("cells.tif"), labels)
    return path


def record(movie: Path, output: Path, bundle: Path, **values: Any) -> SessionReport:
    settings = {"picture": False, "denoiser": "thread", "fps": 200, "lag_s": 60, **values}
    return live(core=f"watch:{movie}", output=output, bundle=str(bundle), idle_s=0.3, **settings)


def test_traces_of_a_session_equal_those_of_its_movie(flashing: Path, bundle: Path, tmp_path: Path) -> None:
    cells = flashing.with_name("cells.tif")
    report = record(flashing, tmp_path / "run", bundle, regions=cells)
    assert report.outcome.exit_code == 0, report.outcome
    assert report.traces is not None
    assert (report.traces.frames, report.traces.regions) == (48, 2)
    lives = read_traces(tmp_path / "run")
    denoised = tifffile.imread(tmp_path / "run" / "denoised.ome.tif")
    raw = read_raw(tmp_path / "run").read()
    np.testing.assert_allclose(lives.denoised[:, 1], denoised[:, 30:40, 30:40].mean((1, 2)), rtol=1e-8)
    np.testing.assert_allclose(lives.raw[:, 0], raw[:, 5:15, 5:15].mean((1, 2)), rtol=1e-8)
    assert (lives.dff[FLASH, 1] > 0.5).all()
    assert np.abs(lives.dff[:, 0]).max() < 0.3
    assert np.isfinite(lives.std).all()
    offline = denoise_movie(
        tmp_path / "run" / "raw.tif", tmp_path / "clean.ome.tif", bundle=str(bundle), regions=cells
    )
    assert offline.traces is not None
    assert offline.traces.file == "clean_traces.csv"
    table = read_traces(tmp_path / "clean_traces.csv")
    for kind in KINDS:
        np.testing.assert_allclose(getattr(lives, kind), getattr(table, kind), rtol=1e-6, atol=1e-9)
    labels = tifffile.imread(tmp_path / "run" / "regions.tif")
    assert labels.max() == 2
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "clean_regions.tif"), labels)
    about = json.loads((tmp_path / "run" / "traces.json").read_text())
    assert about["regions"] == {"1": 100, "2": 100}


def test_the_picture_of_regions_has_their_numbers(flashing: Path, bundle: Path, tmp_path: Path) -> None:
    cells = flashing.with_name("numbered.tif")
    record(flashing, tmp_path / "run", bundle, regions=cells, trigger=["region 5 dff > 0.5"])
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "run" / "regions.tif"), tifffile.imread(cells))
    traces = read_traces(tmp_path / "run")
    assert traces.names == ("5", "12")
    assert (traces.dff[FLASH, 0] > 0.5).all()
    about = json.loads((tmp_path / "run" / "traces.json").read_text())
    assert about["labels"] == {"5": 5, "12": 12}


def test_traces_go_on_where_denoising_was_interrupted(flashing: Path, bundle: Path, tmp_path: Path) -> None:
    def stop_at(frame: int) -> Any:
        def on_frame(done: int, _total: int) -> None:
            if done == frame:
                raise KeyboardInterrupt

        return on_frame

    job = {"bundle": str(bundle), "regions": flashing.with_name("cells.tif"), "dark": 20.0}
    denoise_movie(flashing, tmp_path / "whole.ome.tif", **job)
    output = tmp_path / "clean.ome.tif"
    with pytest.raises(KeyboardInterrupt):
        denoise_movie(flashing, output, on_frame=stop_at(33), **job)
    partial = tmp_path / "clean_traces.csv.partial"
    partial.write_bytes(partial.read_bytes() + b"34,34,")  # as a kill leaves it
    with pytest.raises(InvalidInput, match="was begun with regions"):
        denoise_movie(flashing, output, resume=True, **{**job, "dark": 0.0})
    done = denoise_movie(flashing, output, resume=True, **job)
    assert done.resumed_from == 33
    one, two = (read_traces(tmp_path / f"{name}_traces.csv") for name in ("whole", "clean"))
    assert not two.torn
    for kind in KINDS:
        np.testing.assert_allclose(getattr(one, kind), getattr(two, kind), rtol=1e-6, atol=1e-9)
    assert not list(tmp_path.glob("*.partial"))
    assert tifffile.imread(tmp_path / "clean_regions.tif").max() == 2


def test_traces_get_their_names_where_only_the_names_were_missing(
    flashing: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = {"bundle": str(bundle), "regions": flashing.with_name("cells.tif")}
    output = tmp_path / "clean.ome.tif"

    def killed(_path: Path) -> None:
        raise KeyboardInterrupt

    confirmed: list[int] = []
    with monkeypatch.context() as patched:
        patched.setattr(denoise_module, "name_traces", killed)
        patched.setattr(traces_module, "confirm", confirmed.append)
        with pytest.raises(KeyboardInterrupt):
            denoise_movie(flashing, output, **job)
    assert not (tmp_path / "clean_traces.csv").exists()
    assert len(confirmed) == 1  # the picture of the regions
    done = denoise_movie(flashing, output, resume=True, **job)
    assert done.traces is not None
    assert (done.traces.frames, done.traces.regions, done.traces.file) == (48, 2, "clean_traces.csv")
    assert len(read_traces(tmp_path / "clean_traces.csv")) == 48
    assert tifffile.imread(tmp_path / "clean_regions.tif").max() == 2


def test_a_movie_too_short_to_find_regions_has_no_traces(tmp_path: Path) -> None:
    assert name_traces(tmp_path / "clean_traces.csv") == TracesRecord()
    assert not list(tmp_path.iterdir())


def test_no_file_of_traces_takes_the_place_of_another(flashing: Path, bundle: Path, tmp_path: Path) -> None:
    job = {"bundle": str(bundle), "regions": flashing.with_name("cells.tif")}
    output, std = tmp_path / "clean.ome.tif", tmp_path / "std.tif"
    for traces in (output, tmp_path / "clean.ome.tif.partial", std, tmp_path / "t.json"):
        with pytest.raises(InvalidInput, match="give `traces` another name"):
            denoise_movie(flashing, output, std=std, traces=traces, **job)
    for name in ("clean_regions.tif", "clean_traces.json"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(OutputExists, match=name):
            denoise_movie(flashing, output, **job)
        assert (tmp_path / name).read_text() == "mine"
        (tmp_path / name).unlink()


def test_regions_that_do_not_fit_leave_nothing_behind(flashing: Path, bundle: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "big.npy", np.ones((99, 99), np.uint8))
    for values, says in (
        ({"regions": tmp_path / "big.npy"}, "99 x 99"),
        ({"regions": tmp_path / "absent.zip"}, "no such file"),
        ({"trigger": ["region 1 dff > 1"]}, "needs `regions`"),
        ({"regions": flashing.with_name("cells.tif"), "trigger": ["region 7 dff > 1"]}, "region 7"),
        ({"trigger": ["frame raw > 1 then shutter close"]}, "a camera that denoscope drives"),
        ({"trigger": ["nonsense"]}, "not understood"),
    ):
        with pytest.raises(InvalidInput, match=says):
            record(flashing, tmp_path / "run", bundle, **values)
        assert not (tmp_path / "run").exists()
    with pytest.raises(InvalidInput, match="99 x 99"):
        denoise_movie(flashing, tmp_path / "c.ome.tif", bundle=str(bundle), regions=tmp_path / "big.npy")
    with pytest.raises(InvalidInput, match="needs `regions`"):
        denoise_movie(flashing, tmp_path / "c.ome.tif", bundle=str(bundle), traces=tmp_path / "t.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["big.npy"]


def test_a_trigger_fires_while_recording_and_is_noted(flashing: Path, bundle: Path, tmp_path: Path) -> None:
    fired: list[int] = []
    report = record(
        flashing,
        tmp_path / "run",
        bundle,
        regions=flashing.with_name("cells.tif"),
        trigger=["region 2 dff > 0.5 for 2 frames", "region 1 dff > 0.5"],
        triggers=[Trigger("any region dff > 0.5", lambda firing: fired.append(firing.number))],
    )
    assert report.outcome.exit_code == 0, report.outcome
    assert fired == [24]
    assert [each.fired for each in report.triggers] == [1, 0, 1]
    events = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    noted = [event for event in events if event["event"] == "trigger"]
    assert sorted(event["frame"] for event in noted) == [24, 25]
    assert all(event["delay_s"] >= 0 for event in noted)
    assert any("fired 1 time" in note for note in report.outcome.notes)
    again = SessionReport.read(tmp_path / "run")
    assert again.triggers == report.triggers


@pytest.mark.parametrize("denoiser", ["thread", "process"])
def test_every_frame_reaches_the_program_with_all_that_is_known(
    flashing: Path, bundle: Path, tmp_path: Path, denoiser: str
) -> None:
    seen: list[LiveFrame] = []
    cells = flashing.with_name("cells.tif")
    report = record(
        flashing, tmp_path / "run", bundle, on_denoised=seen.append, regions=cells, denoiser=denoiser
    )
    movie = tifffile.imread(flashing)
    denoised = tifffile.imread(tmp_path / "run" / "denoised.ome.tif")
    assert [frame.index for frame in seen] == list(range(48))
    for frame in seen:
        np.testing.assert_array_equal(frame.raw, movie[frame.index])
        np.testing.assert_array_equal(frame.denoised, denoised[frame.index])
        assert frame.std is not None
        assert frame.std.shape == frame.raw.shape
        assert frame.traces is not None
        assert 0 < frame.t_received_s <= frame.t_denoised_s
    assert report.on_denoised is not None
    assert report.on_denoised.called == 48
    assert not (tmp_path / "run" / "denoised_std.ome.tif").exists()


@pytest.mark.parametrize("floats", [False, True], ids=["counts", "float32"])
def test_raw_and_denoised_have_one_unit(flashing: Path, bundle: Path, tmp_path: Path, floats: bool) -> None:
    seen: list[LiveFrame] = []
    record(flashing, tmp_path / "run", bundle, on_denoised=seen.append, float32=floats)
    assert {frame.raw.dtype.name for frame in seen} == {"float32" if floats else "uint16"}
    assert {frame.denoised.dtype.name for frame in seen} == {"float32" if floats else "uint16"}


def test_a_program_that_raises_hangs_or_is_slow_costs_no_frame(
    flashing: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("denoscope.acquisition.frames.callback._PATIENCE_S", 0.3)
    monkeypatch.setattr("denoscope.acquisition.triggers.trigger._CLOSE_S", 0.3)

    def raises(_frame: LiveFrame) -> None:
        raise ValueError("mine")

    report = record(flashing, tmp_path / "raises", bundle, on_denoised=raises)
    assert report.frames.denoised == report.frames.written_raw == 48
    assert report.outcome.exit_code == 1
    assert "`on_denoised` raised an error for 48 frames (ValueError: mine)" in report.outcome.problems[0]
    forever = threading.Event()
    began_s = time.perf_counter()
    report = record(
        flashing,
        tmp_path / "hangs",
        bundle,
        on_denoised=lambda _frame: forever.wait(),
        triggers=[Trigger("frame raw > 1", lambda _firing: forever.wait())],
    )
    forever.set()
    assert time.perf_counter() - began_s < 200
    assert report.frames.denoised == report.frames.written_raw == 48
    assert len(report.outcome.problems) == 2
    assert all("left behind" in problem for problem in report.outcome.problems)


def test_a_loop_takes_frames_and_ends_the_recording(flashing: Path, bundle: Path, tmp_path: Path) -> None:
    with LiveSession(
        core=f"watch:{flashing}",
        output=tmp_path / "run",
        bundle=str(bundle),
        denoiser="thread",
        picture=False,
    ) as session:
        numbers = []
        for frame in session.frames():
            numbers.append(frame.number)
            if frame.number == 20:
                session.stop()
    assert numbers[:21] == list(range(21))
    assert session.report is not None
    assert session.report.outcome.reason == "stopped"
    assert session.missed == 0
    with (
        pytest.raises(DenoscopeError, match="nosuch"),
        LiveSession(core=f"watch:{flashing}", output=tmp_path / "two", bundle="nosuch"),
    ):
        pass
    with pytest.raises(InvalidInput, match="on_denoised"):
        LiveSession(core="demo", output="x", on_denoised=print)


def test_a_hook_hands_denoised_frames_back_to_the_program(
    flashing: Path, bundle: Path, tmp_path: Path
) -> None:
    seen: list[LiveFrame] = []

    def look(frame: LiveFrame) -> None:
        seen.append(frame)
        frame.denoised[0, 0] = 7  # the frame is the program's own
        if frame.number == 5:
            raise ValueError("mine")

    movie = tifffile.imread(flashing)
    with hook(
        output=tmp_path / "run",
        bundle=bundle,
        on_denoised=look,
        regions=flashing.with_name("cells.tif"),
        trigger=["region 2 dff > 0.5"],
    ) as follower:
        for frame in movie:
            follower(frame, {"Camera": "mine"})
    result = follower.finish()
    assert [frame.number for frame in seen] == list(range(48))
    for frame in seen:
        np.testing.assert_array_equal(frame.raw, movie[frame.number])
        assert frame.std is not None
        assert frame.tags["Camera"] == "mine"
        assert frame.traces is not None
        assert frame.traces.names == ("1", "2")
    denoised = tifffile.imread(tmp_path / "run" / "denoised.ome.tif")
    np.testing.assert_array_equal(seen[30].denoised[1:], denoised[30][1:])
    assert result.on_denoised is not None
    assert (result.on_denoised.called, result.on_denoised.raised) == (48, 1)
    assert "ValueError: mine" in str(result.problem)
    assert result.report is not None
    assert result.report.triggers[0].fired == 1
    with pytest.raises(InvalidInput, match="no such file"):
        hook(output=tmp_path / "two", bundle=bundle, regions="absent.zip")


def test_a_hook_gives_frames_to_a_loop(flashing: Path, bundle: Path, tmp_path: Path) -> None:
    numbers: list[int] = []
    with hook(output=tmp_path / "run", bundle=bundle, on_denoised="frames") as follower:
        loop = threading.Thread(target=lambda: numbers.extend(f.number for f in follower.frames()))
        loop.start()
        for frame in tifffile.imread(flashing)[:20]:
            follower.push(frame, {})
    loop.join(250)
    assert numbers == list(range(20))
    assert follower.finish().problem is None


def test_cells_are_found_while_recording(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "Thread", AtOnce)
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :64]
    scene = 100 + 200 * ((np.hypot(rows - 20, columns - 20) < 5) | (np.hypot(rows - 44, columns - 40) < 5))
    movie = tmp_path / "movie.tif"
    tifffile.imwrite(movie, rng.poisson(scene, (130, 64, 64)).astype(np.uint16))
    report = record(movie, tmp_path / "run", bundle, regions="find:5", trigger=["region 9 dff > 1"])
    assert report.traces is not None
    assert (report.traces.regions, report.traces.frames) == (2, 30)
    assert any("region 9" in problem for problem in report.outcome.problems)
    lives = read_traces(tmp_path / "run")
    assert lives.frame[0] == 100  # traces begin with the frame after the cells were found
    done = denoise_movie(movie, tmp_path / "clean.ome.tif", bundle=str(bundle), regions="find:5")
    assert done.traces is not None
    table = read_traces(tmp_path / "clean_traces.csv")
    assert table.frame[0] == 99
    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / "clean_regions.tif"), tifffile.imread(tmp_path / "run" / "regions.tif")
    )
    for kind in ("raw", "denoised"):
        np.testing.assert_allclose(getattr(table, kind)[1:], getattr(lives, kind), rtol=1e-6, atol=1e-9)


def test_the_shell_measures_regions_and_watches_for_triggers(
    flashing: Path, bundle: Path, tmp_path: Path, denoscope: Run
) -> None:
    cells = flashing.with_name("cells.tif")
    done = denoscope(
        "live", "--core", f"watch:{flashing}", "--output", tmp_path / "run", "--bundle", bundle, "--no-picture",
        "--denoiser", "thread", "--idle-s", "0.3", "--regions", cells,
        "--trigger", "region 2 dff > 0.5 then log", "--dry-run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "the trigger 'region 2 dff > 0.5' fired 1 time" in done.stdout + done.stderr
    done = denoscope(
        "denoise", tmp_path / "run" / "raw.tif", "--output", tmp_path / "clean.ome.tif", "--bundle", bundle,
        "--regions", cells, "--traces", tmp_path / "mine.csv",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traces of 2 regions in 48 frames: mine.csv" in done.stdout + done.stderr
    done = denoscope("live", "--core", "demo", "--output", tmp_path / "x", "--trigger", "if it rains")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_nothing_is_looked_at_unless_asked_for() -> None:
    from denoscope.acquisition import make_settings

    assert not Watchers(make_settings(core="demo", output="x")).active
