from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from denoscope.acquisition import demo_movie, open_source, read_movie, read_raw
from denoscope.runtime import InvalidInput
from support.skips import needs
from support.vendor_files import write_czi

needs("pycromanager", "micromanager")

Run = Callable[..., "subprocess.CompletedProcess[str]"]

MODULE = """
#include <stdbool.h>
long GetModuleVersion(void) { return 10; }
long GetDeviceInterfaceVersion(void) { return 61; }
unsigned GetNumberOfDevices(void) { return 0; }
bool GetDeviceName(unsigned i, char *name, unsigned n) { return false; }
bool GetDeviceType(const char *name, int *type) { return false; }
bool GetDeviceDescription(const char *name, char *text, unsigned n) { return false; }
void InitializeModuleData(void) {}
void *CreateDevice(const char *name) { return 0; }
void DeleteDevice(void *device) {}
"""


def one_sentence(run: subprocess.CompletedProcess[str]) -> str:
    assert run.returncode == 2, run
    assert "Traceback" not in run.stdout + run.stderr
    assert len(run.stderr.strip().splitlines()) == 1, run.stderr
    return run.stderr


def frames_of(count: int) -> np.ndarray[Any, np.dtype[np.uint16]]:
    return np.random.default_rng(2).integers(0, 4000, (count, 24, 40)).astype(np.uint16)


def test_the_demo_movie() -> None:
    movie = demo_movie()
    assert movie.frames.shape == (150, 200, 200)
    assert movie.frames.dtype == np.uint16
    # Codes 0 and 36 of the published inverse transform.
    assert (movie.frames.min(), movie.frames.max()) == (7, 7714)
    assert "MIT" in movie.note


