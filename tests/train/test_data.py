"""Movies are checked before they are read, and drawn windows are what a live session would see."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile

from denoscope.runtime import Intensity, InvalidInput, LazyMovie, estimate_intensity, open_movie
from denoscope.runtime.motion.field import KNOTS
from denoscope.train import (
    CameraSettings,
    LiveNetSettings,
    SceneSettings,
    TrainingMovie,
    aligned,
    movie_from_file,
    simulate,
)
from denoscope.train.data import movie as data_module
from denoscope.train.data.clips import ClipPool
from denoscope.train.data.past import Past
from denoscope.train.networks.live.batch import Batch, draw_batch
from support.field_inputs import active_cells, counts, lines_shifted

STAMPED = np.arange(60, dtype=np.uint16)[:, None, None] * 10 + np.zeros((60, 32, 32), np.uint16)
PLAIN = Intensity(offset=0, scale=1, noise_slope=0, noise_floor=0.1)


@pytest.mark.parametrize(
    "options", [{}, {"bigtiff": True}, {"compression": "zlib"}, {"ome": True}, {"imagej": True}]
)
def test_reads_the_usual_tiff_kinds(tmp_path: Path, options: dict[str, object]) -> None:
    path = tmp_path / "movie.tif"
    tifffile.imwrite(path, STAMPED, photometric="minisblack", **options)
    np.testing.assert_array_equal(open_movie(path), STAMPED)


def bad_files(folder: Path) -> dict[str, Path]:
    text = folder / "text.tif"
    text.write_bytes(b"not a tiff at all")
    empty = folder / "empty.tif"
    empty.write_bytes(b"")
    header = folder / "header.tif"
    header.write_bytes(struct.pack("<2sHI", b"II", 42, 0))
    colour = folder / "colour.tif"
    tifffile.imwrite(colour, np.zeros((4, 3, 16, 16, 3), np.uint8), photometric="rgb")
    complexes = folder / "complex.tif"
    tifffile.imwrite(complexes, np.zeros((4, 16, 16), np.complex64), photometric="minisblack")
    claim = folder / "claim.tif"
    tifffile.imwrite(claim, np.zeros((2, 16, 16), np.uint16), photometric="minisblack")
    with tifffile.TiffFile(claim, mode="r+") as tif:
        tif.pages.first.tags["ImageLength"].overwrite(40_000)
        tif.pages.first.tags["ImageWidth"].overwrite(40_000)
    return {
        "missing": folder / "none.tif",
        **{p.stem: p for p in (text, empty, header, colour, complexes, claim)},
    }


@pytest.mark.parametrize("kind", ["missing", "text", "empty", "header", "colour", "complex", "claim"])
@pytest.mark.filterwarnings("ignore")
def test_bad_files_get_one_sentence(tmp_path: Path, kind: str) -> None:
    path = bad_files(tmp_path)[kind]
    with pytest.raises(InvalidInput) as caught:
        open_movie(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_too_short_a_movie_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "short.tif"
    tifffile.imwrite(path, STAMPED[:9], photometric="minisblack")
    with pytest.raises(InvalidInput, match="9 frames in the chosen range; training needs 10"):
        movie_from_file(path)


@pytest.mark.parametrize("look_ahead", [0, 2, 3])
def test_windows_hold_the_right_frames_and_the_memory_none_of_them(look_ahead: int) -> None:
    settings = LiveNetSettings(look_ahead=look_ahead, memory_decay=(4.0, 50.0))
    movie = TrainingMovie("stamped", STAMPED, None, PLAIN)
    batch = draw_batch([movie], np.ones(1), settings, size=200, crop=16, rng=np.random.default_rng(0))
    numbers = batch.window[:, :, 0, 0] / 10
    centre = numbers[:, 3]
    for i in range(7):
        there = batch.valid[:, i] > 0
        np.testing.assert_allclose(numbers[there, i], centre[there] + i - 3, atol=1e-3)
        assert (numbers[~there, i] == 0).all()
    assert (batch.valid[:, 3] == 1).all()
    assert (batch.valid[:, 4 + look_ahead :] == 0).all()
    assert (batch.valid[centre > 56, 6] == 0).all()
    remembered = batch.weight[:, 0] > 0
    average = batch.memory[remembered, 0, 0, 0] / batch.weight[remembered, 0] / 10
    assert (average <= centre[remembered] - 4 + 1e-3).all(), "only frames before the window"
    assert (batch.weight[centre <= 3] == 0).all()
    assert (batch.supervised == 0).all()


def stamped_file(folder: Path, frames: int, size: int = 160) -> Path:
    """Write pages whose pixels are unlike any other: frame number, and place."""
    place = np.arange(size * size, dtype=np.uint16).reshape(size, size) % 251
    path = folder / f"{frames}.tif"
    with tifffile.TiffWriter(path) as writer:
        for t in range(frames):
            writer.write(place + np.uint16(t * 16), contiguous=False, metadata=None)
    return path


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> LazyMovie:
    movie = open_movie(stamped_file(tmp_path_factory.mktemp("large"), 1500))
    assert isinstance(movie, LazyMovie)
    return movie


SETTINGS = LiveNetSettings(memory_decay=(4.0, 50.0))


def drawn(movie: TrainingMovie, step: int | None, seed: int = 3) -> Batch:
    rng = np.random.default_rng((seed, step or 0))
    return draw_batch([movie], np.ones(1), SETTINGS, size=8, crop=32, rng=rng, seed=seed, step=step)


@pytest.mark.slow
def test_windows_of_a_large_movie_are_windows_of_that_movie(large: LazyMovie) -> None:
    """Drawn from clips, they hold the frames, the places and the past that the whole movie has there."""
    whole = np.asarray(large)
    movie = TrainingMovie("large", large, None, PLAIN)
    for step in (0, 900):
        rng = np.random.default_rng(5)
        clip = movie.clip(crop=32, window=7, seed=3, step=step, rng=rng)
        y, x = clip.corner
        height, width = clip.frames.shape[1:]
        np.testing.assert_array_equal(
            clip.frames, whole[clip.first : clip.first + len(clip.frames), y : y + height, x : x + width]
        )
        assert clip.first <= max(0, clip.centres[0] - 400 - 3)
        assert clip.first + len(clip.frames) >= min(1500, clip.centres[-1] + 4)
        batch = drawn(movie, step)
        places = np.lib.stride_tricks.sliding_window_view(whole[0], (32, 32)).reshape(-1, 32, 32)
        for b in range(2):
            centre = batch.window[b, 3]
            flips = [centre, centre[::-1], centre[:, ::-1], centre[::-1, ::-1]]
            times = {round(float(f[0, 0] - p[0, 0])) for f in flips for p in places if np.ptp(f - p) == 0}
            assert len(times) == 1, "one frame and place of the movie"
            assert times.pop() % 16 == 0


def test_a_large_movie_is_drawn_alike_after_a_restart(large: LazyMovie) -> None:
    going = TrainingMovie("large", large, None, PLAIN)
    batches = {step: drawn(going, step) for step in (0, 30, 500, 2000)}
    for step in (2000, 30):
        anew = drawn(TrainingMovie("large", large, None, PLAIN), step)
        np.testing.assert_array_equal(anew.window, batches[step].window)
        np.testing.assert_array_equal(anew.memory, batches[step].memory)
    assert not np.array_equal(drawn(going, 30, seed=4).window, batches[30].window)


def test_all_of_a_large_movie_is_drawn_in_time(large: LazyMovie) -> None:
    pool = ClipPool(large, crop=32, past=407, ahead=7, seed=0)
    assert pool.interval >= 25
    seen = set()
    for step in range(0, 40 * pool.interval, pool.interval):
        numbers = pool.numbers(step)
        assert len(numbers) <= pool.size
        seen.update(pool.draw(step, np.random.default_rng(step)).centres)
        assert len(pool.numbers(step + pool.interval)) >= len(numbers)
    assert seen == set(range(1500))
    assert pool.numbers(None) == range(pool.size)


def test_a_pool_is_bounded_whatever_the_movie_is(tmp_path: Path) -> None:
    class Huge:
        shape, dtype, note = (400_000, 2048, 2048), np.dtype(np.uint16), ""

        def __init__(self, piece: tuple[int, int, int]) -> None:
            self.piece = piece

        def read(self, start: int, stop: int, rows: slice, columns: slice) -> np.ndarray:
            raise AssertionError("nothing is read before it is drawn")

    slow = []
    for piece in ((1, 1, 1), (1, 2048, 2048), (100, 256, 256), (1, 512, 512)):
        movie = LazyMovie(Huge(piece), "huge", 2**34)
        assert movie.nbytes > 3e12
        pool = ClipPool(movie, crop=64, past=407, ahead=7, seed=0)
        frames = 407 + 240 + 7
        assert pool.size * frames * pool.region[0] * pool.region[1] * 2 <= 300 * 2**20
        assert min(pool.region) >= 128
        slow.append(pool.interval)
    assert slow[1] > slow[0], "whole compressed frames cost more to read, so clips stay longer"


def test_small_files_are_drawn_from_as_ever(tmp_path: Path) -> None:
    path = stamped_file(tmp_path, 60, 48)
    movie = movie_from_file(path)
    assert isinstance(movie.frames, np.ndarray)
    memory = TrainingMovie(movie.name, np.asarray(tifffile.imread(path)), None, movie.intensity)
    for step in (None, 0, 700):
        np.testing.assert_array_equal(drawn(movie, step).window, drawn(memory, step).window)


def test_a_channel_is_chosen(tmp_path: Path) -> None:
    path = tmp_path / "c.tif"
    two = np.stack([STAMPED, STAMPED + 1000], axis=1)
    tifffile.imwrite(path, two, imagej=True, metadata={"axes": "TCYX"})
    assert movie_from_file(path, channel=1).frames[0].min() == 1000
    with pytest.raises(InvalidInput, match="2 channels"):
        movie_from_file(path)


def test_a_movie_that_moves_is_trained_on_as_a_live_session_sees_it() -> None:
    scene = SceneSettings(frames=60, height=96, width=96, motion_px=2.5, jitter_px=0.8, spike_rate_hz=0.01)
    simulated = simulate(scene, CameraSettings(photons=30.0), seed=8)
    noisy = np.rint(simulated.noisy)
    moving = TrainingMovie("moving", noisy, simulated.clean, estimate_intensity(noisy[:32]))
    still = aligned(moving)
    assert still.clean is not None
    inner = np.s_[:, 12:-12, 12:-12]
    before, after = (np.asarray(m.clean)[inner].std(0).mean() for m in (moving, still))
    assert after < 0.6 * before
    noise = [np.asarray(m.frames)[inner] - np.asarray(m.clean)[inner] for m in (moving, still)]
    assert noise[1].std() == pytest.approx(noise[0].std(), rel=0.02), "frames and truth move together"
    assert aligned(still) is still
    # Without truth nothing that repeats a border is learned from: a copy of a pixel gives its noise away.
    alone = aligned(TrainingMovie("moving", noisy, None, moving.intensity))
    height, width = alone.frames.shape[1:]
    assert 60 < height < 96
    assert 60 < width < 96
    for movie, repeats in ((still, True), (alone, False)):
        frames = np.asarray(movie.frames)
        ends = [(frames[:, 0], frames[:, 1]), (frames[:, -1], frames[:, -2])]
        assert any((a == b).all(axis=1).any() for a, b in ends) is repeats


def test_frames_that_cannot_be_written_to_are_drawn_from() -> None:
    frames = np.random.default_rng(0).normal(300, 20, (40, 32, 32)).astype(np.float32)
    movie = TrainingMovie("mapped", frames, None, estimate_intensity(frames[:32]))
    drawn = draw_batch([movie], np.ones(1), LiveNetSettings(), size=4, crop=32, rng=np.random.default_rng(1))
    frames.flags.writeable = False
    again = draw_batch([movie], np.ones(1), LiveNetSettings(), size=4, crop=32, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(again.memory, drawn.memory)
    assert drawn.weight.max() > 0


@pytest.mark.parametrize("stop", [0, 1, 15, 16, 17, 100, 449, 450])
def test_a_past_is_what_folding_frame_by_frame_gives(stop: int) -> None:
    frames = np.random.default_rng(0).integers(0, 60_000, (450, 9, 11)).astype(np.uint16)
    keep = np.exp(-1 / np.array([4.0, 256.0]))
    averages, weight = Past(frames, keep).before(stop, (slice(2, 7), slice(0, 11)))
    expected = np.zeros((2, 5, 11))
    for frame in frames[:stop]:
        expected = expected * keep[:, None, None] + (1 - keep)[:, None, None] * frame[2:7]
    np.testing.assert_allclose(averages, expected, rtol=1e-5)
    np.testing.assert_allclose(weight, 1 - keep**stop, rtol=1e-6)


def test_a_large_mapped_movie_keeps_no_averages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / "mapped.tif", STAMPED, photometric="minisblack")
    mapped = tifffile.memmap(tmp_path / "mapped.tif", mode="r")
    settings = LiveNetSettings(memory_decay=(4.0, 50.0))
    batches = []
    for limit in (2**30, 100):
        monkeypatch.setattr(data_module, "_IN_MEMORY_BYTES", limit)
        movie = TrainingMovie("stamped", mapped, None, PLAIN)
        rng = np.random.default_rng(0)
        batches.append(draw_batch([movie], np.ones(1), settings, size=20, crop=16, rng=rng))
        assert bool(movie._pasts) == (limit > 100)
    np.testing.assert_allclose(batches[0].memory, batches[1].memory, rtol=1e-5)
    np.testing.assert_allclose(batches[0].weight, batches[1].weight, rtol=1e-5)


@pytest.mark.parametrize("follows", [False, True])
def test_the_memory_that_drawing_takes_is_told(follows: bool) -> None:
    shift = np.zeros((len(STAMPED), 2, KNOTS, KNOTS), np.float32) if follows else None
    movie = TrainingMovie("stamped", STAMPED, None, PLAIN, fields=shift)
    settings = LiveNetSettings(memory_decay=(4.0, 50.0), subpixel=True)
    draw_batch([movie], np.ones(1), settings, size=20, crop=16, rng=np.random.default_rng(0))
    held = sum(past._states.nbytes for past in movie._pasts.values())
    settled = movie.on_the_scene
    assert movie.held_bytes(2) == held + (0 if settled is None else settled.nbytes) > 0


def test_a_movie_with_borders_of_nan_is_trained_on_without_them(tmp_path: Path) -> None:
    frames = np.random.default_rng(2).poisson(20, (30, 64, 64)).astype(np.float32)
    frames[:, :4], frames[:, :, -5:], frames[9], frames[12, 30, 30] = np.nan, np.nan, np.nan, np.inf
    np.save(tmp_path / "movie.npy", frames)
    movie = movie_from_file(tmp_path / "movie.npy")
    assert movie.frames.shape == (29, 60, 59)
    assert np.isfinite(np.asarray(movie.frames)).all()


def test_a_movie_with_borders_of_nan_that_is_too_large_for_memory_is_cut_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that has to predict what was filled learns to copy pixels."""
    monkeypatch.setattr(data_module, "_IN_MEMORY_BYTES", 1000)
    frames = np.random.default_rng(2).poisson(20, (30, 64, 64)).astype(np.float32)
    frames[:, :4], frames[:, :, -5:], frames[9] = np.nan, np.nan, np.nan
    np.save(tmp_path / "movie.npy", frames)
    movie = movie_from_file(tmp_path / "movie.npy")
    assert movie.frames.shape == (30, 60, 59)
    assert np.isfinite(np.asarray(movie.frames[:])).all()


