"""Text of an OME-XML of the 2016-06 schema: elements in its order, attributes with its names.

`ome-types` writes the same from a model of every element, and tests compare the two. Importing it, with its library of
units, takes most of a second, and a model for each plane costs a long recording seconds when it ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from xml.etree import ElementTree as ET

__all__ = ["element", "ome_xml", "with_texts"]

_SCHEMA = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
# Compiled when first used, which takes milliseconds for so many characters.
_NO_XML = "[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"


def element(
    tag: str,
    attributes: Mapping[str, str | int | float | None],
    children: Iterable[ET.Element] = (),
) -> ET.Element:
    """Return an element; an attribute of None is left out.

    Parameters
    ----------
    tag
        Name of the element in the schema.
    attributes
        By their names in the schema. Characters that no XML can hold are replaced: a camera's label may be anything.
    children
        Elements inside, in the schema's order.
    """
    made = ET.Element(tag, {k: _text(v) for k, v in attributes.items() if v is not None})
    made.extend(children)
    return made


def with_texts(tag: str, name: str, texts: Mapping[str, str]) -> list[ET.Element]:
    """Return one element for each text, with its key in the attribute `name`."""
    made = []
    for key, text in texts.items():
        made.append(element(tag, {name: key}))
        made[-1].text = _text(text)
    return made


def ome_xml(creator: str, children: Iterable[ET.Element]) -> str:
    """Return the text of a whole OME-XML, on one line."""
    root = element(
        "OME",
        {
            "xmlns": _SCHEMA,
            "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
            "xsi:schemaLocation": f"{_SCHEMA} {_SCHEMA}/ome.xsd",
            "Creator": creator,
        },
        children,
    )
    return ET.tostring(root, encoding="unicode")


def _text(value: str | int | float) -> str:
    if isinstance(value, str):
        return re.sub(_NO_XML, "\N{REPLACEMENT CHARACTER}", value)
    return str(value).upper() if isinstance(value, float) else str(value)
