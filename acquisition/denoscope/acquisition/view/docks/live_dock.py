"""The plugin's dock: choose a camera and a bundle, start, and watch raw and denoised side by side."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, get_args

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import (
    QApplication,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from denoscope.acquisition.contracts import RECORDED
from denoscope.acquisition.session.settings import make_settings
from denoscope.acquisition.sinks.live import LiveFormat
from denoscope.acquisition.view.window.display import Display, add_docks
from denoscope.runtime import DenoscopeError, list_bundles

from .child_session import ChildSession
from .drawn import RegionsField
from .form import in_fields, row, scrolled_words, unwrapped, with_button

__all__ = ["LiveDock"]

_POLL_MS = 50
_LINES = 10
_CORES = ("demo", "127.0.0.1:4827", "replay:", "watch:")
_OWN = "the bundle's own"
_AS_IT_IS = "binning as it is"
_FIELDS = {
    "core": "Camera",
    "bundle": "Bundle",
    "output": "Run folder",
    "look_ahead": "Look-ahead",
    "regions": "Regions",
    "denoised_format": "Save as",
    "std": "Save as",
    "mm_dir": "Adapters",
    "exposure_ms": "Exposure",
    "binning": "Binning",
    "roi": "Camera region",
    "fps": "Frames/s",
    "seconds": "Seconds",
}


class LiveDock(QWidget):
    """Starts a session in a separate process and shows it in the viewer.

    Closing napari asks the session to end; a crash of napari leaves it recording until its limit.

    Parameters
    ----------
    napari_viewer
        The viewer that opened the dock.
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self._viewer = napari_viewer = unwrapped(napari_viewer)
        self.display = Display(napari_viewer)
        self.session: ChildSession | None = None
        self._suggested = ""
        layout = self._build()
        window = getattr(napari_viewer, "window", None)
        if window is None:  # a viewer's model alone
            layout.addWidget(self.display.traces)
            layout.addWidget(self.display.bar)
        else:
            add_docks(napari_viewer, self.display)
        self._suggest_output()
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._poll)
        application = QApplication.instance()
        assert application is not None
        # Not of the dock, which the user may close before: nobody could end the session any more.
        application.aboutToQuit.connect(self.display.stop)

    # -- form

    def _build(self) -> QVBoxLayout:
        self._make_recording()
        self._make_camera()
        self._make_buttons()
        self.words, scrolled = scrolled_words(_LINES)
        layout = QVBoxLayout(self)
        layout.addLayout(self._form())
        layout.addWidget(row(self.start, self.preview))
        layout.addWidget(scrolled, 1)
        return layout

    def _make_recording(self) -> None:
        """Make the fields of what is recorded, with which bundle, and where to."""
        self.core = QComboBox()
        self.core.setEditable(True)
        self.core.addItems(_CORES)
        self.core.setToolTip(
            "demo: a movie that ships, through a Micro-Manager core\n"
            "HOST:PORT: a running Micro-Manager with its server switched on\n"
            "FILE.cfg: denoscope starts Micro-Manager's core\n"
            "replay:PATH: a recorded movie\n"
            "watch:PATH: a file or folder that other software writes"
        )
        self.bundle = QComboBox()
        self.bundle.setEditable(True)
        self.bundle.addItems([name for name in list_bundles() if name != RECORDED])
        self.bundle.setCurrentText("live")
        self.output = QLineEdit()
        self.output.setToolTip("Run folder; it must not hold a recording yet")
        self.look_ahead = QComboBox()
        self.look_ahead.addItems([_OWN, "0", "1", "2", "3"])
        self.look_ahead.setToolTip("Frames to wait for after each frame: more is cleaner and later")
        self.regions = RegionsField(self._viewer, "Cells whose traces are shown and written")
        self.format = QComboBox()
        self.format.addItems(list(get_args(LiveFormat)))
        self.format.setToolTip("Format of the denoised movie")
        self.std = QCheckBox("and its predicted deviation")
        self.std.setToolTip("Write the predicted standard deviation of every denoised pixel too")
        self.fps = QDoubleSpinBox()
        self.fps.setRange(0.1, 10_000)
        self.fps.setValue(30)
        self.fps.setToolTip("Frames per second of demo and replay:PATH")
        self.seconds = QDoubleSpinBox()
        self.seconds.setRange(0, 1e7)
        self.seconds.setDecimals(0)
        self.seconds.setSpecialValueText("until stopped")

    def _make_camera(self) -> None:
        """Make the fields of a camera that denoscope drives."""
        self.mm_dir = QLineEdit()
        self.mm_dir.setPlaceholderText("as installed")
        self.mm_dir.setToolTip("Folder with Micro-Manager's device adapters, for FILE.cfg")
        self.exposure = QDoubleSpinBox()
        self.exposure.setRange(0, 1e7)
        self.exposure.setDecimals(2)
        self.exposure.setSpecialValueText("exposure as it is")
        self.exposure.setSuffix(" ms")
        self.exposure.setToolTip(
            "Exposure of the camera of FILE.cfg; put back afterwards, as binning and region are"
        )
        self.binning = QComboBox()
        self.binning.addItems([_AS_IT_IS, "1", "2", "4", "8"])
        self.binning.setToolTip("Pixels of the camera of FILE.cfg that are read as one, along each axis")
        self.roi = QLineEdit()
        self.roi.setPlaceholderText("as it is")
        self.roi.setToolTip("x,y,width,height of the sensor of FILE.cfg, in pixels after binning")

    def _make_buttons(self) -> None:
        self.start = QPushButton("Start")
        self.start.setToolTip("Record: raw and denoised frames are saved in the run folder")
        self.start.clicked.connect(lambda: self._start())
        self.preview = QPushButton("Preview")
        self.preview.setToolTip(
            "Show and denoise, and save nothing; Record under the pictures begins the recording"
        )
        self.preview.clicked.connect(lambda: self._start(preview=True))

    def _form(self) -> QFormLayout:
        """Return the fields with their names."""
        form = QFormLayout()
        form.addRow("Camera", with_button(self.core, self._browse_core))
        form.addRow("Bundle", with_button(self.bundle, self._browse_bundle))
        form.addRow("Run folder", with_button(self.output, self._browse_output))
        form.addRow("Look-ahead", self.look_ahead)
        form.addRow(_FIELDS["regions"], with_button(self.regions, self._browse_regions))
        form.addRow("Save as", row(self.format, self.std))
        form.addRow("Adapters", with_button(self.mm_dir, self._browse_mm_dir))
        form.addRow("Exposure", row(self.exposure, self.binning))
        form.addRow(_FIELDS["roi"], self.roi)
        form.addRow("Frames/s", self.fps)
        form.addRow("Seconds", self.seconds)
        return form

    def _suggest_output(self) -> None:
        """Name a new run folder, unless the user has named one."""
        if self.output.text().strip() in ("", self._suggested):
            self._suggested = str(Path.home() / "denoscope" / f"{datetime.now():%Y%m%d-%H%M%S}")
            self.output.setText(self._suggested)

    def _browse_core(self) -> None:
        kind = "watch:" if self.core.currentText().startswith("watch:") else "replay:"
        path, _ = QFileDialog.getOpenFileName(self, "A configuration or a movie")
        if path:
            self.core.setCurrentText(path if path.endswith(".cfg") else f"{kind}{path}")

    def _browse_bundle(self) -> None:
        if path := QFileDialog.getExistingDirectory(self, "A bundle"):
            self.bundle.setCurrentText(path)

    def _browse_regions(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Regions: ROIs, a label image, shapes, or stat.npy")
        if path:
            self.regions.setText(path)

    def _browse_mm_dir(self) -> None:
        if path := QFileDialog.getExistingDirectory(self, "The folder of Micro-Manager"):
            self.mm_dir.setText(path)

    def _browse_output(self) -> None:
        if path := QFileDialog.getExistingDirectory(self, "A folder for the run"):
            self.output.setText(path)

    def settings(self) -> dict[str, object]:
        """Return what the form says, as for `denoscope.acquisition.make_settings`."""
        ahead = self.look_ahead.currentText()
        return {
            "core": self.core.currentText().strip(),
            "bundle": self.bundle.currentText().strip(),
            "output": self.output.text().strip(),
            "look_ahead": None if ahead == _OWN else int(ahead),
            "fps": self.fps.value(),
            "seconds": self.seconds.value() or None,
            "regions": self.regions.chosen(self.display.panels.pixel_um),
            "denoised_format": self.format.currentText(),
            "std": self.std.isChecked(),
            "mm_dir": self.mm_dir.text().strip() or None,
            "exposure_ms": self.exposure.value() or None,
            "binning": None if self.binning.currentText() == _AS_IT_IS else int(self.binning.currentText()),
            "roi": self.roi.text().strip() or None,
        }

    # -- session

    def _start(self, *, preview: bool = False) -> None:
        self._suggest_output()
        try:
            settings = self.settings()
            make_settings(**settings)
        except DenoscopeError as error:
            self.words.setText(in_fields(str(error), _FIELDS))
            return
        self.words.setText("Starting; this takes a few seconds.")
        self._enable(False)
        self.session = ChildSession({**settings, "preview": preview})
        self._timer.start(_POLL_MS)

    def _enable(self, on: bool) -> None:
        self.start.setEnabled(on)
        self.preview.setEnabled(on)

    def _poll(self) -> None:
        while self.session is not None and (event := self.session.poll()) is not None:
            if event["event"] == "opened":
                into = event["output"]
                self.words.setText(f"Recording into {into}" if into else self._previewing())
                self.display.follow(self.session.slab, event)
            elif event["event"] == "finished":
                self._end(in_fields(event["summary"], _FIELDS), None)
            else:
                problem = in_fields(event["message"], _FIELDS)
                self._end(problem, problem)

    def _previewing(self) -> str:
        return (
            f"Preview: nothing is saved. Record, under the pictures, saves into {self.output.text().strip()}"
        )

    def _end(self, words: str, problem: str | None) -> None:
        assert self.session is not None
        self._timer.stop()
        self.display.close(problem)
        self.session.close()
        self.session = None
        self.words.setText(words)
        self._enable(True)
        self.regions.forget()
        self._suggest_output()
