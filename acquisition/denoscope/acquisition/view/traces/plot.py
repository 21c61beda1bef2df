"""A picture of traces that scroll: one row a region, drawn without a plotting library."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QFont, QFontMetricsF, QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

from denoscope.runtime.words import rounded

from .outlines import TRACE_COLOURS
from .tail import Fired, TraceWindow

__all__ = ["TracePlot", "thinned", "unbroken"]

Points = npt.NDArray[np.float64]

_PAPER, _INK, _FAINT = QColor("#15171a"), QColor("#e8eaed"), QColor("#3a3f46")
_RAW, _MARK, _NOT_DONE, _MARKED = QColor("#8d949e"), QColor("#ffb000"), QColor("#ff5c5c"), QColor("#262b31")
_BAND_ALPHA = 70
_ROW_PX = 62
_AROUND_PX = 52  # legend and time axis
_MOST_POINTS = 500
_LEFT_PX, _RIGHT_PX = 92.0, 128.0
_STEPS = (1.0, 2.0, 5.0)
# Frames that are further apart, in seconds and in usual steps, are not joined by a line.
_GAP_S, _GAP_STEPS = 1.0, 8.0


def thinned(times: Points, values: Points, most: int = _MOST_POINTS) -> tuple[Points, Points]:
    """Return fewer points of a curve that looks the same: smallest and largest value of each stretch.

    Parameters
    ----------
    times, values
        ``(T,)``; NaN for gaps.
    most
        Points to return at most, about.
    """
    step = math.ceil(len(times) / (most // 2))
    if step <= 1:
        return times, values
    whole = len(times) // step * step
    stretches = values[:whole].reshape(-1, step)
    with np.errstate(invalid="ignore"):
        low = np.fmin.reduce(stretches, axis=1)
        high = np.fmax.reduce(stretches, axis=1)
    middles = times[:whole].reshape(-1, step)[:, step // 2]
    both = np.stack([low, high], axis=1).ravel()
    return (
        np.concatenate([np.repeat(middles, 2), times[whole:]]),
        np.concatenate([both, values[whole:]]),
    )


class TracePlot(QWidget):
    """Draws the last seconds of some regions.

    The raw mean is thin and grey, the denoised mean bold in the row's colour, in a band of one predicted standard
    deviation to either side, and a firing of a trigger is a vertical line. The axis is dF/F in percent, of each row by
    itself.

    Parameters
    ----------
    on_pick
        Called with the region whose row was clicked.
    """

    def __init__(self, on_pick: Callable[[str], None] = lambda _region: None) -> None:
        super().__init__()
        self._on_pick = on_pick
        self.selected = ""
        """Region whose row is marked."""
        self._names: tuple[str, ...] = ()
        self._window: TraceWindow | None = None
        self._fired: list[Fired] = []
        self._seconds = 30.0
        self._font = QFont(self.font())
        self._font.setPixelSize(11)
        self.setMinimumHeight(2 * _ROW_PX + _AROUND_PX)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    @property
    def rows(self) -> int:
        """Regions that have room."""
        return max(1, int((self.height() - _AROUND_PX) // _ROW_PX))

    def sizeHint(self) -> QSize:  # noqa: N802
        """Ask for three rows."""
        return QSize(900, 3 * _ROW_PX + _AROUND_PX)

    def show_window(
        self, names: tuple[str, ...], window: TraceWindow | None, fired: Iterable[Fired], seconds: float
    ) -> None:
        """Draw these from now on."""
        self._names, self._window, self._fired = names, window, list(fired)
        self._seconds = seconds
        self.update()

    def paintEvent(self, _event: Any) -> None:  # noqa: N802
        """Draw; called by Qt."""
        painter = QPainter(self)
        painter.fillRect(self.rect(), _PAPER)
        painter.setFont(self._font)
        painter.setPen(_INK)
        if self._window is None or not self._names:
            painter.drawText(
                self.rect(), Qt.AlignmentFlag.AlignCenter, "traces begin with the first denoised frame"
            )
            painter.end()
            return
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        end_s = float(self._window.time_s[-1])
        inside = self._inside()
        self._draw_legend(painter, inside)
        self._draw_times(painter, inside, end_s)
        height = inside.height() / len(self._names)
        for place, name in enumerate(self._names):
            row = QRectF(inside.left(), inside.top() + place * height, inside.width(), height - 6.0)
            self._draw_row(painter, row, place, name, end_s)
        self._draw_unit(painter, inside)
        painter.end()

    def _inside(self) -> QRectF:
        return QRectF(
            _LEFT_PX,
            18.0,
            max(40.0, self.width() - _LEFT_PX - _RIGHT_PX),
            max(40.0, float(self.height() - _AROUND_PX)),
        )

    def mousePressEvent(self, event: Any) -> None:  # noqa: N802
        """Select the region whose row was clicked; called by Qt."""
        inside = self._inside()
        place = int((event.position().y() - inside.top()) // (inside.height() / max(1, len(self._names))))
        if 0 <= place < len(self._names):
            self._on_pick(self._names[place])

    def _draw_legend(self, painter: QPainter, inside: QRectF) -> None:
        metrics = QFontMetricsF(self._font)
        x = inside.left()
        for words, colour, width in (
            ("raw mean", _RAW, 1.0),
            ("denoised mean", _INK, 2.5),
            ("± 1 standard deviation", _clear(_INK), 8.0),
            ("trigger fired", _MARK, 2.0),
        ):
            painter.setPen(QPen(colour, width))
            painter.drawLine(QPointF(x, 9.0), QPointF(x + 18.0, 9.0))
            painter.setPen(_INK)
            painter.drawText(QPointF(x + 24.0, 13.0), words)
            x += 24.0 + metrics.horizontalAdvance(words) + 22.0

    def _draw_unit(self, painter: QPainter, inside: QRectF) -> None:
        painter.save()
        painter.translate(10.0, inside.center().y())
        painter.rotate(-90.0)
        painter.setPen(_INK)
        painter.drawText(QRectF(-60.0, -8.0, 120.0, 16.0), Qt.AlignmentFlag.AlignCenter, "dF/F (%)")
        painter.restore()

    def _draw_times(self, painter: QPainter, inside: QRectF, end_s: float) -> None:
        step = _nice(self._seconds / max(2.0, inside.width() / 90.0))
        first = math.ceil(max(0.0, end_s - self._seconds) / step) * step
        digits = max(0, -math.floor(math.log10(step)))
        for number in range(64):
            time_s = first + number * step
            if time_s > max(end_s, self._seconds) + 1e-9:
                break
            x = self._x(inside, time_s, end_s)
            painter.setPen(_FAINT)
            painter.drawLine(QPointF(x, inside.top()), QPointF(x, inside.bottom()))
            painter.setPen(_INK)
            painter.drawText(
                QRectF(x - 40.0, inside.bottom() + 1.0, 80.0, 14.0),
                Qt.AlignmentFlag.AlignCenter,
                f"{time_s:.{digits}f}",
            )
        painter.drawText(
            QRectF(inside.left(), inside.bottom() + 15.0, inside.width(), 16.0),
            Qt.AlignmentFlag.AlignCenter,
            "seconds since the first frame",
        )

    def _draw_row(self, painter: QPainter, row: QRectF, place: int, name: str, end_s: float) -> None:
        window = self._window
        assert window is not None
        raw, dff, band = (
            100.0 * each[:, place].astype(np.float64) for each in (window.raw, window.dff, window.std)
        )
        low, high = _limits(raw, dff, band)
        colour = QColor(TRACE_COLOURS[place % len(TRACE_COLOURS)])
        if name == self.selected:
            painter.fillRect(row, _MARKED)
        painter.setPen(_FAINT)
        painter.drawLine(row.bottomLeft(), row.bottomRight())
        step = _nice((high - low) / 2.5)
        for number in range(math.ceil(low / step), math.floor(high / step) + 1):
            y = _y(row, number * step, low, high)
            painter.setPen(_FAINT)
            painter.drawLine(QPointF(row.left() - 3.0, y), QPointF(row.left(), y))
            painter.setPen(_INK)
            painter.drawText(
                QRectF(row.left() - 46.0, y - 7.0, 40.0, 14.0),
                Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter,
                f"{number * step:g}",
            )
        painter.save()
        painter.setClipRect(row)

        def curve(values: Points) -> list[QPolygonF]:
            return [
                QPolygonF(
                    [
                        QPointF(self._x(row, float(t), end_s), _y(row, float(v), low, high))
                        for t, v in zip(times, part, strict=True)
                    ]
                )
                for times, part in unbroken(*thinned(window.time_s, values))
            ]

        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(_clear(colour))
        for lower, upper in zip(curve(dff - band), curve(dff + band), strict=False):
            painter.drawPolygon(QPolygonF([*lower, *reversed(list(upper))]))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        for values, pen in ((raw, QPen(_RAW, 1.0)), (dff, QPen(colour, 2.5))):
            painter.setPen(pen)
            for polygon in curve(values):
                painter.drawPolyline(polygon)
        for fired in self._fired:
            if fired.region in ("", name):
                self._draw_mark(painter, row, fired, end_s)
        painter.restore()
        self._draw_name(painter, row, place, name)

    def _draw_mark(self, painter: QPainter, row: QRectF, fired: Fired, end_s: float) -> None:
        window = self._window
        assert window is not None
        at = int(np.searchsorted(window.page, fired.page))
        if at < len(window.page) and window.page[at] == fired.page:
            x = self._x(row, float(window.time_s[at]), end_s)
            painter.setPen(QPen(_MARK if fired.done else _NOT_DONE, 2.0))
            painter.drawLine(QPointF(x, row.top()), QPointF(x, row.bottom()))

    def _draw_name(self, painter: QPainter, row: QRectF, place: int, name: str) -> None:
        """Write the region's name and its newest value beside its row."""
        window = self._window
        assert window is not None
        metrics = QFontMetricsF(self._font)
        lines = [f"region {name}", *_newest(window, place)]
        top = row.center().y() - 7.5 * len(lines)
        for number, line in enumerate(lines):
            painter.setPen(QColor(TRACE_COLOURS[place % len(TRACE_COLOURS)]) if number == 0 else _RAW)
            painter.drawText(
                QRectF(row.right() + 8.0, top + 15.0 * number, _RIGHT_PX - 12.0, 15.0),
                Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter,
                metrics.elidedText(line, Qt.TextElideMode.ElideMiddle, _RIGHT_PX - 12.0),
            )

    def _x(self, row: QRectF, time_s: float, end_s: float) -> float:
        begin_s = max(
            0.0, end_s - self._seconds
        )  # a recording that has just begun fills the row from the left
        return float(row.left() + (time_s - begin_s) / self._seconds * row.width())


