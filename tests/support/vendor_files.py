"""Small files of vendors' formats, written from their public descriptions: CZI, LIF and OIF."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

__all__ = ["write_czi", "write_lif", "write_oif"]

_CZI_TYPES = {"uint8": 0, "uint16": 1, "float32": 2}


def _segment(kind: bytes, data: bytes) -> bytes:
    data += bytes(-len(data) % 32)
    return kind.ljust(16, b"\0") + struct.pack("<qq", len(data), len(data)) + data


def write_czi(
    path: Path, movie: npt.NDArray[Any], axes: str, *, names: tuple[str, ...] = (), without: int | None = None
) -> Path:
    """Write an uncompressed CZI of a movie (*axes, H, W), with one block a frame; `without` leaves one out."""
    height, width = movie.shape[-2:]
    blocks, entries = b"", []
    for number, index in enumerate(np.ndindex(*movie.shape[:-2])):
        if number == without:
            continue
        places = [("X", 0, width), ("Y", 0, height), *((a, i, 1) for a, i in zip(axes, index, strict=True))]
        dimensions = b"".join(struct.pack("<4siifi", a.encode(), i, n, 0.0, n) for a, i, n in places)
        at = 32 + 512 + len(blocks)
        kind = _CZI_TYPES[movie.dtype.name]
        entry = struct.pack("<2siqiiBB4si", b"DV", kind, at, 0, 0, 0, 0, b"", len(places)) + dimensions
        entries.append(entry)
        pixels = movie[index].tobytes()
        head = struct.pack("<iiq", 0, 0, len(pixels)) + entry
        blocks += _segment(b"ZISRAWSUBBLOCK", head.ljust(256, b"\0") + pixels)
    channels = "".join(f'<Channel Id="Channel:{i}" Name="{name}"/>' for i, name in enumerate(names))
    xml = (
        "<ImageDocument><Metadata><Information><Image><Dimensions><Channels>"
        f"{channels}</Channels></Dimensions></Image></Information></Metadata></ImageDocument>"
    ).encode()
    directory_at = 32 + 512 + len(blocks)
    directory = _segment(b"ZISRAWDIRECTORY", struct.pack("<i124x", len(entries)) + b"".join(entries))
    metadata = _segment(b"ZISRAWMETADATA", struct.pack("<ii248x", len(xml), 0) + xml)
    header = struct.pack(
        "<iiii16s16siqqiq", 1, 0, 0, 0, b"", b"", 0, directory_at, directory_at + len(directory), 0, 0
    )
    path.write_bytes(_segment(b"ZISRAWFILE", header.ljust(512, b"\0")) + blocks + directory + metadata)
    return path


_LIF_AXES = {"X": 1, "Y": 2, "Z": 3, "T": 4}


def write_lif(path: Path, movies: dict[str, npt.NDArray[Any]]) -> Path:
    """Write a LIF with images (T, Z, C, H, W) of the names."""
    elements, memory = "", b""
    for number, (name, movie) in enumerate(movies.items()):
        sizes = dict(zip("TZCYX", movie.shape, strict=True))
        steps = dict(zip("TZCYX", movie.strides, strict=True))
        dimensions = "".join(
            f'<DimensionDescription DimID="{_LIF_AXES[a]}" NumberOfElements="{sizes[a]}" Origin="0" Length="1" '
            f'Unit="m" BitInc="0" BytesInc="{steps[a]}"/>'
            for a in "XYZT"
        )
        channels = "".join(
            f'<ChannelDescription DataType="0" ChannelTag="0" Resolution="{movie.itemsize * 8}" '
            f'NameOfMeasuredQuantity="" Min="0" Max="1" Unit="" LUTName="Gray" IsLUTInverted="0" '
            f'BytesInc="{c * steps["C"]}" BitInc="0"/>'
            for c in range(sizes["C"])
        )
        elements += (
            f'<Element Name="{name}" UniqueID="{number}"><Data><Image><ImageDescription>'
            f"<Channels>{channels}</Channels><Dimensions>{dimensions}</Dimensions></ImageDescription></Image></Data>"
            f'<Memory Size="{movie.nbytes}" MemoryBlockID="MemBlock_{number}"/></Element>'
        )
        block = f"MemBlock_{number}"
        text = block.encode("utf-16-le")
        memory += struct.pack("<IIBQBI", 0x70, len(text) + 14, 0x2A, movie.nbytes, 0x2A, len(block)) + text
        memory += movie.tobytes()
    xml = (
        f'<LMSDataContainerHeader Version="2"><Element Name="{path.name}"><Children>{elements}</Children>'
        "</Element></LMSDataContainerHeader>"
    )
    text = xml.encode("utf-16-le")
    path.write_bytes(struct.pack("<IIBI", 0x70, len(text) + 5, 0x2A, len(xml)) + text + memory)
    return path


def write_oif(path: Path, movie: npt.NDArray[Any]) -> Path:
    """Write an OIF and its folder of a movie (C, Z, T, H, W)."""
    settings = f"[ProfileSaveInfo]\r\nName={path.name}\r\nVersion=2.0\r\n"
    path.write_bytes(b"\xff\xfe" + settings.encode("utf-16-le"))
    folder = path.with_name(path.name + ".files")
    folder.mkdir()
    for c, z, t in np.ndindex(*movie.shape[:3]):
        name = f"s_C{c + 1:03d}Z{z + 1:03d}T{t + 1:03d}.tif"
        tifffile.imwrite(folder / name, movie[c, z, t], photometric="minisblack", metadata=None)
    return path
