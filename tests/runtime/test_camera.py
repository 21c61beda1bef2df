"""Calibration maps are read from every format, checked, and take the fixed pattern out of frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from denoscope.runtime import CameraCalibration, InvalidInput, estimate_intensity
from denoscope.runtime.noise.camera import read_map

FloatArray = npt.NDArray[np.float64]

SHAPE = (40, 56)


def maps(seed: int = 0, shape: tuple[int, int] = SHAPE) -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(1.5, 2.5, shape), rng.normal(100, 5, shape)


def save(path: Path, values: npt.NDArray[Any], name: str) -> Path:
    if path.name.endswith("73.mat"):
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w", userblock_size=512) as file:
            file[name] = values.T
        head = b"MATLAB 7.3 MAT-file, Platform: test".ljust(128)
        with path.open("r+b") as stream:
            stream.write(head)
    elif path.suffix == ".mat":
        pytest.importorskip("scipy.io").savemat(path, {name: values, "exposure_ms": 5.0})
    elif path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".npz":
        np.savez_compressed(path, **{name: values, "exposure": np.array(5.0)})
    else:
        tifffile.imwrite(path, values)
    return path


@pytest.mark.parametrize("file", ["v5.mat", "v73.mat", "map.tif", "map.tiff", "map.npy", "map.npz"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8, np.uint16])
def test_every_format_is_read(tmp_path: Path, file: str, dtype: Any) -> None:
    values = np.random.default_rng(1).integers(1, 200, SHAPE).astype(dtype)
    found = read_map(save(tmp_path / file, values, "gain"), "gain")
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("file", ["v5.mat", "v73.mat", "map.npz"])
def test_of_several_arrays_the_named_one_is_taken(tmp_path: Path, file: str) -> None:
    gain, offset = maps()
    path = tmp_path / file
    if file == "map.npz":
        np.savez(path, gain=gain, offset=offset)
    elif file == "v5.mat":
        pytest.importorskip("scipy.io").savemat(path, {"gain": gain, "offset": offset})
    else:
        with pytest.importorskip("h5py").File(path, "w") as stream:
            stream["gain"], stream["offset"] = gain.T, offset.T
    calibration = CameraCalibration.load(path, path)
    np.testing.assert_array_equal(calibration.gain, gain)
    np.testing.assert_array_equal(calibration.offset, offset)
    with pytest.raises(InvalidInput, match=r"gain 40 x 56, offset 40 x 56.*not clear which"):
        read_map(path, "read variance")


def test_correction_gives_photo_electrons() -> None:
    gain, offset = maps()
    electrons = np.random.default_rng(2).poisson(20, (30, *SHAPE))
    frames = np.rint(electrons * gain + offset).astype(np.uint16)
    calibration = CameraCalibration(gain, offset, np.full(SHAPE, 4.0))
    found = calibration.correct(frames)
    assert (found.dtype, found.shape) == (np.float32, frames.shape)
    np.testing.assert_allclose(found, electrons, atol=0.4)
    np.testing.assert_allclose(calibration.correct(frames[3]), found[3])
    np.testing.assert_allclose(calibration.noise_variance(found[0]), found[0] + 4 / gain**2, rtol=1e-5)
    assert frames.dtype == np.uint16


def test_the_fixed_pattern_goes() -> None:
    rng = np.random.default_rng(3)
    shape = (96, 96)
    gain, offset = maps(4, shape)
    frames = np.rint(rng.poisson(20, (200, *shape)) * gain + offset).astype(np.uint16)
    corrected = CameraCalibration(gain, offset).correct(frames)
    assert corrected.mean(0).std() < 1.1 * np.sqrt(20 / 200)
    assert frames.mean(0).std() / gain.mean() > 5 * corrected.mean(0).std()
    ramp = np.linspace(2, 40, 96)
    movie = rng.poisson(np.broadcast_to(ramp, (60, *shape))) * gain + offset
    assert estimate_intensity(CameraCalibration(gain, offset).correct(movie)).gain == pytest.approx(
        1, rel=0.05
    )


def test_maps_that_do_not_fit_are_noticed() -> None:
    rng = np.random.default_rng(6)
    gain, offset = maps(7, (96, 96))
    frames = np.rint(rng.poisson(20, (40, 96, 96)) * gain + offset).astype(np.uint16)
    fitting = CameraCalibration(gain, offset, source="maps.mat")
    before, after = fitting.fixed_pattern(frames)
    assert before > 10 * after
    assert fitting.warning(frames) is None
    warning = CameraCalibration(gain.T, offset.T, source="maps.mat").warning(frames)
    assert warning is not None
    assert "(maps.mat) do not fit this movie: its fixed pattern grows" in warning
    assert CameraCalibration(gain.T, offset.T).warning(frames[:4]) is None


def test_a_movie_is_corrected_where_it_is_read() -> None:
    gain, offset = maps()
    frames = np.random.default_rng(5).integers(90, 300, (9, *SHAPE)).astype(np.uint16)
    calibration = CameraCalibration(gain, offset)
    movie, whole = calibration.correct_movie(frames), calibration.correct(frames)
    assert (movie.shape, movie.dtype, len(movie), movie.ndim) == (whole.shape, np.float32, 9, 3)
    assert movie.nbytes == whole.nbytes
    for key in (2, np.s_[2, 3:20], np.s_[1:7, 3:20, 8:9], np.s_[1:7, :, 5:], np.s_[[1, 4], 2:5, 3:9], -1):
        np.testing.assert_allclose(movie[key], whole[key], rtol=1e-5)
    np.testing.assert_array_equal(np.asarray(movie[2:8]), whole[2:8])
    np.testing.assert_array_equal(np.asarray(movie[2:8][1:][2]), whole[5])
    with pytest.raises(InvalidInput, match="9 x 9 and the calibration maps 40 x 56"):
        calibration.correct_movie(frames[:, :9, :9])


def test_a_region_of_the_camera() -> None:
    gain, offset = maps()
    part = CameraCalibration(gain, offset, gain, "maps.mat").crop((8, 4, 20, 30))
    assert part.shape == (30, 20)
    np.testing.assert_array_equal(part.gain, gain[4:34, 8:28])
    assert part.source == "maps.mat at 8,4"
    for roi in ((-1, 0, 4, 4), (0, 0, 0, 4), (50, 0, 7, 4), (0, 39, 4, 2)):
        with pytest.raises(InvalidInput, match="does not lie in maps of 56 columns and 40 rows"):
            CameraCalibration(gain, offset).crop(roi)


def test_only_one_map_is_needed(tmp_path: Path) -> None:
    gain, _ = maps()
    path = save(tmp_path / "gain.npy", gain, "gain")
    calibration = CameraCalibration.load(path, roi=(0, 0, 16, 8))
    assert calibration.offset.shape == (8, 16)
    assert not calibration.offset.any()
    assert (CameraCalibration.load(offset=path).gain == 1).all()
    with pytest.raises(InvalidInput, match="needs a gain or an offset"):
        CameraCalibration.load()


def test_reports_identify_the_maps() -> None:
    gain, offset = maps()
    one, other = CameraCalibration(gain, offset), CameraCalibration(gain + 1e-9, offset)
    assert one.sha256 == CameraCalibration(gain.copy(), offset).sha256 != other.sha256
    described = CameraCalibration(gain, offset, gain, "a.mat").describe()
    assert described["median_read_variance"] == pytest.approx(np.median(gain))
    assert (described["source"], described["height_px"], described["width_px"]) == ("a.mat", 40, 56)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, -1.0])
def test_unusable_pixels_are_named(value: float) -> None:
    gain, offset = maps()
    gain[3, 7] = value
    with pytest.raises(InvalidInput, match=r"1 unusable pixel.*row 3, column 7"):
        CameraCalibration(gain, offset)


def test_maps_must_agree() -> None:
    gain, offset = maps()
    with pytest.raises(InvalidInput, match="offset map is 40 x 50 and the gain map 40 x 56"):
        CameraCalibration(gain, offset[:, :50])
    with pytest.raises(InvalidInput, match="read variance map has 2240 unusable"):
        CameraCalibration(gain, offset, -gain)


def test_files_that_are_no_maps(tmp_path: Path) -> None:
    bad = tmp_path / "bad.mat"
    bad.write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    damaged = tmp_path / "damaged.tif"
    damaged.write_bytes(b"II*\0" + bytes(20))
    stack = tmp_path / "stack.tif"
    tifffile.imwrite(stack, np.zeros((3, 8, 8), np.uint8), photometric="minisblack")
    pickled = tmp_path / "pickled.npy"
    np.save(pickled, np.array([{"a": 1}], dtype=object), allow_pickle=True)  # to see it refused
    huge = tmp_path / "huge.npy"
    with huge.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6)}
        )
    text = tmp_path / "map.csv"
    text.write_text("1,2")
    for path, complaint in [
        (tmp_path / "none.mat", "There is no gain map"),
        (bad, "bad.mat"),
        (damaged, "cannot be read as a gain map"),
        (stack, "two-dimensional"),
        (pickled, "cannot be read as a gain map"),
        (huge, "cannot be read as a gain map|megapixels"),
        (text, r"one of \.mat"),
    ]:
        with pytest.raises(InvalidInput, match=complaint):
            read_map(path, "gain")


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "v5.mat", maps()[0], "gain")

    def refuse(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("denoscope.runtime.noise.camera.import_module", refuse)
    with pytest.raises(InvalidInput, match=r"needs scipy.*\[formats\].*\.npy"):
        read_map(path, "gain")
