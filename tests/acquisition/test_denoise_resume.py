"""`denoscope denoise --resume`: what a kill left is continued to the same bits."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from denoscope.acquisition import OutputExists
from denoscope.acquisition.offline.chunks import Cut, run_chunk
from denoscope.acquisition.raw.pages import PageFile
from denoscope.runtime import FrameMeta, InvalidInput, Stream, calibrate_stream
from support.plain_results import denoise_movie
from support.tiny_bundle import tiny_bundle

from .conftest import Run, environment

CUT = {"chunk": 16, "warm_up": 6}

# Slow enough to be killed in its midst.
_SCRIPT = """
import sys, time
from pathlib import Path
from denoscope.acquisition.offline.denoise import denoise_movie
movie, output, std, bundle = map(Path, sys.argv[1:])
denoise_movie(movie, output, std=std, bundle=str(bundle), resume=True, chunk=16, warm_up=6,
    on_frame=lambda done, total: (print(done, flush=True), time.sleep(0.01)))
"""


class _Enough(Exception):
    pass


def _stop_at(frame: int) -> Callable[[int, int], None]:
    def on_frame(done: int, total: int) -> None:
        if done == frame:
            raise _Enough

    return on_frame


@pytest.mark.slow
def test_killed_at_random_moments_it_still_gives_the_same_bits(
    bundle: Path, movie: Path, tmp_path: Path
) -> None:
    whole, whole_std = tmp_path / "whole.ome.tif", tmp_path / "whole_std.tif"
    denoise_movie(movie, whole, std=whole_std, bundle=str(bundle), **CUT)
    out, std = tmp_path / "out.ome.tif", tmp_path / "std.tif"
    command = [sys.executable, "-c", _SCRIPT, *map(str, (movie, out, std, bundle))]
    chance = random.Random(5)
    kills = 0
    for until in (3, 17, 33):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= until:
                time.sleep(chance.uniform(0, 0.01))
                process.kill()
                break
        process.stdout.close()
        kills += process.wait() == -signal.SIGKILL if sys.platform != "win32" else 1
        if out.exists():
            break
        # What lies there opens with any reader, and the journal promises no more than there is.
        journal = json.loads((tmp_path / "out.ome.tif.partial.json").read_text())
        promised = 16 * len(journal["chunks"]) + journal["frames"]
        with tifffile.TiffFile(tmp_path / "out.ome.tif.partial") as tif:
            assert until >= promised
            assert len(tif.pages) >= promised
    assert kills == 3
    result = denoise_movie(movie, out, std=std, bundle=str(bundle), resume=True, **CUT)
    assert result["resumed_from"] >= 16
    np.testing.assert_array_equal(tifffile.imread(out), tifffile.imread(whole))
    np.testing.assert_array_equal(tifffile.imread(std), tifffile.imread(whole_std))
    with tifffile.TiffFile(out) as tif, tifffile.TiffFile(whole) as other:
        assert tif.series[0].axes == "TYX"
        planes = (tif.ome_metadata or "").split("<StructuredAnnotations")[0]
        assert planes == (other.ome_metadata or "").split("<StructuredAnnotations")[0]
        assert planes
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in (whole, whole_std, out, std))


@pytest.fixture(scope="module")
def whole(bundle: Path, movie: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Denoise the movie without an interruption, once."""
    path = tmp_path_factory.mktemp("whole") / "whole.tif"
    denoise_movie(movie, path, bundle=str(bundle), **CUT)
    return path


@pytest.mark.parametrize("stop", [1, 15, 16, 17, 37, 40])
def test_an_interruption_anywhere_in_a_chunk(
    bundle: Path, movie: Path, whole: Path, tmp_path: Path, stop: int
) -> None:
    out = tmp_path / "out.tif"

    def interrupt(done: int, _total: int) -> None:
        if done == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        denoise_movie(movie, out, bundle=str(bundle), on_frame=interrupt, **CUT)
    assert not out.exists()
    seen: list[int] = []
    result = denoise_movie(
        movie, out, bundle=str(bundle), resume=True, on_frame=lambda done, _: seen.append(done), **CUT
    )
    assert (result["resumed_from"], result["frames"]) == (stop, 40)
    assert seen == list(range(stop + 1, 41))
    np.testing.assert_array_equal(tifffile.imread(out), tifffile.imread(whole))


