"""Rows of the docks' forms."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtWidgets import QHBoxLayout, QToolButton, QWidget

__all__ = ["row", "with_button"]


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
