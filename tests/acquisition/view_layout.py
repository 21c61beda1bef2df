"""Helpers of the tests of windows: wait while Qt goes on; check that text fits and nothing lies over anything else."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import combinations
from typing import Any


def until(met: Callable[[], Any], timeout_s: float = 200.0, pause_s: float = 0.01) -> None:
    """Let Qt go on until something is met; assert that it happens in time."""
    from qtpy.QtWidgets import QApplication

    end_s = time.monotonic() + timeout_s
    while not met():
        assert time.monotonic() < end_s, "it did not happen in time"
        QApplication.processEvents()
        time.sleep(pause_s)


def check_layout(window: Any) -> None:
    """Assert that the visible widgets of a window fit in it, show all of their text, and do not overlap."""
    from qtpy.QtWidgets import QAbstractButton, QApplication, QComboBox, QLabel, QLineEdit, QSpinBox

    for _ in range(5):  # what was said last makes room for itself
        QApplication.processEvents()
    kinds = (QAbstractButton, QComboBox, QLabel, QLineEdit, QSpinBox)
    shown = [each for kind in kinds for each in window.findChildren(kind) if each.isVisible()]
    for widget in shown:
        words = widget.text() if hasattr(widget, "text") else ""
        if not isinstance(widget, QLabel | QAbstractButton) or not words:
            continue
        metrics = widget.fontMetrics()
        if isinstance(widget, QLabel) and widget.wordWrap():
            needed = metrics.boundingRect(0, 0, widget.width() - 12, 10_000, 0x1000, words).height()
            assert widget.height() >= needed, (words, widget.height(), needed)
        elif "\n" not in words:
            needed = metrics.horizontalAdvance(words)
            assert widget.width() >= needed, (words, widget.width(), needed)
            assert widget.height() >= metrics.height() - 1, (words, widget.height(), metrics.height())
    for one, other in combinations(shown, 2):
        if one.parent() is other.parent():
            assert not one.geometry().intersects(other.geometry()), (one, other)
