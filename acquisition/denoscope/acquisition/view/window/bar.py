"""The bar under the pictures: one coloured line, and what can be asked of the session."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from denoscope.acquisition.view.board.board import Wish
from denoscope.acquisition.view.board.words import ViewStatus

from .line import Level
from .panels import Compare

__all__ = ["SessionBar"]

_PAUSE = "Denoise nothing for now; raw frames are still written"
_PAUSE_PREVIEW = "Denoise nothing for now"
_STOP = "End the recording; what is buffered is still written and denoised"
_FIND = "Find cells again"
_FINDING = "Finding cells …"
_NAME_LETTERS = 16  # of a stream, in the closed list
_WIDEST = "raw frame 88888, denoised 88888"

_COLOURS = {
    Level.CALM: "background: transparent;",
    Level.GOOD: "background: #1d6b3c; color: white;",
    Level.WARNING: "background: #a85800; color: white;",
    Level.BAD: "background: #a11d1d; color: white;",
    Level.NOTE: "background: #1f4e8c; color: white;",
}


class SessionBar(QWidget):
    """Shows a line, and passes on what the user clicks.

    Parameters
    ----------
    on_wish
        Called with what is asked of the session.
    on_stream
        Called with the place of the stream to show.
    on_automatic
        Called with whether contrast follows the movie.
    on_link
        Called with whether both pictures have the same contrast.
    on_snapshot
        Called when the window is to be saved as a picture.
    on_compare, on_swipe
        Called with the way to compare the pictures, and with the share of the width that shows the raw one.
    on_time
        Called with the page to go back to, None for the newest frame.
    """

    def __init__(
        self,
        on_wish: Callable[[Wish], None],
        on_stream: Callable[[int], None],
        on_automatic: Callable[[bool], None],
        on_link: Callable[[bool], None],
        on_snapshot: Callable[[], None],
        on_time: Callable[[int | None], None],
        on_compare: Callable[[Compare], None],
        on_swipe: Callable[[float], None],
    ) -> None:
        super().__init__()
        self._on_wish = on_wish
        self._on_time = on_time
        self._paused = False
        self._make_line()
        self._make_choices()
        self._make_times()
        self._make_buttons()
        self._arrange()
        self.streams.currentIndexChanged.connect(lambda place: on_stream(max(place, 0)))
        self.automatic.toggled.connect(on_automatic)
        self.link.toggled.connect(on_link)
        self.snapshot.clicked.connect(lambda: on_snapshot())
        self.time.valueChanged.connect(self._go)
        self.live.clicked.connect(self.go_live)
        self.compare.currentTextChanged.connect(lambda text: self._choose(Compare(text), on_compare))
        self.share.valueChanged.connect(lambda value: on_swipe(value / 100))
        self.pause.clicked.connect(self._toggle_pause)
        self.find.clicked.connect(self._find)
        self.stop.clicked.connect(lambda: self._on_wish(Wish.STOP))
        self.record.clicked.connect(lambda: self._on_wish(Wish.RECORD))
        self.say("waiting for the session", Level.CALM)
        self.enable(running=False)

    def _make_line(self) -> None:
        """Make the line of numbers."""
        self.line = QLabel("waiting for the session")
        self.line.setObjectName("line")
        self.line.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        # A long line takes more rows rather than making the window wider; two have room from the start.
        self.line.setWordWrap(True)
        self.line.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self._two_rows = 2 * self.line.fontMetrics().lineSpacing() + 10
        self.line.setMinimumHeight(self._two_rows)

    def _make_choices(self) -> None:
        """Make what decides how the pictures are shown."""
        self.streams = QComboBox()
        self.streams.setToolTip("Which camera, channel, slice or position is shown; all are recorded")
        # A long name of a camera is cut in the list rather than making the window wider.
        self.streams.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.streams.setMinimumContentsLength(_NAME_LETTERS)
        self.streams.hide()
        self.automatic = QCheckBox("auto contrast")
        self.automatic.setChecked(True)
        self.link = QCheckBox("link contrast")
        self.link.setToolTip("Show raw and denoised with the same brightness limits")
        self.link.setChecked(True)
        self.compare = QComboBox()
        self.compare.addItems([each.value for each in Compare])
        self.compare.setToolTip("How to compare the raw with the denoised picture")
        self.share = QSlider(Qt.Orientation.Horizontal)
        self.share.setRange(0, 100)
        self.share.setValue(50)
        self.share.setMaximumWidth(110)
        self.share.setToolTip("Raw to the left of this, denoised to its right")
        self.share.hide()

    def _make_times(self) -> None:
        """Make the slider over the frames on the disk, and the number of the frame that is shown."""
        self.number = QLabel("")
        # The slider beside it stays where it is, whatever the number is.
        self.number.setMinimumWidth(self.number.fontMetrics().horizontalAdvance(_WIDEST) + 8)
        self.number.setToolTip("Raw and denoised show the same frame as long as denoised frames come")
        self.time = QSlider(Qt.Orientation.Horizontal)
        self.time.setToolTip("Go back over the frames on the disk; the recording goes on")
        self.live = QPushButton("Live")
        self.live.setToolTip("Return to the newest frame")
        self.live.setEnabled(False)

    def _make_buttons(self) -> None:
        """Make the buttons that ask the session for something."""
        self.snapshot = QPushButton("Snapshot")
        self.snapshot.setToolTip("Save the window as a picture in the run folder")
        self.snapshot.setEnabled(False)
        self.find = QPushButton(_FIND)
        self.find.setToolTip(
            "Search cells in the next 100 denoised frames; those before are measured until the end too"
        )
        self.find.hide()
        self.pause = QPushButton("Pause")
        self.pause.setToolTip(_PAUSE)
        self.stop = QPushButton("Stop")
        self.stop.setToolTip(_STOP)
        self.record = QPushButton("Record")
        self.record.setToolTip("End the preview and begin the recording, with the same settings")
        self.record.setStyleSheet("QPushButton:enabled { background: #a11d1d; color: white; }")
        self.record.hide()

    def _arrange(self) -> None:
        """Put the widgets into three rows."""
        times = QHBoxLayout()
        times.addWidget(self.number)
        times.addWidget(self.time, 1)
        times.addWidget(self.live)
        # A separate row, so that a narrow window has room for the slider above.
        below = QHBoxLayout()
        for widget in (self.compare, self.share, self.streams):
            below.addWidget(widget)
        below.addStretch(1)
        for widget in (
            self.automatic,
            self.link,
            self.snapshot,
            self.find,
            self.record,
            self.pause,
            self.stop,
        ):
            below.addWidget(widget)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 2, 4, 2)
        layout.setSpacing(3)
        layout.addWidget(self.line)
        layout.addLayout(times)
        layout.addLayout(below)

    def say(self, text: str, level: Level) -> None:
        """Show a line."""
        self.line.setText(text)
        self.line.setToolTip(text)
        style = f"QLabel#line {{ {_COLOURS[level]} padding: 3px 6px; border-radius: 3px; }}"
        if style != self.line.styleSheet():
            self.line.setStyleSheet(style)
        if self.line.isVisible():  # room once taken stays, so that the pictures do not jump
            needed = self.line.heightForWidth(self.line.width())
            self.line.setMinimumHeight(max(self.line.minimumHeight(), min(needed, 2 * self._two_rows)))

    def show_status(self, status: ViewStatus) -> None:
        """Follow a session's status with what can be asked of it."""
        self._paused = status["state"] == "paused"
        self.pause.setText("Resume" if self._paused else "Pause")
        searching = status["searching"]
        self.find.setText(_FINDING if searching else _FIND)
        self.enable(running=status["state"] in ("recording", "paused"))
        self.find.setEnabled(self.find.isEnabled() and not searching)
        for name in status["streams"][self.streams.count() :]:
            self.streams.addItem(name)
            self.streams.setItemData(self.streams.count() - 1, name, Qt.ItemDataRole.ToolTipRole)
        self.streams.setVisible(self.streams.count() > 1)

    def enable(self, *, running: bool) -> None:
        """Say whether a session can be asked for anything."""
        self.find.setEnabled(running)
        self.pause.setEnabled(running)
        self.stop.setEnabled(running)
        self.record.setEnabled(running)

    def begin(self, *, preview: bool = False, regions: bool = False) -> None:
        """Forget the streams of the session before; a preview can be followed by the recording."""
        self.find.setVisible(regions)
        self.find.setText(_FIND)
        self.record.setVisible(preview)
        self.pause.setToolTip(_PAUSE_PREVIEW if preview else _PAUSE)
        self.stop.setToolTip("End the preview; nothing is saved" if preview else _STOP)
        blocked = self.streams.blockSignals(True)
        self.streams.clear()
        self.streams.blockSignals(blocked)
        self.streams.hide()
        self.live.setEnabled(False)
        self.show_length(0, 0)
        self.time.setEnabled(False)

    def show_length(self, first: int, last: int) -> None:
        """Let the slider go over these pages; at its end where the newest frame is shown."""
        blocked = self.time.blockSignals(True)
        self.time.setRange(min(first, max(last, 0)), max(last, 0))
        if not self.live.isEnabled():
            self.time.setValue(self.time.maximum())
        self.time.blockSignals(blocked)

    def go_live(self) -> None:
        """Show the newest frame again."""
        self.live.setEnabled(False)
        self.show_length(self.time.minimum(), self.time.maximum())
        self._on_time(None)

    def _choose(self, how: Compare, on_compare: Callable[[Compare], None]) -> None:
        self.share.setVisible(how is Compare.SWIPE)
        on_compare(how)

    def _go(self, page: int) -> None:
        self.live.setEnabled(True)
        self._on_time(page)

    def _find(self) -> None:
        self.find.setEnabled(False)  # until the status says whether it is done
        self._on_wish(Wish.FIND)

    def _toggle_pause(self) -> None:
        self._on_wish(Wish.RESUME if self._paused else Wish.PAUSE)
