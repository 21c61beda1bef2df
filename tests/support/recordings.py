"""Recordings as microscope software writes them: channels, planes, positions and parts that take turns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile

__all__ = [
    "bruker_cycles",
    "interleaved_pages",
    "named_images",
    "ome_positions",
    "scanimage",
    "scanimage_parts",
    "turn",
]

Counts = npt.NDArray[np.uint16]
Signed = npt.NDArray[np.int16]


def turn(length: int, several: int, *, size: int = 32, means: tuple[int, ...] = (30, 200, 900)) -> Counts:
    """Return (T, several, H, W) of noise whose mean tells which of several it is."""
    random = np.random.default_rng(length)
    light = np.array([means[i % len(means)] for i in range(several)])
    return random.poisson(light[None, :, None, None], (length, several, size, size)).astype(np.uint16)


def ome_positions(folder: Path, *, paged: bool = False) -> list[Counts]:
    """Write ``a.ome.tif`` and ``b.ome.tif``, a position each, both named in the OME-XML of both."""
    movies = list(turn(20, 2).swapaxes(0, 1))
    uuids = {f"{x}.ome.tif": f"urn:uuid:{x * 8}-0000-0000-0000-000000000000" for x in "ab"}

    def image(i: int, name: str) -> str:
        return (
            f'<Image ID="Image:{i}" Name="Pos{i}"><Pixels ID="Pixels:{i}" DimensionOrder="XYZCT" Type="uint16" '
            'SizeX="32" SizeY="32" SizeC="1" SizeZ="1" SizeT="20"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>'
            f'<TiffData IFD="0" FirstT="0" PlaneCount="20"><UUID FileName="{name}">{uuids[name]}</UUID></TiffData>'
            "</Pixels></Image>"
        )

    for (name, uuid), movie in zip(uuids.items(), movies, strict=True):
        xml = (
            '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="{uuid}">{image(0, "a.ome.tif")}{image(1, "b.ome.tif")}</OME>'
        )
        with tifffile.TiffWriter(folder / name, ome=False) as writer:
            if paged:
                for i, frame in enumerate(movie):
                    writer.write(frame, description=None if i else xml, metadata=None, contiguous=False)
            else:
                writer.write(movie, description=xml, metadata=None, photometric="minisblack")
    return movies


def bruker_cycles(folder: Path, *, ome: bool = True, cycles: int = 3, planes: int = 2) -> Counts:
    """Write a file a plane, as Prairie View does; its OME-XML lists all cycles, and its sizes know one."""
    movie = turn(cycles, planes)

    def name(c: int, z: int) -> str:
        return f"T_Cycle{c + 1:05d}_Ch2_{z + 1:06d}.{'ome.' if ome else ''}tif"

    data = "".join(
        f'<TiffData FirstC="0" FirstT="0" FirstZ="{z}" PlaneCount="1" IFD="0"><UUID FileName="{name(c, z)}">'
        f"urn:uuid:00000000-0000-0000-0000-{c:06d}{z:06d}</UUID></TiffData>"
        for c in range(cycles)
        for z in range(planes)
    )
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2013-06"><Image ID="Image:1" '
        'Name="Sequence:1"><Pixels ID="Pixels:1" DimensionOrder="XYZCT" Type="uint16" SizeX="32" SizeY="32" '
        f'SizeZ="{planes}" SizeC="1" SizeT="1"><Channel ID="Channel:0" SamplesPerPixel="1"/>{data}</Pixels></Image>'
        "</OME>"
    )
    for c in range(cycles):
        for z in range(planes):
            first = ome and c == z == 0
            tifffile.imwrite(
                folder / name(c, z), movie[c, z], description=xml if first else None, metadata=None
            )
    return movie


def named_images(folder: Path, pattern: str, *, length: int = 6, channels: int = 2) -> Counts:
    """Write a file a frame; `pattern` is filled with time t, channel c (from 1), word and running number i."""
    folder.mkdir(exist_ok=True)
    movie = turn(length, channels)
    for t in range(length):
        for c in range(channels):
            name = pattern.format(t=t, c=c + 1, i=t * channels + c, word=("DAPI", "GFP", "RFP")[c])
            tifffile.imwrite(folder / name, movie[t, c], photometric="minisblack")
    return movie


def interleaved_pages(path: Path, channels: int, length: int = 6) -> Counts:
    """Write pages that alternate between channels and say nothing of it."""
    movie = turn(length, channels)
    tifffile.imwrite(path, movie.reshape(-1, *movie.shape[2:]), photometric="minisblack", metadata=None)
    return movie


def scanimage(
    path: Path,
    *,
    volumes: int = 5,
    channels: int = 1,
    planes: int = 1,
    flyback: int = 0,
    flyback_written: bool = True,
    style: str = "2016",
    number: int = 1,
    movie: Signed | None = None,
) -> Signed:
    """Write int16 pages with the header of ScanImage; return (T, Z, C, H, W) of them without flyback frames."""
    if movie is None:
        whole = turn(volumes, (planes + flyback) * channels).astype(np.int16) - 60
        movie = whole.reshape(volumes, planes + flyback, channels, *whole.shape[2:])
    saved = {1: "1", 2: "[1;3]", 3: "[1;2;3]"}[channels]
    new = {
        "SI.VERSION_MAJOR": "'2016b'",
        "SI.hChannels.channelSave": saved,
        "SI.hStackManager.enable": "true" if planes > 1 else "false",
        "SI.hStackManager.framesPerSlice": "1" if planes > 1 else "Inf",
        "SI.hStackManager.numSlices": str(planes),
        "SI.hStackManager.numFramesPerVolume": str(planes),
        "SI.hStackManager.numFramesPerVolumeWithFlyback": str(planes + flyback),
    }
    old = {
        "4": {"scanimage.SI4.channelsSave": saved, "scanimage.SI4.fastZEnable": "0"},
        "5": {"scanimage.SI.hChannels.channelSave": saved, "scanimage.SI.hFastZ.enable": "0"},
    }
    header = "\n".join(f"{k} = {v}" for k, v in (old.get(style) or new).items())
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for volume, z in np.ndindex(len(movie), planes + (flyback if flyback_written else 0)):
            at = number + volume * (planes + flyback) + z
            for c in range(channels):
                text = f"frameNumbers = {at}\nframeNumberAcquisition = {at}\nframeTimestamps_sec = {at / 30:.6f}\n"
                writer.write(
                    movie[volume, z, c],
                    photometric="minisblack",
                    contiguous=False,
                    metadata=None,
                    software=header if style == "2016" else False,
                    description=text if style == "2016" else f"{text}{header}\n",
                )
    return movie[:, :planes]


def scanimage_parts(folder: Path, *, frames: tuple[int, ...], channels: int = 1) -> Signed:
    """Write one acquisition in files of so many frames, ``scan_00001_00001.tif`` and on; return (T, C, H, W)."""
    movie = turn(sum(frames), channels).astype(np.int16) - 60
    begin = 0
    for part, count in enumerate(frames, start=1):
        piece = movie[begin : begin + count, None]
        scanimage(folder / f"scan_00001_{part:05d}.tif", channels=channels, number=begin + 1, movie=piece)
        begin += count
    return movie
