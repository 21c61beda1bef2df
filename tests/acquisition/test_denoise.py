"""`denoscope denoise`: every frame, the same as the stream gives, with the deviations beside it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from ome_types import from_tiff

from denoscope.acquisition import live
from denoscope.acquisition.offline.before_after import picture_name, picture_or_why
from denoscope.runtime import FrameMeta, InvalidInput, Stream, open_movie
from support.field_inputs import lines_shifted
from support.plain_results import denoise_movie

from .conftest import Run


def test_the_whole_movie_comes_out_as_the_stream_gives_it(
    denoscope: Run, bundle: Path, movie: Path, tmp_path: Path
) -> None:
    out, std = tmp_path / "out.ome.tif", tmp_path / "std.tif"
    done = denoscope(
        "denoise", movie, "--output", out, "--std", std, "--bundle", bundle, "--picture", "--json"
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    frames = tifffile.imread(movie)
    picture = tmp_path / "out_picture.png"
    assert f"Before and after: {picture}" in done.stderr
    assert result["picture"] == str(picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert result["frames"] == len(frames)
    outputs = []
    with Stream(bundle, std=True) as stream:
        for number, frame in enumerate(frames):
            outputs += stream.push(frame, FrameMeta(number=number, t_received_s=0.0))
        outputs += stream.flush()
    np.testing.assert_array_equal(tifffile.imread(out), np.stack([o.frame for o in outputs]))
    np.testing.assert_array_equal(
        tifffile.imread(std), np.stack([o.std for o in outputs if o.std is not None])
    )
    with tifffile.TiffFile(out) as tif:
        assert tif.is_ome
        assert tif.series[0].axes == "TYX"
        assert "provenance" in (tif.ome_metadata or "")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.ome.tif", "out_picture.png", "std.tif"]


def test_a_picture_is_drawn_quietly_where_matplotlib_is(
    bundle: Path, movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = "denoscope.acquisition.offline.denoise.find_spec"
    monkeypatch.setattr(looked, lambda _: None)
    without = denoise_movie(
        movie, tmp_path / "without.ome.tif", bundle=bundle, frames=slice(0, 12), picture=None
    )
    assert without["picture"] is None
    assert not [note for note in without["notes"] if "picture" in note]
    monkeypatch.undo()
    drawn = denoise_movie(movie, tmp_path / "with.ome.tif", bundle=bundle, frames=slice(0, 12), picture=None)
    assert drawn["picture"] == str(tmp_path / "with_picture.png")


def test_a_movie_with_time_last_is_noticed_and_denoised_as_said(
    denoscope: Run, bundle: Path, tmp_path: Path
) -> None:
    rows, columns = np.indices((40, 40))
    scene = 50 + 30 * np.sin(rows / 4 + columns / 3)
    frames = np.random.default_rng(2).poisson(scene, (50, 40, 40)).astype(np.uint16)
    np.save(tmp_path / "first.npy", frames)
    np.save(tmp_path / "last.npy", np.ascontiguousarray(np.moveaxis(frames, 0, -1)))
    outputs = []
    for name, axes in (("first", ()), ("last", ("--axes", "YXT"))):
        arguments = (tmp_path / f"{name}.npy", "--output", tmp_path / f"{name}.tif", "--bundle", bundle)
        if axes:
            asked = denoscope("denoise", *arguments)
            assert asked.returncode == 2
            assert "time as the last: give --axes YXT" in " ".join(asked.stderr.split())
        assert denoscope("denoise", *arguments, *axes).returncode == 0
        outputs.append(tifffile.imread(tmp_path / f"{name}.tif"))
    np.testing.assert_array_equal(*outputs)


@pytest.mark.parametrize(
    ("name", "picture"),
    [
        ("a.ome.tif", "a"),
        ("2026.11.28 cell 1.OME.TIFF", "2026.11.28 cell 1"),
        ("a.b.zarr", "a.b"),
        ("m.ndtiff", "m"),
    ],
)
def test_a_picture_has_the_name_of_its_movie(name: str, picture: str) -> None:
    assert picture_name(Path("out", name)) == Path("out", f"{picture}_picture.png")


def test_a_picture_that_fails_costs_no_movie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = np.full((12, 4, 5), np.nan, np.float32)
    tifffile.imwrite(tmp_path / "out.tif", raw)
    picture = tmp_path / "out_picture.png"
    picture.write_text("mine")
    kept, why = picture_or_why(tmp_path / "out.tif", raw, title="NaN")
    assert (kept, why, picture.read_text()) == (
        None,
        f"{picture.name} was there already and was left as it is",
        "mine",
    )
    picture.unlink()
    assert picture_or_why(tmp_path / "out.tif", raw, title="NaN everywhere, $five frames") == (picture, None)
    picture.unlink()
    assert "was not drawn (InvalidInput" in str(picture_or_why(tmp_path / "none.tif", raw, title="none")[1])
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert '".[report]"' in str(picture_or_why(tmp_path / "out.tif", raw, title="no matplotlib")[1])
    assert not picture.exists()


def test_float32_is_not_rounded(denoscope: Run, bundle: Path, movie: Path, tmp_path: Path) -> None:
    whole, fine = tmp_path / "whole.ome.tif", tmp_path / "fine.ome.tif"
    for output, words in ((whole, []), (fine, ["--float32"])):
        done = denoscope("denoise", movie, "--output", output, "--bundle", bundle, *words)
        assert done.returncode == 0, done.stderr
    counts, values = tifffile.imread(whole), tifffile.imread(fine)
    assert (counts.dtype, values.dtype) == (tifffile.imread(movie).dtype, np.float32)
    assert (values != np.rint(values)).mean() > 0.9
    # The light of a frame is measured on what is written, so that it may move whole counts by a little more.
    assert np.abs(values - counts).max() < 0.75, "what was written in whole counts is this, rounded"
    assert np.abs((values - counts).mean(axis=(1, 2))).max() < 0.05


def test_a_part_of_the_movie(denoscope: Run, bundle: Path, movie: Path, tmp_path: Path) -> None:
    out, alone = tmp_path / "out.ome.tif", tmp_path / "alone.tif"
    frames = tifffile.imread(movie)
    tifffile.imwrite(alone, frames[10:31])
    done = denoscope(
        *("denoise", movie, "--frames", "10:31", "--output", out, "--bundle", bundle, "--float32", "--json")
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["frames"], told["denoiser"]["first_frame"]) == (21, 10)
    denoise_movie(alone, tmp_path / "same.ome.tif", bundle=str(bundle), float32=True)
    np.testing.assert_array_equal(tifffile.imread(out), tifffile.imread(tmp_path / "same.ome.tif"))
    for part, words in (
        ("10:41", "--frames 10:41 reaches beyond movie.tif, which has 40 frames"),
        ("50:", "holds no frame"),
        ("5", "is no range"),
    ):
        bad = denoscope(
            "denoise", movie, "--frames", part, "--output", tmp_path / "no.tif", "--bundle", bundle
        )
        assert bad.returncode == 2
        assert words in bad.stderr
    assert not (tmp_path / "no.tif").exists()


def test_a_part_of_a_run_keeps_its_times_and_is_resumed_as_the_same_part(
    bundle: Path, movie: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    live(core=f"replay:{movie}", output=run, bundle=str(bundle), fps=500, picture=False, denoiser="thread")
    lines = (run / "raw.jsonl").read_text(encoding="utf-8").splitlines()
    received = [each["received_s"] for each in map(json.loads, lines) if "received_s" in each]
    out, part = tmp_path / "out.ome.tif", slice(7, 37)

    def interrupt(done: int, _total: int) -> None:
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        denoise_movie(run, out, bundle=str(bundle), frames=part, on_frame=interrupt)
    with pytest.raises(InvalidInput, match="first frame"):
        denoise_movie(run, out, bundle=str(bundle), frames=slice(6, 36), resume=True)
    denoise_movie(run, out, bundle=str(bundle), frames=part, resume=True)
    pixels = from_tiff(out).images[0].pixels
    found = [plane.delta_t for plane in pixels.planes]
    assert found == pytest.approx([each - received[7] for each in received[7:37]], abs=1e-6)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["{folder}/none.tif", "--output", "{folder}/o.tif"], "no movie at"),
        (["{movie}", "--output", "{movie}"], "never overwritten"),
        (["{movie}", "--output", "{folder}/no/o.tif"], "does not exist; make it first"),
        (["{movie}", "--output", "{folder}/o.tif", "--look-ahead", "9"], "look-ahead of 9"),
        (["{movie}", "--output", "{folder}/o.ome.tif", "--dask", "tcp://x:1"], "name --output o.ome.zarr"),
        (["{movie}", "--output", "{folder}/o.tif", "--channel", "3"], "no channel 3: leave --channel out."),
        (["--fill", "{folder}/none"], "there is no run folder"),
        (["{movie}", "--output", "{folder}/o.tif", "--backend", "abacus"], "abacus"),
    ],
)
def test_bad_input_leaves_nothing_behind(
    denoscope: Run, bundle: Path, movie: Path, tmp_path: Path, words: list[str], what: str
) -> None:
    filled = [w.format(folder=tmp_path, movie=movie) for w in words]
    done = denoscope("denoise", *filled, "--bundle", bundle)
    assert done.returncode == 2
    assert what in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_channel_of_a_movie_of_another_format(
    denoscope: Run, bundle: Path, movie: Path, tmp_path: Path
) -> None:
    frames = tifffile.imread(movie)
    both, alone = tmp_path / "both.tif", tmp_path / "alone.tif"
    tifffile.imwrite(both, np.stack([frames[::-1], frames], axis=1), imagej=True, metadata={"axes": "TCYX"})
    out, expected = tmp_path / "out.ome.tif", tmp_path / "expected.ome.tif"
    refused = denoscope("denoise", both, "--output", out, "--bundle", bundle)
    assert refused.returncode == 2
    assert "has 2 channels: 0 to 1: choose with --channel" in " ".join(refused.stderr.split())
    tifffile.imwrite(alone, frames, compression="zlib", tile=(16, 16))
    for path, target, options in ((both, out, ["--channel", "1"]), (alone, expected, [])):
        done = denoscope("denoise", path, "--output", target, "--bundle", bundle, *options)
        assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(tifffile.imread(out), tifffile.imread(expected))


def test_a_recording_that_ended_early_is_said_to_have(
    denoscope: Run, bundle: Path, movie: Path, tmp_path: Path
) -> None:
    frames = tifffile.imread(movie)[:6]
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        f'<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="{frames.dtype}" SizeX="{frames.shape[2]}" '
        f'SizeY="{frames.shape[1]}" SizeZ="1" SizeC="1" SizeT="9"><Channel ID="Channel:0:0"/>'
        + "".join(f'<TiffData FirstT="{t}" IFD="{t}" PlaneCount="1"/>' for t in range(6))
        + "</Pixels></Image></OME>"
    )
    with tifffile.TiffWriter(tmp_path / "early.tif") as writer:
        for t, frame in enumerate(frames):
            writer.write(frame, contiguous=False, metadata=None, description=xml if t == 0 else None)
    out = tmp_path / "out.ome.tif"
    done = denoscope("denoise", tmp_path / "early.tif", "--output", out, "--bundle", bundle, "--json")
    assert done.returncode == 0, done.stderr
    assert "early.tif ends at frame 6 of the 9 planned" in " ".join(done.stderr.split())
    assert json.loads(done.stdout.splitlines()[-1])["frames"] == 6


def test_shifted_lines_are_named_and_corrected_on_request(
    denoscope: Run, bundle: Path, tmp_path: Path
) -> None:
    movie, kept, fixed = (tmp_path / name for name in ("movie.tif", "kept.tif", "fixed.tif"))
    tifffile.imwrite(movie, lines_shifted(3, 40)[0])
    told = denoise_movie(movie, kept, bundle=str(bundle))
    assert any("3.0 pixels to the right" in note and "`fix_line_offset`" in note for note in told["notes"])
    done = denoscope("denoise", movie, "--output", fixed, "--bundle", bundle, "--fix-line-offset", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert "corrected in the denoised movie" in result["notes"][0]
    assert result["denoiser"]["scanner"]["line_offset"] == 3
    bent, straight = tifffile.imread(kept), tifffile.imread(fixed)
    np.testing.assert_array_equal(straight[:, ::2], bent[:, ::2])
    np.testing.assert_array_equal(straight[:, 1::2, :-3], bent[:, 1::2, 3:])
    assert denoscope("denoise", "--fill", tmp_path, "--fix-line-offset").returncode == 2


def test_a_resumed_run_takes_the_same_off(bundle: Path, tmp_path: Path) -> None:
    """The result of a run that was interrupted has the same bits."""
    movie, whole, parts = (tmp_path / name for name in ("movie.tif", "whole.tif", "parts.tif"))
    pattern = np.random.default_rng(3).integers(-40, 40, 112)
    tifffile.imwrite(movie, (lines_shifted(3, 40)[0].astype(int) + 100 + pattern).astype(np.uint16))
    denoise_movie(movie, whole, bundle=str(bundle))

    def stop(done: int, _total: int) -> None:
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        denoise_movie(movie, parts, bundle=str(bundle), on_frame=stop)
    told = denoise_movie(movie, parts, bundle=str(bundle), resume=True)
    assert told["resumed_from"] == 20
    assert told["denoiser"]["scanner"]["columns"]
    np.testing.assert_array_equal(tifffile.imread(parts), tifffile.imread(whole))


@pytest.mark.parametrize("kind", ["tif", "npy"])
def test_a_movie_that_is_cut_while_it_is_read_is_one_sentence(
    bundle: Path, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / f"movie.{kind}"
    frames = np.random.default_rng(1).poisson(90, (60, 30, 40)).astype(np.uint16)
    tifffile.imwrite(path, frames) if kind == "tif" else np.save(path, frames)

    def cut(done: int, _total: int) -> None:
        if done == 5:
            os.truncate(path, 3000)

    # A mapped file would end this process, without a word.
    assert not isinstance(open_movie(path, mapped=False), np.memmap)
    with pytest.raises(InvalidInput, match=r"frame \d+ cannot be read .*cut short"):
        denoise_movie(path, tmp_path / "out.ome.tif", bundle=str(bundle), on_frame=cut)
