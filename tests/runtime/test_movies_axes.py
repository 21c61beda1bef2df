"""Order of the axes of arrays: from names in the file, from the user, or asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

from denoscope.runtime import InvalidInput, open_movie
from denoscope.runtime.movies import LazyMovie
from denoscope.runtime.movies.formats import hdf5
from support.field_inputs import active_cells

H, W, T = 16, 24, 20
AXES = {"T": 0, "Y": 1, "X": 2}


def movie_of(*shape: int) -> npt.NDArray[Any]:
    return np.random.default_rng(sum(shape)).integers(0, 1000, shape).astype(np.uint16)


def stored(movie: npt.NDArray[Any], order: str) -> npt.NDArray[Any]:
    return np.ascontiguousarray(movie.transpose([AXES[letter] for letter in order]))


def write_hdf5(path: Path, array: npt.NDArray[Any], **attributes: Any) -> Path:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file["movie"] = array
        file["movie"].attrs.update(attributes)
    return path


def check_reads(path: Path, expected: npt.NDArray[Any], **choice: Any) -> None:
    movie = open_movie(path, mapped=False, **choice)
    np.testing.assert_array_equal(np.asarray(movie), expected)
    np.testing.assert_array_equal(movie[3], expected[3])
    np.testing.assert_array_equal(movie[5:9, 2:7, 3:11], expected[5:9, 2:7, 3:11])


@pytest.mark.parametrize("order", ["TYX", "YXT", "YTX", "XYT", "TXY"])
@pytest.mark.parametrize("kind", ["labels", "scales", "axistags", "axes", "axes beside"])
def test_axes_that_hdf5_names_are_read_in_their_order(tmp_path: Path, kind: str, order: str) -> None:
    h5py = pytest.importorskip("h5py")
    movie = movie_of(T, H, W)
    words = {"T": "time", "Y": "row", "X": "column"}
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("movie", data=stored(movie, order))
        if kind == "axistags":
            data.attrs["axistags"] = json.dumps({"axes": [{"key": letter.lower()} for letter in order]})
        elif kind == "axes":
            data.attrs["axes"] = order.lower()
        elif kind == "axes beside":
            file.attrs["axes"] = [words[letter] for letter in order]
        for i, letter in enumerate(order):
            if kind == "labels":
                data.dims[i].label = words[letter]
            elif kind == "scales":
                scale = file.create_dataset(
                    {"T": "frame", "Y": "height", "X": "width"}[letter], (data.shape[i],), "f4"
                )
                scale.make_scale()
                data.dims[i].attach_scale(scale)
    check_reads(Path(f"{path}::movie"), movie)


def test_channels_and_planes_that_hdf5_names_are_chosen_from(tmp_path: Path) -> None:
    array = movie_of(T, 3, H, W, 2)
    path = write_hdf5(
        tmp_path / "m.h5",
        array,
        axistags='{"axes": [{"key": "t"}, {"key": "z"}, {"key": "y"}, {"key": "x"}, {"key": "c"}]}',
    )
    check_reads(path, array[:, 2, :, :, 1], plane=2, channel=1)
    with pytest.raises(InvalidInput, match="3 planes"):
        open_movie(path)


def test_time_alone_may_be_named(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    movie = movie_of(T, H, W)
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["movie"] = stored(movie, "YXT")
        file["movie"].dims[2].label = "time"
    check_reads(tmp_path / "m.h5", movie)


@pytest.mark.parametrize("order", ["TYX", "YXT", "YTX", "XYT"])
@pytest.mark.parametrize("third", ["", "repeat"])
def test_rows_and_columns_alone_may_be_named(tmp_path: Path, order: str, third: str) -> None:
    h5py = pytest.importorskip("h5py")
    movie = movie_of(T, H, W)
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["movie"] = stored(movie, order)
        for i, letter in enumerate(order):
            file["movie"].dims[i].label = {"Y": "y", "X": "x", "T": third}[letter]
    check_reads(tmp_path / "m.h5", movie)


@pytest.mark.parametrize("order", ["TYX", "YXT", "YTX", "XYT"])
@pytest.mark.parametrize("kind", ["h5", "npy", "zarr"])
def test_axes_are_read_as_the_user_says(tmp_path: Path, kind: str, order: str) -> None:
    movie, path = movie_of(T, H, W), tmp_path / f"m.{kind}"
    if kind == "h5":
        write_hdf5(path, stored(movie, order))
    elif kind == "npy":
        np.save(path, stored(movie, order))
    else:
        pytest.importorskip("zarr").create_array(str(path), data=stored(movie, order), chunks=(7, 7, 7))
    check_reads(path, movie, axes=order.lower())


@pytest.mark.parametrize(("most", "together"), [(2**26, 20), (5 * H * W * 2, 5)])
def test_chunks_that_hold_all_times_are_not_read_once_for_each_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, together: int
) -> None:
    h5py = pytest.importorskip("h5py")
    monkeypatch.setattr(hdf5, "_TOGETHER_BYTES", most)
    movie = movie_of(T, H, W)
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.create_dataset("movie", data=stored(movie, "YXT"), chunks=(4, 4, T))
    opened = open_movie(tmp_path / "m.h5", axes="YXT", mapped=False)
    assert isinstance(opened, LazyMovie)
    assert opened.piece == (together, 4, 4)
    np.testing.assert_array_equal(np.stack(list(opened)), movie)


def test_axes_of_matlab_are_in_its_own_order(tmp_path: Path) -> None:
    movie = movie_of(T, H, W)
    path = write_hdf5(tmp_path / "m.h5", movie.T, MATLAB_class=b"uint16")  # MATLAB's (T, H, W)
    check_reads(path, movie, axes="TYX")


@pytest.mark.parametrize("axes", ["TYY", "XT", "TYXQ", "", "TCYX"])
def test_axes_that_do_not_fit_are_refused(tmp_path: Path, axes: str) -> None:
    np.save(tmp_path / "m.npy", movie_of(T, H, W))
    for path in (tmp_path / "m.npy", write_hdf5(tmp_path / "m.h5", movie_of(T, H, W))):
        with pytest.raises(InvalidInput, match=f"`axes` {axes}"):
            open_movie(path, axes=axes)


@pytest.mark.parametrize("kind", ["h5", "npy"])
@pytest.mark.parametrize("shape", [(40, 40, 60), (40, 40, 36)])
def test_two_equal_axes_that_may_be_the_sides_of_frames_are_asked_about(
    tmp_path: Path, kind: str, shape: tuple[int, ...]
) -> None:
    noise = movie_of(*shape)  # shows nothing that tells
    path = write_hdf5(tmp_path / "m.h5", noise) if kind == "h5" else tmp_path / "m.npy"
    if kind == "npy":
        np.save(path, noise)
    with pytest.raises(InvalidInput, match="does not say which axis is time: give `axes` YXT"):
        open_movie(path)
    check_reads(path, noise, axes="TYX")
    check_reads(path, np.moveaxis(noise, -1, 0), axes="YXT")


@pytest.mark.parametrize("kind", ["tif", "zarr"])
def test_pages_and_named_axes_are_not_asked_about(tmp_path: Path, kind: str) -> None:
    noise, path = movie_of(40, 40, 60), tmp_path / f"m.{kind}"
    if kind == "tif":
        tifffile.imwrite(path, noise)
    else:
        zarr = pytest.importorskip("zarr")
        zarr.create_array(str(path), data=noise, chunks=(8, 40, 60), dimension_names=["t", "y", "x"])
    check_reads(path, noise)


def test_as_many_square_frames_as_rows_are_read_without_a_question(tmp_path: Path) -> None:
    movie = active_cells(64, 64, 96, photons=2.0)[1].astype(np.uint16)
    check_reads(write_hdf5(tmp_path / "m.h5", movie), movie)


@pytest.mark.parametrize("shape", [(90, 96, 112), (120, 96, 64), (64, 128, 200)])
@pytest.mark.parametrize("kind", ["noiseless", "smoothed"])
def test_smooth_movies_without_a_background_are_read_as_they_are(
    tmp_path: Path, shape: tuple[int, int, int], kind: str
) -> None:
    """Halves of what is smooth agree along every axis."""
    movie, noisy = active_cells(*shape, photons=5.0, seed=3)
    if kind == "smoothed":
        movie = gaussian_filter(noisy, 2.0)
    changes = (movie - movie.mean(axis=0)).astype(np.float32)
    check_reads(write_hdf5(tmp_path / "m.h5", changes), changes)
    np.save(tmp_path / "last.npy", np.ascontiguousarray(np.moveaxis(movie, 0, -1)).astype(np.float32))
    if shape[1] != shape[0]:
        with pytest.raises(InvalidInput, match="time as the last"):
            open_movie(tmp_path / "last.npy")


def test_a_movie_of_matlab_with_time_first_is_asked_about(tmp_path: Path) -> None:
    movie = active_cells(120, 64, 80, photons=6.0)[1].astype(np.uint16)
    path = write_hdf5(tmp_path / "m.h5", movie.T, MATLAB_class=b"uint16")
    with pytest.raises(InvalidInput, match="time as the first: give `axes` TYX"):
        open_movie(path)
    check_reads(path, movie, axes="TYX")


def with_frames_of(kind: str, length: int, height: int, width: int) -> npt.NDArray[np.uint16]:
    """Return a movie (T, H, W) with what also looks like a picture along a wrong axis."""
    random = np.random.default_rng(length)
    clean, noisy = active_cells(length, height, width, photons=0.3 if kind == "dim" else 2.0, seed=width)
    if kind == "lines":
        noisy += random.normal(0, 12, (length, height, 1))
    elif kind == "light":
        falloff = 1 - 0.5 * np.linspace(-1, 1, height)[None, :, None] ** 2
        light = 2 + 0.2 * (clean - clean.mean()) / clean.std()
        light = np.maximum(light, 0) * falloff * (1 + 0.5 * np.sin(np.arange(length) / 9))[:, None, None]
        noisy = random.poisson(light) * 20.0 + 100
    elif kind == "pixels":  # of a camera without light
        noisy = random.normal(100, 3, noisy.shape) + random.normal(0, 3, noisy.shape[1:])
    return np.clip(np.rint(noisy), 0, 65535).astype(np.uint16)


@pytest.mark.parametrize("kind", ["dim", "lines", "light", "pixels"])
@pytest.mark.parametrize("shape", [(64, 128, 128), (96, 80, 96), (128, 64, 96)])
def test_square_frames_with_time_first_are_read_without_a_question(
    tmp_path: Path, kind: str, shape: tuple[int, int, int]
) -> None:
    movie, path = with_frames_of(kind, *shape), tmp_path / "m.npy"
    np.save(path, movie)
    assert open_movie(path).shape == movie.shape


@pytest.mark.parametrize("kind", ["dim", "lines", "light"])
@pytest.mark.parametrize("shape", [(128, 64, 128), (128, 128, 96), (64, 64, 64)])
def test_as_many_columns_as_frames_with_time_last_are_refused(
    tmp_path: Path, kind: str, shape: tuple[int, int, int]
) -> None:
    """(64, 128, 128) with time last has the shape of square frames."""
    movie, path = with_frames_of(kind, *shape), tmp_path / "m.npy"
    np.save(path, np.ascontiguousarray(np.moveaxis(movie, 0, -1)))
    with pytest.raises(InvalidInput, match="time as the last: give `axes` YXT"):
        open_movie(path)
    assert open_movie(path, axes="YXT").shape == movie.shape


@pytest.mark.parametrize("shape", [(64, 96, 96), (96, 96, 96), (64, 80, 120)])
def test_noise_alone_does_not_say_which_axis_is_time(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    np.save(tmp_path / "m.npy", movie_of(*shape))
    with pytest.raises(InvalidInput, match="does not say which axis is time: give `axes` YXT"):
        open_movie(tmp_path / "m.npy")
    assert open_movie(tmp_path / "m.npy", axes="TYX").shape == shape


@pytest.mark.parametrize("kind", ["border", "moving border", "frame", "dead pixels"])
@pytest.mark.parametrize("shape", [(64, 128, 128), (96, 80, 96)])
def test_movies_with_missing_pixels_are_read_without_a_question(
    tmp_path: Path, kind: str, shape: tuple[int, int, int]
) -> None:
    """As motion correction and masks of dead pixels leave them."""
    movie = with_frames_of("cells", *shape).astype(np.float32)
    for number in range(shape[0]):
        width = 5 if kind == "border" else 2 + number % 7
        if "border" in kind:
            movie[number, :, :width] = movie[number, -width:] = np.nan
    if kind == "frame":
        movie[30:33] = np.nan
    if kind == "dead pixels":
        movie[:, np.random.default_rng(0).random(shape[1:]) < 0.02] = np.nan
    np.save(tmp_path / "m.npy", movie)
    assert open_movie(tmp_path / "m.npy").shape == shape
    np.save(tmp_path / "m.npy", np.ascontiguousarray(np.moveaxis(movie, 0, -1)))
    with pytest.raises(InvalidInput, match="axes` YXT"):
        open_movie(tmp_path / "m.npy")


@pytest.mark.parametrize("shape", [(200, 128, 160), (64, 96, 96)])
def test_rows_without_their_means_are_not_called_time(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    """Some programs take the mean off each row, against noise of lines."""
    movie = active_cells(*shape, photons=2.0)[1]
    rows, changes = movie - movie.mean(axis=2, keepdims=True), np.moveaxis(movie - movie.mean(axis=0), 0, -1)
    for array in (rows.astype(np.float32), np.ascontiguousarray(changes, np.float32)):
        np.save(tmp_path / "m.npy", array)
        with pytest.raises(
            InvalidInput, match=r"does not say which axis is time: give `axes` YXT .*or `axes` TYX"
        ):
            open_movie(tmp_path / "m.npy")
    tifffile.imwrite(tmp_path / "m.tif", rows.astype(np.float32), photometric="minisblack")
    assert open_movie(tmp_path / "m.tif").shape == shape


@pytest.mark.parametrize("kind", ["npy", "tif"])
def test_layers_that_move_up_and_down_are_no_picture_over_time(tmp_path: Path, kind: str) -> None:
    """The rows of all columns change alike, as if one picture (time, row) stayed from column to column."""
    random = np.random.default_rng(3)
    rows, columns = np.indices((136, 96))
    scene = 20 + 10 * np.sin(rows / 4) + 10 * np.sin(rows / 5) * np.sin(columns / 6)
    places = np.cumsum(random.integers(-2, 3, 48)).clip(-20, 20) + 20
    movie = random.poisson(np.stack([scene[at : at + 96] for at in places]).clip(0)).astype(np.uint16)
    path = tmp_path / f"m.{kind}"
    (np.save if kind == "npy" else tifffile.imwrite)(path, movie)
    if kind == "tif":
        assert open_movie(path).shape == movie.shape
        return
    with pytest.raises(InvalidInput, match="does not say which axis is time: give `axes` YXT"):
        open_movie(path)
