"""Offline work never touches what is not its own, sees what changed, and says what is missing."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from denoscope.acquisition import OutputExists
from denoscope.acquisition.cli.app import main
from denoscope.acquisition.errors import explain
from denoscope.acquisition.offline.journal import Journal
from denoscope.acquisition.offline.outputs import give_name, lock_of, locked
from denoscope.acquisition.raw.writer import read_raw
from denoscope.acquisition.sources.micromanager.config import explain_load_error
from denoscope.runtime import InvalidInput
from support.plain_results import denoise_movie, fill_run

from .test_control import Steady, frames_of

CUT = {"chunk": 16, "warm_up": 6}


class _Enough(Exception):
    pass


def _stop_at(frame: int) -> Callable[[int, int], None]:
    def on_frame(done: int, _total: int) -> None:
        if done == frame:
            raise KeyboardInterrupt

    return on_frame


def command(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    code = ended.value.code
    assert isinstance(code, int)
    return code


# -- 5: denoise


@pytest.mark.parametrize("role", ["output", "std"])
def test_the_input_is_never_touched(bundle: Path, movie: Path, tmp_path: Path, role: str) -> None:
    precious = tmp_path / "X.tif.partial"
    shutil.copy(movie, precious)
    before = precious.read_bytes()
    files = {"output": tmp_path / "X.tif", "std": None}
    if role == "std":
        files = {"output": tmp_path / "Y.tif", "std": tmp_path / "X.tif"}
    named = tmp_path / "another name of it.tif"
    if hasattr(os, "link"):
        os.link(precious, named)
    for path in (precious, named):
        with pytest.raises((InvalidInput, OutputExists), match=r"never overwritten|nothing says"):
            denoise_movie(path, **files, bundle=str(bundle))  # type: ignore[arg-type]
    assert precious.read_bytes() == before
    # Nor is what somebody else keeps under that name.
    with pytest.raises(OutputExists, match="nothing says that an interrupted run left it"):
        denoise_movie(movie, **files, bundle=str(bundle))  # type: ignore[arg-type]
    assert precious.read_bytes() == before


def test_deviation_and_output_are_two_files(bundle: Path, movie: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.tif"
    for std in (out, tmp_path / "." / "out.tif", tmp_path / "out.tif.partial"):
        with pytest.raises(InvalidInput, match="into one file"):
            denoise_movie(movie, out, std=std, bundle=str(bundle))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["out.tif", "out.ome.zarr"])
def test_an_output_that_appeared_meanwhile_is_kept(
    bundle: Path, movie: Path, tmp_path: Path, name: str
) -> None:
    if name.endswith("zarr"):
        pytest.importorskip("yaozarrs")
    out, std = tmp_path / name, tmp_path / "std.tif"

    def appear(done: int, _total: int) -> None:
        if done == 30:
            out.write_text("precious")

    with pytest.raises(OutputExists, match="appeared while it was being made"):
        denoise_movie(movie, out, std=std, bundle=str(bundle), on_frame=appear, **CUT)
    assert out.read_text() == "precious"
    out.rename(tmp_path / "precious")
    # One file has its name already; the rest is done without denoising anything again.
    seen: list[int] = []
    result = denoise_movie(
        movie, out, std=std, bundle=str(bundle), resume=True, on_frame=lambda *_: seen.append(1), **CUT
    )
    assert result["frames"] == result["resumed_from"] == 40
    assert not seen
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "std.tif", "precious"])


def test_a_name_is_given_without_hard_links_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    partial, path = tmp_path / "a.partial", tmp_path / "a"
    partial.write_text("new")
    path.write_text("old")
    with pytest.raises(OutputExists):
        give_name(partial, path)
    assert (partial.read_text(), path.read_text()) == ("new", "old")
    path.unlink()
    give_name(partial, path)
    assert path.read_text() == "new"


@pytest.mark.parametrize("changed", [0, 9, 20, 25, 39])
def test_a_change_of_the_movie_is_seen(bundle: Path, movie: Path, tmp_path: Path, changed: int) -> None:
    mine, out = tmp_path / "movie.tif", tmp_path / "out.tif"
    shutil.copy(movie, mine)
    with pytest.raises(KeyboardInterrupt):
        denoise_movie(mine, out, bundle=str(bundle), on_frame=_stop_at(30), **CUT)
    about = mine.stat()
    frames = tifffile.imread(mine)
    frames[changed, 20, 20] += 1
    tifffile.imwrite(mine, frames)
    os.utime(mine, ns=(about.st_atime_ns, about.st_mtime_ns))
    with pytest.raises(InvalidInput, match="has changed since"):
        denoise_movie(mine, out, bundle=str(bundle), resume=True, **CUT)


@pytest.mark.parametrize(("stop", "changed"), [(30, 9), (30, 20), (12, 7)])
def test_a_change_between_the_samples_is_seen(
    bundle: Path, movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int, changed: int
) -> None:
    monkeypatch.setattr("denoscope.acquisition.offline.input_watch._SAMPLES", 2)
    mine, out = tmp_path / "movie.tif", tmp_path / "out.tif"
    shutil.copy(movie, mine)
    with pytest.raises(KeyboardInterrupt):
        denoise_movie(mine, out, bundle=str(bundle), on_frame=_stop_at(stop), **CUT)
    frames = tifffile.imread(mine)
    frames[changed, 20, 20] += 1
    tifffile.imwrite(mine, frames)
    with pytest.raises(InvalidInput, match="the movie has changed since the interrupted run"):
        denoise_movie(mine, out, bundle=str(bundle), resume=True, **CUT)


def test_one_program_writes_an_output(bundle: Path, movie: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.tif"
    with pytest.raises(KeyboardInterrupt):
        denoise_movie(movie, out, bundle=str(bundle), on_frame=_stop_at(20), **CUT)
    before = (tmp_path / "out.tif.partial").read_bytes()
    with (
        locked(out, journal=True),
        pytest.raises(OutputExists, match="another denoscope is writing"),
    ):
        denoise_movie(movie, out, bundle=str(bundle), resume=True, **CUT)
    assert (tmp_path / "out.tif.partial").read_bytes() == before
    denoise_movie(movie, out, bundle=str(bundle), resume=True, **CUT)
    assert [path.name for path in tmp_path.iterdir()] == ["out.tif"]


@pytest.mark.parametrize("std_first", [True, False])
def test_ended_while_the_files_got_their_names(
    bundle: Path, movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, std_first: bool
) -> None:
    out, std = tmp_path / "out.tif", tmp_path / "std.tif"

    def give(partial: Path, path: Path) -> None:
        if std_first and path == std:
            give_name(partial, path)
        else:
            raise _Enough

    with monkeypatch.context() as patched:
        patched.setattr("denoscope.acquisition.offline.denoise.give_name", give)
        with pytest.raises(_Enough):
            denoise_movie(movie, out, std=std, bundle=str(bundle), **CUT)
    assert std.exists() is std_first
    denoise_movie(movie, out, std=std, bundle=str(bundle), resume=True, **CUT)
    assert tifffile.imread(out).shape == tifffile.imread(std).shape == (40, 48, 56)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.tif", "std.tif"]


# -- 5: fill


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Path:
    from denoscope.acquisition import live, make_settings

    run = tmp_path_factory.mktemp("runs") / "run"
    settings = make_settings(
        core="demo", output=run, bundle=str(bundle), picture=False, denoiser="thread", finish_s=60, lag_s=60
    )
    live(settings, source=Steady(frames_of(20), {}))
    return run


def _lose_a_line(run: Path) -> None:
    lines = (run / "raw.jsonl").read_bytes().splitlines(keepends=True)
    (run / "raw.jsonl").write_bytes(b"".join(lines[:8] + lines[9:]))


def _lose_pages(run: Path) -> None:
    records = read_raw(run).records
    with (run / "raw.tif").open("r+b") as file:
        file.truncate(records[15]["at"] + 100)


def _lose_both(run: Path) -> None:
    _lose_pages(run)
    lines = (run / "raw.jsonl").read_bytes().splitlines(keepends=True)
    (run / "raw.jsonl").write_bytes(b"".join(lines[:12]))


@pytest.mark.parametrize(
    ("harm", "says", "frames"),
    [
        (_lose_a_line, "1 page of raw.tif without a line in raw.jsonl, from page 7 on", 19),
        (_lose_pages, "raw.jsonl lists 20 frames, of which", 14),
        (_lose_both, "the session wrote 20 frames", 11),
    ],
)
def test_filling_says_what_is_missing(
    recorded: Path,
    bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    harm: Callable[[Path], None],
    says: str,
    frames: int,
) -> None:
    run = tmp_path / "run"
    shutil.copytree(recorded, run)
    harm(run)
    assert command("denoise", "--fill", run, "--bundle", bundle) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert says in said
    raw = {record["number"] for record in read_raw(run).records}
    assert len(raw) >= frames


def test_a_whole_run_is_filled_with_exit_code_0(recorded: Path, bundle: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(recorded, run)
    result = fill_run(run, bundle=str(bundle))
    assert result["incomplete"] == []
    assert result["kept"] + result["computed"] == 20


DAMAGE = {
    "no numbers": lambda run: (run / "raw.jsonl").write_bytes(
        (run / "raw.jsonl").read_bytes().replace(b'"number":', b'"nothing":')
    ),
    "lists": lambda run: (run / "raw.jsonl").write_text("[]\n[1]\n"),
    "brackets": lambda run: (run / "raw.jsonl").write_text("[" * 100_000 + "\n"),
    "binary": lambda run: (run / "raw.jsonl").write_bytes(b"\xff\xfe\x00\n"),
    "shapes": lambda run: (run / "raw.jsonl").write_bytes(
        (run / "raw.jsonl").read_bytes().replace(b'"shape":[48,56]', b'"shape":"many"')
    ),
    "report of another kind": lambda run: (run / "report.json").write_text('{"denoiser": [1, 2]}'),
    "report that is a list": lambda run: (run / "report.json").write_text("[]"),
    "intensity": lambda run: (run / "report.json").write_text('{"denoiser": {"intensity": {"scale": "a"}}}'),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_run_is_one_sentence(
    recorded: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(recorded, run)
    DAMAGE[kind](run)
    assert command("denoise", "--fill", run, "--bundle", bundle) == 2
    said = capsys.readouterr()
    assert len(said.err.strip().splitlines()) == 1, said.err
    assert "denoising" not in said.out, "an error follows no empty bar"
    assert not list(run.glob("*.partial*"))


# -- 6: one sentence


def _exit(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert command(*words) == 2
    said = capsys.readouterr()
    (line,) = said.err.strip().splitlines()
    assert "unexpected" not in line
    assert "denoising" not in said.out, "an error follows no empty bar"
    return line


def test_names_that_are_too_long(
    bundle: Path, movie: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for length, most in ((240, 255), (300, 255)):
        name = tmp_path / ("a" * length + ".ome.tif")
        assert "choose a shorter" in _exit(capsys, "denoise", movie, "--output", name, "--bundle", bundle), (
            most
        )
    run = tmp_path / ("b" * 300)
    assert "shorter" in _exit(capsys, "live", "--core", "demo", "--output", run, "--bundle", bundle)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_links_that_lead_nowhere(
    bundle: Path, movie: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = tmp_path / "link.tif"
    link.symlink_to(tmp_path / "nowhere.tif")
    assert "does not exist" in _exit(capsys, "denoise", movie, "--output", link, "--bundle", bundle)
    assert "nowhere" in _exit(capsys, "live", "--core", "demo", "--output", link, "--bundle", bundle)
    _exit(capsys, "denoise", link, "--output", tmp_path / "out.tif", "--bundle", bundle)
    assert [path.name for path in tmp_path.iterdir()] == ["link.tif"]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_folders_that_are_read_only(
    bundle: Path,
    movie: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    code: int,
) -> None:
    real = os.open

    def refuse(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if flags & os.O_CREAT and str(tmp_path) in str(path):
            raise OSError(code, os.strerror(code), str(path))
        return real(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", refuse)
    said = _exit(capsys, "denoise", movie, "--output", tmp_path / "out.tif", "--bundle", bundle)
    assert "read-only" in said

    def no_folder(path: Path, *_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(Path, "mkdir", no_folder)
    words = ("live", "--core", f"replay:{movie}", "--output", tmp_path / "run", "--bundle", bundle)
    assert "read-only" in _exit(capsys, *words, "--denoiser", "thread")
    assert not list(tmp_path.iterdir())


def test_a_folder_for_the_doctor_must_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "does not exist" in _exit(capsys, "doctor", "--output", tmp_path / "typo")


def test_a_file_is_no_folder_for_the_doctor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert "is a file: name a folder" in _exit(capsys, "doctor", "--output", tmp_path / "file")


def test_errors_of_the_environment_are_explained() -> None:
    assert "bundle.json" in str(explain(MemoryError("Unable to allocate 7 PiB")))
    for words in ("I/O error: No space left on device (os error 28)", "write failed (os error 112)"):
        assert "the disk is full, so free space" in str(explain(RuntimeError(words)))
    assert "nested too deeply" in str(explain(RecursionError("maximum recursion depth exceeded")))
    for code in (errno.EACCES, errno.EROFS, errno.ENAMETOOLONG, errno.ENOSPC, errno.ELOOP):
        said = explain(OSError(code, os.strerror(code), "x" * 1000))
        assert said is not None
        assert len(said) < 250
    assert explain(ValueError("something else")) is None
    assert explain(OSError("no number")) is None


@pytest.mark.parametrize("name", ["ENOTCONN", "ESTALE", "EHOSTDOWN", "ETIMEDOUT", "ENODEV", "EIO"])
def test_a_share_that_went_away_is_said(name: str) -> None:
    code = getattr(errno, name, None)
    if code is None:
        pytest.skip("this system has no such error")
    said = str(explain(OSError(code, os.strerror(code), "share/m.tif")))
    assert said.startswith("share/m.tif: ")
    assert "disk or network share" in said
    assert said.endswith("or name another one.")
    if name != "EIO":
        assert explain(OSError(code, "a server that does not answer")) is None


def test_a_drive_that_windows_lost_is_said() -> None:
    gone = OSError(errno.EACCES, "The device is not ready", "E:/m.tif")
    gone.winerror = 21  # type: ignore[attr-defined]
    assert "does not answer any more" in str(explain(gone))


@pytest.mark.parametrize(
    "words",
    [
        ("live", "--core", "replay:{}/m.tif", "--output", "run"),
        ("live", "--core", "replay:m.tif", "--output", "{}/run"),
        ("denoise", "{}/m.tif", "--output", "o.tif"),
        ("denoise", "m.tif", "--output", "{}/o.tif"),
        ("denoise", "--fill", "{}/run"),
        ("train", "{}/m.tif", "--output", "b.denoscope"),
        ("evaluate", "--movie", "{}/m.tif", "--bundle", "live", "--output", "o"),
        ("doctor", "--output", "{}/o"),
        ("stop", "{}/run"),
    ],
)
def test_no_command_is_surprised_by_a_share_that_went_away(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
) -> None:
    gone, stat = tmp_path / "gone", os.stat

    def no_stat(path: Any, **more: Any) -> os.stat_result:
        if isinstance(path, (str, os.PathLike)) and str(path).startswith(str(gone)):
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN), str(path))
        return stat(path, **more)

    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("m.tif", np.zeros((5, 8, 8), np.uint16))
    monkeypatch.setattr(os, "stat", no_stat)
    assert "does not answer any more" in _exit(capsys, *(word.format(gone) for word in words))


def test_adapters_that_do_not_load_name_the_option(tmp_path: Path) -> None:
    told = "Failed to load device adapter from mmgr_dal_X: MMCore requires 75; device adapter has 73"
    for error in (RuntimeError(told), RuntimeError("no such library")):
        assert "`mm_dir`" in str(explain_load_error(error, tmp_path / "a.cfg", tmp_path, "75"))


def test_a_journal_of_another_kind_is_refused(tmp_path: Path) -> None:
    for text in ("[" * 100_000, "[]", '{"format": 3}', json.dumps({"chunks_sha256": []})):
        (tmp_path / "a.tif.partial.json").write_text(text)
        with pytest.raises(InvalidInput):
            Journal(tmp_path / "a.tif").load()
    assert lock_of(tmp_path / "a.tif").name == "a.tif.partial.lock"
