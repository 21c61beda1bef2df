"""`auto` goes on to the next backend when one turns out not to run the bundle, and says so; a name never does."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest

import denoscope.runtime.backends.registry as table
from denoscope.runtime import BackendUnavailable, Bundle, FrameMeta, Stream, choose_backend
from denoscope.runtime.backends import BackendEntry, Buffer, Graph
from denoscope.runtime.backends.onnxruntime import OnnxRuntimeCpu
from support.tiny_bundle import assert_answer, expected_movie, stamped, tiny_bundle


class Fragile(OnnxRuntimeCpu):
    """A backend of a GPU that looks sound until it is used."""

    name: ClassVar[str] = "fragile"
    refuses: ClassVar[str] = "compile"
    closed: ClassVar[int] = 0

    def __init__(self, *, threads: int | None = None) -> None:
        if self.refuses == "open":
            raise BackendUnavailable("The GPU is held by another program.")
        super().__init__(threads=threads)

    @classmethod
    def obstacle(cls, bundle: Bundle) -> str | None:
        return f"no engine of {bundle.manifest.name} is built" if cls.refuses == "bundle" else None

    def compile(self, onnx: bytes) -> Graph:
        if self.refuses == "compile":
            raise BackendUnavailable("The graph has an operator that is not known here.")
        return super().compile(onnx)

    def buffer(self, shape: Sequence[int], dtype: str = "float32") -> Buffer:
        if self.refuses == "large frames" and int(np.prod(shape)) > 40 * 48:
            raise BackendUnavailable("The GPU is out of memory.")
        return super().buffer(shape, dtype)

    def close(self) -> None:
        type(self).closed += 1


@pytest.fixture
def fragile(monkeypatch: pytest.MonkeyPatch) -> type[Fragile]:
    rows: Mapping[str, Any] = {
        "fragile": BackendEntry("fragile", f"{__name__}:Fragile", automatic=True, merit="it is fast"),
        "onnxruntime-cpu": table._TABLE["onnxruntime-cpu"],
    }
    monkeypatch.setattr(table, "_TABLE", rows)
    monkeypatch.setattr(Fragile, "closed", 0)
    return Fragile


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny.denoscope", window=5)


def play(stream: Stream, shape: tuple[int, int]) -> None:
    frames = {n: stamped(n, shape) for n in range(8)}
    expected = expected_movie(frames, window=5, look_ahead=stream.look_ahead)
    outputs = []
    for number, frame in frames.items():
        outputs += stream.push(frame, FrameMeta(number=number, t_received_s=time.perf_counter()))
    for output in [*outputs, *stream.flush()]:
        assert_answer(output.frame, expected.pop(output.meta.number))
    assert not expected


@pytest.mark.parametrize(
    ("refuses", "why"),
    [("open", "held by another"), ("bundle", "no engine of tiny"), ("compile", "operator that is not known")],
)
def test_before_the_first_frame(
    fragile: type[Fragile], monkeypatch: pytest.MonkeyPatch, bundle: Bundle, refuses: str, why: str
) -> None:
    monkeypatch.setattr(fragile, "refuses", refuses)
    with Stream(bundle, "auto", threads=1) as stream:
        assert stream.choice.name == "onnxruntime-cpu"
        assert why in stream.choice.rejected["fragile"]
        play(stream, (24, 32))
    if refuses == "compile":
        assert fragile.closed == 1, "what was opened in vain is closed"


def test_at_a_frame_size_that_it_cannot_take(
    fragile: type[Fragile], monkeypatch: pytest.MonkeyPatch, bundle: Bundle
) -> None:
    monkeypatch.setattr(fragile, "refuses", "large frames")
    with Stream(bundle, "auto", threads=1) as stream:
        play(stream, (24, 32))
        assert (stream.choice.name, stream.choice.reason) == ("fragile", "it is fast")
        play(stream, (64, 72))
        assert stream.choice.name == "onnxruntime-cpu"
        assert stream.choice.rejected == {"fragile": "The GPU is out of memory"}
        assert stream.backend_info["device"] == "CPU"


@pytest.mark.parametrize("refuses", ["open", "compile"])
def test_never_from_one_that_was_named(
    fragile: type[Fragile], monkeypatch: pytest.MonkeyPatch, bundle: Bundle, refuses: str
) -> None:
    monkeypatch.setattr(fragile, "refuses", refuses)
    with pytest.raises(BackendUnavailable, match=r"held by another|not known"):
        Stream(bundle, "fragile")


def test_every_reason_is_given_when_none_is_left(
    fragile: type[Fragile], monkeypatch: pytest.MonkeyPatch, bundle: Bundle
) -> None:
    monkeypatch.setattr(fragile, "refuses", "open")
    with pytest.raises(BackendUnavailable, match=r"onnxruntime-cpu: tried; fragile: The GPU is held"):
        choose_backend("auto", bundle=bundle, rejected={"onnxruntime-cpu": "tried"})


@pytest.mark.parametrize("refuses", ["compile", "large frames"])
def test_a_session_goes_on_too_and_its_report_says_so(
    fragile: type[Fragile], monkeypatch: pytest.MonkeyPatch, bundle: Bundle, refuses: str
) -> None:
    from denoscope.acquisition.denoisers.local import DenoiserRequest, LocalDenoiser

    monkeypatch.setattr(fragile, "refuses", refuses)
    denoiser = LocalDenoiser(DenoiserRequest(str(bundle.folder), threads=1))
    denoiser.prepare((64, 72), np.uint16, 2)
    provenance = denoiser.provenance | dict(denoiser.learned())
    assert (provenance["backend"], provenance["backend_details"]["device"]) == ("onnxruntime-cpu", "CPU")
    assert set(provenance["backends_rejected"]) == {"fragile"}
    outputs = []
    for number in range(8):
        frame = stamped(number, (64, 72))
        outputs += denoiser.push(frame, FrameMeta(number=number, t_received_s=time.perf_counter()))
    assert len(outputs) + len(denoiser.flush()) == 8
    denoiser.close()
    with pytest.raises(BackendUnavailable, match=r"not known|out of memory"):
        LocalDenoiser(DenoiserRequest(str(bundle.folder), backend="fragile")).prepare((64, 72), np.uint16, 1)
