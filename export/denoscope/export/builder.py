"""One adapter for `tensorrt` (10 and 11) and `tensorrt_rtx`, which share their API.

`tensorrt_rtx` builds ahead of time for RTX GPUs on any machine; `tensorrt` builds on the GPU that will run the
engine. Networks are strongly typed: the precision is what the graph says. Engines hold no host code and no plugins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

from denoscope.export.errors import BuilderUnavailable, EngineBuildFailed
from denoscope.export.targets import Target
from denoscope.runtime.engines import EngineContents, TensorRecord, error_log

__all__ = [
    "FLAVOURS",
    "TIMES_KERNELS",
    "BuildRequest",
    "Flavour",
    "Timings",
    "build",
    "installed",
    "load",
    "supported_targets",
    "version",
]

Flavour = Literal["tensorrt_rtx", "tensorrt"]
# Module name, and what to install.
FLAVOURS: dict[Flavour, str] = {
    "tensorrt_rtx": 'python -m pip install ".[gpu]"',
    "tensorrt": "pip install tensorrt, on the machine with the GPU",
}
# Those that try kernels on the GPU and choose the fastest. `tensorrt_rtx` chooses without trying, when an engine
# is loaded (its runtime cache): since 1.2 its timing cache accepts every call and does nothing.
TIMES_KERNELS: frozenset[Flavour] = frozenset({"tensorrt"})


@dataclass
class Timings:
    """TensorRT's measurements on this GPU, in its own form; replaced by each build."""

    data: bytes = b""


@dataclass(frozen=True)
class BuildRequest:
    """One engine to be built, in plain values that travel to another process as JSON.

    Attributes
    ----------
    flavour, version
        Kind of TensorRT, and its version as the caller saw it.
    graph
        Its name, for messages.
    target
        Compute capability (major, minor).
    scale
        Inputs other than `frame` and flows are this many times smaller than the frame.
    profiles
        Frame sizes ((min), (typical), (max)), each (height, width).
    tf32
        Let float32 convolutions round their factors to 10 bits.
    flow_scale
        Flows are this many times smaller than the frame; 0 for a bundle without any.
    """

    flavour: Flavour
    version: str
    graph: str
    target: tuple[int, int]
    scale: int
    profiles: tuple[tuple[tuple[int, int], tuple[int, int], tuple[int, int]], ...]
    tf32: bool = False
    flow_scale: int = 0


def installed(flavour: Flavour) -> bool:
    """Return whether this TensorRT can be imported, without importing it."""
    return find_spec(flavour) is not None


def load(flavour: Flavour) -> Any:
    """Import one of the two, or raise `BuilderUnavailable` that says what to install."""
    if not installed(flavour):
        raise BuilderUnavailable(f"{flavour} is not installed: run {FLAVOURS[flavour]}.")
    try:
        return import_module(flavour)
    except Exception as error:  # a missing library is an OSError, a wrong Python an ImportError, …
        raise BuilderUnavailable(
            f"{flavour} is installed but does not load ({error}): run {FLAVOURS[flavour]}."
        ) from error


def version(flavour: Flavour) -> str:
    """Return the full version of an installed TensorRT."""
    return str(load(flavour).__version__)


def supported_targets(trt: Any) -> tuple[Target, ...]:
    """Return what can be built for ahead of time; empty for `tensorrt`, which needs the GPU itself."""
    names = getattr(getattr(trt, "ComputeCapability", None), "__members__", ())
    numbers = [name.removeprefix("SM") for name in names if name.startswith("SM")]
    return tuple(sorted(Target(int(n[:-1]), int(n[-1])) for n in numbers))


def build(
    trt: Any,
    onnx: bytes,
    request: BuildRequest,
    on_progress: Callable[[float, str], bool],
    timings: Timings | None = None,
) -> tuple[bytes, EngineContents]:
    """Build one engine in this process.

    A damaged graph or a lost GPU can end the whole process inside the library, so callers other than
    tests go through `build_in_process_of_its_own`.

    Parameters
    ----------
    trt
        What `load` returned.
    onnx
        The serialised graph, all weights inside.
    request
        What to build.
    on_progress
        Called from the builder's threads with the done share (0 to 1, never falling) and the present
        phase; False cancels.
    timings
        Kernels whose times are known, extended by this build; None for a flavour that times none.

    Returns
    -------
    data, contents
        The serialised engine, and its network.

    Raises
    ------
    EngineBuildFailed
        With TensorRT's own words, for a graph that it refuses.
    """
    log = error_log(trt)
    builder = trt.Builder(log)
    if builder is None:
        raise EngineBuildFailed(
            f"{request.flavour} does not start ({_last(log.errors)}): update the NVIDIA driver."
        )
    flags = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flags is None else 1 << int(flags))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(onnx):
        raise EngineBuildFailed(
            f"{request.flavour} {request.version} cannot read {request.graph}.onnx "
            f"({_parser_words(parser, log.errors)}): export the bundle again with this version of denoscope."
        )
    config = builder.create_builder_config()
    _configure(trt, config, request)
    for profile in request.profiles:
        config.add_optimization_profile(_profile(builder, network, profile, request))
    cache = _timing_cache(config, timings.data) if timings is not None else None
    monitor = _monitor(trt, on_progress)
    config.progress_monitor = monitor
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise EngineBuildFailed(
            f"{request.flavour} {request.version} does not build {request.graph}.onnx for compute capability "
            f"{request.target[0]}.{request.target[1]} ({_last(log.errors)}): build for other GPUs or sizes, "
            "or use onnxruntime or openvino there."
        )
    if timings is not None and cache is not None:
        timings.data = bytes(cache.serialize())
    return bytes(engine), _contents(network)


