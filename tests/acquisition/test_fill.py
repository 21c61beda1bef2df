"""`denoscope denoise --fill`: what a session skipped, computed as if it had kept up."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from denoscope.acquisition import Frame, RawWriter, SourceInfo, make_settings
from denoscope.acquisition.errors import OutputExists
from denoscope.acquisition.offline import fill as fill_module
from denoscope.acquisition.offline.fill import FILLED_MOVIE, fill_in_place
from denoscope.acquisition.session.ending import skipped as skipped_module
from denoscope.runtime import InvalidInput, open_movie
from support.field_inputs import lines_shifted
from support.plain_results import fill_run, live, summary
from support.tiny_bundle import tiny_bundle

from .conftest import Run
from .test_routing import Listed


class Skipping:
    """Passes on to a denoiser, and skips what is due with some pushes."""

    def __init__(self, denoiser: Any, pushes: Iterable[int]) -> None:
        self._denoiser, self._pushes, self._count = denoiser, set(pushes), -1

    @property
    def counters(self) -> Any:
        return self._denoiser.counters

    def push(self, frame: Any, meta: Any, *, skip: str | None = None) -> Any:
        self._count += 1
        return self._denoiser.push(frame, meta, skip="keep-up" if self._count in self._pushes else skip)

    def flush(self) -> Any:
        return self._denoiser.flush()

    def restart(self, key: Any, *, recalibrate: bool) -> Any:
        return self._denoiser.restart(key, recalibrate=recalibrate)


def frames_of(count: int, channels: str = "", change_at: int | None = None) -> list[Frame]:
    chance = np.random.default_rng(7)
    found = []
    for number in range(count):
        height = 48 if change_at is None or number < change_at else 32
        pixels = chance.poisson(200 + 3 * number, (height, 56)).astype(np.uint16)
        tags: dict[str, Any] = {"Exposure": 10, "number": number}
        if channels:
            tags["Channel"] = channels[number % len(channels)]
        found.append(Frame(pixels, number, 100.0 + number / 30, "Cam", tags, core_unix_s=1e9 + number / 30))
    return found


def record(
    folder: Path,
    frames: list[Frame],
    skipped: Iterable[int] = (),
    form: str = "ome-tiff",
    *,
    float32: bool = False,
    fill: bool = False,
    **more: Any,
) -> dict[str, Any]:
    bundle = folder.parent / "tiny.denoscope"
    if not bundle.exists():
        tiny_bundle(bundle, intensity=None, calibration_frames=8)
    settings = make_settings(
        core="demo",
        output=folder,
        bundle=str(bundle),
        picture=False,
        lag_s=60.0,
        finish_s=60.0,
        denoised_format=form,
        float32=float32,
        fill=fill,
        **{"denoiser": "thread"} | more,  # a process takes a second to start
    )
    return live(settings, source=Listed(frames), wrap=lambda denoiser: Skipping(denoiser, skipped))


@pytest.fixture(scope="module")
def kept_up(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return the denoised movie of a session that kept up; each kind of session is recorded once."""

    @cache
    def movie(*kind: Any) -> Path:
        folder = tmp_path_factory.mktemp("kept-up") / "run"
        assert not record(folder, frames_of(*kind))["outcome"]["problems"]
        return folder / "denoised.ome.tif"

    return movie


def test_what_was_skipped_is_what_a_session_that_kept_up_gives(denoscope: Run, tmp_path: Path) -> None:
    frames = frames_of(60)
    whole = record(tmp_path / "whole", frames, denoiser="process")
    assert whole["frames"]["denoised"] == 60
    skipped = [*range(25, 33), 40, 41, 57]
    report = record(tmp_path / "run", frames, skipped, denoiser="process")
    assert report["frames"]["dropped"] == {"keep-up": len(skipped)}
    before = (tmp_path / "run" / "denoised.ome.tif").read_bytes()
    bundle = tmp_path / "tiny.denoscope"
    done = denoscope("denoise", "--fill", tmp_path / "run", "--bundle", bundle, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["kept"], result["computed"], result["missing"]) == (60 - len(skipped), len(skipped), 0)
    assert "11 computed now" in done.stderr
    out = tmp_path / "run" / FILLED_MOVIE
    np.testing.assert_array_equal(
        tifffile.imread(out), tifffile.imread(tmp_path / "whole" / "denoised.ome.tif")
    )
    assert (tmp_path / "run" / "denoised.ome.tif").read_bytes() == before
    with tifffile.TiffFile(out) as tif:
        assert tif.series[0].shape == (60, 48, 56)
        assert 'K="frames_computed_afterwards">11<' in (tif.ome_metadata or "")
        assert 'K="frames_kept_from_live">49<' in (tif.ome_metadata or "")
        assert 'DeltaT="0.5"' in (tif.ome_metadata or "")
    with pytest.raises(OutputExists):
        fill_run(tmp_path / "run", bundle=str(bundle))


