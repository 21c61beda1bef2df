"""The plugin's dock for recorded movies: denoise a layer or a file, watch how far it is, and see the result."""

from __future__ import annotations

import re
import shutil
import tempfile
import threading
import time
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import (
    QApplication,
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from denoscope.acquisition.contracts import RECORDED
from denoscope.acquisition.errors import one_line
from denoscope.acquisition.view.window.contrast import AutoContrast
from denoscope.runtime import DenoscopeError, LazyMovie, counted, list_bundles, open_movie

from .child_session import ChildSession
from .drawn import RegionsField
from .form import row, scrolled_words, unwrapped, with_button

__all__ = ["MovieDock"]

_POLL_MS = 50
_LINES = 12
_LAYER = "layer: "
_MODULE = "denoscope.acquisition.view.docks.movie_process"
_MOST_FRAMES = 2**31 - 1
_COLOURS = {"fine": "#3fb56b", "look here": "#ffb000", "do not trust": "#ff6b6b"}


class LazyLayer:
    """A movie on disk as napari takes it: it reads the frames that are looked at.

    Parameters
    ----------
    movie
        (T, H, W).
    """

    def __init__(self, movie: LazyMovie) -> None:
        self._movie = movie
        self.shape, self.dtype, self.ndim = movie.shape, movie.dtype, 3

    @property
    def size(self) -> int:
        """Number of pixels."""
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        """Return the number of frames."""
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """Return all frames."""
        return np.asarray(self._movie[:], dtype)

    def __getitem__(self, key: Any) -> Any:
        """Return what is asked for, reading the frames that it needs."""
        first, *rest = key if isinstance(key, tuple) else (key,)
        frames = np.asarray(self._movie[int(first) if not isinstance(first, slice) else first])
        lead = (slice(None),) if isinstance(first, slice) else ()
        return frames[(*lead, *rest)]


class MovieDock(QWidget):
    """Denoises a movie in a separate process and shows it as a layer.

    Files that are dropped onto the dock are chosen. Closing napari cancels; what is done is kept, and the same start
    goes on from there.

    Parameters
    ----------
    napari_viewer
        The viewer that opened the dock.
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self._viewer = napari_viewer = unwrapped(napari_viewer)
        self.job: ChildSession | None = None
        self.result: Any = None
        """Layer with the denoised movie, once it is there."""
        self._suggested = ""
        self._source: Any = None
        self._scratch: Path | None = None
        self._writes: threading.Thread | None = None
        self._started = (0, 0.0)
        self._build()
        self.setAcceptDrops(True)
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._poll)
        for event in ("inserted", "removed"):
            getattr(napari_viewer.layers.events, event).connect(self._list_layers)
        napari_viewer.layers.selection.events.active.connect(self._take_active)
        self._list_layers()
        self._take_active()
        application = QApplication.instance()
        assert application is not None
        application.aboutToQuit.connect(self._leave)

    # -- form

    def _build(self) -> None:
        self.movie = QComboBox()
        self.movie.setEditable(True)
        self.movie.setToolTip("A layer, or a file: choose it, type its path, or drop it here")
        self.movie.currentTextChanged.connect(self._suggest)
        self.bundle = QComboBox()
        self.bundle.setEditable(True)
        self.bundle.addItems(list_bundles())
        self.bundle.setCurrentText(RECORDED)
        self.bundle.setToolTip("recorded looks at both sides of time; live gives the picture of a recording")
        self.first, self.last = QSpinBox(), QSpinBox()
        for box in (self.first, self.last):
            box.setRange(0, _MOST_FRAMES)
        self.first.setToolTip("First frame, from 0")
        self.last.setSpecialValueText("end")
        self.last.setToolTip("The frame before which to stop")
        self.regions = RegionsField(self._viewer, "Cells whose traces are written")
        self.output = QLineEdit()
        self.output.setToolTip("File to write: .ome.tif, .ome.zarr or .ndtiff; nothing is ever overwritten")
        self.judge = QCheckBox("judge the result too")
        self.judge.setToolTip(
            "Say what was taken away and whether it looks like noise, as denoscope evaluate does"
        )
        if find_spec("skimage") is None or find_spec("torch") is None:
            self.judge.setEnabled(False)
            self.judge.setToolTip('Needs: python -m pip install ".[train]"')
        self.start = QPushButton("Denoise")
        self.start.clicked.connect(self._start)
        self.cancel = QPushButton("Cancel")
        self.cancel.setToolTip("What is done is kept: Denoise goes on from there")
        self.cancel.clicked.connect(self._cancel)
        self.cancel.setEnabled(False)
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.left = QLabel("")
        self.words, scrolled = scrolled_words(_LINES)
        form = QFormLayout()
        form.addRow("Movie", with_button(self.movie, self._browse))
        form.addRow("Bundle", self.bundle)
        form.addRow("Frames", row(self.first, QLabel("to"), self.last))
        form.addRow("Regions", with_button(self.regions, self._browse_regions))
        form.addRow("Save as", with_button(self.output, self._browse_output))
        form.addRow("", self.judge)
        buttons = QHBoxLayout()
        buttons.addWidget(self.start, 1)
        buttons.addWidget(self.cancel)
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        layout.addLayout(buttons)
        layout.addWidget(self.bar)
        layout.addWidget(self.left)
        layout.addWidget(scrolled, 1)

    def _list_layers(self, _event: Any = None) -> None:
        """Offer the layers that are movies."""
        text = self.movie.currentText()
        blocked = self.movie.blockSignals(True)
        self.movie.clear()
        self.movie.addItems([_LAYER + layer.name for layer in self._viewer.layers if _is_movie(layer)])
        self.movie.setCurrentText(text)
        self.movie.blockSignals(blocked)

    def _take_active(self, _event: Any = None) -> None:
        """Choose the layer that is selected, unless a file is chosen."""
        layer = self._viewer.layers.selection.active
        text = self.movie.currentText()
        free = not text or text.startswith(_LAYER)
        if free and self.job is None and layer is not None and layer is not self.result and _is_movie(layer):
            self.movie.setCurrentText(_LAYER + layer.name)

    def _suggest(self, text: str) -> None:
        """Name the file to write, unless the user has named one."""
        if self.output.text() not in ("", self._suggested) or not text:
            return
        layer = self._layer()
        path = _path_of(layer) if layer is not None else Path(text)
        if path is None:
            name = re.sub(r"\W+", "_", text.removeprefix(_LAYER)).strip("_") or "layer"
            path = Path.home() / "denoscope" / name
        elif path.is_dir() and not path.suffix:  # a run folder
            path = path / "raw"
        stem = path.name.partition(".")[0]
        self._suggested = str(_unused(path.with_name(f"{stem}_denoised.ome.tif")))
        self.output.setText(self._suggested)

    def _browse(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "A movie")
        if path:
            self.movie.setCurrentText(path)

    def _browse_regions(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Regions: ROIs, a label image, shapes, or stat.npy")
        if path:
            self.regions.setText(path)

    def _browse_output(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "File to write", self.output.text())
        if path:
            self.output.setText(path)

    def dragEnterEvent(self, event: Any) -> None:  # noqa: N802
        """Take files; called by Qt."""
        if event.mimeData().hasUrls():
            event.acceptProposedAction()

    def dropEvent(self, event: Any) -> None:  # noqa: N802
        """Choose the file that was dropped; called by Qt."""
        paths = [url.toLocalFile() for url in event.mimeData().urls() if url.isLocalFile()]
        if paths and self.job is None:
            self.movie.setCurrentText(paths[0])
            event.acceptProposedAction()
            if len(paths) > 1:
                self._say(f"{counted(len(paths), 'file was', 'files were')} dropped: the first was chosen.")

    def _layer(self) -> Any:
        text = self.movie.currentText()
        names = [layer.name for layer in self._viewer.layers]
        name = text.removeprefix(_LAYER)
        return self._viewer.layers[name] if text.startswith(_LAYER) and name in names else None

    # -- work

    def _start(self) -> None:
        self._source, self._scratch = self._layer(), None
        text = self.movie.currentText().strip()
        if not text or (text.startswith(_LAYER) and self._source is None):
            self._say("Choose a layer, or name a file.")
            return
        if not self.output.text().strip():
            self._say("Name a file to write under Save as.")
            return
        if self.last.value() and self.last.value() <= self.first.value():
            self._say(
                f"Frames {self.first.value()} to {self.last.value()} are none: the second number is larger."
            )
            return
        self._running(True)
        self._say("Starting; this takes a few seconds.")
        path = Path(text) if self._source is None else _path_of(self._source)
        if path is not None:
            self._begin(path)
        else:
            self._write_layer(self._source)
        self._timer.start(_POLL_MS)

    def _write_layer(self, layer: Any) -> None:
        """Write a layer that is no file, in a thread; `_poll` goes on."""
        self._scratch = Path(tempfile.mkdtemp(prefix="denoscope-"))
        path, data = self._scratch / "layer.npy", layer.data
        problems: list[str] = []

        def write() -> None:
            try:
                kept = np.lib.format.open_memmap(path, "w+", np.asarray(data[0]).dtype, data.shape)
                for number in range(len(data)):
                    kept[number] = np.asarray(data[number])
                kept.flush()
            except Exception as error:  # noqa: BLE001  whatever the layer's data raise is said in the dock
                problems.append(one_line(error))

        self._written = path, problems
        self._writes = threading.Thread(target=write, name="denoscope-layer", daemon=True)
        self._writes.start()

    def _begin(self, path: Path) -> None:
        output = Path(self.output.text().strip())
        self._started = 0, time.perf_counter()
        layer = self._source
        where = () if layer is None else (float(layer.scale[-1]), tuple(map(float, layer.translate[-2:])))
        try:
            regions = self.regions.chosen(*where)
        except DenoscopeError as error:
            self._end(str(error))
            return
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self._end(f"The folder {output.parent} cannot be made: {one_line(error)}.")
            return
        request = {
            "movie": str(path),
            "output": str(output),
            "bundle": self.bundle.currentText().strip(),
            "regions": regions,
            "frames": [self.first.value(), self.last.value() or None],
            "judge": self.judge.isChecked(),
            # A layer that was written for this has time first, as the viewer shows it; a file may say otherwise.
            "axes": None if self._scratch is None else "TYX",
        }
        left = "What is done is kept: Denoise goes on from there"
        self.job = ChildSession(request, module=_MODULE, what="movie", left=left)

    def _cancel(self) -> None:
        self.cancel.setEnabled(False)
        if self.job is not None:
            self._say("Cancelling.")
            self.job.tell(event="cancel")

    def _leave(self) -> None:
        """Cancel because napari closes; the process keeps what is done."""
        if self.job is not None:
            self.job.tell(event="cancel")

    def _poll(self) -> None:
        if self._writes is not None and not self._writes.is_alive():
            self._writes = None
            path, problems = self._written
            if problems:
                self._end(f"The layer could not be read: {problems[0]}.")
                return
            self._begin(path)
        while self.job is not None and (event := self.job.poll()) is not None:
            match event["event"]:
                case "progress":
                    self._progress(event["what"], event["done"], event["total"])
                case "denoised":
                    self._say("\n".join(event["words"]))
                    self._show(Path(event["output"]), event["pixel_um"])
                case "finished":
                    self._end(self._with_verdicts(event["verdicts"]))
                case "cancelled":
                    done = (
                        f"after {event['done']} of {counted(event['total'], 'frame')}"
                        if event["total"]
                        else "at once"
                    )
                    self._end(f"Cancelled {done}. Denoise goes on from there.")
                case _:
                    self._end(event["message"])

    def _progress(self, what: str, done: int, total: int) -> None:
        self.bar.setRange(0, total)
        self.bar.setValue(done)
        if not self._started[0] or done < self._started[0]:
            self._started = done, time.perf_counter()
        first, since_s = self._started
        words = f"{what}: {done} of {counted(total, 'frame')}" if total else what
        if done > first:
            left_s = (time.perf_counter() - since_s) / (done - first) * (total - done)
            words += f", about {_duration(left_s)} left" if done < total else ""
        self.left.setText(words)

    def _show(self, output: Path, pixel_um: float | None) -> None:
        """Add the denoised movie, with the pixel size and the contrast limits of the raw one."""
        try:
            movie = _pixels_of(output)
            raw = self._source or self._raw_layer(pixel_um)
        except (DenoscopeError, OSError) as error:
            self._say(f"{self.words.text()}\nThe result could not be shown: {one_line(error)}.")
            return
        first = self.first.value()
        scale = raw.scale[-3:]
        limits = AutoContrast().update(np.asarray(movie[len(movie) // 2]), 0.0)
        self.result = self._viewer.add_image(
            movie,
            name=f"{raw.name} denoised",
            scale=scale,
            units=raw.units[-3:],
            translate=np.add(raw.translate[-3:], (first * scale[0], 0, 0)),
            contrast_limits=limits,
            multiscale=False,
            rgb=False,
        )
        raw.contrast_limits = limits
        if self._viewer.dims.ndim == 3:
            self._viewer.dims.axis_labels = ("frame", "y", "x")
        self._viewer.layers.link_layers([raw, self.result], ("contrast_limits", "gamma"))
        if len(self._viewer.layers) == 2:  # nothing else is looked at: side by side
            grid = self._viewer.canvas.grid
            grid.shape, grid.stride, grid.spacing, grid.enabled = (1, 2), 1, 0.02, True
            self._viewer.reset_view(margin=0.02)

    def _raw_layer(self, pixel_um: float | None) -> Any:
        path = Path(self.movie.currentText().strip())
        raw = _pixels_of(path)
        return self._viewer.add_image(
            raw,
            name=path.name,
            scale=(1.0, pixel_um or 1.0, pixel_um or 1.0),
            units=("pixel", *(("pixel" if pixel_um is None else "um",) * 2)),
            contrast_limits=AutoContrast().update(np.asarray(raw[0]), 0.0),
            multiscale=False,
            rgb=False,
        )

    def _with_verdicts(self, verdicts: list[dict[str, str]]) -> str:
        lines = [escape(self.words.text())]
        for each in verdicts:
            colour = _COLOURS.get(each["level"], "#e8eaed")
            level = f'<b style="color: {colour}">{each["level"]}</b>'
            lines.append(f"<b>{escape(each['method'])}</b>: {level}. {escape(each['words'])}")
        return (
            "<br><br>".join(line.replace("\n", "<br>") for line in lines) if verdicts else self.words.text()
        )

    def _end(self, words: str) -> None:
        self._timer.stop()
        if self.job is not None:
            self.job.close()
            self.job = None
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None
        self.regions.forget()
        self._say(words)
        self.left.clear()
        self._running(False)

    def _running(self, on: bool) -> None:
        self.start.setEnabled(not on)
        self.cancel.setEnabled(on)
        self.bar.setRange(0, 0 if on else 1)
        self.bar.setValue(0)

    def _say(self, words: str) -> None:
        self.words.setText(words)


def _is_movie(layer: Any) -> bool:
    """Return whether a layer is an image (T, H, W)."""
    return type(layer).__name__ == "Image" and layer.ndim == 3 and not layer.rgb and not layer.multiscale


def _pixels_of(path: Path) -> Any:
    movie = open_movie(path, mapped=False)
    return LazyLayer(movie) if isinstance(movie, LazyMovie) else movie


def _path_of(layer: Any) -> Path | None:
    """Return the file that holds the whole of a layer and nothing else, None where there is none."""
    path = layer.source.path
    if not path or not Path(path).exists():
        return None
    try:
        same = open_movie(Path(path), mapped=False).shape == tuple(layer.data.shape)
    except (DenoscopeError, OSError):
        return None
    return Path(path) if same else None


def _unused(path: Path) -> Path:
    """Return the name, or the first like it with a number, that no file has."""
    stem, _, ending = path.name.partition(".")
    return next(
        each
        for number in range(1, 10_000)
        if not (each := path if number == 1 else path.with_name(f"{stem}_{number}.{ending}")).exists()
    )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
