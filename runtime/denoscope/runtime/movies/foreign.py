"""Formats that are not read, or with other libraries only: which one a file is, and the way to a movie that is."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

from denoscope.runtime.errors import InvalidInput

from .lazy import Reader
from .pick import Wanted

__all__ = ["foreign_folder", "foreign_kind", "is_foreign", "open_foreign", "way_out"]

_FIJI = "open it in Fiji (File > Import > Bio-Formats) and save it as OME-TIFF"
_BIO = "convert it with bioformats2raw to OME-Zarr, or in Fiji (Bio-Formats) to OME-TIFF"

# Ending, what it is, and what to do.
_FORMATS: dict[str, tuple[str, str]] = {
    ".nd2": ("a Nikon ND2", f"export it as OME-TIFF from NIS-Elements, or {_FIJI}"),
    ".czi": ("a Zeiss CZI", f"export it as OME-TIFF from ZEN, or {_FIJI}"),
    ".lif": ("a Leica LIF", f"export it as OME-TIFF from LAS X, or {_FIJI}"),
    ".xlef": ("a Leica project", f"export it as OME-TIFF from LAS X, or {_FIJI}"),
    ".lof": ("a Leica LOF", f"export it as OME-TIFF from LAS X, or {_FIJI}"),
    ".oib": ("an Olympus OIB", f"export it as OME-TIFF from the Olympus software, or {_FIJI}"),
    ".oif": ("an Olympus OIF", f"export it as OME-TIFF from the Olympus software, or {_FIJI}"),
    ".oir": ("an Olympus OIR", f"export it as OME-TIFF from the Olympus software, or {_FIJI}"),
    ".poir": ("an Olympus POIR", f"export it as OME-TIFF from the Olympus software, or {_FIJI}"),
    ".vsi": ("an Olympus VSI", f"export it as OME-TIFF from the Olympus software, or {_BIO}"),
    ".ets": ("a part of an Olympus VSI", f"export the VSI as OME-TIFF from the Olympus software, or {_BIO}"),
    ".ims": ("an Imaris IMS", f"name one data set of it, FILE.ims::/DataSet/..., or {_FIJI}"),
    ".lsm": ("a Zeiss LSM", _FIJI),
    ".dv": ("a DeltaVision file", _FIJI),
    ".stk": ("a MetaMorph STK", _FIJI),
    ".nd": ("the list of a MetaMorph recording", "give the folder with its TIFF files"),
    ".sld": ("a SlideBook file", f"export it as OME-TIFF from SlideBook, or {_FIJI}"),
    ".avi": ("an AVI video", "open it in Fiji (File > Import > AVI) as 8-bit grey and save it as TIFF"),
    ".mkv": (
        "a Matroska video",
        "convert it without loss: ffmpeg -i FILE.mkv -pix_fmt gray frame_%06d.png, in a folder",
    ),
    ".mp4": ("an MP4 video", "its compression changes the noise: denoise the original recording instead"),
    ".mj2": ("a Motion JPEG 2000 video", "save it as AVI without compression, or as TIFF"),
    ".webm": ("a WebM video", "its compression changes the noise: denoise the original recording instead"),
    ".mov": (
        "a QuickTime video",
        "its compression changes the noise: denoise the original recording instead",
    ),
    ".wmv": ("a Windows video", "its compression changes the noise: denoise the original recording instead"),
    ".raw": (
        "a raw file without a header",
        "copy ThorImage's Experiment.xml beside it, or import it in Fiji (File > Import > Raw) and save it as TIFF",
    ),
    ".dat": ("a raw file without a header", "import it in Fiji (File > Import > Raw) and save it as TIFF"),
    ".dcimg": ("a Hamamatsu DCIMG", "export it as TIFF from HCImage"),
    ".sif": ("an Andor SIF", f"export it as TIFF from Solis, or {_FIJI}"),
    ".fits": ("a FITS file", "open it in Fiji and save it as TIFF"),
    ".spe": ("a Princeton Instruments SPE", f"export it as TIFF from LightField, or {_FIJI}"),
    ".sbx": ("a Scanbox recording", "convert it with sbxread (MATLAB) or suite2p to TIFF"),
    ".isxd": ("an Inscopix ISXD", "export it as TIFF from the Inscopix software (isx.export_movie_to_tiff)"),
    ".mat": (
        "a MATLAB file",
        "save the movie with save(..., '-v7.3') and name it, FILE.mat::/movie, or write a TIFF",
    ),
    ".mmap": (
        "a CaImAn memory map",
        "save it as TIFF: caiman.load(FILE).save('movie.tif')",
    ),
    ".bin": (
        "a binary file without a size, as suite2p writes it",
        "save it as .npy: numpy.save('movie.npy', numpy.memmap(FILE, 'int16').reshape(-1, Ly, Lx))",
    ),
    ".zip": ("a ZIP archive", "unpack it and name what was in it, for example the folder movie.zarr"),
    ".n5": ("an N5 folder", "convert it to OME-Zarr or TIFF, for example in Fiji (File > Import > N5)"),
    ".b16": ("a PCO B16 picture", "export the recording as TIFF from CamWare"),
    ".tdms": ("a LabVIEW TDMS", "export it as TIFF"),
    ".png": ("a single PNG picture", "name the folder with all pictures of the movie"),
    ".txt": ("a text file", "give the path of the movie"),
    ".csv": ("a table", "give the path of the movie"),
    ".xml": ("an XML file", "give the path of the movie, or of the folder of its images"),
    ".json": ("a JSON file", "give the path of the movie, or of the folder of its images"),
    ".pkl": ("a Python pickle", "save the movie as .npy: numpy.save('movie.npy', movie)"),
    ".npz": ("a NumPy archive", "save the movie in it as .npy: numpy.save('movie.npy', movie)"),
    ".seq": ("a Norpix or StreamPix sequence", "export it as TIFF from StreamPix"),
    ".cine": ("a Phantom CINE", "export it as 16-bit TIFF from Phantom Camera Control (PCC)"),
    ".mrc": ("an MRC file", _FIJI),
    ".ics": ("an ICS file", _FIJI),
    ".ids": ("the pixels of an ICS file", _FIJI),
    ".r3d": ("a DeltaVision file", _FIJI),
    ".klb": ("a KLB file", _FIJI),
    ".nii": ("a NIfTI file", _FIJI),
    ".dcm": ("a DICOM file", _FIJI),
    ".jp2": ("a JPEG 2000 picture", _FIJI),
    ".sldy": ("a SlideBook 7 recording", f"export it as OME-TIFF from SlideBook, or {_FIJI}"),
    ".tsm": ("a RedShirt or NeuroPlex TSM", "export it as TIFF from NeuroPlex or TurboSM"),
    ".rsh": ("a BrainVision recording", "export it as TIFF from BV_Ana"),
    ".flv": ("a Flash video", "its compression changes the noise: denoise the original recording instead"),
    ".gz": ("a compressed file", "unpack it and name what was in it"),
    ".7z": ("a 7-Zip archive", "unpack it and name what was in it"),
    ".rar": ("a RAR archive", "unpack it and name what was in it"),
    ".tar": ("a TAR archive", "unpack it and name what was in it"),
    ".cxd": ("a SimplePCI file", _FIJI),
    ".nwb": ("an NWB file", "name the data set with the movie: FILE.nwb::/acquisition/NAME/data"),
    ".jpg": ("a JPEG picture", "its compression changes the noise: denoise the original recording instead"),
    ".jpeg": ("a JPEG picture", "its compression changes the noise: denoise the original recording instead"),
    ".bmp": (
        "a BMP picture",
        "open the pictures in Fiji (File > Import > Image Sequence) and save them as TIFF",
    ),
    ".mraw": ("a Photron MRAW", "export it as 16-bit TIFF from Photron FASTCAM Viewer (PFV)"),
    ".cih": (
        "the description of a Photron recording",
        "export that as 16-bit TIFF from Photron FASTCAM Viewer (PFV)",
    ),
    ".cihx": (
        "the description of a Photron recording",
        "export that as 16-bit TIFF from Photron FASTCAM Viewer (PFV)",
    ),
    ".ptu": ("a PicoQuant PTU", "export its intensity images as TIFF from SymPhoTime"),
    ".ser": ("a SER video", "convert it to TIFF, for example with SER Player"),
    ".dm3": ("a Gatan DM3", _FIJI),
    ".dm4": ("a Gatan DM4", _FIJI),
    ".zvi": ("a Zeiss ZVI", _FIJI),
    ".pic": ("a Bio-Rad PIC", _FIJI),
    ".ipw": ("an Image-Pro workspace", _FIJI),
    ".lnk": ("a Windows shortcut", "give the path that it leads to"),
    ".part": ("a file that is still being downloaded or copied", "wait until it is complete"),
    ".crdownload": ("a file that is still being downloaded", "wait until it is complete"),
    ".h5": ("no HDF5 file, though its name says so", "it is damaged or was never written: copy it again"),
    ".hdf5": ("no HDF5 file, though its name says so", "it is damaged or was never written: copy it again"),
    ".lfs": ("a pointer of Git LFS", "get the file itself with `git lfs pull`"),
    ".annex": ("a pointer of git-annex or DataLad", "get the file itself with `datalad get FILE`"),
    ".html": ("a web page", "the download went wrong: sign in, and download the movie again"),
    ".gif": ("a GIF", "it holds 256 colours: denoise the original recording instead"),
}

# What the first bytes say where the name does not help.
_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xda\xce\xbe\x0a", ".nd2"),
    (16, b"ftypmjp2", ".mj2"),
    (0, b"\x00\x00\x00\x0cjP  ", ".nd2"),
    (0, b"OLYMPUSRAWFORMAT", ".oir"),
    (0, b"PK\x03\x04", ".zip"),
    (0, b"\x89PNG\r\n\x1a\n", ".png"),
    (0, b"TDSm", ".tdms"),
    (0, b"\x1f\x8b\x08", ".gz"),
    (0, b"7z\xbc\xaf\x27\x1c", ".7z"),
    (0, b"Rar!\x1a\x07", ".rar"),
    (0, b"CI\x2c\x00", ".cine"),
    (0, b"PCO-", ".b16"),
    (0, b"ZISRAWFILE", ".czi"),
    (0, b"\x70\x00\x00\x00", ".lif"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", ".oib"),
    (8, b"AVI ", ".avi"),
    (0, b"\x1aE\xdf\xa3", ".mkv"),
    (4, b"ftyp", ".mp4"),
    (0, b"MATLAB 5.0", ".mat"),
    (0, b"DCIMG", ".dcimg"),
    (0, b"Andor Technology", ".sif"),
    (0, b"SIMPLE  =", ".fits"),
    (0, b"GIF8", ".gif"),
    (0, b"LUCAM-RECORDER", ".ser"),
    (0, b"PQTTTR", ".ptu"),
    (0, b"\xff\xd8\xff", ".jpg"),
    (0, b"version https://git-lfs", ".lfs"),
    (0, b"/annex/objects/", ".annex"),
    (0, b"<!DOCTYPE html", ".html"),
    (0, b"<!DOCTYPE HTML", ".html"),
    (0, b"<!doctype html", ".html"),
    (0, b"<html", ".html"),
)
_INSTEAD = (".lfs", ".annex", ".html")  # what lies where a movie should be, whatever its name
_LOOKED_AT = 10_000
_READ = (
    ".nd2",
    ".czi",
    ".lif",
    ".oib",
    ".oif",
    ".ims",
    ".sbx",
    ".h5",
    ".hdf5",
    ".nwb",
    ".mat",
    ".wmv",
    ".mj2",
    ".webm",
)
_PICTURES = {
    ending for ending in _FORMATS if ending not in (".txt", ".csv", ".xml", ".json", ".png", ".lnk", ".pkl")
}
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_FRONTS = (".vsi", ".part", ".crdownload")  # TIFF files that show a part only of what there is


def foreign_kind(path: Path) -> str | None:
    """Return the ending under which the format of a file is listed, or of a folder, or None."""
    if path.is_dir() and (path.suffix.lower() == ".n5" or _is_n5(path / "attributes.json")):
        return ".n5"
    if not path.is_file():
        return None
    with path.open("rb") as file:
        head = file.read(32)
    by_name = path.suffix.lower()
    if head[:4] in _TIFF:
        return by_name if by_name in _FRONTS else None
    for at, magic, ending in _MAGIC:
        if head[at : at + len(magic)] == magic:
            return by_name if by_name in _FORMATS and ending not in _INSTEAD else ending
    return by_name if by_name in _FORMATS else None


def _is_n5(file: Path) -> bool:
    return file.is_file() and file.stat().st_size < 2**20 and b'"n5"' in file.read_bytes()


def is_foreign(path: Path) -> bool:
    """Say whether a file is of a format that denoscope knows and does not read."""
    return foreign_kind(path) is not None


def open_foreign(path: Path, _wanted: Wanted, _limit_bytes: int) -> Reader:
    """Refuse it with the name of its format and the way out.

    Raises
    ------
    InvalidInput
        Always.
    """
    name, remedy = way_out(path)
    raise InvalidInput(f"{path} is {name}, which denoscope does not read: {remedy}.")


def foreign_folder(folder: Path) -> str:
    """Return which formats that are not read a folder holds most of, as the end of a sentence; empty for none."""
    found = Counter(
        p.suffix.lower() for p in islice(folder.iterdir(), _LOOKED_AT) if p.suffix.lower() in _PICTURES
    )
    if not found:
        return ""
    ending = found.most_common(1)[0][0]
    name, remedy = _FORMATS[ending]
    if ending in _READ:
        return f"; there is {name}: name that file"
    return f"; there is {name}, which denoscope does not read: {remedy}"


def way_out(path: Path) -> tuple[str, str]:
    """Return what a file of a known format is, and how to get a movie that is read without other libraries."""
    return _FORMATS[foreign_kind(path) or ""]