@pytest.mark.parametrize("form", ["ome-tiff", "ome-zarr"])
def test_a_session_in_float32_is_filled_in_float32(tmp_path: Path, form: str) -> None:
    frames = frames_of(40)
    record(tmp_path / "whole", frames, float32=True)
    whole = tifffile.imread(tmp_path / "whole" / "denoised.ome.tif")
    assert whole.dtype == np.float32
    assert (whole != np.rint(whole)).mean() > 0.9
    rounded = record(tmp_path / "rounded", frames)
    assert rounded["frames"]["denoised"] == 40
    counts = tifffile.imread(tmp_path / "rounded" / "denoised.ome.tif").astype(np.float32)
    # The same but for the rounding, which comes twice where more than a few counts of light were missing.
    assert np.abs(whole - counts).max() < 1.01
    assert (np.abs(whole - counts) < 0.51).mean() > 0.9
    run = tmp_path / "run"
    record(run, frames, [20, 21, 30], form, float32=True)
    if form == "ome-zarr":  # a crash leaves no report, and the frames say what they are
        (run / "report.json").unlink()
    result = fill_run(run, bundle=str(tmp_path / "tiny.denoscope"))
    assert (result["kept"], result["computed"]) == (37, 3)
    filled = tifffile.imread(run / FILLED_MOVIE)
    assert filled.dtype == np.float32
    kept = np.setdiff1d(np.arange(40), [20, 21, 30])
    np.testing.assert_array_equal(filled[kept], whole[kept])
    if form == "ome-tiff":  # without the report the intensity is estimated from all of its frames again
        np.testing.assert_array_equal(filled, whole)


def test_frames_kept_are_copied_and_not_computed_anew(tmp_path: Path) -> None:
    record(tmp_path / "run", frames_of(40), [20, 21])
    path = tmp_path / "run" / "denoised.ome.tif"
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[5]
        assert isinstance(page, tifffile.TiffPage)
        at, count = page.dataoffsets[0], page.databytecounts[0]
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\7" * count)
    fill_run(tmp_path / "run", bundle=str(tmp_path / "tiny.denoscope"))
    filled = tifffile.imread(tmp_path / "run" / FILLED_MOVIE)
    assert np.all(filled[5] == 0x0707)
    assert not np.any(filled[6] == 0x0707)


@pytest.mark.slow
@pytest.mark.parametrize(("channels", "change_at"), [("ab", None), ("aab", 33)])
def test_several_streams_and_changes(
    tmp_path: Path, kept_up: Callable[..., Path], channels: str, change_at: int | None
) -> None:
    frames = frames_of(72, channels, change_at)
    record(tmp_path / "run", frames, [*range(28, 40), 50, 51, 52, 70])
    result = fill_run(tmp_path / "run", bundle=str(tmp_path / "tiny.denoscope"))
    assert result["missing"] == 0
    assert result["computed"] > 10
    assert images(tmp_path / "run" / FILLED_MOVIE) == images(kept_up(72, channels, change_at))


