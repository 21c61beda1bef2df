"""Both shipped backends keep the contract, and the choice among backends says what it does."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, EntryPoints

import numpy as np
import onnx
import pytest

import denoscope.runtime.backends.registry as table
from denoscope.runtime import (
    BackendUnavailable,
    Bundle,
    FrameMeta,
    InvalidInput,
    Stream,
    choose_backend,
    default_threads,
    list_backends,
    register_backend,
)
from denoscope.runtime.backends.onnxruntime import OnnxRuntimeCpu
from denoscope.runtime.backends.openvino import OpenVino, OpenVinoBf16
from denoscope.runtime.backends.raw_count_graphs import without_output
from denoscope.runtime.testing import BackendContract
from support.wrapped_backends import DeviceBackend


class TestOnnxRuntimeCpu(BackendContract):
    backend_class = OnnxRuntimeCpu


class TestOpenVino(BackendContract):
    backend_class = OpenVino


class TestOpenVinoBf16(BackendContract):
    backend_class = OpenVinoBf16
    tolerance = 1e-2


class TestDeviceBackend(BackendContract):
    backend_class = DeviceBackend


def test_auto_takes_the_first_that_runs_and_says_why() -> None:
    backend, choice = choose_backend()
    with backend:
        assert choice.name == backend.name == "openvino"
        assert "float32" in choice.reason
        assert all("NVIDIA" in why for why in choice.rejected.values()), "only a GPU would be better"


def test_auto_falls_through_and_reports_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    backend, choice = choose_backend("auto", threads=1)
    with backend:
        assert choice.name == "onnxruntime-cpu"
        assert "pip install" in choice.rejected["openvino"]


def test_a_named_backend_fails_loudly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendUnavailable, match=r"openvino cannot run here.*pip install"):
        choose_backend("openvino")
    assert list_backends()["openvino"] is not None
    assert list_backends()["onnxruntime-cpu"] is None


def test_when_none_can_run_every_reason_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendUnavailable, match=r"openvino: .*onnxruntime-cpu: "):
        choose_backend()


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(
        InvalidInput, match=r"no backend 'tensorflow'.*auto or one of cuda, onnxruntime-cpu, .*openvino"
    ):
        choose_backend("tensorflow")


def test_a_registered_backend_is_chosen_by_name_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "_registered", {})
    register_backend("device", "support.wrapped_backends:DeviceBackend")
    assert "device" in list_backends()
    assert choose_backend("device", threads=2)[0].threads == 2
    assert choose_backend("auto")[1].name != "device"


@pytest.mark.parametrize(
    ("target", "complaint"),
    [("no_such_module:X", "cannot be imported"), ("denoscope.runtime:Bundle", "no Backend class")],
)
def test_a_broken_entry_point_is_reported_when_it_is_named(
    monkeypatch: pytest.MonkeyPatch, target: str, complaint: str
) -> None:
    points = EntryPoints([EntryPoint("broken", target, "denoscope.backends")])
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points.select(group=group))
    with pytest.raises(BackendUnavailable, match=complaint):
        choose_backend("broken")
    backend, _ = choose_backend("auto")
    backend.close()


def test_shipped_names_cannot_be_taken() -> None:
    with pytest.raises(InvalidInput, match="another name"):
        register_backend("openvino", "somewhere:Else")
    with pytest.raises(InvalidInput, match="module:class"):
        register_backend("mine", "somewhere")


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 2), (3, 3), (4, 3), (16, 15)])
def test_threads_leave_a_core_from_four_on(monkeypatch: pytest.MonkeyPatch, cores: int, threads: int) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert default_threads() == threads


@pytest.mark.parametrize("name", ["onnxruntime-cpu", "openvino"])
def test_the_picture_does_not_depend_on_whether_its_deviation_is_asked_for(name: str) -> None:
    frames = np.random.default_rng(0).poisson(40, (8, 32, 32)).astype(np.uint16)
    pictures = []
    for std in (True, False):
        with Stream("live-fast", name, std=std, align=False, threads=1) as stream:
            outputs = []
            for number, frame in enumerate(frames):
                outputs += stream.push(frame, FrameMeta(number=number, t_received_s=0.0))
            outputs += stream.flush()
        assert all((output.std is not None) == std for output in outputs)
        pictures.append(np.stack([output.frame for output in outputs]))
    np.testing.assert_array_equal(*pictures)


def test_an_output_that_nobody_reads_takes_its_work_with_it() -> None:
    data = Bundle.load("live").graph_bytes("fuse")
    before, after = (onnx.load_model_from_string(d).graph for d in (data, without_output(data, "std")))
    assert [value.name for value in after.output] == ["mean"]
    assert len(after.node) < len(before.node) - 10
    assert without_output(data, "flow") is data
