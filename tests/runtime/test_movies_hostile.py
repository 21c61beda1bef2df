"""Files made to hang a reader, fill its memory or lead it elsewhere: each is refused in one sentence, at once."""

from __future__ import annotations

import json
import os
import struct
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from denoscope.runtime import InvalidInput, open_movie

H, W = 16, 24
posix = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")


def image(path: Path, version: int = 2) -> Path:
    """Write an OME-Zarr of 5 frames, a chunk each."""
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(path, mode="w", zarr_format=version)
    frames = np.random.default_rng(1).integers(0, 250, (5, H, W)).astype(np.uint16)
    group.create_array("0", data=frames, chunks=(1, H, W))
    scale = {"axes": [{"name": a} for a in "tyx"], "datasets": [{"path": "0"}]}
    group.attrs.update({"multiscales": [scale]})
    return path


def change(**values: Any) -> Callable[[Path], None]:
    """Return what changes the metadata of the array."""

    def changed(path: Path) -> None:
        file = path / "0" / ".zarray"
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return changed


def bomb(path: Path) -> None:
    change(compressor={"id": "zlib", "level": 1})(path)
    (path / "0" / "0.0.0").write_bytes(zlib.compress(bytes(40_000_000)))


def sparse(name: str) -> Callable[[Path], None]:
    return lambda path: os.truncate(path / name, 12_000_000_000)


def pipe(name: str) -> Callable[[Path], None]:
    def made(path: Path) -> None:
        (path / name).unlink()
        os.mkfifo(path / name)

    return made


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (bomb, "chunk .* has .* bytes"),
        (change(shape=[10**9, 10**5, 10**5]), "claims"),
        (change(chunks=[0, H, W]), "cannot be read"),
        (change(filters=[{"id": "pickle"}], dtype="|O"), "cannot be read as OME-Zarr"),
        (sparse(".zattrs"), "12000 MB of metadata"),
        (sparse("0/.zarray"), "12000 MB of metadata"),
        (lambda path: (path / ".zattrs").write_text('{"multiscales":' + "[" * 200_000), "cannot be read"),
        pytest.param(pipe("0/.zarray"), "a pipe or a device", marks=posix),
        pytest.param(pipe("0/0.0.0"), "a pipe or a device", marks=posix),
    ],
)
def test_a_zarr_that_is_a_trap(tmp_path: Path, spoil: Callable[[Path], Any], said: str) -> None:
    spoil(image(tmp_path / "m.zarr"))
    with pytest.raises(InvalidInput, match=said) as caught:
        np.asarray(open_movie(tmp_path / "m.zarr"))
    assert "\n" not in str(caught.value)


def test_an_index_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "NDTiff.index").touch()
    sparse("NDTiff.index")(tmp_path)
    with pytest.raises(InvalidInput, match="has 12000 MB"):
        open_movie(tmp_path)


@pytest.mark.parametrize(
    "declared",
    [
        '<!DOCTYPE x [<!ENTITY a "' + "a" * 50_000 + '">]>',
        '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
    ],
)
def test_entities_in_xml(tmp_path: Path, declared: str) -> None:
    xml = (
        f'<?xml version="1.0" encoding="UTF-8"?>{declared}<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        f'<Image Name="{"&a;" * 4000}"><Pixels DimensionOrder="XYZCT" Type="uint16" SizeX="{W}" SizeY="{H}" SizeZ="1" '
        'SizeC="1" SizeT="1"><TiffData/></Pixels></Image></OME>'
    )
    tifffile.imwrite(tmp_path / "m.ome.tif", np.zeros((H, W), np.uint16), description=xml, metadata=None)
    with pytest.raises(InvalidInput, match=r"cannot be read as a TIFF movie .ParseError"):
        open_movie(tmp_path / "m.ome.tif")


def test_elements_in_elements_end(tmp_path: Path) -> None:
    deep = "<OME>" + "<a>" * 300_000 + "</a>" * 300_000 + "</OME>"
    tifffile.imwrite(tmp_path / "m.ome.tif", np.zeros((H, W), np.uint16), description=deep, metadata=None)
    (tmp_path / "m.companion.ome").write_text(deep)
    (tmp_path / "thor").mkdir()
    (tmp_path / "thor" / "Experiment.xml").write_text(deep)
    (tmp_path / "thor" / "Image_001_001.raw").write_bytes(bytes(1000))
    text = deep.encode("utf-16-le")
    (tmp_path / "m.lif").write_bytes(struct.pack("<IIBI", 0x70, len(text) + 5, 0x2A, len(deep)) + text)
    for name in ("m.ome.tif", "m.companion.ome", "thor", "m.lif"):
        with pytest.raises(InvalidInput, match="more than 100 deep"):
            open_movie(tmp_path / name)