@pytest.mark.parametrize("form", ["ome-zarr", "ndtiff"])
@pytest.mark.parametrize(("channels", "change_at"), [("", None), ("aab", 33)])
def test_every_format_keeps_what_was_denoised_live(
    tmp_path: Path, kept_up: Callable[..., Path], form: str, channels: str, change_at: int | None
) -> None:
    frames = frames_of(72, channels, change_at)
    report = record(tmp_path / "run", frames, [*range(28, 40), 50, 51, 52, 70], form)
    assert not (tmp_path / "run" / "denoised.ome.tif").exists()
    result = fill_run(tmp_path / "run", bundle=str(tmp_path / "tiny.denoscope"))
    assert result["kept"] == report["frames"]["denoised"]
    assert (result["kept"] + result["computed"], result["missing"]) == (72, 0)
    assert not result["notes"]
    assert images(tmp_path / "run" / FILLED_MOVIE) == images(kept_up(72, channels, change_at))


@pytest.mark.parametrize(
    ("form", "channels", "change_at"),
    [
        ("ome-tiff", "", None),
        ("ome-zarr", "", None),
        ("ndtiff", "", None),
        ("ome-tiff", "aab", 33),
        # An OME-Zarr image that follows another one begins with its first denoised frame.
        pytest.param("ome-zarr", "aab", None, marks=pytest.mark.slow),
        pytest.param("ndtiff", "aab", 33, marks=pytest.mark.slow),
    ],
)
def test_a_session_shows_the_measured_frame_and_then_computes_what_it_skipped(
    tmp_path: Path, kept_up: Callable[..., Path], form: str, channels: str, change_at: int | None
) -> None:
    """Filling in place gives the pixels of a session that kept up, and before that no plane is black."""
    frames = frames_of(72, channels, change_at)
    skipped = [*range(28, 40), 50, 51, 52, 70]
    complete = kept_up(72, channels, change_at)
    marked = record(tmp_path / "marked", frames, skipped, form)
    pages = [n for a, b in marked["frames"]["not_denoised"]["pages"] for n in range(a, b + 1)]
    assert len(pages) == marked["frames"]["dropped"]["keep-up"]
    assert marked["frames"]["computed_afterwards"] == 0
    assert marked["fill_command"].split() == ["denoscope", "denoise", "--fill", str(tmp_path / "marked")]
    assert f"To fill: {marked['fill_command']}" in summary(marked)
    filled = record(tmp_path / "filled", frames, skipped, form, fill=True)
    assert filled["frames"]["not_denoised"] == marked["frames"]["not_denoised"]
    assert filled["frames"]["computed_afterwards"] == len(pages)
    assert "the denoised movie is complete" in summary(filled)
    assert json.loads((tmp_path / "filled" / "report.json").read_bytes())["frames"] == filled["frames"]
    if not channels:
        movie = the_movie(tmp_path / "marked", form, len(pages))
        assert len(movie) == 72
        measured = np.stack([frame.pixels for frame in frames])
        whole = tifffile.imread(complete)
        np.testing.assert_array_equal(movie[pages], measured[pages])
        rest = np.setdiff1d(np.arange(72), pages)
        np.testing.assert_array_equal(movie[rest], whole[rest])
        np.testing.assert_array_equal(the_movie(tmp_path / "filled", form), whole)
    for run, computed in (("marked", len(pages)), ("filled", 0)):
        result = fill_run(tmp_path / run)
        assert (result["kept"], result["computed"], result["missing"]) == (72 - computed, computed, 0)
        assert images(tmp_path / run / FILLED_MOVIE) == images(complete)


def the_movie(run: Path, form: str, stand_ins: int = 0) -> Any:
    """Return the frames (T, H, W) as a reader of the format gives them; some stand in for what was not denoised."""
    if form == "ome-tiff":
        with tifffile.TiffFile(run / "denoised.ome.tif") as tiff:
            in_order = np.stack([page.asarray() for page in tiff.pages])
            assert tiff.series[0].axes == "TYX"
            np.testing.assert_array_equal(tiff.series[0].asarray(), in_order)
            return in_order
    if form == "ome-zarr":
        zarr = pytest.importorskip("zarr")
        return zarr.open_array(run / "denoised.ome.zarr" / "0", mode="r")[:, 0, 0]
    ndstorage = pytest.importorskip("ndstorage")
    data = ndstorage.NDTiffDataset(str(run / "denoised.ndtiff"))
    places = sorted(data.get_image_coordinates_list(), key=lambda axes: axes["time"])
    found = np.stack([data.read_image(**axes) for axes in places])
    flags = [data.read_metadata(**axes)["denoised"] for axes in places]
    data.close()
    assert flags.count(False) == stand_ins
    return found


