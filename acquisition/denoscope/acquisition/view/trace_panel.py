"""Traces under the pictures: the plot, which regions it shows, and over how many seconds."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtWidgets import QHBoxLayout, QLabel, QLineEdit, QPushButton, QSpinBox, QVBoxLayout, QWidget

from .trace_plot import TracePlot
from .trace_tail import TraceTail

__all__ = ["TracePanel"]

_FIRST = 3
_SECONDS = 30


class TracePanel(QWidget):
    """Shows the regions of one recording after the other; hidden where there are none.

    What is shown is read from the run folder, so that the recording does nothing for it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.plot = TracePlot()
        self.regions = QLineEdit()
        self.regions.setPlaceholderText("the first")
        self.regions.setToolTip("Names of the regions to show, with commas: 3, 7, 12")
        self.regions.setMaximumWidth(220)
        self.liveliest = QPushButton("Most active")
        self.liveliest.setToolTip("Choose the regions that rose most, in deviations, in the seconds shown")
        self.seconds = QSpinBox()
        self.seconds.setRange(2, 600)
        self.seconds.setValue(_SECONDS)
        self.seconds.setSuffix(" s")
        self.words = QLabel("")
        row = QHBoxLayout()
        row.setContentsMargins(4, 0, 4, 0)
        for widget in (QLabel("Regions"), self.regions, self.liveliest, QLabel("Last"), self.seconds):
            row.addWidget(widget)
        row.addWidget(self.words, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.plot, 1)
        layout.addLayout(row)
        self.liveliest.clicked.connect(self._choose)
        self.regions.editingFinished.connect(self._draw)
        self.seconds.valueChanged.connect(self._draw)
        self._tail: TraceTail | None = None
        self._stream = ""
        self.hide()

    @property
    def frames(self) -> int:
        """Frames read so far."""
        return 0 if self._tail is None else self._tail.frames

    def open(self, folder: Path | None) -> None:
        """Show the traces of a run folder, or nothing."""
        self._tail = None if folder is None else TraceTail(folder)
        self.regions.clear()
        self.words.clear()
        self.plot.show_window((), None, (), self.seconds.value())
        self.setVisible(folder is not None)

    def refresh(self, stream: str = "") -> None:
        """Read what the file has grown by, and draw it.

        Parameters
        ----------
        stream
            The stream that is shown, as the status names it.
        """
        if self._tail is not None and (self._tail.read() or stream != self._stream):
            self._stream = stream
            self._draw()

    def _choose(self) -> None:
        if self._tail is not None and self._tail.names:
            names = self._tail.liveliest(self.plot.rows, self.seconds.value(), self._stream)
            self.regions.setText(", ".join(names))
            self._draw()

    def _draw(self) -> None:
        tail = self._tail
        if tail is None or not tail.names:
            return
        asked = [name.strip() for name in self.regions.text().split(",") if name.strip()]
        unknown = [name for name in asked if name not in tail.names]
        names = tuple(name for name in asked if name in tail.names) or tail.names[:_FIRST]
        names = names[: self.plot.rows]
        self.words.setText(
            f"there is no region {unknown[0]}" if unknown else f"{len(names)} of {len(tail.names)} regions"
        )
        seconds = float(self.seconds.value())
        self.plot.show_window(names, tail.newest(names, seconds, self._stream), tail.fired, seconds)