def _clear(colour: QColor) -> QColor:
    """Return a colour that lets through what lies below."""
    return QColor(colour.red(), colour.green(), colour.blue(), _BAND_ALPHA)


def _newest(window: TraceWindow, place: int) -> list[str]:
    change, counts, std = window.dff[-1, place], window.counts[place], window.counts_std[place]
    deviation = f" ± {rounded(std)}" if np.isfinite(std) else ""
    lines = [f"{rounded(counts, 4)}{deviation} counts"]
    return [f"dF/F {round(100 * change)} %", *lines] if np.isfinite(change) else lines


def unbroken(times: Points, values: Points) -> list[tuple[Points, Points]]:
    """Return the stretches of a curve between its gaps: values that are no numbers, and times without frames."""
    there = np.isfinite(values)
    steps = np.diff(times)
    usual = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0
    without = steps > max(_GAP_S, _GAP_STEPS * usual)  # in a pause, for example
    edges = np.flatnonzero((np.diff(there.astype(np.int8)) != 0) | without) + 1
    parts = zip(np.split(times, edges), np.split(values, edges), strict=True)
    return [(t, v) for t, v in parts if len(v) and np.isfinite(v[0])]


def _limits(raw: Points, dff: Points, band: Points) -> tuple[float, float]:
    """Return the axis of a row: all of the denoised trace and its band, and most of the raw one."""
    found = [part[np.isfinite(part)] for part in (dff - band, dff + band, dff, raw)]
    whole = np.concatenate(found[:3])
    if not len(whole):
        return -1.0, 1.0
    low, high = float(whole.min()), float(whole.max())
    if len(found[3]):
        low = min(low, float(np.percentile(found[3], 2)))
        high = max(high, float(np.percentile(found[3], 98)))
    room = max(0.08 * (high - low), 0.5)
    return low - room, high + room


def _nice(step: float) -> float:
    """Return the next larger of 1, 2, 5, 10, and so on."""
    size = 10.0 ** math.floor(math.log10(max(step, 1e-6)))
    return next((size * each for each in _STEPS if size * each >= step), 10.0 * size)


def _y(row: QRectF, value: float, low: float, high: float) -> float:
    return float(row.bottom() - (value - low) / (high - low) * row.height())
