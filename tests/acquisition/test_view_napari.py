"""The plugin's parts on a viewer's model, without a screen: layers, contrast, bar, and a whole session."""

from __future__ import annotations

import re
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from acquisition.conftest import ROOT
from acquisition.view_layout import until as wait_until
from denoscope.acquisition.processes.shared_memory import Slab
from denoscope.acquisition.regions.measure import FrameTraces
from denoscope.acquisition.regions.regions import Regions
from denoscope.acquisition.regions.trace_file import TraceFile
from denoscope.acquisition.sinks.base import PixelsAt
from denoscope.acquisition.view.board.board import Board, Slot, Wish
from denoscope.runtime import InvalidInput

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from npe2 import PluginManifest
    from qtpy.QtWidgets import QApplication

    from denoscope.acquisition.view.docks.live_dock import LiveDock
    from denoscope.acquisition.view.window.display import Display

# Each test by itself too, without one before that made the application.
pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("application")]

LABELS = np.zeros((16, 20), np.int32)
LABELS[2:5, 3:7] = 1
LABELS[8:12, 10:13] = 2
LABELS[13, 18] = 3
REGIONS = Regions(
    LABELS.shape, ["soma 1", "dendrite, apical", "7"], [np.flatnonzero(n == LABELS) for n in (1, 2, 3)]
)


@pytest.fixture(scope="module", autouse=True)
def napari() -> None:
    """Import napari when the file begins: in every worker that only lists the tests it would take seconds."""
    pytest.importorskip("napari", reason="needs the extra 'view'")
    pytest.importorskip("qtpy.QtWidgets", reason="needs Qt and its libraries", exc_type=ImportError)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of napari's own libraries among each other
        from napari.components import ViewerModel
        from npe2 import PluginManifest
        from qtpy.QtWidgets import QApplication

    from denoscope.acquisition.view.docks.live_dock import LiveDock
    from denoscope.acquisition.view.window.display import Display

    found = (ViewerModel, PluginManifest, QApplication, Display, LiveDock)
    globals().update({each.__name__: each for each in found})


@pytest.fixture
def until(application: QApplication) -> Callable[..., None]:
    def wait(met: Callable[[], Any], timeout_s: float = 200.0) -> None:
        wait_until(met, timeout_s, pause_s=0.005)

    return wait


def status(**changes: Any) -> dict[str, Any]:
    return {
        "count": 1,
        "state": "recording",
        "message": None,
        "elapsed_s": 1.0,
        "received": 30,
        "written_raw": 30,
        "keeps_raw": True,
        "preview": False,
        "emitted": 28,
        "dropped": {},
        "missing": 0,
        "fps_in": 30.0,
        "fps_out": 30.0,
        "latency_s": {"p50": 0.02, "p99": 0.03},
        "problems": [],
        "free_bytes": 10**12,
        "reserve_bytes": 1e8,
        "bytes_per_s": 1e6,
        "searching": False,
        "streams": ["Camera"],
        "source": "demo: Camera",
        **changes,
    }