def _timing_cache(config: Any, known: bytes) -> Any:
    """Give the builder what is known; nothing, if it is of another GPU or version or cannot be read."""
    for data in (known, b""):
        cache = config.create_timing_cache(data)
        if cache is not None and config.set_timing_cache(cache, False):
            return cache
    return None


def _configure(trt: Any, config: Any, request: BuildRequest) -> None:
    """Set options; VERSION_COMPATIBLE, which would put host code into the engine, is never set."""
    if request.tf32:
        config.set_flag(trt.BuilderFlag.TF32)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)
    # Without memory that it allocates itself an engine can be captured into a CUDA graph.
    if "REQUIRE_USER_ALLOCATION" in getattr(trt.BuilderFlag, "__members__", {}):
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    if supported := supported_targets(trt):
        target = Target(*request.target)
        if target not in supported:
            raise EngineBuildFailed(
                f"{request.flavour} {request.version} builds for {', '.join(map(str, supported))}, "
                f"not for {target}: choose one of these."
            )
        config.num_compute_capabilities = 1
        config.set_compute_capability(trt.ComputeCapability.__members__[target.name.upper()], 0)


def _profile(builder: Any, network: Any, profile: tuple[tuple[int, int], ...], request: BuildRequest) -> Any:
    made = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = tuple(tensor.shape)
        if -1 not in shape:
            continue
        if len(shape) != 4 or -1 in shape[:2]:
            raise EngineBuildFailed(
                f"The input {tensor.name} of {request.graph}.onnx has the shape {shape}; only height and width "
                "may be free: export the bundle again with this version of denoscope."
            )
        divisor = request.scale
        if tensor.name in ("frame", "rows", "columns"):
            divisor = 1
        elif tensor.name.startswith("flow_"):
            divisor = request.flow_scale
        sizes = ((h // divisor, w // divisor) for h, w in profile)
        made.set_shape(
            tensor.name,
            *(
                (
                    *shape[:2],
                    *(free if given == -1 else given for given, free in zip(shape[2:], size, strict=True)),
                )
                for size in sizes
            ),
        )
    return made


def _contents(network: Any) -> EngineContents:
    def record(tensor: Any) -> TensorRecord:
        return TensorRecord(name=tensor.name, dtype=tensor.dtype.name, shape=tuple(tensor.shape))

    kinds: Counter[str] = Counter()
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        output = layer.get_output(0) if layer.num_outputs else None
        kinds[f"{layer.type.name}/{output.dtype.name if output is not None else 'NONE'}"] += 1
    return EngineContents(
        inputs=tuple(record(network.get_input(i)) for i in range(network.num_inputs)),
        outputs=tuple(record(network.get_output(i)) for i in range(network.num_outputs)),
        layers=network.num_layers,
        layer_types=dict(sorted(kinds.items())),
    )


def _parser_words(parser: Any, logged: list[str]) -> str:
    words = []
    for index in range(min(parser.num_errors, 3)):
        try:
            error = parser.get_error(index)
            words.append(f"{error.node_operator()} {error.node_name()}: {error.desc()}")
        except UnicodeDecodeError:  # the library quotes the damaged bytes
            words.append("unreadable names")
    return _short("; ".join(words)) if words else _last(logged)


def _last(messages: list[str]) -> str:
    return _short(messages[-1]) if messages else "it does not say why"


def _short(text: str) -> str:
    joined = " ".join(text.split()).rstrip(".")
    return joined if len(joined) <= 400 else f"{joined[:400]}…"


def _monitor(trt: Any, on_progress: Callable[[float, str], bool]) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Turns nested phases into one share that never falls."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._phases = Phases()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._phases.start(phase_name, parent_phase, num_steps)

        def phase_finish(self, phase_name: str) -> None:
            self._phases.finish(phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return on_progress(self._phases.step(phase_name, step), phase_name)

    return Monitor()


class Phases:
    """Nested phases of a builder as one share from 0 to 1 that never falls."""

    def __init__(self) -> None:
        self._steps: dict[str, tuple[str | None, int, int]] = {}
        self._share = 0.0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """Enter a phase."""
        self._steps[name] = (parent, max(steps, 1), 0)

    def step(self, name: str, step: int) -> float:
        """Note that step `step` (from 0) of a phase is done and return the share done in all."""
        if name in self._steps:
            parent, steps, _ = self._steps[name]
            self._steps[name] = (parent, steps, min(step + 1, steps))
        roots = [phase for phase, (parent, _, _) in self._steps.items() if parent not in self._steps]
        if roots:
            self._share = max(self._share, min(self._done(roots[-1], self._steps), 1.0))
        return self._share

    def finish(self, name: str) -> None:
        """Leave a phase."""
        self._steps.pop(name, None)

    def _done(self, name: str, steps: Mapping[str, tuple[str | None, int, int]]) -> float:
        _, total, done = steps[name]
        inner = [self._done(child, steps) for child, (parent, _, _) in steps.items() if parent == name]
        return min(done + max(inner, default=0.0), total) / total
