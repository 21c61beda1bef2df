"""Rows of the docks' forms, and the words below them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFrame, QHBoxLayout, QLabel, QScrollArea, QToolButton, QWidget

__all__ = ["in_fields", "row", "scrolled_words", "unwrapped", "with_button"]

_PARAMETER = re.compile(r"`(\w+)`")


def in_fields(text: str, fields: Mapping[str, str]) -> str:
    """Return a message with the parameters in it called as the fields of a form are."""
    return _PARAMETER.sub(lambda match: fields.get(match[1], match[1]), text)


def row(field: QWidget, *more: QWidget) -> QWidget:
    """Return a field with others beside it."""
    beside = QWidget()
    layout = QHBoxLayout(beside)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.addWidget(field, 1)
    for widget in more:
        layout.addWidget(widget, int(type(widget) is type(field)))
    return beside


def with_button(field: QWidget, on_click: Callable[[], None]) -> QWidget:
    """Return a field, and a button that opens a dialog for it."""
    button = QToolButton()
    button.setText("…")
    button.clicked.connect(on_click)
    return row(field, button)


def scrolled_words(lines: int) -> tuple[QLabel, QScrollArea]:
    """Return a label for a summary that can be selected, and the area of some lines that scrolls it.

    napari sizes a dock by its first words, which are none, so that a long summary would be cut off.
    """
    words = QLabel()
    words.setWordWrap(True)
    words.setAlignment(Qt.AlignmentFlag.AlignTop)
    words.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    area = QScrollArea()
    area.setWidget(words)
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setMinimumHeight(lines * words.fontMetrics().lineSpacing())
    return words, area


def unwrapped(viewer: Any) -> Any:
    """Return the viewer itself: napari hands a plugin a proxy, whose layers are other objects each time."""
    return getattr(viewer, "__wrapped__", viewer)