def test_a_chunk_is_a_stream_of_its_own_with_the_frames_around_it(bundle: Path, movie: Path) -> None:
    frames = tifffile.imread(movie)
    with Stream(bundle, std=True) as stream:
        calibrate_stream(stream, frames)
        intensity, align = stream.intensity, stream.tracks_motion
        got = {
            out.meta.number: out
            for chunk in Cut(len(frames), **CUT)
            for out in run_chunk(stream, frames, chunk)
        }
    assert sorted(got) == list(range(40))
    for first, start, stop in ((0, 0, 16), (10, 16, 32), (26, 32, 40)):
        with Stream(bundle, std=True, intensity=intensity, align=align) as stream:
            outputs = []
            for number in range(first, 40):
                outputs += stream.push(frames[number], FrameMeta(number, 0.0))
            outputs += stream.flush()
        for out in outputs:
            if start <= out.meta.number < stop:
                np.testing.assert_array_equal(got[out.meta.number].frame, out.frame)
                np.testing.assert_array_equal(got[out.meta.number].std, out.std)


def test_a_scene_that_drifts_away_loses_no_frame(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "b.denoscope", intensity=None, calibration_frames=8)
    chance = np.random.default_rng(1)
    scene = np.kron(chance.integers(50, 900, (20, 40)), np.ones((4, 4)))
    frames = np.stack([chance.poisson(scene[:64, t : t + 64]) for t in range(70)]).astype(np.uint16)
    with Stream(tmp_path / "b.denoscope", align=True) as stream:
        calibrate_stream(stream, frames)
        numbers = [
            out.meta.number for chunk in Cut(len(frames), 24, 10) for out in run_chunk(stream, frames, chunk)
        ]
        assert any(rebind.motion == "drifted" for rebind in stream.rebinds)
    assert numbers == list(range(len(frames)))


def test_another_job_is_refused_and_a_new_run_does_not_wipe_the_old(
    denoscope: Run, bundle: Path, movie: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.tif"
    with pytest.raises(_Enough):
        denoise_movie(movie, out, bundle=str(bundle), on_frame=_stop_at(20))
    with pytest.raises(OutputExists, match="add `resume`"):
        denoise_movie(movie, out, bundle=str(bundle))
    with pytest.raises(InvalidInput, match="look ahead 3, now it is 1"):
        denoise_movie(movie, out, bundle=str(bundle), look_ahead=1, resume=True)
    other = tmp_path / "other.tif"
    tifffile.imwrite(other, tifffile.imread(movie) + 1)
    with pytest.raises(InvalidInput, match=r"movie movie\.tif, now it is other\.tif"):
        denoise_movie(other, out, bundle=str(bundle), resume=True)
    done = denoscope("denoise", movie, "--output", out, "--bundle", bundle, "--resume", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["frames"] == 40
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other.tif", "out.tif"]


def test_a_damaged_journal_is_said_to_be(bundle: Path, movie: Path, tmp_path: Path) -> None:
    (tmp_path / "out.tif.partial.json").write_text('{"format": "denoscope-')
    with pytest.raises(InvalidInput, match="does not say how far"):
        denoise_movie(movie, tmp_path / "out.tif", bundle=str(bundle), resume=True)
    (tmp_path / "out.tif.partial.json").write_text(
        '{"format":"x","schema_version":9,"job":{},"chunks":[],"frames":0}'
    )
    with pytest.raises(InvalidInput, match="x of version 9"):
        denoise_movie(movie, tmp_path / "out.tif", bundle=str(bundle), resume=True)


def test_pages_are_kept_and_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "pages.tif"
    frames = np.arange(5 * 20 * 17, dtype=np.uint16).reshape(5, 20, 17)
    with PageFile(path, describe=True) as pages:
        for frame in frames:
            pages.append(frame)
    with path.open("ab") as file:
        file.write(b"half a page")
    with PageFile(path, describe=True, keep=3) as pages:
        assert pages.pages == 3
        pages.append(frames[4])
        pages.set_description("<OME>the whole text</OME>")
    with tifffile.TiffFile(path) as tif:
        np.testing.assert_array_equal(tif.asarray(key=range(4)), frames[[0, 1, 2, 4]])
        assert tif.pages[0].description == "<OME>the whole text</OME>"
    with pytest.raises(ValueError, match="4 complete pages, and 9 are to be kept"):
        PageFile(path, keep=9)