def test_pictures_stand_side_by_side_and_follow(until: Callable[..., None]) -> None:
    viewer = ViewerModel()
    display = Display(viewer)
    shared = Board.create(Slab(), 4 * 40 * 50)[0]
    display.open(shared, (40, 50))
    assert [layer.name for layer in viewer.layers] == ["raw", "denoised"]
    assert viewer.canvas.grid.enabled
    assert viewer.canvas.grid.actual_shape(viewer.layers) == (1, 2)
    assert viewer.canvas.grid.position(0, viewer.layers) == (0, 0)  # raw on the left
    raw, denoised = viewer.layers
    movie = np.random.default_rng(2).poisson(300, (4, 40, 50)).astype(np.uint16)
    for number, frame in enumerate(movie):
        shared.put(Slot.RAW, frame, number)
        shared.put(Slot.DENOISED, frame // 2, number)
    shared.put_status(status())
    until(lambda: display.shown and display.status)
    np.testing.assert_array_equal(raw.data, movie[-1])
    np.testing.assert_array_equal(denoised.data, movie[-1] // 2)
    assert display.shown == 1  # the newest, not one after the other
    assert denoised.contrast_limits[1] < 220
    assert raw.contrast_limits == denoised.contrast_limits  # linked unless told otherwise
    assert display.bar.number.text() == "frame 3"
    display.bar.link.setChecked(False)
    shared.put(Slot.RAW, movie[-1], 4)
    until(lambda: 200 < raw.contrast_limits[0] < 300 < raw.contrast_limits[1] < 400)
    assert denoised.contrast_limits[1] < 220
    assert display.bar.number.text() == "raw frame 4, denoised 3"
    assert "raw written 30 of 30" in display.bar.line.text()
    assert display.bar.stop.isEnabled()
    shared.put(Slot.RAW, np.ones((20, 30), np.uint8), 5)  # another ROI and depth
    until(lambda: raw.data.shape == (20, 30))
    assert display.bar.automatic.isChecked()
    assert shared.beats > 1
    shared.put_status(status(state="finished", count=2))
    display.close()
    assert display.bar.line.text().startswith("finished")
    assert not display.bar.stop.isEnabled()


def test_wide_pictures_stand_one_above_the_other_and_long_names_are_cut(until: Callable[..., None]) -> None:
    viewer = ViewerModel()
    display = Display(viewer)
    shared = Board.create(Slab(), 4 * 16 * 64)[0]
    display.open(shared, (16, 64))
    assert viewer.canvas.grid.shape == (2, 1)
    before = display.bar.minimumSizeHint().width()
    names = ["Hamamatsu C15440-20UP serial 000123 · far red · z 3 · pos 12", "a second one"]
    shared.put_status(status(streams=names))
    until(lambda: display.bar.streams.count() == 2)
    assert display.bar.minimumSizeHint().width() < before + 250
    shared.put(Slot.RAW, np.ones((20, 30), np.uint16), 0)  # another ROI
    until(lambda: viewer.canvas.grid.shape == (1, 2))
    display.close()


def test_both_pictures_have_the_same_unit_from_the_start() -> None:
    """napari warns in the middle of the picture where two layers that it draws have different units."""
    viewer = ViewerModel()
    display = Display(viewer)
    units: list[Any] = []
    viewer.layers.events.inserted.connect(lambda _event: units.append(viewer.layers.extent.units))
    display.panels.open((16, 16), 0.5)
    assert len(units) == 2
    assert all(units)
    assert {layer.units for layer in viewer.layers} == {viewer.layers[0].units}


def test_the_dock_calls_settings_as_its_fields_are_called() -> None:
    dock = LiveDock(ViewerModel())
    said = {"event": "failed", "message": "`exposure_ms` and `roi` need `core` FILE.cfg: leave `x` out"}
    dock.session = SimpleNamespace(poll=[None, said].pop, close=lambda: None)
    dock._poll()  # private: its timer would start with a session in another process
    assert dock.words.text() == "Exposure and Camera region need Camera FILE.cfg: leave x out"
    dock.roi.setText("nonsense")
    dock.start.click()
    assert "Camera region" in dock.words.text()
    assert "`" not in dock.words.text()
    dock.deleteLater()


def test_contrast_by_hand_stays(until: Callable[..., None]) -> None:
    viewer = ViewerModel()
    display = Display(viewer)
    shared = Board.create(Slab(), 4 * 16 * 16)[0]
    display.open(shared, (16, 16))
    frame = np.arange(256, dtype=np.uint16).reshape(16, 16)
    shared.put(Slot.RAW, frame, 0)
    until(lambda: display.shown)
    assert display.bar.automatic.isChecked()
    viewer.layers["raw"].contrast_limits = (3, 77)
    assert not display.bar.automatic.isChecked()
    shared.put(Slot.RAW, frame * 9, 1)
    until(lambda: display.shown > 1)
    assert viewer.layers["raw"].contrast_limits == [3, 77]
    display.bar.automatic.setChecked(True)
    time.sleep(0.3)
    shared.put(Slot.RAW, frame * 9, 2)
    until(lambda: viewer.layers["raw"].contrast_limits[1] > 77)
    display.close()


def test_a_window_that_stood_still_goes_on_at_once(until: Callable[..., None]) -> None:
    """A long wait, as for a snapshot, is no measure of the time that drawing takes."""
    display = Display(ViewerModel())
    shared = Board.create(Slab(), 4 * 16 * 16)[0]
    display.open(shared, (16, 16))
    shared.put(Slot.RAW, np.ones((16, 16), np.uint16), 0)
    until(lambda: display.shown)
    display._due_s = time.perf_counter() - 20.0  # private: no test waits for so long
    display._tick()
    assert display._timer.interval() <= 500
    display.close()


def test_a_note_of_a_snapshot_can_be_read_and_the_line_comes_back(
    until: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules[Display.__module__]
    monkeypatch.setattr(module, "_NOTE_S", 1000.0)
    viewer = ViewerModel()
    monkeypatch.setattr(ViewerModel, "screenshot", lambda *_a, **_k: None, raising=False)
    display = Display(viewer)
    shared = Board.create(Slab(), 4 * 16 * 16)[0]
    display.open(shared, (16, 16), output=tmp_path)
    shared.put_status(status(written_raw=7, received=7))
    until(lambda: "of 7" in display.bar.line.text())
    display.bar.snapshot.click()
    shared.put_status(status(received=8, written_raw=8, count=2))
    until(lambda: display.status["received"] == 8)
    assert display.bar.line.text() == f"saved snapshot-1.png in {tmp_path}"
    shared.put_status(status(received=9, written_raw=9, count=3, problems=["denoising failed"]))
    until(lambda: "denoising failed" in display.bar.line.text())  # an error does not wait
    display.close()
    monkeypatch.setattr(module, "_NOTE_S", 0.05)
    display.bar.snapshot.click()
    assert "snapshot-1.png" in display.bar.line.text()
    until(lambda: "denoising failed" in display.bar.line.text())


def test_blink_and_swipe(until: Callable[..., None]) -> None:
    display = Display(ViewerModel())
    shared = Board.create(Slab(), 4 * 16 * 16)[0]
    display.open(shared, (16, 16))
    frame = np.arange(256, dtype=np.uint16).reshape(16, 16)
    shared.put(Slot.RAW, frame, 0)
    shared.put(Slot.DENOISED, (frame + 1000).astype(np.float32), 0)
    until(lambda: display.shown)
    raw, denoised = display._viewer.layers
    grid = display._viewer.canvas.grid
    display.bar.compare.setCurrentText("swipe")
    assert not grid.enabled
    assert not raw.visible
    assert not display.bar.share.isHidden()
    np.testing.assert_array_equal(denoised.data[:, :8], frame[:, :8])
    np.testing.assert_array_equal(denoised.data[:, 8:], frame[:, 8:] + 1000)
    display.bar.share.setValue(25)
    np.testing.assert_array_equal(denoised.data[:, 4:], frame[:, 4:] + 1000)
    shared.put(Slot.RAW, frame + 5, 1)
    until(lambda: denoised.data[0, 0] == 5)
    display.bar.compare.setCurrentText("blink")
    np.testing.assert_array_equal(denoised.data, frame + 1000)
    assert display.bar.share.isHidden()
    seen = set()
    until(lambda: seen.add((raw.visible, denoised.visible)) or len(seen) == 2)
    assert seen == {(True, False), (False, True)}
    display.bar.compare.setCurrentText("side by side")
    assert grid.enabled
    assert raw.visible
    assert denoised.visible
    display.close()


def test_back_in_time_and_live_again(until: Callable[..., None], tmp_path: Path) -> None:
    display = Display(ViewerModel())
    shared = Board.create(Slab(), 4 * 16 * 16)[0]
    display.open(shared, (16, 16), output=tmp_path)
    assert not display.bar.time.isEnabled()
    frames = np.arange(5 * 256, dtype=np.uint16).reshape(5, 16, 16)
    frames.tofile(tmp_path / "raw.tif")
    (frames + 7000).tofile(tmp_path / "denoised.ome.tif")
    for page in range(5):
        shared.put(Slot.RAW, frames[page], page)
        shared.put(Slot.DENOISED, frames[page] + 7000, page)
        shared.note(Slot.RAW, page, PixelsAt("raw.tif", 512 * page), frames[page], stream=0, number=page)
        if page != 2:
            shared.note(
                Slot.DENOISED,
                page,
                PixelsAt("denoised.ome.tif", 512 * page),
                frames[page],
                stream=0,
                number=page,
            )
    shared.put_status(status(written_raw=5))
    until(lambda: display.bar.time.maximum() == 4)
    assert display.bar.time.isEnabled()
    assert display.bar.time.value() == 4
    raw, denoised = display._viewer.layers
    display.bar.time.setValue(1)
    np.testing.assert_array_equal(raw.data, frames[1])
    np.testing.assert_array_equal(denoised.data, frames[1] + 7000)
    assert display.bar.number.text() == "frame 1, from the disk"
    # New frames do not take its place, but the slider becomes longer.
    shared.put(Slot.RAW, frames[4], 5)
    shared.put_status(status(written_raw=6, count=2))
    until(lambda: display.bar.time.maximum() == 5)
    np.testing.assert_array_equal(raw.data, frames[1])
    assert display.bar.time.value() == 1
    display.bar.time.setValue(2)
    assert display.bar.number.text() == "frame 2, not denoised live"
    assert not denoised.data.any()
    display.bar.time.setValue(5)  # the last one of which is known where it lies
    assert display.bar.number.text() == "frame 4, from the disk"
    (tmp_path / "raw.tif").rename(tmp_path / "moved.tif")
    display.bar.time.setValue(3)
    assert display.bar.number.text() == "frame 3 is not on the disk"
    (tmp_path / "moved.tif").rename(tmp_path / "raw.tif")
    display.bar.live.click()
    np.testing.assert_array_equal(denoised.data, frames[4] + 7000)
    assert display.bar.number.text() == "raw frame 5, denoised 4"
    assert display.bar.time.value() == 5
    assert not display.bar.live.isEnabled()
    # After the end too, when the last denoised frame is shown, though it was too quick for the board.
    shared.put(Slot.DENOISED, frames[3] + 7000, 3)
    shared.put_status(status(state="finished", written_raw=5, count=3))
    display.close()
    assert display.bar.number.text() == "frame 4"
    np.testing.assert_array_equal(denoised.data, frames[4] + 7000)
    display.bar.time.setValue(0)
    np.testing.assert_array_equal(raw.data, frames[0])
    display.bar.live.click()
    np.testing.assert_array_equal(raw.data, frames[4])


def test_layers_that_the_user_deleted_come_back(until: Callable[..., None]) -> None:
    viewer = ViewerModel()
    display = Display(viewer)
    shared = Board.create(Slab(), 4 * 16 * 16)[0]
    display.open(shared, (16, 16))
    viewer.layers.clear()
    shared.put(Slot.DENOISED, np.ones((16, 16), np.uint16), 0)
    until(lambda: "denoised" in viewer.layers)
    display.close()


def test_what_is_clicked_reaches_the_session(until: Callable[..., None]) -> None:
    display = Display(ViewerModel())
    shared = Board.create(Slab(), 4 * 16 * 16)[0]
    display.open(shared, (16, 16))
    assert not display.bar.pause.isEnabled()
    shared.put_status(status(streams=["Camera · DAPI", "Camera · FITC"]))
    until(display.bar.pause.isEnabled)
    display.bar.pause.click()
    assert shared.wishes == (1, Wish.PAUSE)
    shared.put_status(status(state="paused", count=2))
    until(lambda: display.bar.pause.text() == "Resume")
    display.bar.pause.click()
    display.bar.stop.click()
    assert shared.wishes == (3, Wish.STOP)
    assert display.bar.streams.count() == 2
    display.bar.streams.setCurrentIndex(1)
    assert shared.wanted == 1
    display.close()


def test_regions_drawn_in_napari_are_those_of_the_frames(tmp_path: Path, application: QApplication) -> None:
    from denoscope.acquisition.regions.reading import read_regions
    from denoscope.acquisition.view.docks.drawn import RegionsField

    viewer = ViewerModel()
    field = RegionsField(viewer, "Cells")
    assert field.chosen() is None
    field.setText(" find:4 ")
    assert field.chosen() == "find:4"
    # In micrometres over pictures of 0.5 micrometres a pixel, whose first pixel lies at (10, 20).
    corners = np.array([[2.0, 5.0], [2.0, 9.0], [5.0, 9.0], [5.0, 5.0]]) - 0.5
    viewer.add_shapes([corners * 0.5 + np.array((10, 20))], name="my cells", shape_type="polygon")
    field.setText("layer: my cells")
    path = Path(field.chosen(0.5, (10.0, 20.0)) or "")
    regions = read_regions(path, (16, 20))
    assert np.argwhere(regions.labels() > 0).min(0).tolist() == [2, 5]
    assert np.argwhere(regions.labels() > 0).max(0).tolist() == [4, 8]
    field.forget()
    assert not path.parent.exists()
    # Labels of a movie: those of the frame that is seen.
    labels = np.zeros((5, 16, 20), np.uint8)
    labels[3, 1:4, 2:6] = 7
    viewer.add_labels(labels, name="painted")
    assert [field.itemText(place) for place in range(field.count())] == [
        *("", "find", "layer: my cells", "layer: painted")
    ]
    viewer.dims.current_step = (3, 0, 0)
    field.setText("layer: painted")
    assert read_regions(field.chosen() or "", (16, 20)).names == ("7",)
    viewer.dims.current_step = (0, 0, 0)
    with pytest.raises(InvalidInput, match="the layer painted is empty"):
        field.chosen()
    viewer.layers.remove("painted")
    with pytest.raises(InvalidInput, match="there is no layer painted any more"):
        field.chosen()
    viewer.add_shapes(None, ndim=2, name="none")
    field.setText("layer: none")
    with pytest.raises(InvalidInput, match="the layer none is empty"):
        field.chosen()
    field.forget()


def test_a_preview_has_a_button_that_records(until: Callable[..., None], tmp_path: Path) -> None:
    display = Display(ViewerModel())
    shared = Board.create(Slab(), 4 * 16 * 16)[0]
    display.open(shared, (16, 16), preview=True)
    assert not display.bar.record.isHidden()
    assert not display.bar.snapshot.isEnabled()
    shared.put_status(status(preview=True, keeps_raw=False))
    until(display.bar.record.isEnabled)
    assert display.bar.line.text().startswith("Preview: nothing is saved")
    assert not display.bar.time.isEnabled()
    display.bar.record.click()
    assert shared.wishes == (1, Wish.RECORD)
    shared.put_status(status(preview=True, state="finished", count=2))
    display.close()
    assert display.bar.line.text() == "The preview has ended: the recording starts in a few seconds"
    display.open(Board.create(Slab(), 4 * 16 * 16)[0], (16, 16), output=tmp_path)
    assert display.bar.record.isHidden()
    display.close()


def test_dock_records(
    until: Callable[..., None], movie: Path, bundle: Path, tmp_path: Path, application: QApplication
) -> None:
    viewer = ViewerModel()
    dock = LiveDock(viewer)
    dock.core.setCurrentText(f"replay:{movie}")
    dock.bundle.setCurrentText(str(bundle))
    dock.fps.setValue(40)
    assert "denoscope" in dock.output.text()
    dock.output.setText(str(tmp_path / "run"))
    dock.start.click()
    assert not dock.start.isEnabled()
    until(lambda: dock.start.isEnabled(), 90)
    assert "Raw 40/40 saved. 40 denoised live." in dock.words.text()
    assert dock.display.bar.line.text().startswith("finished")
    frames = tifffile.imread(movie)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "run" / "raw.tif"), frames)
    assert any(np.array_equal(viewer.layers["raw"].data, frame) for frame in frames)
    # The same folder again: refused in words, and the dock is ready for another.
    dock.start.click()
    until(lambda: dock.start.isEnabled(), 60)
    assert "recordings are never overwritten" in dock.words.text()
    assert dock.output.text() == str(tmp_path / "run")
    dock.deleteLater()


@pytest.mark.slow
def test_dock_says_how_a_session_died(
    until: Callable[..., None], bundle: Path, tmp_path: Path, application: QApplication
) -> None:
    long = tmp_path / "long.tif"
    tifffile.imwrite(long, np.full((4000, 16, 16), 150, np.uint16))
    dock = LiveDock(ViewerModel())
    dock.core.setCurrentText(f"replay:{long}")
    dock.bundle.setCurrentText(str(bundle))
    dock.output.setText(str(tmp_path / "run"))
    dock.start.click()
    until(lambda: dock.display.status and dock.display.status["received"] > 3, 60)
    assert dock.session is not None
    dock.session._child.process.kill()
    until(lambda: dock.start.isEnabled())
    assert "What it had received is on disk" in dock.words.text()
    assert dock.words.text() == dock.display.bar.line.text()
    dock.deleteLater()


def record(folder: Path, frames: int = 3) -> None:
    """Write what a recording with regions has in its folder."""
    file = TraceFile(folder / "traces.csv", REGIONS)
    tifffile.imwrite(folder / "regions.tif", REGIONS.labels())
    for page in range(frames):
        ones = np.ones(3)
        file.append(page, page, page / 10, "", FrameTraces(REGIONS.names, ones, ones, ones, ones))
    file.close()


def shown(tmp_path: Path, pixel_um: float | None = 0.5) -> tuple[Display, Board]:
    display = Display(ViewerModel())
    board = Board.create(Slab(), 4 * LABELS.size)[0]
    display.open(board, (16, 20), pixel_um=pixel_um, output=tmp_path, regions=True)
    board.put(Slot.RAW, np.ones((16, 20), np.uint16), 0)
    board.put(Slot.DENOISED, np.ones((16, 20), np.uint16), 0)
    return display, board


def click(viewer: Any, row: float, column: float, *, drag_px: float = 0.0) -> None:
    """Do what napari does with a press, a movement and a release."""
    event = SimpleNamespace(type="mouse_press", position=(row, column), pos=np.zeros(2))
    callback = viewer.mouse_drag_callbacks[-1]
    steps = callback(viewer, event)
    next(steps)
    event.type, event.pos = "mouse_move", np.full(2, drag_px)
    next(steps)
    event.type = "mouse_release"
    with pytest.raises(StopIteration):
        next(steps)


def test_outlines_follow_the_edges_of_pixels() -> None:
    from denoscope.acquisition.view.traces.outlines import outline_segments

    segments, owners = outline_segments(LABELS)
    assert [int((owners == n).sum()) for n in (1, 2, 3)] == [2 * (3 + 4), 2 * (4 + 3), 4]
    ends = np.concatenate([segments[owners == 1, 0], segments[owners == 1].sum(1)])
    assert ends.min(0).tolist() == [1.5, 2.5]
    assert ends.max(0).tolist() == [4.5, 6.5]
    touching = np.array([[1, 2]])
    assert len(outline_segments(touching)[0]) == 8  # each has its own edge where they touch
    assert len(outline_segments(np.zeros((3, 3), int))[0]) == 0


def test_each_picture_has_its_regions_in_the_colours_of_the_traces(tmp_path: Path) -> None:
    from denoscope.acquisition.view.traces.outlines import TRACE_COLOURS

    display, _ = shown(tmp_path)
    viewer = display._viewer
    wait_until(lambda: display.shown)
    assert [layer.name for layer in viewer.layers] == ["raw", "denoised"]
    record(tmp_path)  # found while the recording goes on
    wait_until(lambda: len(viewer.layers) == 6)
    grid = viewer.canvas.grid
    places = [grid.position(place, viewer.layers) for place in range(6)]
    assert places == [(0, 0)] * 3 + [(0, 1)] * 3
    assert [viewer.layers[place].name for place in (0, 3)] == ["raw", "denoised"]
    lines, numbers = viewer.layers[1:3]
    assert tuple(lines.scale) == (0.5, 0.5)
    display.traces.regions.setText("dendrite, apical, 7")
    display.traces.draw()

    def colour(region: int) -> str:
        owner = display.panels.outlines._owners == region
        return "#" + "".join(f"{round(255 * float(each)):02x}" for each in lines.edge_color[owner][0][:3])

    assert (colour(2), colour(3)) == TRACE_COLOURS[:2]
    assert colour(1) not in TRACE_COLOURS
    assert list(numbers.features["name"]) == list(REGIONS.names)
    np.testing.assert_allclose(numbers.data[0], [1.5, 6.5 + 0.008 * 20])
    # White where it is clicked: in micrometres, as napari tells it.
    click(viewer, 3 * 0.5, 4 * 0.5)
    assert display.traces.plot.selected == "soma 1"
    assert colour(1) == "#ffffff"
    assert "soma 1" in display.traces._names()
    click(viewer, 8 * 0.5, 10 * 0.5, drag_px=30)  # that was a movement of the picture
    click(viewer, 0, 0)
    click(viewer, 1e6, -5)
    assert display.traces.plot.selected == "soma 1"
    display.traces.outlined.setChecked(False)
    assert not lines.visible
    display.close()


def test_regions_that_are_found_again_take_the_place_of_those_before(tmp_path: Path) -> None:
    display, board = shown(tmp_path)
    wait_until(lambda: display.shown)
    assert display.bar.find.text() == "Find cells again"
    assert not display.bar.find.isHidden()
    record(tmp_path)
    viewer = display._viewer
    wait_until(lambda: len(viewer.layers) == 6)
    display.bar.enable(running=True)
    display.bar.find.click()
    assert board.wishes == (1, Wish.FIND)
    assert not display.bar.find.isEnabled()
    searching = status(searching=True)
    display.bar.show_status(searching)
    assert (display.bar.find.text(), display.bar.find.isEnabled()) == ("Finding cells …", False)
    display.bar.show_status(status(searching=False))
    assert (display.bar.find.text(), display.bar.find.isEnabled()) == ("Find cells again", True)
    again = Regions(LABELS.shape, ["8"], [np.flatnonzero(LABELS == 2)])
    tifffile.imwrite(tmp_path / "regions-2.tif", again.labels())
    file = TraceFile(tmp_path / "traces-2.csv", again)
    for page in range(3):
        one = np.ones(1)
        file.append(page, page, page / 10, "", FrameTraces(again.names, one, one, one, one))
    file.close()
    wait_until(lambda: display.traces.names == ("8",) and list(viewer.layers[2].features["name"]) == ["8"])
    assert len(viewer.layers) == 6
    click(viewer, 9 * 0.5, 11 * 0.5)
    assert display.traces.plot.selected == "8"
    display.close()


def test_cells_can_be_found_again_only_where_a_recording_measures_regions(tmp_path: Path) -> None:
    display = Display(ViewerModel())
    for regions, output, offered in ((True, tmp_path, True), (False, tmp_path, False), (True, None, False)):
        board = Board.create(Slab(), 4 * LABELS.size)[0]
        display.open(board, (16, 20), pixel_um=None, output=output, regions=regions, preview=output is None)
        assert display.bar.find.isHidden() is not offered
        for state in ("recording", "stopping"):
            display.bar.show_status(status(state=state))
            assert display.bar.find.isEnabled() is (state == "recording")
    display.close()


def test_outlines_that_were_deleted_stay_away(tmp_path: Path) -> None:
    record(tmp_path)
    display, _ = shown(tmp_path, None)
    viewer = display._viewer
    wait_until(lambda: len(viewer.layers) == 6)
    viewer.layers.remove(viewer.layers[1])
    display.bar.compare.setCurrentText("swipe")
    display.bar.compare.setCurrentText("side by side")
    assert [layer.name for layer in viewer.layers] == ["raw", "denoised"]
    assert viewer.canvas.grid.stride == 1
    click(viewer, 3, 4)
    # Those of the recording before are not those of the next.
    display.open(Board.create(Slab(), 4 * LABELS.size)[0], (16, 20), output=tmp_path / "next", regions=True)
    assert len(viewer.layers) == 2
    display.close()


def test_a_thousand_regions_have_the_numbers_of_those_shown(tmp_path: Path) -> None:
    from denoscope.acquisition.view.traces.outlines import Outlines

    labels = np.kron(np.arange(1, 1025).reshape(32, 32), np.ones((4, 4), int))
    viewer = ViewerModel()
    picture = viewer.add_image(np.zeros(labels.shape, np.uint16))
    names = tuple(str(n) for n in range(1, 1025))
    outlines = Outlines(viewer, lambda _name: None)
    outlines.open(labels, names, [picture])
    outlines.colour(("5", "900"), "17")
    (_, numbers) = outlines._layers[0]
    assert list(numbers.features["name"]) == ["5", "17", "900"]


def test_manifest() -> None:
    manifest = PluginManifest.from_file(
        ROOT / "acquisition" / "denoscope" / "acquisition" / "view" / "napari.yaml"
    )
    manifest.validate_imports()
    assert manifest.name == "denoscope"
    assert [widget.display_name for widget in manifest.contributions.widgets or []] == [
        "Live",
        "Denoise a movie",
    ]
    (menu,) = (manifest.contributions.menus or {})["napari/layers/filter"]
    assert menu.command == "denoscope.denoise"
    (point,) = (each for each in entry_points(group="napari.manifest") if each.name == "denoscope")
    assert point.value == "denoscope.acquisition.view:napari.yaml"


def test_page_names_what_there_is() -> None:
    page = ROOT / "docs" / "guides" / "napari.md"
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (page.parent / link).exists(), link
    assert '"denoscope", "Live"' in text
    assert "`denoscope stop RUN`" in text