@pytest.mark.parametrize("form", ["ome-tiff", "ome-zarr", "ndtiff"])
def test_without_raw_frames_the_frame_before_is_shown_again(
    tmp_path: Path, kept_up: Callable[..., Path], form: str
) -> None:
    """As beside an acquisition that somebody else records (`hook`): there is a plane for every time point."""
    frames, skipped = frames_of(60), [*range(25, 33), 40, 41, 59]
    record(tmp_path / "run", frames, skipped, form, keep_raw=False)
    movie = the_movie(tmp_path / "run", form, len(skipped))
    live_ones = tifffile.imread(kept_up(60))
    # An output that is skipped belongs to a frame some way before the push that skips it.
    dropped = [n for n in range(1, 60) if not np.array_equal(movie[n], live_ones[n])]
    assert len(movie) == 60
    assert len(dropped) == len(skipped)
    for number in dropped:
        np.testing.assert_array_equal(movie[number], movie[number - 1])
    if form == "ndtiff":
        lazy = np.asarray(open_movie(tmp_path / "run" / "denoised.ndtiff")[:])
        np.testing.assert_array_equal(lazy, movie)


@pytest.mark.parametrize("form", ["ome-zarr", "ndtiff"])
def test_a_frame_that_is_repeated_is_computed(
    tmp_path: Path, kept_up: Callable[..., Path], form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, run = frames_of(60), tmp_path / "run"
    complete = kept_up(60)
    # As where the disk is too full for the measured frames.
    monkeypatch.setattr(skipped_module, "free_bytes", lambda _folder: 0)
    report = record(run, frames, [*range(25, 33), 40], form)
    assert report["frames"]["not_denoised"]["shown_as"] == "repeated"
    result = fill_run(run)
    assert (result["kept"], result["computed"], result["missing"]) == (51, 9, 0)
    assert images(run / FILLED_MOVIE) == images(complete)


@pytest.mark.parametrize(("fill", "code"), [(True, 1), (False, 0)])
def test_what_a_full_disk_leaves_unfilled_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fill: bool, code: int
) -> None:
    monkeypatch.setattr(skipped_module, "free_bytes", lambda _folder: 0)
    report = record(tmp_path / "run", frames_of(60), [*range(25, 33), 40], fill=fill)
    outcome = report["outcome"]
    assert (outcome["exit_code"], outcome["degraded"]) == (code, fill)
    assert [each.split(",")[0] for each in outcome["problems"]] == (
        ["9 skipped frames were not computed at the end"] if fill else []
    )
    command = f"denoscope denoise --fill {tmp_path / 'run'}"
    assert report["fill_command"] == command
    assert f"To fill: {command}" in summary(report)
    assert json.loads((tmp_path / "run" / "report.json").read_text())["outcome"] == outcome


def test_frames_that_could_not_be_computed_are_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fill_module, "fill_in_place", lambda *_, **__: 7)
    report = record(tmp_path / "run", frames_of(60), [*range(25, 33), 40], fill=True)
    assert report["outcome"]["exit_code"] == 1
    assert report["outcome"]["problems"] == ["2 skipped frames could not be computed at the end"]
    assert report["fill_command"] is not None


def test_filling_that_is_interrupted_leaves_a_valid_movie(
    tmp_path: Path, kept_up: Callable[..., Path]
) -> None:
    frames = frames_of(60)
    whole = tifffile.imread(kept_up(60))
    run = tmp_path / "run"
    report = record(run, frames, [*range(25, 33), 40, 41, 57], std=True)
    asked = iter([True] * 38)
    assert fill_in_place(run, std=True, goes_on=lambda: next(asked, False)) == 8
    movie = tifffile.imread(run / "denoised.ome.tif")
    measured = np.stack([frame.pixels for frame in frames])
    late = [n for a, b in report["frames"]["not_denoised"]["pages"] for n in range(a, b + 1)][8:]
    rest = np.setdiff1d(np.arange(60), late)
    np.testing.assert_array_equal(movie[rest], whole[rest])
    np.testing.assert_array_equal(movie[late], measured[late])
    std = tifffile.imread(run / "denoised_std.ome.tif")
    assert sorted(np.unique(np.nonzero(np.isnan(std))[0])) == late
    assert fill_in_place(run, std=True) == 3
    np.testing.assert_array_equal(tifffile.imread(run / "denoised.ome.tif"), whole)
    assert np.isfinite(tifffile.imread(run / "denoised_std.ome.tif")).all()


