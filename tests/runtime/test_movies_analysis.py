"""Movies as programs for analysis keep them: memory maps of CaImAn and archives of NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from denoscope.runtime import InvalidInput, open_movie

MOVIE = (
    np.random.default_rng(3).normal(50, 9, (7, 3, 6, 5)).astype(np.float32)
)  # frames, planes, rows, columns


def caiman(folder: Path, movie: np.ndarray, order: str, ending: str = "") -> Path:
    """Write as CaImAn does: a matrix of pixels and frames, whose pixels go along columns first."""
    frames, planes, rows, columns = movie.shape
    path = folder / f"mc_d1_{rows}_d2_{columns}_d3_{planes}_order_{order}_frames_{frames}{ending}.mmap"
    matrix = np.memmap(path, np.float32, "w+", shape=(rows * columns * planes, frames), order=order)
    for t in range(frames):
        matrix[:, t] = movie[t].transpose(1, 2, 0).reshape(-1, order="F")
    matrix.flush()
    return path


@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_maps_of_caiman(tmp_path: Path, order: str) -> None:
    path = caiman(tmp_path, MOVIE[:, :1], order, "_")
    movie = open_movie(path)
    np.testing.assert_array_equal(np.asarray(movie), MOVIE[:, 0])
    np.testing.assert_array_equal(movie[4], MOVIE[4, 0])
    np.testing.assert_array_equal(movie[2:6, 1:4, 2:3], MOVIE[2:6, 0, 1:4, 2:3])


@pytest.mark.parametrize("order", ["C", "F"])
def test_planes_of_a_memory_map(tmp_path: Path, order: str) -> None:
    path = caiman(tmp_path, MOVIE, order)
    with pytest.raises(InvalidInput, match="3 planes"):
        open_movie(path)
    np.testing.assert_array_equal(np.asarray(open_movie(path, plane=2)), MOVIE[:, 2])
    stack = open_movie(caiman(tmp_path, MOVIE[:1], order))
    np.testing.assert_array_equal(np.asarray(stack), MOVIE[0])


def test_memory_maps_that_do_not_fit_their_names(tmp_path: Path) -> None:
    path = caiman(tmp_path, MOVIE, "F")
    longer = path.with_name(path.name.replace("frames_7", "frames_6"))
    path.rename(longer)
    with pytest.raises(InvalidInput, match="its name says"):
        open_movie(longer)
    with pytest.raises(InvalidInput, match="claims"):
        open_movie(longer.rename(longer.with_name(longer.name.replace("frames_6", "frames_70"))))
    (tmp_path / "movie.mmap").write_bytes(bytes(100))
    with pytest.raises(InvalidInput, match="CaImAn memory map"):
        open_movie(tmp_path / "movie.mmap")


def test_archives_of_numpy(tmp_path: Path) -> None:
    frames = (MOVIE[:, 0] * 100).astype(np.uint16)
    np.savez(tmp_path / "m.npz", note=np.array("a note"), movie=frames, mean=frames.mean(axis=0))
    movie = open_movie(tmp_path / "m.npz")
    np.testing.assert_array_equal(np.asarray(movie), frames)
    np.testing.assert_array_equal(movie[3:5, 1:4], frames[3:5, 1:4])


def test_archives_that_are_refused(tmp_path: Path) -> None:
    frames = (MOVIE[:, 0] * 100).astype(np.uint16)
    np.savez_compressed(tmp_path / "small.npz", movie=frames)
    np.savez(tmp_path / "two.npz", a=frames, b=frames)
    np.savez(tmp_path / "none.npz", a=frames[0])
    np.savez(tmp_path / "objects.npz", a=np.full((2, 3, 4), {}, dtype=object))
    (tmp_path / "broken.npz").write_bytes((tmp_path / "two.npz").read_bytes()[:300])
    for name, what in {
        "small": "is compressed", "two": r"2 arrays of three axes \(a, b\)", "none": "no array of three axes",
        "objects": "Python objects", "broken": "cannot be read as a NumPy archive",
    }.items():  # fmt: skip
        with pytest.raises(InvalidInput, match=what):
            open_movie(tmp_path / f"{name}.npz")
