from __future__ import annotations

import gc
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from support.quick_backend import without_openvino
from support.shell import run_here
from support.tiny_bundle import tiny_bundle

if TYPE_CHECKING:
    from qtpy.QtWidgets import QApplication

ROOT = Path(__file__).resolve().parents[2]
QUICK = "onnxruntime-cpu"  # a tiny network starts and computes in a tenth of the time that OpenVINO takes
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def environment() -> dict[str, str]:
    parts = [str(ROOT / part) for part in ("train", "export", "runtime", "acquisition")]
    # Commands that ran in this process have set it, and a script would not find the modules beside it.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    return {**inherited, "PYTHONPATH": os.pathsep.join([*parts, os.environ.get("PYTHONPATH", "")])}


@pytest.fixture(scope="module", autouse=True)
def quick_backend() -> Iterator[None]:
    """Let `auto` pass over OpenVINO, see `support.quick_backend`."""
    with without_openvino():
        yield


@pytest.fixture
def drawn_pictures() -> None:
    """Let sessions of this test draw ``report.png``, see `_few_pictures`."""


@pytest.fixture(autouse=True)
def _few_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sessions in this process draw no ``report.png``, which takes as long as many of these sessions."""
    if "drawn_pictures" not in request.fixturenames:
        monkeypatch.setattr("denoscope.acquisition.session.live._draw", lambda *_: None)


@pytest.fixture(scope="session")
def qt_application() -> QApplication:
    """Return Qt's application of this worker. It lives to the end: no widget may outlive it."""
    pytest.importorskip("qtpy.QtWidgets", reason="needs Qt and its libraries", exc_type=ImportError)
    from qtpy.QtWidgets import QApplication

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # An application keeps its platform; processes started later find their own.
        if QApplication.instance() is None:
            patch.setenv("QT_QPA_PLATFORM", "offscreen")
        return QApplication.instance() or QApplication(["denoscope"])


@pytest.fixture(scope="module")
def application(qt_application: QApplication) -> Iterator[QApplication]:
    """Give the tests of a file Qt's application, and delete the widgets that they left in circles.

    Otherwise a thread of a later test collects them, and Qt ends the process.
    """
    from qtpy.QtCore import QEvent

    yield qt_application
    qt_application.processEvents()
    qt_application.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
    gc.collect()


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "tiny.denoscope"
    tiny_bundle(folder, intensity=None, calibration_frames=8)
    return folder


@pytest.fixture(scope="session")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("movies") / "movie.tif"
    frames = np.random.default_rng(3).poisson(150, (40, 48, 56)).astype(np.uint16)
    tifffile.imwrite(path, frames)
    return path


@pytest.fixture
def short_rehearsals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an adaptation rehearse two movies of a few frames: simulating the usual ones takes three seconds."""
    monkeypatch.setattr("denoscope.train.networks.live.rehearsal._FRAMES", 40)
    monkeypatch.setattr("denoscope.train.networks.live.rehearsal._MOVIES", 2)


@pytest.fixture
def denoscope() -> Run:
    """Run the shell in this process, in a fraction of the time."""
    return run_here


@pytest.fixture
def denoscope_process() -> Run:
    """Run the shell in a separate process, as every recording from a core needs it.

    A session whose backend is not named takes the one that starts sooner, see `quick_backend`, and draws no picture.
    """

    def run(*arguments: object, timeout_s: float = 280) -> subprocess.CompletedProcess[str]:
        words = [*map(str, arguments)]
        if words[0] == "live" and "--backend" not in words:
            words += ["--backend", QUICK]
        if words[0] == "live" and not {"--picture", "--no-picture"} & {*words}:
            words += ["--no-picture"]
        return subprocess.run(
            [sys.executable, "-m", "denoscope.acquisition.cli.app", *words],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=environment(),
            check=False,
        )

    return run


@pytest.fixture(autouse=True)
def _rescued_among_the_tests(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Save raw frames that a test's disk refuses among its files, not in the home folder."""
    place = tmp_path_factory.getbasetemp() / "denoscope-rescued"
    monkeypatch.setattr("denoscope.acquisition.raw.rescue.RESCUE_FOLDER", str(place))
