"""Traces under the pictures: the plot, which regions it shows, and over how many seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qtpy.QtWidgets import (
    QCheckBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from .plot import TracePlot
from .tail import TraceTail

__all__ = ["TracePanel"]

_FIRST = 3
_SECONDS = 30


class TracePanel(QWidget):
    """Shows the regions of one recording after the other; hidden where there are none.

    What is shown is read from the run folder, so that the recording does nothing for it.

    Parameters
    ----------
    on_shown
        Called with the regions that are shown, from the first row on, and with the one that is selected.
    """

    def __init__(self, on_shown: Callable[[tuple[str, ...], str], None] = lambda _shown, _one: None) -> None:
        super().__init__()
        self._on_shown = on_shown
        self.plot = TracePlot(self.pick)
        self.regions = QLineEdit()
        self.regions.setPlaceholderText("the first")
        self.regions.setToolTip(
            "Names of the regions to show, with commas: 3, 7, 12; or click them in a picture"
        )
        self.regions.setMaximumWidth(220)
        self.liveliest = QPushButton("Most active")
        self.liveliest.setToolTip("Choose the regions that rose most, in deviations, in the seconds shown")
        self.seconds = QSpinBox()
        self.seconds.setRange(2, 600)
        self.seconds.setValue(_SECONDS)
        self.seconds.setSuffix(" s")
        self.outlined = QCheckBox("outlines")
        self.outlined.setToolTip("Draw the regions over the pictures, each in the colour of its trace")
        self.outlined.setChecked(True)
        self.words = QLabel("")
        row = QHBoxLayout()
        row.setContentsMargins(4, 0, 4, 0)
        for widget in (
            QLabel("Regions"),
            self.regions,
            self.liveliest,
            QLabel("Last"),
            self.seconds,
            self.outlined,
        ):
            row.addWidget(widget)
        row.addWidget(self.words, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.plot, 1)
        layout.addLayout(row)
        self.liveliest.clicked.connect(self._choose)
        self.regions.editingFinished.connect(self.draw)
        self.seconds.valueChanged.connect(self.draw)
        self._tail: TraceTail | None = None
        self._folder: Path | None = None
        self._stream = ""
        self.hide()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all regions, none before they are known."""
        return () if self._tail is None else self._tail.names

    @property
    def frames(self) -> int:
        """Frames read so far."""
        return 0 if self._tail is None else self._tail.frames

    @property
    def number(self) -> int:
        """1 where the first regions are shown, 2 those that were found again, and so on."""
        return 1 if self._tail is None else self._tail.number

    def open(self, folder: Path | None, number: int = 1) -> None:
        """Show the traces of a run folder, or nothing; `number` is 2 for regions that were found again."""
        self._folder = folder
        self._tail = None if folder is None else TraceTail(folder, number)
        self.regions.clear()
        self.words.clear()
        self.plot.selected = ""
        self.plot.show_window((), None, (), self.seconds.value())
        self.setVisible(folder is not None)

    def refresh(self, stream: str = "") -> None:
        """Read what the file has grown by, and draw it.

        Parameters
        ----------
        stream
            The stream that is shown, as the status names it.
        """
        if self._tail is not None and self._tail.followed:
            self.open(self._folder, self._tail.number + 1)
        if self._tail is not None and (self._tail.read() or stream != self._stream):
            self._stream = stream
            self.draw()

    def pick(self, name: str) -> None:
        """Select a region, and show its trace in the place of the first one where there is no room."""
        shown = self._names()
        if name in self.names and name not in shown:
            shown = (*shown, name)[-self.plot.rows :]
            self.regions.setText(", ".join(shown))
        self.plot.selected = name
        self.draw()

    def _names(self) -> tuple[str, ...]:
        """Return the regions that are shown, from the first row on."""
        known = self.names
        asked = tuple(name for name in self._asked() if name in known)
        return (asked or known[:_FIRST])[: self.plot.rows]

    def _asked(self) -> list[str]:
        """Return the names in the field; a name may hold commas."""
        parts, names = [part.strip() for part in self.regions.text().split(",")], list[str]()
        while parts:
            joined = [", ".join(parts[:end]) for end in range(len(parts), 0, -1)]
            name = next((each for each in joined if each in self.names), parts[0])
            parts = parts[name.count(",") + 1 :]
            names += [name] if name else []
        return names

    def _choose(self) -> None:
        if self._tail is not None and self._tail.names:
            names = self._tail.liveliest(self.plot.rows, self.seconds.value(), self._stream)
            self.regions.setText(", ".join(names))
            self.draw()

    def draw(self) -> None:
        """Draw what was read, and tell which regions are shown."""
        tail = self._tail
        if tail is None or not tail.names:
            return
        unknown = [name for name in self._asked() if name not in tail.names]
        names = self._names()
        self._on_shown(names, self.plot.selected)
        self.words.setText(
            f"there is no region {unknown[0]}" if unknown else f"{len(names)} of {len(tail.names)} regions"
        )
        seconds = float(self.seconds.value())
        self.plot.show_window(names, tail.newest(names, seconds, self._stream), tail.fired, seconds)
