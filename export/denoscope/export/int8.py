"""Put a graph's convolutions into 8-bit integers; all else stays float32.

Only what a convolution reads is quantised: its input with one signed symmetric scale, its weights with one for
each output channel. Its bias and its result stay float32, and so does what other operators read. The scales
come from a movie that was run through the real stream.

Convolutions that read a concatenation stay float32, be it multiplied, added to or cut off on the way: its parts have
different ranges, and one scale for all is too coarse for the smaller ones. OpenVINO also moves such a quantisation
up into the parts, and other readers of a part then get quantised values (up to 4 dB were lost that ONNX Runtime does
not lose). So do those whose result is the logarithm of something: an exponential enlarges their rounding. Four small
ones do that in the shipped bundles; one of them, the shares of the neighbouring frames, made four fifths of the whole
error.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import onnx

from denoscope.runtime import Backend, Buffer, Bundle, FrameMeta, Graph, Intensity, Stream, choose_backend

__all__ = ["Feeds", "int8", "record_feeds"]

Feeds = dict[str, npt.NDArray[np.float32]]  # what one run of a graph reads

_BACKEND = "onnxruntime-cpu"

# What works on each number by itself: the channels of its result are those of what it reads.
_NUMBER_BY_NUMBER = {"Add", "Cast", "Clip", "Div", "Exp", "Identity", "LeakyRelu", "Max", "Min", "Mul", "Neg"}
_NUMBER_BY_NUMBER |= {"PRelu", "Relu", "Sigmoid", "Sqrt", "Sub", "Sum", "Tanh"}


def record_feeds(
    bundle: Bundle, movie: npt.NDArray[Any], intensity: Intensity, runs: int
) -> dict[str, list[Feeds]]:
    """Run a movie through a bundle's stream and return what its graphs read, by graph.

    Parameters
    ----------
    bundle
        In float32.
    movie
        (T, H, W).
    intensity
        Its transform.
    runs
        How many runs of each graph to keep, spread over the movie.
    """
    backend, _ = choose_backend(_BACKEND)
    with backend:
        recorder = _Recorder(bundle, backend, every=max(1, len(movie) // runs))
        with Stream(bundle, recorder, intensity=intensity, align=False, light=False) as stream:
            stream.prepare((movie.shape[1], movie.shape[2]), movie.dtype)
            recorder.listening = True
            for number, frame in enumerate(movie):
                stream.push(frame, FrameMeta(number=number, t_received_s=0.0))
    return recorder.feeds


def int8(data: bytes, feeds: Sequence[Feeds]) -> bytes:
    """Return a serialised model with 8-bit convolutions, as pairs of QuantizeLinear and DequantizeLinear.

    Parameters
    ----------
    data
        The float32 model.
    feeds
        What runs of it have read, all of one frame size. A tensor's range is the one that holds 99.999 % of
        the values met.
    """
    from denoscope.runtime.backends.onnxruntime_library import onnxruntime_library

    onnxruntime_library()
    from onnxruntime import quantization as q

    class Reader(q.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rest = iter(feeds)

        def get_next(self) -> Feeds | None:
            return next(self.rest, None)

    model = onnx.load_model_from_string(data)
    joined = _joined(model.graph)
    logarithms = _logarithms(model.graph)
    convolutions = [
        node.name
        for node in model.graph.node
        if node.op_type == "Conv" and node.input[0] not in joined and node.output[0] not in logarithms
    ]
    if not convolutions or not feeds:
        return data
    # Says that shapes were inferred, which the exporter did; without it a root logger is set up to advise so.
    onnx.helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, _quiet():
        target = Path(folder) / "int8.onnx"
        q.quantize_static(
            model,
            target,
            Reader(),
            quant_format=q.QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_quantize=convolutions,
            per_channel=True,
            activation_type=q.QuantType.QInt8,
            weight_type=q.QuantType.QInt8,
            calibrate_method=q.CalibrationMethod.Percentile,
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "QuantizeBias": False,
                "OpTypesToExcludeOutputQuantization": ["Conv"],
            },
        )
        quantised = onnx.load_model_from_string(target.read_bytes())
    _give_back(quantised, set(convolutions))
    quantised.producer_name, quantised.producer_version = model.producer_name, model.producer_version
    del quantised.metadata_props[:], quantised.graph.value_info[:]
    onnx.checker.check_model(quantised, full_check=True)
    return bytes(quantised.SerializeToString())


def _joined(graph: onnx.GraphProto) -> set[str]:
    """Return the concatenations, and what is computed from them number by number."""
    found: set[str] = set()
    for node in graph.node:  # in the order of computation
        if node.op_type == "Concat" or (node.op_type in _NUMBER_BY_NUMBER and found.intersection(node.input)):
            found.update(node.output)
    return found


def _logarithms(graph: onnx.GraphProto) -> set[str]:
    """Return the values that reach an exponential with no convolution between."""
    found: set[str] = set()
    for node in reversed(graph.node):  # in the order of computation
        if node.op_type == "Exp" or (node.op_type != "Conv" and found.intersection(node.output)):
            found.update(node.input)
    return found


def _give_back(model: onnx.ModelProto, convolutions: set[str]) -> None:
    """Let all but these convolutions read what they read before: the library hands quantised values to everyone."""
    before = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "QuantizeLinear"}
    exact = {
        n.output[0]: before[n.input[0]]
        for n in model.graph.node
        if n.op_type == "DequantizeLinear" and n.input[0] in before
    }
    for node in model.graph.node:
        if node.name not in convolutions:
            node.input[:] = [exact.get(name, name) for name in node.input]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's progress notes off the user's screen."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


class _Recorder(Backend):
    """Another backend that keeps what some runs of a bundle's graphs read; always normalised float32."""

    as_exported = True
    name: ClassVar[str] = "recorder"

    def __init__(self, bundle: Bundle, backend: Backend, *, every: int) -> None:
        super().__init__(threads=backend.threads)
        self.listening = False
        self.every = every
        self.feeds: dict[str, list[Feeds]] = {name: [] for name in bundle.manifest.graphs}
        self._names = {bundle.graph_bytes(name): name for name in bundle.manifest.graphs}
        self._backend = backend
        self._runs = dict.fromkeys(self.feeds, 0)

    @classmethod
    def unavailable(cls) -> str | None:
        return None

    def describe(self) -> dict[str, str]:
        return self._backend.describe()

    def compile(self, onnx: bytes) -> Graph:
        return _Recorded(self, self._names[onnx], self._backend.compile(onnx))

    def buffer(self, shape: Sequence[int], dtype: str = "float32") -> Buffer:
        return self._backend.buffer(shape, dtype)

    def close(self) -> None:
        """Do nothing: the backend within belongs to the caller."""

    def hear(self, graph: str, inputs: Mapping[str, Buffer]) -> None:
        """Keep what a run is about to read, if its turn has come."""
        if not self.listening:
            return
        if self._runs[graph] % self.every == 0:
            arrays = {name: buffer.array for name, buffer in inputs.items()}
            self.feeds[graph].append({n: a.copy() for n, a in arrays.items() if a is not None})
        self._runs[graph] += 1


class _Recorded(Graph):
    def __init__(self, recorder: _Recorder, name: str, graph: Graph) -> None:
        self.inputs, self.outputs = graph.inputs, graph.outputs
        self._recorder, self._name, self._graph = recorder, name, graph

    def bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> Callable[[], None]:
        execute = self._graph.bind(inputs, outputs)
        kept = dict(inputs)

        def run() -> None:
            self._recorder.hear(self._name, kept)
            execute()

        return run

    def close(self) -> None:
        self._graph.close()
