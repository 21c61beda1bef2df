"""NumPy's ``.npz`` as `numpy.savez` writes it: the array (T, H, W) in it, read from where its pixels lie."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

from denoscope.runtime.errors import InvalidInput
from denoscope.runtime.movies.check import one_line
from denoscope.runtime.movies.lazy import Reader
from denoscope.runtime.movies.pick import Wanted

from .npy import open_npy_at, read_header

__all__ = ["open_npz"]

_LOCAL = struct.Struct("<4s22xHH")  # of the header before each file in a ZIP archive
_SHOWN = 8
_MOST = 10_000


def open_npz(path: Path, wanted: Wanted, limit_bytes: int) -> Reader:
    """Open the one movie in an archive of NumPy arrays; nothing in it is unpacked or unpickled.

    Raises
    ------
    InvalidInput
        If it holds no array of three axes, or several, or that array is compressed.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            found = [m for m in members[:_MOST] if m.filename.endswith(".npy") and _axes(archive, m) >= 3]
    except Exception as error:  # unpackers of damaged files raise anything
        raise InvalidInput(
            f"{path} cannot be read as a NumPy archive ({one_line(error)}): save it again."
        ) from error
    if len(found) != 1:
        names = ", ".join(m.filename.removesuffix(".npy") for m in found[:_SHOWN])
        there = f"{len(found)} arrays of three axes ({names})" if found else "no array of three axes"
        raise InvalidInput(
            f"{path} holds {there}: save the movie alone, numpy.save('movie.npy', numpy.load(FILE)['NAME'])."
        )
    movie = found[0]
    name = movie.filename.removesuffix(".npy")
    if movie.compress_type != zipfile.ZIP_STORED or movie.flag_bits & 1:
        raise InvalidInput(
            f"{path} is compressed, and no frame of it can be read alone: save it as numpy.save('movie.npy', "
            f"numpy.load(FILE)['{name}'])."
        )
    with path.open("rb") as file:
        file.seek(movie.header_offset)
        head = file.read(_LOCAL.size)
        if len(head) < _LOCAL.size or head[:4] != b"PK\x03\x04":
            raise InvalidInput(f"{path} is damaged at byte {movie.header_offset}: save it again.")
        _, name_length, extra_length = _LOCAL.unpack(head)
    begin = movie.header_offset + _LOCAL.size + name_length + extra_length
    return open_npy_at(path, begin, movie.file_size, wanted, limit_bytes)


def _axes(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """Return how many axes an array of the archive has, from its header."""
    with archive.open(member) as file:
        return len(read_header(file)[0])