def test_the_bundle_is_found_again_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = frames_of(40)
    monkeypatch.chdir(tmp_path)
    record(tmp_path / "first", frames)
    settings = {"core": "demo", "bundle": "tiny.denoscope", "picture": False, "lag_s": 60.0, "fill": False}
    settings["denoiser"] = "thread"
    run = tmp_path / "run"
    live(make_settings(output=run, **settings), source=Listed(frames), wrap=lambda d: Skipping(d, [20, 21]))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    tiny_bundle(tmp_path / "other.denoscope", intensity=None, calibration_frames=9)
    shutil.rmtree(tmp_path / "tiny.denoscope")
    assert fill_run(run)["computed"] == 2  # from the copy in the run folder
    shutil.rmtree(run / "bundle.denoscope")
    with pytest.raises(InvalidInput, match=r"tiny\.denoscope, which is not there any more"):
        fill_run(run, tmp_path / "a.ome.tif")
    (tmp_path / "other.denoscope").rename(tmp_path / "tiny.denoscope")
    with pytest.raises(InvalidInput, match="it was changed since"):
        fill_run(run, tmp_path / "a.ome.tif")


@pytest.mark.parametrize(
    ("form", "name", "damage"),
    [
        ("ome-zarr", "denoised.ome.zarr/zarr.json", (b"", b"")),
        ("ndtiff", "denoised.ndtiff/NDTiff.index", (b"", b"")),
        ("ome-tiff", "denoised.ome.tif", (b'K="streams"', b'K="stream "')),
        ("ome-tiff", "denoised.ome.tif", (b"</Pixels>", b"</Pixel >")),
    ],
)
def test_a_damaged_live_movie_is_computed_anew(
    tmp_path: Path, form: str, name: str, damage: tuple[bytes, bytes]
) -> None:
    record(tmp_path / "run", frames_of(30), [15], form)
    movie = tmp_path / "run" / name
    movie.write_bytes(movie.read_bytes().replace(*damage) if damage[0] else b"{}")
    result = fill_run(tmp_path / "run", bundle=str(tmp_path / "tiny.denoscope"))
    assert (result["kept"], result["computed"]) == (0, 30)
    assert any("every frame is computed" in note for note in result["notes"])


def images(path: Path) -> dict[tuple[int, str | None, int, int], bytes]:
    """Return every frame by image, name of its channel, z and t: which channel comes first is a matter of time."""
    from ome_types import from_tiff

    found = {}
    with tifffile.TiffFile(path) as tif:
        for number, image in enumerate(from_tiff(path).images):
            for block in image.pixels.tiff_data_blocks:
                channel = image.pixels.channels[block.first_c or 0].name
                for step in range(block.plane_count or 1):
                    place = (number, channel, block.first_z or 0, (block.first_t or 0) + step)
                    found[place] = tif.pages[(block.ifd or 0) + step].asarray().tobytes()
    return found


def test_after_a_crash_everything_is_computed(tmp_path: Path, kept_up: Callable[..., Path]) -> None:
    complete = kept_up(40)
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    for name in ("raw.tif", "raw.jsonl"):
        shutil.copy(complete.parent / name, crashed / name)
    result = fill_run(
        crashed, tmp_path / "out.ome.tif", bundle=str(complete.parent.parent / "tiny.denoscope")
    )
    assert (result["kept"], result["computed"]) == (0, 40)
    assert any("no report" in note for note in result["notes"])
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.ome.tif"), tifffile.imread(complete))