def test_the_note_of_a_movie_names_shifted_lines(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "movie.tif", lines_shifted(3, 40, photons=20)[0])
    assert "odd lines are shifted by 3.0 pixels to the right" in movie_from_file(tmp_path / "movie.tif").note


def test_a_movie_that_is_trained_on_is_read_and_not_mapped(tmp_path: Path) -> None:
    path = tmp_path / "movie.tif"
    frames = np.random.default_rng(0).poisson(90, (40, 32, 40)).astype(np.uint16)
    tifffile.imwrite(path, frames, photometric="minisblack")
    read = movie_from_file(path).frames
    assert not isinstance(read, np.memmap)  # it would end this process where the file is cut short
    np.testing.assert_array_equal(np.asarray(read), frames)


def test_saturated_pixels_are_filled_and_do_not_count(tmp_path: Path) -> None:
    frames = active_cells(24, 48, 64)[1]
    frames[:, 20:26, 30:36] = 1e6
    tifffile.imwrite(tmp_path / "m.tif", counts(frames))
    movie = movie_from_file(tmp_path / "m.tif")
    assert movie.lost is not None
    assert np.asarray(movie.frames).max() < 5000
    assert 0.5 < movie.intensity.gain / 20 < 2
    batch = draw_batch([movie], np.ones(1), SETTINGS, size=30, crop=32, rng=np.random.default_rng(1))
    left_out = (batch.counted == 0).sum(axis=(1, 2, 3))
    assert 36 <= left_out.max() < 60  # with bright pixels beside it
    assert movie.part(2, 9).lost == movie.lost[2:9]
    assert batch.window.max() < 100