def test_movies_that_cannot_be_replayed(tmp_path: Path) -> None:
    for name, content, what in (
        ("empty.tif", b"", "empty"),
        ("text.tif", b"no movie at all", "neither a TIFF nor"),
        ("header.tif", b"II+\0\x08\0\0\0\0\0\0\0\0\0\0\0", "no"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InvalidInput, match=what):
            read_movie(tmp_path / name)
    with pytest.raises(InvalidInput, match="no movie at"):
        read_movie(tmp_path / "none.tif")
    for values, what in (
        (np.zeros((2, 3, 4, 5), np.uint16), "one channel"),
        (np.zeros((3, 4, 5), np.float32), "float32"),
        (np.full((3, 4, 5), -1, np.int16), "int16"),
    ):
        tifffile.imwrite(tmp_path / "bad.tif", values, photometric="minisblack")
        with pytest.raises(InvalidInput, match=what):
            read_movie(tmp_path / "bad.tif")


@pytest.mark.parametrize("core", ["", "x", "host", "host:0", "host:99999", "C:4827", "demo:"])
def test_unknown_cores(core: str) -> None:
    with pytest.raises(InvalidInput, match="`core`"):
        open_source(core)


@pytest.mark.micromanager
def test_a_configuration_of_our_own(denoscope_process: Run, bundle: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    run = denoscope_process(
        *("live", "--core", "MMConfig_demo.cfg", "--output", output, "--bundle", bundle, "--frames", 12),
        *("--no-picture", "--json", "--quiet"),
        *("--exposure-ms", 5, "--binning", 2, "--roi", "16,32,120,80"),
    )
    assert run.returncode == 0, run
    report = json.loads(run.stdout)
    assert report["source"]["shape"] == [80, 120]
    assert report["source"]["exposure_s"] == 0.005
    head = json.loads((output / "raw.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert head["source"]["details"] == report["source"]["details"]
    set_up = head["source"]["details"]["camera_settings"]
    assert set_up["roi_px"]["set"] == [16, 32, 120, 80]
    assert set_up["binning"] == {"asked": 2, "set": "2"}
    recording = read_raw(output)
    assert len(recording) == 12
    assert [record["tags"]["Camera"] for record in recording.records] == ["Camera"] * 12
    assert report["source"]["pixel_size_m"] == pytest.approx(2e-6)
    assert report["frames"]["denoised"] + sum(report["frames"]["dropped"].values()) == 12
    with tifffile.TiffFile(output / "denoised.ome.tif") as tiff:
        assert tiff.is_ome


TWO_CAMERAS = """
Property,Core,Initialize,0
Device,A,DemoCamera,DCam
Device,B,DemoCamera,DCam
Device,Both,Utilities,Multi Camera
Property,Core,Initialize,1
Property,Both,Physical Camera 1,A
Property,Both,Physical Camera 2,B
Property,A,PixelType,16bit
Property,B,PixelType,16bit
Property,A,OnCameraCCDXSize,128
Property,A,OnCameraCCDYSize,96
Property,B,OnCameraCCDXSize,128
Property,B,OnCameraCCDYSize,96
Property,A,Exposure,20
Property,B,Exposure,20
Property,Core,Camera,Both
"""


@pytest.mark.micromanager
def test_two_cameras_at_once(denoscope_process: Run, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "two.cfg").write_text(TWO_CAMERAS.lstrip())
    run = denoscope_process(
        *("live", "--core", tmp_path / "two.cfg", "--output", tmp_path / "run", "--bundle", bundle),
        *("--frames", 40, "--no-picture", "--json", "--quiet"),
    )
    assert run.returncode == 0, run
    report = json.loads(run.stdout)
    received = {each["camera"]: each["received"] for each in report["streams"]}
    assert received.keys() == {"A", "B"}
    assert sum(received.values()) == 40
    assert min(received.values()) > 5
    assert len(read_raw(tmp_path / "run")) == 40
    assert report["frames"]["denoised"] + sum(report["frames"]["dropped"].values()) == 40
    assert "another camera" not in report["frames"]["dropped"]


@pytest.mark.micromanager
def test_an_adapter_of_another_device_interface(denoscope_process: Run, bundle: Path, tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler on Linux to make an adapter of another interface")
    (tmp_path / "old.c").write_text(MODULE)
    library = tmp_path / "libmmgr_dal_Old.so.0"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, tmp_path / "old.c"], check=True)
    (tmp_path / "old.cfg").write_text("Device,Camera,Old,Cam\n")
    run = denoscope_process(
        *("live", "--core", tmp_path / "old.cfg", "--mm-dir", tmp_path, "--bundle", bundle),
        *("--output", tmp_path / "run"),
    )
    message = one_sentence(run)
    assert "61" in message
    assert "75" in message
    assert "install" in message
    assert not (tmp_path / "run").exists()


def test_a_configuration_that_is_not_there(denoscope: Run, bundle: Path, tmp_path: Path) -> None:
    words = ("--core", tmp_path / "none.cfg", "--bundle", bundle, "--output", tmp_path / "run")
    assert "neither" in one_sentence(denoscope("live", *words, "--frames", 3))


@pytest.mark.micromanager
@pytest.mark.parametrize(("config", "what"), [("broken.cfg", "did not load"), ("blind.cfg", "no camera")])
def test_configurations_that_do_not_work(
    denoscope_process: Run, bundle: Path, tmp_path: Path, config: str, what: str
) -> None:
    (tmp_path / "broken.cfg").write_text("Device,Camera,Absent,Cam\n")
    (tmp_path / "blind.cfg").write_text("Property,Core,Initialize,1\n")
    run = denoscope_process(
        "live", "--core", tmp_path / config, "--bundle", bundle, "--output", tmp_path / "run", "--frames", 3
    )
    assert what in one_sentence(run)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def bridge(denoscope: Run, bundle: Path, output: Path, port: int) -> subprocess.CompletedProcess[str]:
    return denoscope(
        *("live", "--core", f"127.0.0.1:{port}", "--bundle", bundle, "--output", output),
        *("--denoiser", "thread", "--no-picture", "--json", "--quiet"),
    )


def test_nothing_listens(denoscope: Run, bundle: Path, tmp_path: Path) -> None:
    message = one_sentence(bridge(denoscope, bundle, tmp_path / "run", free_port()))
    assert "nothing listens" in message
    assert "Tools > Options" in message


def test_something_else_listens(denoscope: Run, bundle: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        run = bridge(denoscope, bundle, tmp_path / "run", server.getsockname()[1])
    assert "did not answer as a Micro-Manager server" in one_sentence(run)


def test_a_running_micro_manager(denoscope: Run, bundle: Path, tmp_path: Path) -> None:
    from acquisition.bridge_peer import Peer

    peer = Peer(frames_of(25))
    peer.start()
    try:
        run = bridge(denoscope, bundle, tmp_path / "run", peer.port)
    finally:
        peer.stop()
    assert run.returncode == 0, run
    assert peer.armed_with == [2**31 - 1, 0.0, True]
    recording = read_raw(tmp_path / "run")
    assert np.array_equal(recording.read(), peer.frames)
    assert json.loads(run.stdout)["frames"]["denoised"] == 25


def test_a_micro_manager_that_dies(denoscope: Run, bundle: Path, tmp_path: Path) -> None:
    from acquisition.bridge_peer import Camera, Peer

    peer = Peer(Camera(frames_of(400), rate_hz=100), gone_after=15)
    peer.start()
    try:
        run = bridge(denoscope, bundle, tmp_path / "run", peer.port)
    finally:
        peer.stop()
    assert run.returncode == 1, run
    report = json.loads(run.stdout)
    assert report["outcome"]["reason"] == "source_failed"
    assert "was closed, or it crashed" in report["outcome"]["problems"][0]
    recording = read_raw(tmp_path / "run")
    assert report["frames"]["received"] == report["frames"]["written_raw"] == len(recording) > 0
    assert np.array_equal(recording.read(), peer.frames[: len(recording)])


def test_a_replayed_file_keeps_what_it_tells_of_its_movie(tmp_path: Path) -> None:
    pytest.importorskip("czifile")
    pixels = np.random.default_rng(2).poisson(90, (12, 1, 32, 40)).astype(np.uint16)
    path = write_czi(tmp_path / "m.czi", pixels, "TC", names=("GFP",), without=3)
    source = open_source(f"replay:{path}", fps=500.0)
    info = source.open()
    source.close()
    assert info.pixel_size_um == pytest.approx(0.65)
    assert (info.channel, info.exposure_s) == ("GFP", 0.02)
    assert source.notes() == ["m.czi: 1 of 12 time points have no frame of this choice"]
