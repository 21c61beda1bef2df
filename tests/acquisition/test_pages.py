from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile

from denoscope.acquisition.raw.pages import PageFile, replace_description


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", ">u2"])
@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (64, 48)])
def test_pages_come_back_as_written(tmp_path: Path, dtype: str, shape: tuple[int, int]) -> None:
    frames = (np.random.default_rng(0).random((5, *shape)) * 100).astype(dtype)
    with PageFile(tmp_path / "m.tif", pixel_size_um=0.65) as file:
        assert [file.append(frame) for frame in frames] == [0, 1, 2, 3, 4]
    with tifffile.TiffFile(tmp_path / "m.tif") as tiff:
        assert tiff.is_bigtiff
        assert len(tiff.pages) == 5
        assert all(
            np.array_equal(page.asarray(), frame) for page, frame in zip(tiff.pages, frames, strict=True)
        )
        numerator, denominator = tiff.pages[0].tags["XResolution"].value
        assert numerator / denominator == pytest.approx(1e4 / 0.65, rel=1e-3)


def test_pages_may_change_shape_and_dtype(tmp_path: Path) -> None:
    with PageFile(tmp_path / "m.tif") as file:
        file.append(np.ones((4, 6), np.uint16))
        file.append(np.ones((3, 3), np.uint8)[:, ::-1])
    with tifffile.TiffFile(tmp_path / "m.tif") as tiff:
        assert [page.shape for page in tiff.pages] == [(4, 6), (3, 3)]


def test_a_file_cut_by_a_kill_at_any_write_is_readable(tmp_path: Path) -> None:
    """Replay every prefix of the writes: no state on disk may show a page that is not complete."""
    frames = np.random.default_rng(1).integers(0, 999, (4, 9, 11)).astype(np.uint16)
    path = tmp_path / "m.tif"
    states: list[tuple[int, bytes]] = []
    file = PageFile(path, describe=True)
    write = file._write_at

    def recording(at: int, *parts: bytes | memoryview) -> None:
        data = b"".join(parts)
        # The link is eight bytes, which a disk takes at once; everything else may be cut anywhere.
        for cut in (len(data) // 8, len(data) // 2, len(data) - 9) if len(data) != 8 else ():
            write(at, data[:cut])
            states.append((file.pages, path.read_bytes()))
        write(at, *parts)
        states.append((file.pages, path.read_bytes()))

    file._write_at = recording  # type: ignore[method-assign]
    for frame in frames:
        file.append(frame)
    file.set_description("<done/>")
    file.close()
    assert len(states) > 20
    for complete, content in states:
        path.write_bytes(content)
        with tifffile.TiffFile(path) as tiff:
            pages = list(tiff.pages)
            # A page counts as soon as it is linked, which is the last write of its append.
            assert complete <= len(pages) <= complete + 1
            assert all(
                np.array_equal(page.asarray(), frame) for page, frame in zip(pages, frames, strict=False)
            )


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("most", [1, 5, 1000])
def test_a_write_that_takes_only_a_part_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, *, at_once: bool
) -> None:
    """Systems may write less than they were given; Windows has no call that writes several parts."""
    if not at_once:
        monkeypatch.delattr(os, "pwritev", raising=False)
    elif hasattr(os, "pwritev"):
        monkeypatch.setattr(os, "pwritev", lambda fd, parts, at: os.pwrite(fd, b"".join(parts)[:most], at))
    frames = np.random.default_rng(1).integers(0, 999, (3, 9, 11)).astype(np.uint16)
    with PageFile(tmp_path / "m.tif", describe=True) as file:
        for frame in frames:
            file.append(frame, metadata={"name": "odd"})
        file.set_description("<done/>")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "m.tif"), frames)


