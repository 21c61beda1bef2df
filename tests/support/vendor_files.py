"""Small files of vendors' formats, written from public descriptions: CZI, LIF, OIF, OIB, ThorImage and Scanbox."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

__all__ = [
    "write_compound",
    "write_czi",
    "write_lif",
    "write_oib",
    "write_oif",
    "write_scanbox",
    "write_thorlabs",
]

_CZI_TYPES = {"uint8": 0, "uint16": 1, "float32": 2}


def _segment(kind: bytes, data: bytes) -> bytes:
    data += bytes(-len(data) % 32)
    return kind.ljust(16, b"\0") + struct.pack("<qq", len(data), len(data)) + data


def write_czi(
    path: Path,
    movie: npt.NDArray[Any],
    axes: str,
    *,
    names: tuple[str, ...] = (),
    without: int | None = None,
    times_s: tuple[float, ...] = (),
) -> Path:
    """Write an uncompressed CZI of a movie (*axes, H, W), with one block a frame; `without` leaves one out.

    `times_s` are the seconds of each point in time, which ZEN attaches.
    """
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
    channels = "".join(
        f'<Channel Id="Channel:{i}" Name="{name}"><ExposureTime>20000000</ExposureTime></Channel>'
        for i, name in enumerate(names)
    )
    interval = "<T><Positions><Interval><Increment>0.25</Increment></Interval></Positions></T>"
    xml = (
        f"<ImageDocument><Metadata><Information><Image><Dimensions><Channels>{channels}</Channels>{interval}"
        "</Dimensions></Image><Instrument><Objectives><Objective><Manufacturer><Model>Plan 20x</Model></Manufacturer>"
        '</Objective></Objectives></Instrument></Information><Scaling><Items><Distance Id="X"><Value>6.5e-07</Value>'
        "</Distance></Items></Scaling></Metadata></ImageDocument>"
    ).encode()
    directory_at = 32 + 512 + len(blocks)
    directory = _segment(b"ZISRAWDIRECTORY", struct.pack("<i124x", len(entries)) + b"".join(entries))
    metadata = _segment(b"ZISRAWMETADATA", struct.pack("<ii248x", len(xml), 0) + xml)
    attached, attached_at = b"", 0
    if times_s:
        begin = directory_at + len(directory) + len(metadata)
        stamps = struct.pack("<ii", 8 + 8 * len(times_s), len(times_s)) + np.array(times_s, "<f8").tobytes()
        entry = struct.pack("<2s10sqi16s8s80s", b"A1", b"", begin, 1, b"", b"CZTIMS", b"TimeStamps")
        attached = _segment(
            b"ZISRAWATTACH", (struct.pack("<i12x", len(stamps)) + entry).ljust(256, b"\0") + stamps
        )
        attached_at = begin + len(attached)
        attached += _segment(b"ZISRAWATTDIR", struct.pack("<i252x", 1) + entry)
    header = struct.pack(
        "<iiii16s16siqqiq",
        *(1, 0, 0, 0, b"", b"", 0, directory_at, directory_at + len(directory), 0, attached_at),
    )
    head = _segment(b"ZISRAWFILE", header.ljust(512, b"\0"))
    path.write_bytes(head + blocks + directory + metadata + attached)
    return path


_LIF_AXES = {"X": 1, "Y": 2, "Z": 3, "T": 4, "W": 5, "A": 6}  # W: wavelengths


def write_lif(
    path: Path,
    movies: dict[str, npt.NDArray[Any]],
    axes: dict[str, str] | None = None,
    dyes: tuple[str, ...] = (),
) -> Path:
    """Write a LIF with images of the names and axes, by default (T, Z, C, H, W)."""
    elements, memory = "", b""
    for number, (name, movie) in enumerate(movies.items()):
        order = (axes or {}).get(name, "TZCYX")
        sizes = {"C": 1, **dict(zip(order, movie.shape, strict=True))}
        steps = {"C": 0, **dict(zip(order, movie.strides, strict=True))}
        dimensions = "".join(
            f'<DimensionDescription DimID="{_LIF_AXES[a]}" NumberOfElements="{sizes[a]}" Origin="0" '
            f'Length="{(sizes[a] - 1) * (0.25 if a == "T" else 5e-7)}" Unit="{"s" if a == "T" else "m"}" BitInc="0" '
            f'BytesInc="{steps[a]}"/>'
            for a in _LIF_AXES
            if a in sizes
        )
        channels = "".join(
            f'<ChannelDescription DataType="0" ChannelTag="0" Resolution="{movie.itemsize * 8}" '
            f'NameOfMeasuredQuantity="" Min="0" Max="1" Unit="" LUTName="Gray" IsLUTInverted="0" '
            f'BytesInc="{c * steps["C"]}" BitInc="0">'
            + (
                f"<ChannelProperty><Key>DyeName</Key><Value>{dyes[c]}</Value></ChannelProperty>"
                if dyes
                else ""
            )
            + "</ChannelDescription>"
            for c in range(sizes["C"])
        )
        elements += (
            f'<Element Name="{name}" UniqueID="{number}"><Data><Image><ImageDescription>'
            f"<Channels>{channels}</Channels><Dimensions>{dimensions}</Dimensions></ImageDescription>"
            f'<Attachment Name="HardwareSetting"><ATLConfocalSettingDefinition ObjectiveName="HC PL APO 20x"/>'
            f"</Attachment></Image></Data>"
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


def _oif_settings(name: str, shape: tuple[int, ...]) -> str:
    dyes = "".join(f'[Channel {c + 1} Parameters]\r\nDyeName="Dye {c}"\r\n' for c in range(shape[0]))
    return (
        f'[ProfileSaveInfo]\r\nName={name}\r\nVersion=2.0\r\n[Axis 4 Parameters Common]\r\nAxisCode="T"\r\n'
        f'MaxSize={shape[2]}\r\nStartPosition=0.0\r\nEndPosition={(shape[2] - 1) * 250.0}\r\nUnitName="ms"\r\n'
        f'[Reference Image Parameter]\r\nWidthConvertValue=0.5\r\nWidthUnit="um"\r\n{dyes}'
    )


def write_oif(path: Path, movie: npt.NDArray[Any]) -> Path:
    """Write an OIF and its folder of a movie (C, Z, T, H, W)."""
    settings = _oif_settings(path.name, movie.shape)
    path.write_bytes(b"\xff\xfe" + settings.encode("utf-16-le"))
    folder = path.with_name(path.name + ".files")
    folder.mkdir()
    for c, z, t in np.ndindex(*movie.shape[:3]):
        name = f"s_C{c + 1:03d}Z{z + 1:03d}T{t + 1:03d}.tif"
        tifffile.imwrite(folder / name, movie[c, z, t], photometric="minisblack", metadata=None)
    return path


_FREE, _END, _FAT_SECTOR = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD
_SECTOR, _SMALL, _CUTOFF = 512, 64, 4096


def write_compound(path: Path, tree: dict[str, Any]) -> Path:
    """Write an OLE compound file (version 3) of streams (bytes) in storages (dict)."""
    entries: list[dict[str, Any]] = [{"name": "Root Entry", "kind": 5, "child": _FREE, "right": _FREE}]
    small, large, fat, small_fat = b"", b"", [], []

    def store(data: bytes, table: list[int], unit: int) -> tuple[int, bytes]:
        first, count = len(table), -(-len(data) // unit)
        if not count:
            return _END, b""
        table += [first + i + 1 for i in range(count - 1)] + [_END]
        return first, data.ljust(count * unit, b"\0")

    def add(parent: int, items: dict[str, Any]) -> None:
        nonlocal small, large
        before = None
        for name in sorted(items, key=lambda n: (len(n), n.upper())):
            at, item = len(entries), items[name]
            entries.append({"name": name, "kind": 1, "child": _FREE, "right": _FREE, "start": 0, "size": 0})
            if before is None:
                entries[parent]["child"] = at
            else:
                entries[before]["right"] = at
            before = at
            if isinstance(item, dict):
                add(at, item)
                continue
            entries[at] |= {"kind": 2, "size": len(item)}
            if len(item) < _CUTOFF:
                entries[at]["start"], stored = store(item, small_fat, _SMALL)
                small += stored
            else:
                entries[at]["start"], stored = store(item, fat, _SECTOR)
                large += stored

    add(0, tree)
    entries[0] |= {"size": len(small)}
    entries[0]["start"], stored = store(small, fat, _SECTOR)
    large += stored
    table = struct.pack(f"<{len(small_fat)}I", *small_fat)
    table += struct.pack("<I", _FREE) * (-len(small_fat) % 128)
    small_fat_at, stored = store(table, fat, _SECTOR)
    large += stored
    directory = b""
    for e in entries:
        name = e["name"].encode("utf-16-le")
        directory += struct.pack(
            "<64sHBBIII16sIQQIQ",
            *(name, len(name) + 2, e["kind"], 1, _FREE, e["right"], e["child"], b"", 0, 0, 0),
            *(e.get("start", 0), e.get("size", 0)),
        )
    directory_at, stored = store(directory, fat, _SECTOR)
    large += stored
    tables = 1
    while len(fat) + tables > tables * 128:
        tables += 1
    places = list(range(len(fat), len(fat) + tables))
    fat += [_FAT_SECTOR] * tables
    fat += [_FREE] * (tables * 128 - len(fat))
    header = struct.pack(
        "<8s16sHHHHHHIIIIIIIIII",
        *(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"", 0x3E, 3, 0xFFFE, 9, 6, 0, 0, 0),
        *(tables, directory_at, 0, _CUTOFF, small_fat_at, len(table) // _SECTOR, _END, 0),
    )
    header += struct.pack("<109I", *places, *[_FREE] * (109 - tables))
    path.write_bytes(header + large + struct.pack(f"<{len(fat)}I", *fat))
    return path


def write_oib(path: Path, movie: npt.NDArray[Any]) -> Path:
    """Write an OIB, a compound file, of a movie (C, Z, T, H, W)."""
    settings = _oif_settings(f"{path.stem}.oif", movie.shape)
    streams: dict[str, bytes] = {"Stream00000": b"\xff\xfe" + settings.encode("utf-16-le")}
    listed, images = [f"Stream00000={path.stem}.oif"], {}
    for c, z, t in np.ndindex(*movie.shape[:3]):
        stream = f"Stream{len(images) + 1:05d}"
        file = io.BytesIO()
        tifffile.imwrite(file, movie[c, z, t], photometric="minisblack", metadata=None)
        images[stream] = file.getvalue()
        listed.append(f"{stream}=Storage00001/s_C{c + 1:03d}Z{z + 1:03d}T{t + 1:03d}.tif")
    info = "\r\n".join(
        [
            *("[OibSaveInfo]", f"Name={path.stem}.oib", "Version=2.0.0.0", "MainFileName=Stream00000"),
            *(f"Storage00001={path.stem}.oif.files", *listed, ""),
        ]
    )
    tree = {"OibInfo.txt": b"\xff\xfe" + info.encode("utf-16-le"), "Storage00001": images} | streams
    return write_compound(path, tree)


def write_thorlabs(
    folder: Path,
    movie: npt.NDArray[Any],
    *,
    flyback: int = 0,
    enabled: tuple[str, ...] = ("ChanA", "ChanB", "ChanC", "ChanD"),
    streaming: bool = True,
    planned: int | None = None,
    name: str = "Image_0001_0001.raw",
) -> Path:
    """Write a raw file of ThorImage and its description, of pages (T, Z, C, H, W); flyback frames hold 7."""
    times, planes, channels, height, width = movie.shape
    enabled = enabled[:channels]
    stored = np.concatenate(
        [movie, np.full((times, flyback, channels, height, width), 7, movie.dtype)], axis=1
    )
    frames = (planned or times) * (planes + flyback)
    mask = sum(1 << "ABCD".index(each[-1]) for each in enabled)
    names = "".join(f'<Wavelength name="{each}" exposuretimeMS="0"/>' for each in enabled)
    folder.mkdir(exist_ok=True)
    (folder / "Experiment.xml").write_text(
        '<?xml version="1.0"?><ThorImageExperiment><Name name="m"/><Software version="3.2"/>'
        f'<Magnification mag="16" name="16X Nikon"/><Wavelengths nyquistExWavelengthNM="488">'
        f"{names}"
        f'<ChannelEnable Set="{mask}"/></Wavelengths><ZStage name="ThorZPiezo" enable="{int(planes > 1)}" '
        f'steps="{planes}" stepSizeUM="5"/><Timelapse timepoints="{1 if streaming else planned or times}" '
        f'intervalSec="2.5"/><LSM pixelX="{width}" pixelY="{height}" channel="{mask}" frameRate="30" '
        f'averageMode="0" averageNum="4" pixelSizeUM="0.65" widthUM="{width * 0.65}"/>'
        f'<Streaming enable="{int(streaming)}" frames="{frames if streaming else 0}" '
        f'zFastEnable="{int(streaming and planes > 1)}" flybackFrames="{flyback}" rawData="1"/>'
        '<ExperimentStatus value="Complete"/></ThorImageExperiment>',
        encoding="utf-8",
    )
    (folder / name).write_bytes(stored.astype(movie.dtype.newbyteorder("<")).tobytes())
    return folder / name


def write_scanbox(
    path: Path, movie: npt.NDArray[np.uint16], *, bidirectional: bool = False, version: int = 2, **fields: Any
) -> Path:
    """Write a Scanbox recording of frames (T, Z, C, H, W): inverted, channels beside each other."""
    from scipy.io import savemat

    _, planes, channels, height, width = movie.shape
    info: dict[str, Any] = {
        "sz": np.array([height, width], np.uint16),
        "recordsPerBuffer": height // (2 if bidirectional else 1),
        "scanmode": int(not bidirectional),
        "resfreq": 7930,
        "channels": {1: 2, 2: 1}[channels] if version < 3 else -1,
        "volscan": int(planes > 1),
        "otwave": np.arange(planes) if planes > 1 else np.array([]),
    }
    if version > 2:
        info["chan"] = {"nchan": channels}
    savemat(path.with_suffix(".mat"), {"info": info | fields})
    path.write_bytes((65535 - np.moveaxis(movie, 2, -1)).astype("<u2").tobytes())
    return path