def test_what_does_not_fit_the_run_is_refused(denoscope: Run, tmp_path: Path) -> None:
    record(tmp_path / "run", frames_of(20))
    tiny_bundle(tmp_path / "other.denoscope", intensity=None, calibration_frames=9)
    with pytest.raises(InvalidInput, match=r"the session used the bundle tiny .* name the session's"):
        fill_run(tmp_path / "run", bundle=str(tmp_path / "other.denoscope"))
    with pytest.raises(InvalidInput, match="is not a run folder"):
        fill_run(tmp_path)
    for words in (["--std", tmp_path / "std.tif"], ["--dark", "100"], ["--picture"]):
        done = denoscope("denoise", "--fill", tmp_path / "run", *words)
        assert done.returncode == 2
        assert f"{words[0]} " in done.stderr
        assert "does not go with --fill" in done.stderr
    done = denoscope("denoise", tmp_path / "run" / "raw.tif")
    assert done.returncode == 2
    assert "--output is missing" in done.stderr
    assert not (tmp_path / "run" / FILLED_MOVIE).exists()


@pytest.mark.parametrize("pixels", [3, 0])
def test_a_line_offset_too_dim_for_the_first_frames_is_named_at_the_end(tmp_path: Path, pixels: int) -> None:
    movie, _ = lines_shifted(pixels, 60, photons=1, seed=1)
    frames = [Frame(each, n, 100.0 + n / 30, "Cam", {}) for n, each in enumerate(movie)]
    report = record(tmp_path / "run", frames)
    assert report["denoiser"]["scanner"]["line_offset"] == 0, "8 frames are too few"
    said = [note for note in report["outcome"]["notes"] if "odd lines are shifted" in note]
    assert len(said) == bool(pixels)
    assert all("3.0 pixels to the right, which the first frames" in note for note in said)


def test_channels_are_numbered_as_they_came_in_the_recording(tmp_path: Path) -> None:
    """Channel b is denoised first, since everything of a was skipped at the beginning."""
    from ome_types import from_tiff

    run = tmp_path / "run"
    record(run, frames_of(40, "ab"), range(0, 30, 2))
    fill_run(run, bundle=str(tmp_path / "tiny.denoscope"))
    for name in ("denoised.ome.tif", FILLED_MOVIE):
        (image,) = from_tiff(run / name).images
        assert [channel.name for channel in image.pixels.channels] == ["a", "b"]
    live, filled = (tifffile.imread(run / name) for name in ("denoised.ome.tif", FILLED_MOVIE))
    assert live.shape == filled.shape == (20, 2, 48, 56)
    np.testing.assert_array_equal(live[18:], filled[18:])


def test_a_fill_that_is_interrupted_leaves_nothing_half_written(
    denoscope: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    record(run, frames_of(30), range(10, 20))
    before = {path.name for path in run.iterdir()}
    take = fill_module._Filling.take

    def interrupted(filling: Any, index: int, pixels: Any) -> None:
        if index == 15:
            raise KeyboardInterrupt
        take(filling, index, pixels)

    monkeypatch.setattr(fill_module._Filling, "take", interrupted)
    words = ("denoise", "--fill", run, "--bundle", tmp_path / "tiny.denoscope")
    done = denoscope(*words)
    assert done.returncode == 130
    assert "interrupted after 15 of 30 frames; the run is as it was" in done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name for path in run.iterdir()} == before
    monkeypatch.undo()
    assert denoscope(*words).returncode == 0


def test_raw_frames_alone_are_filled_and_the_bundle_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = tmp_path / "tiny.denoscope"
    model = tiny_bundle(tiny, intensity=None, calibration_frames=8)
    run = tmp_path / "run-rescued"  # it holds nothing else
    frames = frames_of(12)
    info = SourceInfo("demo", "demo", "Cam", frames[0].pixels.shape, frames[0].pixels.dtype)
    run.mkdir()
    with RawWriter(run, info, "1") as writer:
        for frame in frames:
            writer.append(frame)
    words = f"nothing in {run} names the bundle of the recording: live was used"
    assert words not in str(fill_run(run, tmp_path / "named.ome.tif", bundle=str(tiny))["notes"])
    monkeypatch.setattr(fill_module, "bundles_of", lambda *_: [(0.0, float("inf"), model)])
    filled = fill_run(run, tmp_path / "x.ome.tif")
    assert filled["computed"] == 12
    assert words in str(filled["notes"])
