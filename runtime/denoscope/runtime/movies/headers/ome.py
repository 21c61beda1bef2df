"""OME-XML of TIFF sets in several files: which page of which file is which plane."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path, PurePosixPath, PureWindowsPath
from xml.etree import ElementTree as ET

from denoscope.runtime.errors import InvalidInput

from .facts import Facts, increment_of
from .units import in_micrometres, in_seconds
from .untrusted import LARGEST_XML, check_xml

__all__ = [
    "OmeImage",
    "channel_names",
    "check_names",
    "companion_of",
    "file_names",
    "listed_images",
    "ome_facts",
    "page_turns",
    "read_companion",
]

_MOST_PLANES = 2_000_000
_MOST_DIGITS = 18
_LONGEST_NAME = 1000


@dataclass
class OmeImage:
    """One image of the XML.

    Attributes
    ----------
    name
        Empty where the XML gives none.
    sizes
        Of T, C and Z.
    channels
        Names of the channels, empty where one has none.
    pages
        For each (t, c, z) the pages that the XML lists for it, as file name and number of the page; an empty
        name stands for the file itself.
    """

    name: str
    sizes: dict[str, int]
    channels: tuple[str, ...]
    pages: dict[tuple[int, int, int], list[tuple[str, int]]] = field(default_factory=dict)

    @property
    def repeats(self) -> int:
        """Number of times that the XML lists the same plane: above one if it hides a series behind its sizes."""
        return max((len(pages) for pages in self.pages.values()), default=1)


def file_names(xml: str) -> list[str]:
    """Return the file names in OME-XML, each once."""
    found = re.findall(r"\b(?:FileName|MetadataFile)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')", xml)
    plain = (a or b for a, b in found)
    named = (n.replace("&amp;", "&").replace("&apos;", "'").replace("&quot;", '"') for n in plain)
    return list(dict.fromkeys(named))


def check_names(path: Path, xml: str) -> list[str]:
    """Refuse OME-XML whose file names lead out of the movie's folder or to what is no regular file.

    Raises
    ------
    InvalidInput
        For such a name.
    """
    names = file_names(xml)
    for name in names:
        pure = (PurePosixPath(name), PureWindowsPath(name))
        if "&" in name.replace("& ", "") and re.search(r"&#?\w+;", name):
            raise InvalidInput(
                f"{path} names a file `{name[:80]}` that cannot be read: its OME-XML is damaged."
            )
        if any(p.is_absolute() or p.anchor or ".." in p.parts for p in pure) or _is_too_long(name):
            raise InvalidInput(
                f"{path} names the file `{name[:80]}`, which is not below its folder: its OME-XML is damaged or "
                "not to be trusted; save the movie again."
            )
        there = path.parent / name
        if name and there.exists() and not there.is_file():
            raise InvalidInput(
                f"{path} names `{name[:80]}`, which is no regular file: remove it from the folder."
            )
    return names


def _is_too_long(name: str) -> bool:
    return len(name) > _LONGEST_NAME or any(len(part.encode()) > 255 for part in PurePosixPath(name).parts)


def companion_of(path: Path, xml: str) -> tuple[Path, str] | None:
    """Return the file that describes a TIFF whose OME-XML only names it, and its OME-XML; None where there is none.

    Raises
    ------
    InvalidInput
        If that file is missing or too large.
    """
    match = re.search(r"<(?:\w+:)?BinaryOnly\b[^<>]*\bMetadataFile\s*=\s*[\"']([^\"']+)[\"']", xml)
    if match is None:
        return None
    check_names(path, xml)
    there = path.parent / match[1]
    if not there.is_file():
        raise InvalidInput(
            f"{path} is one part of a recording that {match[1]} describes, which is not beside it: copy that file too."
        )
    return (there, read_companion(there)) if there != path else None


def read_companion(path: Path) -> str:
    """Return the OME-XML in a separate file, with names checked; empty where a TIFF file holds it."""
    if path.stat().st_size > LARGEST_XML and path.suffix.lower() not in (".tif", ".tiff"):
        raise InvalidInput(f"{path} has {path.stat().st_size / 1e6:.0f} MB of metadata: it is damaged.")
    with path.open("rb") as file:
        head = file.read(4)
        if head[:2] in (b"II", b"MM"):
            return ""
        xml = (head + file.read()).decode("utf-8", errors="replace")
    check_xml(path, xml)
    check_names(path, xml)
    return xml


def listed_images(xml: str) -> list[OmeImage] | None:
    """Return the images of OME-XML, checked by `check_xml`, that says where each plane is; None where it does not."""
    try:
        root = ET.fromstring(xml)  # noqa: S314 - `check_xml` comes first
    except ET.ParseError:
        return None
    images, planes = [], 0
    for element in root.findall("{*}Image"):
        pixels = element.find("{*}Pixels")
        if pixels is None:
            return None
        try:
            sizes = {a: int(pixels.get(f"Size{a}", "1")) for a in "TCZ"}
            order = [a for a in pixels.get("DimensionOrder", "XYZCT")[2:] if a in "TCZ"]
        except ValueError:
            return None
        channels = pixels.findall("{*}Channel")
        if len(order) != 3 or any(c.get("SamplesPerPixel", "1") != "1" for c in channels):
            return None
        names = tuple(c.get("Name", "") for c in channels)
        image = OmeImage(
            element.get("Name", ""), sizes, names if all(names) and len(names) == sizes["C"] else ()
        )
        if math.prod(sizes.values()) > _MOST_PLANES or min(sizes.values()) < 1:
            return None
        listed = pixels.findall("{*}TiffData")
        if not listed and len(root.findall("{*}Image")) == 1:
            listed = [ET.Element("TiffData")]  # an image that says nothing has all its planes in order
        for data in listed:
            uuid = data.find("{*}UUID")
            file = "" if uuid is None else uuid.get("FileName", "")
            count = data.get("PlaneCount") or data.get("NumPlanes")
            count = count or ("1" if data.get("IFD") else str(math.prod(sizes.values())))
            first = {a: data.get(f"First{a}", "0") for a in "TCZ"}
            ifd = data.get("IFD", "0")
            if not all(t.isdecimal() and len(t) <= _MOST_DIGITS for t in (count, ifd, *first.values())):
                return None
            planes += int(count)
            if planes > _MOST_PLANES:
                return None
            at = sum(int(first[a]) * math.prod(sizes[b] for b in order[:i]) for i, a in enumerate(order))
            for k in range(int(count)):
                place, rest = {}, at + k
                for a in order:
                    rest, place[a] = divmod(rest, sizes[a])
                if rest:
                    return None
                image.pages.setdefault((place["T"], place["C"], place["Z"]), []).append((file, int(ifd) + k))
        images.append(image)
    return images or None


def page_turns(xml: str, name: str) -> dict[int, tuple[int, int, int | str, int]] | None:
    """Return position, time, channel and plane of the pages of one file, or None where the XML does not say.

    A channel is a number where the XML has no name for each.
    """
    images = listed_images(xml)
    if images is None:
        return None
    found: dict[int, tuple[int, int, int | str, int]] = {}
    for position, image in enumerate(images):
        pages = image.pages
        if not pages and len(images) == 1:
            every = product(range(image.sizes["T"]), range(image.sizes["C"]), range(image.sizes["Z"]))
            pages = {place: [("", i)] for i, place in enumerate(every)}
        for (t, c, z), listed in pages.items():
            for turn, (file, page) in enumerate(listed):
                if file in ("", name):
                    named = image.channels[c] if len(set(image.channels)) == image.sizes["C"] else c
                    found[page] = (position, t + turn * image.sizes["T"], named, z)
    return found or None


def channel_names(xml: str, image: int) -> list[str]:
    """Return the names of the channels of one image of OME-XML, empty unless each has one; `check_xml` comes first."""
    pixels = ET.fromstring(xml).findall("{*}Image")[image].find("{*}Pixels")  # noqa: S314
    names = [] if pixels is None else [each.get("Name", "") for each in pixels.findall("{*}Channel")]
    return names if all(names) else []


def ome_facts(
    xml: str,
    frames: int,
    *,
    channel: str | None = None,
    plane: str | None = None,
    position: str | None = None,
) -> Facts:
    """Return pixel size, times and names of the part of OME-XML that is read; `check_xml` comes first.

    Parameters
    ----------
    xml
        OME-XML of any version; a value that makes no sense is left out, the others are kept.
    frames
        How many frames are read; times of another number of frames are left out.
    channel, plane, position
        The part by name or number from 0, where the file has several.
    """
    images = ET.fromstring(xml).findall("{*}Image")  # noqa: S314
    image = images[_entry([each.get("Name", "") for each in images], position)]
    pixels = image.find("{*}Pixels")
    if pixels is None:
        return Facts()
    names = [each.get("Name", "") for each in pixels.findall("{*}Channel")]
    sizes = {axis: int(pixels.get(f"Size{axis}", "1")) for axis in "CZ"}
    of_channel = _entry(names or [""] * sizes["C"], channel)
    of_plane = _entry([""] * sizes["Z"], plane)
    planes = {
        int(each.get("TheT", "0")): each
        for each in pixels.findall("{*}Plane")
        if (each.get("TheC", "0"), each.get("TheZ", "0")) == (str(of_channel), str(of_plane))
    }
    listed = [planes[at] for at in sorted(planes)]
    found = [in_seconds(each.get("DeltaT"), each.get("DeltaTUnit", "s")) for each in listed]
    times = tuple(time for time in found if time is not None)
    first = listed[0] if listed else pixels
    step = in_seconds(pixels.get("TimeIncrement"), pixels.get("TimeIncrementUnit", "s")) or 0.0
    return Facts(
        pixel_size_um=in_micrometres(pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeXUnit", "um")),
        increment_s=step if step > 0 else increment_of(times),
        times_s=times if len(times) == frames else None,
        exposure_s=in_seconds(first.get("ExposureTime"), first.get("ExposureTimeUnit", "s")),
        channel=names[of_channel] if of_channel < len(names) else None,
    )


def _entry(names: list[str], wanted: str | None) -> int:
    """Return the number of the wanted entry, 0 where there is no choice."""
    if wanted is None or len(names) < 2:
        return 0
    return names.index(wanted) if wanted in names else int(wanted)
