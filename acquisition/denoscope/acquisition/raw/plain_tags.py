"""Tags of a frame as text, numbers, lists and mappings, whatever a program has put there."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from denoscope.acquisition.contracts import Tags

__all__ = ["odd_tags_words", "plain_tags", "plain_value"]

_LARGEST = 2**64


def plain_tags(tags: Mapping[str, Any]) -> tuple[Tags, str | None]:
    """Return tags that JSON can hold and that can be compared, and the kind of error where one was left out.

    A camera's tags are texts and numbers. Those of other programs may be anything, and their pixels are saved and
    denoised all the same.
    """
    if all(type(name) is str and _is_plain(value) for name, value in tags.items()):
        return dict(tags), None
    plain: Tags = {}
    failed = None
    for name, value in tags.items():
        try:
            plain[str(name)] = json.loads(json.dumps(value, default=plain_value), parse_constant=str)
        except Exception as error:  # noqa: BLE001  whatever such a value does, the next frame is recorded
            failed = failed or type(error).__name__
    return plain, failed


def odd_tags_words(frame: int, failed: str) -> str:
    """Return the sentence on the first frame of which a tag was left out, with the kind of error."""
    return (
        f"a tag of frame {frame} could not be written ({failed}), and is missing in every line where that is so; the "
        "recording went on"
    )


def plain_value(value: object) -> object:
    """Return what stands in JSON for a value that JSON does not know."""
    return value.item() if isinstance(value, np.generic) else str(value)


def _is_plain(value: object) -> bool:
    if type(value) is float:
        return math.isfinite(value)  # JSON has no NaN, and programs that are strict would read no line of it
    return type(value) in (str, bool, type(None)) or (type(value) is int and abs(value) < _LARGEST)
