"""XML of anybody's making, bounded before it is parsed: size, elements, depth and time."""

from __future__ import annotations

import time
from pathlib import Path
from xml.etree import ElementTree as ET
from xml.parsers import expat

from denoscope.runtime.errors import InvalidInput

__all__ = ["LARGEST_XML", "check_xml", "parse_xml"]

LARGEST_XML = 256 * 2**20
_MOST_ELEMENTS = 20_000_000
_DEEPEST = 100  # OME-XML and the files of vendors nest about ten
_LONGEST_S = 60.0
_SMALL = 2**17  # what is shorter can neither nest deeply enough nor take long
_PIECE = 2**16


class _Counted:
    """Counts elements and their depth while a parser goes through XML."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._depth = self._elements = 0
        self._end_s = time.monotonic() + _LONGEST_S

    def start(self, _tag: str, _attributes: object) -> None:
        """Count an element that begins."""
        self._depth += 1
        self._elements += 1
        if self._depth > _DEEPEST:
            self._refuse(f"elements in elements, more than {_DEEPEST} deep")
        if self._elements > _MOST_ELEMENTS:
            self._refuse(f"too many elements (limit {_MOST_ELEMENTS})")

    def end(self, _tag: str) -> None:
        """Count an element that ends."""
        self._depth -= 1

    def look_at_the_time(self) -> None:
        """Refuse what takes too long."""
        if time.monotonic() > self._end_s:
            self._refuse(f"so much XML that it is not read within {_LONGEST_S:g} s")

    def _refuse(self, what: str) -> None:
        raise InvalidInput(
            f"{self._name} holds {what}: it is damaged or not to be trusted; save the movie again."
        )


def check_xml(source: Path | str, xml: str | bytes) -> None:
    """Refuse XML that is too large, nests too deeply, or takes too long; what is no XML is left to its parser.

    Raises
    ------
    InvalidInput
        For such XML.
    """
    if len(xml) > LARGEST_XML:
        raise InvalidInput(
            f"{source} has {len(xml) / 1e6:.0f} MB of metadata (limit {LARGEST_XML / 1e6:.0f} MB): it is damaged."
        )
    if len(xml) < _SMALL:
        return
    counted = _Counted(str(source))
    # A declared encoding holds for bytes; text was decoded already.
    parser = expat.ParserCreate("utf-8") if isinstance(xml, str) else expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = counted.start, counted.end
    try:
        for at in range(0, len(xml), _PIECE):
            parser.Parse(xml[at : at + _PIECE], at + _PIECE >= len(xml))
            counted.look_at_the_time()
    except (expat.ExpatError, ValueError, LookupError) as error:
        if isinstance(error, InvalidInput):
            raise


def parse_xml(source: Path | str, xml: str | bytes) -> ET.Element:
    """Return the root of XML that passes `check_xml`.

    Raises
    ------
    InvalidInput
        If it does not pass.
    xml.etree.ElementTree.ParseError
        If it is no XML.
    """
    check_xml(source, xml)
    return ET.fromstring(xml)  # noqa: S314 - bounded above; expat bounds entities
