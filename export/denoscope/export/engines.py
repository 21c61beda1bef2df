"""Build the engines of a bundle for GPUs that need not be here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from denoscope.export.build_process import build_in_process_of_its_own
from denoscope.export.builder import (
    FLAVOURS,
    TIMES_KERNELS,
    BuildRequest,
    Flavour,
    Timings,
    installed,
    load,
    supported_targets,
    version,
)
from denoscope.export.errors import BuilderUnavailable
from denoscope.export.half import half_precision
from denoscope.export.precision import is_lowered
from denoscope.export.sizes import canvas_ranges, scene_ranges, size_ranges
from denoscope.export.targets import Target
from denoscope.runtime import Bundle, InvalidInput
from denoscope.runtime.backends.raw_count_graphs import without_output
from denoscope.runtime.engines import (
    BuiltEngine,
    CachedEngine,
    EngineCache,
    EngineSpec,
    LocalGpu,
    SizeRange,
    local_gpu,
)
from denoscope.runtime.words import either

__all__ = ["EnginePlan", "build_engine", "installed_versions", "plan_engines"]

# Raised when the adapter builds differently from the same request, so that older engines are not used.
_RECIPE = 2
# Graphs that place pixels: rounded to 10 bits they would be a tenth of a pixel off.
_EXACT = ("align", "recall")
# Graphs that take or make more than the frame where a scene is followed.
_OF_THE_SCENE = (*_EXACT, "remember")
_TIMING = "timing"  # folder, inside that of the engines, of what `tensorrt` has measured on this GPU


@dataclass(frozen=True)
class EnginePlan:
    """One engine to be built.

    Attributes
    ----------
    spec
        What it will be.
    onnx
        The serialised graph, as it is built.
    bundle
        The bundle's name.
    target
        Compute capability.
    scale, flow_scale
        Of the bundle's features and of its flows.
    why
        Why this flavour was chosen.
    """

    spec: EngineSpec
    onnx: bytes
    bundle: str
    target: Target
    scale: int
    why: str
    flow_scale: int = 0


def plan_engines(
    bundle: Bundle,
    targets: Sequence[Target],
    sizes: Sequence[tuple[int, int]],
    *,
    dynamic: tuple[int, int] | None = None,
    flavour: Flavour | str = "auto",
    tf32: bool = False,
    precision: str = "fp16",
) -> tuple[EnginePlan, ...]:
    """Decide on every engine before the first is built: each graph of the bundle for each target.

    `fuse` comes a second time, without the deviation, where the bundle predicts one.

    Parameters
    ----------
    bundle
        What to build.
    targets
        GPUs, by compute capability.
    sizes
        Frame sizes (height, width) in pixels.
    dynamic
        Shortest and longest side of a frame in pixels, for one more range of sizes.
    flavour
        `tensorrt_rtx`, `tensorrt`, or `auto`: for each target the first of these that can build for it.
    tf32
        Let float32 convolutions round their factors to 10 bits (faster on RTX 30 and later).
    precision
        `fp16`: convolutions in half precision, as in a bundle exported in it, but for the graphs that place pixels;
        `fp32`: graphs as they are in the bundle.

    Returns
    -------
    tuple of EnginePlan
        For `build_engine`, one after the other.

    Raises
    ------
    InvalidInput
        If no size or an unknown flavour is given.
    BuilderUnavailable
        If a target cannot be built for here; the message says how it can be.
    """
    if flavour not in ("auto", *FLAVOURS):
        raise InvalidInput(f"`flavour` {flavour} is unknown: choose {either(('auto', *FLAVOURS))}.")
    if precision not in ("fp16", "fp32"):
        raise InvalidInput(f"`precision` {precision} is unknown: choose fp16 or fp32.")
    ranges = size_ranges(sizes, dynamic, bundle.manifest.stride)
    wanted = [name for name in FLAVOURS if flavour in ("auto", name)]
    half = precision == "fp16"
    graphs = [(name, bundle.graph_bytes(name)) for name in bundle.manifest.graphs]
    if bundle.manifest.predicts_std:
        # For sessions that do not ask for the deviation, which is a tenth of the work.
        graphs.append(("fuse", without_output(bundle.graph_bytes("fuse"), "std")))
    built = [(name, onnx, _built(name, onnx, half=half)) for name, onnx in graphs]
    plans = []
    for target in targets:
        chosen, place, why = _choose(target, wanted)
        for graph, onnx, lowered in built:
            spec = EngineSpec(
                graph=graph,
                onnx_sha256=hashlib.sha256(onnx).hexdigest(),
                flavour=chosen,
                flavour_version=version(chosen),
                target=place,
                profiles=_profiles(graph, bundle, ranges),
                options=_options(bundle, tf32=tf32 and graph not in _EXACT, half=lowered is not onnx),
            )
            m = bundle.manifest
            plans.append(EnginePlan(spec, lowered, m.name, target, m.scale, why, m.flow_scale))
    return tuple(plans)


def _profiles(graph: str, bundle: Bundle, ranges: tuple[SizeRange, ...]) -> tuple[SizeRange, ...]:
    """Return the sizes that a graph may see: a scene that is followed reaches beyond the frame."""
    manifest = bundle.manifest
    if not manifest.subpixel:
        return canvas_ranges(ranges, manifest.stride)
    return scene_ranges(ranges, manifest.stride) if graph in _OF_THE_SCENE else ranges


def build_engine(
    plan: EnginePlan,
    cache: EngineCache | None = None,
    *,
    on_progress: Callable[[float, str], None] | None = None,
    on_wait: Callable[[], None] | None = None,
) -> CachedEngine:
    """Return the planned engine from the cache, built first if it is not there or not sound.

    Parameters
    ----------
    plan
        One of `plan_engines`.
    cache
        Where engines lie; None for the user's own.
    on_progress
        Called with the done share (0 to 1) and the builder's present phase.
    on_wait
        Called once if another process is building this engine, or any engine whose kernels it times on this GPU.

    Returns
    -------
    CachedEngine
        Its file, and the manifest beside it.

    Raises
    ------
    EngineBuildFailed
        If TensorRT refuses the graph, or ends while it builds.
    """
    spec = plan.spec
    request = BuildRequest(
        flavour=spec.flavour,
        version=spec.flavour_version,
        graph=spec.graph,
        target=(plan.target.major, plan.target.minor),
        scale=plan.scale,
        profiles=tuple(_corners(profile) for profile in spec.profiles),
        tf32=spec.options["tf32"] == "True",
        flow_scale=plan.flow_scale,
    )

    cache = cache or EngineCache()

    def build() -> BuiltEngine:
        if spec.flavour not in TIMES_KERNELS:
            data, contents = build_in_process_of_its_own(plan.onnx, request, on_progress)
            return BuiltEngine(data, contents)
        # One build at a time: two on one GPU would measure each other, and forget what the other measured.
        key = hashlib.sha256(f"{spec.flavour} {spec.flavour_version} {spec.target}".encode()).hexdigest()
        with cache.updating(_TIMING, key, on_wait) as (known, save):
            timings = Timings(known or b"")
            data, contents = build_in_process_of_its_own(plan.onnx, request, on_progress, timings)
            save(timings.data)
        return BuiltEngine(data, contents)

    return cache.get_or_build(spec, build, bundle=plan.bundle, on_wait=on_wait)


def installed_versions() -> dict[str, str]:
    """Return the version of each TensorRT that loads here, by flavour.

    Returns
    -------
    dict of str to str
        ``tensorrt_rtx`` and ``tensorrt``, where they load.
    """
    return dict(_installed_versions())


def _installed_versions() -> Iterator[tuple[str, str]]:
    for flavour in FLAVOURS:
        if installed(flavour):
            yield flavour, version(flavour)


def _corners(profile: SizeRange) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    return profile.minimum, profile.typical, profile.maximum


def _built(name: str, onnx: bytes, *, half: bool) -> bytes:
    """Return what an engine is built of: the graph itself, or with its float32 convolutions in float16."""
    if not half or name in _EXACT or is_lowered({name: onnx}):
        return onnx
    lowered = half_precision(onnx)
    return lowered if is_lowered({name: lowered}) else onnx


def _options(bundle: Bundle, *, tf32: bool, half: bool) -> dict[str, str]:
    options = {"recipe": str(_RECIPE), "scale": str(bundle.manifest.scale), "tf32": str(tf32)}
    options["precision"] = "fp16" if half else "fp32"
    if bundle.manifest.flow_scale:
        options["flow_scale"] = str(bundle.manifest.flow_scale)
    return options


def _choose(target: Target, wanted: Sequence[Flavour]) -> tuple[Flavour, str, str]:
    """Return the flavour for a target, the engine's target and why; or raise with every reason against it."""
    against: list[str] = []
    for flavour in wanted:
        place = _place(target, flavour)
        if place.startswith("sm"):
            passed = f", since {against[0]}" if against else ""
            return flavour, place, f"{flavour} {version(flavour)} builds for {target}{passed}"
        against.append(place)
    remedy = (
        "build on the machine with that GPU, with `flavour` tensorrt"
        if "tensorrt_rtx" in wanted and installed("tensorrt_rtx")
        else f"run {FLAVOURS[wanted[0]]}"
    )
    raise BuilderUnavailable(
        f"No engine can be built here for compute capability {target}: {'; '.join(against)}; {remedy}."
    )


def _place(target: Target, flavour: Flavour) -> str:
    """Return where an engine of this flavour runs (`sm86`, `sm90 NVIDIA H200`), or why it cannot be built."""
    if not installed(flavour):
        return f"{flavour} is not installed"
    gpu: LocalGpu | str | None = None
    if flavour == "tensorrt":
        # Its lean runtime ends the process where there is no driver, so the driver is asked first.
        gpu = local_gpu()
        if isinstance(gpu, str):
            return f"tensorrt builds on the GPU itself, and {gpu}"
        if gpu.capability != (target.major, target.minor):
            return "tensorrt builds for the GPU of this machine, {} of {}.{}".format(
                gpu.name, *gpu.capability
            )
        return f"{target.name} {gpu.name}"
    supported = supported_targets(load(flavour))
    if target not in supported:
        return f"{flavour} {version(flavour)} builds for {', '.join(map(str, supported))} only"
    return target.name
