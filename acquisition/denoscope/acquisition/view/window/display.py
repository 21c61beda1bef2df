"""A session in a napari viewer: pictures, traces, bar, and the timer that looks at the board."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qtpy.QtCore import QObject, QTimer

from denoscope.acquisition.processes.shared_memory import Slab
from denoscope.acquisition.view.board.board import Board, Slot, Wish
from denoscope.acquisition.view.board.words import ViewStatus
from denoscope.acquisition.view.traces.outlines import read_labels
from denoscope.acquisition.view.traces.panel import TracePanel

from .bar import SessionBar
from .line import Level, StatusLine
from .panels import Compare, Panels
from .past import PastFrames

__all__ = ["Display", "add_docks"]

_PERIOD_S = 1 / 30
_STATUS_EVERY_S = 0.25
_LONGEST_REST_S = 0.5
_NOTE_S = 3.0  # a note is read before the line comes back
_BLINK_MS = 500
_OUTLINE_AFTER_S = 0.5  # napari takes about a second for the layers: the first pictures are drawn before
_MOST_SNAPSHOTS = 10_000


class Display(QObject):
    """Shows one session after the other.

    The timer looks at the board at most 30 times a second, and rests twice as long as showing the last frame
    took, half a second at most: a computer that is slow to draw shows fewer frames, each of them the newest.

    Parameters
    ----------
    viewer
        A ``napari.Viewer``, or its model alone.
    """

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self.traces = TracePanel(self._colour)
        self.panels = Panels(viewer, self._manual, self.traces.pick)
        self.traces.outlined.toggled.connect(self.panels.outlines.show)
        self.bar = SessionBar(
            self._ask,
            self._want,
            self._automatic,
            self.panels.link,
            self._snapshot,
            self._go,
            self._compare,
            self.panels.swipe,
        )
        self._blinks = QTimer(self)
        self._blinks.timeout.connect(self.panels.blink)
        self._past: PastFrames | None = None
        self._page: int | None = None
        self._stream = 0
        self._viewer = viewer
        self._output: Path | None = None
        self._outlined = 0  # number of the set of regions that is drawn
        self._outline_s = math.inf
        self.recording = False
        """True where a recording is shown, and not a preview."""
        self.status: ViewStatus | None = None
        self.shown = 0
        self._board: Board | None = None
        self._line = StatusLine()
        self._status_s = 0.0
        self._said: tuple[str, Level] = ("", Level.CALM)
        self._note_until_s = 0.0
        self._reads = QTimer(self.bar)
        self._reads.setSingleShot(True)
        self._reads.timeout.connect(lambda: self._say(*self._said))
        self._due_s = 0.0
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._tick)

    def open(
        self,
        board: Board,
        shape: tuple[int, int],
        *,
        pixel_um: float | None = None,
        output: Path | None = None,
        regions: bool = False,
        preview: bool = False,
    ) -> None:
        """Show a session that has left its first words on a board.

        Parameters
        ----------
        board
            Where its frames are.
        shape
            ``(H, W)`` of the frames.
        pixel_um
            Edge of a pixel in micrometres, for the scale bar.
        output
            Run folder, where snapshots go and traces are.
        regions
            Whether it measures regions.
        preview
            Whether nothing is saved.
        """
        self.close()
        self._output, self.recording = output, not preview
        self.bar.snapshot.setEnabled(output is not None)
        self._board, self._line, self.status = board, StatusLine(), None
        self.bar.begin(preview=preview, regions=regions and output is not None)
        self._say("waiting for the first frame", Level.CALM)
        self.panels.open(shape, pixel_um)
        self.traces.open(output if regions else None)
        self._past = None if output is None else PastFrames(board.places, output)
        self._page, self._stream, self._outlined = None, 0, 0
        self._outline_s = math.inf
        board.beat()
        self._start(0.0)

    def follow(self, slab: Slab, words: Mapping[str, Any]) -> None:
        """Show the session of which the words of its board tell; the slab stays the caller's."""
        self.open(
            Board.follow(slab.again(), words["name"], words["nbytes"]),
            (words["shape"][0], words["shape"][1]),
            pixel_um=words.get("pixel_um"),
            output=Path(words["output"]) if words["output"] else None,
            regions=bool(words.get("regions")),
            preview=bool(words.get("preview")),
        )

    def close(self, problem: str | None = None) -> None:
        """Show the last frames and the last line, or `problem` in its place, and let go of the board."""
        self._timer.stop()
        if self._board is None:
            return
        self._look(self._board, last=True)
        self._show_last()
        self._board.close()
        self._board = None
        self.bar.enable(running=False)
        if problem is not None:
            self._say(problem, Level.BAD)

    def stop(self) -> None:
        """Ask the session that is shown, if any, to end."""
        self._ask(Wish.STOP)

    def _show_last(self) -> None:
        """Show the last denoised frame, which may have come too soon after the one before it to be shown live."""
        if self._past is None or self._page is not None or self.status is None:
            return
        page = self._past.newest_denoised(self.status["written_raw"] - 1, self._stream)
        raw = None if page is None else self._past.read(Slot.RAW, page)
        denoised = None if page is None else self._past.read(Slot.DENOISED, page)
        if raw is not None and denoised is not None and self.panels.is_later(denoised.number):
            self.panels.show_past(raw, denoised, time.perf_counter())
            self.bar.number.setText(self.panels.number)

    def _tick(self) -> None:
        if self._board is None:
            return
        self._board.beat()
        self._look(self._board)
        # The tick came late by the time that the window took to draw, or to be resized or saved as a picture.
        self._start(min(max(_PERIOD_S, 2 * (time.perf_counter() - self._due_s)), _LONGEST_REST_S))

    def _start(self, rest_s: float) -> None:
        self._due_s = time.perf_counter() + rest_s
        self._timer.start(round(rest_s * 1e3))

    def _look(self, board: Board, *, last: bool = False) -> None:
        now_s = time.perf_counter()
        if self._page is None and self.panels.refresh(board, now_s):
            self.shown += 1
            self._outline_s = min(self._outline_s, now_s + _OUTLINE_AFTER_S)
            self.bar.number.setText(self.panels.number)
        if now_s - self._status_s < _STATUS_EVERY_S and not last:
            return
        self._status_s = now_s
        self.traces.refresh(self.bar.streams.currentText())
        if last or now_s >= self._outline_s:
            self._outline()
        self.status = board.get_status() or self.status
        if self.status is not None:
            self._say(*self._line.write(self.status, now_s))
            self.bar.show_status(self.status)
            if self._past is not None and self.status["keeps_raw"]:
                written = self.status["written_raw"]
                self.bar.time.setEnabled(written > 1)
                self.bar.show_length(max(0, written - self._past.longest), written - 1)

    def _outline(self) -> None:
        """Draw the newest regions over the pictures once they are known: from the start, or when they were found."""
        number = self.traces.number
        if self._output is None or self._outlined == number or not self.traces.names:
            return
        labels = read_labels(self._output, number)
        if labels is not None:
            self._outlined = number
            self.panels.outline(labels, self.traces.names)
            self.panels.outlines.show(self.traces.outlined.isChecked())
            self.traces.draw()

    def _colour(self, shown: tuple[str, ...], selected: str) -> None:
        self.panels.outlines.colour(shown, selected)

    def _go(self, page: int | None) -> None:
        """Show the frame of a page from the disk, or the newest one again."""
        if page is None and self._board is not None:
            self._page = None
            self.panels.look_again()
            self._look(self._board)
            return
        if self._past is None:
            return
        page = (
            self.bar.time.maximum() if page is None else page
        )  # the last frame, once the recording has ended
        self._page = self._past.find(page, self._stream)
        raw = None if self._page is None else self._past.read(Slot.RAW, self._page)
        if self._page is None or raw is None:
            self.bar.number.setText(f"frame {page} is not on the disk")
            return
        denoised = self._past.read(Slot.DENOISED, self._page)
        self.panels.show_past(raw, denoised, time.perf_counter())
        what = "from the disk" if denoised is not None else "not denoised live"
        self.bar.number.setText(f"frame {raw.number}, {what}")

    def _compare(self, how: Compare) -> None:
        """Show the pictures side by side, in turns, or one over the other."""
        self.panels.compare(how)
        self._blinks.stop()
        if how is Compare.BLINK:
            self._blinks.start(_BLINK_MS)

    def _snapshot(self) -> None:
        """Save the canvas as ``snapshot-1.png`` and so on in the run folder."""
        if self._output is None:
            return
        for number in range(1, _MOST_SNAPSHOTS):
            path = self._output / f"snapshot-{number}.png"
            if path.exists():
                continue
            try:
                self._viewer.screenshot(str(path), canvas_only=True, flash=False)
            except (OSError, AttributeError) as error:  # a viewer's model alone has no window
                self._note(f"the snapshot could not be saved: {error}", Level.WARNING)
            else:
                self._note(f"saved {path.name} in {self._output}", Level.CALM)
            return

    def _say(self, text: str, level: Level) -> None:
        """Show how the session does, once a note has been read; an error at once."""
        self._said = (text, level)
        if level is Level.BAD or time.perf_counter() >= self._note_until_s:
            self._note_until_s = 0.0
            self.bar.say(text, level)

    def _note(self, text: str, level: Level) -> None:
        """Show a note for some seconds, also where no session goes on."""
        self._note_until_s = time.perf_counter() + _NOTE_S
        self.bar.say(text, level)
        self._reads.start(round((_NOTE_S + 0.1) * 1e3))

    def _ask(self, wish: Wish) -> None:
        if self._board is not None:
            self._board.ask(wish)
            if wish is Wish.RECORD:
                self._line.recording_wanted = True
                self.bar.enable(running=False)
                self.bar.say("The preview ends: the recording starts in a few seconds", Level.CALM)

    def _want(self, stream: int) -> None:
        if self._board is not None:
            self._board.want(stream)
            self._stream = stream
            self.panels.forget_contrast()

    def _automatic(self, on: bool) -> None:
        self.panels.automatic = on

    def _manual(self) -> None:
        self.bar.automatic.setChecked(False)


def add_docks(viewer: Any, display: Display) -> None:
    """Put traces and bar under the pictures of a ``napari.Viewer``, one below the other."""
    from qtpy.QtWidgets import QVBoxLayout, QWidget

    below = QWidget()
    layout = QVBoxLayout(below)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(2)
    layout.addWidget(display.traces, 1)
    layout.addWidget(display.bar)
    viewer.window.add_dock_widget(below, name="denoscope session", area="bottom", add_vertical_stretch=False)
