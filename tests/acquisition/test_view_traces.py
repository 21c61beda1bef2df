"""Traces under the pictures: read from a file that grows, and drawn so that one sees which is which."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from denoscope.acquisition.regions.measure import FrameTraces
from denoscope.acquisition.regions.regions import Regions
from denoscope.acquisition.regions.trace_file import TraceFile
from denoscope.acquisition.view.traces.outlines import _places
from denoscope.acquisition.view.traces.tail import TraceTail

if TYPE_CHECKING:
    from qtpy.QtWidgets import QApplication

REGIONS = Regions.from_labels([[1, 1, 2], [3, 3, 3]])


def traces(value: float, *, dff: float = 0.25) -> FrameTraces:
    """Return traces with a baseline of 80 % of `value`, and nothing dark."""
    ones = np.ones(3)
    return FrameTraces(REGIONS.names, value * 1.1 * ones, value * ones, 0.08 * value * ones, dff * ones)


def fire(folder: Path, page: int, region: str | None = None, outcome: str = "done") -> None:
    words = {"event": "trigger", "outcome": outcome, "page": page, "region": region}
    with (folder / "log.jsonl").open("a") as file:
        file.write(json.dumps(words) + "\n")


def test_a_file_that_grows_is_followed_line_by_line(tmp_path: Path) -> None:
    tail = TraceTail(tmp_path)
    assert not tail.read()  # regions are found first
    assert tail.newest((), 10) is None
    file = TraceFile(tmp_path / "traces.csv", REGIONS)
    for page in range(20):
        file.append(page, page, page / 10, "", traces(100.0 + page))
    assert tail.read()
    assert tail.names == ("1", "2", "3")
    window = tail.newest(("2", "3"), 1.0)
    assert window is not None
    assert window.page.tolist() == list(range(9, 20))
    # In dF/F over the same baseline: raw, 10 % above the denoised mean, and the deviation.
    np.testing.assert_allclose(window.dff, 0.25)
    np.testing.assert_allclose(window.raw, 1.25 * 1.1 - 1, rtol=1e-5)
    np.testing.assert_allclose(window.std, 0.08 * 1.25, rtol=1e-5)
    assert window.counts.tolist() == [119.0, 119.0]
    # A line of which half is written waits for its other half.
    with (tmp_path / "traces.csv").open("ab") as half:
        half.write(b"20,20,2.0,,1,1,1,1,1,")
    assert not tail.read()
    with (tmp_path / "traces.csv").open("ab") as half:
        half.write(b"1,1,1,1,0,0,0\nno line\n21,21,2.1,,1,1,1,1,1,1,1,1,1,0,0,0\n")
    assert tail.read()
    window = tail.newest(("1",), 0.15)
    assert window is not None
    assert window.page.tolist() == [20, 21]
    file.close()


def test_dark_counts_are_no_light(tmp_path: Path) -> None:
    file = TraceFile(tmp_path / "traces.csv", REGIONS, dark=60.0)
    # (100 - 92) / (92 - 60)
    file.append(0, 0, 0.0, "", traces(100.0, dff=0.25))
    file.close()
    tail = TraceTail(tmp_path)
    tail.read()
    window = tail.newest(("1",), 10)
    assert window is not None
    np.testing.assert_allclose(window.raw, (110 - 92) / (92 - 60), rtol=1e-5)
    np.testing.assert_allclose(window.std, 8 / (92 - 60), rtol=1e-5)


@pytest.mark.parametrize(
    "text", ["{}", "[]", '{"dark": "x"}', "[" * 100_000, " " * (1 << 25) + '{"dark": 60}']
)
def test_traces_are_shown_without_what_is_damaged_beside_them(tmp_path: Path, text: str) -> None:
    file = TraceFile(tmp_path / "traces.csv", REGIONS)
    file.append(0, 0, 0.0, "", traces(100.0, dff=0.25))
    file.close()
    (tmp_path / "traces.json").write_text(text)
    tail = TraceTail(tmp_path)
    assert tail.read()
    window = tail.newest(("1",), 10)
    assert window is not None
    np.testing.assert_allclose(window.std, 0.08 * 1.25, rtol=1e-5)  # as with nothing dark


def test_regions_that_are_found_again_have_the_dark_counts_of_their_file(tmp_path: Path) -> None:
    for name, dark in (("traces.csv", 0.0), ("traces-2.csv", 60.0)):
        assert not TraceTail(tmp_path).followed
        file = TraceFile(tmp_path / name, REGIONS, dark=dark)
        file.append(0, 0, 0.0, "", traces(100.0, dff=0.25))
        file.close()
    assert TraceTail(tmp_path).followed
    tail = TraceTail(tmp_path, 2)
    tail.read()
    window = tail.newest(("1",), 10)
    assert window is not None
    np.testing.assert_allclose(window.std, 8 / (92 - 60), rtol=1e-5)
    assert not tail.followed


def test_regions_are_outlined_in_the_order_of_their_names_whatever_their_numbers() -> None:
    names = ("7", "soma", "1")
    labels = Regions((1, 8), names, [np.array([place]) for place in (2, 4, 6)]).labels()
    assert labels.tolist() == [[0, 0, 7, 0, 2, 0, 1, 0]]
    labels[0, 7] = 9  # of no region
    assert _places(labels, names).tolist() == [[0, 0, 1, 0, 2, 0, 3, 0]]


def test_streams_are_kept_apart(tmp_path: Path) -> None:
    file = TraceFile(tmp_path / "traces.csv", REGIONS)
    for page in range(6):
        file.append(page, page // 2, page / 10, ("Camera DAPI", "Camera FITC, new")[page % 2], traces(50.0))
    file.close()
    tail = TraceTail(tmp_path)
    tail.read()
    for stream, pages in (("Camera · DAPI", [0, 2, 4]), ("Camera · FITC, new", [1, 3, 5])):
        window = tail.newest(("1",), 10, stream)
        assert window is not None
        assert window.page.tolist() == pages


def test_a_reader_that_begins_late_reads_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("denoscope.acquisition.view.traces.tail._AT_ONCE", 3000)
    monkeypatch.setattr("denoscope.acquisition.view.traces.tail._BACK", 2000)
    file = TraceFile(tmp_path / "traces.csv", REGIONS)
    for page in range(900):
        file.append(page, page, page / 10, "", traces(100.0))
    file.close()
    tail = TraceTail(tmp_path)
    for _ in range(4):
        tail.read()
    window = tail.newest(("1",), 1.0)
    assert window is not None
    assert window.page[-1] == 899
    assert tail.frames < 150


def test_the_liveliest_regions_are_found(tmp_path: Path) -> None:
    file = TraceFile(tmp_path / "traces.csv", REGIONS)
    for page in range(8):
        one = traces(100.0)
        one.dff[:] = 0.01, 0.5 * (page == 4), 0.1
        file.append(page, page, page / 10, "", one)
    file.close()
    tail = TraceTail(tmp_path)
    tail.read()
    assert tail.liveliest(2, 10) == ("2", "3")
    assert tail.liveliest(1, 0.25) == ("3",)


def pixels_of(widget: Any) -> Any:
    from qtpy.QtGui import QImage

    image = widget.grab().toImage().convertToFormat(QImage.Format.Format_RGB888)
    rows = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
    return rows[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).astype(int)


def count_of(picture: Any, colour: tuple[int, int, int]) -> int:
    return int((np.abs(picture - colour).max(axis=2) < 12).sum())


@pytest.mark.filterwarnings("default")
def test_what_is_drawn(tmp_path: Path, application: QApplication) -> None:
    from denoscope.acquisition.view.traces.panel import TracePanel

    panel = TracePanel()
    panel.resize(900, 320)
    assert panel.isHidden()  # nothing for a recording without regions
    panel.open(tmp_path)
    assert not panel.isHidden()
    file = TraceFile(tmp_path / "traces.csv", REGIONS)
    rng = np.random.default_rng(1)
    for page in range(300):
        one = traces(100.0 + 30 * np.sin(page / 9) + rng.normal(0, 4))
        one.dff[:] = one.denoised / 80 - 1
        one.raw[:] = one.denoised + rng.normal(0, 15, 3)
        file.append(page, page, page / 10, "", one)
    panel.refresh()
    assert panel.words.text() == "3 of 3 regions"
    raw, fired, failed = (141, 148, 158), (255, 176, 0), (255, 92, 92)
    picture = pixels_of(panel.plot)
    for denoised in ((90, 170, 255), (76, 208, 138), (255, 122, 184)):  # each row has its own
        assert count_of(picture, denoised) > 1000
    assert count_of(picture, raw) > 1500
    legend = count_of(picture, fired)
    fire(tmp_path, 200, "2")
    panel.refresh()
    once = count_of(pixels_of(panel.plot), fired) - legend
    assert once > 60
    fire(tmp_path, 250)  # about the whole frame: in every row
    panel.refresh()
    assert count_of(pixels_of(panel.plot), fired) - legend > 3.5 * once
    assert not count_of(pixels_of(panel.plot)[20:, :700], failed)
    fire(tmp_path, 260, "1", "failed: OSError: gone")
    panel.refresh()
    assert count_of(pixels_of(panel.plot)[20:, :700], failed)
    panel.regions.setText("2, 9")
    panel.regions.editingFinished.emit()
    assert panel.words.text() == "there is no region 9"
    panel.liveliest.click()
    assert panel.regions.text() == "1, 2, 3"
    file.close()
    panel.open(None)
    assert panel.isHidden()


@pytest.mark.filterwarnings("default")
def test_many_points_are_drawn_as_few(application: QApplication) -> None:
    from denoscope.acquisition.view.traces.plot import thinned

    times = np.arange(10_000.0)
    values = np.zeros(10_000)
    values[5003] = 9.0
    values[7001] = -4.0
    few, thin = thinned(times, values)
    assert len(few) == len(thin) < 600
    assert (thin.max(), thin.min()) == (9.0, -4.0)  # a flash of one frame stays
    np.testing.assert_array_equal(thinned(times[:300], values[:300])[1], values[:300])


@pytest.mark.filterwarnings("default")
def test_no_line_is_drawn_over_a_pause(application: QApplication) -> None:
    from denoscope.acquisition.view.traces.plot import unbroken

    times = np.concatenate([np.arange(0, 14, 0.1), np.arange(18, 21, 0.1)])
    values = np.sin(times)
    values[50] = np.nan
    parts = unbroken(times, values)
    assert [(round(t[0], 1), round(t[-1], 1)) for t, _ in parts] == [(0.0, 4.9), (5.1, 13.9), (18.0, 20.9)]
    slow = np.arange(0, 60, 4.0)  # frames that are four seconds apart have no gap between them
    assert len(unbroken(slow, slow)) == 1
    assert len(unbroken(np.repeat(slow, 2), np.repeat(slow, 2))) == 1
    assert [len(t) for t, _ in unbroken(np.array([1.0]), np.array([2.0]))] == [1]