@pytest.mark.parametrize(
    "change",
    [
        ('SizeX="24"', 'SizeX="4294967296"'),
        ('FirstT="0"', f'FirstT="{"1" * 5000}"'),
        ('"m.ome.tif"', f'"{"n" * 5000}"'),
    ],
)
def test_numbers_and_names_without_end_in_ome_xml(tmp_path: Path, change: tuple[str, str]) -> None:
    xml = (
        '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image>'
        f'<Pixels DimensionOrder="XYZCT" Type="uint16" SizeX="{W}" SizeY="{H}" SizeZ="1" SizeC="1" SizeT="2">'
        '<TiffData IFD="0" FirstT="0" PlaneCount="2"><UUID FileName="m.ome.tif">u</UUID></TiffData></Pixels></Image>'
        "</OME>"
    )
    assert change[0] in xml
    xml = xml.replace(*change)
    with tifffile.TiffWriter(tmp_path / "m.ome.tif", ome=False) as writer:
        for i in range(2):
            writer.write(np.ones((H, W), np.uint16), metadata=None, description=None if i else xml)
    (tmp_path / "m.companion.ome").write_text(xml)
    for name in ("m.ome.tif", "m.companion.ome"):
        with suppress(InvalidInput):  # in one sentence; what else it may be ends the test
            assert open_movie(tmp_path / name).shape == (2, H, W)


@pytest.mark.parametrize("value", ["Infinity", "1e400", "NaN", "-5", "1" * 5000])
@pytest.mark.parametrize("name", ["pixelX", "frames", "width", "averageNum"])
def test_numbers_of_thorimage_that_overflow(tmp_path: Path, name: str, value: str) -> None:
    known = {"pixelX": W, "frames": 4, "width": 0, "averageNum": 1} | {name: value}
    (tmp_path / "Image_001_001.raw").write_bytes(bytes(4 * 2 * H * W))
    (tmp_path / "Experiment.xml").write_text(
        f'<T><LSM pixelX="{known["pixelX"]}" pixelY="{H}" averageMode="1" averageNum="{known["averageNum"]}"/>'
        f'<Streaming enable="1" frames="{known["frames"]}"/><Camera width="{known["width"]}" height="9"/></T>'
    )
    with suppress(InvalidInput):  # in one sentence; what else it may be ends the test
        assert open_movie(tmp_path).shape[1:] == (H, W)


@pytest.mark.parametrize("text", ["<Pixels " * 60_000, "<BinaryOnly " * 40_000, "<Sequence " * 50_000])
def test_tags_that_never_end_cost_no_time(tmp_path: Path, text: str) -> None:
    xml = f"<OME><![CDATA[{text}]]></OME>"
    tifffile.imwrite(
        tmp_path / "m_Cycle00001_Ch1_000001.ome.tif",
        np.ones((H, W), np.uint16),
        description=xml,
        metadata=None,
    )
    (tmp_path / "m.xml").write_text(xml)
    began = time.process_time()
    assert open_movie(tmp_path).shape[0] == 1
    assert (
        time.process_time() - began < 5
    )  # a quarter of an hour where each tag is sought to the end of the file


def test_groups_in_groups_end(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "m.h5", "w") as file:
        group = file
        for _ in range(400):
            group = group.create_group("g")
        group["movie"] = np.zeros((5, H, W), np.uint16)
    with pytest.raises(InvalidInput, match="holds no data set"):
        open_movie(tmp_path / "m.h5")


@posix
@pytest.mark.parametrize("target", ["f3.tif", "nowhere.tif"])
def test_links_in_a_folder_that_lead_nowhere(tmp_path: Path, target: str) -> None:
    for i in range(3):
        tifffile.imwrite(tmp_path / f"f{i}.tif", np.zeros((H, W), np.uint16))
    (tmp_path / "f3.tif").symlink_to(target)
    with pytest.raises(InvalidInput, match=r"f3\.tif is a link"):
        open_movie(tmp_path)
