"""Cycles of Prairie View (Bruker): stacks or time series, as the metadata beside the images say."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from denoscope.runtime.errors import InvalidInput

__all__ = ["CYCLE", "Cycles", "cycles_beside", "cycles_of"]

CYCLE = re.compile(r"_Cycle(\d+)_", re.IGNORECASE)
_LARGEST_XML = 64 * 2**20
_XML_FILES = 4


@dataclass(frozen=True)
class Cycles:
    """Kind of the images of a cycle.

    Attributes
    ----------
    kind
        ``plane`` where each cycle is a stack, ``time`` where it is a series, None where nothing says it.
    zigzag
        True if every other cycle goes through the planes backwards.
    planes
        Images of the first cycle, 0 where nothing says it.
    """

    kind: str | None = None
    zigzag: bool = False
    planes: int = 0


def cycles_beside(image: Path) -> Cycles | None:
    """Return what the cycles are of which an image is one, or None while it cannot be read."""
    from denoscope.runtime.movies.formats.tiff import head_of

    try:
        return cycles_of(image.parent, head_of(image).ome)
    except (InvalidInput, OSError):
        return None


def cycles_of(folder: Path, ome: str) -> Cycles:
    """Return what the cycles in a folder are, by the XML of Prairie View or else by the OME-XML of the first image."""
    for xml in sorted(folder.glob("*.xml"))[:_XML_FILES]:
        if not xml.is_file() or xml.stat().st_size > _LARGEST_XML:
            continue
        text = xml.read_text("utf-8", errors="replace")
        begins = re.findall(r"<Sequence\b[^<>]*", text)
        kinds = {kind for begin in set(begins) for kind in re.findall(r'\btype="([^"]*)"', begin)}
        if kinds:
            stacks = {"ZSeries" in kind for kind in kinds}
            zigzag = any(re.search(r'\bbidirectionalZ="true"', b, re.IGNORECASE) for b in set(begins))
            first = text.split("<Sequence", 2)[1]
            planes = len(re.findall(r"<Frame\b", first))
            return Cycles(
                None if len(stacks) > 1 else "plane" if stacks == {True} else "time", zigzag, planes
            )
    sizes = dict(re.findall(r'\bSize([ZT])\s*=\s*"(\d{1,9})"', ome))
    z, t = int(sizes.get("Z", 1)), int(sizes.get("T", 1))
    return Cycles("plane" if z > 1 >= t else "time" if t > 1 >= z else None)