def test_a_failed_write_keeps_the_pages_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = np.arange(30, dtype=np.uint16).reshape(5, 6)
    file = PageFile(tmp_path / "m.tif")
    file.append(frame)
    write, calls = file._write_at, [0]

    def failing(at: int, *parts: bytes | memoryview) -> None:
        calls[0] += 1
        if calls[0] == 2:
            raise OSError(28, "No space left on device")
        write(at, *parts)

    monkeypatch.setattr(file, "_write_at", failing)
    with pytest.raises(OSError, match="No space"):
        file.append(frame)
    assert file.pages == 1
    monkeypatch.undo()
    file.append(frame + 1)
    file.close()
    assert np.array_equal(tifffile.imread(tmp_path / "m.tif"), np.stack([frame, frame + 1]))


def test_description_is_the_first_pages(tmp_path: Path) -> None:
    with PageFile(tmp_path / "m.tif", describe=True) as file:
        for value in range(3):
            file.append(np.full((4, 4), value, np.uint16))
        file.set_description("grün " * 100)
    with tifffile.TiffFile(tmp_path / "m.tif") as tiff:
        assert re.match("(grün )+", tiff.pages[0].tags["ImageDescription"].value)
        assert len(tiff.pages) == 3


def test_refuses_what_is_no_page(tmp_path: Path) -> None:
    with PageFile(tmp_path / "m.tif") as file:
        with pytest.raises(ValueError, match="2-D"):
            file.append(np.zeros((2, 2, 3), np.uint8))
        with pytest.raises(ValueError, match="describe=True"):
            file.set_description("x")
    with pytest.raises(FileExistsError):
        PageFile(tmp_path / "m.tif")


def test_a_classic_file_is_smaller_and_opens_everywhere(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 999, (4, 7, 5)).astype(np.uint16)
    path = tmp_path / "m.tif"
    with PageFile(path, pixel_size_um=0.65, describe=True, classic=True) as file:
        for number, frame in enumerate(frames):
            file.append(frame, metadata={"number": number, "name": "ä"})
        file.set_description("grün " * 100)
    with PageFile(path, describe=True, keep=3, classic=False) as file:
        file.append(frames[3] + 1)
        file.set_description("again")
    with tifffile.TiffFile(path) as tiff:
        assert not tiff.is_bigtiff
        assert tiff.pages[0].description == "again"
        np.testing.assert_array_equal(tiff.asarray(key=slice(0, 4))[:3], frames[:3])
        numerator, denominator = tiff.pages[2].tags["XResolution"].value
        assert numerator / denominator == pytest.approx(1e4 / 0.65, rel=1e-3)
        assert '"number": 2' in tiff.pages[2].tags[65123].value


@pytest.mark.parametrize("classic", [False, True])
def test_pages_are_put_into_another_order_and_shown_twice(tmp_path: Path, classic: bool) -> None:
    path = tmp_path / "m.tif"
    file = PageFile(path, pixel_size_um=0.65, describe=True, classic=classic)
    for value in range(4):
        file.append(np.full((4, 6), value, np.uint16), metadata={"n": value})
    states: list[bytes] = []
    write = file._write_at

    def recording(at: int, *parts: bytes | memoryview) -> None:
        write(at, *parts)
        states.append(path.read_bytes())

    file._write_at = recording  # type: ignore[method-assign]
    file.order([3, 0, 0, 2])
    file.set_description("ordered")
    file.append(np.full((4, 6), 9, np.uint16))
    file.close()
    replace_description(path, "replaced")
    with tifffile.TiffFile(path) as tiff:
        assert [int(page.asarray()[0, 0]) for page in tiff.pages] == [3, 0, 0, 2, 9]
        assert [page.tags[65123].value for page in tiff.pages[:4]] == [f'{{"n": {n}}}' for n in (3, 0, 0, 2)]
        assert tiff.pages[0].description == "replaced"
        assert all("ImageDescription" not in page.tags for page in tiff.pages[1:])
    for state in states:  # a kill leaves the old pages or the new ones
        path.write_bytes(state)
        with tifffile.TiffFile(path) as tiff:
            assert [int(page.asarray()[0, 0]) for page in tiff.pages][:4] in ([0, 1, 2, 3], [3, 0, 0, 2])
