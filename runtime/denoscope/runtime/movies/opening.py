"""Open a movie of any format: which one it is, told from the path, and what reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from denoscope.runtime.errors import InvalidInput
from denoscope.runtime.links import bad_link
from denoscope.runtime.words import counted

from .axes import Rearranged, order_of
from .check import ALLOWED_DTYPES, check_regular
from .folders.names import other_parts
from .foreign import foreign_kind, is_foreign, way_out
from .headers.facts import facts_of
from .headers.pages_of import choose_pages
from .headers.pages_of import interleaved as alternating
from .install import how_to_install
from .joined import Chosen, Joined
from .lazy import LazyMovie, Reader
from .pick import Wanted
from .time_axis import check_time_is_first

__all__ = ["FORMATS", "AnyMovie", "MovieFormat", "open_movie"]

AnyMovie = (
    npt.NDArray[np.uint8]
    | npt.NDArray[np.uint16]
    | npt.NDArray[np.int16]
    | npt.NDArray[np.float32]
    | LazyMovie
)

_VIDEOS = (".avi", ".mkv", ".mp4", ".mov", ".wmv", ".mj2", ".webm")
# Formats that often name no axes.
_UNNAMED = ("HDF5", "NumPy archive", "NumPy array", "OME-Zarr", "TIFF")
_HDF5 = b"\x89HDF\r\n\x1a\n"
# Larger files are read, not mapped: mapped pages count as the process's own memory until others need it.
_MAPPED_BYTES = 256 * 2**20


@dataclass(frozen=True)
class MovieFormat:
    """One row of the table of formats.

    Attributes
    ----------
    name
        As users know it.
    matches
        Says whether a path is of this format; looks at names and magic bytes only.
    opener
        ``module:function`` of this room, imported when it is first needed: called with the path, what is `Wanted`
        and the largest array in bytes that one read may give, it returns a `Reader`.
    needs
        Library that the extra brings, or None.
    extra
        ``formats``, ``vendors`` or ``video``.
    """

    name: str
    matches: Callable[[Path], bool]
    opener: str
    needs: str | None = None
    extra: str = "formats"


def _starts_with(path: Path, *magic: bytes) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(8)
    return any(head.startswith(m) for m in magic)


def _is_ndtiff(path: Path) -> bool:
    if "NDTiffStack" in path.name and path.is_file():  # one of the files that hold the pixels
        path = path.parent
    folders = (path, path / "Full resolution")
    # Its index may be lost.
    return any((each / "NDTiff.index").is_file() or any(each.glob("*NDTiffStack*.tif")) for each in folders)


def _is_zarr(path: Path) -> bool:
    return any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray", ".zattrs"))


def _split_dataset(path: Path) -> tuple[Path, str | None]:
    file, colons, dataset = str(path).partition("::")
    return (Path(file), dataset) if colons else (path, None)


def _is_hdf5(path: Path) -> bool:
    file = _split_dataset(path)[0]
    if not file.is_file():
        return False
    # MATLAB and others write a block before the file proper.
    with file.open("rb") as opened:
        return any(opened.seek(at) == at and opened.read(8) == _HDF5 for at in (0, 512, 1024, 2048))


def _is_npy(path: Path) -> bool:
    return _starts_with(path, b"\x93NUMPY")


def _is_npz(path: Path) -> bool:
    return path.suffix.lower() == ".npz" and _starts_with(path, b"PK")


def _is_caiman(path: Path) -> bool:
    return (
        path.suffix.lower() == ".mmap"
        and "_frames_" in path.name
        and "_order_" in path.name
        and path.is_file()
    )


def _is_thorlabs(path: Path) -> bool:
    if path.is_dir():
        return (path / "Experiment.xml").is_file() and any(path.glob("[Ii]mage_*.raw"))
    return path.suffix.lower() == ".raw" and path.is_file() and path.with_name("Experiment.xml").is_file()


def _is_companion(path: Path) -> bool:
    return path.name.lower().endswith((".companion.ome", ".ome.xml")) and path.is_file()


def _is_tiff(path: Path) -> bool:
    return path.is_file()


def _ends(*endings: str) -> Callable[[Path], bool]:
    return lambda path: foreign_kind(path) in endings


# The first that matches is taken. TIFF, the last, matches what no other does.
FORMATS: tuple[MovieFormat, ...] = (
    MovieFormat("NDTiff", _is_ndtiff, "formats.ndtiff:open_ndtiff"),
    MovieFormat("OME-Zarr", _is_zarr, "formats.zarr:open_zarr", "zarr"),
    MovieFormat("HDF5", _is_hdf5, "formats.hdf5:open_hdf5", "h5py"),
    MovieFormat("NumPy array", _is_npy, "formats.npy:open_npy"),
    MovieFormat("NumPy archive", _is_npz, "formats.npz:open_npz"),
    MovieFormat("CaImAn memory map", _is_caiman, "formats.caiman:open_caiman"),
    MovieFormat("Nikon ND2", _ends(".nd2"), "formats.libraries.nd2:open_nd2", "nd2", "vendors"),
    MovieFormat("Zeiss CZI", _ends(".czi"), "formats.libraries.czi:open_czi", "czifile", "vendors"),
    MovieFormat("Leica LIF", _ends(".lif"), "formats.libraries.lif:open_lif", "liffile", "vendors"),
    MovieFormat("Olympus OIB", _ends(".oib", ".oif"), "formats.libraries.oif:open_oif", "oiffile", "vendors"),
    MovieFormat("video", _ends(*_VIDEOS), "formats.libraries.video:open_video", "av", "video"),
    MovieFormat("ThorImage raw", _is_thorlabs, "formats.thorlabs:open_thorlabs"),
    MovieFormat("Scanbox", _ends(".sbx"), "formats.scanbox:open_scanbox", "scipy"),
    MovieFormat("OME-XML of several TIFF files", _is_companion, "formats.tiff:open_companion"),
    MovieFormat("format that is not read", is_foreign, "foreign:open_foreign"),
    MovieFormat("folder of images", Path.is_dir, "folders.folder:open_folder"),
    MovieFormat("TIFF", _is_tiff, "formats.tiff:open_tiff"),
)


def open_movie(
    path: Path,
    *,
    channel: int | str | None = None,
    plane: int | str | None = None,
    position: int | str | None = None,
    interleaved: int | None = None,
    axes: str | None = None,
    limit_bytes: int = 16 * 2**30,
    mapped: bool = True,
) -> AnyMovie:
    """Open a movie (T, H, W) of any format without reading it.

    Small uncompressed files are memory-mapped; everything else is a `LazyMovie`, which reads what it is
    indexed with.

    Parameters
    ----------
    path
        TIFF, BigTIFF, OME-TIFF, ImageJ, NDTiff, OME-Zarr, HDF5 (``FILE.h5::/dataset`` names one of several),
        raw files of ThorImage, Scanbox, a folder of numbered images, or what the extras ``vendors`` (ND2, CZI, LIF,
        OIB, OIF) and ``video`` read.
    channel, plane, position
        Part of the file, by number or name, where it has several.
    interleaved
        Channels that take turns frame by frame in a file that does not say so.
    axes
        Order of the axes of a plain array: HDF5, NumPy, Zarr or TIFF that names none. A letter each: ``TYX`` is
        time, rows, columns, ``YXT`` has time last. In HDF5 also C (channels), Z (planes) and P (positions). Of
        a MATLAB file, the order that MATLAB shows.
    limit_bytes
        Largest array that one read may give; a frame that is larger is refused here.
    mapped
        Whether a small file may be mapped. A mapped file that another program cuts short, or whose network drive goes
        away, ends the whole program.

    Returns
    -------
    ndarray or LazyMovie
        (T, H, W) in the file's dtype: uint8, uint16, int16 or float32.

    Raises
    ------
    InvalidInput
        If the movie is missing, of no known format, empty, damaged, claims more data than it can hold,
        or the choice of channel, plane or position is missing or wrong.

    Examples
    --------
    >>> import numpy as np
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "movie.npy")
    ...     np.save(path, np.zeros((3, 32, 32), np.uint16))
    ...     open_movie(path, mapped=False).shape
    (3, 32, 32)
    """
    try:
        path = Path(path)
    except TypeError:
        raise InvalidInput(
            f"{path!r} is not the path of a movie: give the path of a file or folder of images."
        ) from None
    file, _ = _split_dataset(path)
    check_regular(file)
    if (why := bad_link(file)) is not None:
        raise InvalidInput(f"There is no movie at {path}: {why}.")
    if not path.exists() and not file.is_file():
        raise InvalidInput(f"There is no movie at {path}: give the path of a file or folder of images.")
    if file.is_file() and file.stat().st_size == 0:
        raise InvalidInput(f"{path} is empty (0 bytes): the recording was not written; choose another file.")
    reopen = partial(_open, path, Wanted(channel, plane, position, interleaved, axes), limit_bytes)
    reader = reopen()
    array = _mapped(reader) if mapped else None
    return LazyMovie(reader, str(path), limit_bytes, reopen) if array is None else array


def _open(path: Path, wanted: Wanted, limit_bytes: int) -> Reader:
    """Open an existing file or folder; of pages that alternate, take the wanted channel."""
    if wanted.interleaved is None:
        return _open_as_it_says(path, wanted, limit_bytes)
    if wanted.interleaved < 1:
        raise InvalidInput(f"`interleaved` {wanted.interleaved} is no number of channels: give 2 or more.")
    every = _open_as_it_says(
        path, Wanted(None, wanted.plane, wanted.position, wanted.interleaved, wanted.axes), limit_bytes
    )
    turns = alternating(wanted.interleaved)
    places, _ = choose_pages(
        f"{path} (`interleaved` {turns.channels})", turns, every.shape[0], Wanted(wanted.channel)
    )
    over = every.shape[0] % turns.channels
    note = (
        f"the last {over} of {every.shape[0]} frames are not one of each of {turns.channels} channels"
        if over
        else ""
    )
    return Chosen(every, places, note)


def _open_as_it_says(path: Path, wanted: Wanted, limit_bytes: int) -> Reader:
    """Find the format of an existing file or folder and open it."""
    kind = next((f for f in FORMATS if f.matches(path)), None)
    if kind is None:
        raise InvalidInput(f"{path} is no HDF5 file, and only those hold datasets after `::`.")
    if kind.needs and find_spec(kind.needs) is None:
        raise InvalidInput(_without_library(path, kind))
    module, _, function = kind.opener.partition(":")
    opener = getattr(import_module(f"{__package__}.{module}"), function)
    if wanted.axes is not None and kind.name not in _UNNAMED:
        raise InvalidInput(
            f"{path} is {kind.name}, which says itself what its axes are: leave `axes` {wanted.axes} out."
        )
    order = None if wanted.axes is None else order_of(wanted.axes)
    reader: Reader = opener(path, replace(wanted, axes=order), limit_bytes)
    if not reader.shape[0]:
        raise InvalidInput(f"{path} holds no complete frame of this channel and plane: choose another one.")
    if order is not None and kind.name != "HDF5":
        reader = Rearranged(str(path), reader, order)
    elif order is None and kind.name in _UNNAMED:
        check_time_is_first(str(path), reader, pages=kind.name == "TIFF")
    alone = kind.name == "TIFF" and not reader.note and not _is_joined(reader)
    if alone and (others := other_parts(path)):
        reader.note = (
            f"{path.name} is opened alone; "
            f"{counted(others, 'other file of this recording lies', 'other files of this recording lie')} beside it: "
            "name the folder to take all of them"
        )
    return reader if reader.dtype.name in ALLOWED_DTYPES else _AsFloat32(path, reader)


class _AsFloat32:
    """Frames of a reader whose pixels are of a kind that networks do not take."""

    dtype = np.dtype(np.float32)

    def __init__(self, path: Path, reader: Reader) -> None:
        self.shape, self.piece, self.facts = reader.shape, reader.piece, facts_of(reader)
        read_as = f"{path.name} holds {reader.dtype.name}, which is read as float32"
        self.note = "; ".join(filter(None, (reader.note, read_as)))
        self._reader = reader

    def read(self, start: int, stop: int, rows: slice, columns: slice) -> npt.NDArray[np.float32]:
        """Return (stop - start, rows, columns)."""
        with np.errstate(over="ignore"):  # infinite pixels are left out later
            return self._reader.read(start, stop, rows, columns).astype(np.float32)


def _is_joined(reader: Reader) -> bool:
    while isinstance(reader, Chosen):
        reader = reader.base
    return isinstance(reader, Joined)


def _without_library(path: Path, kind: MovieFormat) -> str:
    """Return how to get the library that a format needs, or a movie that needs none."""
    install = how_to_install(kind.extra)
    if kind.extra == "formats" and kind.name != "Scanbox":
        return f"{path} is {kind.name}, and reading it needs {kind.needs}: {install}."
    name, remedy = way_out(path)
    return f"{path} is {name}, and reading it needs {kind.needs}: {install}, or {remedy}."


def _mapped(reader: Reader) -> np.memmap[tuple[int, ...], np.dtype[np.uint16]] | None:
    """Map a small file whose bytes are the array."""
    from .formats.tiff import DenseReader

    if not isinstance(reader, DenseReader) or not reader.mappable or reader.note:
        return None
    if int(np.prod(reader.shape)) * reader.dtype.itemsize > _MAPPED_BYTES:
        return None
    return np.memmap(reader.path, reader.dtype, "r", offset=reader.offset, shape=reader.shape)
