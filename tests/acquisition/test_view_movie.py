"""The plugin's dock for recorded movies: a layer or a file goes in, a layer and a file come out."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from acquisition.view_layout import until as wait_until
from denoscope.acquisition import denoise_movie
from denoscope.acquisition.view.docks import movie_process
from denoscope.runtime import DenoscopeError

if TYPE_CHECKING:
    from qtpy.QtWidgets import QApplication

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def application(application: QApplication) -> QApplication:
    pytest.importorskip("napari", reason="needs the extra 'view'")
    return application


@pytest.fixture
def until(application: QApplication) -> Callable[..., None]:
    def wait(met: Callable[[], Any], timeout_s: float = 200.0) -> None:
        wait_until(met, timeout_s, pause_s=0.005)

    return wait


@pytest.fixture
def dock(application: QApplication, bundle: Path) -> Iterator[Any]:
    from napari.components import ViewerModel

    from denoscope.acquisition.view.docks.movie_dock import MovieDock

    dock = MovieDock(ViewerModel())
    dock.bundle.setCurrentText(str(bundle))
    yield dock
    if dock.job is not None:
        dock.job._child.process.kill()
        dock.job.close()
    dock.deleteLater()


class Here:
    """Does in this process, in a thread, what the dock starts a process for."""

    def __init__(self, request: dict[str, Any], **_: Any) -> None:
        self._events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, args=(request,))
        self._thread.start()

    def send(self, words: dict[str, Any]) -> None:
        self._events.put(words)

    def _run(self, request: dict[str, Any]) -> None:
        dock = movie_process._Dock(self)  # type: ignore[arg-type]
        try:
            movie_process._run(request, dock)
        except DenoscopeError as error:
            dock.tell("failed", message=str(error))

    def poll(self) -> dict[str, Any] | None:
        return None if self._events.empty() else self._events.get()

    def close(self) -> None:
        self._thread.join()


@pytest.fixture
def here(dock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("denoscope.acquisition.view.docks.movie_dock.ChildSession", Here)


@pytest.mark.usefixtures("here")
def test_a_file_becomes_two_layers_and_a_file(
    dock: Any, until: Callable[..., None], movie: Path, bundle: Path, tmp_path: Path
) -> None:
    dock.movie.setCurrentText(str(movie))
    assert dock.output.text() == str(movie.with_name("movie_denoised.ome.tif"))
    dock.output.setText(str(tmp_path / "new" / "clean.ome.tif"))
    dock.first.setValue(4)
    dock.last.setValue(30)
    dock.start.click()
    assert not dock.start.isEnabled()
    assert dock.cancel.isEnabled()
    until(lambda: dock.job is None)
    assert dock.words.text().startswith("Done. 26 frames denoised")
    raw, denoised = dock._viewer.layers
    assert (raw.name, denoised.name) == ("movie.tif", "movie.tif denoised")
    assert denoised.data.shape == (26, 48, 56)
    assert denoised.translate.tolist() == [4, 0, 0]  # frame 4 of one is frame 4 of the other
    denoise_movie(movie, tmp_path / "same.ome.tif", bundle=str(bundle), frames=slice(4, 30))
    expected = tifffile.imread(tmp_path / "same.ome.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "new" / "clean.ome.tif"), expected)
    np.testing.assert_array_equal(np.asarray(denoised.data[3]), expected[3])
    # Contrast is linked, and follows the denoised frame.
    assert raw.contrast_limits == denoised.contrast_limits
    denoised.contrast_limits = (10, 333)
    assert raw.contrast_limits == [10, 333]
    # The same name again: refused in words.
    dock.start.click()
    until(lambda: dock.job is None)
    assert "never overwritten" in dock.words.text()


@pytest.mark.usefixtures("here")
def test_a_layer_that_is_no_file(dock: Any, until: Callable[..., None], tmp_path: Path) -> None:
    frames = np.random.default_rng(3).poisson(150, (24, 40, 44)).astype(np.uint16)
    dock._viewer.add_image(frames, name="cells, day 2", scale=(1, 0.5, 0.5), units=("pixel", "um", "um"))
    assert dock.movie.currentText() == "layer: cells, day 2"  # the layer that is selected
    assert dock.output.text().endswith("cells_day_2_denoised.ome.tif")
    dock._viewer.add_image(frames[0], name="one frame")
    assert dock.movie.count() == 1
    dock.output.setText(str(tmp_path / "clean.ome.tif"))
    dock.start.click()
    until(lambda: dock._scratch is not None)
    scratch = dock._scratch
    until(lambda: not dock.cancel.isEnabled())
    assert dock.words.text().startswith("Done. 24 frames denoised"), dock.words.text()
    assert not scratch.exists()
    assert dock.result.scale.tolist() == [1, 0.5, 0.5]
    assert [str(unit) for unit in dock.result.units] == ["pixel", "micrometer", "micrometer"]
    assert dock.result.data.shape == frames.shape
    # The result is not offered in its own place.
    assert dock.movie.currentText() == "layer: cells, day 2"


@pytest.mark.slow
def test_cancelled_and_gone_on(dock: Any, until: Callable[..., None], bundle: Path, tmp_path: Path) -> None:
    frames = np.random.default_rng(4).poisson(150, (900, 64, 64)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "long.tif", frames)
    dock.movie.setCurrentText(str(tmp_path / "long.tif"))
    dock.start.click()
    until(lambda: dock.bar.value() > 5)
    assert "of 900 frames, about" in dock.left.text()
    dock.cancel.click()
    until(lambda: dock.job is None)
    assert dock.words.text().startswith("Cancelled after ")
    assert "goes on from there" in dock.words.text()
    assert dock.result is None
    assert not (tmp_path / "long_denoised.ome.tif").exists()
    dock.start.click()
    until(lambda: dock.job is None)
    assert dock.words.text().startswith("Done. 900 frames denoised")
    denoise_movie(tmp_path / "long.tif", tmp_path / "same.ome.tif", bundle=str(bundle))
    expected = tifffile.imread(tmp_path / "same.ome.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "long_denoised.ome.tif"), expected)


def test_files_are_dropped(dock: Any, movie: Path) -> None:
    from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
    from qtpy.QtGui import QDragEnterEvent, QDropEvent

    assert dock.acceptDrops()
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(movie)), QUrl.fromLocalFile("other.tif")])
    way = (Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier)
    enter = QDragEnterEvent(QPoint(5, 5), *way)
    enter.ignore()
    dock.dragEnterEvent(enter)
    assert enter.isAccepted()
    dock.dropEvent(QDropEvent(QPointF(5, 5), *way))
    assert dock.movie.currentText() == str(movie)
    assert dock.words.text() == "2 files were dropped: the first was chosen."


@pytest.mark.parametrize(
    ("movie_text", "output", "last", "says"),
    [
        ("", "x.ome.tif", 0, "Choose a layer, or name a file."),
        ("layer: gone", "x.ome.tif", 0, "Choose a layer, or name a file."),
        ("movie.tif", "", 0, "Name a file to write"),
        ("movie.tif", "x.ome.tif", 3, "the second number is larger"),
    ],
)
def test_what_is_missing_is_said(dock: Any, movie_text: str, output: str, last: int, says: str) -> None:
    dock.movie.setCurrentText(movie_text)
    dock.output.setText(output)
    dock.first.setValue(5)
    dock.last.setValue(last)
    dock.start.click()
    assert says in dock.words.text()
    assert dock.start.isEnabled()


def test_a_process_that_dies_is_said(dock: Any, until: Callable[..., None], tmp_path: Path) -> None:
    dock.movie.setCurrentText(str(tmp_path / "none.tif"))
    dock.start.click()
    until(lambda: dock.job is not None)
    dock.job._child.process.kill()
    until(lambda: dock.job is None)
    assert "The movie's process was ended" in dock.words.text() or "ended with code" in dock.words.text()
    dock.start.click()
    until(lambda: dock.job is None)
    assert "none.tif" in dock.words.text()


def test_verdicts_are_shown(dock: Any) -> None:
    dock._say("Done. 3 frames denoised.\nSaved as x.")
    said = dock._with_verdicts([{"method": "live", "level": "look here", "words": "A < B.\nDo that."}])
    assert "<b>live</b>: <b" in said
    assert "look here</b>. A &lt; B.<br>Do that." in said
    assert dock._with_verdicts([]) == "Done. 3 frames denoised.\nSaved as x."
