"""The same two-channel movie written in every format that `open_movie` reads."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

__all__ = ["CHAINS", "CHANNELS", "MOVIE", "STACKS", "write_chain", "write_ndtiff", "write_ome_files"]

# (T, C, H, W); every pixel is different from its neighbours in every direction.
MOVIE = np.random.default_rng(7).integers(0, 60_000, (7, 2, 40, 56)).astype(np.uint16)
CHANNELS = ("GFP", "RFP")


def _tiff(**options: Any) -> Callable[[Path], Path]:
    metadata = options.pop("metadata", {}) | {"axes": "TCYX"}

    def write(folder: Path) -> Path:
        path = folder / "movie.tif"
        tifffile.imwrite(path, MOVIE, photometric="minisblack", metadata=metadata, **options)
        return path

    return write


def write_ndtiff(folder: Path, movie: npt.NDArray[np.uint16] = MOVIE) -> Path:
    """Write an NDTiff folder: pixels at odd places of a file, and the index that lists them."""
    folder = folder / "ndtiff"
    folder.mkdir()
    index, data = b"", b"II*\0" + b"\0" * 28
    for t in range(len(movie)):
        for c, name in enumerate(CHANNELS):
            axes = json.dumps({"time": t, "channel": name}).encode()
            file = b"x_NDTiffStack.tif"
            height, width = movie.shape[-2:]
            index += struct.pack("<I", len(axes)) + axes + struct.pack("<I", len(file)) + file
            index += struct.pack("<IiiiiIii", len(data), width, height, 1, 0, 0, 0, 0)
            data += movie[t, c].tobytes() + b"\7" * 11
    (folder / "NDTiff.index").write_bytes(index)
    (folder / "x_NDTiffStack.tif").write_bytes(data)
    return folder


def _zarr(version: int) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        import zarr

        path = folder / "movie.zarr"
        group = zarr.open_group(path, mode="w", zarr_format=version)
        array = group.create_array("0", shape=MOVIE.shape, dtype="uint16", chunks=(3, 1, 16, 16))
        array[:] = MOVIE
        image: dict[str, Any] = {
            "multiscales": [{"axes": [{"name": n} for n in "tcyx"], "datasets": [{"path": "0"}]}],
            "omero": {"channels": [{"label": c} for c in CHANNELS]},
        }
        group.attrs.update(image if version == 2 else {"ome": image | {"version": "0.5"}})
        return path

    return write


def write_ome_files(folder: Path) -> Path:
    """Write an OME-TIFF of one file a channel, as Micro-Manager and others split their data sets."""
    names = [f"part_{c}.ome.tif" for c in CHANNELS]
    parts = "".join(
        f'<TiffData FirstT="{t}" FirstC="{c}" FirstZ="0" IFD="{t}" PlaneCount="1">'
        f'<UUID FileName="{names[c]}">urn:uuid:0000000{c}-0000-0000-0000-000000000000</UUID></TiffData>'
        for c in range(2)
        for t in range(len(MOVIE))
    )
    channels = "".join(f'<Channel ID="Channel:0:{i}" Name="{c}"/>' for i, c in enumerate(CHANNELS))
    for c, name in enumerate(names):
        xml = (
            '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:0000000{c}-0000-0000-0000-000000000000"><Image ID="Image:0"><Pixels ID="Pixels:0" '
            f'DimensionOrder="XYZTC" Type="uint16" SizeX="56" SizeY="40" SizeZ="1" SizeC="2" SizeT="{len(MOVIE)}">'
            f"{channels}{parts}</Pixels></Image></OME>"
        )
        with tifffile.TiffWriter(folder / name) as writer:
            for t, frame in enumerate(MOVIE[:, c]):
                writer.write(frame, contiguous=False, metadata=None, description=xml if t == 0 else None)
    return folder / names[0]


# Formats that hold both channels and name them, and those that only number them.
STACKS: dict[str, Callable[[Path], Path]] = {
    "ome": _tiff(ome=True, metadata={"Channel": {"Name": list(CHANNELS)}}),
    "ome, compressed": _tiff(ome=True, compression="zlib", metadata={"Channel": {"Name": list(CHANNELS)}}),
    "ome of several files": write_ome_files,
    "ndtiff": write_ndtiff,
    "ome-zarr 0.4": _zarr(2),
    "ome-zarr 0.5": _zarr(3),
    "imagej": _tiff(imagej=True),
    "bigtiff": _tiff(bigtiff=True),
    "big-endian": _tiff(byteorder=">"),
    "tiles": _tiff(tile=(16, 32)),
    "tiles, zlib": _tiff(tile=(16, 32), compression="zlib"),
    "strips, lzw and predictor": _tiff(rowsperstrip=7, compression="lzw", predictor=True),
    "strips, zstd": _tiff(rowsperstrip=7, compression="zstd"),
}


def write_chain(path: Path, movie: npt.NDArray[Any], **options: Any) -> Path:
    """Write pages that say nothing of each other."""
    order = options.pop("byteorder", "<")
    with tifffile.TiffWriter(path, bigtiff=options.pop("bigtiff", False), byteorder=order) as writer:
        for frame in movie:
            writer.write(frame, contiguous=False, metadata=None, **options)
    return path


def _hdf5(folder: Path) -> Path:
    import h5py

    with h5py.File(folder / "movie.h5", "w") as file:
        file["time"] = np.arange(7.0)
        file.create_dataset("a/movie", data=MOVIE[:, 0], chunks=(2, 20, 20), compression="gzip")
    return folder / "movie.h5"


def _named_hdf5(folder: Path) -> Path:
    import h5py

    with h5py.File(folder / "movie.h5", "w") as file:
        file["other"] = MOVIE[:, 1]
        file["movie"] = MOVIE[:, 0]
    return Path(f"{folder / 'movie.h5'}::movie")


def _images(suffix: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        import imagecodecs

        folder = folder / "images"
        folder.mkdir()
        for t, frame in enumerate(MOVIE[:, 0]):  # 7 to 13: names do not sort as numbers do
            path = folder / f"img_{t + 7}.{suffix}"
            if suffix == "png":
                path.write_bytes(imagecodecs.png_encode(frame))
            else:
                tifffile.imwrite(path, frame)
        return folder

    return write


# Formats that hold one channel.
CHAINS: dict[str, Callable[[Path], Path]] = {
    "pages": lambda f: write_chain(f / "m.tif", MOVIE[:, 0]),
    "pages, bigtiff, big-endian": lambda f: write_chain(
        f / "m.tif", MOVIE[:, 0], bigtiff=True, byteorder=">"
    ),
    "pages, zlib": lambda f: write_chain(f / "m.tif", MOVIE[:, 0], compression="zlib"),
    "hdf5": _hdf5,
    "hdf5 with a name": _named_hdf5,
    "tiff files": _images("tif"),
    "png files": _images("png"),
}
